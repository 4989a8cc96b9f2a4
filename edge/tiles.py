"""Frame to informative tiles at the model's sampling: the one preprocessing, on the device and for training.

1. Resample so that ``wavelength / NA`` is `edge.optics.PIXELS_PER_RESOLUTION` pixels: one model serves
   every objective.
2. Cut a grid of square tiles; score each by its band-passed contrast over what noise alone would give.
3. Keep the best. None above the threshold means an empty field.
4. Divide by the background (98th percentile of each channel of the frame: exposure and white balance drop
   out), take the tile's mean off, and divide by its contrast: what remains is shape, which is what defocus
   changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.view import Float, Frame, View, brightness, middle, noise_sigma

Double = NDArray[np.float64]

#: Contrast (standard deviation over background) below which a tile is not stretched further.
CONTRAST_FLOOR = 0.03
#: Tiles reach from -1 to 1 at this many standard deviations.
SIGMAS_FULL_SCALE = 4.0
#: A tile is informative when its band-passed contrast is this many times that of the noise ...
NOISE_FACTOR = 2.0
#: ... and at least this share of the background.
CONTRAST_MIN = 0.004
#: What noise alone comes to, over that threshold, and the least that is told apart from it.
_NOISE_ALONE, _LEAST_CONTRAST = 0.4, 0.2
#: What each byte of each channel becomes without step 4.
_RAW = np.repeat((np.arange(256, dtype=np.float32) - 128)[:, None] / np.float32(127), 3, axis=1)
_FINE_SIGMA_PX, _COARSE_SIGMA_PX = 2.0, 14.0


@dataclass(frozen=True)
class TileSet:
    """Tiles of one frame, the most informative first.

    ``pixels``: ``(N, S, S, 3)`` float32 in -1 to 1 (raw ones from -1.008), or int8 of these. ``information``:
    ``(N,)`` float32 band-passed contrast over the threshold, 1 or more unless ``at_least`` kept a tile.
    ``corners``: ``(N, 2)`` int64 (row, column) in the resampled frame. N is 0 for an empty field.
    ``contrast``: natural log of the band-passed contrast of the whole frame over the threshold, noise taken
    off; a blank frame has one, too.
    """

    pixels: NDArray[Any]
    information: Float
    corners: NDArray[np.int64]
    contrast: float

    def __len__(self) -> int:
        return len(self.pixels)


def extract(
    frame: Frame | View,
    scale: float,
    *,
    size_px: int,
    most: int,
    raw: bool = False,
    at_least: int = 0,
    int8: tuple[float, int] | None = None,
) -> TileSet:
    """The at most ``most`` informative tiles of ``frame`` ``(H, W, 3)`` uint8 RGB. Pure.

    ``scale``: `edge.optics.Optics.model_scale`. ``raw`` leaves step 4 out: pixels are (byte - 128) / 127, for
    networks with a preprocessing of their own. ``at_least``: tiles kept however little they show. ``int8``:
    scale and zero point of a network's input, for pixels as `quantize` makes them. Raises ValueError for a
    frame of another shape or dtype.
    """
    import cv2

    view = View.of(frame)
    sampled = view.at(scale, size_px)
    image, light, background = sampled.image, sampled.light, sampled.background
    corners = _grid(image.shape[0], image.shape[1], size_px)
    resampled = image is not view.frame
    noise = noise_sigma(brightness(middle(view.frame), background)) if resampled else sampled.noise
    information = _information(light, noise, scale, corners, size_px)
    best = np.argsort(-information, kind="stable")[:most]
    order = [int(k) for place, k in enumerate(best) if information[k] >= 1.0 or place < at_least]
    cut = [np.s_[y : y + size_px, x : x + size_px] for y, x in corners[order]]
    tables = np.repeat(_RAW[None], len(cut), 0) if raw else _normalised(image, light, background, cut)
    if int8 is not None:
        tables = quantize(tables, *int8)
    pixels = np.empty((len(cut), size_px, size_px, 3), tables.dtype)
    for pixel, at, table in zip(pixels, cut, tables, strict=True):
        cv2.LUT(image[at], table[None], dst=pixel)
    return TileSet(pixels, information[order], corners[order], _contrast(information))


def quantize(tiles: Float, scale: float, zero_point: int) -> NDArray[np.int8]:
    """Tiles in -1 to 1 as the int8 input of a model with that scale and zero point; saturates at its ends."""
    steps = tiles / np.float32(scale)
    np.rint(steps, out=steps)
    steps += np.float32(zero_point)
    return np.clip(steps, -128, 127, out=steps).astype(np.int8)


def _contrast(information: Float) -> float:
    """`TileSet.contrast` of what all tiles show."""
    power = float(np.mean(np.square(information, dtype=np.float64)))
    return 0.5 * math.log(max(power - _NOISE_ALONE**2, _LEAST_CONTRAST**2))


@lru_cache(maxsize=4)
def _grid(height: int, width: int, size: int) -> NDArray[np.int64]:
    """Corners ``(N, 2)`` (row, column) of as many tiles as fit side by side, spread over the whole frame; not
    to be written to.
    """
    rows, columns = _starts(height, size), _starts(width, size)
    return np.array([(y, x) for y in rows for x in columns], np.int64)


def _starts(length: int, size: int) -> list[int]:
    count = length // size
    if count <= 1:
        return [(length - size) // 2]
    return [round(start) for start in np.linspace(0, length - size, count).tolist()]


def _information(light: Float, noise: float, scale: float, corners: NDArray[np.int64], size: int) -> Float:
    """Band-passed contrast of each tile over the threshold of noise and `CONTRAST_MIN`, ``(N,)`` float32.

    ``noise``: standard deviation in the frame before it was resampled by ``scale``, where it is still white.
    """
    import cv2

    # The fine mean is taken at half of the size, the coarse one at a quarter: fewer pixels, smaller kernels.
    # A mean over 2 x 2 pixels has a variance of its own, 1/4 px² to each side.
    half = _halved(light)
    fine = np.asarray(cv2.GaussianBlur(half, (0, 0), math.sqrt(_FINE_SIGMA_PX**2 - 0.25) / 2), np.float32)
    small = _halved(fine)
    shading = _quadratic(small)
    coarse = shading + cv2.GaussianBlur(small - shading, (0, 0), _COARSE_SIGMA_PX / 4)
    band = fine - cv2.resize(coarse, (half.shape[1], half.shape[0]))
    # White noise through a Gaussian of sigma s (in the frame's pixels) keeps 1 / (2 sqrt(pi) s) of itself.
    kept = min(1.0, scale / (2 * math.sqrt(math.pi) * _FINE_SIGMA_PX))
    threshold = max(CONTRAST_MIN, NOISE_FACTOR * noise * kept)
    inside = [band[y // 2 : (y + size) // 2, x // 2 : (x + size) // 2] for y, x in corners]
    return np.array([_deviation(tile) / threshold for tile in inside], np.float32)


def _halved(image: Float) -> Float:
    import cv2

    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)


def _deviation(values: Float) -> float:
    """Standard deviation of ``(H, W)`` float32, in float64; by NumPy, and by meanStdDev, slower."""
    import cv2

    mean = cv2.sumElems(values)[0] / values.size
    return math.sqrt(max(0.0, cv2.norm(values, cv2.NORM_L2SQR) / values.size - mean * mean))


def _quadratic(image: Float) -> Float:
    """The quadratic in x and y nearest to ``(H, W)``: vignetting, a lamp off axis; nothing to focus on."""
    down, along, inverse = _powers(*image.shape)
    coefficients = np.zeros((3, 3))
    coefficients[_UPPER] = inverse @ (down.T @ image @ along)[_UPPER]
    return np.asarray(down @ coefficients @ along.T, np.float32)


#: Powers of y and x whose sum is 2 at the most.
_UPPER = (np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 0, 1, 0]))


@lru_cache(maxsize=4)
def _powers(height: int, width: int) -> tuple[Double, Double, Double]:
    """1, y, y² ``(H, 3)``; 1, x, x² ``(W, 3)``; inverse of their products' normal matrix, ``(6, 6)``."""
    down, along = (np.vander(np.linspace(-1, 1, count), 3, increasing=True) for count in (height, width))
    y, x = _UPPER
    normal = (down.T @ down)[np.ix_(y, y)] * (along.T @ along)[np.ix_(x, x)]
    return down, along, np.linalg.inv(normal)


def _normalised(image: Frame, light: Float, background: Float, cut: Sequence[Any]) -> Float:
    """What each byte of a channel of each tile becomes, ``(tiles, 256, 3)``: over ``background``, without the
    tile's mean, `SIGMAS_FULL_SCALE` deviations of its ``light`` to 1.
    """
    import cv2

    # OpenCV's `mean` takes four times as long.
    sums = np.array([cv2.sumElems(image[at])[:3] for at in cut]).reshape(-1, 1, 3)
    mean = sums / np.array([light[at].size for at in cut]).reshape(-1, 1, 1)
    contrast = [max(_deviation(light[at]), CONTRAST_FLOOR) for at in cut]
    full_scale = background * np.float32(SIGMAS_FULL_SCALE) * np.array(contrast, np.float32)[:, None, None]
    relative = (np.arange(256.0)[:, None] - mean) / full_scale
    return np.asarray(np.clip(relative, -1, 1), np.float32)
