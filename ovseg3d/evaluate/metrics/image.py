"""Image similarity: PSNR and SSIM.

Images are (h, w, 3), float, 0 to 1, composited on the caller's background (not premultiplied).
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

    Gaussian window of 11 x 11 and sigma 1.5, constants 0.01 and 0.03, mean over channels and over pixels whose window
    lies within the image (Wang et al., 2004), by scikit-image. NaN for an image narrower than the window.
    """
    if min(pred.shape[:2]) < 11:
        return math.nan
    from skimage.metrics import structural_similarity

    # Double precision: in single precision, flat areas lose digits and equal images do not give 1.
    first, second = (image.astype(np.float64) for image in (pred, target))
    similarity = structural_similarity(
        first, second, data_range=1.0, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(similarity)  # pyright: ignore[reportArgumentType]
