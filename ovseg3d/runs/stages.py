"""The stages of a run in order: what each needs, produces and measures.

This list is the single source for `--only`, the needs and skips of new and resumed runs, what becomes stale when the
field changes, and the plan that is printed. `pipeline.stages` implements the stages.
"""

from dataclasses import dataclass
from pathlib import Path

from ovseg3d.errors import ConfigError, nearest


@dataclass(frozen=True)
class StageSpec:
    """Description of a stage."""

    name: str
    product: str
    """Its product, for messages."""
    files: tuple[str, ...]
    """Patterns in the run folder: files for later stages and commands. The product exists if each has a match."""
    previews: tuple[str, ...] = ()
    """Patterns in the run folder: preview images."""
    figures: tuple[str, ...] = ()
    """Keys that it writes to metrics.json; `*` stands for any ending."""
    needs: tuple[str, ...] = ()
    """Stages whose products it uses: selected too, or done in the run that is resumed."""
    includes: tuple[str, ...] = ()
    """Stages that run whenever this one runs."""

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
    files=("views.json", "view_depth.safetensors"),
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
        "surface_seconds", "lift_seconds", "refine_seconds", "instances_seconds", "instance_crops_seconds", "fit_*",
        "refine_*", "lerf_*", "method", "surface_points", "instances", "rejected_fragments", "semantics_bytes",
        "basis_left_out", "photos_not_trusted", "peak_anonymous_bytes",
    ),
    needs=("features", "field"),
    includes=("features",),  # from the cache, at no cost
)  # fmt: skip
STAGES = (FEATURES, FIELD, EVALUATE, SEMANTICS)
"""All stages in order. The field is evaluated before semantics are learned, so that figures exist if the run is stopped
there."""
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def plan(only: str | None = None) -> tuple[StageSpec, ...]:
    """The stages to run, in order.

    Args:
        only: names separated by commas, as in `--only`; None for all.

    Raises:
        ConfigError: a stage is unknown.
    """
    if only is None:
        return STAGES
    asked = named(only)
    for name in asked:
        if name not in STAGE_NAMES:
            close = nearest(name, STAGE_NAMES)
            known = f"the stages are {', '.join(STAGE_NAMES)}; separate several by commas"
            raise ConfigError(
                f"There is no stage {name!r} for --only", fix=f"did you mean {close}? {known}" if close else known
            )
    selected = {*asked, *(other for stage in STAGES if stage.name in asked for other in stage.includes)}
    return tuple(stage for stage in STAGES if stage.name in selected)


def named(only: str | None) -> tuple[str, ...]:
    """The stages that `only` names, without those that they include."""
    return () if only is None else tuple(name.strip() for name in only.split(","))


def describe_plan(stages: tuple[StageSpec, ...]) -> str:
    """The plan in one line, such as "features -> field"."""
    return " -> ".join(stage.name for stage in stages)


def check_needs(stages: tuple[StageSpec, ...], folder: Path | None, where: Path | str) -> None:
    """Refuse a plan in which a stage lacks a product that it needs.

    Args:
        stages: the plan.
        folder: the run that is resumed; None for a new one.
        where: the scene or run, for the message.

    Raises:
        ConfigError: neither the plan nor the run has the product.
    """
    selected = {stage.name for stage in stages}
    for stage in stages:
        for need in STAGES:
            if need.name in stage.needs and need.name not in selected and (folder is None or not need.is_in(folder)):
                both = ",".join(one.name for one in STAGES if one.name in (need.name, stage.name))
                resume = f"--only {stage.name} --resume with a run that has one"
                raise ConfigError(
                    f"The stage {stage.name} needs {need.product}, which this run would not have",
                    where=where,
                    fix=f"--only {both}, or {resume}",
                )


def depends_on_field(stage: StageSpec) -> bool:
    """Whether the stage trains or uses the field; its product is stale once the field has changed."""
    return stage.name == "field" or "field" in stage.needs
