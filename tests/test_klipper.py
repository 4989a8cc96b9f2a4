"""Klipper's virtual port: pieces, stops, homing, shutdowns and other clients, against a strict emulation."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pytest
from emulators.board import FastClock, Pty, Wire
from emulators.gcode import Marlin
from emulators.klipper import Klipper

from firmware_iface.clock import RealClock, VirtualClock
from firmware_iface.errors import MotorError
from firmware_iface.klipper import PIECE_S, KlipperAxis, parse_count
from firmware_iface.stage import Stage


@dataclass
class Bench:
    clock: VirtualClock
    board: Klipper
    wire: Wire
    axis: KlipperAxis

    def rest(self) -> int:
        while self.axis.moving:
            self.clock.sleep_s(0.005)
        return self.axis.position_steps

    @property
    def pieces(self) -> list[str]:
        return [line for line in self.board.commands if line.startswith("G1 ")]


def _bench(*, homed: bool = True, **options: float | bool) -> Bench:
    clock = VirtualClock()
    board = Klipper(clock, **options)  # type: ignore[arg-type]
    board.homed = homed
    wire = Wire(board, clock)
    axis = KlipperAxis(wire, clock, steps_per_mm=400, feed_mm_min=150)
    axis.enable()
    return Bench(clock, board, wire, axis)


def test_a_motion_goes_in_pieces_each_awaited() -> None:
    # The emulation fails where a piece is sent before the one ahead of it stands.
    bench = _bench()
    bench.axis.start_move(1000)
    assert bench.rest() == bench.board.z == 1000
    assert bench.pieces == ["G1 Z0.625000 F150.000"] * 4
    assert "M112" not in bench.board.commands


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.4, 0.9, 1.3])
def test_a_stop_acts_within_one_piece(after_s: float) -> None:
    bench = _bench()
    bench.axis.start_move(5000)
    end_s = bench.clock.now_s() + after_s
    while bench.clock.now_s() < end_s:
        assert bench.axis.moving
        bench.clock.sleep_s(0.005)
    sent, stopped_s = len(bench.pieces), bench.clock.now_s()
    bench.axis.stop()
    assert bench.rest() == bench.board.z == 250 * sent
    assert len(bench.pieces) == sent
    assert bench.clock.now_s() - stopped_s < 0.25 + PIECE_S + 0.2


def test_a_thousand_moves_of_a_factor_that_is_no_decimal() -> None:
    clock = VirtualClock()
    board = Klipper(clock, steps_per_mm=16000 / 3)
    board.position_mm = (-1.0, 10.0)
    axis = KlipperAxis(Wire(board, clock), clock, steps_per_mm=Fraction(16000, 3), feed_mm_min=60)
    axis.enable()
    for number in range(1000):
        axis.start_move(-5 if number % 3 == 2 else 7)
        while axis.moving:
            clock.sleep_s(0.02)
    assert axis.position_steps == board.z == 7 * 667 - 5 * 333
    assert abs(board._mm * 16000 / 3 - board.z) < 0.01


def test_the_boards_own_count_is_the_position() -> None:
    bench = _bench(z=-1234)
    assert bench.axis.position_steps == -1234
    bench.axis.start_move(34)
    assert bench.rest() == bench.board.z == -1200


def test_a_machine_that_is_not_homed_moves_only_where_it_is_allowed() -> None:
    bench = _bench(homed=False)
    bench.axis.start_move(10)
    assert bench.rest() == 10
    assert bench.board.commands.count("SET_KINEMATIC_POSITION SET_HOMED=Z") == 1

    strict = _bench(homed=False, force_move=False)
    with pytest.raises(
        MotorError, match=r"!! Must home axis first: 0\.000 .*enable_force_move: True"
    ) as told:
        strict.axis.start_move(10)
    assert "\n" not in str(told.value)
    assert strict.board.z == 0
    assert strict.axis.uncertain is None
    strict.board.homed = True
    strict.axis.start_move(10)
    assert strict.rest() == strict.board.z == 10


def test_coils_off_and_on_again_it_goes_on_counting() -> None:
    bench = _bench()
    bench.axis.start_move(300)
    bench.clock.sleep_s(0.1)
    bench.axis.release()
    assert bench.board.released
    assert bench.axis.position_steps == bench.board.z == 250, "the piece under way is brought to its end"
    bench.axis.enable()
    bench.axis.start_move(-50)
    assert bench.rest() == bench.board.z == 200


def test_a_move_beyond_the_machines_own_limits_is_refused_in_its_words() -> None:
    bench = _bench()
    bench.board.position_mm = (0.0, 1.0)
    with pytest.raises(MotorError, match=r"!! Move out of range: 0\.000 0\.000 -0\.500 .*position_min"):
        bench.axis.start_move(-200)
    assert bench.board.z == 0
    bench.axis.start_move(100)
    assert bench.rest() == 100
    # In the second piece of a motion: the first is done, and it stands where that ended.
    bench.axis.start_move(500)
    assert bench.rest() == bench.board.z == 350
    assert bench.axis.uncertain is None
    assert "!! Move out of range: 0.000 0.000 1.500" in str(bench.axis.why_ended)
    bench.axis.start_move(-350)
    assert bench.rest() == bench.board.z == 0
    assert bench.axis.why_ended is None


def test_a_stage_tells_of_a_refusal_in_mid_move() -> None:
    bench = _bench()
    bench.board.position_mm = (-1.0, 1.0)
    with Stage(bench.axis, bench.clock, um_per_step=0.5, limits_steps=(-5000, 5000)) as stage:
        with pytest.raises(
            MotorError, match=r"board's refusal .*!! Move out of range.*ended the move at 125 um"
        ):
            stage.move_to_steps(600)
        assert stage.position_steps == bench.board.z == 250
        stage.move_to_steps(0)


def test_a_wrong_factor_shows_in_the_first_piece() -> None:
    bench = _bench(steps_per_mm=800.0)
    bench.axis.start_move(100)
    with pytest.raises(
        MotorError, match=r"100 steps were sent for and the count went on by 200.*400 steps/mm"
    ):
        bench.rest()
    assert len(bench.pieces) == 1


def test_a_shutdown_in_mid_move() -> None:
    bench = _bench()
    bench.axis.start_move(1000)
    bench.clock.sleep_s(0.4)
    bench.board.shut_down()
    with pytest.raises(MotorError, match=r"has shut down .*Klipper state: Shutdown.*uncertain"):
        bench.rest()
    bench.axis.close()
    assert bench.wire.closed == 1


def test_a_klipper_that_is_not_ready_says_why() -> None:
    clock = VirtualClock()
    board = Klipper(clock)
    board.shut_down("MCU 'mcu' shutdown: Timer too close")
    with pytest.raises(MotorError, match="not ready: !! MCU 'mcu' shutdown: Timer too close"):
        KlipperAxis(Wire(board, clock), clock, steps_per_mm=400, feed_mm_min=150)
    assert clock.now_s() < 10.0


def test_a_klipper_that_is_still_starting_is_waited_for() -> None:
    clock = VirtualClock()
    board = Klipper(clock)
    board.shut_down("Printer is not ready")
    plain = board.tick

    def ready_after_two_seconds() -> None:
        if clock.now_s() > 2.0:
            board.state = ""
        plain()

    board.tick = ready_after_two_seconds  # type: ignore[method-assign]
    axis = KlipperAxis(Wire(board, clock), clock, steps_per_mm=400, feed_mm_min=150)
    assert axis.position_steps == 0
    assert clock.now_s() < 4.0


def test_boards_that_are_no_klipper_or_have_no_stepper_z() -> None:
    clock = VirtualClock()
    with pytest.raises(MotorError, match='no Klipper: it answers echo:Unknown command: "ECHO'):
        KlipperAxis(Wire(Marlin(clock), clock), clock, steps_per_mm=400, feed_mm_min=150)
    delta = Klipper(clock)
    delta.steppers = "stepper_a:0 stepper_b:0 stepper_c:0"
    with pytest.raises(MotorError, match="no stepper_z"):
        KlipperAxis(Wire(delta, clock), clock, steps_per_mm=400, feed_mm_min=150)
    for wrong in ({"steps_per_mm": 0}, {"feed_mm_min": float("nan")}, {"acceleration_mm_s2": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            KlipperAxis(Wire(delta, clock), clock, **{"steps_per_mm": 400, "feed_mm_min": 150, **wrong})  # type: ignore[arg-type]


def test_what_other_clients_are_told_is_not_our_answer() -> None:
    bench = _bench()
    foreign = b"!! Must home axis first: 1.000 2.000 3.000 [0.000]\nok\n// mcu: stepper_z:77\n"
    bench.wire.noise = foreign
    bench.axis.start_move(700)
    for _ in range(200):
        bench.wire.noise = foreign
        if not bench.axis.moving:
            break
        bench.clock.sleep_s(0.02)
    assert bench.axis.position_steps == bench.board.z == 700
    assert bench.axis.uncertain is None


def test_a_host_busy_with_a_macro_is_waited_for() -> None:
    bench = _bench()
    bench.axis.start_move(100)
    bench.rest()
    bench.board.busy(1.0)
    bench.axis.start_move(100)
    assert bench.rest() == bench.board.z == 200


def test_the_motors_switched_off_by_idle_timeout() -> None:
    bench = _bench()
    bench.axis.start_move(100)
    bench.rest()
    bench.board._M18([])
    bench.axis.start_move(100)
    assert bench.rest() == bench.board.z == 200


def test_a_stage_on_klipper_approaches_from_one_side() -> None:
    bench = _bench()
    with Stage(
        bench.axis, bench.clock, um_per_step=0.062, limits_steps=(-5000, 5000), backlash_steps=200
    ) as stage:
        stage.move_to_um(20.0)
        stage.move_to_um(-20.0)
        assert stage.position_steps == bench.board.z == round(-20.0 / 0.062)
    assert bench.board.released


def test_over_a_pseudo_terminal_with_a_link_to_it(tmp_path: pytest.TempPathFactory) -> None:
    pytest.importorskip("serial")
    clock = FastClock(RealClock(), 8.0)
    with Pty(Klipper(clock)) as pty:
        link = tmp_path / "printer"  # type: ignore[operator]
        link.symlink_to(pty.device)
        with KlipperAxis.open(str(link), clock, steps_per_mm=400, feed_mm_min=150) as axis:
            axis.start_move(400)
            while axis.moving:
                clock.sleep_s(0.01)
            assert axis.position_steps == pty.board.z == 400


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("// mcu: stepper_x:0 stepper_y:-5 stepper_z:1234", 1234),
        ("// mcu: stepper_z:-7 stepper_z1:9", -7),
        ("// mcu: stepper_z1:9", None),
        ("// mcu: my_stepper_z:9", None),
        ("// mcu: stepper_z:99999999999", None),
        ("// mcu: stepper_z:9999999999", None),
        ("// stepper: stepper_z:1.250000", None),
        ("mcu: stepper_z:5", None),
    ],
)
def test_counts(line: str, count: int | None) -> None:
    assert parse_count(line) == count
