"""The Raspberry Pi camera, against a strict picamera2 in virtual time."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import fake_picamera2
import numpy as np
import pytest
from fake_picamera2 import Sensor
from shared_clock import SharedClock

from edge.camera.picamera import Picamera2Camera
from edge.errors import CameraError

SIZE = (64, 48)
OPTIONS: dict[str, Any] = {"size": SIZE, "preview_size": (32, 24)}


@pytest.fixture
def sensor() -> Sensor:
    return Sensor(SharedClock(1000.0))


@pytest.fixture
def opened(sensor: Sensor) -> Iterator[Callable[..., Picamera2Camera]]:
    """Opens a camera on that sensor; all are closed at the end, and no request is left out."""
    cameras: list[Picamera2Camera] = []

    def make(**options: Any) -> Picamera2Camera:
        camera = Picamera2Camera(
            sensor.clock,
            picamera2=sensor.module,
            boottime_s=sensor.boottime_s,
            **{**OPTIONS, **options},
        )
        cameras.append(camera)
        return camera

    yield make
    for camera in cameras:
        camera.close()
    for device in sensor.opened:
        assert not device.is_open
        assert device.out == 0, "requests that were never given back"


class TestPicture:
    def test_red_green_blue(self, opened: Callable[..., Picamera2Camera]) -> None:
        frame = opened().capture(-math.inf)
        assert frame.image.shape == (SIZE[1], SIZE[0], 3)
        red, green, blue = frame.image.reshape(-1, 3).mean(0)
        assert red > green > blue

    def test_preview(self, opened: Callable[..., Picamera2Camera]) -> None:
        small = opened().preview()
        assert small is not None
        assert small.shape == (24, 32, 3)
        np.testing.assert_allclose(small[..., 0], 255, atol=3)
        np.testing.assert_allclose(small[..., 1:], 0, atol=3)

    def test_no_preview(self, opened: Callable[..., Picamera2Camera]) -> None:
        camera = opened(preview_size=None)
        assert camera.preview() is None
        assert camera.capture(-math.inf).image.shape[:2] == (48, 64)


class TestRegion:
    """Which pixels of the sensor a frame shows."""

    def test_the_middle(self, sensor: Sensor, opened: Callable[..., Picamera2Camera]) -> None:
        region = opened().region
        assert (region.x + 32, region.y + 24) == (1640, 1232)
        assert (region.mode_size, region.bit_depth) == ((1920, 1080), 10), "no binning, quick, and deep"

    def test_where_it_was_asked(self, sensor: Sensor, opened: Callable[..., Picamera2Camera]) -> None:
        camera = opened(region_offset=(10, 20))
        assert sensor.opened[0].value("ScalerCrop", math.inf) == (10, 20, 64, 48)
        assert camera.region.mode_size == (3280, 2464), "the quick mode does not reach so far"

    def test_a_sensor_that_is_too_slow_makes_the_period_longer(
        self, opened: Callable[..., Picamera2Camera]
    ) -> None:
        assert opened(region_offset=(10, 20)).frame_period_s == pytest.approx(1 / 21.19)

    def test_an_exposure_that_does_not_fit_makes_the_period_longer(
        self, opened: Callable[..., Picamera2Camera]
    ) -> None:
        assert opened(exposure_us=100_000).frame_period_s == pytest.approx(0.1)

    def test_a_crop_for_each_stream_where_the_camera_has_them(
        self, sensor: Sensor, opened: Callable[..., Picamera2Camera]
    ) -> None:
        sensor.controls |= {"ScalerCrops"}
        opened()
        crop = sensor.opened[0].value("ScalerCrop", math.inf)
        assert sensor.opened[0].value("ScalerCrops", math.inf) == [crop, crop]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"size": (65, 48)}, "65 x 48 pixels: even numbers are allowed"),
            ({"size": (4000, 48)}, r"region of 4000 x 48 .* not on the sensor, which has 3280 x 2464"),
            ({"region_offset": (3250, 0)}, r"at \(3250, 0\) is not on the sensor"),
            ({"preview_size": (320, 240)}, "lores stream dimensions may not exceed main"),
            ({"preview_size": (31, 24)}, r"\(31, 24\) pixels become \(30, 24\)"),
        ],
    )
    def test_regions_that_are_none(
        self, opened: Callable[..., Picamera2Camera], options: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(CameraError, match=said) as error:
            opened(**options)
        assert str(error.value).startswith("camera 0")

    def test_a_sensor_that_only_bins(self, sensor: Sensor, opened: Callable[..., Picamera2Camera]) -> None:
        sensor.modes = sensor.modes[:2]
        with pytest.raises(CameraError, match="no sensor mode without binning"):
            opened()

    def test_a_crop_that_was_not_applied(
        self, sensor: Sensor, opened: Callable[..., Picamera2Camera]
    ) -> None:
        sensor.tell = lambda metadata: {**metadata, "ScalerCrop": (0, 0, 3280, 2464)}
        with pytest.raises(
            CameraError, match=r"shows \(0, 0, 3280, 2464\): a pixel .* not be one of the sensor"
        ):
            opened()


class TestTime:
    def test_each_interval_holds_the_true_one(
        self, sensor: Sensor, opened: Callable[..., Picamera2Camera]
    ) -> None:
        camera = opened()
        for _ in range(5):
            frame = camera.capture(-math.inf)
            start_s, end_s = sensor.opened[0].exposed_s(sensor.opened[0]._number)
            assert frame.exposure_start_s == pytest.approx(start_s, abs=1e-5)
            assert end_s <= frame.exposure_end_s <= sensor.clock.now_s()

    def test_frames_in_flight_after_a_move_are_dropped(
        self, sensor: Sensor, opened: Callable[..., Picamera2Camera]
    ) -> None:
        camera = opened()
        for _ in range(5):
            sensor.clock.sleep_s(0.0123)
            moved_s = sensor.clock.now_s()
            assert camera.capture(moved_s).exposure_start_s >= moved_s
            assert sensor.opened[0].exposed_s(sensor.opened[0]._number)[0] >= moved_s

    def test_frames_come_one_by_one(self, opened: Callable[..., Picamera2Camera]) -> None:
        camera = opened()
        starts = [camera.capture(-math.inf).exposure_start_s for _ in range(6)]
        np.testing.assert_allclose(np.diff(starts), fake_picamera2.PERIOD_S, atol=1e-4)

    @pytest.mark.parametrize("ahead_s", [0.0, 1.0, 3600.0])
    @pytest.mark.parametrize("stamps_count_suspension", [False, True])
    def test_either_clock(
        self,
        sensor: Sensor,
        opened: Callable[..., Picamera2Camera],
        ahead_s: float,
        stamps_count_suspension: bool,
    ) -> None:
        """The Pi's receiver and the documentation do not agree on the clock; no frame may seem too new."""
        sensor.boot_ahead_s = ahead_s
        if not stamps_count_suspension:
            sensor.tell = lambda metadata: {
                **metadata,
                "SensorTimestamp": metadata["SensorTimestamp"] - round(1e9 * ahead_s),
            }
        camera = opened()
        asked_s = sensor.clock.now_s()
        camera.capture(asked_s)
        assert sensor.opened[0].exposed_s(sensor.opened[0]._number)[0] >= asked_s - 1e-5

    def test_stamps_of_no_clock(self, sensor: Sensor, opened: Callable[..., Picamera2Camera]) -> None:
        sensor.tell = lambda metadata: {**metadata, "SensorTimestamp": metadata["SensorTimestamp"] * 2}
        camera = opened()
        with pytest.raises(CameraError, match=r"frames for 1.* s, but none exposed late enough"):
            camera.capture(sensor.clock.now_s())

    def test_no_stamps(self, sensor: Sensor, opened: Callable[..., Picamera2Camera]) -> None:
        sensor.tell = lambda metadata: {}
        with pytest.raises(CameraError, match=r"camera 0 \(imx219\): does not say when"):
            opened()


class TestLock:
    def test_what_is_held_stays_when_the_light_changes(
        self, sensor: Sensor, opened: Callable[..., Picamera2Camera]
    ) -> None:
        camera = opened()
        device = sensor.opened[0]
        camera.lock()
        camera.lock()
        sensor.light = 3.0
        for _ in range(3):
            camera.capture(sensor.clock.now_s())
            told = device.metadata(device._number)
            assert told["ExposureTime"] == pytest.approx(9000, abs=50)
            assert told["ColourGains"] == (1.5, 1.7)
        camera.unlock()
        sensor.clock.sleep_s(1.0)
        camera.capture(sensor.clock.now_s())
        assert device.metadata(device._number)["ExposureTime"] == pytest.approx(3000, abs=50)

    def test_lock_waits_for_frames_with_the_values(
        self, sensor: Sensor, opened: Callable[..., Picamera2Camera]
    ) -> None:
        camera = opened()
        camera.lock()
        device = sensor.opened[0]
        read_s = device._began_s + device._number * fake_picamera2.PERIOD_S
        assert device.value("AeEnable", read_s) is False
        assert device.value("AwbEnable", read_s) is False

    def test_lock_waits_for_the_automatic(
        self, sensor: Sensor, opened: Callable[..., Picamera2Camera]
    ) -> None:
        camera = opened()
        sensor.tell = lambda metadata: {**metadata, "AeState": 1}
        began_s = sensor.clock.now_s()
        with pytest.raises(CameraError, match="automatic exposure does not come to rest"):
            camera.lock()
        assert sensor.clock.now_s() - began_s < 3.0

    def test_values_from_the_configuration(
        self, sensor: Sensor, opened: Callable[..., Picamera2Camera]
    ) -> None:
        camera = opened(exposure_us=5000, gain=4.0, colour_gains=(2.0, 1.2))
        device = sensor.opened[0]
        sensor.settled_us = 5000

        def told() -> tuple[Any, ...]:
            camera.capture(sensor.clock.now_s())
            metadata = device.metadata(device._number)
            return metadata["ExposureTime"], metadata["AnalogueGain"], metadata["ColourGains"]

        assert told()[:2] == (5000, 4.0)
        camera.lock()
        assert told() == (5000, 4.0, (2.0, 1.2))
        camera.unlock()
        sensor.clock.sleep_s(1.0)
        assert told()[:2] == (5000, 4.0)
        assert device.value("AwbEnable", math.inf) is False, "white balance was fixed before"

    def test_values_that_the_sensor_does_not_take(
        self, sensor: Sensor, opened: Callable[..., Picamera2Camera]
    ) -> None:
        camera = opened(gain=4.0)
        sensor.tell = lambda metadata: {**metadata, "AnalogueGain": 8.0}
        with pytest.raises(CameraError, match=r"asked to hold .*'AnalogueGain': 4.0.* but it makes .*8.0"):
            camera.lock()

    def test_a_monochrome_camera(self, sensor: Sensor, opened: Callable[..., Picamera2Camera]) -> None:
        sensor.controls -= {"AwbEnable", "ColourGains"}
        camera = opened()
        camera.lock()
        camera.unlock()
        assert camera.capture(-math.inf).image.any()

    def test_a_run_that_fails_lets_go(self, sensor: Sensor, opened: Callable[..., Picamera2Camera]) -> None:
        camera = opened()

        def fail() -> None:
            try:
                camera.lock()
                raise KeyboardInterrupt
            finally:
                camera.unlock()

        with pytest.raises(KeyboardInterrupt):
            fail()
        assert sensor.opened[0].value("AeEnable", math.inf) is True


class TestFailure:
    def test_unplugged(self, sensor: Sensor, opened: Callable[..., Picamera2Camera]) -> None:
        camera = opened()
        camera.lock()
        sensor.dead_s = gone_s = sensor.clock.now_s()
        with pytest.raises(
            CameraError, match=r"camera 0 \(imx219\): no frame for .* s: unplugged, or stalled"
        ):
            camera.capture(gone_s)
        assert sensor.clock.now_s() - gone_s < 2.0
        camera.unlock()
        camera.close()
        assert sensor.clock.now_s() - gone_s <= 4.0, "giving up on it takes as long as the verdict"

    def test_buffers_come_back(self, sensor: Sensor, opened: Callable[..., Picamera2Camera]) -> None:
        camera = opened()
        for before, after in pairwise(camera.capture(-math.inf) for _ in range(20)):
            assert after.sequence > before.sequence
        assert sensor.opened[0].out <= 1

    @pytest.mark.parametrize(
        ("cameras", "said"),
        [
            ([], "there is none at all "),
            ([{"Id": "/usb@1/x", "Model": "C920"}], 'set driver = "opencv"'),
            ([{"Id": "/base/a", "Model": "imx219"}], "there is 0: imx219"),
        ],
    )
    def test_no_such_camera(
        self, sensor: Sensor, opened: Callable[..., Picamera2Camera], cameras: list[dict[str, str]], said: str
    ) -> None:
        sensor.cameras = cameras
        with pytest.raises(CameraError, match=f"camera 3: no such camera on a ribbon cable; .*{said}"):
            opened(number=3)

    def test_in_use(self, sensor: Sensor, opened: Callable[..., Picamera2Camera]) -> None:
        opened()
        with pytest.raises(
            CameraError, match=r"camera 0 \(imx219\): in use by another program: Failed to acq"
        ):
            opened()

    def test_open_again(self, opened: Callable[..., Picamera2Camera]) -> None:
        for _ in range(2):
            camera = opened()
            assert camera.capture(-math.inf).image.size > 0
            camera.close()
            camera.close()

    def test_no_library(self, sensor: Sensor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "picamera2", None)
        with pytest.raises(
            CameraError, match=r"camera 0: .*sudo apt install python3-picamera2.*site-packages"
        ):
            Picamera2Camera(sensor.clock, **OPTIONS)
