"""What goes wrong on real microscopes, one at a time, for the bench to see what each strategy makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge.camera.base import Camera, Frame

__all__ = ["FAULTS", "Fault", "FaultyCamera", "fault"]

Fault = Literal[
    "none", "missed steps", "drift", "dust", "lamp flicker", "exposure change", "bubble", "empty field"
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
#: Depths of field a second, as of a microscope that was just switched on.
_DRIFT_DOF_S = 0.05
_SPECKS, _SPECK_PX = 40, (1.5, 5.0)
_FLICKER = 0.06
_BRIGHTER = 0.75


@dataclass(frozen=True)
class _About:
    drift_dof_s: float = 0.0
    changes_frames: bool = False


def fault(name: Fault) -> _About:
    """What ``name`` does to drift and frames; missed steps and an empty field are made elsewhere."""
    if name == "drift":
        return _About(drift_dof_s=_DRIFT_DOF_S)
    return _About(changes_frames=name in ("dust", "lamp flicker", "exposure change", "bubble"))


class FaultyCamera(Camera):
    """``camera`` with a fault that shows in its frames.

    Dust: dark specks on the sensor's window, as sharp in every frame. Lamp flicker: each frame is brighter or
    darker by some per cent. Exposure change: from the second motion on all is darker by a quarter (a cloud
    before the window; somebody turned the lamp). Bubble: a disc as large as a third of the field, empty and
    with a dark rim, which does not come into focus with the specimen.
    """

    def __init__(self, camera: Camera, name: Fault, rng: np.random.Generator) -> None:
        self._camera, self._name, self._rng = camera, name, rng
        self._mask: NDArray[np.float32] | None = None
        self._first_s: float | None = None

    @property
    def frame_period_s(self) -> float:
        return self._camera.frame_period_s

    def capture(self, not_before_s: float) -> Frame:
        frame = self._camera.capture(not_before_s)
        if self._first_s is None:
            self._first_s = frame.exposure_start_s
        image = self._changed(frame.image, frame.exposure_start_s - self._first_s)
        return Frame(image, frame.exposure_start_s, frame.exposure_end_s, frame.sequence)

    def lock(self) -> None:
        self._camera.lock()

    def unlock(self) -> None:
        self._camera.unlock()

    def close(self) -> None:
        self._camera.close()

    def _changed(self, image: NDArray[np.uint8], since_s: float) -> NDArray[np.uint8]:
        if self._name == "lamp flicker":
            factor: float | NDArray[np.float32] = 1 + _FLICKER * float(self._rng.uniform(-1, 1))
        elif self._name == "exposure change":
            factor = 1.0 if since_s < 0.3 else _BRIGHTER
        else:
            if self._mask is None:
                self._mask = (self._specks if self._name == "dust" else self._bubble)(image.shape[:2])
            factor = self._mask[:, :, None]
        if self._name == "bubble":
            # Inside there is mounting medium's background, no specimen.
            assert self._mask is not None
            background = np.percentile(image[::3, ::3].reshape(-1, 3), 98, axis=0)
            inside = self._inside[:, :, None]
            out = np.where(inside, background * factor, image * factor)
        else:
            out = image * factor
        return np.asarray(np.clip(out, 0, 255), np.uint8)

    def _specks(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        mask = np.ones(shape[:2], np.float32)
        for _ in range(_SPECKS):
            y, x = self._rng.uniform(0, shape[0]), self._rng.uniform(0, shape[1])
            radius = self._rng.uniform(*_SPECK_PX)
            mask[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = self._rng.uniform(0.3, 0.8)
        return mask

    def _bubble(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        radius = 0.33 * min(shape[:2])
        y, x = self._rng.uniform(0.3, 0.7, 2) * shape[:2]
        distance = np.hypot(rows - y, columns - x)
        self._inside = distance < radius
        rim = 0.7 * np.exp(-(((distance - radius) / (0.06 * radius)) ** 2))
        return np.asarray(1 - rim, np.float32)
