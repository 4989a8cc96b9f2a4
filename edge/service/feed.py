"""What the page is shown while the service works: the newest picture, and events in their order.

Written by the thread of the service, read by any number of others. Nobody waits for a reader: a slow one
misses pictures, and one that lags far behind misses events; it is told so by a gap in their numbers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Event", "Feed", "Picture", "jpeg"]

_EVENTS_KEPT = 200
_WATCHED_S = 2.0
_QUALITY = 80


@dataclass(frozen=True)
class Event:
    """``kind``: status, look, run. ``data``: plain values, as the HTTP interface describes them."""

    number: int
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """A JPEG of the newest frame."""

    number: int
    jpeg: bytes


class Feed:
    """Pictures are made only while somebody watches: `wanted` says so, at most ``fps`` times a second."""

    def __init__(self, *, fps: float, px: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self._period_s, self._px, self._now_s = 1.0 / fps, px, now_s
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
        self._number = 0
        self._picture: Picture | None = None
        self._shown_s = self._asked_s = -float("inf")

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Add an event."""
        with self._lock:
            self._number += 1
            self._events.append(Event(self._number, kind, data))

    def since(self, number: int) -> list[Event]:
        """Events after ``number``, as far as they are kept."""
        with self._lock:
            return [event for event in self._events if event.number > number]

    @property
    def last(self) -> int:
        """Number of the newest event; 0 before the first."""
        with self._lock:
            return self._number

    @property
    def wanted(self) -> bool:
        """Whether somebody watches and the next picture is due."""
        now_s = self._now_s()
        return now_s - self._asked_s < _WATCHED_S and now_s - self._shown_s >= self._period_s

    def show(self, image: npt.NDArray[np.uint8]) -> None:
        """Make ``image``, (H, W, 3) uint8 RGB, the newest picture if one is `wanted`; else nothing."""
        if not self.wanted:
            return
        data = jpeg(image, self._px)
        with self._lock:
            number = 1 if self._picture is None else self._picture.number + 1
            self._picture = Picture(number, data)
            self._shown_s = self._now_s()

    def picture(self, after: int = 0) -> Picture | None:
        """The newest picture, if it is later than number ``after``; asking for it counts as watching."""
        with self._lock:
            self._asked_s = self._now_s()
            picture = self._picture
        return picture if picture is not None and picture.number > after else None


def jpeg(image: npt.NDArray[np.uint8], px: int) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG whose longer side is at most ``px``."""
    import cv2

    height, width = image.shape[:2]
    factor = px / max(height, width)
    if factor < 1:
        size = max(1, round(width * factor)), max(1, round(height * factor))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise OSError("the preview could not be encoded")
    return bytes(data)
