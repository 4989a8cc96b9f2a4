"""What all running cameras share: which frame a capture takes, and how it ends when none comes."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from shared_clock import SharedClock

from edge.camera.live import Image, LiveCamera, Shot, Wanted
from edge.errors import CameraError
from firmware_iface.clock import Clock, RealClock

PERIOD_S = 0.1


class Scripted(LiveCamera):
    """Each frame takes a period; what it shows and when it is said to have been exposed is up to the test."""

    def __init__(self, clock: Clock, **options: Any) -> None:
        super().__init__(clock, name="scripted", **{"frame_period_s": PERIOD_S, **options})
        self.reads: Callable[[], None] = lambda: None  # before each frame; may raise
        self.age_s = PERIOD_S
        self.start_s: float | None = None
        self.shows: Callable[[], Image | None] = self.noise
        self.silent = False
        self.pictures: list[weakref.ref[Image]] = []
        self.did: list[str] = []
        self._rng = np.random.default_rng(0)
        self._start()

    def noise(self) -> Image:
        return self._rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)

    def _read(self, wanted: Wanted) -> tuple[Shot, Image | None] | None:
        self.reads()
        self._clock.sleep_s(PERIOD_S)
        if self.silent:
            return None
        end_s = self._clock.now_s()
        shot = Shot(end_s - self.age_s if self.start_s is None else self.start_s, end_s)
        if not wanted(shot):
            return shot, None
        image = self.shows()
        if image is not None:
            self.pictures.append(weakref.ref(image))
        return shot, image

    def _hold(self) -> None:
        self.did.append("hold")

    def _let_go(self) -> None:
        self.did.append("let go")

    def _release(self) -> None:
        self.did.append("release")


@pytest.fixture
def clock() -> SharedClock:
    return SharedClock(100.0)


@pytest.fixture
def camera(clock: SharedClock) -> Iterator[Scripted]:
    with Scripted(clock) as made:
        yield made
        made.reads = lambda: None


class TestWhichFrame:
    def test_the_first_that_was_exposed_late_enough(self, camera: Scripted, clock: SharedClock) -> None:
        camera.age_s = 0.35
        asked_s = clock.now_s()
        frame = camera.capture(asked_s)
        assert asked_s <= frame.exposure_start_s < asked_s + 1.01 * PERIOD_S
        assert len(camera.pictures) == 1, "the ones before are not even decoded"

    def test_pictures_nobody_asked_for_are_not_decoded(self, camera: Scripted, clock: SharedClock) -> None:
        clock.sleep_s(3.0)
        assert camera.pictures == []
        assert camera.capture(-math.inf).sequence >= 30, "but counted"

    def test_one_picture_is_kept(self, camera: Scripted) -> None:
        for _ in range(8):
            camera.capture(-math.inf)
        gc.collect()
        assert sum(picture() is not None for picture in camera.pictures) <= 1

    def test_a_picture_cannot_be_spoilt(self, camera: Scripted) -> None:
        with pytest.raises(ValueError, match="read-only"):
            camera.capture(-math.inf).image[0] = 0

    def test_one_that_was_left_waiting_goes_to_nobody(self, camera: Scripted, clock: SharedClock) -> None:
        """Ctrl-C in a capture; the frame that it waited for must not be the answer to the next one."""

        def interrupt(dt: float) -> None:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clock, "sleep_s", interrupt)
            with pytest.raises(KeyboardInterrupt):
                camera.capture(-math.inf)
        clock.sleep_s(1.0)
        assert camera.pictures == []
        asked_s = clock.now_s()
        assert camera.capture(asked_s).exposure_start_s >= asked_s

    def test_instants_in_the_future(self, camera: Scripted, clock: SharedClock) -> None:
        later_s = clock.now_s() + 30.0
        frame = camera.capture(later_s)
        assert later_s <= frame.exposure_start_s <= later_s + 1.01 * PERIOD_S


def repeated(camera: Scripted, image: Image) -> Callable[[], Image]:
    return lambda: image.copy()


class TestTheSameFrame:
    def test_noise_that_does_not_change(self, camera: Scripted, clock: SharedClock) -> None:
        camera.shows = repeated(camera, camera.noise())
        camera.capture(-math.inf)
        asked_s = clock.now_s()
        with pytest.raises(CameraError, match=r"scripted: .* to the last bit: it repeats the same frame"):
            camera.capture(asked_s)
        assert clock.now_s() - asked_s < 2.0

    def test_a_single_bit(self, camera: Scripted) -> None:
        image = camera.noise()
        camera.shows = repeated(camera, image)
        camera.capture(-math.inf)
        image[3, 3, 1] ^= 1
        assert camera.capture(-math.inf).image[3, 3, 1] == image[3, 3, 1]

    def test_a_camera_that_repeats_for_a_while(self, camera: Scripted, clock: SharedClock) -> None:
        """The old picture does not pass for a new one, and the new one comes as soon as it is there."""
        image = camera.noise()
        camera.shows = repeated(camera, image)
        camera.capture(-math.inf)
        thaws_s = clock.now_s() + 1.0
        camera.shows = lambda: image.copy() if clock.now_s() < thaws_s else camera.noise()
        frame = camera.capture(clock.now_s())
        assert (frame.image != image).any()
        assert frame.exposure_end_s >= thaws_s

    @pytest.mark.parametrize("level", [0, 3, 255])
    def test_black_and_saturated_may_be_the_same(self, camera: Scripted, level: int) -> None:
        camera.shows = repeated(camera, np.full((6, 8, 3), level, np.uint8))
        first = camera.capture(-math.inf)
        second = camera.capture(-math.inf)
        assert second.sequence > first.sequence

    def test_time_that_stands_still(self, camera: Scripted, clock: SharedClock) -> None:
        camera.start_s = asked_s = clock.now_s()
        camera.capture(-math.inf)
        with pytest.raises(CameraError, match="all with one time stamp: it repeats the same frame"):
            camera.capture(-math.inf)
        assert clock.now_s() - asked_s < 2.0

    def test_frames_from_the_past_only(self, camera: Scripted, clock: SharedClock) -> None:
        camera.age_s = 10.0
        with pytest.raises(CameraError, match=r"none exposed late enough, the last one 10\.\d s ago"):
            camera.capture(clock.now_s())

    def test_pictures_that_cannot_be_decoded(self, camera: Scripted, clock: SharedClock) -> None:
        camera.shows = lambda: None
        with pytest.raises(CameraError, match=r"frames for 1\.\d s, but none that can be decoded"):
            camera.capture(clock.now_s())


class TestNoFrame:
    def test_silence(self, camera: Scripted, clock: SharedClock) -> None:
        camera.silent = True
        asked_s = clock.now_s()
        with pytest.raises(CameraError, match=r"^scripted: no frame for 1\.5 s: unplugged, or stalled$"):
            camera.capture(asked_s)
        assert clock.now_s() - asked_s < 2.0
        camera.silent = False
        assert camera.capture(clock.now_s()).image.any(), "it came back"

    def test_silence_is_noticed_however_far_the_instant(self, camera: Scripted, clock: SharedClock) -> None:
        camera.silent = True
        asked_s = clock.now_s()
        with pytest.raises(CameraError, match="no frame for"):
            camera.capture(asked_s + 3600.0)
        assert clock.now_s() - asked_s < 2.0

    def test_a_slow_camera_has_more_time(self, clock: SharedClock) -> None:
        with Scripted(clock, frame_period_s=2.0) as camera:
            camera.silent = True
            asked_s = clock.now_s()
            with pytest.raises(CameraError, match="no frame for"):
                camera.capture(asked_s)
            assert 5.9 < clock.now_s() - asked_s < 6.1

    def test_a_failure_is_the_caller_s(self, camera: Scripted, clock: SharedClock) -> None:
        def fail() -> None:
            raise CameraError("scripted: unplugged")

        camera.reads = fail
        clock.sleep_s(2 * PERIOD_S)
        for call in (lambda: camera.capture(-math.inf), camera.lock):
            with pytest.raises(CameraError, match=r"^scripted: unplugged$") as error:
                call()
            assert error.value.__cause__ is not None
        camera.unlock()
        assert camera.did == ["release"]

    def test_a_failure_nobody_foresaw(self, camera: Scripted, clock: SharedClock) -> None:
        def fail() -> None:
            raise MemoryError("out of\nbuffers")

        camera.reads = fail
        clock.sleep_s(2 * PERIOD_S)
        with pytest.raises(CameraError, match=r"^scripted: MemoryError: out of buffers$"):
            camera.capture(-math.inf)

    def test_none_from_the_beginning(self, clock: SharedClock) -> None:
        made: list[Scripted] = []

        class Dead(Scripted):
            def _read(self, wanted: Wanted) -> None:
                made.append(self)
                self._clock.sleep_s(PERIOD_S)

        with pytest.raises(CameraError, match="opened, but gives no frame"):
            Dead(clock)
        assert made[0].did == ["release"]


class TestOrders:
    def test_they_are_done_between_frames(self, camera: Scripted) -> None:
        camera.lock()
        camera.unlock()
        assert camera.did == ["hold", "let go"]

    def test_a_refusal_is_the_caller_s_and_ends_nothing(
        self, camera: Scripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> None:
            raise CameraError("scripted: cannot be held")

        monkeypatch.setattr(camera, "_hold", refuse)
        with pytest.raises(CameraError, match="cannot be held"):
            camera.lock()
        assert camera.capture(-math.inf).image.any()

    def test_close_is_the_end(self, camera: Scripted) -> None:
        camera.close()
        camera.close()
        camera.unlock()
        assert camera.did == ["release"]
        for call in (lambda: camera.capture(-math.inf), camera.lock):
            with pytest.raises(CameraError, match="scripted: closed"):
                call()

    def test_a_driver_that_does_not_come_back(
        self, camera: Scripted, clock: SharedClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        stuck = True

        def hang() -> None:
            while stuck:
                clock.sleep_s(0.05)

        camera.reads = hang
        clock.sleep_s(PERIOD_S)
        began_s = clock.now_s()
        with pytest.raises(CameraError, match="no frame for 1"):
            camera.capture(began_s)
        with pytest.raises(CameraError, match="no frame for 1"):
            camera.lock()
        camera.unlock()
        camera.close()
        assert clock.now_s() - began_s <= 5.1
        assert "does not come back" in caplog.text
        stuck = False
        clock.sleep_s(1.0)
        assert camera.did == ["release"], "what it was asked meanwhile is no longer done"

    def test_giving_back_may_fail(
        self, camera: Scripted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> None:
            raise RuntimeError("stuck")

        monkeypatch.setattr(camera, "_release", fail)
        camera.close()
        assert "giving it back failed" in caplog.text


class TestRealTime:
    def test_frames_and_the_end(self) -> None:
        """The same with threads that really run side by side."""
        clock = RealClock()

        class Quick(Scripted):
            def _read(self, wanted: Wanted) -> tuple[Shot, Image | None] | None:
                clock.sleep_s(0.001)
                shot = Shot(clock.now_s() - 0.001, clock.now_s())
                return shot, self.noise() if wanted(shot) else None

            def _start(self, *, warm_up_s: float = 0.0) -> None:
                super()._start(warm_up_s=warm_up_s)

        with Quick(clock, frame_period_s=0.001) as camera:
            sequence = -1
            for _ in range(50):
                asked_s = clock.now_s()
                frame = camera.capture(asked_s)
                assert frame.exposure_start_s >= asked_s
                assert frame.sequence > sequence
                sequence = frame.sequence
        assert camera.did == ["release"]


@pytest.mark.parametrize("period_s", [0.0, -1.0, math.nan, math.inf])
def test_periods_that_are_none(period_s: float, clock: SharedClock) -> None:
    with pytest.raises(ValueError, match="frame_period_s"):
        Scripted(clock, frame_period_s=period_s)
