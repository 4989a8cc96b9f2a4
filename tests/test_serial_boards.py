"""Motor boards on a line that garbles, resets, refuses, falls silent or is pulled out."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from emulators.board import FastClock, Pty, Wire
from emulators.gcode import Grbl, Marlin
from emulators.sangaboard import Sangaboard
from serial_bench import KINDS, Bench, Kind, gcode, make_bench, moves

from firmware_iface.board_axis import BoardAxis
from firmware_iface.clock import Clock, RealClock, VirtualClock
from firmware_iface.errors import MotorError, MoveCancelled
from firmware_iface.gcode import GcodeAxis
from firmware_iface.line_port import open_serial
from firmware_iface.sangaboard import SangaboardAxis
from firmware_iface.stage import Stage


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = make_bench(request.param)
    yield made
    made.axis.close()


def test_opening_moves_nothing(bench: Bench) -> None:
    assert moves(bench.board) == []
    assert bench.board.z == bench.axis.position_steps == 0


def test_the_boards_own_count_is_the_position() -> None:
    clock = VirtualClock()
    wire = Wire(Sangaboard(clock, z=-1234), clock)
    assert SangaboardAxis(wire, clock).position_steps == -1234


def test_more_steps_than_an_avr_int_holds(bench: Bench) -> None:
    bench.axis.start_move(35_000)
    assert bench.rest() == bench.board.z == 35_000


def test_garbage_and_half_lines_before_a_question(bench: Bench) -> None:
    for noise in (b"\xff\xfe\x00garbage", b"12", b"<Idle|MPos:0.0", b"\r\n\r\n", b"x" * 100_000, b"ok\n7\n"):
        bench.wire.hear(noise)
        bench.axis.start_move(10)
        bench.wire.hear(noise)
        bench.rest()
    assert bench.axis.position_steps == bench.board.z == 60


def test_garbage_glued_to_an_answer(bench: Bench) -> None:
    bench.axis.start_move(50)
    bench.wire.noise = b"\x80\x80 5"
    assert bench.rest() == bench.board.z == 50
    assert bench.axis.uncertain is None


def test_a_lost_acknowledgement_does_not_move_twice(bench: Bench) -> None:
    def swallow_the_next(data: bytes) -> bytes:
        if moves(bench.board):
            bench.wire.mangle = lambda said: said
            return b""
        return data

    bench.wire.mangle = swallow_the_next
    if bench.kind is KINDS["klipper"]:
        # Its commands may wait behind those of others: one not answered may be obeyed yet.
        with pytest.raises(MotorError, match="whether it moves is not known"):
            bench.axis.start_move(300)
        assert len(moves(bench.board)) == 1
        return
    bench.axis.start_move(300)
    assert bench.rest() == bench.board.z == 300
    assert len(moves(bench.board)) == 1


def test_a_silent_board_is_an_error_in_bounded_time(bench: Bench) -> None:
    bench.axis.start_move(1000)
    bench.clock.sleep_s(0.1)
    bench.wire.mangle = lambda data: b""
    begun_s = bench.clock.now_s()
    with pytest.raises(MotorError, match="no answer"):
        bench.rest()
    assert bench.clock.now_s() - begun_s < 5.0
    assert bench.axis.uncertain is not None
    assert not bench.axis.moving
    # Deaf, but not dumb: what it does not answer it may still obey.
    bench.clock.sleep_s(0.6)
    assert not bench.board.running
    with pytest.raises(MotorError, match="uncertain"):
        bench.axis.start_move(1)


def test_a_babbling_board_is_an_error_in_bounded_time(bench: Bench) -> None:
    bench.wire.mangle = lambda data: b"\x07" * 1000
    begun_s = bench.clock.now_s()
    with pytest.raises(MotorError, match="no answer"):
        bench.axis.start_move(1)
    assert bench.clock.now_s() - begun_s < 5.0


@pytest.mark.parametrize("when", ["in mid-move", "at rest"])
def test_a_reset_is_noticed_and_the_position_uncertain(bench: Bench, when: str) -> None:
    bench.axis.start_move(1000)
    bench.clock.sleep_s(0.2)
    if when == "at rest":
        bench.rest()
    bench.board.boot()
    before = len(moves(bench.board))
    with pytest.raises(MotorError, match=r"restarted.*uncertain"):
        bench.rest() if when == "in mid-move" else bench.axis.start_move(10)
    with pytest.raises(MotorError, match="uncertain"):
        bench.axis.enable()
    assert len(moves(bench.board)) == before
    assert bench.axis.uncertain is not None


def test_a_reset_whose_banner_was_lost_is_noticed(bench: Bench) -> None:
    bench.axis.start_move(100)
    bench.rest()
    bench.board.put(7)
    with pytest.raises(MotorError, match="says 7 steps and was left at 100"):
        bench.axis.start_move(10)
    assert bench.board.z == 7
    assert bench.axis.position_steps == 100


def test_an_impossible_position_in_mid_move_is_not_believed(bench: Bench) -> None:
    bench.axis.start_move(1000)
    bench.clock.sleep_s(0.2)
    bench.board.put(-555)
    with pytest.raises(MotorError, match="uncertain"):
        bench.rest()
    assert 0 <= bench.axis.position_steps <= 1000


def test_refusals_are_shown_in_the_boards_words() -> None:
    grbl = make_bench(KINDS["grbl"])
    with pytest.raises(MotorError, match=r"error:15 \(beyond the board's own travel"):
        grbl.axis.start_move(400 * 101)
    assert not grbl.axis.moving
    grbl.axis.start_move(5)
    assert grbl.rest() == grbl.board.z == 5

    marlin = make_bench(KINDS["marlin"])
    marlin.board.command = (  # type: ignore[method-assign]
        lambda line, plain=marlin.board.command: plain("X9" if line.startswith("G1 ") else line)
    )
    with pytest.raises(MotorError, match='echo:Unknown command: "X9"'):
        marlin.axis.start_move(5)
    assert not marlin.axis.moving
    assert marlin.board.z == 0


def test_an_alarm_and_a_halt_end_the_motion() -> None:
    grbl = make_bench(KINDS["grbl"])
    grbl.axis.start_move(1000)
    grbl.clock.sleep_s(0.2)
    assert isinstance(grbl.board, Grbl)
    grbl.board.raise_alarm(1)
    with pytest.raises(MotorError, match="ALARM:1"):
        grbl.rest()
    marlin = make_bench(KINDS["marlin"])
    marlin.axis.start_move(1000)
    marlin.clock.sleep_s(0.2)
    assert isinstance(marlin.board, Marlin)
    marlin.board.kill()
    with pytest.raises(MotorError, match="Printer halted"):
        marlin.rest()


def test_a_motor_that_takes_far_too_long_is_stopped(bench: Bench) -> None:
    bench.board.go = lambda course, duration_s, plain=bench.board.go: plain(  # type: ignore[method-assign]
        lambda t_s: course(t_s / 50), duration_s * 50
    )
    bench.axis.start_move(400)
    # Marlin does not say whether it moves: a motor far too slow reads as one that stands where it is.
    silent = bench.kind is KINDS["marlin"]
    with nullcontext() if silent else pytest.raises(MotorError, match="overdue"):
        bench.rest()
    assert not bench.axis.moving


def test_a_stage_over_each_board_stops_in_mid_move(bench: Bench) -> None:
    with Stage(
        bench.axis, bench.clock, um_per_step=0.5, limits_steps=(-5000, 5000), backlash_steps=50
    ) as stage:
        stage.move_to_steps(800)
        stage.move_to_steps(200)
        assert stage.position_steps == bench.board.z == 200
        begun_s = bench.clock.now_s()
        with pytest.raises(MoveCancelled):
            stage.move_to_steps(3000, cancel=lambda: bench.clock.now_s() > begun_s + 0.5)
        assert 200 < stage.position_steps == bench.board.z < 3000
        stage.move_to_steps(100)
        assert stage.position_steps == bench.board.z == 100


def test_a_stop_while_the_line_is_busy_is_sent_right_after(bench: Bench) -> None:
    bench.axis.start_move(2000)
    bench.clock.sleep_s(0.3)
    plain = bench.wire.mangle

    def as_a_signal_handler_would(data: bytes) -> bytes:
        bench.wire.mangle = plain
        bench.axis.stop()
        return data

    bench.wire.mangle = as_a_signal_handler_would
    assert bench.axis.moving
    assert bench.rest() == bench.board.z < 1500


def test_unplugged(bench: Bench) -> None:
    bench.axis.start_move(1000)
    bench.clock.sleep_s(0.1)
    bench.wire.unplugged = True
    bench.axis.stop()
    with pytest.raises(MotorError, match="connection is lost"):
        bench.rest()
    assert 0 <= bench.axis.position_steps <= 1000
    bench.axis.release()
    bench.axis.close()
    bench.axis.close()
    assert bench.wire.closed == 1


def test_a_port_closed_under_the_axis(bench: Bench) -> None:
    bench.axis.close()
    bench.axis.close()
    assert bench.wire.closed == 1
    for again in (bench.axis.enable, lambda: bench.axis.start_move(1)):
        with pytest.raises(MotorError, match="closed"):
            again()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_nobody_at_the_other_end(kind: Kind) -> None:
    clock = VirtualClock()
    wire = Wire(kind.board(clock), clock)
    wire.mangle = lambda data: b""
    with pytest.raises(MotorError, match=r"no answer .* asked for 6 s: is this the board's port"):
        kind.axis(wire, clock)
    assert clock.now_s() < 10.0
    assert wire.closed == 1


def test_the_coils_go_off_where_the_board_can() -> None:
    for name in ("sangaboard", "marlin"):
        bench = make_bench(KINDS[name])
        assert isinstance(bench.board, (Sangaboard, Marlin))
        bench.axis.start_move(900)
        bench.clock.sleep_s(0.1)
        bench.axis.release()
        assert bench.board.released
        assert not bench.board.running


def test_boards_that_do_not_fit_are_refused() -> None:
    clock = VirtualClock()
    old = Sangaboard(clock)
    old.version = "Sangaboard Firmware v0.5.1"
    with pytest.raises(MotorError, match="cannot stop"):
        SangaboardAxis(Wire(old, clock), clock)
    for board, dialect in (
        (Grbl(clock, steps_per_mm=250), "grbl"),
        (Marlin(clock, steps_per_mm=250), "marlin"),
    ):
        with pytest.raises(MotorError, match=r"250 steps/mm .* 400 are configured"):
            gcode(dialect)(Wire(board, clock), clock)
    inches = Grbl(clock)
    inches.settings[13] = "1"
    with pytest.raises(MotorError, match="inches"):
        gcode("grbl")(Wire(inches, clock), clock)
    klipper = Marlin(clock)
    klipper.klipper = True
    with pytest.raises(MotorError, match="Klipper"):
        gcode("marlin")(Wire(klipper, clock), clock)
    with pytest.raises(ValueError, match="up to 1000"):
        GcodeAxis(Wire(klipper, clock), clock, dialect="grbl", steps_per_mm=1001, feed_mm_min=1)


def test_a_factor_that_is_no_decimal_adds_up_no_error() -> None:
    clock = VirtualClock()
    for board, dialect in (
        (Grbl(clock, steps_per_mm=300), "grbl"),
        (Marlin(clock, steps_per_mm=300), "marlin"),
    ):
        axis = GcodeAxis(
            Wire(board, clock),
            clock,
            dialect=dialect,
            steps_per_mm=300,
            feed_mm_min=150,
            acceleration_mm_s2=20,
        )
        axis.enable()
        for _ in range(400):
            axis.start_move(7)
            while axis.moving:
                clock.sleep_s(0.005)
        assert axis.position_steps == board.z == 2800


def test_without_pyserial_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(MotorError, match="pip install pyserial"):
        open_serial("/dev/ttyACM0", 115200)


def test_a_device_that_is_not_there() -> None:
    pytest.importorskip("serial")
    with pytest.raises(MotorError, match=r"/dev/no-such-board: .* no such device"):
        open_serial("/dev/no-such-board", 115200)
    with pytest.raises(MotorError, match="/dev/null: cannot open the serial port"):
        open_serial("/dev/null", 115200)


def test_a_port_that_another_program_uses() -> None:
    pytest.importorskip("serial")
    with Pty(Sangaboard(RealClock())) as pty:
        first = open_serial(pty.device, 115200)
        with pytest.raises(MotorError, match="another program uses it"):
            open_serial(pty.device, 115200)
        first.close()


def _rest(axis: BoardAxis, clock: Clock) -> None:
    while axis.moving:
        clock.sleep_s(0.005)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_over_a_pseudo_terminal(kind: Kind) -> None:
    pytest.importorskip("serial")
    clock = FastClock(RealClock(), 8.0)
    with Pty(kind.board(clock)) as pty:
        axis = kind.axis(open_serial(pty.device, 115200), clock)
        with axis:
            axis.start_move(600)
            while axis.moving:
                clock.sleep_s(0.005)
            assert axis.position_steps == pty.board.z == 600
            axis.start_move(-5000)
            threading.Timer(0.03, axis.stop).start()
            while axis.moving:
                clock.sleep_s(0.005)
            assert -4400 < axis.position_steps == pty.board.z < 600
            axis.start_move(2000)
            pty.unplug()
            with pytest.raises(MotorError, match="connection is lost"):
                _rest(axis, clock)
        axis.close()
