"""`ovseg3d info SCENE`: contents of a capture, problems found in it, and a plot of its cameras."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ovseg3d.cli.flags import Allow, AllowFlags, Json
from ovseg3d.errors import ConfigError, printable
from ovseg3d.runs.config import SceneConfig
from ovseg3d.runs.decisions import decide
from ovseg3d.runs.stages import STAGE_NAMES, describe_plan, plan

if TYPE_CHECKING:
    from ovseg3d.scene.capture import Finding, Scene
    from ovseg3d.scene.extent import Extent

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


@dataclass(frozen=True)
class Info:
    """Show what a scene folder contains and check it for problems before training.

    Writes a plot of the cameras and their view directions. Exit code 2 if the scene cannot be used for training.
    """

    scene: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCENE")]
    """Scene folder, or a transforms.json."""
    format: str | None = None
    """nerfstudio, instant-ngp, blender, colmap, llff, replica or scannet; by default detected from the
    folder's content."""
    downscale: float | None = None
    """Reduction factor of the photos, relative to the size in the intrinsics."""
    scale: float | None = None
    """Metres per input unit; makes the scene metric."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="PNG")] = None
    """Where to write the plot; by default ./SCENE-info.png."""
    allow: AllowFlags = Allow()
    json: Json = False

    def main(self) -> int:
        """Run the command; returns 0, or 2 if the scene is unusable. Raises ConfigError: --output is no PNG file."""
        from ovseg3d.cli.console import get_console, print_json
        from ovseg3d.scene.check import as_finding, check_scene
        from ovseg3d.scene.extent import scene_extent
        from ovseg3d.scene.load import inspect_scene
        from ovseg3d.scene.plot import plot_scene

        if self.output is not None and self.output.suffix.lower() != ".png":
            raise ConfigError(f"The plot is a PNG file, not {self.output.name}", fix=f"{self.output.stem}.png")
        scene, problems = inspect_scene(
            self.scene, format=self.format, downscale=self.downscale, scale=self.scale, trust=self.allow.trust()
        )
        findings = [as_finding(problem) for problem in problems]
        plot, extent = None, None
        if scene is not None:
            findings += check_scene(scene)
            extent = scene_extent(scene)
            plot = self.output or Path(f"{scene.name}-info.png")
            plot_scene(scene, plot, None if extent is None else extent.bounds)
        if self.json:
            summary = summarise(scene, extent) if scene is not None else {}
            summary["findings"] = [vars(finding) for finding in findings]
            print_json({**summary, "plot": plot})
        else:
            _print(get_console(), scene, extent, findings, plot)
        return 2 if any(finding.level == "error" for finding in findings) else 0


def summarise(scene: "Scene", extent: "Extent | None") -> dict[str, Any]:
    """Facts about a scene as JSON values; lengths and positions are in the input frame and its units."""
    import numpy as np

    from ovseg3d.scene.given_points import given_points
    from ovseg3d.scene.units import describe_scale

    given = given_points(scene)
    positions = np.stack([frame.camera.position for frame in scene.frames])
    sizes = sorted({(f.camera.width, f.camera.height) for f in scene.frames}, reverse=True)
    camera = scene.frames[0].camera
    near_far = [frame.near_far for frame in scene.frames if frame.near_far]
    return {
        "scene": scene.name,
        "path": scene.path,
        "format": scene.format,
        "frames": len(scene.frames),
        "train": [scene.frames[i].name for i in scene.train],
        "test": [scene.frames[i].name for i in scene.test],
        "sizes": sizes,
        "camera_model": "PINHOLE" if camera.is_pinhole else camera.model,
        "focal_px": [camera.fx, camera.fy],
        "principal_point_px": [camera.cx, camera.cy],
        "distortion": camera.distortion,
        "field_of_view_deg": _field_of_view(camera),
        "intrinsics": len({(f.camera.fx, f.camera.fy, f.camera.cx, f.camera.cy) for f in scene.frames}),
        **describe_scale(scene.metres_per_unit),
        "frame": "input",
        "camera_bounds": np.stack([positions.min(axis=0), positions.max(axis=0)]),
        "bounds": None if extent is None else extent.bounds,
        "bounds_source": None if extent is None else extent.source,
        "near_far": [min(n for n, _ in near_far), max(f for _, f in near_far)] if near_far else None,
        "points": 0 if scene.points is None else len(scene.points),
        "tracked_points": len(given.points) if given is not None and given.tracked else 0,
        "training": decide(scene, SceneConfig()).describe(),
        "has_alpha": scene.has_alpha,
        "masks": sum(frame.mask_path is not None for frame in scene.frames),
        "depth": sum(frame.depth_path is not None for frame in scene.frames),
        "labels": sum(frame.label_path is not None for frame in scene.frames),
        "classes": {str(key): value for key, value in scene.classes.items()},
        "phrases": scene.phrases,
        "recommended_encoder": scene.recommended_encoder,
        "plan": STAGE_NAMES,
    }


def _field_of_view(camera: Any) -> list[float]:
    """Horizontal and vertical angle in degrees between the rays through the centres of opposite edges."""
    import numpy as np

    w, h = camera.width, camera.height
    _, d = camera.rays(np.array([[0.0, h / 2], [w, h / 2], [w / 2, 0.0], [w / 2, h]]))
    cosines = np.clip([d[0] @ d[1], d[2] @ d[3]], -1, 1)
    return np.degrees(np.arccos(cosines)).round(1).tolist()


def _print(
    console: Any, scene: "Scene | None", extent: "Extent | None", findings: "list[Finding]", plot: Path | None
) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    if scene is not None:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for key, value in _rows(scene, extent):
            table.add_row(key, Text(printable(value)))
        console.print(
            Text(printable(scene.name), style="bold cyan"), Text(f"({printable(str(scene.path))})", style="dim")
        )
        console.print(table)
        console.print()
    doubts = [finding for finding in findings if finding.level != "note"]
    if not doubts:
        console.print("[green]No problems found.[/green]")
    for finding in findings:
        style = _STYLES[finding.level]
        body = Text.assemble((f"{finding.level}: ", style), printable(finding.what))
        if finding.where:
            body.append(f"\n  where: {printable(finding.where)}", style="dim")
        if finding.fix:
            body.append(f"\n  try:   {printable(finding.fix)}")
        console.print(Padding(body, (0, 0)))
    if plot is not None:
        console.print(
            Text.assemble("\nPlot of the cameras: ", (str(plot), "cyan"), " (blue: training, orange: held out)")
        )


def _rows(scene: "Scene", extent: "Extent | None") -> list[tuple[str, str]]:
    facts = summarise(scene, extent)
    unit, count = "m" if scene.metric else "units", facts["frames"]
    scale = scene.metres_per_unit or 1.0
    sizes = facts["sizes"]
    size = f"{sizes[0][0]}x{sizes[0][1]}" + (f" and {len(sizes) - 1} other sizes" if len(sizes) > 1 else "")
    lens = f"{facts['camera_model']}, {facts['field_of_view_deg'][0]:g} x {facts['field_of_view_deg'][1]:g} degrees"
    lens += f", {facts['focal_px'][0]:.1f} px" + (", distorted" if any(facts["distortion"]) else "")
    lens += f", {facts['intrinsics']} sets of intrinsics" if facts["intrinsics"] > 1 else ""
    low, high = facts["camera_bounds"]
    travel = " x ".join(f"{side:.2f}" for side in (high - low) * scale)
    metric = f"yes, 1 input unit = {scene.metres_per_unit:g} m" if scene.metric else "no: lengths are in input units"
    rows = [
        ("format", scene.format),
        ("photos", f"{count}: {len(scene.train)} for training, {len(scene.test)} held out"),
        ("size", size + (", with transparency" if scene.has_alpha else "")),
        ("lens", lens),
        ("metric", metric),
        ("cameras span", f"{travel} {unit}"),
    ]
    if extent is not None:
        low, high = extent.bounds
        sides = " x ".join(f"{side:.2f}" for side in (high - low) * scale)
        rows.append(("content spans", f"about {sides} {unit}, estimated from {extent.source}"))
    if facts["near_far"]:
        near, far = (value * scale for value in facts["near_far"])
        rows.append(("depth range", f"{near:.2f} to {far:.2f} {unit}"))
    present = [f"{facts[kind]} {kind}" for kind in ("depth", "masks", "labels", "points") if facts[kind]]
    rows.append(("also has", ", ".join(present) if present else "photos and poses only"))
    if facts["tracked_points"]:
        rows.append(
            ("sparse points", f"{facts['tracked_points']} with tracks: depth, beside those that training matches")
        )
    elif facts["points"]:
        rows.append(("sparse points", "without tracks: depth only where training finds no matches"))
    if scene.phrases:
        rows.append(("phrases", "; ".join(scene.phrases)))
    rows.append(("training", facts["training"]))
    rows.append(("stages", describe_plan(plan())))
    return rows
