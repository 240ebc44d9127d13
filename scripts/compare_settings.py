"""Compare settings of the field without looking at held-out views: this is how the defaults were chosen.

python scripts/compare_settings.py scenes/playroom scenes/desk --try="--field.hidden 32" --try="--field.levels 6"

The capture's held-out views are left out altogether; every eighth of its training views is held out instead. Runs
have a number of steps, not of seconds, so that other work on the machine does not change the figures. Depth is judged
where training views have it: `ovseg3d synth FOLDER --room desk --depth all` makes such a capture.
"""

import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

EVERY = 8


@dataclass(frozen=True)
class Compare:
    """Train with each set of flags on each capture, and print a markdown table."""

    scenes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Captures."""
    flags: Annotated[tuple[str, ...], tyro.conf.arg(name="try"), tyro.conf.UseAppendAction] = ()
    """Flags of `ovseg3d train` to compare with the defaults; give it several times."""
    steps: int = 1000
    """Steps of each run."""

    def main(self) -> None:
        """Print row after row, as they are done."""
        print("| scene | flags | PSNR, dB | SSIM | depth within 5 % |\n| --- | --- | --- | --- | --- |")
        for flags in ("", *self.flags):
            for path in self.scenes:
                metrics = self._train(path, shlex.split(flags))
                name = f"`{flags}`" if flags else "defaults"
                within = metrics.get("depth_within_5_percent")
                depth = "-" if within is None else f"{within:.1%}"
                row = (path.name, name, f"{metrics['psnr']:.2f}", f"{metrics['ssim']:.3f}", depth)
                print("|", " | ".join(row), "|", flush=True)

    def _train(self, path: Path, flags: list[str]) -> dict[str, float]:
        from ovseg3d.cli.train import Train
        from ovseg3d.pipeline.train import train_scene
        from ovseg3d.runs.folder import open_scene

        config = Train.parse([str(path), "--only", "field", "--steps", str(self.steps), *flags]).settings()
        scene = open_scene(path, config)
        held_out = scene.train[EVERY // 2 :: EVERY]
        scene = replace(scene, train=tuple(i for i in scene.train if i not in held_out), test=held_out)
        with tempfile.TemporaryDirectory() as folder:
            return train_scene(scene, config, output_dir=Path(folder) / "run").metrics()


if __name__ == "__main__":
    tyro.cli(Compare).main()
