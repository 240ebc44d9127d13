"""Pictures for depth alignment from a diffusion model under a depth ControlNet, as OpenDlign makes them; optional.

Mao et al. (2024): 20 DDIM steps, guidance 9, control at full strength, 256 x 256 pixels; the control picture is a depth
map, near is bright, after a median filter of 7 x 7 pixels. Every view has its own noise, so geometry agrees between
views, and texture does not. Models are diffusers' (`pip install diffusers accelerate`), by the hub's id or a folder.

A picture depends on the models, the name, the depth map and the seed alone. It is kept under a hash of these, so that
an interrupted training goes on where it was.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

from ovseg3d.errors import EncoderError
from ovseg3d.files import write_atomic
from ovseg3d.heads.naming.splat import nearness
from ovseg3d.limits import first_line

CONTROL = "lllyasviel/control_v11f1p_sd15_depth"
DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SIDE, STEPS, GUIDANCE, STRENGTH, MEDIAN = 256, 20, 9.0, 1.0, 7
PROMPT = "a photo of one {}, whole, sharp, in natural colours"
UNWANTED = "blurred, cut off, distorted, several things, text, drawing"


@dataclass
class Generator:
    """Makes pictures; the models are loaded when the first one is not in the cache.

    Attributes:
        cache: folder of pictures.
        control: the ControlNet.
        diffusion: the model that it steers.
        device: for computing.
    """

    cache: Path
    control: str = CONTROL
    diffusion: str = DIFFUSION
    device: str = "cpu"
    _pipe: Any = field(default=None, init=False, repr=False)

    def pictures(
        self, kind: str, points: Float[np.ndarray, "points 3"], turns: Float[np.ndarray, "views 3 3"], seed: int
    ) -> UInt8[np.ndarray, "views h w 3"]:
        """A picture of each view of a shape.

        Args:
            kind: its name.
            points: z up.
            turns: rotations to the views' frames.
            seed: of the noise; each view adds its number.

        Raises:
            EncoderError: diffusers is not installed, or a model cannot be loaded.
        """
        depth = (nearness(points, turns, SIDE) * 255).astype(np.uint8)
        depth = ndimage.median_filter(depth, size=(1, MEDIAN, MEDIAN))
        return np.stack([self._picture(PROMPT.format(kind), view, seed + k) for k, view in enumerate(depth)])

    def _picture(self, prompt: str, depth: np.ndarray, seed: int) -> np.ndarray:
        says = f"{self.control}\n{self.diffusion}\n{prompt}\n{UNWANTED}\n{seed}\n"
        path = self.cache / f"{hashlib.sha256(says.encode() + depth.tobytes()).hexdigest()[:24]}.png"
        if not path.is_file():
            made = self._run(prompt, depth, seed)
            write_atomic(path, lambda target: Image.fromarray(made).save(target))
        return np.asarray(Image.open(path).convert("RGB"))

    def _run(self, prompt: str, depth: np.ndarray, seed: int) -> np.ndarray:
        if self._pipe is None:
            self._pipe = load_pipe(self.control, self.diffusion, self.device)
        found = self._pipe(
            prompt,
            image=Image.fromarray(depth).convert("RGB"),
            negative_prompt=UNWANTED,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            controlnet_conditioning_scale=STRENGTH,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np",
        )
        return (np.asarray(found.images[0]) * 255).round().clip(0, 255).astype(np.uint8)


def load_pipe(control: str, diffusion: str, device: str) -> Any:
    """diffusers' pipeline with the paper's sampler. Raises EncoderError: not installed, or not available."""
    try:
        import diffusers
    except ImportError as error:
        raise EncoderError("diffusers is not installed", fix="pip install diffusers accelerate") from error
    try:
        net = diffusers.ControlNetModel.from_pretrained(control)
        pipe = diffusers.StableDiffusionControlNetPipeline.from_pretrained(
            diffusion, controlnet=net, safety_checker=None
        )
        pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    except Exception as error:  # diffusers raises whatever its loaders raised
        raise EncoderError(
            f"The diffusion model cannot be loaded: {first_line(error)}",
            where=f"{control}, {diffusion}",
            fix="check both names, or give folders that are on this disk",
        ) from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)
