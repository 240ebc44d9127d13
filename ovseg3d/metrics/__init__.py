"""Measures of what a run got right."""

from ovseg3d.metrics.depth import DepthErrors, depth_errors
from ovseg3d.metrics.image import psnr, ssim

__all__ = ["DepthErrors", "depth_errors", "psnr", "ssim"]
