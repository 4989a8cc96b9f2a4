"""A V4L2 camera behind a stand-in for OpenCV: buffers that fill in turn, on a given clock.

The camera exposes a frame, reads it out and holds it, each for almost a frame period, then sends it. It
begins to send into a buffer that is queued, or drops the frame. Time stamps are of the start of the transfer,
as the UVC driver has them. Those of when a frame is due lie after its arrival, as `vivid` has them; with them
goes a camera that holds no frame. Constants, and what is no business of a camera, are OpenCV's own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from firmware_iface.clock import Clock

PERIOD_S = 1 / 30
SEND_S = 0.4 * PERIOD_S
#: From the start of the exposure to that of the transfer: as long as the driver's user must reckon with.
INSIDE_S = 2.999 * PERIOD_S

MANUAL = {
    cv2.CAP_PROP_EXPOSURE: cv2.CAP_PROP_AUTO_EXPOSURE,
    cv2.CAP_PROP_WB_TEMPERATURE: cv2.CAP_PROP_AUTO_WB,
}


@dataclass
class Video:
    """The camera and its driver, for a test to change while it runs; `module` takes the place of `cv2`."""

    clock: Clock
    sizes: tuple[tuple[int, int], ...] = ((64, 48),)
    buffers: int = 4
    rate_hz: float = 1 / PERIOD_S
    stamp: str = "monotonic"  # or "due", "none", "frozen"
    build: str = "    GStreamer:                   YES (1.20.3)\n"
    opens: bool = True
    #: As a driver has them; what it has not, is missing.
    controls: dict[int, float] = field(
        default_factory=lambda: {
            cv2.CAP_PROP_AUTO_EXPOSURE: 3.0,
            cv2.CAP_PROP_EXPOSURE: 157.0,
            cv2.CAP_PROP_GAIN: 10.0,
            cv2.CAP_PROP_AUTO_WB: 1.0,
            cv2.CAP_PROP_WB_TEMPERATURE: 4600.0,
        }
    )
    limits: dict[int, tuple[float, float]] = field(
        default_factory=lambda: {cv2.CAP_PROP_EXPOSURE: (3, 2047), cv2.CAP_PROP_GAIN: (0, 64)}
    )
    #: What a control goes back to when its automatic is switched off; the others stay.
    reverts: dict[int, float] = field(default_factory=dict)
    dead_s: float = float("inf")  # from then on no frame is sent
    hangs: bool = False  # a dead camera's driver never comes back
    picture: np.ndarray | None = None  # BGR, of all frames; None: noise
    broken: bool = False  # pictures cannot be decoded
    raises: Exception | None = None
    open_now: int = 0
    opened: list[tuple[Any, int]] = field(default_factory=list)
    taken: Capture | None = None

    @property
    def module(self) -> Any:
        return _Cv2(self)


class _Cv2:
    def __init__(self, video: Video) -> None:
        self._video = video

    def __getattr__(self, name: str) -> Any:
        return getattr(cv2, name)

    def getBuildInformation(self) -> str:
        return f"Video I/O:\n    FFMPEG:     YES\n{self._video.build}    v4l/v4l2:    YES\n"

    def VideoCapture(self, name: int | str, api: int) -> Capture:
        self._video.opened.append((name, api))
        self._video.taken = Capture(self._video)
        return self._video.taken


class Capture:
    """`cv2.VideoCapture`."""

    def __init__(self, video: Video) -> None:
        self._video, self._clock = video, video.clock
        self._open = video.opens and video.open_now == 0
        video.open_now += self._open
        self._asked = (640, 480)
        self._began_s: float | None = None
        self._free = video.buffers
        self._next = 0
        self._arriving: deque[int] = deque()
        self._filled: deque[int] = deque()
        self._held = False
        self.number = -1
        self._noise = np.random.default_rng(0)

    def isOpened(self) -> bool:
        return self._open

    def release(self) -> None:
        self._video.open_now -= self._open
        self._open = False

    def set(self, key: int, value: float) -> bool:
        video = self._video
        if key == cv2.CAP_PROP_FRAME_WIDTH:
            self._asked = (int(value), self._asked[1])
        elif key == cv2.CAP_PROP_FRAME_HEIGHT:
            self._asked = (self._asked[0], int(value))
        elif key in video.controls:
            if _is_on(video, MANUAL.get(key)):
                return False  # the driver refuses: inactive
            for kept, before in video.reverts.items():
                if MANUAL[kept] == key and _is_on(video, key):
                    video.controls[kept] = before
            low, high = video.limits.get(key, (value, value))
            video.controls[key] = min(max(value, low), high)
        else:
            return key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_MODE)
        return True

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_FRAME_WIDTH:
            return self._size[0]
        if key == cv2.CAP_PROP_FRAME_HEIGHT:
            return self._size[1]
        if key == cv2.CAP_PROP_FPS:
            return self._video.rate_hz
        if key == cv2.CAP_PROP_BUFFERSIZE:
            return self._video.buffers
        if key == cv2.CAP_PROP_POS_MSEC:
            return self._stamp_s() * 1000
        return self._video.controls.get(key, -1.0)

    def grab(self) -> bool:
        if self._video.raises is not None:
            raise self._video.raises
        assert self._open, "a device that was given back"
        if self._began_s is None:
            self._began_s = self._clock.now_s() + 0.2
        if self._held:
            self._held = False
            self._advance()
            self._free += 1
        self._advance()
        until_s = self._clock.now_s() + 1.0
        while not self._filled:
            if self._video.dead_s <= self._clock.now_s() and self._video.hangs:
                self._clock.sleep_s(0.05)
                until_s = self._clock.now_s() + 1.0
            if self._clock.now_s() >= until_s:
                return False
            self._clock.sleep_s(min(SEND_S / 4, until_s - self._clock.now_s()))
            self._advance()
        self.number = self._filled.popleft()
        self._held = True
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        assert self._held
        if self._video.broken:
            return False, None
        if self._video.picture is not None:
            return True, self._video.picture.copy()
        width, height = self._size
        noise = self._noise.integers(0, 20, (height, width, 3), dtype=np.uint8)
        return True, noise + np.array([50, 100, 200], np.uint8)  # B, G, R

    def exposed_s(self) -> float:
        """When the frame that was taken last was truly begun to be exposed."""
        return self._sent_s(self.number) - (2 * PERIOD_S if self._video.stamp == "due" else INSIDE_S)

    @property
    def _size(self) -> tuple[int, int]:
        """As a driver chooses: the least that holds what was asked, or else the largest."""
        fitting = [s for s in self._video.sizes if s[0] >= self._asked[0] and s[1] >= self._asked[1]]
        return min(fitting) if fitting else max(self._video.sizes)

    def _sent_s(self, number: int) -> float:
        assert self._began_s is not None
        return self._began_s + number * PERIOD_S

    def _stamp_s(self) -> float:
        match self._video.stamp:
            case "none":
                return 0.0
            case "due":
                return self._sent_s(self.number) + SEND_S + 0.85 * PERIOD_S
            case "frozen":
                return self._sent_s(min(self.number, 40))
        return self._sent_s(self.number)

    def _advance(self) -> None:
        """Carry the camera on to now. A frame that begins to arrive while no buffer is queued is dropped."""
        now_s = min(self._clock.now_s(), self._video.dead_s)
        while self._sent_s(self._next) <= now_s:
            if self._free > 0:
                self._free -= 1
                self._arriving.append(self._next)
            self._next += 1
        while self._arriving and self._sent_s(self._arriving[0]) + SEND_S <= now_s:
            self._filled.append(self._arriving.popleft())


def _is_on(video: Video, automatic: int | None) -> bool:
    manual = 1.0 if automatic == cv2.CAP_PROP_AUTO_EXPOSURE else 0.0
    return automatic in video.controls and video.controls[automatic] != manual
