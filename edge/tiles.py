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
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Frame = NDArray[np.uint8]
Scalar = TypeVar("Scalar", np.uint8, np.float32)

#: Contrast (standard deviation over background) below which a tile is not stretched further.
CONTRAST_FLOOR = 0.03
#: Tiles reach from -1 to 1 at this many standard deviations.
SIGMAS_FULL_SCALE = 4.0
#: A tile is informative when its band-passed contrast is this many times that of the noise ...
NOISE_FACTOR = 2.0
#: ... and at least this share of the background.
CONTRAST_MIN = 0.004
#: What each byte of each channel becomes without step 4.
_RAW = np.repeat((np.arange(256, dtype=np.float32) - 128)[:, None] / np.float32(127), 3, axis=1)
_FINE_SIGMA_PX, _COARSE_SIGMA_PX = 2.0, 14.0
#: Noise is measured in the middle of a frame, of at most this size.
_NOISE_PX = 256


@dataclass(frozen=True)
class TileSet:
    """Tiles of one frame, the most informative first.

    ``pixels``: ``(N, S, S, 3)`` float32 in -1 to 1 (raw ones from -1.008), or int8 of these. ``information``:
    ``(N,)`` float32 band-passed contrast over the threshold, 1 or more unless ``at_least`` kept a tile.
    ``corners``: ``(N, 2)`` int64 (row, column) in the resampled frame. N is 0 for an empty field.
    """

    pixels: NDArray[Any]
    information: Float
    corners: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pixels)


def resample(frame: Frame, scale: float, smallest_px: int) -> Frame:
    """``frame`` ``(H, W, 3)`` uint8 at ``scale`` times its size; mirrored where smaller than ``smallest_px``.

    A scale within 2 % of 1 leaves the size as it is. Raises ValueError when ``scale`` is not above 0.
    """
    import cv2

    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale = {scale}: a factor above 0 is allowed")
    out = frame
    if abs(scale - 1) > 0.02:
        size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        out = np.asarray(cv2.resize(frame, size, interpolation=method), np.uint8)
    pad_y, pad_x = max(0, smallest_px - out.shape[0]), max(0, smallest_px - out.shape[1])
    return np.pad(out, ((0, pad_y), (0, pad_x), (0, 0)), mode="symmetric") if pad_y or pad_x else out


def extract(
    frame: Frame,
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

    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"frame {frame.shape} {frame.dtype}: (H, W, 3) uint8 is needed")
    image = resample(frame, scale, size_px)
    background = np.maximum(background_of(image), 1.0)
    corners = _grid(image.shape[0], image.shape[1], size_px)
    light = brightness(image, background)
    noise = noise_sigma(light if image is frame else brightness(_middle(frame), background))
    information = _information(light, noise, scale, corners, size_px)
    best = np.argsort(-information, kind="stable")[:most]
    order = [int(k) for place, k in enumerate(best) if information[k] >= 1.0 or place < at_least]
    cut = [np.s_[y : y + size_px, x : x + size_px] for y, x in corners[order]]
    pixels = np.empty((len(cut), size_px, size_px, 3), np.float32 if int8 is None else np.int8)
    for pixel, at in zip(pixels, cut, strict=True):
        table = _RAW if raw else _normalised(image[at], light[at], background)
        cv2.LUT(image[at], (table if int8 is None else quantize(table, *int8))[None], dst=pixel)
    return TileSet(pixels, information[order], corners[order])


def background_of(image: Frame) -> Float:
    """The 98th percentile of each channel, ``(3,)`` float32, of every third pixel of ``(H, W, 3)`` uint8."""
    return np.array(
        [_percentile(channel, 0.98) for channel in np.moveaxis(image[::3, ::3], 2, 0)], np.float32
    )


def _percentile(values: Frame, share: float) -> float:
    """What ``numpy.percentile`` gives for uint8, by counting instead of sorting."""
    up_to = np.cumsum(np.bincount(values.ravel(), minlength=256))
    place = share * (values.size - 1)
    low, high = np.searchsorted(up_to, [math.floor(place), math.ceil(place)], side="right").tolist()
    return float(low + (high - low) * (place - math.floor(place)))


def quantize(tiles: Float, scale: float, zero_point: int) -> NDArray[np.int8]:
    """Tiles in -1 to 1 as the int8 input of a model with that scale and zero point; saturates at its ends."""
    steps = tiles / np.float32(scale)
    np.rint(steps, out=steps)
    steps += np.float32(zero_point)
    return np.clip(steps, -128, 127, out=steps).astype(np.int8)


def _grid(height: int, width: int, size: int) -> NDArray[np.int64]:
    """Corners ``(N, 2)`` (row, column) of as many tiles as fit side by side, spread over the whole frame."""
    rows, columns = _starts(height, size), _starts(width, size)
    return np.array([(y, x) for y in rows for x in columns], np.int64)


def _starts(length: int, size: int) -> list[int]:
    count = length // size
    if count <= 1:
        return [(length - size) // 2]
    return [round(start) for start in np.linspace(0, length - size, count).tolist()]


def brightness(image: Frame, background: Float) -> Float:
    """Mean of the channels of ``(H, W, 3)`` uint8 over ``background`` ``(3,)``, ``(H, W)`` float32."""
    import cv2

    # By NumPy far slower.
    return np.asarray(cv2.transform(image.astype(np.float32), (1 / (3 * background))[None, :]), np.float32)


def _middle(frame: NDArray[Scalar]) -> NDArray[Scalar]:
    """The middle of a frame, at most `_NOISE_PX` to a side: enough to measure its noise."""
    top, left = (max(0, (length - _NOISE_PX) // 2) for length in frame.shape[:2])
    return frame[top : top + _NOISE_PX, left : left + _NOISE_PX]


def _information(light: Float, noise: float, scale: float, corners: NDArray[np.int64], size: int) -> Float:
    """Band-passed contrast of each tile over the threshold of noise and `CONTRAST_MIN`, ``(N,)`` float32.

    ``noise``: standard deviation in the frame before it was resampled by ``scale``, where it is still white.
    """
    import cv2

    shape = (light.shape[1], light.shape[0])
    fine = cv2.GaussianBlur(light, (0, 0), _FINE_SIGMA_PX)
    # The coarse mean is taken at a quarter of the size: 16 times fewer pixels, a 4 times smaller kernel.
    small = np.asarray(cv2.resize(fine, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), np.float32)
    shading = _quadratic(small)
    coarse = shading + cv2.GaussianBlur(small - shading, (0, 0), _COARSE_SIGMA_PX / 4)
    band = fine - cv2.resize(coarse, shape)
    # White noise through a Gaussian of sigma s (in the frame's pixels) keeps 1 / (2 sqrt(pi) s) of itself.
    kept = min(1.0, scale / (2 * math.sqrt(math.pi) * _FINE_SIGMA_PX))
    threshold = max(CONTRAST_MIN, NOISE_FACTOR * noise * kept)
    return np.array(
        [_deviation(band[y : y + size, x : x + size]) / threshold for y, x in corners], np.float32
    )


def _deviation(values: Float) -> float:
    """Standard deviation of ``(H, W)`` float32, in float64; by NumPy slower."""
    import cv2

    return float(cv2.meanStdDev(values)[1][0, 0])


def _quadratic(image: Float) -> Float:
    """The quadratic in x and y nearest to ``(H, W)``: vignetting, a lamp off axis; nothing to focus on."""
    terms, inverse = _powers(*image.shape)
    return np.asarray((terms @ (inverse @ image.ravel())).reshape(image.shape), np.float32)


@lru_cache(maxsize=4)
def _powers(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """1, x, y, x², xy, y² at each pixel, ``(H W, 6)``, and the pseudo-inverse of that, ``(6, H W)``."""
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    powers = (np.ones_like(x), x, y, x * x, x * y, y * y)
    terms = np.stack([np.broadcast_to(power, (height, width)).ravel() for power in powers], axis=1)
    terms = terms.astype(np.float64)
    return terms, np.linalg.solve(terms.T @ terms, terms.T)


def noise_sigma(light: Float) -> float:
    """Standard deviation of white noise in ``(H, W)`` float32, from the median of a second difference.

    The difference is taken in x, then in y; H and W are 3 or more. After Immerkaer, Computer Vision and Image
    Understanding 64, 1996, with the median (robust against edges) for the mean, of every fourth pixel of the
    middle.
    """
    import cv2

    second = np.array([1.0, -2.0, 1.0])
    d = cv2.sepFilter2D(_middle(light), cv2.CV_32F, second, second)[1:-1:2, 1:-1:2]
    return float(_median(np.abs(d)) / 0.6745 / 6.0)


def _median(values: Float) -> np.float32:
    """``numpy.median`` of finite values. That one looks for NaN, and loads all of ``numpy.ma`` to do so."""
    flat = values.ravel()
    low, high = (flat.size - 1) // 2, flat.size // 2
    parted = np.partition(flat, (low, high))
    return np.float32((parted[low] + parted[high]) / 2)


def _normalised(tile: Frame, light: Float, background: Float) -> Float:
    """What each byte of a channel of ``tile`` becomes, ``(256, 3)``: over ``background``, without its mean,
    `SIGMAS_FULL_SCALE` deviations of its ``light`` to 1.
    """
    import cv2

    contrast = max(_deviation(light), CONTRAST_FLOOR)
    relative = (np.arange(256.0)[:, None] - cv2.mean(tile)[:3]) / (background * SIGMAS_FULL_SCALE * contrast)
    return np.asarray(np.clip(relative, -1, 1), np.float32)
