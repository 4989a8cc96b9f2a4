"""Cameras on a Raspberry Pi's ribbon cable, by picamera2: a region of the sensor, pixel for pixel.

**When a frame was exposed.** libcamera stamps each frame (`SensorTimestamp`) when its first row begins to be
read out, which is where that row's exposure ends: the start is the stamp less `ExposureTime`. Rows follow one
another through the readout, which ends at most one `FrameDuration` after the stamp. Stamps are documented to
be of the clock that goes on while the machine is suspended (`CLOCK_BOOTTIME`), yet the Pi's receiver stamps
with the one that does not, the rig's. Where the two differ, the earlier reading that makes sense is taken.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from edge.camera.live import Image, LiveCamera, Shot, Wanted
from edge.camera.sensor_region import Region, choose
from edge.errors import CameraError, one_line
from firmware_iface.clock import Clock

__all__ = ["Picamera2Camera"]

BUFFERS = 4
_WAIT_S = 0.5
_STALE_S = 5.0
"""No frame is older (s) when it arrives; a stamp that says so is of the other clock."""
_ON_THE_WAY = BUFFERS + 2
"""Frames that may still come with the values of before."""
_MOST_FRAMES = 45
"""Frames that exposure and white balance are given to come to rest."""
_TOLERANCE = {"ExposureTime": 50, "AnalogueGain": 0.1, "ColourGains": 0.02}
"""What is held, and steps that sensors have there: some rows (in µs), and gains."""
_SEARCHING = 1
"""`AeState` of an automatic exposure that has not found its value."""


def _boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _load() -> Any:
    try:
        return importlib.import_module("picamera2")
    except ModuleNotFoundError as error:
        raise CameraError(
            f"no module {error.name}: sudo apt install python3-picamera2, and make the venv with"
            " --system-site-packages"
        ) from error
    except (ImportError, ValueError) as error:
        # Built for another NumPy, most often: apt's picamera2 beside pip's NumPy.
        raise CameraError(
            f"picamera2 is installed but does not import ({one_line(error)}); use the NumPy of apt: pip"
            " uninstall numpy, in a venv made with --system-site-packages"
        ) from error


class Picamera2Camera(LiveCamera):
    """Camera ``number``. ``size``: width and height of the frames, which are as many pixels of the sensor.

    ``region_offset``: their left and top edge on the sensor; None for the middle. ``exposure_us``, ``gain``
    and ``colour_gains`` (red, blue) hold all the time where given, and are automatic but for `lock` where
    None. A frame period that the sensor cannot reach, or that an exposure does not fit, is made longer.
    ``preview_size``: of a second, small picture of the region; None for none.

    BLOCKS for about 2 s. Raises CameraError, in one line with what to do, where picamera2 is missing, the
    camera is missing or in use, or does not give the region pixel for pixel. ``picamera2`` and ``boottime_s``
    stand in for the module and the clock of that name.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        number: int = 0,
        size: tuple[int, int],
        region_offset: tuple[int, int] | None = None,
        exposure_us: int | None = None,
        gain: float | None = None,
        colour_gains: tuple[float, float] | None = None,
        frame_period_s: float = 1 / 30,
        preview_size: tuple[int, int] | None = (320, 240),
        picamera2: Any = None,
        boottime_s: Callable[[], float] = _boottime_s,
    ) -> None:
        super().__init__(clock, name=f"camera {number}", frame_period_s=frame_period_s)
        self._boottime_s = boottime_s
        self._size, self._preview_size = size, preview_size
        self._fixed: dict[str, Any] = {
            key: value
            for key, value in (
                ("ExposureTime", exposure_us),
                ("AnalogueGain", gain),
                ("ColourGains", colour_gains),
            )
            if value is not None
        }
        self._held = False
        self._job: Any = None
        self._metadata: dict[str, Any] = {}
        self._small: Image | None = None
        with self._one_line():
            self._device = self._open(picamera2 or _load(), number)
            try:
                self._region = choose(self._device.sensor_modes, size, region_offset, frame_period_s)
                self._configure()
                self._device.start()
            except BaseException:
                self._device.close()
                raise
        self._start()
        self._check_region()

    @property
    def region(self) -> Region:
        """The part of the sensor that is shown, and the sensor mode it is read in."""
        return self._region

    def preview(self) -> Image | None:
        """The region, small, as in the newest frame: (h, w, 3) uint8 RGB; None without ``preview_size``.

        For any thread. Does not block.
        """
        planes = self._small
        if planes is None or self._preview_size is None:
            return None
        import cv2

        rgb = cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420)
        return np.asarray(rgb[:, : self._preview_size[0]], np.uint8)

    # Opening -----------------------------------------------------------------------------------------

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Errors of picamera2 and libcamera as CameraError."""
        try:
            yield
        except CameraError as error:
            if str(error).startswith(self.name):
                raise
            raise CameraError(f"{self.name}: {error}") from error
        except (RuntimeError, ValueError, OSError) as error:
            deepest: BaseException = error
            while deepest.__cause__ is not None:
                deepest = deepest.__cause__
            said = one_line(deepest)
            busy = "busy" in said.lower()
            raise CameraError(
                f"{self.name}: {'in use by another program: ' if busy else ''}{said}"
            ) from error

    def _open(self, picamera2: Any, number: int) -> Any:
        there = picamera2.Picamera2.global_camera_info()
        ribbon = [camera for camera in there if "/usb" not in str(camera.get("Id", ""))]
        if not 0 <= number < len(ribbon):
            models = ", ".join(f"{k}: {camera.get('Model', '?')}" for k, camera in enumerate(ribbon))
            usb = '; for one on USB set driver = "opencv"' if len(there) > len(ribbon) else ""
            raise CameraError(
                f"no such camera on a ribbon cable; there is {models or 'none at all'}{usb} (rpicam-hello"
                " --list-cameras)"
            )
        self.name = f"camera {number} ({ribbon[number].get('Model', 'unknown')})"
        return picamera2.Picamera2(number)

    def _configure(self) -> None:
        device, region = self._device, self._region
        main = {"size": self._size, "format": "BGR888"}  # named by words: R, G, B in memory
        small = None
        if self._preview_size is not None:
            small = {"size": self._preview_size, "format": "YUV420"}
        config = device.create_video_configuration(
            main=main,
            lores=small,
            raw=None,
            sensor={"output_size": region.mode_size, "bit_depth": region.bit_depth},
            buffer_count=BUFFERS,
            display=None,
            encode=None,
        )
        device.configure(config)
        for key, asked in (("main", self._size), ("lores", self._preview_size)):
            made = None if asked is None else device.camera_configuration()[key]["size"]
            if made != asked:
                raise CameraError(f"pictures of {asked} pixels become {made}; {made} is allowed")
        self._period_s = max(
            self._period_s, region.shortest_period_s, 1e-6 * self._fixed.get("ExposureTime", 0)
        )
        period_us = round(1e6 * self._period_s)
        crop = (region.x, region.y, *self._size)
        controls: dict[str, Any] = {"FrameDurationLimits": (period_us, period_us), "ScalerCrop": crop}
        if "ScalerCrops" in device.camera_controls:
            # A Pi 5 crops each stream by itself, picamera2 presets that, and it wins over ScalerCrop.
            controls["ScalerCrops"] = [crop] if small is None else [crop, crop]
        device.set_controls({**controls, **self._fixed})

    def _check_region(self) -> None:
        asked = (self._region.x, self._region.y, *self._size)
        made = self._metadata.get("ScalerCrop")
        if made is None or any(abs(a - b) > 1 for a, b in zip(asked, made, strict=True)):
            self.close()
            raise CameraError(
                f"{self.name}: asked for the region {asked} (x, y, width, height) of the sensor, but it shows"
                f" {made}: a pixel of the picture would not be one of the sensor"
            )

    # In the reader thread ----------------------------------------------------------------------------

    def _read(self, wanted: Wanted) -> tuple[Shot, Image | None] | None:
        # Asked for as a job: to wait for the request itself would leak it where the time runs out.
        job, self._job = self._job or self._device.capture_request(wait=False), None
        try:
            request = self._device.wait(job, timeout=_WAIT_S)
        except futures.TimeoutError:
            self._job = job
            return None
        try:
            self._metadata = request.get_metadata()
            shot = self._shot(self._metadata)
            if self._preview_size is not None:
                self._small = request.make_array("lores")
            return shot, request.make_array("main") if wanted(shot) else None
        finally:
            request.release()

    def _shot(self, metadata: dict[str, Any]) -> Shot:
        arrived_s = self._clock.now_s()
        if "SensorTimestamp" not in metadata:
            raise CameraError(f"{self.name}: does not say when its frames were exposed")
        read_s = self._on_clock(1e-9 * metadata["SensorTimestamp"], arrived_s)
        exposed_s = 1e-6 * metadata["ExposureTime"] if "ExposureTime" in metadata else self._period_s
        readout_s = 1e-6 * metadata["FrameDuration"] if "FrameDuration" in metadata else self._period_s
        return Shot(read_s - exposed_s, max(read_s, min(read_s + readout_s, arrived_s)))

    def _on_clock(self, stamp_s: float, arrived_s: float) -> float:
        """A stamp on the rig's clock; one of no clock comes out long gone, and its frame is not used."""
        readings_s = (stamp_s - max(0.0, self._boottime_s() - arrived_s), stamp_s)
        for reading_s in readings_s:
            if arrived_s - _STALE_S <= reading_s <= arrived_s:
                return reading_s
        return min(*readings_s, arrived_s - _STALE_S)

    def _hold(self) -> None:
        if self._held:
            return
        if not self._await(_is_settled):
            raise CameraError(f"{self.name}: its automatic exposure does not come to rest")
        device, found = self._device, self._metadata
        values = {
            key: self._fixed.get(key, found[key])
            for key in _TOLERANCE
            if key in device.camera_controls and key in found
        }
        switches = dict.fromkeys({"AeEnable", "AwbEnable"} & device.camera_controls.keys(), False)
        self._held = True
        device.set_controls({**switches, **values})
        for _ in range(_ON_THE_WAY):
            self._take(lambda _: False)
        if not self._await(lambda metadata: _are_about(metadata, values)):
            made = {key: self._metadata.get(key) for key in values}
            raise CameraError(f"{self.name}: asked to hold {values}, but it makes {made}")

    def _await(self, good: Callable[[dict[str, Any]], bool]) -> bool:
        """Read frames until the metadata of one are ``good``; False where those of `_MOST_FRAMES` are not."""
        frames = (self._take(lambda _: False) for _ in range(_MOST_FRAMES))
        return any(frame is not None and good(self._metadata) for frame in frames)

    def _let_go(self) -> None:
        if not self._held:
            return
        # 0 is "automatic" for both; what is fixed by configuration stays so.
        again: dict[str, Any] = {"AeEnable": True, "ExposureTime": 0, "AnalogueGain": 0.0, **self._fixed}
        if "ColourGains" not in self._fixed:
            again["AwbEnable"] = True
        self._device.set_controls(
            {key: value for key, value in again.items() if key in self._device.camera_controls}
        )
        self._held = False

    def _release(self) -> None:
        device = self._device
        if self._job is not None:
            # `stop` would queue behind the job, and wait for ever where no frame comes.
            device.cancel_all_and_flush()
            with suppress(futures.CancelledError, futures.TimeoutError):
                device.wait(self._job, timeout=_WAIT_S).release()
        device.stop()
        device.close()


def _is_settled(metadata: dict[str, Any]) -> bool:
    """Whether the automatic exposure has found its value; `AeLocked` is what older libcameras tell."""
    return bool(metadata.get("AeLocked", metadata.get("AeState") != _SEARCHING))


def _are_about(metadata: dict[str, Any], values: dict[str, Any]) -> bool:
    """Whether a frame has these values, but for the steps in which its sensor has them."""
    return all(
        key in metadata and np.allclose(metadata[key], value, rtol=0.02, atol=_TOLERANCE[key])
        for key, value in values.items()
    )
