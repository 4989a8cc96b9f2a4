"""What every camera must hold to, real or simulated: one class of tests over all of them.

To add a camera, write a factory that takes an empty folder and gives a `Rig`, and enter it in `RIGS`. A real
one is entered by itself: `PARFOCAL_TEST_VIDEO=/dev/video0 pytest tests/test_camera_contract.py -k device`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import fake_picamera2
import fake_video
import numpy as np
import pytest
from shared_clock import SharedClock

from edge.camera import Camera, Frame
from edge.camera.gstreamer import open_gstreamer
from edge.camera.opencv import OpenCvCamera
from edge.camera.picamera import Picamera2Camera
from edge.camera.replay import ReplayCamera
from edge.camera.simulated import SimulatedCamera
from edge.errors import CameraError
from edge.simulator.fields import Field
from edge.simulator.sensor import Sensor
from edge.zstack import ZStack, write_zstack
from firmware_iface.clock import Clock, RealClock, VirtualClock


@dataclass(frozen=True)
class Rig:
    """A camera and the clock it lives on."""

    camera: Camera
    clock: Clock


def replay_rig(folder: Path) -> Rig:
    """Replay of three noisy planes; the stage stands still at the middle one."""
    rng = np.random.default_rng(0)
    planes = [(f"{k}.png", float(k), rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)) for k in range(3)]
    write_zstack(folder / "stack", planes, {})
    clock = VirtualClock(start_s=1000.1)
    return Rig(ReplayCamera(ZStack.open(folder / "stack"), clock, lambda: 1.0), clock)


def simulated_rig(folder: Path) -> Rig:
    """A running camera with frames in flight before a small field; the stage stands still."""
    planes = np.random.default_rng(0).integers(0, 15000, (3, 12, 16, 3), dtype=np.uint16)
    clock = VirtualClock(start_s=1000.1)
    field = Field(planes, np.array([-1.0, 0.0, 1.0]))
    return Rig(SimulatedCamera(field, Sensor(), clock, lambda _: 0.3, seed=0), clock)


def picamera_rig(folder: Path) -> Rig:
    """picamera2's own ways, around a sensor that runs by itself."""
    sensor = fake_picamera2.Sensor(SharedClock(1000.1))
    options = {"size": (64, 48), "preview_size": (32, 24), "boottime_s": sensor.boottime_s}
    return Rig(Picamera2Camera(sensor.clock, picamera2=sensor.module, **options), sensor.clock)


def v4l2_rig(folder: Path, stamp: str = "monotonic") -> Rig:
    """OpenCV's own ways, around a USB camera that keeps frames in flight."""
    video = fake_video.Video(SharedClock(1000.1), stamp=stamp)
    device = folder / "video0"
    device.touch()
    return Rig(OpenCvCamera(video.clock, str(device), size=(64, 48), cv2=video.module), video.clock)


def unstamped_rig(folder: Path) -> Rig:
    """A driver that does not say when its frames came."""
    return v4l2_rig(folder, "none")


def vivid_rig(folder: Path) -> Rig:
    """A driver that says when its frames are due."""
    return v4l2_rig(folder, "due")


def gstreamer_rig(folder: Path) -> Rig:
    """A Jetson's pipeline."""
    video = fake_video.Video(SharedClock(1000.1))
    options = {"size": (64, 48), "exposure_us": 5000, "gain": 1.0, "cv2": video.module}
    return Rig(open_gstreamer(video.clock, **options), video.clock)


def device_rig(folder: Path) -> Rig:
    """A real video device, in real time."""
    clock = RealClock()
    return Rig(OpenCvCamera(clock, os.environ["PARFOCAL_TEST_VIDEO"], size=(640, 360)), clock)


RIGS: dict[str, Callable[[Path], Rig]] = {
    "replay": replay_rig,
    "simulated": simulated_rig,
    "picamera2": picamera_rig,
    "v4l2": v4l2_rig,
    "v4l2 without stamps": unstamped_rig,
    "v4l2 with stamps ahead": vivid_rig,
    "gstreamer": gstreamer_rig,
}
if "PARFOCAL_TEST_VIDEO" in os.environ:
    RIGS["device"] = device_rig


@pytest.fixture(params=RIGS.values(), ids=RIGS.keys())
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """Each camera in turn, closed at the end."""
    factory: Callable[[Path], Rig] = request.param
    made = factory(tmp_path)
    with made.camera:
        yield made


class TestCameraContract:
    def test_frame(self, rig: Rig) -> None:
        frame = rig.camera.capture(rig.clock.now_s())
        assert isinstance(frame, Frame)
        assert frame.image.ndim == 3
        assert frame.image.shape[2] == 3
        assert frame.image.dtype == np.uint8
        assert frame.exposure_start_s < frame.exposure_end_s
        assert frame.sequence >= 0

    @pytest.mark.parametrize("offset_s", [-math.inf, -100.0, -0.01, 0.0, 1e-9, 0.0123, 1 / 3, 7.0])
    def test_exposure_never_starts_too_early(self, rig: Rig, offset_s: float) -> None:
        for _ in range(3):
            not_before_s = rig.clock.now_s() + offset_s
            frame = rig.camera.capture(not_before_s)
            assert frame.exposure_start_s >= not_before_s, "the frame may show the stage in motion"

    def test_a_frame_arrives_after_its_exposure(self, rig: Rig) -> None:
        for offset_s in (-math.inf, 0.0, 0.05):
            frame = rig.camera.capture(rig.clock.now_s() + offset_s)
            assert rig.clock.now_s() >= frame.exposure_end_s

    def test_a_frame_does_not_take_long(self, rig: Rig) -> None:
        asked_s = rig.clock.now_s()
        rig.camera.capture(asked_s)
        took = (rig.clock.now_s() - asked_s) / rig.camera.frame_period_s
        assert took <= 12, f"{took:.1f} frame periods for a frame: more than any pipeline holds"

    def test_the_stream_goes_forward(self, rig: Rig) -> None:
        frames = [rig.camera.capture(-math.inf) for _ in range(4)]
        for before, after in pairwise(frames):
            assert after.sequence > before.sequence
            assert after.exposure_start_s > before.exposure_start_s
            assert after.image.shape == before.image.shape

    def test_a_frame_stays_as_it_was(self, rig: Rig) -> None:
        first = rig.camera.capture(-math.inf)
        seen = first.image.copy()
        for _ in range(3):
            rig.camera.capture(-math.inf)
        np.testing.assert_array_equal(first.image, seen)

    @pytest.mark.parametrize("instant_s", [math.nan, math.inf])
    def test_instants_that_are_none(self, rig: Rig, instant_s: float) -> None:
        before_s = rig.clock.now_s()
        with pytest.raises(ValueError, match="not_before_s"):
            rig.camera.capture(instant_s)
        assert rig.clock.now_s() - before_s < rig.camera.frame_period_s

    def test_lock_and_unlock_in_any_order(self, rig: Rig) -> None:
        rig.camera.unlock()
        rig.camera.lock()
        rig.camera.lock()
        locked = rig.camera.capture(-math.inf)
        rig.camera.unlock()
        rig.camera.unlock()
        assert rig.camera.capture(-math.inf).sequence > locked.sequence

    def test_frame_period(self, rig: Rig) -> None:
        assert math.isfinite(rig.camera.frame_period_s)
        assert rig.camera.frame_period_s > 0

    def test_close_twice_and_then_no_frame(self, rig: Rig) -> None:
        with rig.camera as entered:
            assert entered is rig.camera
        rig.camera.close()
        with pytest.raises(CameraError, match="closed"):
            rig.camera.capture(-math.inf)


class TestFrame:
    @pytest.mark.parametrize(
        "image", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3), np.float32)]
    )
    def test_images_that_are_none(self, image: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
            Frame(image, 0.0, 1.0, 0)

    def test_time_runs_forward(self) -> None:
        with pytest.raises(ValueError, match="before it starts"):
            Frame(np.zeros((2, 2, 3), np.uint8), 1.0, 0.5, 0)
