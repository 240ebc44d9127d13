"""What every set of scores has in common: the name of its protocol and how it was averaged.

A figure without its aggregation cannot be compared (the same hits of LangSplatV2 were read as a mean over scenes by
one paper and over queries by another), so both travel in the dictionary that is printed and written. Scores are
fractions, 0 to 1; NaN means "not defined here" and becomes null in JSON.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ovseg3d.errors import MeasureError
from ovseg3d.files import plain


@dataclass(frozen=True)
class Scores:
    """Base of the results of this part."""

    protocol: ClassVar[str]
    """Its name in the output."""
    aggregation: ClassVar[str]
    """How the figures were averaged, as a sentence for the reader of the output."""

    def as_dict(self) -> dict[str, Any]:
        """Protocol, aggregation and every field, in JSON's types."""
        return {"protocol": self.protocol, "aggregation": self.aggregation, **plain(asdict(self))}


def mean_over_scenes(results: Mapping[str, Scores]) -> dict[str, Any]:
    """The plain mean over scenes of every fraction or length, whatever the size of a scene.

    Args:
        results: scores of one protocol by the scene's name.

    Returns:
        Protocol, aggregation (with this step named), `scenes`, and the means. A figure that a scene lacks (NaN) is
        averaged over the others, and is None when all lack it.

    Raises:
        MeasureError: no results, or results of several protocols.
    """
    if len({type(scores) for scores in results.values()}) != 1:
        raise MeasureError(
            "Only results of one protocol can be averaged, and at least one", fix="average each protocol by itself"
        )
    first = next(iter(results.values()))
    values = [asdict(scores) for scores in results.values()]
    means = {}
    for key, value in values[0].items():
        if isinstance(value, float):
            known = [scores[key] for scores in values if math.isfinite(scores[key])]
            means[key] = sum(known) / len(known) if known else None
    return {
        "protocol": first.protocol,
        "aggregation": f"{first.aggregation} Then the plain mean over {len(results)} scenes.",
        "scenes": list(results),
        **means,
    }
