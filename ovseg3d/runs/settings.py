"""Combine settings from several sources into one Config.

defaults < preset (cpu or gpu, follows the device) < quality (fast, default, high) < config file < flags. Later ones
override earlier ones, key by key. The files are YAML (or a run's config.json) with the sections `scene`, `train`,
`field`, `encode`, `semantics`; a quality file may also have sections `cpu` and `gpu` for one preset only. `train.steps`
and `train.max_seconds` belong together: a layer that sets only one of them removes the other.

tyro makes the flags from the same dataclasses, but does not parse these files: it reads command-line words, prints and
exits by itself, and does not limit size, nesting and aliases, as untrusted run folders require. So `from_plain` checks
values. It supports the few types that settings have, and reports which layer is wrong.
"""

import dataclasses
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from ovseg3d.errors import ConfigError, nearest
from ovseg3d.limits import read_text, shorten
from ovseg3d.runs.config import Config, presets_folder
from ovseg3d.runs.devices import DeviceName, resolve_device
from ovseg3d.runs.migrate import migrate_settings

T = TypeVar("T")
_MAX_BYTES = 2**16
_MAX_DEPTH = 20
Preset = Literal["cpu", "gpu"]
Quality = Literal["fast", "default", "high"]


def make_config(
    device: DeviceName = "auto",
    preset: Preset | None = None,
    quality: Quality = "default",
    config_file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Combine all layers.

    Args:
        device: the device of the run; determines the preset if `preset` is None. auto: the GPU if there is one.
        preset: cpu or gpu.
        quality: which quality file.
        config_file: a YAML file, or the config.json of a run.
        flags: the last layer, nested like a file: {"train": {"steps": 100}}.

    Raises:
        ConfigError: a file is missing or invalid, has an unknown key (the message names the nearest), or a value of a
            wrong type or out of range.
    """
    known = resolve_device(device) if device == "auto" else device
    chosen = preset or ("gpu" if known == "cuda" else "cpu")
    preset_path = presets_folder() / f"{chosen}.yaml"
    quality_path = presets_folder() / f"{quality}.yaml"
    quality_layer = dict(read_settings(quality_path))
    sections = {name: quality_layer.pop(name, {}) for name in ("cpu", "gpu")}
    layers: list[tuple[Mapping[str, Any], str]] = [
        (read_settings(preset_path), str(preset_path)),
        (quality_layer, str(quality_path)),
        (sections[chosen], f"{quality_path}, section {chosen}"),
    ]
    if config_file is not None:
        layers.append((read_settings(config_file), str(config_file)))
    if flags:
        layers.append((flags, "the flags"))
    merged: dict[str, Any] = {}
    for layer, where in layers:
        from_plain(Config, layer, where)  # so that the message names the layer with the mistake
        merge(merged, layer)
    return from_plain(Config, merged, "the settings")


def config_of(given: Any) -> Config:
    """Settings as they are given in Python.

    Args:
        given: a `Config`; or some settings over the defaults, nested as in a file; or None, the defaults.

    Raises:
        ConfigError: it is something else, or `make_config` refuses it.
    """
    if isinstance(given, Config):
        return given
    if given is not None and not isinstance(given, Mapping):
        fix = '{"train": {"steps": 500}}, or ovseg3d.runs.make_config(quality="fast")'
        raise ConfigError(f"Settings are a Config or a mapping, not a {type(given).__name__}", fix=fix)
    return make_config(flags=given)


def read_settings(path: Path) -> dict[str, Any]:
    """Read a settings file. Raises ConfigError: it is missing, not YAML, or not a mapping."""
    path = Path(path)
    if path.is_dir() and (path / "config.json").is_file():
        path = path / "config.json"
    try:
        text = read_text(path, ConfigError, "settings file", _MAX_BYTES)
        _check_events(text, path)
        value = yaml.safe_load(text)
    except ValueError as error:
        raise ConfigError(f"The settings file cannot be read: {error}", where=path) from error
    except (yaml.YAMLError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f"{path}, line {line + 1}" if line is not None else path
        raise ConfigError("The settings file is not valid YAML", where=where) from error
    if value is None:
        return {}
    if isinstance(value, dict) and "format_version" in value and isinstance(value.get("config"), dict):
        value = _of_run(value["config"], path)
    if not isinstance(value, dict):
        raise ConfigError("The settings file must be a mapping, such as `train: {steps: 100}`", where=path)
    return value


def _check_events(text: str, path: Path) -> None:
    """Raises ConfigError: the text has aliases, which can expand without limit, or is nested too deeply."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError("The settings file uses aliases", where=path, fix="write the values out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ConfigError("The settings file is nested too deeply", where=path, fix="train: {steps: 100}")


def _of_run(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings of a run for use in another: without its feature cache, and with built-in encoders only.

    Raises:
        ConfigError: it names an encoder or a file of phrases that only the user may name.
    """
    settings = migrate_settings(settings)
    encode = settings.get("encode")
    if not isinstance(encode, dict):
        return settings
    from ovseg3d.encoders.registry import ADMITTED, names

    fix = "copy the settings to a YAML file without that line, and name it with a flag"
    for kind in ("clip", "dino"):
        name = encode.get(kind, "auto")
        if name != "auto" and name not in ADMITTED[kind] and name not in names(kind):
            what = f"A run may not name the encoder {shorten(ascii(name))}"
            raise ConfigError(what, where=path, fix=f"{fix}: --{kind}")
    if str(encode.get("segments")).startswith("sam:"):
        raise ConfigError("A run may not name a SAM", where=path, fix=f"{fix}: --segments")
    phrases = encode.get("phrases")
    if isinstance(phrases, str) and ("/" in phrases or os.path.isfile(phrases)):
        raise ConfigError("A run may not name a file of phrases", where=path, fix=f"{fix}: --phrases")
    return {**settings, "encode": {key: value for key, value in encode.items() if key != "cache_dir"}}


def merge(base: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Merge `layer` into `base` in place, key by key."""
    for key, value in layer.items():
        if isinstance(value, Mapping):
            inner = base.setdefault(key, {})
            if key == "train":
                _one_limit(inner, value)
            merge(inner, value)
        else:
            base[key] = value


def _one_limit(below: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for given, other in (("steps", "max_seconds"), ("max_seconds", "steps")):
        if layer.get(given) is not None and layer.get(other) is None:
            below.pop(other, None)


def to_plain(config: Any) -> dict[str, Any]:
    """A dataclass as nested dicts of plain values, as written to config.json."""
    return dataclasses.asdict(config)


def from_plain(cls: type[T], values: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """Build the dataclass `cls` from nested mappings; missing keys keep their defaults.

    Raises:
        ConfigError: a key is unknown (the message names the nearest), or a value has the wrong type or range.
    """
    hints = typing.get_type_hints(cls)
    known = [item.name for item in dataclasses.fields(cls)]  # type: ignore[arg-type]
    made = {}
    for key, value in values.items():
        if key not in known:
            close = nearest(str(key), known)
            fix = f"did you mean {prefix}{close}?" if close else f"known here: {', '.join(known)}"
            raise ConfigError(f"There is no setting {prefix}{key}", where=where, fix=fix)
        made[key] = _convert(hints[key], value, where, f"{prefix}{key}")
    try:
        return cls(**made)
    except ConfigError as error:
        raise ConfigError(error.what, where=where, fix=error.fix) from None


def _convert(hint: Any, value: Any, where: str, name: str) -> Any:
    """Convert `value` to the type `hint`. Raises ConfigError."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        hint = next(option for option in options if option is not type(None))
        return _convert(hint, value, where, name)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} must be a section with settings, not {value!r}", where=where)
        return from_plain(hint, value, where, prefix=f"{name}.")  # type: ignore[arg-type]
    if origin is Literal:
        return _choice(options, value, where, name)
    value = _number(hint, value, where, name)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise ConfigError(f"{name} must be {kinds.get(hint, hint)}, not {value!r}", where=where)


def _choice(options: tuple[Any, ...], value: Any, where: str, name: str) -> Any:
    """One of the options. Raises ConfigError."""
    if isinstance(value, bool):  # YAML 1.1 reads a bare off as false, and on as true
        word = "on" if value else "off"
        value = word if word in options else value
    if value in options:
        return value
    close = nearest(str(value), map(str, options))
    fix = f"did you mean {close}?" if close else f"one of: {', '.join(map(str, options))}"
    raise ConfigError(f"{name} cannot be {value!r}", where=where, fix=fix)


def _number(hint: Any, value: Any, where: str, name: str) -> Any:
    """A number as the kind that `hint` asks for, where nothing is lost; else `value`. Raises ConfigError."""
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is not float or isinstance(value, bool) or not isinstance(value, (int, str)):
        return value
    try:
        return float(value)  # YAML 1.1 reads 1e-3 as text
    except ValueError:
        return value
    except OverflowError:  # an integer with hundreds of digits
        raise ConfigError(f"{name} is too large", where=where) from None
