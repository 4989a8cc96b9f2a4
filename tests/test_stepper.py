"""The motor thread: every step once, when it is due, and coils off at every end. In virtual time."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fake_gpio import FakeGpio
from shared_clock import SharedClock

from firmware_iface import step_dir
from firmware_iface.clock import RealClock
from firmware_iface.errors import MotorError
from firmware_iface.step_dir import CHIPS, StepDirAxis
from firmware_iface.stepper import Rates, StepperAxis, Switches
from firmware_iface.uln2003 import FULL_STEPS, HALF_STEPS, Uln2003Axis

PINS = (17, 18, 27, 22)
LOW, HIGH, BUTTON = 5, 6, 13
RATES = Rates(start_rate_steps_s=200.0, max_rate_steps_s=1000.0, acceleration_steps_s2=5000.0)
SWITCHES = Switches(low_limit=LOW, high_limit=HIGH, stop_button=BUTTON)


@dataclass(frozen=True)
class Bench:
    axis: StepperAxis
    gpio: FakeGpio
    clock: SharedClock

    def finish(self) -> int:
        while self.axis.moving:
            self.clock.sleep_s(0.05)
        return self.axis.position_steps

    def patterns(self) -> list[tuple[int, ...]]:
        """Levels at the four coils after each write since the last clearing of the record."""
        levels, seen = dict.fromkeys(PINS, 0), []
        for edge in self.gpio.edges:
            levels[edge.pin] = edge.level
            seen.append(tuple(levels.values()))
        return seen

    def coils(self) -> list[int]:
        return [self.gpio.levels[pin] for pin in PINS]


def _bench(
    *,
    overshoot_s: Callable[[], float] | None = None,
    rates: Rates = RATES,
    hold_s: float | None = None,
    half_steps: bool = True,
    inverted: bool = False,
) -> Bench:
    clock = SharedClock(overshoot_s=overshoot_s)
    gpio = FakeGpio(clock)
    gpio.setmode(gpio.BCM)
    gpio.pull = {pin: lambda: 0 for pin in (LOW, HIGH, BUTTON)}
    axis = Uln2003Axis(
        clock,
        PINS,
        rates=rates,
        half_steps=half_steps,
        inverted=inverted,
        hold_s=hold_s,
        switches=SWITCHES,
        gpio=gpio,
    )
    return Bench(axis, gpio, clock)


def test_making_one_leaves_the_coils_off() -> None:
    bench = _bench()
    assert {edge.level for edge in bench.gpio.edges} == {0}
    bench.axis.close()


@pytest.mark.parametrize("inverted", [False, True])
def test_ten_thousand_half_steps_up_and_down_lose_none(inverted: bool) -> None:
    bench = _bench(inverted=inverted)
    with bench.axis as axis:
        for steps in (10_000, -10_000):
            row = (axis.position_steps * (-1 if inverted else 1)) % 8
            before = len(bench.gpio.edges)
            axis.start_move(steps)
            assert bench.finish() == (steps if steps > 0 else 0)
            assert len(bench.gpio.edges) - before == 10_000, "a half step changes one coil"
            way = (1 if steps > 0 else -1) * (-1 if inverted else 1)
            expected = [HALF_STEPS[(row + way * k) % 8] for k in range(1, 10_001)]
            assert bench.patterns()[before:] == expected
    assert bench.coils() == [0, 0, 0, 0]


def test_full_steps_and_the_phase_outlives_the_coils() -> None:
    bench = _bench(half_steps=False)
    axis = bench.axis
    for turn in range(7):
        axis.enable()
        assert tuple(bench.coils()) == FULL_STEPS[3 * turn % 4]
        axis.start_move(3)
        bench.finish()
        assert tuple(bench.coils()) == FULL_STEPS[3 * (turn + 1) % 4]
        axis.release()
        assert bench.coils() == [0, 0, 0, 0]
    axis.close()


def test_steps_come_when_they_are_due_and_errors_do_not_add_up() -> None:
    luck = random.Random(1)
    bench = _bench(overshoot_s=lambda: luck.uniform(0.0, 0.0002))
    with bench.axis as axis:
        begun_s, before = bench.clock.now_s(), len(bench.gpio.edges)
        axis.start_move(4000)
        bench.finish()
    due_s = RATES.plan(4000).step_times() + begun_s
    late_s = [edge.at_s - due for edge, due in zip(bench.gpio.edges[before:], due_s, strict=False)]
    assert -1e-9 < min(late_s) <= max(late_s) <= 0.0004
    assert max(late_s[-100:]) <= 0.0004


@pytest.mark.parametrize("stall_s", [0.0015, 0.004, 0.3])
def test_after_a_stall_no_burst_and_after_a_long_one_a_new_ramp(stall_s: float) -> None:
    sleeps = iter(range(10**9))
    bench = _bench(overshoot_s=lambda: stall_s if next(sleeps) == 600 else 0.0)
    with bench.axis as axis:
        before = len(bench.gpio.edges)
        axis.start_move(1500)
        assert bench.finish() == 1500
    times = [edge.at_s for edge in bench.gpio.edges[before : before + 1500]]
    gaps = [after - this for this, after in itertools.pairwise(times)]
    stall = gaps.index(max(gaps[100:-100]))
    assert gaps[stall] > 0.9 * stall_s
    assert min(gaps) > 0.8 * 0.001 - 1e-9, "a burst"
    if stall_s > 2.0 / RATES.max_rate_steps_s:
        assert gaps[stall + 1] > 0.003, "it went on at full speed"
    else:
        assert times[-1] - times[0] == pytest.approx(RATES.plan(1500).duration_s - 1.0 / 200.0, abs=0.001)


@pytest.mark.parametrize("late_s", [0.0025, 0.006, 0.05])
def test_a_machine_that_is_always_late_gets_there_all_the_same(late_s: float) -> None:
    constant = Rates(start_rate_steps_s=500.0, max_rate_steps_s=500.0, acceleration_steps_s2=1.0)
    bench = _bench(overshoot_s=lambda: late_s, rates=constant)
    with bench.axis as axis:
        before = len(bench.gpio.edges)
        axis.start_move(200)
        assert bench.finish() == 200
        times = [edge.at_s for edge in bench.gpio.edges[before:]]
    assert min(after - this for this, after in itertools.pairwise(times)) > 0.8 * 0.002 - 1e-9, "a burst"
    assert times[-1] - bench.gpio.edges[before - 1].at_s < 200 * 2 * (0.004 + late_s)


@pytest.mark.parametrize(("pin", "way"), [(LOW, -1), (HIGH, 1), (BUTTON, 1), (BUTTON, -1)])
def test_a_switch_stops_it_within_5_ms_and_bars_the_way(pin: int, way: int) -> None:
    bench = _bench()
    pressed_s = 0.7
    bench.gpio.pull[pin] = lambda: int(bench.clock.now_s() >= pressed_s)
    with bench.axis as axis:
        start = len(bench.gpio.edges)
        axis.start_move(way * 2000)
        stands = bench.finish()
        last_s = bench.gpio.edges[-1].at_s
        assert last_s <= pressed_s + 0.005
        assert 0 < stands * way == len(bench.gpio.edges) - start < 2000
        assert axis.why_ended is not None
        with pytest.raises(MotorError, match=r"stop button|limit switch"):
            axis.start_move(way)
        if pin == BUTTON:
            with pytest.raises(MotorError, match="stop button"):
                axis.start_move(-way)
        else:
            axis.start_move(-way * 10)
            assert bench.finish() == stands - way * 10
            assert axis.why_ended is None


def test_the_switches_are_looked_at_every_5_ms_also_between_slow_steps() -> None:
    bench = _bench(rates=Rates(start_rate_steps_s=20.0, max_rate_steps_s=50.0, acceleration_steps_s2=100.0))
    with bench.axis as axis:
        axis.start_move(20)
        bench.finish()
    looks = sorted({at_s for at_s, pin in bench.gpio.reads if pin == BUTTON})
    assert max(b - a for a, b in itertools.pairwise(looks)) <= 0.005


def test_stop_slows_down_at_the_planned_rate() -> None:
    bench = _bench()
    with bench.axis as axis:
        before = len(bench.gpio.edges)
        axis.start_move(3000)
        bench.clock.sleep_s(0.5)
        asked = axis.position_steps
        axis.stop()
        stands = bench.finish()
        # (1000^2 - 200^2) / (2 * 5000) = 96 steps from full speed to the start rate
        assert 95 <= stands - asked <= 99
        times = [edge.at_s for edge in bench.gpio.edges[before:]]
    gaps = [after - this for this, after in itertools.pairwise(times)]
    assert min(gaps) > 0.00079
    assert gaps[stands - 2] > 0.003


def test_coils_go_off_after_the_hold_and_come_back_in_phase() -> None:
    bench = _bench(hold_s=0.1)
    with bench.axis as axis:
        bench.clock.sleep_s(0.15)
        assert bench.coils() == [0, 0, 0, 0], "enabled, and then nothing to do"
        axis.start_move(3)
        bench.clock.sleep_s(0.001)
        assert tuple(bench.coils()) == HALF_STEPS[0]
        while axis.moving:
            bench.clock.sleep_s(0.002)
        assert tuple(bench.coils()) == HALF_STEPS[3]
        bench.clock.sleep_s(0.05)
        assert tuple(bench.coils()) == HALF_STEPS[3]
        axis.start_move(2)
        bench.clock.sleep_s(0.06)
        assert tuple(bench.coils()) == HALF_STEPS[5], "the first hold switched the second motion off"
        bench.clock.sleep_s(0.2)
        assert bench.coils() == [0, 0, 0, 0]


def test_an_error_in_the_block_switches_the_coils_off_and_ends_the_thread() -> None:
    bench = _bench()

    def block() -> None:
        with bench.axis as axis:
            axis.start_move(3000)
            bench.clock.sleep_s(0.3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block()
    assert bench.coils() == [0, 0, 0, 0]
    assert 0 < bench.axis.position_steps < 3000
    assert not bench.gpio.directions


def test_a_chip_that_fails_in_mid_move_ends_it_with_a_true_count(caplog: pytest.LogCaptureFixture) -> None:
    bench = _bench()
    with bench.axis as axis:
        bench.gpio.fail_after = 100
        axis.start_move(3000)
        assert bench.finish() == 99
        assert axis.why_ended == "error: ULN2003 of z: cannot drive pins 18: the chip is gone"
        assert bench.coils() == [0, 0, 0, 0]
    assert "the chip is gone" in caplog.text


def test_release_and_close_from_another_thread_end_it() -> None:
    bench = _bench()
    bench.axis.enable()
    bench.axis.start_move(3000)
    bench.clock.sleep_s(0.2)
    bench.axis.release()
    stands, writes = bench.axis.position_steps, len(bench.gpio.edges)
    assert not bench.axis.moving
    assert bench.coils() == [0, 0, 0, 0]
    bench.axis.enable()
    assert tuple(bench.coils()) == HALF_STEPS[stands % 8], "a step was counted that the coils did not see"
    bench.axis.start_move(-stands)
    bench.clock.sleep_s(0.01)
    bench.axis.close()
    assert len(bench.gpio.edges) > writes
    assert bench.coils() == [0, 0, 0, 0]
    assert not bench.gpio.directions


LEFT_OPEN = """
import atexit, sys
from fake_gpio import FakeGpio
from firmware_iface import step_dir
from firmware_iface.clock import RealClock
from firmware_iface.stepper import Rates
from firmware_iface.uln2003 import Uln2003Axis
gpio = FakeGpio(RealClock())
gpio.setmode(gpio.BCM)
atexit.register(lambda: print(axis.position_steps, *gpio.levels.values(), len(gpio.directions)))
axis = Uln2003Axis(RealClock(), (17, 18, 27, 22), rates=Rates(500, 500, 1), hold_s=None, gpio=gpio)
axis.enable()
axis.start_move(9)
{end}
"""


@pytest.mark.parametrize("end", ["", "raise ZeroDivisionError", "sys.exit(3)"])
def test_an_interpreter_that_ends_without_close_ends_with_the_coils_off(end: str) -> None:
    script = LEFT_OPEN.replace("{end}", end)
    paths = os.pathsep.join(str(folder) for folder in (Path(__file__).parent, Path(__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.stdout.split() == ["9", "0", "0", "0", "0", "0"], done.stderr


def test_on_the_machines_own_clock() -> None:
    gpio = FakeGpio(RealClock())
    gpio.setmode(gpio.BCM)
    quick = Rates(start_rate_steps_s=500.0, max_rate_steps_s=2000.0, acceleration_steps_s2=20000.0)
    with Uln2003Axis(RealClock(), PINS, rates=quick, gpio=gpio) as axis:
        axis.start_move(200)
        while axis.moving:
            RealClock().sleep_s(0.005)
        assert axis.position_steps == 200
    assert not any(gpio.levels.values())


@pytest.mark.parametrize("chip", [*CHIPS, "slow"])
@pytest.mark.parametrize("inverted", [False, True])
def test_step_dir_pulses_keep_to_the_data_sheet(
    chip: str, inverted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python alone is slower than the real chips; this one is slower than Python.
    slow = replace(CHIPS["a4988"], high_ns=200_000, low_ns=300_000, set_up_ns=400_000)
    monkeypatch.setattr(step_dir, "CHIPS", {**CHIPS, "slow": slow})
    data_sheet = step_dir.CHIPS[chip]
    clock = SharedClock()
    gpio = FakeGpio(clock)
    gpio.setmode(gpio.BCM)
    made = {"step_pin": 20, "dir_pin": 21, "enable_pin": 16}
    axis = StepDirAxis(clock, chip, **made, rates=RATES, inverted=inverted, hold_s=None, gpio=gpio)
    assert gpio.levels == {20: 0, 21: 0, 16: 1}, "enable is active low: coils off"
    with axis:
        assert gpio.levels[16] == 0
        for steps in (300, -301):
            axis.start_move(steps)
            while axis.moving:
                clock.sleep_s(0.05)
        assert axis.position_steps == -1
    assert gpio.levels == {20: 0, 21: 0, 16: 1}
    position, way, settled_ns, step_ns = 0, 0, 0, {0: 0, 1: 0}
    for edge in gpio.edges:
        if edge.pin == 21:
            way = edge.level
        if edge.pin in (16, 21):
            settled_ns = edge.real_ns
        elif edge.pin == 20 and edge.level == 1:
            assert edge.real_ns - settled_ns >= data_sheet.set_up_ns
            assert edge.real_ns - step_ns[0] >= data_sheet.low_ns
            position += 1 if way == int(not inverted) else -1
        elif edge.pin == 20 and step_ns[1]:
            assert edge.real_ns - step_ns[1] >= data_sheet.high_ns
        if edge.pin == 20:
            step_ns[edge.level] = edge.real_ns
    assert position == -1


def test_microstep_pins_are_set_before_the_coils_come_on() -> None:
    gpio = FakeGpio()
    gpio.setmode(gpio.BCM)
    pins = {"step_pin": 20, "dir_pin": 21, "enable_pin": 16}
    clock = SharedClock()
    for chip in CHIPS.values():
        for microsteps, levels in chip.microsteps.items():
            mode = (7, 8, 9)[: len(levels)]
            axis = StepDirAxis(
                clock,
                chip.name.lower(),
                **pins,
                rates=RATES,
                microstep_pins=mode,
                microsteps=microsteps,
                gpio=gpio,
            )
            assert tuple(gpio.levels[pin] for pin in mode) == levels
            assert gpio.levels[16] == 1
            axis.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chip": "l298"}, "need one of a4988, drv8825, tmc2209"),
        ({"microsteps": 8}, "without microstep_pins"),
        ({"microsteps": 64, "microstep_pins": (7, 8, 9)}, "a DRV8825 has 1, 2, 4, 8, 16, 32"),
        ({"microsteps": 8, "microstep_pins": (7, 8)}, "a DRV8825 has MODE0, MODE1, MODE2"),
        ({"dir_pin": 20}, "twice"),
        ({"hold_s": -1.0}, "hold_s = -1.0"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, object], message: str) -> None:
    gpio = FakeGpio()
    chosen = {"chip": "drv8825", "step_pin": 20, "dir_pin": 21, "enable_pin": 16, **options}
    with pytest.raises(ValueError, match=message):
        StepDirAxis(SharedClock(), rates=RATES, gpio=gpio, **chosen)  # type: ignore[arg-type]
    assert not gpio.edges
