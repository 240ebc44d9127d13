"""The unit of lengths in a frame, as every JSON file states it."""

from typing import Any, Literal

Unit = Literal["m", "units"]


def unit_name(metres_per_unit: float | None) -> Unit:
    """The name of a unit: "m" only if it is known to be one metre."""
    return "m" if metres_per_unit is not None and abs(metres_per_unit - 1) < 1e-9 else "units"


def describe_scale(metres_per_unit: float | None) -> dict[str, Any]:
    """`metric` (whether metres are known), `unit` and `metres_per_unit` (None: unknown) of a JSON file."""
    unit = unit_name(metres_per_unit)
    return {"metric": metres_per_unit is not None, "unit": unit, "metres_per_unit": metres_per_unit}
