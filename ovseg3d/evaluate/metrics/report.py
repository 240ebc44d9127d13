"""Base of all scores: the protocol's name and the aggregation.

A figure cannot be compared without its aggregation (LangSplatV2's hits were read as a mean over scenes by one paper and
over queries by another), so both are part of the output. Scores are fractions, 0 to 1; NaN means undefined and becomes
null in JSON.
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
    """How the figures were averaged, as a sentence."""

    def as_dict(self) -> dict[str, Any]:
        """Protocol, aggregation and every field, in JSON's types."""
        return {"protocol": self.protocol, "aggregation": self.aggregation, **plain(asdict(self))}


def mean_over_scenes(results: Mapping[str, Scores]) -> dict[str, Any]:
    """The unweighted mean over scenes of every fraction or length.

    Args:
        results: scores of one protocol by the scene's name.

    Returns:
        Protocol, aggregation (including this step), `scenes`, and the means. NaN is left out of a mean; a mean without
        any value is None.

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
