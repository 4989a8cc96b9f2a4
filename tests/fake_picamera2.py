"""A picamera2 for tests: a sensor that runs on a given clock, and refuses what the real library refuses.

It has what a Raspberry Pi's library has around a request: a few buffers, of which one that is not released
is lost; a job that waits for a frame, behind which `stop` waits for ever; controls that take effect frames
after they were set; an automatic exposure that creeps towards its value. Frames are noise.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from firmware_iface.clock import Clock

PERIOD_S = 1 / 30
DELAY_FRAMES = 4
#: Name of a control: its type, least and greatest value (None: any).
CONTROLS: dict[str, tuple[type, float | None, float | None]] = {
    "AeEnable": (bool, None, None),
    "AnalogueGain": (float, 1.0, 16.0),
    "AwbEnable": (bool, None, None),
    "ColourGains": (tuple, None, None),
    "ExposureTime": (int, 60, 200_000),
    "FrameDurationLimits": (tuple, None, None),
    "ScalerCrop": (tuple, None, None),
    "ScalerCrops": (list, None, None),  # on a Pi 5 only
}


def mode(
    size: tuple[int, int], crop: tuple[int, int, int, int], fps: float, bits: int = 10
) -> dict[str, Any]:
    """A sensor mode as picamera2 describes it."""
    return {"size": size, "crop_limits": crop, "fps": fps, "bit_depth": bits, "format": f"SRGGB{bits}"}


#: Those of the camera module 2 (imx219).
MODES = (
    mode((640, 480), (1000, 752, 1280, 960), 206.65),
    mode((1640, 1232), (0, 0, 3280, 2464), 41.85),
    mode((1920, 1080), (680, 692, 1920, 1080), 47.57, bits=8),
    mode((1920, 1080), (680, 692, 1920, 1080), 47.57),
    mode((3280, 2464), (0, 0, 3280, 2464), 21.19),
)


@dataclass
class Sensor:
    """What the camera does, for a test to change while it runs."""

    clock: Clock
    cameras: list[dict[str, Any]] = field(
        default_factory=lambda: [{"Id": "/base/i2c/imx219", "Model": "imx219"}]
    )
    modes: tuple[dict[str, Any], ...] = MODES
    controls: frozenset[str] = frozenset(CONTROLS) - {"ScalerCrops"}
    #: Metadata that are changed before they are told.
    tell: Callable[[dict[str, Any]], dict[str, Any]] = lambda metadata: metadata
    busy: bool = False
    dead_s: float = float("inf")  # no frame that would arrive later arrives
    image: np.ndarray | None = None  # what all frames show; None: noise
    settled_us: int = 9000
    light: float = 1.0
    boot_ahead_s: float = 0.0  # how far the clock of the stamps is ahead
    opened: list[Picamera2] = field(default_factory=list)

    @property
    def module(self) -> Any:
        """To take the place of the module `picamera2`."""
        return SimpleNamespace(Picamera2=type("Bound", (Picamera2,), {"sensor": self}))

    def boottime_s(self) -> float:
        return self.clock.now_s() + self.boot_ahead_s


class Job:
    def __init__(self) -> None:
        self.cancelled = False


class Request:
    def __init__(self, device: Picamera2, number: int) -> None:
        self._device, self._number, self._released = device, number, False

    def get_metadata(self) -> dict[str, Any]:
        assert not self._released, "a request that was given back"
        return self._device.sensor.tell(self._device.metadata(self._number))

    def make_array(self, name: str) -> np.ndarray:
        assert not self._released, "a request that was given back"
        return self._device.picture(name, self._number)

    def release(self) -> None:
        assert not self._released, "given back twice"
        self._released = True
        self._device.out -= 1


class Picamera2:
    """The class of that name, as far as it is used."""

    sensor: Sensor

    @classmethod
    def global_camera_info(cls) -> list[dict[str, Any]]:
        return cls.sensor.cameras

    def __init__(self, number: int = 0) -> None:
        self.clock = self.sensor.clock
        self.is_open, self.started = False, False
        self.out, self._number, self._began_s = 0, -1, 0.0
        self._config: dict[str, Any] = {}
        self._set: list[tuple[float, dict[str, Any]]] = []
        self._jobs: list[Job] = []
        if self.sensor.busy or any(other.is_open for other in self.sensor.opened):
            try:
                raise RuntimeError("Failed to acquire camera: Device or resource busy")
            except RuntimeError as error:
                raise RuntimeError("Camera __init__ sequence did not complete.") from error
        self.is_open = True
        self.sensor.opened.append(self)

    @property
    def sensor_modes(self) -> tuple[dict[str, Any], ...]:
        self._check_stopped()  # it configures the camera to find out
        return self.sensor.modes

    @property
    def camera_controls(self) -> dict[str, tuple[Any, Any, Any]]:
        return {
            name: (low, high, None)
            for name, (_, low, high) in CONTROLS.items()
            if name in self.sensor.controls
        }

    def create_video_configuration(
        self,
        *,
        main: dict[str, Any],
        lores: dict[str, Any] | None,
        raw: None,
        sensor: dict[str, Any],
        buffer_count: int,
        display: None,
        encode: None,
    ) -> dict[str, Any]:
        for stream in filter(None, (main, lores)):
            width, height = stream["size"]
            stream["size"] = (width - width % 2, height - height % 2)
        return {"main": main, "lores": lores, "sensor": sensor, "buffer_count": buffer_count}

    def configure(self, config: dict[str, Any]) -> None:
        self._check_stopped()
        if set(config["sensor"]) - {"bit_depth", "output_size"}:
            raise RuntimeError("Unexpected keys in sensor configuration")
        if config["lores"] and any(
            a > b for a, b in zip(config["lores"]["size"], config["main"]["size"], strict=True)
        ):
            raise RuntimeError("lores stream dimensions may not exceed main stream")
        self._config = config

    def camera_configuration(self) -> dict[str, Any]:
        return self._config

    def set_controls(self, controls: dict[str, Any]) -> None:
        for name, value in controls.items():
            if name not in self.sensor.controls:
                raise RuntimeError(f"Control {name} is not advertised by libcamera")
            kind, low, high = CONTROLS[name]
            assert isinstance(value, kind), f"{name} = {value!r}"
            if value and low is not None and high is not None:
                assert low <= value <= high, f"{name} = {value!r}"
        delay_s = DELAY_FRAMES * PERIOD_S if self.started else 0.0
        self._set.append((self.clock.now_s() + delay_s, dict(controls)))

    def start(self) -> None:
        assert self._config, "Camera has not been configured"
        self.started, self._began_s = True, self.clock.now_s() + 0.3

    def stop(self) -> None:
        assert not self._jobs, "it would wait for ever behind a job"
        self.started = False

    def close(self) -> None:
        self.stop()
        self.is_open = False

    def cancel_all_and_flush(self) -> None:
        for job in self._jobs:
            job.cancelled = True
        self._jobs.clear()

    def capture_request(self, *, wait: bool) -> Job:
        assert self.started, "it would wait for ever"
        assert wait is False
        job = Job()
        self._jobs.append(job)
        return job

    def wait(self, job: Job, timeout: float) -> Request:
        if job.cancelled:
            raise futures.CancelledError
        assert self._jobs == [job]
        # A camera keeps the last frame that nobody took; all its buffers taken, it gives none.
        number = max(self._number + 1, self._newest())
        wait_s = self._arrival_s(number) - self.clock.now_s()
        buffers_left = self.out < self._config["buffer_count"]
        if wait_s > timeout or self._arrival_s(number) > self.sensor.dead_s or not buffers_left:
            self.clock.sleep_s(timeout)
            raise futures.TimeoutError
        self.clock.sleep_s(max(0.0, wait_s))
        self._number, self.out = number, self.out + 1
        self._jobs.clear()
        return Request(self, number)

    # What the sensor does ----------------------------------------------------------------------------

    def exposed_s(self, number: int) -> tuple[float, float]:
        """When frame ``number`` was truly exposed: its first row from, its last row to."""
        read_s = self._began_s + number * PERIOD_S
        return read_s - 1e-6 * self.value("ExposureTime", read_s), read_s + 0.8 * PERIOD_S

    def metadata(self, number: int) -> dict[str, Any]:
        read_s = self._began_s + number * PERIOD_S
        boot_s = read_s + self.sensor.boot_ahead_s
        return {
            "SensorTimestamp": round(boot_s * 1e9),
            "ExposureTime": self.value("ExposureTime", read_s),
            "AnalogueGain": self.value("AnalogueGain", read_s),
            "ColourGains": self.value("ColourGains", read_s),
            "FrameDuration": round(1e6 * PERIOD_S),
            "ScalerCrop": self.value("ScalerCrop", read_s),
            "AeState": 1 if abs(self.value("ExposureTime", read_s) - self._wanted_us()) > 50 else 2,
        }

    def value(self, name: str, at_s: float) -> Any:
        """A control as it was for a frame that was read at ``at_s``."""
        held: dict[str, Any] = {"AeEnable": True, "AwbEnable": True}
        for from_s, controls in self._set:
            if from_s <= at_s:
                held.update(controls)
        creep = 1 - 0.5 ** ((at_s - self._began_s) / 0.1)
        if name == "ExposureTime":
            fixed = held.get(name)
            return fixed or round(1000 + creep * (self._wanted_us() - 1000))
        if name == "AnalogueGain":
            return held.get(name) or 2.0
        if name == "ColourGains":
            return (1.5, 1.7) if held["AwbEnable"] or name not in held else held[name]
        return held.get(name)

    def picture(self, name: str, number: int) -> np.ndarray:
        width, height = self._config[name]["size"]
        rng = np.random.default_rng(number)
        if name == "lores":
            assert self._config[name]["format"] == "YUV420"
            planes = np.full((height * 3 // 2, width + 32), 128, np.uint8)  # rows are padded
            planes[:height] = 81
            planes[height:] = 90  # U
            planes[height * 5 // 4 :] = 240  # V: a pure red
            return planes
        assert self._config[name]["format"] == "BGR888"
        if self.sensor.image is not None:
            return self.sensor.image.copy()
        noise = rng.integers(0, 20, (height, width, 3), dtype=np.uint8)
        return noise + np.array([200, 100, 50], np.uint8)  # R, G, B

    def _wanted_us(self) -> float:
        return self.sensor.settled_us / self.sensor.light

    def _arrival_s(self, number: int) -> float:
        return self._began_s + (number + 2.3) * PERIOD_S

    def _newest(self) -> int:
        return int((self.clock.now_s() - self._began_s) / PERIOD_S - 2.3)

    def _check_stopped(self) -> None:
        if self.started:
            raise RuntimeError("Camera must be stopped before configuring")
