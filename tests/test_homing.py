"""Home: the switch is found to the step, whatever it does, and the motor stands when it cannot be."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_gpio import FakeGpio
from shared_clock import SharedClock

from firmware_iface.clock import VirtualClock
from firmware_iface.errors import LimitError, MotorError, MoveCancelled
from firmware_iface.journal import Journal
from firmware_iface.simulated import SimulatedAxis
from firmware_iface.stage import Stage
from firmware_iface.stepper import Rates, Switches
from firmware_iface.uln2003 import Uln2003Axis

LOW, HIGH, BUTTON = 5, 6, 13
PINS = (17, 18, 27, 22)
RATES = Rates(start_rate_steps_s=1000.0, max_rate_steps_s=2000.0, acceleration_steps_s2=20000.0)
UM = 0.5
RANGE = 300


@dataclass
class Bench:
    """A stage from -300 to 300 steps between two switches, at the counts -``closes_at`` and 350."""

    path: Path
    wishes: dict[str, Any] = field(default_factory=dict)
    hysteresis: int = 0
    closes_at: int = 350

    def __post_init__(self) -> None:
        self.clock = SharedClock()
        self.gpio = FakeGpio(self.clock)
        self.gpio.setmode(self.gpio.BCM)
        self.button = 0
        self.last = {LOW: 0, HIGH: 0}
        self.gpio.pull = {
            LOW: lambda: self.read(LOW, -1),
            HIGH: lambda: self.read(HIGH, 1),
            BUTTON: lambda: self.button,
        }
        switches = Switches(low_limit=LOW, high_limit=HIGH, stop_button=BUTTON)
        self.axis = Uln2003Axis(self.clock, PINS, rates=RATES, switches=switches, gpio=self.gpio)
        wishes = {"um_per_step": UM, "limits_steps": (-RANGE, RANGE), "backlash_steps": 20, **self.wishes}
        self.stage = Stage(self.axis, self.clock, journal=Journal(self.path), **wishes)
        self.axis.enable()

    def read(self, pin: int, direction: int) -> int:
        """The switch's level; it opens again ``hysteresis`` steps before where it has closed."""
        along = self.axis.position_steps * direction
        closes_at = self.closes_at if pin == LOW else 350
        self.last[pin] = int(along >= closes_at - (self.hysteresis if self.last[pin] else 0))
        return self.last[pin]

    def home(
        self, direction: int = -1, position: int | None = None, most_steps: int = 1200, **how: Any
    ) -> None:
        self.stage.home(
            direction, 320 * direction if position is None else position, most_steps=most_steps, **how
        )


Make = Callable[..., Bench]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes benches; the motors of all are closed in the end."""
    made: list[Bench] = []

    def new(**wishes: Any) -> Bench:
        physics = {key: wishes.pop(key) for key in ("hysteresis", "closes_at") if key in wishes}
        made.append(Bench(tmp_path / "stage.journal", wishes, **physics))
        return made[-1]

    yield new
    for bench in made:
        bench.stage.close()


@pytest.mark.parametrize("direction", [-1, 1])
@pytest.mark.parametrize("hysteresis", [0, 1, 90])
@pytest.mark.parametrize("compensation", ["one-sided", "on-reversal"])
def test_found_to_the_step(make: Make, direction: int, hysteresis: int, compensation: str) -> None:
    bench = make(hysteresis=hysteresis, compensation=compensation)
    stage = bench.stage
    bench.home(direction)
    assert not bench.axis.moving
    assert bench.axis.pressed(direction) is None, "it stands off the switch"
    assert stage.uncertain is None
    low_um, high_um = stage.limits_um
    assert low_um <= stage.position_um <= high_um, "and in its limits"
    # A move ends one-sided first, and then the screw's count is the position.
    stage.move_to_steps(0)
    stage.move_to_steps(50)
    shift = bench.axis.position_steps - 50
    slack = 20 if compensation == "on-reversal" and direction < 0 else 0
    assert shift == (350 - 320) * direction + slack, "the switch closes at 320"
    stage.close()
    again = make(compensation=compensation)
    assert (again.stage.position_steps, again.stage.uncertain) == (50, None)


def test_it_closes_first_fast_and_then_slowly(make: Make) -> None:
    bench = make(hysteresis=10)
    intervals_s = []

    def noted() -> int:
        was = bench.last[LOW]
        if bench.read(LOW, -1) > was:
            before, last = bench.gpio.edges[-2:]
            intervals_s.append(last.at_s - before.at_s)
        return bench.last[LOW]

    bench.gpio.pull[LOW] = noted
    bench.home()
    fast_s, slow_s = intervals_s
    assert fast_s < 0.0006
    assert slow_s >= 0.001


@pytest.mark.parametrize("hysteresis", [0, 30])
def test_from_where_it_is_pressed_already(make: Make, hysteresis: int) -> None:
    bench = make(hysteresis=hysteresis, closes_at=0)
    assert bench.axis.pressed(-1) == "lower limit switch"
    bench.home()
    assert bench.axis.pressed(-1) is None
    assert bench.stage.position_steps - bench.axis.position_steps == -320, "it closes at count 0"


def test_a_switch_that_never_comes(make: Make) -> None:
    bench = make(closes_at=10_000)
    with pytest.raises(
        MotorError, match="z: no home found: the lower limit switch did not come within 700 steps"
    ):
        bench.home(most_steps=700)
    assert not bench.axis.moving
    assert bench.axis.position_steps == -700
    assert "did not come" in str(bench.stage.uncertain), "something else may have held it up"


@pytest.mark.parametrize("room", [60, 400])
def test_a_switch_that_is_stuck_from_the_start(make: Make, room: int) -> None:
    bench = make()
    bench.stage.move_to_steps(RANGE - room)
    bench.gpio.pull[LOW] = lambda: 1
    with pytest.raises(
        MotorError,
        match=f"the lower limit switch is still pressed {room} steps away, and farther back is not",
    ):
        bench.home()
    assert not bench.axis.moving
    assert bench.axis.position_steps == RANGE, "no farther than its soft limit"
    assert bench.stage.uncertain is None


def test_a_switch_that_sticks_once_pressed(make: Make) -> None:
    bench = make(hysteresis=10**6)
    with pytest.raises(MotorError, match="still pressed 650 steps away"):
        bench.home()
    assert bench.axis.position_steps == RANGE, "the approach came from there, or it is inside the limits"


def test_a_wire_that_breaks_on_the_way_drives_nobody_into_the_specimen(make: Make) -> None:
    bench = make()
    bench.stage.move_to_steps(200)
    broken: list[int] = []

    def breaks() -> int:
        if bench.axis.position_steps < 150:
            broken.append(bench.axis.position_steps)
        return int(bool(broken))

    bench.gpio.pull[LOW] = breaks
    with pytest.raises(MotorError, match="is it stuck, or its wire broken"):
        bench.home()
    assert broken[0] == 149
    assert bench.axis.position_steps == RANGE, "as far as it was safe to go when it was begun"


def test_a_switch_that_bounces_is_found_all_the_same(make: Make) -> None:
    bench, luck = make(hysteresis=3), random.Random(1)
    since_s = {"level": 0, "at": -1.0}

    def bouncing() -> int:
        level = bench.read(LOW, -1)
        if level != since_s["level"]:
            since_s.update(level=level, at=bench.clock.now_s())
        return luck.randint(0, 1) if bench.clock.now_s() - since_s["at"] < 0.004 else level

    bench.gpio.pull[LOW] = bouncing
    bench.home()
    assert bench.stage.uncertain is None
    shift = bench.stage.position_steps - bench.axis.position_steps
    assert abs(shift - 30) <= 5, "a few steps are made while it bounces"


def test_a_switch_that_never_reads_steady(make: Make) -> None:
    bench, levels = make(), itertools.cycle((0, 1))
    bench.gpio.pull[LOW] = lambda: next(levels)
    with pytest.raises(MotorError, match="the lower limit switch never reads the same for 10 ms"):
        bench.home()
    assert bench.axis.position_steps == 0
    assert bench.stage.uncertain is None


def test_a_switch_that_opened_and_never_closes_again(make: Make) -> None:
    bench = make()
    fallen: list[bool] = [False]

    def falls_off() -> int:
        level = int(bench.axis.position_steps <= -100 and not fallen[0])
        fallen[0] |= bool(bench.last[LOW]) and not level
        bench.last[LOW] = level
        return level

    bench.gpio.pull[LOW] = falls_off
    with pytest.raises(MotorError, match="the lower limit switch opened, and did not close again within"):
        bench.home()
    assert bench.stage.uncertain is not None


@pytest.mark.parametrize("after_steps", [0, 100])
def test_the_stop_button_ends_the_search(make: Make, after_steps: int) -> None:
    bench = make()
    bench.gpio.pull[BUTTON] = lambda: int(bench.axis.position_steps <= -after_steps)
    with pytest.raises(MotorError, match="z: no home found: the stop button"):
        bench.home()
    assert not bench.axis.moving
    assert bench.axis.position_steps == -after_steps
    assert bench.stage.uncertain is None
    assert bench.stage.position_steps == -after_steps


def test_cancelled(make: Make) -> None:
    bench = make()
    with pytest.raises(MoveCancelled):
        bench.home(cancel=lambda: bench.clock.now_s() > 0.1)
    assert not bench.axis.moving
    assert -350 < bench.stage.position_steps == bench.axis.position_steps < 0
    assert bench.stage.uncertain is None


def test_it_ends_any_doubt_and_forgets_a_focus_that_was_counted_otherwise(make: Make, tmp_path: Path) -> None:
    (tmp_path / "stage.journal").write_bytes(b"?" * 300)
    bench = make(uncertain_travel_steps=100)
    assert bench.stage.uncertain is not None
    bench.home()
    assert bench.stage.uncertain is None
    assert bench.stage.limits_um == (-RANGE * UM, RANGE * UM)
    bench.stage.close()
    assert make().stage.uncertain is None


def test_the_last_focus_keeps_its_place_on_the_specimen(make: Make) -> None:
    bench = make(focus_travel_steps=150)
    bench.stage.move_to_steps(-100)
    bench.stage.found_focus()
    bench.home()
    assert bench.stage.limits_um == ((-100 + 30 - 150) * UM, (-100 + 30 + 150) * UM)


def test_killed_on_the_way_it_is_uncertain_and_home_is_found_again(make: Make, tmp_path: Path) -> None:
    bench = make()
    images: list[bytes] = []

    def look() -> bool:
        images.append((tmp_path / "stage.journal").read_bytes())
        return False

    bench.home(cancel=look)
    bench.stage.close()
    for image in set(images):
        (tmp_path / "stage.journal").write_bytes(image)
        again = make()
        assert "was cut off" in str(again.stage.uncertain)
        again.home()
        assert again.stage.uncertain is None
        again.stage.close()
    assert len(set(images)) == 2


@pytest.mark.parametrize(
    ("wishes", "complaint"),
    [
        ({"direction": 0}, "direction = 0"),
        ({"most_steps": 0}, "most_steps = 0"),
        (
            {"direction": -1, "position": 300},
            "home at 150 um cannot be the lower end of a stage with the limits -150",
        ),
        ({"direction": 1, "position": -300}, "home at -150 um cannot be the upper end"),
        ({"direction": -1, "position": -901}, "home at -450.5 um cannot be the lower end"),
    ],
)
def test_impossible_homes_are_refused(make: Make, wishes: dict[str, Any], complaint: str) -> None:
    bench = make()
    with pytest.raises(ValueError, match=complaint):
        bench.home(**wishes)
    assert bench.axis.position_steps == 0


def test_a_motor_without_a_switch() -> None:
    clock = VirtualClock()
    stage = Stage(SimulatedAxis(clock, seed=0), clock, um_per_step=1.0, limits_steps=(-10, 10))
    with pytest.raises(MotorError, match="z: no home to be found: this motor has no upper limit switch"):
        stage.home(1, 10, most_steps=100)


# -- switches in a move -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pin", "says"),
    [(LOW, "z: the lower limit switch ended the move at"), (BUTTON, "z: the stop button ended")],
)
def test_a_switch_that_ends_a_move_is_named_and_the_position_is_known(
    make: Make, pin: int, says: str
) -> None:
    bench = make()
    bench.gpio.pull[pin] = lambda: int(bench.axis.position_steps == -120)
    with pytest.raises(MotorError, match=says):
        bench.stage.move_to_steps(-200)
    assert bench.stage.uncertain is None
    assert bench.stage.position_steps == bench.axis.position_steps == -120
    with pytest.raises(MotorError, match="is pressed"):
        bench.stage.move_to_steps(-200)
    assert bench.stage.uncertain is None
    bench.gpio.pull[pin] = lambda: 0
    bench.stage.move_to_steps(10)
    assert bench.stage.position_steps == 10


def test_an_error_of_the_motor_in_a_move_is_a_doubt(make: Make) -> None:
    bench = make(uncertain_travel_steps=50)
    bench.clock.sleep_s(0.0)
    bench.gpio.fail_after = 100
    with pytest.raises(MotorError, match="the motion ended in an error"):
        bench.stage.move_to_steps(-200)
    assert "error" in str(bench.stage.uncertain)
    bench.gpio.fail_after = None
    with pytest.raises(LimitError, match="uncertain"):
        bench.stage.move_to_steps(200)
