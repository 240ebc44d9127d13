"""Settings: precedence, files, and error messages."""

import dataclasses
import json
import math
import pickle
from pathlib import Path

import pytest
import yaml

from ovseg3d.errors import ConfigError
from ovseg3d.field.config import FieldConfig
from ovseg3d.runs.config import FIELD_LIMITS, Config, EncodeConfig, SceneConfig, TrainConfig, presets_folder
from ovseg3d.runs.settings import config_of, from_plain, make_config, to_plain


@pytest.fixture
def presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Presets for the tests, independent of the real ones."""
    contents = {
        "cpu": {"scene": {"max_side": 100}, "field": {"levels": 3, "features": 2}, "train": {"seed": 1}},
        "gpu": {"scene": {"max_side": 999}, "field": {"levels": 16}},
        "fast": {"train": {"max_seconds": 10}},
        "default": {
            "field": {"levels": 5},
            "cpu": {"train": {"steps": 70}},
            "gpu": {"train": {"steps": 7000}},
        },
        "high": {"train": {"max_seconds": 100, "steps": 1000}},
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr("ovseg3d.runs.settings.presets_folder", lambda: tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_settings_from_python(presets: Path) -> None:
    assert config_of(None) == make_config() and config_of(make_config(quality="fast")) == make_config(quality="fast")
    assert config_of({"train": {"steps": 3}}) == make_config(flags={"train": {"steps": 3}})
    for wrong in ("fast", [1]):
        with pytest.raises(ConfigError, match=f"not a {type(wrong).__name__}") as told:
            config_of(wrong)
        assert 'make_config(quality="fast")' in str(told.value.fix)


def test_each_layer_beats_the_one_before(presets: Path, tmp_path: Path) -> None:
    config = make_config("cpu")
    assert (config.scene.max_side, config.field.levels, config.field.features) == (100, 5, 2)
    assert config.field.log2_table == Config().field.log2_table
    file = write(tmp_path / "mine.yaml", "field: {levels: 7, features: 1}\n")
    config = make_config("cpu", config_file=file, flags={"field": {"features": 8}})
    assert (config.field.levels, config.field.features, config.train.seed) == (7, 8, 1)


def test_the_preset_follows_the_device_unless_named(presets: Path) -> None:
    assert make_config("cuda").scene.max_side == 999 and make_config("cuda").train.steps == 7000
    assert make_config("cuda", preset="cpu").scene.max_side == 100


def test_one_limit_takes_the_other_back(presets: Path, tmp_path: Path) -> None:
    assert make_config("cpu").train.steps == 70
    limits = make_config("cpu", flags={"train": {"max_seconds": 5}}).train
    assert (limits.steps, limits.max_seconds) == (None, 5)
    limits = make_config("cpu", quality="high").train
    assert (limits.steps, limits.max_seconds) == (1000, 100)
    limits = make_config("cpu", quality="high", flags={"train": {"steps": 5}}).train
    assert (limits.steps, limits.max_seconds) == (5, None)


def test_a_runs_config_is_a_config_file(presets: Path, tmp_path: Path) -> None:
    made = make_config("cpu", flags={"field": {"levels": 9}, "scene": {"depth": "on", "scale": 2.5}})
    (tmp_path / "config.json").write_text(json.dumps({"format_version": 1, "config": to_plain(made)}))
    assert make_config("cpu", config_file=tmp_path / "config.json") == made
    assert make_config("cpu", config_file=tmp_path) == made


def test_yaml_surprises(presets: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "f.yaml", "scene: {depth: on}\nfield: {learning_rate: 1e-3, samples: 1.0e+5}\n")
    config = make_config("cpu", config_file=file)
    assert config.scene.depth == "on"
    assert config.field.learning_rate == 1e-3 and config.field.samples == 100_000
    assert make_config("cpu", config_file=write(tmp_path / "g.yaml", "scene: {depth: off}")).scene.depth == "off"
    assert make_config("cpu", config_file=write(tmp_path / "h.yaml", "")) == make_config("cpu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("field: {levls: 3}", "did you mean field.levels?"),
        ("fild: {levels: 3}", "did you mean field?"),
        ("train: {stpes: 3}", "did you mean train.steps?"),
        ("scene: {format: nerfstudo}", "did you mean nerfstudio?"),
        ("scene: {format: qqqq}", "one of:"),
        ("train: {backend: torch}", "train.backend cannot be 'torch'"),
        ("train: {steps: many}", "train.steps must be a whole number"),
        ("train: {steps: true}", "train.steps must be a whole number"),
        ("train: {steps: -3}", "--steps must be above 0"),
        ("field: {occupancy_every: 0}", "--field.occupancy-every must be"),
        ("field: {decay: -1}", "--field.decay must be"),
        ("field: {step_size: 0, cone: 0}", "--field.step-size must be"),
        ("field: {learning_rate: .nan}", "--field.learning-rate must be"),
        ("field: {near: -1}", "--field.near must be"),
        ("train: {max_seconds: .inf}", "--max-seconds must be above 0"),
        (f"train: {{max_seconds: 1{'0' * 400}}}", "train.max_seconds is too large"),
        ("train: {max_seconds: .nan}", "--max-seconds must be above 0"),
        ("train: {tensorboard: 1}", "true or false"),
        ("train: 3", "must be a section"),
        ("- 1", "must be a mapping"),
        ("a: [", "line"),
        ("\x00", "settings file"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_mistakes_in_a_file_are_explained(presets: Path, tmp_path: Path, text: str, words: str) -> None:
    file = write(tmp_path / "mine.yaml", text)
    with pytest.raises(ConfigError) as caught:
        make_config("cpu", config_file=file)
    assert words in str(caught.value) and "mine.yaml" in str(caught.value)


def test_a_missing_file(presets: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        make_config("cpu", config_file=Path("absent.yaml"))


def test_config_pickles_and_survives_plain_values() -> None:
    config = Config(SceneConfig(downscale=2.0), TrainConfig(steps=10), only="field")
    assert pickle.loads(pickle.dumps(config)) == config
    assert from_plain(Config, json.loads(json.dumps(to_plain(config))), "x") == config


def test_every_number_of_the_field_has_a_limit() -> None:
    numbers = {item.name for item in dataclasses.fields(FieldConfig) if type(item.default) in (int, float)}
    assert numbers == set(FIELD_LIMITS)
    for name, (low, high) in FIELD_LIMITS.items():
        kind = type(getattr(FieldConfig(), name))
        for value in (low - 1, high + 1, *((math.nan, math.inf) if kind is float else ())):
            with pytest.raises(ConfigError, match="must be from"):
                Config(field=dataclasses.replace(FieldConfig(), **{name: kind(value)}))


def test_the_presets_that_ship_are_valid_and_end() -> None:
    assert {path.stem for path in presets_folder().glob("*.yaml")} >= {
        "cpu",
        "gpu",
        "fast",
        "default",
        "high",
    }
    for device in ("cpu", "cuda"):
        for quality in ("fast", "default", "high"):
            train = make_config(device, quality=quality).train
            assert train.steps is not None or train.max_seconds is not None


def test_every_setting_has_a_help_line() -> None:
    """tyro shows the text under a field in --help, so each field needs one."""
    from ovseg3d.runs import config as module

    source = Path(module.__file__).read_text()
    for cls in (SceneConfig, TrainConfig, EncodeConfig):
        for item in dataclasses.fields(cls):
            after = source.split(f"    {item.name}: ", 1)[1].split("\n", 1)[1].lstrip()
            assert after.startswith('"""'), item.name
