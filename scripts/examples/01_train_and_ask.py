"""Train a scene and ask it: from photos with known cameras to instances with boxes.

    python -m scripts.examples.01_train_and_ask                    # makes a room first; minutes on a laptop
    python -m scripts.examples.01_train_and_ask --scene my_capture --asked "a red chair" "a lamp"

The room is synthetic and uses the built-in encoders, so nothing is downloaded. The run is kept in `output`: a second
call only queries it.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

import ovseg3d
from ovseg3d.runs import make_config
from ovseg3d.synth import synthesise


@dataclass(frozen=True)
class TrainAndAsk:
    """Train a scene, and locate objects in it."""

    scene: Path | None = None
    """A capture: transforms.json, a COLMAP model, LLFF...; by default a room is made."""
    asked: tuple[str, ...] = ("a chair", "the floor", "a bicycle")
    """Phrases in plain words."""
    output: Path = Path("outputs/example")
    """The run's folder; the room goes beside it."""
    config: Path | None = None
    """Settings that differ from the defaults, a YAML file."""

    def main(self) -> None:
        """Train if necessary, and query."""
        if not (self.output / "config.json").exists():
            scene = self.scene or self._make_room()
            ovseg3d.train_scene(scene, make_config("cpu", config_file=self.config), output_dir=self.output)
        run = ovseg3d.load(self.output)
        for phrase in self.asked:
            answer = run.query(phrase)
            said = f"{len(answer.points):,} points" if answer.present else "not here"
            print(f"{phrase}: {said} (score {answer.score:.2f}, threshold {answer.threshold:g})")
            for instance in answer.instances:  # in the capture's own frame and units
                center, size = (", ".join(f"{x:.2f}" for x in xyz) for xyz in (instance.center, instance.size))
                print(f"  box at ({center}), size ({size}), score {instance.score:.2f}")

    def _make_room(self) -> Path:
        room = self.output.with_name(f"{self.output.name}_room")
        if not room.exists():
            synthesise(room, seed=1)
        return room


if __name__ == "__main__":
    tyro.cli(TrainAndAsk).main()
