"""USB cameras and other Linux video devices (V4L2), by OpenCV.

**When a frame was exposed.** OpenCV hands on the driver's time stamp of each buffer (`CAP_PROP_POS_MSEC`),
which is of the machine's monotonic clock, the rig's. UVC stamps the start of the transfer, before which the
camera may have exposed the frame for a period, read it out for one and held it for one; others stamp the end
of the readout. So the start is taken three frame periods before the stamp. The period is the nominal one or
the last interval between two frames, whichever is longer, since cameras slow down in dim light. Some drivers
stamp when a frame is due, a little ahead of its arrival: by as much as that was seen to be, all stamps are
taken back.

A driver without such stamps is known by its first frame. Then all that is certain is that a buffer fills
after it was queued. There are ``n`` of them, in turn; so the frame that arrives now began to arrive after
the frame ``n`` before it was taken out. The start is three periods before that.

What OpenCV cannot tell: that the driver marked a buffer as damaged.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import re
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from edge.camera import video_device
from edge.camera.live import Image, LiveCamera, Shot, Wanted
from edge.errors import CameraError
from firmware_iface.clock import Clock

__all__ = ["OpenCvCamera", "Timing", "load_cv2", "rgb_of"]

log = logging.getLogger(__name__)

CAMERA_FRAMES = 3
"""Frame periods from the start of an exposure to that of its transfer: exposure, readout, one in store."""
SANE_S = 2.0
"""Time stamps are believed if the first lies no farther (s) before its frame's arrival, and at most a frame
period after it."""
MOST_BUFFERS = 10
"""What OpenCV uses at the most."""
_LOCK_FRAMES = 6
"""Frames that may still be on their way with the values of before."""
_UNIT_US = 100
"""V4L2 counts exposures in this many µs."""
_MANUAL_EXPOSURE = 1
_LOG_ERRORS = 2


def load_cv2() -> Any:
    """OpenCV, told to come back from a silent device every second, and to keep its warnings to itself."""
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")
    cv2: Any = importlib.import_module("cv2")
    if hasattr(cv2, "setLogLevel"):  # until OpenCV 4
        cv2.setLogLevel(_LOG_ERRORS)
    elif (its_log := getattr(getattr(cv2, "utils", None), "logging", None)) is not None:
        its_log.setLogLevel(_LOG_ERRORS)
    return cv2


def rgb_of(cv2: Any, picture: Image | None, size: tuple[int, int]) -> Image | None:
    """The middle of OpenCV's (H, W, 3) BGR ``picture``, ``size`` wide and high, as RGB in new memory."""
    if picture is None or picture.ndim != 3:
        return None
    (height, width), (wide, high) = picture.shape[:2], size
    if width < wide or height < high:
        return None
    x, y = (width - wide) // 2, (height - high) // 2
    return np.asarray(cv2.cvtColor(picture[y : y + high, x : x + wide], cv2.COLOR_BGR2RGB), np.uint8)


class Timing:
    """Exposure intervals from arrivals and time stamps, all in s of one clock; see the top of this file.

    ``buffers``: how many the driver fills in turn; ``opened_s``: an instant before the first was queued.
    """

    def __init__(self, period_s: float, buffers: int, opened_s: float) -> None:
        self._period_s = period_s
        self._taken_s = deque([opened_s] * buffers, maxlen=buffers)
        self._stamped: bool | None = None
        self._ahead_s = 0.0
        self._last_s: float | None = None

    def shot(self, stamp_s: float, arrived_s: float) -> Shot:
        """The interval of the frame that arrived now."""
        queued_s = self._taken_s[0]
        self._taken_s.append(arrived_s)
        ahead_s = stamp_s - arrived_s
        if self._stamped is None:
            self._stamped = -SANE_S <= ahead_s <= self._period_s
        if ahead_s <= self._period_s:
            self._ahead_s = max(self._ahead_s, ahead_s)
        seen_s = min(stamp_s - self._ahead_s, arrived_s) if self._stamped else arrived_s
        period_s = self._period_s
        if self._last_s is not None:
            period_s = max(period_s, seen_s - self._last_s)
        self._last_s = seen_s
        return Shot((seen_s if self._stamped else queued_s) - CAMERA_FRAMES * period_s, arrived_s)


class _Controls:
    """The driver's controls through OpenCV, and what they were before."""

    def __init__(self, capture: Any) -> None:
        self._capture = capture
        self._before: list[tuple[int, float]] = []

    def get(self, key: int) -> float | None:
        """Its value; None where the driver has no such control."""
        value = float(self._capture.get(key))
        return None if value < 0 else value

    def set(self, key: int, value: float) -> float | None:
        """Set it, and say what the driver made of it; None where it has no such control."""
        before = self.get(key)
        if before is None:
            return None
        self._before.append((key, before))
        self._capture.set(key, value)
        return self.get(key)

    def mark(self) -> int:
        """Where `restore` shall go back to."""
        return len(self._before)

    def restore(self, mark: int) -> None:
        """Undo what was set since ``mark``, the last one first."""
        while len(self._before) > mark:
            self._capture.set(*self._before.pop())


class OpenCvCamera(LiveCamera):
    """A USB camera. ``device``: its number, or a path. ``size``: width and height of the frames in pixels.

    A camera that has only larger pictures gives the middle of them, pixel for pixel. ``exposure_us`` and
    ``gain`` (in the driver's own numbers) are set while the camera is open; None leaves them as found, most
    often automatic. ``frame_period_s`` is a wish. What was changed is put back by `unlock` and `close`.

    BLOCKS for about 2 s. Raises CameraError, in one line with what to do, for a device that is missing, in
    use or forbidden, and for a size, exposure or gain that it has not. ``cv2`` stands in for OpenCV.
    """

    def __init__(
        self,
        clock: Clock,
        device: int | str = 0,
        *,
        size: tuple[int, int],
        exposure_us: int | None = None,
        gain: float | None = None,
        frame_period_s: float = 1 / 30,
        cv2: Any = None,
    ) -> None:
        self._path = video_device.path_of(device)
        super().__init__(clock, name=str(self._path), frame_period_s=frame_period_s)
        self._cv2 = cv2 or load_cv2()
        self._size = size
        self._locked: int | None = None
        opened_s = clock.now_s()
        self._capture = self._open()
        self._controls = _Controls(self._capture)
        try:
            self._set_format(frame_period_s)
            self._set_exposure(exposure_us, gain)
            buffers = int(self._capture.get(self._cv2.CAP_PROP_BUFFERSIZE))
            self._timing = Timing(self._period_s, buffers if buffers > 0 else MOST_BUFFERS, opened_s)
        except BaseException:
            self._release()
            raise
        self._start()

    def _open(self) -> Any:
        video_device.probe(self._path)
        # OpenCV 5 opens by number alone.
        device = Path(os.path.realpath(self._path))
        number = re.fullmatch(r"/dev/video(\d+)", str(device))
        capture = self._cv2.VideoCapture(int(number[1]) if number else str(device), self._cv2.CAP_V4L2)
        if not capture.isOpened():
            capture.release()
            users = video_device.users_of(self._path)
            raise CameraError(
                f"{self.name}: in use by {users}"
                if users
                else f"{self.name}: gives no pictures that OpenCV can read, or is in use; many cameras have"
                " several devices, of which only the first gives pictures"
            )
        # Controls in the driver's own numbers, not as shares of their range.
        capture.set(self._cv2.CAP_PROP_MODE, 0)
        return capture

    def _set_format(self, frame_period_s: float) -> None:
        cv2, capture = self._cv2, self._capture
        wide, high = self._size
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, wide)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, high)
        given = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if given[0] < wide or given[1] < high:
            raise CameraError(
                f"{self.name}: has no pictures of {wide} x {high} pixels; its nearest are"
                f" {given[0]} x {given[1]}"
            )
        capture.set(cv2.CAP_PROP_FPS, max(1, round(1 / frame_period_s)))
        rate_hz = float(capture.get(cv2.CAP_PROP_FPS))
        if math.isfinite(rate_hz) and rate_hz > 0:
            self._period_s = 1 / rate_hz

    def _set_exposure(self, exposure_us: int | None, gain: float | None) -> None:
        cv2, controls = self._cv2, self._controls
        if exposure_us is not None or gain is not None:
            controls.set(cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL_EXPOSURE)
        if exposure_us is not None:
            units = max(1, round(exposure_us / _UNIT_US))
            made = controls.set(cv2.CAP_PROP_EXPOSURE, units)
            self._check_set("exposure_us", exposure_us, units, made, _UNIT_US)
        if gain is not None:
            self._check_set("gain", gain, gain, controls.set(cv2.CAP_PROP_GAIN, gain), 1)

    def _check_set(self, key: str, asked: float, units: float, made: float | None, unit: int) -> None:
        if made is None:
            raise CameraError(f"{self.name}: {key} = {asked:g}: the camera has no such control; leave it out")
        if abs(made - units) > max(0.5, 0.1 * units):
            raise CameraError(f"{self.name}: {key} = {asked:g}: the camera makes {made * unit:g} of it")

    def _read(self, wanted: Wanted) -> tuple[Shot, Image | None] | None:
        capture = self._capture
        if not capture.grab():
            if not self._path.exists():
                raise CameraError(f"{self.name}: unplugged")
            return None
        shot = self._timing.shot(capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000, self._clock.now_s())
        if not wanted(shot):
            return shot, None
        good, picture = capture.retrieve()
        return shot, rgb_of(self._cv2, picture, self._size) if good else None

    def _hold(self) -> None:
        if self._locked is not None:
            return
        cv2, controls = self._cv2, self._controls
        self._locked = controls.mark()
        for automatic, off, keys in (
            (cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL_EXPOSURE, (cv2.CAP_PROP_EXPOSURE, cv2.CAP_PROP_GAIN)),
            (cv2.CAP_PROP_AUTO_WB, 0, (cv2.CAP_PROP_WB_TEMPERATURE,)),
            (cv2.CAP_PROP_AUTOFOCUS, 0, (cv2.CAP_PROP_FOCUS,)),
        ):
            if controls.get(automatic) in (None, off):
                continue
            # Once switched to manual, some cameras go back to the manual values of long ago.
            found = [(key, controls.get(key)) for key in keys]
            if controls.set(automatic, off) != off:
                log.warning("%s: its driver does not let an automatic be switched off", self.name)
                continue
            for key, value in found:
                if value is not None:
                    controls.set(key, value)
        for _ in range(_LOCK_FRAMES):
            self._take(lambda _: False)

    def _let_go(self) -> None:
        if self._locked is not None:
            self._controls.restore(self._locked)
            self._locked = None

    def _release(self) -> None:
        try:
            self._controls.restore(0)
        finally:
            self._capture.release()
