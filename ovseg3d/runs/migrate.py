"""Read run folders of format 1 as format 2.

Format 2 uses the terms of the field: settings `semantics` (were `meaning`) and `instance_crops` (`portraits`),
and the tensor `instance_crops` (`portraits`) in semantics.safetensors. Values and their semantics are unchanged.
Nothing is written until the run is trained further.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, FORMAT_VERSION)

_SECTIONS = {"meaning": "semantics"}
_SETTINGS = {"portraits": "instance_crops"}
_TENSORS = {"portraits": "instance_crops"}
_FIGURES = {
    "things_seconds": "instances_seconds",
    "portraits_seconds": "instance_crops_seconds",
    "scraps": "rejected_fragments",
}

T = TypeVar("T")


def migrate_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of config.json under current names. The backend torch, now for tests only, becomes auto."""
    renamed = _renamed(settings, _SECTIONS)
    semantics, train = renamed.get("semantics"), renamed.get("train")
    if isinstance(semantics, dict):
        renamed["semantics"] = _renamed(semantics, _SETTINGS)
    if isinstance(train, dict) and train.get("backend") == "torch":
        renamed["train"] = train | {"backend": "auto"}
    return renamed


def migrate_tensors(tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors of semantics.safetensors under current names."""
    return _renamed(tensors, _TENSORS)


def migrate_figures(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of metrics.json under current names. If both names are present, the new one is kept."""
    return _renamed({key: value for key, value in figures.items() if _FIGURES.get(key) not in figures}, _FIGURES)


def _renamed(old: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    return {names.get(key, key): value for key, value in old.items()}
