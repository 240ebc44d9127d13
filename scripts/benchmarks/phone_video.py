"""From a raw phone video to a field: `prepare` and `train` with nothing set, against the truth of a synthetic room.

    python -m scripts.benchmarks.phone_video outputs/phone_video --room playroom
    python -m scripts.benchmarks.phone_video outputs/phone_video --stop prepare

The video shows a walk through the room: a hand's shake, exposure that drifts by a stop, and of ten frames one that is
blurred by the motion of a whole frame's time. `prepare` and `train` see the file only. Found poses are compared with
the true ones up to a similarity; errors of positions are in centimetres of the room. Prints a markdown table of one
row.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from ovseg3d.evaluate.metrics.depth import depth_errors
from ovseg3d.files import write_json
from ovseg3d.pipeline.train import train_scene
from ovseg3d.render.video import Video
from ovseg3d.runs.devices import resolve_device
from ovseg3d.runs.fields import restore
from ovseg3d.runs.folder import open_run
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import load_scene
from ovseg3d.scene.prepare import prepare_scene
from ovseg3d.synth.cameras import on_path
from ovseg3d.synth.make import make_room
from ovseg3d.synth.render import DRAFT, Tracer, develop
from ovseg3d.synth.rooms import CameraPlan
from ovseg3d.synth.world import flatten, trace
from scripts.benchmarks.similarity import PoseErrors, compare_poses
from scripts.start import start

SHAKE_DEG, SHAKE_M = 0.6, 0.008
"""Amplitudes of the hand's shake."""
SUBFRAMES = 8
"""Renders that a blurred frame is the mean of."""


@dataclass(frozen=True)
class Truth:
    """What the video shows, frame by frame."""

    c2w: Float[np.ndarray, "frames 4 4"]
    gain: Float[np.ndarray, " frames"]
    blurred: Bool[np.ndarray, " frames"]
    exposure: float
    """Of the tracer; `gain` multiplies it."""
    focal: float
    """Pixels."""

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(self).items()})

    @classmethod
    def load(cls, path: Path) -> "Truth":
        """The inverse of `save`."""
        content: dict[str, Any] = json.loads(path.read_text())
        arrays = {name: np.array(content.pop(name)) for name in ("c2w", "gain", "blurred")}
        return cls(**arrays, **content)


def hand_held(plan: CameraPlan, s: float, t: float) -> np.ndarray:
    """c2w at the share `s` of a walk, with the shake of a hand at `t` seconds: sums of sines of one to four hertz."""
    phases = np.random.default_rng(5).uniform(0, 2 * np.pi, (6, 3))
    waves = np.sin(2 * np.pi * np.array([0.9, 1.7, 3.6]) * t + phases) @ np.array([0.5, 0.35, 0.15])
    c2w = on_path(plan, s)
    c2w[:3, :3] = c2w[:3, :3] @ Rotation.from_rotvec(np.radians(SHAKE_DEG) * waves[:3]).as_matrix()
    c2w[:3, 3] += SHAKE_M * waves[3:]
    return c2w


@dataclass(frozen=True)
class PhoneVideo:
    """Make the video, prepare it, train a field, and compare with the room."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the video, the scene and the run; what is there already is not made again."""
    room: str = "playroom"
    """A room of `ovseg3d synth`, or `seed-N`."""
    walk: float = 0.5
    """Share of the room's walk that the video shows."""
    seconds: float = 16.0
    """Length of the video."""
    fps: int = 10
    """Frames a second."""
    width: int = 400
    """Pixels."""
    height: int = 300
    """Pixels."""
    stops: float = 1.0
    """Stops that the exposure drifts by, from the darkest frame to the brightest."""
    blur: int = 10
    """One frame in so many is blurred; 0: none."""
    steps: int = 1000
    """Steps of the training."""
    stop: Literal["video", "prepare", "train"] = "train"
    """The last stage."""

    def main(self) -> int:
        """Returns 0."""
        self.out.mkdir(parents=True, exist_ok=True)
        video, truth = self.out / "video.mp4", self.out / "truth.json"
        if not truth.is_file():
            self._film(video).save(truth)
        if self.stop == "video":
            return 0
        scene = self.out / "scene"
        if not scene.is_dir():
            prepare_scene(video, scene)
        row = self._poses(scene, Truth.load(truth))
        if self.stop == "train":
            row |= self._train(scene, Truth.load(truth))
        print(f"| {' | '.join(row)} |\n|{' --- |' * len(row)}\n| {' | '.join(row.values())} |")
        return 0

    def _tracer(self) -> tuple[Tracer, CameraPlan]:
        named = self.room.removeprefix("seed-")
        room = make_room({"room": self.room} if named == self.room else {"room": None, "seed": int(named)})
        return trace(flatten(room), room, detail=DRAFT), room.cameras

    def _film(self, path: Path) -> Truth:
        tracer, plan = self._tracer()
        tracer.bake()
        focal = self.width / 2 / np.tan(plan.field_of_view / 2)
        count = round(self.seconds * self.fps)
        share = np.arange(count) / count
        c2w = np.stack([hand_held(plan, self.walk * s, self.seconds * s) for s in share])
        tracer.meter([*c2w[:: max(1, count // 12)]], focal / self.width)
        gain = 2.0 ** (self.stops / 2 * np.sin(2 * np.pi * share * 1.5))
        blurred = np.zeros(count, bool)
        if self.blur:
            drawn = np.random.default_rng(7).integers(0, self.blur, -(-count // self.blur))
            blurred[np.minimum(np.arange(len(drawn)) * self.blur + drawn, count - 1)] = True
        with Video(path, self.fps) as video:
            for number in range(count):
                # A shutter that is open for a whole frame's time, centred on it.
                open_for = (np.arange(SUBFRAMES) + 0.5) / SUBFRAMES - 0.5 if blurred[number] else np.zeros(1)
                at = [(number + t) / count for t in open_for]
                views = [hand_held(plan, self.walk * s, self.seconds * s) for s in at]
                side = 1 if blurred[number] else 2
                light = np.mean([tracer.radiance(v, self.width, self.height, focal, side)[0] for v in views], axis=0)
                video.add(develop(light, tracer.exposure * gain[number]))
        return Truth(c2w, gain, blurred, float(tracer.exposure), float(focal))

    def _poses(self, scene: Path, truth: Truth) -> dict[str, str]:
        report = json.loads((scene / "report.json").read_text())
        errors, numbers = self._errors(scene, truth)
        size = np.ptp(truth.c2w[:, :3, 3], axis=0).max()
        lens = report["cameras"][0]
        return {
            "room": self.room,
            "frames": str(report["found"]),
            "chosen": str(report["total"]),
            "of them blurred": str(int(truth.blurred[numbers].sum())),
            "with pose": str(report["registered"]),
            "reprojection error": f"{report['mean_reprojection_error_px']:.2f} px",
            "rotation error, median / 90 % / largest": " / ".join(
                f"{value:.2f}" for value in np.quantile(errors.rotation_deg, (0.5, 0.9, 1.0))
            )
            + " degrees",
            "position error": " / ".join(f"{100 * v:.1f}" for v in np.quantile(errors.position, (0.5, 0.9, 1.0)))
            + f" cm of {size:.1f} m",
            "focal length": f"{100 * (lens['fx'] / truth.focal - 1):+.2f} %",
        }

    def _errors(self, scene: Path, truth: Truth) -> tuple[PoseErrors, np.ndarray]:
        frames = load_scene(scene).frames
        numbers = np.array([int(frame.image_path.stem.split("_")[1]) for frame in frames])
        found = np.stack([frame.camera.c2w for frame in frames])
        return compare_poses(found, truth.c2w[numbers]), numbers

    def _train(self, scene: Path, truth: Truth) -> dict[str, str]:
        """Train, and measure the depth of held-out views against the room."""
        folder = self.out / "run"
        config = make_config(resolve_device("auto"), flags={"train": {"steps": self.steps}, "only": "field"})
        run = open_run(folder) if (folder / "config.json").is_file() else train_scene(scene, config, output_dir=folder)
        capture, (errors, numbers) = run.load_scene(), self._errors(scene, truth)
        renderer, (tracer, _) = restore(run, capture), self._tracer()
        found, true = [], []
        for view in capture.test:
            camera = capture.frames[view].camera
            focal = truth.focal * camera.width / self.width
            shown = tracer.photo(truth.c2w[numbers[view]], camera.width, camera.height, focal, side=0)
            found.append(renderer.render(camera)["depth_z"] * errors.scale)
            true.append(shown.depth_z)
        depth, metrics = depth_errors(np.concatenate(found), np.concatenate(true)), run.metrics()
        return {
            "PSNR, aligned": f"{metrics['psnr']:.1f}, {metrics['psnr_aligned']:.1f} dB",
            "depth error, median": f"{100 * depth.rel_median:.1f} %",
            "within 5 %": f"{100 * depth.within_5_percent:.0f} %",
        }


if __name__ == "__main__":
    start(PhoneVideo)
