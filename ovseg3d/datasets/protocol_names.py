"""Protocols by name, in any case."""

from collections.abc import Mapping
from typing import TypeVar

from ovseg3d.errors import ConfigError, nearest

P = TypeVar("P")


def find_protocol(name: str, protocols: Mapping[str, P], what: str) -> P:
    """The protocol of this name; case does not matter.

    Args:
        name: from a user.
        protocols: by name.
        what: the error's sentence.

    Raises:
        ConfigError: there is none.
    """
    known = {key.casefold(): key for key in protocols}
    found = known.get(name.casefold())
    if found is None:
        close = nearest(name.casefold(), known)
        raise ConfigError(what, fix=f"{known[close]}?" if close else "one of " + ", ".join(protocols))
    return protocols[found]
