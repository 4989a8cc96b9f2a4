"""USB cameras and the Jetson's pipeline: the classes over a V4L2 camera and an OpenCV of the tests' own."""

from __future__ import annotations

import grp
import math
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import fake_video
import numpy as np
import pytest
from fake_video import PERIOD_S, Video
from hypothesis import given
from hypothesis import strategies as st
from shared_clock import SharedClock

from edge.camera import video_device
from edge.camera.gstreamer import GStreamerCamera, argus_pipeline, open_gstreamer
from edge.camera.opencv import CAMERA_FRAMES, OpenCvCamera, Timing, load_cv2, rgb_of
from edge.errors import CameraError
from firmware_iface.clock import RealClock

SIZE = (64, 48)
STALLED = r"no frame for .* s: unplugged, or stalled"


@pytest.fixture
def video() -> Video:
    return Video(SharedClock(1000.0))


@pytest.fixture
def opened(video: Video, tmp_path: Path) -> Iterator[Callable[..., OpenCvCamera]]:
    """Opens the camera, which lies under a file that stands for its device."""
    cameras: list[OpenCvCamera] = []
    (tmp_path / "video7").touch()

    def make(device: int | str = str(tmp_path / "video7"), **options: Any) -> OpenCvCamera:
        camera = OpenCvCamera(video.clock, device, cv2=video.module, **{"size": SIZE, **options})
        cameras.append(camera)
        return camera

    yield make
    for camera in cameras:
        camera.close()
    assert video.open_now == 0


def taken(video: Video) -> fake_video.Capture:
    assert video.taken is not None
    return video.taken


class TestPicture:
    def test_red_green_blue(self, opened: Callable[..., OpenCvCamera]) -> None:
        image = opened().capture(-math.inf).image
        assert image.shape == (48, 64, 3)
        red, green, blue = image.reshape(-1, 3).mean(0)
        assert red > green > blue

    def test_the_middle_of_larger_pictures(self, video: Video, opened: Callable[..., OpenCvCamera]) -> None:
        video.sizes = ((16, 12), (80, 60), (640, 480))
        video.picture = np.zeros((60, 80, 3), np.uint8)
        video.picture[6:54, 8:72] = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
        image = opened().capture(-math.inf).image
        np.testing.assert_array_equal(image[:, :, ::-1], video.picture[6:54, 8:72])

    @pytest.mark.parametrize("size", [(65, 48), (64, 49), (1024, 768)])
    def test_sizes_that_it_has_not(self, opened: Callable[..., OpenCvCamera], size: tuple[int, int]) -> None:
        with pytest.raises(CameraError, match=f"no pictures of {size[0]} x {size[1]} .* nearest are 64 x 48"):
            opened(size=size)

    def test_one_that_cannot_be_decoded(self, video: Video, opened: Callable[..., OpenCvCamera]) -> None:
        camera = opened()
        video.broken = True
        with pytest.raises(CameraError, match="but none that can be decoded"):
            camera.capture(video.clock.now_s())
        video.broken = False
        assert camera.capture(video.clock.now_s()).image.any()

    @pytest.mark.parametrize("shape", [(48, 64), (47, 64, 3), (48, 63, 3)])
    def test_pictures_that_are_none(self, shape: tuple[int, ...]) -> None:
        assert rgb_of(cv2, np.zeros(shape, np.uint8), SIZE) is None
        assert rgb_of(cv2, None, SIZE) is None


class TestTime:
    @pytest.mark.parametrize("stamp", ["monotonic", "due", "none"])
    def test_frames_in_flight_after_a_move_are_dropped(
        self, video: Video, opened: Callable[..., OpenCvCamera], stamp: str
    ) -> None:
        video.stamp = stamp
        camera = opened()
        for _ in range(5):
            video.clock.sleep_s(0.0123)
            moved_s = video.clock.now_s()
            frame = camera.capture(moved_s)
            assert moved_s <= frame.exposure_start_s <= taken(video).exposed_s()
            assert video.clock.now_s() - moved_s < (12 if stamp == "none" else 6) * PERIOD_S

    @given(
        st.lists(st.one_of(st.just(0.0), st.floats(0.0, 0.4)), min_size=1, max_size=30),
        st.sampled_from(["monotonic", "due", "none"]),
        st.integers(1, 8),
    )
    def test_never_later_than_the_truth(self, pauses_s: list[float], stamp: str, buffers: int) -> None:
        """However long the reader is kept away, and whatever lies in the buffers meanwhile."""
        clock = SharedClock(50.0)
        video = Video(clock, stamp=stamp, buffers=buffers)
        capture = video.module.VideoCapture(0, cv2.CAP_V4L2)
        timing = Timing(PERIOD_S, buffers, clock.now_s())
        for pause_s in [0.0, 0.0, *pauses_s]:
            clock.sleep_s(pause_s)
            assert capture.grab()
            shot = timing.shot(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, clock.now_s())
            assert shot.exposure_start_s <= capture.exposed_s() + 1e-9
            assert shot.exposure_end_s == clock.now_s()

    def test_a_camera_that_slows_down_in_the_dark(self) -> None:
        timing = Timing(0.1, 4, 0.0)
        starts = [timing.shot(stamp_s, stamp_s + 0.01).exposure_start_s for stamp_s in (1.0, 1.1, 1.5)]
        assert starts == pytest.approx([1.0 - 0.3, 1.1 - 0.3, 1.5 - CAMERA_FRAMES * 0.4])

    def test_stamps_of_when_a_frame_is_due(self) -> None:
        timing = Timing(0.1, 4, 0.0)
        starts = [timing.shot(stamp_s, stamp_s - 0.08).exposure_start_s for stamp_s in (1.0, 1.1)]
        assert starts == pytest.approx([0.92 - 0.3, 1.02 - 0.3])
        assert timing.shot(1.2, 1.7).exposure_start_s == pytest.approx(1.12 - 0.3), "it lay in a buffer"

    def test_a_stamp_after_the_arrival(self) -> None:
        timing = Timing(0.1, 4, 0.0)
        timing.shot(1.0, 1.05)
        assert timing.shot(99.0, 1.15).exposure_start_s <= 1.15 - 0.3

    @pytest.mark.parametrize(("rate_hz", "period_s"), [(30.0, 1 / 30), (0.0, 0.25), (-1.0, 0.25)])
    def test_the_period_is_the_camera_s(
        self, video: Video, opened: Callable[..., OpenCvCamera], rate_hz: float, period_s: float
    ) -> None:
        video.rate_hz = rate_hz
        assert opened(frame_period_s=0.25).frame_period_s == pytest.approx(period_s)


class TestControls:
    def test_lock_holds_and_unlock_puts_back(self, video: Video, opened: Callable[..., OpenCvCamera]) -> None:
        camera = opened()
        before = dict(video.controls)
        camera.unlock()
        camera.lock()
        camera.lock()
        assert video.controls == {
            **before,
            cv2.CAP_PROP_AUTO_EXPOSURE: 1.0,
            cv2.CAP_PROP_AUTO_WB: 0.0,
        }, "what the automatic had found is held"
        camera.unlock()
        assert video.controls == before

    def test_what_the_automatic_had_found_is_held(
        self, video: Video, opened: Callable[..., OpenCvCamera]
    ) -> None:
        """Some cameras go back to a manual value of long ago as soon as they are switched to manual."""
        video.reverts = {cv2.CAP_PROP_EXPOSURE: 3.0, cv2.CAP_PROP_WB_TEMPERATURE: 2800.0}
        camera = opened()
        camera.lock()
        assert video.controls[cv2.CAP_PROP_EXPOSURE] == 157
        assert video.controls[cv2.CAP_PROP_WB_TEMPERATURE] == 4600
        camera.unlock()
        assert video.controls[cv2.CAP_PROP_AUTO_EXPOSURE] == 3
        assert video.controls[cv2.CAP_PROP_EXPOSURE] == 3, "the manual value is still the user's own"

    def test_lock_waits_for_frames_with_the_values(
        self, video: Video, opened: Callable[..., OpenCvCamera]
    ) -> None:
        camera = opened()
        number = taken(video).number
        camera.lock()
        assert taken(video).number >= number + 5

    def test_close_puts_back(self, video: Video, opened: Callable[..., OpenCvCamera]) -> None:
        before = dict(video.controls)
        camera = opened(exposure_us=5000, gain=20.0)
        assert video.controls[cv2.CAP_PROP_EXPOSURE] == 50, "in units of 100 us"
        assert video.controls[cv2.CAP_PROP_GAIN] == 20
        camera.lock()
        camera.unlock()
        assert video.controls[cv2.CAP_PROP_EXPOSURE] == 50, "as configured, not as found"
        camera.lock()
        camera.close()
        assert video.controls == before

    def test_a_failed_run_puts_back(self, video: Video, opened: Callable[..., OpenCvCamera]) -> None:
        before = dict(video.controls)

        def fail() -> None:
            with opened() as camera:
                camera.lock()
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail()
        assert video.controls == before

    def test_a_reader_that_fails_puts_back(self, video: Video, opened: Callable[..., OpenCvCamera]) -> None:
        before = dict(video.controls)
        camera = opened()
        camera.lock()
        video.raises = cv2.error("(-215:Assertion failed) something\n in function 'grab'")
        with pytest.raises(
            CameraError, match=r"video7: error: \(-215:Assertion failed\) something in function"
        ):
            camera.capture(video.clock.now_s())
        camera.unlock()
        assert video.controls == before

    def test_a_camera_without_controls(self, video: Video, opened: Callable[..., OpenCvCamera]) -> None:
        video.controls = {}
        camera = opened()
        camera.lock()
        camera.unlock()
        assert camera.capture(-math.inf).image.any()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"exposure_us": 100}, "exposure_us = 100: the camera makes 300 of it"),
            ({"gain": 100.0}, "gain = 100: the camera makes 64 of it"),
        ],
    )
    def test_values_that_it_does_not_take(
        self, video: Video, opened: Callable[..., OpenCvCamera], options: dict[str, Any], said: str
    ) -> None:
        before = dict(video.controls)
        with pytest.raises(CameraError, match=said):
            opened(**options)
        assert video.controls == before
        assert video.open_now == 0

    @pytest.mark.parametrize("options", [{"exposure_us": 5000}, {"gain": 2.0}])
    def test_controls_that_it_has_not(
        self, video: Video, opened: Callable[..., OpenCvCamera], options: dict[str, Any]
    ) -> None:
        video.controls = {}
        with pytest.raises(CameraError, match=f"{next(iter(options))} = .* no such control; leave it out"):
            opened(**options)


class TestFailure:
    def test_unplugged(self, video: Video, opened: Callable[..., OpenCvCamera], tmp_path: Path) -> None:
        camera = opened()
        video.dead_s = gone_s = video.clock.now_s()
        (tmp_path / "video7").unlink()
        with pytest.raises(CameraError, match=r"video7: unplugged$"):
            camera.capture(gone_s)
        assert video.clock.now_s() - gone_s < 2.0
        camera.unlock()
        camera.close()
        assert video.clock.now_s() - gone_s < 2.0

    def test_stalled(self, video: Video, opened: Callable[..., OpenCvCamera]) -> None:
        camera = opened()
        video.dead_s = gone_s = video.clock.now_s()
        with pytest.raises(CameraError, match=STALLED):
            camera.capture(gone_s)
        assert video.clock.now_s() - gone_s < 2.0
        video.dead_s = math.inf
        assert camera.capture(video.clock.now_s()).exposure_start_s >= gone_s, "it came back"

    @pytest.mark.parametrize("call", ["capture", "lock"])
    def test_a_driver_that_never_comes_back(
        self, video: Video, opened: Callable[..., OpenCvCamera], call: str
    ) -> None:
        camera = opened()
        video.hangs = True
        video.dead_s = gone_s = video.clock.now_s()
        with pytest.raises(CameraError, match=STALLED):
            camera.capture(gone_s) if call == "capture" else camera.lock()
        assert video.clock.now_s() - gone_s < 2.0
        camera.unlock()
        camera.close()
        assert video.clock.now_s() - gone_s < 4.0
        assert video.open_now == 1, "its reader still has it"
        video.hangs = False
        video.clock.sleep_s(2.0)
        assert video.open_now == 0

    def test_time_stamps_that_stand_still(self, video: Video, opened: Callable[..., OpenCvCamera]) -> None:
        video.stamp = "frozen"
        camera = opened()
        video.clock.sleep_s(0.3)
        asked_s = video.clock.now_s()
        with pytest.raises(CameraError, match="all with one time stamp: it repeats the same frame"):
            camera.capture(asked_s)
        assert video.clock.now_s() - asked_s < 2.0

    def test_the_same_picture_again(self, video: Video, opened: Callable[..., OpenCvCamera]) -> None:
        video.picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        camera = opened()
        camera.capture(-math.inf)
        asked_s = video.clock.now_s()
        with pytest.raises(CameraError, match="all the same to the last bit: it repeats the same frame"):
            camera.capture(asked_s)
        assert video.clock.now_s() - asked_s < 2.0
        video.picture = None
        assert camera.capture(asked_s).image.any()

    def test_no_frame_at_all(self, video: Video, opened: Callable[..., OpenCvCamera]) -> None:
        video.dead_s = 0.0
        with pytest.raises(CameraError, match="video7: opened, but gives no frame"):
            opened()

    def test_missing(self, opened: Callable[..., OpenCvCamera], tmp_path: Path) -> None:
        with pytest.raises(CameraError, match=r"video8: no such camera; is it plugged in\? There is"):
            opened(str(tmp_path / "video8"))

    def test_the_cameras_that_there_are(
        self, opened: Callable[..., OpenCvCamera], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(video_device, "DEV", tmp_path)
        with pytest.raises(CameraError, match=r"video8: no such .* There is .*/video7$"):
            opened(8)
        assert opened(7).name == str(tmp_path / "video7")

    def test_no_permission(
        self, opened: Callable[..., OpenCvCamera], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, flags: int) -> int:
            raise PermissionError(13, "Permission denied", path)

        device = tmp_path / "video7"
        group = grp.getgrgid(device.stat().st_gid).gr_name
        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(CameraError, match=rf"video7: no permission; .* usermod -aG {group} \$USER"):
            opened()

    def test_not_readable(self, video: Video, opened: Callable[..., OpenCvCamera]) -> None:
        video.opens = False
        with pytest.raises(CameraError, match="gives no pictures that OpenCV can read, or is in use"):
            opened()

    def test_in_use_by(self, opened: Callable[..., OpenCvCamera], tmp_path: Path) -> None:
        opened()
        with (
            (tmp_path / "video7").open(),
            pytest.raises(CameraError, match=rf"video7: in use by process {os.getpid()} \(.+\)$"),
        ):
            opened()

    def test_open_again(self, opened: Callable[..., OpenCvCamera]) -> None:
        for _ in range(2):
            camera = opened()
            camera.close()
            camera.close()
            with pytest.raises(CameraError, match="closed"):
                camera.lock()

    def test_the_real_library_on_what_is_no_camera(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "video7").touch()
        with pytest.raises(CameraError, match="gives no pictures that OpenCV can read"):
            OpenCvCamera(SharedClock(), str(tmp_path / "video7"), size=SIZE)
        assert capfd.readouterr().err == "", "the one line is ours"
        assert os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] == "1"
        assert load_cv2() is cv2


class TestDevice:
    def test_a_link_is_opened_by_its_number(
        self, video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """OpenCV 5 opens no device by name, and /dev/v4l/by-id has only names."""
        link = tmp_path / "usb-Some_Camera-video-index0"
        link.symlink_to("/dev/video3")
        monkeypatch.setattr(video_device, "probe", lambda path: None)
        video.opens = False
        with pytest.raises(CameraError, match="usb-Some_Camera"):
            OpenCvCamera(video.clock, str(link), size=SIZE, cv2=video.module)
        assert video.opened == [(3, cv2.CAP_V4L2)]

    def test_group(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The group is the device's own, not a guess."""
        device = tmp_path / "video7"
        device.touch(mode=stat.S_IRUSR)
        nobody = SimpleNamespace(gr_name="cameras")
        monkeypatch.setattr(grp, "getgrgid", lambda gid: nobody)
        monkeypatch.setattr(os, "open", lambda path, flags: (_ for _ in ()).throw(PermissionError(13, "no")))
        with pytest.raises(CameraError, match="usermod -aG cameras"):
            video_device.probe(device)


JETSON: dict[str, Any] = {"size": SIZE, "exposure_us": 5000, "gain": 2.0}


class TestGStreamer:
    def test_pipeline(self) -> None:
        text = argus_pipeline(1, size=(1920, 1080), exposure_us=5000, gain=2.5, frame_period_s=1 / 29.97)
        source, caps, *_, sink = text.split(" ! ")
        assert source == (
            "nvarguscamerasrc sensor-id=1 wbmode=5 awblock=true aelock=true"
            ' exposuretimerange="5000000 5000000" gainrange="2.5 2.5" ispdigitalgainrange="1 1"'
        )
        assert caps == "video/x-raw(memory:NVMM), width=1920, height=1080, format=NV12, framerate=2997/100"
        assert sink == "appsink drop=true max-buffers=1 sync=false"

    def test_frames(self, video: Video) -> None:
        with open_gstreamer(video.clock, 1, **JETSON, cv2=video.module) as camera:
            assert video.opened[0][1] == cv2.CAP_GSTREAMER
            for _ in range(3):
                asked_s = video.clock.now_s()
                frame = camera.capture(asked_s)
                assert frame.exposure_start_s <= taken(video).exposed_s()
                assert video.clock.now_s() - asked_s < 12 * PERIOD_S
            camera.lock()
            camera.unlock()
            assert frame.image.reshape(-1, 3).mean(0)[0] > 200, "red comes first"
        assert video.open_now == 0

    def test_a_long_exposure_makes_the_period_longer(self, video: Video) -> None:
        with open_gstreamer(video.clock, **{**JETSON, "exposure_us": 500_000}, cv2=video.module) as camera:
            assert camera.frame_period_s == 0.5
            assert "framerate=2/1" in str(video.opened[0][0])

    @pytest.mark.parametrize("missing", ["exposure_us", "gain"])
    def test_what_cannot_be_held(self, video: Video, missing: str) -> None:
        with pytest.raises(CameraError, match="CSI camera 0: set exposure_us and gain"):
            open_gstreamer(video.clock, **{**JETSON, missing: None}, cv2=video.module)

    @pytest.mark.parametrize("build", ["    GStreamer:   NO\n", ""])
    def test_an_opencv_without_gstreamer(self, video: Video, build: str) -> None:
        video.build = build
        with pytest.raises(CameraError, match=r"no GStreamer, .* python3-opencv"):
            open_gstreamer(video.clock, **JETSON, cv2=video.module)

    def test_a_pipeline_that_does_not_start(self, video: Video) -> None:
        video.opens = False
        with pytest.raises(CameraError, match="CSI camera 0: its pipeline does not start"):
            open_gstreamer(video.clock, **JETSON, cv2=video.module)

    def test_stalled(self, video: Video) -> None:
        with open_gstreamer(video.clock, **JETSON, cv2=video.module) as camera:
            video.dead_s = gone_s = video.clock.now_s()
            with pytest.raises(CameraError, match=f"CSI camera 0: {STALLED}"):
                camera.capture(gone_s)
            assert video.clock.now_s() - gone_s < 2.0

    def test_a_real_pipeline(self) -> None:
        if "GStreamer:                   YES" not in cv2.getBuildInformation():
            pytest.skip("this OpenCV has no GStreamer")
        pipeline = "videotestsrc pattern=snow ! video/x-raw, format=BGR, width=64, height=48 ! appsink"
        with GStreamerCamera(
            RealClock(), pipeline, name="test", size=SIZE, frame_period_s=PERIOD_S
        ) as camera:
            assert camera.capture(-math.inf).image.shape == (48, 64, 3)
