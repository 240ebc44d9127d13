"""The stage `evaluate`: measure the held-out views, keep their depth, and write previews beside their photos."""

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ovseg3d.engine import Event
from ovseg3d.errors import SceneError
from ovseg3d.evaluate.views import Evaluation, ViewScore, evaluate
from ovseg3d.field.renderer import Renderer
from ovseg3d.files import write_json
from ovseg3d.pipeline.context import Context, Stage
from ovseg3d.render.images import contact_sheet, preview, save_image
from ovseg3d.render.views import spread
from ovseg3d.runs.fields import refined, restore
from ovseg3d.runs.stages import EVALUATE
from ovseg3d.runs.view_depth import MAX_VALUES, save_view_depth
from ovseg3d.scene import load_depth

SHEET_VIEWS = 4
"""Maximum number of views in the contact sheet."""


class EvaluateStage(Stage):
    """Measures the held-out views. A resumed run is measured again only if its field has changed."""

    spec = EVALUATE

    def may_skip(self, context: Context) -> bool:
        measured = EVALUATE.is_in(context.run.folder) and "eval_seconds" in context.run.metrics()
        return measured and context.new_steps == 0

    def run(self, context: Context) -> bool:
        train, start = context.config.train, time.monotonic()
        renderer, context.renderer = context.renderer, None  # later stages need the memory
        if renderer is None:
            renderer = restore(context.run, context.scene, train.device, train.backend)
        evaluation = _evaluate(context, renderer)
        if evaluation is None:
            return False
        context.run.write_metrics(
            {
                **summarise(evaluation),
                "eval_seconds": time.monotonic() - start,
                "peak_anonymous_bytes": context.memory.peak,
            }
        )
        return True


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """Flat figures for metrics.json: the means, and the means of other groups of views, such as `psnr_off_path`."""
    figures: dict[str, Any] = {"views": len(evaluation.views)}
    for group, means in {"": evaluation.mean(), **evaluation.groups()}.items():
        if group != "on_path":  # equal to the means
            suffix = f"_{group}" if group else ""
            figures.update({f"{name}{suffix}": value for name, value in means.items() if not math.isnan(value)})
    return figures


def _evaluate(context: Context, renderer: Renderer) -> Evaluation | None:
    """Measure the held-out views, or a few training views if none is held out, and write their previews.

    Returns:
        Figures of the held-out views; None after `stop`.
    """
    run, scene = context.run, refined(context.run, context.scene)
    views = scene.test or tuple(spread(scene.train, SHEET_VIEWS))
    shown = set(spread(views, SHEET_VIEWS))
    images, depths, start = [], {}, time.monotonic()

    def on_view(score: ViewScore, photo: Any, rendered: Mapping[str, Any]) -> None:
        if rendered["depth_z"].size + sum(one.size for one in depths.values()) <= MAX_VALUES:
            depths[score.name] = rendered["depth_z"]
        if score.view in shown:
            frame = scene.frames[score.view]
            true_z = None
            with suppress(SceneError):  # reported by `on_fault`
                true_z = load_depth(frame, scene)
            image = preview(score.name, photo, dict(rendered), true_z, score.psnr)
            save_image(run.previews / f"{len(images):03d}_{Path(score.name).stem}.png", image)
            images.append(image)
        done, seconds = views.index(score.view) + 1, time.monotonic() - start
        metrics = {"psnr": score.psnr}
        context.report(Event("progress", "evaluate", done, len(views), done / len(views), seconds, metrics=metrics))

    def on_fault(error: SceneError) -> None:
        # One missing figure must not fail a run whose field is trained.
        context.log("evaluate", f"A view is measured only in part: {error.what} ({error.where})")

    evaluation = evaluate(
        renderer, scene, views, aligned=not scene.exact, stop=context.stop, on_view=on_view, on_fault=on_fault
    )
    if images:
        save_image(run.previews / "heldout.png", contact_sheet(images))
    if context.stop.is_set():  # some views are missing
        return None
    save_view_depth(run, depths)
    write_json(run.folder / "views.json", {"views": [asdict(score) for score in evaluation.views]})
    return evaluation if scene.test else Evaluation(())
