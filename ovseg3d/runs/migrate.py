"""Read run folders of older formats as format 3.

Format 3 has the settings scene.refine_poses and scene.exposure as words (were a flag, and field.exposure), and
scene.sparse_depth, which older runs did not use. Format 2 uses the terms of the field: settings `semantics` (were
`meaning`) and `instance_crops` (`portraits`), and the tensor `instance_crops` (`portraits`) in semantics.safetensors.
Values and their semantics are unchanged. Nothing is written until the run is trained further.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

FORMAT_VERSION = 3
READABLE_VERSIONS = (1, 2, FORMAT_VERSION)

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
    settings = _with_words(settings)
    renamed = _renamed(settings, _SECTIONS)
    semantics, train = renamed.get("semantics"), renamed.get("train")
    if isinstance(semantics, dict):
        renamed["semantics"] = _renamed(semantics, _SETTINGS)
    if isinstance(train, dict) and train.get("backend") == "torch":
        renamed["train"] = train | {"backend": "auto"}
    return renamed


def _with_words(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of format 2 as format 3; what older runs did not do is off."""
    scene, field = settings.get("scene"), settings.get("field")
    if not isinstance(scene, dict) or not isinstance(scene.get("refine_poses"), bool):
        return settings
    exposure = isinstance(field, dict) and field.get("exposure") is True
    words = {True: "on", False: "off"}
    added = {"refine_poses": words[scene["refine_poses"]], "exposure": words[exposure], "sparse_depth": "off"}
    kept = {key: value for key, value in field.items() if key != "exposure"} if isinstance(field, dict) else field
    return {**settings, "scene": scene | added, "field": kept}


def migrate_tensors(tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors of semantics.safetensors under current names."""
    return _renamed(tensors, _TENSORS)


def migrate_figures(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of metrics.json under current names. If both names are present, the new one is kept."""
    return _renamed({key: value for key, value in figures.items() if _FIGURES.get(key) not in figures}, _FIGURES)


def _renamed(old: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    return {names.get(key, key): value for key, value in old.items()}
