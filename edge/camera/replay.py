"""A camera that replays a z-stack folder: it shows the plane nearest the stage.

It exposes on demand, as a triggered camera does: nothing is in flight, each exposure lasts one frame
period, and the plane is the one that is nearest when the exposure starts. Off the ends of the stack the end
plane stays in view, as if the specimen blurred no further.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edge.camera.base import Camera, Frame
from edge.errors import CameraError, StackError
from edge.zstack import ZStack
from firmware_iface.clock import Clock

__all__ = ["ReplayCamera"]

CACHE_BYTES = 96 * 1024 * 1024
"""Decoded planes kept: 14 of 1920 x 1200. A Raspberry Pi has 1 GB and takes 60 ms to decode such a PNG."""


class ReplayCamera(Camera):
    """A `Camera` over a `ZStack`; moves nothing, and reads no file before the first `capture`.

    `position_um` gives the stage position in µm, in the stack's own z. `clock` is the rig's.
    `frame_period_s` is the length of an exposure, finite and above 0, else ValueError. At most
    `cache_bytes` of decoded planes are kept, the plane last shown in any case. Not safe for several
    threads.
    """

    def __init__(
        self,
        stack: ZStack,
        clock: Clock,
        position_um: Callable[[], float],
        *,
        frame_period_s: float = 1 / 30,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if not (math.isfinite(frame_period_s) and frame_period_s > 0):
            raise ValueError(f"frame_period_s = {frame_period_s}: a finite number above 0 is allowed")
        self._stack = stack
        self._clock = clock
        self._position_um = position_um
        self._frame_period_s = frame_period_s
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[int, npt.NDArray[np.uint8]] = OrderedDict()
        self._shape: tuple[int, ...] | None = None
        self._plane: int | None = None
        self._sequence = 0
        self._closed = False

    @property
    def frame_period_s(self) -> float:
        return self._frame_period_s

    @property
    def plane(self) -> int | None:
        """Number of the plane last shown, from 0 in order of rising z; None before the first capture."""
        return self._plane

    @property
    def plane_file(self) -> str | None:
        return None if self._plane is None else self._stack.files[self._plane]

    @property
    def stack(self) -> ZStack:
        """The stack that is replayed."""
        return self._stack

    def capture(self, not_before_s: float) -> Frame:
        """The plane nearest the stage at the start of the exposure; see `Camera.capture`. The image is
        read-only.

        Raises CameraError where that plane cannot be read or differs in size from the first one shown.
        """
        if self._closed:
            raise CameraError(f"the replay of {self._stack.path} is closed")
        if math.isnan(not_before_s) or not_before_s == math.inf:
            raise ValueError(f"not_before_s = {not_before_s}: an instant of the rig's clock is allowed")
        self._wait_until(not_before_s)
        start_s = self._clock.now_s()
        plane = self._stack.nearest(self._position_um())
        image = self._image(plane)
        end_s = start_s + self._frame_period_s
        self._wait_until(end_s)
        frame = Frame(image, start_s, end_s, self._sequence)
        self._sequence += 1
        self._plane = plane
        return frame

    def close(self) -> None:
        self._closed = True
        self._cache.clear()

    def _wait_until(self, instant_s: float) -> None:
        # More than one turn where a sleep, added to the clock, rounds to just short of the instant.
        while (now_s := self._clock.now_s()) < instant_s:
            self._clock.sleep_s(instant_s - now_s)

    def _image(self, plane: int) -> npt.NDArray[np.uint8]:
        """The decoded plane, from the cache where it is there."""
        image = self._cache.pop(plane, None)
        if image is None:
            try:
                image = self._stack.load(plane)
            except StackError as error:
                raise CameraError(str(error)) from error
            if self._shape is None:
                self._shape = image.shape
            if image.shape != self._shape:
                name = self._stack.path / self._stack.files[plane]
                size, before = (f"{shape[1]} x {shape[0]}" for shape in (image.shape, self._shape))
                raise CameraError(f"{name}: image is {size} pixels, the ones before were {before}")
            image.setflags(write=False)
        self._cache[plane] = image  # now the most recent
        while len(self._cache) > 1 and sum(kept.nbytes for kept in self._cache.values()) > self._cache_bytes:
            self._cache.popitem(last=False)
        return image
