"""A camera on a Jetson's CSI port: `nvarguscamerasrc`, through an OpenCV that was built with GStreamer.

**When a frame was exposed.** This way nothing is told of it. The pipeline hands over its newest frame only
(`drop=true max-buffers=1`), and the reader takes each at once; sensor, image processor and converters hold a
few more. The start is taken `PIPELINE_FRAMES` frame periods before the arrival, the period being the nominal
one or the last interval between two frames, whichever is longer.

Properties of the source cannot be changed once it runs, so nothing could hold an automatic exposure still
while focusing: exposure and gain are fixed from the start, and white balance too.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from edge.camera.live import Image, LiveCamera, Shot, Wanted
from edge.camera.opencv import load_cv2, rgb_of
from edge.errors import CameraError
from firmware_iface.clock import Clock

__all__ = ["GStreamerCamera", "argus_pipeline", "open_gstreamer"]

PIPELINE_FRAMES = 8
"""Exposure and readout 2, image processor 3, converters 2, the frame that waits to be taken 1."""
DAYLIGHT = 5
"""`wbmode` of the source: a fixed white balance."""


def argus_pipeline(
    number: int, *, size: tuple[int, int], exposure_us: int, gain: float, frame_period_s: float
) -> str:
    """The pipeline for sensor ``number``, its exposure, gains and white balance held. BGR comes out.

    The source scales the mode of the sensor that is nearest to ``size`` (width, height).
    """
    rate = Fraction(1 / frame_period_s).limit_denominator(1001)
    exposure_ns = exposure_us * 1000
    return (
        f"nvarguscamerasrc sensor-id={number} wbmode={DAYLIGHT} awblock=true aelock=true"
        f' exposuretimerange="{exposure_ns} {exposure_ns}" gainrange="{gain:g} {gain:g}"'
        ' ispdigitalgainrange="1 1"'
        f" ! video/x-raw(memory:NVMM), width={size[0]}, height={size[1]}, format=NV12,"
        f" framerate={rate.numerator}/{rate.denominator}"
        " ! nvvidconv ! video/x-raw, format=BGRx ! videoconvert ! video/x-raw, format=BGR"
        " ! appsink drop=true max-buffers=1 sync=false"
    )


def open_gstreamer(
    clock: Clock,
    number: int = 0,
    *,
    size: tuple[int, int],
    exposure_us: int | None,
    gain: float | None,
    frame_period_s: float = 1 / 30,
    cv2: Any = None,
) -> GStreamerCamera:
    """The camera on CSI port ``number`` of a Jetson; see `GStreamerCamera`. ``exposure_us`` and ``gain`` are
    needed, and CameraError tells so. An exposure longer than ``frame_period_s`` makes that longer.
    """
    name = f"CSI camera {number}"
    if exposure_us is None or gain is None:
        raise CameraError(
            f"{name}: set exposure_us and gain; through GStreamer an automatic exposure cannot be held still"
            " while focusing"
        )
    period_s = max(frame_period_s, exposure_us * 1e-6)
    pipeline = argus_pipeline(number, size=size, exposure_us=exposure_us, gain=gain, frame_period_s=period_s)
    return GStreamerCamera(clock, pipeline, name=name, size=size, frame_period_s=period_s, cv2=cv2)


class GStreamerCamera(LiveCamera):
    """What a GStreamer ``pipeline`` that ends in an `appsink` shows. Nothing can be locked: see above.

    ``size``: width and height of what comes out; of larger pictures the middle. ``frame_period_s``: the true
    one. BLOCKS for about 2 s. Raises CameraError where OpenCV has no GStreamer, or the pipeline does not run.
    A pipeline that stalls for good is given back when OpenCV comes back from it, after half a minute.
    """

    def __init__(
        self,
        clock: Clock,
        pipeline: str,
        *,
        name: str,
        size: tuple[int, int],
        frame_period_s: float,
        cv2: Any = None,
    ) -> None:
        super().__init__(clock, name=name, frame_period_s=frame_period_s)
        self._cv2 = cv2 or load_cv2()
        self._size = size
        self._last_s = clock.now_s()
        if not re.search(r"GStreamer:\s+YES", self._cv2.getBuildInformation()):
            raise CameraError(
                f"{name}: this OpenCV ({self._cv2.__version__}) has no GStreamer, as none from pip has; use"
                " the Jetson's own: pip uninstall opencv-python-headless, sudo apt install python3-opencv, in"
                " a venv made with --system-site-packages"
            )
        self._capture = self._cv2.VideoCapture(pipeline, self._cv2.CAP_GSTREAMER)
        if not self._capture.isOpened():
            self._capture.release()
            raise CameraError(
                f"{name}: its pipeline does not start; is it plugged in and not in use? If so: sudo systemctl"
                " restart nvargus-daemon"
            )
        self._start()

    def _read(self, wanted: Wanted) -> tuple[Shot, Image | None] | None:
        if not self._capture.grab():
            return None
        arrived_s = self._clock.now_s()
        period_s = max(self._period_s, arrived_s - self._last_s)
        self._last_s = arrived_s
        shot = Shot(arrived_s - PIPELINE_FRAMES * period_s, arrived_s)
        if not wanted(shot):
            return shot, None
        good, picture = self._capture.retrieve()
        return shot, rgb_of(self._cv2, picture, self._size) if good else None

    def _release(self) -> None:
        self._capture.release()
