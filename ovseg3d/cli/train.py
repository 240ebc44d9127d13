"""`ovseg3d train`: train one or several scenes, show the progress and print a summary.

Flags are the settings of `runs.config`, so every value of a preset can be overridden. Their defaults depend on the
preset, the quality and the config file, which are therefore read before the other flags.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ovseg3d.cli.flags import Allow, AllowFlags, Json
from ovseg3d.cli.many import Many, ManyFlags
from ovseg3d.errors import ConfigError
from ovseg3d.field.config import FieldConfig
from ovseg3d.runs.config import Config, EncodeConfig, SceneConfig, SemanticsConfig, TrainConfig
from ovseg3d.runs.settings import make_config

LIVE_SECONDS = 10.0
"""Seconds between checkpoints of a run that is watched; the viewer shows the newest checkpoint."""
_CHOICES = {"--preset": ("cpu", "gpu"), "--quality": ("fast", "default", "high"), "--device": ("cpu", "cuda")}


@dataclass(frozen=True)
class Train:
    """Fit a radiance field to posed photos, learn semantics on its surface, and evaluate held-out views.

    Scenes are folders: nerfstudio, instant-ngp or Blender transforms.json, COLMAP, LLFF, Replica, ScanNet. The run is
    written to outputs/SCENE/TIME/, and outputs/SCENE/latest points to it. Ctrl-C stops with a checkpoint; --resume
    continues.

    Several scenes are trained one after another, with --workers in several processes, with --on ray on a cluster.

    Examples:
      ovseg3d train scenes/playroom --quality fast
      ovseg3d train scans/ --workers 4 --output-dir outputs/scans
    """

    scenes: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SCENE...", help_behavior_hint="")]
    """Scene folders; with --resume also run folders. Several scenes are also a folder of scenes, a glob in quotes, or a
    list: a .txt file with a path per line, or a .jsonl file with {"scene": PATH} per line."""
    quality: Literal["fast", "default", "high"] = "default"
    """Trade-off between training time and quality."""
    preset: Literal["cpu", "gpu"] | None = None
    """Machine that the settings are for; by default that of the device."""
    config: Path | None = None
    """A YAML file with settings, or the config.json of a run. It overrides preset and quality; flags override it."""
    output_dir: Path | None = None
    """The run folder itself; for several scenes, the run folders are OUTPUT_DIR/SCENE, with the ledger runs.jsonl. The
    same command again trains what is missing."""
    resume: bool = False
    """Continue the scene's newest run (or the one in --output-dir)."""
    view: bool = False
    """Show the run in the browser during training, as ovseg3d view does, and afterwards until Ctrl-C."""
    many: ManyFlags = Many()
    json: Json = False
    only: Annotated[str | None, tyro.conf.arg(metavar="STAGE[,STAGE]")] = None
    """Run only these stages, separated by commas; by default all. features: encode the photos with CLIP and DINO.
    field: fit and evaluate the field, without encoders. evaluate: measure the held-out views. semantics: lift features
    to the field's surface, for queries. The stages that a stage needs must be selected too, or be done in the run that
    --resume continues."""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = TrainConfig()
    scene: Annotated[SceneConfig, tyro.conf.arg(name="")] = SceneConfig()
    encode: Annotated[EncodeConfig, tyro.conf.arg(name="")] = EncodeConfig()
    semantics: Annotated[SemanticsConfig, tyro.conf.arg(name="")] = SemanticsConfig()
    field: FieldConfig = FieldConfig()
    allow: AllowFlags = Allow()
    base: Annotated[Config | None, tyro.conf.Fixed, tyro.conf.Suppress] = None
    """The settings below the flags; not a flag."""
    typed: Annotated[frozenset[str], tyro.conf.Fixed, tyro.conf.Suppress] = frozenset()
    """The flags as typed, with hyphens; not a flag."""

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> "Train":
        """Parse the command line: first the flags that choose the defaults, then all."""
        from ovseg3d.cli import parse_arguments

        base = cls._base(list(arguments))
        typed = frozenset(word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--"))
        default = cls(
            scenes=(),
            only=base.only,
            train=base.train,
            scene=base.scene,
            encode=base.encode,
            semantics=base.semantics,
            field=base.field,
            base=base,
            typed=typed,
        )
        return parse_arguments("train", cls, arguments, default=default)

    @staticmethod
    def _base(arguments: list[str]) -> Config:
        """The settings before the flags."""
        given = {flag: _value(arguments, flag) for flag in (*_CHOICES, "--config")}
        # tyro reports wrong choices.
        chosen = {flag: given[flag] if given[flag] in names else None for flag, names in _CHOICES.items()}
        device, preset = chosen["--device"], chosen["--preset"]
        asks_for_help = "-h" in arguments or "--help" in arguments
        if preset is None and device is None and not asks_for_help:
            from ovseg3d.runs.devices import resolve_device

            device = resolve_device("auto")
        config = make_config(
            "cuda" if device == "cuda" else "cpu",
            preset=preset,  # type: ignore[arg-type]
            quality=chosen["--quality"] or "default",  # type: ignore[arg-type]
            config_file=Path(given["--config"]) if given["--config"] else None,
        )
        steps, seconds = (_value(arguments, flag) is not None for flag in ("--steps", "--max-seconds"))
        if steps != seconds:
            other = {"max_seconds": None} if steps else {"steps": None}
            config = replace(config, train=replace(config.train, **other))
        return config

    def settings(self) -> Config:
        """The settings with all layers combined."""
        sections = {name: getattr(self, name) for name in ("scene", "train", "field", "encode", "semantics")}
        sections["train"] = self._watched(self.train)
        return Config(**sections, only=self.only)

    def _watched(self, train: TrainConfig) -> TrainConfig:
        """The settings with checkpoints often enough for --view."""
        if not self.view or self._was_typed("checkpoint_seconds"):
            return train
        return replace(train, checkpoint_seconds=min(train.checkpoint_seconds, LIVE_SECONDS))

    def main(self) -> int:
        """Train every scene; returns the exit code. Raises ConfigError: no scene, or flags without effect."""
        from ovseg3d.cli.console import get_console, interruptible, print_json, shell_path
        from ovseg3d.cli.progress import Progress, print_summary
        from ovseg3d.cli.view import Live
        from ovseg3d.runs.lists import is_scene_list

        if not self.scenes:
            raise ConfigError("No scene was given", fix="ovseg3d train SCENE, such as scenes/playroom")
        scene = self.scenes[0]
        if len(self.scenes) > 1 or self.many.asked or not self.resume and is_scene_list(scene):
            return self._train_many()
        console, stop = get_console(self.json), threading.Event()
        with interruptible(stop), Live(console, stop, self.view) as live:
            with Progress(console) as progress:
                run = self._train_one(scene, progress, stop, live)
            report = _report(run)
            if self.json:
                print_json(report)
            elif report["status"] == "done":
                print_summary(console, run)
        if report["status"] != "interrupted":
            return 0
        again = f"ovseg3d train {shell_path(report['run'])} --resume"
        console.print(f"Stopped with a checkpoint. To continue:  {again}", markup=False, soft_wrap=True)
        return 130

    def _train_many(self) -> int:
        from ovseg3d.cli.train_many import train_many

        if self.resume:
            raise ConfigError(
                "--resume continues one run; several scenes are continued by the same command again",
                fix="leave out --resume, or name one run",
            )
        executor = self.many.executor()
        config = self.settings()
        self._refuse_idle(config)
        trust = self.allow.trust()
        return train_many(self.scenes, config, executor, self.output_dir, trust, view=self.view, json=self.json)

    def _train_one(self, path: Path, progress: Any, stop: threading.Event, live: Any) -> Any:
        from ovseg3d.features.encode import without_cache
        from ovseg3d.pipeline.train import train_scene
        from ovseg3d.runs.phrases import read_list
        from ovseg3d.session import load

        target = self.output_dir
        if not self.resume:
            config = self.settings()
            self._refuse_idle(config)
            trust = self.allow.trust()
            return train_scene(
                path, config, output_dir=target, report=progress, stop=stop, on_start=live.on_start, trust=trust
            )
        without_effect = sorted(self.typed & {"--config", "--preset", "--quality"})
        if without_effect:
            raise ConfigError(
                f"{' and '.join(without_effect)} would have no effect: --resume keeps the run's own settings",
                fix="leave it out, and set the length with --steps or --max-seconds",
            )
        named = {kind: getattr(self.encode, kind) for kind in ("clip", "dino", "segments") if self._was_typed(kind)}
        trust = self.allow.trust(**named)
        run = load(target or path, trust)
        if target is not None:  # `path` is the capture's folder now; reading it checks that it is the same capture
            run = replace(run, scene_path=path.resolve())
        config = self._resumed(without_cache(run.config, trust))
        self._refuse_idle(config)
        scene = run.load_scene()
        if config.encode.phrases is not None and self._was_typed("phrases"):  # the file may have changed
            scene = replace(scene, phrases=read_list(config.encode.phrases))
        return train_scene(scene, config, report=progress, stop=stop, resume=run, on_start=live.on_start, trust=trust)

    def _refuse_idle(self, config: Config) -> None:
        """Raises ConfigError: a flag has no effect in this run."""
        method, features = config.semantics.method, config.views_as.features
        fits = "field" in config.stages or not self.resume  # a new run keeps them until its field is trained
        of_field = (
            "steps",
            "max_seconds",
            "checkpoint_seconds",
            "tensorboard",
            "depth",
            "sparse_depth",
            "depth_prior",
            "refine_poses",
            "refine_focal",
            "exposure",
        )
        # The cache holds sparse points, too, which the field is fitted to.
        of_photos = [name for name in _flags(EncodeConfig) if name != "cache_dir"]
        for names, used, why in (
            (of_photos, "features" in config.stages, "this run does not encode the photos"),
            (_flags(SemanticsConfig), "semantics" in config.stages, "this run does not learn semantics"),
            (_flags(FieldConfig, "field."), fits, "this run does not fit the field"),
            (of_field, fits, "this run does not fit the field"),
            (("segments", "crops"), features in ("auto", "regions"), f"--features {features} makes no regions"),
            (("pyramid",), features == "pyramid", "it applies to --features pyramid only"),
            (("instance_crops",), method == "default", "it applies to --method default only"),
            (("refine_steps", "refine_seconds"), method in ("3d-ovs", "lerf"), f"--method {method} does not train"),
            (("selection", "rda", "fda", "rebalance"), method == "3d-ovs", "it applies to --method 3d-ovs only"),
        ):
            typed = [f"--{name.replace('_', '-')}" for name in names if self._was_typed(name)]
            if typed and not used:
                fix = "leave out --only, or use --only field,semantics" if "this run" in why else "leave it out"
                raise ConfigError(f"{' and '.join(typed)} would have no effect: {why}", fix=fix)

    def _resumed(self, earlier: Config) -> Config:
        """The run's own settings, overridden by the flags typed; one limit given alone removes the other."""
        sections = {}
        for name in ("scene", "train", "encode", "semantics", "field"):
            mine, prefix = getattr(self, name), "field." if name == "field" else ""
            given = {key: getattr(mine, key) for key in mine.__dataclass_fields__ if self._was_typed(prefix + key)}
            if "steps" in given and "max_seconds" not in given:
                given["max_seconds"] = None
            elif "max_seconds" in given and "steps" not in given:
                given["steps"] = None
            sections[name] = replace(getattr(earlier, name), **given)
        sections["train"] = self._watched(sections["train"])
        if self._was_typed("only"):
            sections["only"] = self.only
        return replace(earlier, **sections)

    def _was_typed(self, name: str) -> bool:
        """Whether the command line has a setting, such as `steps` or `field.levels`, or its `no-` form."""
        flag = name.replace("_", "-")
        prefix, dot, key = flag.rpartition(".")
        return not self.typed.isdisjoint({f"--{flag}", f"--{prefix}{dot}no-{key}", f"--no-{flag}"})


def _flags(section: type, prefix: str = "") -> list[str]:
    return [prefix + field.name for field in fields(section)]


def _value(arguments: list[str], flag: str) -> str | None:
    """The value of `flag` on the command line, or None. As in tyro, underscores count as hyphens."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == flag:
            if equals:
                return value
            return arguments[index + 1] if index + 1 < len(arguments) else None
    return None


def _report(run: Any) -> dict[str, Any]:
    status = run.status()
    return {
        "run": str(run.folder),
        "scene": str(run.scene_path),
        "status": status["status"],
        "metrics": run.metrics(),
    }
