"""Boards that had a life before this session, and what happens to a motor that is lost in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from emulators.board import Wire
from serial_bench import KINDS, Bench, make_bench

from firmware_iface.errors import MotorError


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = make_bench(request.param)
    yield made
    made.axis.close()


def test_the_host_restarts_and_the_board_does_not(bench: Bench) -> None:
    bench.axis.start_move(300)
    bench.rest()
    bench.axis.close()
    bench.board.put(-4321)  # by another program
    axis = bench.kind.axis(Wire(bench.board, bench.clock), bench.clock)
    assert axis.position_steps == -4321
    axis.enable()
    axis.start_move(21)
    while axis.moving:
        bench.clock.sleep_s(0.005)
    assert axis.position_steps == bench.board.z == -4300
    axis.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sangaboard", "it moves, set in motion by others"),
        ("grbl", r"refuses '\$I': error:8 \(it moves"),
        ("marlin", "it moves, set in motion by others"),
    ],
)
def test_another_program_has_set_it_in_motion(name: str, words: str) -> None:
    # Klipper is not among them: it tells where it is going, and the next move waits its turn.
    bench = make_bench(KINDS[name])
    bench.axis.close()
    bench.board.go(lambda t_s: int(100 * t_s), 60.0)
    wire = Wire(bench.board, bench.clock)
    with pytest.raises(MotorError, match=words) as told:
        bench.kind.axis(wire, bench.clock)
    assert "\n" not in str(told.value)
    assert wire.closed == 1


def test_garbage_while_it_opens(bench: Bench) -> None:
    bench.axis.close()
    wire = Wire(bench.board, bench.clock)
    wire.hear(b"\x00\xff\xfe half a li")
    wire.noise = b"ne\r\n\x80\x80true\r\n99999999999999999999\r\n// mcu: stepper_z:x\r\n"
    axis = bench.kind.axis(wire, bench.clock)
    assert axis.position_steps == 0
    assert axis.uncertain is None
    axis.close()


@pytest.mark.parametrize("name", ["sangaboard", "grbl", "marlin"])
def test_a_motor_whose_position_is_lost_is_stopped(name: str) -> None:
    bench = make_bench(KINDS[name])
    bench.axis.start_move(5000)
    bench.clock.sleep_s(0.2)
    bench.board._base -= 10_000
    with pytest.raises(MotorError, match="uncertain"):
        bench.rest()
    bench.clock.sleep_s(0.6)
    assert not bench.board.running


def test_a_board_that_can_no_longer_be_heard_is_stopped(bench: Bench) -> None:
    bench.axis.start_move(20_000)
    bench.clock.sleep_s(0.1)
    bench.wire.mangle = lambda data: b""
    with pytest.raises(MotorError, match="no answer"):
        bench.rest()
    bench.clock.sleep_s(0.6)
    assert not bench.board.running


def test_a_stop_that_comes_while_a_second_move_is_refused(bench: Bench) -> None:
    bench.axis.start_move(5000)
    bench.clock.sleep_s(0.1)
    plain = bench.axis._under_way

    def as_a_signal_handler_would() -> bool:
        bench.axis._under_way = plain  # type: ignore[method-assign]
        bench.axis.stop()
        return plain()

    bench.axis._under_way = as_a_signal_handler_would  # type: ignore[method-assign]
    with pytest.raises(MotorError, match="still moving"):
        bench.axis.start_move(1)
    bench.clock.sleep_s(0.8)
    assert not bench.board.running, "without anybody asking"
