"""What training uses of a capture: settings that are `auto`, decided from the capture."""

from dataclasses import dataclass

from ovseg3d.errors import SceneError
from ovseg3d.runs.config import SceneConfig
from ovseg3d.scene import Scene


@dataclass(frozen=True)
class Decisions:
    """Settings with `auto` resolved."""

    depth: bool
    """Supervise with measured depth."""
    sparse_depth: bool
    """Supervise with sparse points."""
    depth_prior: bool
    """Shape the depth between sparse points with a monocular prior."""
    adjust_poses: bool
    """Bundle adjust the poses; needs sparse points."""
    adjust_focal: bool
    """Adjust the focal lengths with the poses."""
    refine_poses: bool
    """Refine the poses while the field is trained."""
    exposure: bool
    """Learn the exposure of each photo."""
    exact: bool
    """The capture is synthetic, or its photos are cut out."""

    def describe(self) -> str:
        """The decisions in one sentence."""
        parts = [
            "measured depth" if self.depth else "",
            "sparse depth" if self.sparse_depth else "",
            "monocular depth prior" if self.depth_prior else "",
            "adjusted poses" if self.adjust_poses else "",
            "adjusted focal length" if self.adjust_focal else "",
            "poses refined in training" if self.refine_poses else "",
            "exposure of each photo" if self.exposure else "",
        ]
        used = ", ".join(part for part in parts if part) or "photos and poses as given"
        return f"{'Synthetic or cut-out photos' if self.exact else 'Real photos'}: {used}."


def decide(scene: Scene, config: SceneConfig) -> Decisions:
    """Decide what to use of a capture.

    Raises:
        SceneError: measured depth was requested, and the training views have none.
    """
    measured = any(scene.frames[view].depth_path for view in scene.train)
    if config.depth == "on" and not measured:
        raise SceneError(
            "Supervision with depth was requested, but the training views have none",
            where=scene.path,
            fix="--depth auto, or --depth off",
        )
    real = not (scene.exact or scene.has_alpha)
    sparse = real and config.sparse_depth == "auto"
    return Decisions(
        depth=config.depth == "on" or (config.depth == "auto" and measured and not scene.exact),
        sparse_depth=sparse,
        depth_prior=sparse and config.depth_prior != "off",
        adjust_poses=sparse and config.refine_poses != "off",
        adjust_focal=sparse and config.refine_poses != "off" and config.refine_focal != "off",
        refine_poses=config.refine_poses == "on",
        exposure=config.exposure == "on" or (config.exposure == "auto" and real),
        exact=scene.exact or scene.has_alpha,
    )
