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

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Frame = NDArray[np.uint8]

#: Contrast (standard deviation over background) below which a tile is not stretched further.
CONTRAST_FLOOR = 0.03
#: Tiles reach from -1 to 1 at this many standard deviations.
SIGMAS_FULL_SCALE = 4.0
#: A tile is informative when its band-passed contrast is this many times that of the noise ...
NOISE_FACTOR = 2.0
#: ... and at least this share of the background.
CONTRAST_MIN = 0.004
_FINE_SIGMA_PX, _COARSE_SIGMA_PX = 2.0, 14.0
_NOISE_PX = 512


@dataclass(frozen=True)
class TileSet:
    """Tiles of one frame, the most informative first.

    ``pixels``: ``(N, S, S, 3)`` float32 in -1 to 1 (raw ones from -1.008). ``information``: ``(N,)`` float32
    band-passed contrast over the threshold, 1 or more unless ``at_least`` kept a tile. ``corners``:
    ``(N, 2)`` int64 (row, column) in the resampled frame. N is 0 for an empty field.
    """

    pixels: Float
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
    frame: Frame, scale: float, *, size_px: int, most: int, raw: bool = False, at_least: int = 0
) -> TileSet:
    """The at most ``most`` informative tiles of ``frame`` ``(H, W, 3)`` uint8 RGB. Pure.

    ``scale``: `edge.optics.Optics.model_scale`. ``raw`` leaves step 4 out: pixels are (byte - 128) / 127, for
    networks with a preprocessing of their own. ``at_least``: tiles kept however little they show. Raises
    ValueError for a frame of another shape or dtype.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"frame {frame.shape} {frame.dtype}: (H, W, 3) uint8 is needed")
    image = resample(frame, scale, size_px)
    background = np.maximum(background_of(image), 1.0)
    corners = _grid(image.shape[0], image.shape[1], size_px)
    noise = noise_sigma(_brightness(_middle(frame), background))
    information = _information(_brightness(image, background), noise, scale, corners, size_px)
    best = np.argsort(-information, kind="stable")[:most]
    order = [int(k) for place, k in enumerate(best) if information[k] >= 1.0 or place < at_least]
    cut = [image[y : y + size_px, x : x + size_px] for y, x in corners[order]]
    tiles = [_raw(tile) if raw else _normalise(tile, background) for tile in cut]
    empty = np.zeros((0, size_px, size_px, 3), np.float32)
    return TileSet(np.stack(tiles) if tiles else empty, information[order], corners[order])


def background_of(image: Frame) -> Float:
    """The 98th percentile of each channel, ``(3,)`` float32, of every third pixel of ``(H, W, 3)`` uint8."""
    return np.asarray(np.percentile(image[::3, ::3].reshape(-1, 3), 98, axis=0), np.float32)


def quantize(tiles: Float, scale: float, zero_point: int) -> NDArray[np.int8]:
    """Tiles in -1 to 1 as the int8 input of a model with that scale and zero point; saturates at the ends."""
    return np.asarray(np.clip(np.rint(tiles / np.float32(scale)) + zero_point, -128, 127), np.int8)


def _grid(height: int, width: int, size: int) -> NDArray[np.int64]:
    """Corners ``(N, 2)`` (row, column) of as many tiles as fit side by side, spread over the whole frame."""
    rows, columns = _starts(height, size), _starts(width, size)
    return np.array([(y, x) for y in rows for x in columns], np.int64)


def _starts(length: int, size: int) -> list[int]:
    count = length // size
    if count <= 1:
        return [(length - size) // 2]
    return [round(start) for start in np.linspace(0, length - size, count).tolist()]


def _brightness(image: Frame, background: Float) -> Float:
    """Mean of the channels over background, ``(H, W)`` float32."""
    return _mean_of_channels(image.astype(np.float32), np.asarray(1 / background, np.float32))


def _mean_of_channels(image: Float, weights: Float) -> Float:
    """Mean of the channels of ``(H, W, 3)`` float32 times ``weights`` ``(3,)``; by NumPy far slower."""
    import cv2

    return np.asarray(cv2.transform(image, (weights / 3)[None, :]), np.float32)


def _middle(frame: Frame) -> Frame:
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
    return np.array([band[y : y + size, x : x + size].std() / threshold for y, x in corners], np.float32)


def _quadratic(image: Float) -> Float:
    """The quadratic in x and y nearest to ``(H, W)``: vignetting, a lamp off axis; nothing to focus on."""
    x = np.linspace(-1, 1, image.shape[1], dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, image.shape[0], dtype=np.float32)[:, None]
    powers = (np.ones_like(x), x, y, x * x, x * y, y * y)
    terms = np.stack([np.broadcast_to(power, image.shape).ravel() for power in powers], axis=1)
    terms = terms.astype(np.float64)
    factors = np.linalg.lstsq(terms.T @ terms, terms.T @ image.ravel(), rcond=None)[0]
    return np.asarray((terms @ factors).reshape(image.shape), np.float32)


def noise_sigma(light: Float) -> float:
    """Standard deviation of white noise in ``(H, W)`` float32, from the median of a second difference.

    The difference is taken in x, then in y; H and W are 3 or more. After Immerkaer, Computer Vision and Image
    Understanding 64, 1996, with the median (robust against edges) for the mean.
    """
    d = light[:, 2:] - 2 * light[:, 1:-1] + light[:, :-2]
    d = d[2:] - 2 * d[1:-1] + d[:-2]
    return float(np.median(np.abs(d)) / 0.6745 / 6.0)


def _raw(tile: Frame) -> Float:
    return (tile.astype(np.float32) - 128) / np.float32(127)


def _normalise(tile: Frame, background: Float) -> Float:
    """``tile`` over ``background``, without its mean, `SIGMAS_FULL_SCALE` deviations of brightness to 1."""
    import cv2

    relative = np.asarray(tile / background, np.float32)
    relative -= np.asarray(cv2.mean(relative)[:3], np.float32)
    contrast = max(float(_mean_of_channels(relative, np.ones(3, np.float32)).std()), CONTRAST_FLOOR)
    relative *= np.float32(1 / (SIGMAS_FULL_SCALE * contrast))
    return np.asarray(np.clip(relative, -1, 1, out=relative))
