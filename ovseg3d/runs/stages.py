"""The stages of a run, in their order: what each needs, makes and measures.

This list is the only one. `--only`, what a new or resumed run needs and may skip, what becomes stale when the field
changes, and the plan that is shown all follow from it. How a stage works is in `pipeline.stages`.
"""

from dataclasses import dataclass
from pathlib import Path

from ovseg3d.errors import ConfigError, nearest


@dataclass(frozen=True)
class StageSpec:
    """What is known of a stage without running it."""

    name: str
    product: str
    """What it makes, in words."""
    files: tuple[str, ...]
    """Patterns in the run folder: what it leaves for later stages and commands. The run has its product when each
    pattern has a file."""
    previews: tuple[str, ...] = ()
    """Patterns in the run folder: images for people."""
    figures: tuple[str, ...] = ()
    """Keys that it writes to metrics.json; those that depend on a method's choice end with `*`."""
    needs: tuple[str, ...] = ()
    """Stages whose product it works on: selected too, or done before in the run that is resumed."""
    includes: tuple[str, ...] = ()
    """Stages that run whenever it runs."""

    def is_in(self, folder: Path) -> bool:
        """Whether the run in `folder` has this stage's product."""
        return all(any(folder.glob(pattern)) for pattern in self.files)


FEATURES = StageSpec(
    "features",
    product="the photos' features",
    files=("features.json",),
    previews=("previews/features.png",),
    figures=(
        "features_seconds", "features_photos", "features_encoded", "features_bytes", "features_mode", "features_cache",
        "clip", "dino", "peak_anonymous_bytes", "device",
    ),
)  # fmt: skip
FIELD = StageSpec(
    "field",
    product="a trained field",
    files=("checkpoints/step-*.safetensors",),
    figures=("train_seconds", "steps", "peak_anonymous_bytes", "device", "backend", "metric", "metres_per_unit"),
    includes=("evaluate",),
)
EVALUATE = StageSpec(
    "evaluate",
    product="figures of the held-out views",
    files=("views.json",),
    previews=("previews/heldout.png", "previews/[0-9]*.png"),
    figures=(
        "views", "psnr*", "ssim*", "depth_rel_median*", "depth_within_5_percent*", "depth_abs_median*", "eval_seconds",
        "peak_anonymous_bytes",
    ),
    needs=("field",),
)  # fmt: skip
SEMANTICS = StageSpec(
    "semantics",
    product="semantics",
    files=("semantics.safetensors",),
    previews=("previews/semantics.png",),
    figures=(
        "surface_seconds", "lift_seconds", "refine_seconds", "instances_seconds", "instance_crops_seconds", "fit_*", "refine_*",
        "lerf_*", "method", "surface_points", "instances", "rejected_fragments", "semantics_bytes", "basis_left_out",
        "photos_not_trusted", "peak_anonymous_bytes",
    ),
    needs=("features", "field"),
    includes=("features",),  # they come from the cache: encoding again costs nothing
)  # fmt: skip
STAGES = (FEATURES, FIELD, EVALUATE, SEMANTICS)
"""Every stage, in the order in which they run. The field is measured before semantics are learnt on it, so that who
stops there has the figures."""
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def plan(only: str | None = None) -> tuple[StageSpec, ...]:
    """The stages to run, in their order.

    Args:
        only: names with commas, as `--only` takes them; None for all.

    Raises:
        ConfigError: a name is no stage's.
    """
    if only is None:
        return STAGES
    asked = named(only)
    for name in asked:
        if name not in STAGE_NAMES:
            close = nearest(name, STAGE_NAMES)
            known = f"the stages are {', '.join(STAGE_NAMES)}; several with commas"
            raise ConfigError(
                f"There is no stage {name!r} for --only", fix=f"did you mean {close}? {known}" if close else known
            )
    selected = {*asked, *(other for stage in STAGES if stage.name in asked for other in stage.includes)}
    return tuple(stage for stage in STAGES if stage.name in selected)


def named(only: str | None) -> tuple[str, ...]:
    """The stages that `only` names itself, without those that they include."""
    return () if only is None else tuple(name.strip() for name in only.split(","))


def describe_plan(stages: tuple[StageSpec, ...]) -> str:
    """The plan in one line, such as "features -> field"."""
    return " -> ".join(stage.name for stage in stages)


def check_needs(stages: tuple[StageSpec, ...], folder: Path | None, where: Path | str) -> None:
    """Refuse a plan that lacks what one of its stages works on.

    Args:
        stages: the plan.
        folder: the run that is resumed; None for a new one.
        where: what to blame.

    Raises:
        ConfigError: neither the plan nor the run has it.
    """
    selected = {stage.name for stage in stages}
    for stage in stages:
        for need in STAGES:
            if need.name in stage.needs and need.name not in selected and (folder is None or not need.is_in(folder)):
                both = ",".join(one.name for one in STAGES if one.name in (need.name, stage.name))
                resume = f"--only {stage.name} --resume with a run that has one"
                raise ConfigError(
                    f"The stage {stage.name} needs {need.product}, and this run would have none",
                    where=where,
                    fix=f"--only {both}, or {resume}",
                )


def depends_on_field(stage: StageSpec) -> bool:
    """Whether the stage is the field's, or works on it: what it made is stale once the field has changed."""
    return stage.name == "field" or "field" in stage.needs
