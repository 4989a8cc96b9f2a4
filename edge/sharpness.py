"""The focus measure: higher is sharper; it is independent of exposure and blind to what noise alone gives."""

from __future__ import annotations

import math

from edge.view import Float, Frame, View

_SIGMA_PX = 1.2
_SMALLEST_PX = 16


def light(frame: Frame | View, scale: float = 1.0) -> Float:
    """Luminance over background, ``(h, w)`` float32, of ``frame`` ``(H, W, 3)`` uint8, resampled."""
    return View.of(frame).at(scale, _SMALLEST_PX).light


def sharpness(frame: Frame | View, scale: float = 1.0) -> float:
    """Energy of the Laplacian of Gaussian (sigma 1.2 px at the model's sampling), less that of white noise;
    0 or more.

    The finest usable band: on simulated specimens that refract it peaks nearer to focus than coarser
    contrast, which peaks beside it (docs/decisions/0003).
    """
    import cv2

    sampled = View.of(frame).at(scale, _SMALLEST_PX)
    laplacian = cv2.Laplacian(cv2.GaussianBlur(sampled.light, (0, 0), _SIGMA_PX), cv2.CV_32F)
    # A Laplacian of Gaussian of sigma s keeps 1 / (2 pi s^6) of the variance of white noise.
    noise = sampled.noise**2 / (2 * math.pi * _SIGMA_PX**6)
    return max(0.0, cv2.norm(laplacian, cv2.NORM_L2SQR) / laplacian.size - noise)
