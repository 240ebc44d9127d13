"""How like two photos are: PSNR and SSIM.

Images are (h, w, 3), float, 0 to 1, straight (not premultiplied) on the background that the caller chose.
"""

import math

import numpy as np
from jaxtyping import Float


def psnr(pred: Float[np.ndarray, "h w 3"], target: Float[np.ndarray, "h w 3"]) -> float:
    """Peak signal-to-noise ratio in dB, -10 log10 of the mean squared error; infinite for equal images."""
    error = float(np.mean((pred.astype(np.float64) - target.astype(np.float64)) ** 2))
    return math.inf if error == 0 else -10.0 * math.log10(error)


def ssim(pred: Float[np.ndarray, "h w 3"], target: Float[np.ndarray, "h w 3"]) -> float:
    """Structural similarity, 1 for equal images.

    Gaussian window of 11 x 11 and sigma 1.5, constants 0.01 and 0.03, borders mirrored, mean over pixels and
    channels (Wang et al., 2004), by torchmetrics. An image narrower than the window gives NaN: the measure is
    not defined there.
    """
    if min(pred.shape[:2]) < 11:
        return math.nan
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    first, second = (
        # In single precision flat areas lose digits: equal images would not give 1.
        torch.from_numpy(np.ascontiguousarray(image, dtype=np.float64)).permute(2, 0, 1)[None]
        for image in (pred, target)
    )
    return float(structural_similarity_index_measure(first, second, sigma=1.5, kernel_size=11, data_range=1.0))
