"""What every axis must do, whatever drives it: one class of tests over all back ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from emulators.board import Wire
from emulators.gcode import Grbl, Marlin
from emulators.klipper import Klipper
from emulators.sangaboard import Sangaboard
from fake_gpio import FakeGpio
from shared_clock import SharedClock

from firmware_iface.axis import Axis
from firmware_iface.clock import Clock, VirtualClock
from firmware_iface.errors import MotionError, MotorError
from firmware_iface.gcode import GcodeAxis
from firmware_iface.klipper import KlipperAxis
from firmware_iface.sangaboard import SangaboardAxis
from firmware_iface.simulated import SimulatedAxis
from firmware_iface.step_dir import StepDirAxis
from firmware_iface.stepper import Rates
from firmware_iface.uln2003 import Uln2003Axis


@dataclass(frozen=True)
class Bench:
    """One axis under test and the clock it lives on."""

    axis: Axis
    clock: Clock

    def watch(self, limit_s: float = 30.0) -> list[int]:
        """Let time pass until the axis stands; the positions seen on the way, the last one included."""
        begun_s = self.clock.now_s()
        seen = [self.axis.position_steps]
        while self.axis.moving:
            assert self.clock.now_s() - begun_s < limit_s, "the axis never came to rest"
            self.clock.sleep_s(0.002)
            seen.append(self.axis.position_steps)
        return seen


def _simulated() -> Bench:
    clock = VirtualClock(start_s=1000.0)
    return Bench(SimulatedAxis(clock, seed=1), clock)


def _simulated_that_misses() -> Bench:
    clock = VirtualClock()
    return Bench(SimulatedAxis(clock, missed_step_probability=0.2, seed=2), clock)


def _sangaboard() -> Bench:
    clock = VirtualClock()
    return Bench(SangaboardAxis(Wire(Sangaboard(clock, ramp_time_us=100_000, z=-70), clock), clock), clock)


def _grbl() -> Bench:
    clock = VirtualClock()
    wire = Wire(Grbl(clock), clock)
    return Bench(GcodeAxis(wire, clock, dialect="grbl", steps_per_mm=400, feed_mm_min=200), clock)


def _marlin() -> Bench:
    clock = VirtualClock()
    wire = Wire(Marlin(clock, z=40), clock)
    axis = GcodeAxis(
        wire, clock, dialect="marlin", steps_per_mm="400", feed_mm_min=150, acceleration_mm_s2=20
    )
    return Bench(axis, clock)


def _klipper() -> Bench:
    clock = VirtualClock()
    return Bench(
        KlipperAxis(Wire(Klipper(clock, z=-30), clock), clock, steps_per_mm=400, feed_mm_min=150), clock
    )


_RATES = Rates(start_rate_steps_s=200.0, max_rate_steps_s=1000.0, acceleration_steps_s2=5000.0)


def _fake_gpio(clock: Clock) -> FakeGpio:
    gpio = FakeGpio(clock)
    gpio.setmode(gpio.BCM)
    return gpio


def _uln2003() -> Bench:
    clock = SharedClock(start_s=1000.0)
    return Bench(Uln2003Axis(clock, (17, 18, 27, 22), rates=_RATES, gpio=_fake_gpio(clock)), clock)


def _step_dir() -> Bench:
    clock = SharedClock()
    pins = {"step_pin": 20, "dir_pin": 21, "enable_pin": 16}
    return Bench(StepDirAxis(clock, "drv8825", **pins, rates=_RATES, gpio=_fake_gpio(clock)), clock)


AXES: dict[str, Callable[[], Bench]] = {
    "simulated": _simulated,
    "simulated_that_misses": _simulated_that_misses,
    "uln2003": _uln2003,
    "step_dir": _step_dir,
    "sangaboard": _sangaboard,
    "grbl": _grbl,
    "marlin": _marlin,
    "klipper": _klipper,
}


@pytest.fixture(params=AXES.values(), ids=AXES.keys())
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """An axis as constructed: coils off. Closed after the test."""
    made: Bench = request.param()
    yield made
    made.axis.close()


@pytest.fixture
def enabled(bench: Bench) -> Bench:
    """An axis that may move."""
    bench.axis.enable()
    return bench


class TestAxisContract:
    """The docstrings of ``Axis``, one promise at a time."""

    def test_making_and_enabling_moves_nothing(self, bench: Bench) -> None:
        start = bench.axis.position_steps
        assert not bench.axis.moving
        bench.axis.enable()
        assert not bench.axis.moving
        bench.clock.sleep_s(0.05)
        assert bench.axis.position_steps == start

    @pytest.mark.parametrize("steps", [1, -1, 7, 300, -300, 2000])
    def test_counts_exactly_the_steps_asked_for(self, enabled: Bench, steps: int) -> None:
        start = enabled.axis.position_steps
        planned_s = enabled.axis.start_move(steps)
        assert planned_s > 0.0
        seen = enabled.watch()
        assert seen[-1] == enabled.axis.position_steps == start + steps
        assert seen == sorted(seen, reverse=steps < 0), "the count went back and forth"
        assert min(seen) >= min(start, start + steps)
        assert max(seen) <= max(start, start + steps)

    def test_start_move_does_not_block_and_plans_its_duration(self, enabled: Bench) -> None:
        begun_s = enabled.clock.now_s()
        planned_s = enabled.axis.start_move(500)
        assert enabled.clock.now_s() - begun_s < 0.1
        assert enabled.axis.moving
        enabled.watch()
        assert enabled.clock.now_s() - begun_s == pytest.approx(planned_s, rel=0.1, abs=0.05)

    def test_no_steps_are_no_motion(self, enabled: Bench) -> None:
        start = enabled.axis.position_steps
        assert enabled.axis.start_move(0) == 0.0
        assert not enabled.axis.moving
        assert enabled.axis.position_steps == start

    def test_steps_are_integers(self, enabled: Bench) -> None:
        start = enabled.axis.position_steps
        with pytest.raises(TypeError):
            enabled.axis.start_move(2.5)  # type: ignore[arg-type]
        assert not enabled.axis.moving
        assert enabled.axis.position_steps == start

    def test_a_second_move_is_refused_and_disturbs_nothing(self, enabled: Bench) -> None:
        start = enabled.axis.position_steps
        enabled.axis.start_move(300)
        enabled.clock.sleep_s(0.05)
        with pytest.raises(MotorError, match="moving"):
            enabled.axis.start_move(10)
        assert enabled.watch()[-1] == start + 300

    def test_a_move_without_coils_is_refused(self, bench: Bench) -> None:
        start = bench.axis.position_steps
        with pytest.raises(MotorError, match="coils"):
            bench.axis.start_move(10)
        assert not bench.axis.moving
        assert bench.axis.position_steps == start

    @pytest.mark.parametrize("after_s", [0.0, 0.02, 0.3])
    @pytest.mark.parametrize("steps", [1500, -1500])
    def test_stop_in_mid_move_keeps_a_true_count(self, enabled: Bench, steps: int, after_s: float) -> None:
        start = enabled.axis.position_steps
        enabled.axis.start_move(steps)
        enabled.clock.sleep_s(after_s)
        asked_at = enabled.axis.position_steps
        enabled.axis.stop()
        end = enabled.watch(limit_s=2.0)[-1]
        gone = abs(end - start)
        assert abs(asked_at - start) <= gone < 1500
        assert (end - start) * steps >= 0
        enabled.clock.sleep_s(0.05)
        assert enabled.axis.position_steps == end, "it crept on after it had come to rest"
        enabled.axis.start_move(start - end)
        assert enabled.watch()[-1] == start

    def test_stop_and_stop_again(self, enabled: Bench) -> None:
        enabled.axis.stop()
        enabled.axis.start_move(1500)
        enabled.clock.sleep_s(0.3)
        enabled.axis.stop()
        enabled.clock.sleep_s(0.01)
        enabled.axis.stop()
        end = enabled.watch(limit_s=2.0)[-1]
        enabled.axis.stop()
        assert enabled.axis.position_steps == end
        assert not enabled.axis.moving

    def test_release_in_mid_move_ends_it_at_once(self, enabled: Bench) -> None:
        enabled.axis.start_move(1500)
        enabled.clock.sleep_s(0.3)
        enabled.axis.release()
        assert not enabled.axis.moving
        end = enabled.axis.position_steps
        enabled.clock.sleep_s(0.05)
        assert enabled.axis.position_steps == end
        with pytest.raises(MotorError, match="coils"):
            enabled.axis.start_move(1)

    def test_enabled_again_it_goes_on_counting(self, enabled: Bench) -> None:
        start = enabled.axis.position_steps
        enabled.axis.start_move(20)
        enabled.watch()
        enabled.axis.release()
        enabled.axis.release()
        enabled.axis.enable()
        enabled.axis.start_move(-50)
        assert enabled.watch()[-1] == start - 30

    def test_close_is_final_and_may_be_repeated(self, enabled: Bench) -> None:
        enabled.axis.start_move(1500)
        enabled.clock.sleep_s(0.1)
        enabled.axis.close()
        enabled.axis.close()
        assert not enabled.axis.moving
        for again in (enabled.axis.enable, lambda: enabled.axis.start_move(1)):
            with pytest.raises(MotorError, match="closed"):
                again()
        enabled.axis.stop()
        enabled.axis.release()

    def test_with_enables_and_releases_even_after_an_error(self, bench: Bench) -> None:
        def block() -> None:
            with bench.axis as axis:
                axis.start_move(1500)
                bench.clock.sleep_s(0.1)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            block()
        assert not bench.axis.moving
        with pytest.raises(MotorError, match="closed"):
            bench.axis.start_move(1)

    def test_errors_can_be_caught_as_one_family(self, bench: Bench) -> None:
        with pytest.raises(MotionError):
            bench.axis.start_move(1)
        with pytest.raises(OSError, match="coils"):
            bench.axis.start_move(1)


def test_an_axis_that_cannot_be_enabled_is_closed() -> None:
    class Broken(SimulatedAxis):
        def enable(self) -> None:
            raise MotorError("no supply")

    axis = Broken(VirtualClock(), seed=0)
    with pytest.raises(MotorError, match="no supply"), axis:
        pytest.fail("the block ran without power")
    with pytest.raises(MotorError, match="closed"):
        axis.start_move(1)
