"""A custom encoder: any model that maps images and phrases to one space.

    python -m scripts.examples.03_own_encoder scenes/desk --asked red green

This one knows only colours; a real one calls a model. A run stores its encoder's name: register it before `load`.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro
from torch import Tensor, tensor
from torch.nn.functional import avg_pool2d, normalize

import ovseg3d
from ovseg3d.encoders import Preprocess, register_clip
from ovseg3d.runs import make_config

COLOURS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.9, 0.1), "blue": (0.1, 0.1, 0.9)}


class Colours:
    """Implements `ovseg3d.encoders.TextImageEncoder`; an image's vector is its mean colour, unit length."""

    id, weight_hash = "colours-example", "0" * 16  # cached features are used only with the same hash
    dim, patch, dense, logit_scale, logit_bias = 3, 4, True, 50.0, None
    preprocess = Preprocess((64, 64), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize_mode="squash")

    def encode_image(self, images: Tensor) -> Tensor:
        return normalize(images.mean((2, 3)), dim=1)  # (views, 3, h, w), rgb 0..1 -> (views, dim)

    def encode_dense(self, images: Tensor) -> Tensor:
        return normalize(avg_pool2d(images, self.patch), dim=1)  # -> (views, dim, h / patch, w / patch)

    def encode_text(self, phrases: list[str]) -> Tensor:
        return normalize(tensor([COLOURS.get(phrase, (1.0, 1.0, 1.0)) for phrase in phrases]), dim=1)


@dataclass(frozen=True)
class OwnEncoder:
    """Train a scene with the encoder above, and query colours."""

    scene: tyro.conf.Positional[Path]
    """A capture."""
    asked: tuple[str, ...] = ("red", "green", "blue")
    """Colours."""
    config: Path | None = None
    """Settings that differ from the defaults, a YAML file."""

    def main(self) -> None:
        register_clip("my-colours", lambda device: Colours())
        config = make_config("cpu", config_file=self.config, flags={"encode": {"clip": "my-colours", "dino": "none"}})
        run = ovseg3d.load(ovseg3d.train_scene(self.scene, config).folder)
        for phrase in self.asked:
            print(f"{phrase}: {len(run.query(phrase).points):,} surface points")


if __name__ == "__main__":
    tyro.cli(OwnEncoder).main()
