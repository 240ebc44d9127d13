"""Files of public models: from the disk, else from the hub, else a clear error within seconds.

What is in the Hugging Face cache is used without asking anybody. What is not is fetched only when the hub answers
within `HUB_SECONDS`; HF_HUB_OFFLINE=1 forbids asking at all. While a library loads what is already here it is kept
offline, because it would otherwise ask the hub for news first, and again and again when nobody answers.
"""

import http.client
import math
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ovseg3d.errors import EncoderError

HUB_SECONDS = 5.0
"""How long the hub may take to answer before it counts as out of reach."""
_REMEMBERED_SECONDS = 30.0
"""How long its answer, or its silence, is taken as still true: a model is several files."""

_answers: dict[str, tuple[float, bool]] = {}


def cached(repo: str, name: str) -> Path | None:
    """Where the hub's cache on this disk has a file of a repository, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, name)
    return Path(found) if isinstance(found, str) else None


def fetch(repo: str, names: Sequence[str], *, flag: str, example: str) -> Path:
    """One file of a repository: the first of `names` that is on this disk, else the first that the hub has.

    Args:
        repo: as the hub writes it, "owner/name".
        names: equivalent files, the preferred one first.
        flag: the option that chose the model, "--clip" or "--dino", for the message.
        example: what to write behind the flag for a local copy, for the message.

    Raises:
        EncoderError: no model can have that name, or it is not on this disk, and the hub does not answer within
            `HUB_SECONDS`, or does not have it, or does not hand it out.
    """
    from huggingface_hub.errors import HFValidationError

    try:
        for name in names:
            if (found := cached(repo, name)) is not None:
                return found
    except HFValidationError:
        raise EncoderError(
            f"The hub cannot have a model called {repo!r}",
            fix=f"write OWNER/NAME, or give a local copy ({flag} {example})",
        ) from None
    why = _out_of_reach()
    if why is not None:
        raise EncoderError(
            f"The weights of {repo} are not on this disk, and {why}",
            where=f"{_cache()} (wanted: {' or '.join(names)})",
            fix=f"fetch them where there is a network (hf download {repo}) and copy that cache here, or give a local "
            f"copy ({flag} {example}), or use the built-in encoder ({flag} builtin), or train without one "
            "(--only field)",
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    for name in names:
        try:
            return Path(hf_hub_download(repo, name, etag_timeout=HUB_SECONDS))
        except GatedRepoError:
            raise EncoderError(
                f"{repo} is handed out only to those who accepted its licence",
                fix=f"accept it on the model's page and run `hf auth login`, or use {flag} builtin",
            ) from None
        except RepositoryNotFoundError:
            raise EncoderError(
                f"The hub has no model {repo}, or not for everybody",
                fix=f"check the spelling, or give a local folder ({flag} {example})",
            ) from None
        except EntryNotFoundError as error:
            # The same error, in a class of its own, also stands for a connection that broke.
            if not isinstance(error, LocalEntryNotFoundError):
                continue
            raise _failed(repo, name, error, flag, example) from error
        except Exception as error:  # Whatever the network did: the user can only try again or go another way.
            raise _failed(repo, name, error, flag, example) from error
    raise EncoderError(f"{repo} has none of the files {', '.join(names)}", fix=f"choose another model for {flag}")


def _failed(repo: str, name: str, error: Exception, flag: str, example: str) -> EncoderError:
    return EncoderError(
        f"Fetching {repo} failed: {(str(error).strip().splitlines() or [type(error).__name__])[0]}",
        where=name,
        fix=f"try again, or give a local copy ({flag} {example}), or use {flag} builtin",
    )


def fetch_optional(repo: str, name: str) -> Path | None:
    """A file that may not exist: from the disk, or from the hub where that answers; otherwise None."""
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache

    found = try_to_load_from_cache(repo, name)
    if isinstance(found, str):
        return Path(found)
    if found is _CACHED_NO_EXIST or _out_of_reach() is not None:
        return None
    try:
        return Path(hf_hub_download(repo, name, etag_timeout=HUB_SECONDS))
    except Exception:  # It is optional: the caller has values to go on with.
        return None


@contextmanager
def offline() -> Iterator[None]:
    """Keep the libraries from asking the hub inside this block."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def hub_answers(seconds: float | None = None) -> bool:
    """Whether the hub answers at all, whatever it says, within `seconds` (HUB_SECONDS).

    The question runs in a thread of its own: looking up a name may block for longer than any timeout of a socket.
    """
    from huggingface_hub import constants

    seconds = HUB_SECONDS if seconds is None else seconds
    answered = threading.Event()
    done = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
            with urllib.request.urlopen(request, timeout=seconds):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()
        except (OSError, ValueError, http.client.HTTPException):
            pass
        finally:
            done.set()

    threading.Thread(target=ask, daemon=True).start()
    done.wait(seconds)
    return answered.is_set()


def _out_of_reach() -> str | None:
    """Why the hub cannot be asked, or None."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE forbids to fetch them"
    when, answered = _answers.get(constants.ENDPOINT, (-math.inf, False))
    if time.monotonic() - when > _REMEMBERED_SECONDS:
        answered = hub_answers()
        _answers[constants.ENDPOINT] = time.monotonic(), answered
    return None if answered else f"{constants.ENDPOINT} does not answer"


def _cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)
