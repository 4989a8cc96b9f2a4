"""From light to bytes: exposure, vignetting, shot and read noise, white balance, gamma, 8 bits, perhaps JPEG.

Noise is drawn once into a pool and read from a random offset for each frame, so that a capture stays near a
millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

_LEVELS = 4096  # entries of the gamma table
_SLIP = 64  # pixels by which the noise pool is larger than a frame


@dataclass(frozen=True)
class Sensor:
    """A colour camera with fixed exposure.

    ``background``: the empty field's share of full scale, 0.05 to 1 (more saturates). ``full_well_e``,
    ``read_noise_e``: electrons. ``gamma``: encoding exponent (2.2 for video, 1 for raw). ``white_balance``:
    gains of red, green, blue. ``vignetting``: share of light lost in the corners. ``grey``: a monochrome
    camera. ``jpeg_quality``: 0 for none.
    """

    background: float = 0.75
    full_well_e: float = 6000.0
    read_noise_e: float = 4.0
    gamma: float = 2.2
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    vignetting: float = 0.08
    grey: bool = False
    jpeg_quality: int = 0

    @classmethod
    def random(cls, rng: np.random.Generator) -> Sensor:
        """One camera from the span of cheap ones."""
        return cls(
            background=float(rng.uniform(0.45, 0.9)),
            full_well_e=float(np.exp(rng.uniform(np.log(1500), np.log(20000)))),
            read_noise_e=float(rng.uniform(2, 12)),
            gamma=float(rng.choice([1.0, 1.8, 2.2, 2.2, 2.4])),
            white_balance=(float(rng.uniform(0.8, 1.1)), 1.0, float(rng.uniform(0.75, 1.1))),
            vignetting=float(rng.uniform(0, 0.25)),
            grey=bool(rng.random() < 0.15),
            jpeg_quality=int(rng.integers(75, 96)) if rng.random() < 0.25 else 0,
        )


class Exposer:
    """A sensor of one frame size with its noise pool; ``expose`` turns linear intensity into a frame."""

    def __init__(self, sensor: Sensor, shape: tuple[int, int], rng: np.random.Generator) -> None:
        self.sensor, self._rng = sensor, rng
        height, width = shape
        self._noise = rng.standard_normal((height + _SLIP, width + _SLIP, 3), dtype=np.float32)
        yy, xx = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
        falloff = 1 - sensor.vignetting * (yy**2 + xx**2) / 2
        gains = np.asarray(sensor.white_balance) * sensor.background * (_LEVELS - 1)
        self._gain = (falloff[:, :, None] * gains).astype(np.float32)
        levels = np.linspace(0, 1, _LEVELS)
        self._table = np.round(255 * levels ** (1 / sensor.gamma)).astype(np.uint8)

    def expose(self, intensity: Float) -> NDArray[np.uint8]:
        """``(H, W, 3)`` uint8 RGB of ``intensity`` ``(H, W, 3)`` float32, 1 for the empty field."""
        height, width = intensity.shape[:2]
        y, x = self._rng.integers(0, _SLIP, 2)
        noise = self._noise[y : y + height, x : x + width]
        electrons_per_level = self.sensor.full_well_e / (_LEVELS - 1)
        signal = intensity * self._gain
        read_variance = np.float32((self.sensor.read_noise_e / electrons_per_level) ** 2)
        variance = signal / np.float32(electrons_per_level) + read_variance
        signal += noise * np.sqrt(np.maximum(variance, 0, out=variance), out=variance)
        np.clip(signal, 0, _LEVELS - 1, out=signal)
        frame = self._table[signal.astype(np.uint16)]
        if self.sensor.grey:
            frame = np.repeat(frame.mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)
        return _jpeg(frame, self.sensor.jpeg_quality) if self.sensor.jpeg_quality else frame


def _jpeg(frame: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    import cv2

    _, coded = cv2.imencode(".jpg", frame[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[:, :, ::-1])
