"""The simulated camera: it runs by itself, its frames are late, and each shows the stage as it was."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.camera.simulated import SimulatedCamera
from edge.simulator.fields import LEVEL, Field
from edge.simulator.sensor import Sensor
from firmware_iface.clock import VirtualClock

PERIOD_S = 0.1
#: Brightness tells the defocus: 0.2 of the empty field at -10 dof, 0.8 at +10.
RAMP = Field(
    (np.array([0.2, 0.8])[:, None, None, None] * np.full((1, 8, 8, 3), LEVEL)).astype(np.uint16),
    np.array([-10.0, 10.0]),
)
PLAIN = Sensor(background=1.0, full_well_e=1e9, read_noise_e=0.0, gamma=1.0, vignetting=0.0)


class Stage:
    """Goes up 5 dof a second, and remembers when it was asked."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []

    def __call__(self, t_s: float) -> float:
        self.asked_s.append(t_s)
        return 5 * t_s


def camera(clock: VirtualClock, stage: object = None, **options: object) -> SimulatedCamera:
    return SimulatedCamera(
        RAMP,
        PLAIN,
        clock,
        stage or Stage(),  # type: ignore[arg-type]
        **{"seed": 0, "frame_period_s": PERIOD_S, "latency_frames": 2, **options},  # type: ignore[arg-type]
    )


def shown_dof(image: np.ndarray) -> float:
    """Defocus of a frame of the ramp."""
    return float((image.mean() / 255 - 0.5) / 0.3 * 10)


class TestTime:
    @given(
        st.floats(0, 1e5),
        st.lists(st.floats(-1, 2), min_size=1, max_size=5),
        st.integers(0, 4),
        st.sampled_from([1 / 30, 0.1, 0.0333, 1.7]),
    )
    def test_never_early_never_from_the_past(
        self, start_s: float, offsets_s: list[float], latency: int, period_s: float
    ) -> None:
        clock = VirtualClock(start_s)
        made = camera(clock, lambda _: 0.0, latency_frames=latency, frame_period_s=period_s)
        sequence = -1
        for offset_s in offsets_s:
            begun_s = clock.now_s()
            asked_s = begun_s + offset_s
            frame = made.capture(asked_s)
            assert frame.exposure_start_s >= asked_s
            assert frame.exposure_end_s == pytest.approx(frame.exposure_start_s + period_s)
            assert clock.now_s() >= frame.exposure_end_s + latency * period_s
            # No later than it must be.
            assert clock.now_s() <= max(asked_s, begun_s) + (latency + 2.01) * period_s
            assert frame.sequence > sequence
            sequence = frame.sequence

    def test_frames_come_at_the_rate_of_the_camera(self, clock: VirtualClock) -> None:
        made = camera(clock)
        starts = [made.capture(-math.inf).exposure_start_s for _ in range(10)]
        np.testing.assert_allclose(np.diff(starts), PERIOD_S)

    def test_the_next_frame_may_show_what_is_past(self, clock: VirtualClock) -> None:
        """The trap that `not_before_s` is for: frames in flight when the stage stops."""
        made = camera(clock)
        clock.sleep_s(1.0)
        assert made.capture(-math.inf).exposure_start_s < 1.0
        for not_before_s in (-math.inf, 0.0):
            clock.sleep_s(5.0)
            asked_s = clock.now_s()
            frame = made.capture(not_before_s)
            assert frame.exposure_start_s < asked_s <= frame.exposure_end_s + 2 * PERIOD_S + 1e-9, (
                "one long gone"
            )
        asked_s = clock.now_s()
        assert made.capture(asked_s).exposure_start_s >= asked_s

    def test_frames_that_nobody_asked_for_are_counted(self, clock: VirtualClock) -> None:
        made = camera(clock)
        first = made.capture(0.0)
        clock.sleep_s(1.0)
        assert made.capture(clock.now_s()).sequence >= first.sequence + 10

    def test_latency(self, clock: VirtualClock) -> None:
        made = camera(clock, latency_frames=7)
        frame = made.capture(0.0)
        assert clock.now_s() == pytest.approx(frame.exposure_end_s + 7 * PERIOD_S)


class TestPicture:
    def test_shows_the_middle_of_the_exposure(self, clock: VirtualClock) -> None:
        stage = Stage()
        frame = camera(clock, stage).capture(0.25)
        middle_s = (frame.exposure_start_s + frame.exposure_end_s) / 2
        assert stage.asked_s == [middle_s]
        assert middle_s < clock.now_s(), "the past"
        assert shown_dof(frame.image) == pytest.approx(5 * middle_s, abs=0.2)

    def test_the_same_seed_the_same_frames(self) -> None:
        def run(seed: int) -> list[np.ndarray]:
            made = SimulatedCamera(RAMP, Sensor(), VirtualClock(), lambda _: 0.0, seed=seed)
            return [made.capture(-math.inf).image for _ in range(3)]

        for one, two in zip(run(1), run(1), strict=True):
            np.testing.assert_array_equal(one, two)
        assert any((a != b).any() for a, b in zip(run(1), run(2), strict=True))

    def test_noise_is_new_in_each_frame(self, clock: VirtualClock) -> None:
        made = SimulatedCamera(RAMP, Sensor(), clock, lambda _: 0.0, seed=0)
        assert (made.capture(-math.inf).image != made.capture(-math.inf).image).any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"frame_period_s": 0.0},
        {"frame_period_s": -1.0},
        {"frame_period_s": math.nan},
        {"frame_period_s": math.inf},
        {"latency_frames": -1},
    ],
)
def test_cameras_that_are_none(wrong: dict[str, float], clock: VirtualClock) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        camera(clock, **wrong)
