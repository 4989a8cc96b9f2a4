"""A camera that looks at a simulated field: it runs by itself, frames are in flight and show the past.

Frame ``k`` is exposed from ``k * period`` on and arrives ``latency_frames`` periods after its end. The
defocus of a frame is that at the middle of its exposure, which lies in the past when the frame arrives.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edge.camera.base import Camera, Frame
from edge.errors import CameraError
from edge.simulator.fields import Field
from edge.simulator.sensor import Exposer, Sensor
from firmware_iface.clock import Clock


class SimulatedCamera(Camera):
    """``defocus_dof(t_s)`` is the true defocus at a past instant of ``clock``. A frame costs milliseconds."""

    def __init__(
        self,
        field: Field,
        sensor: Sensor,
        clock: Clock,
        defocus_dof: Callable[[float], float],
        *,
        seed: int,
        frame_period_s: float = 1 / 30,
        latency_frames: int = 2,
    ) -> None:
        if not (math.isfinite(frame_period_s) and frame_period_s > 0):
            raise ValueError(f"frame_period_s = {frame_period_s}: a time above 0 is allowed")
        if latency_frames < 0:
            raise ValueError(f"latency_frames = {latency_frames}: 0 or more is allowed")
        self._field, self._clock, self._defocus_dof = field, clock, defocus_dof
        self._exposer = Exposer(sensor, field.shape, np.random.default_rng(seed))
        self._period_s, self._latency = frame_period_s, latency_frames
        self._last = -1
        self._closed = False

    @property
    def frame_period_s(self) -> float:
        return self._period_s

    def capture(self, not_before_s: float) -> Frame:
        if math.isnan(not_before_s) or not_before_s == math.inf:
            raise ValueError(f"not_before_s = {not_before_s}: an instant is allowed")
        if self._closed:
            raise CameraError("simulated camera: closed")
        # "The next frame" is the first that has not arrived yet.
        arriving = math.ceil(self._clock.now_s() / self._period_s - 1 - self._latency - 1e-9)
        wanted = arriving if not_before_s == -math.inf else math.ceil(not_before_s / self._period_s - 1e-9)
        number = max(wanted, arriving, self._last + 1, 0)
        start_s = number * self._period_s
        if start_s < not_before_s:
            number, start_s = number + 1, start_s + self._period_s
        end_s = start_s + self._period_s
        arrival_s = end_s + self._latency * self._period_s
        # More than one turn where a sleep, added to the clock, rounds to just short of the instant.
        while (now_s := self._clock.now_s()) < arrival_s:
            self._clock.sleep_s(arrival_s - now_s)
        self._last = number
        defocus = self._defocus_dof((start_s + end_s) / 2)
        return Frame(self._exposer.expose(self._field.at(defocus)), start_s, end_s, number)

    def close(self) -> None:
        self._closed = True
