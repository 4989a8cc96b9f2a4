"""Serial parsers and axes in noise: no crash, no move, no wrong position."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serial_bench import KINDS, Kind, make_bench, moves

from firmware_iface.errors import MotorError
from firmware_iface.gcode import parse_grbl_setting, parse_grbl_status, parse_marlin_count
from firmware_iface.klipper import parse_count
from firmware_iface.line_port import LONGEST_LINE, LineBuffer
from firmware_iface.sangaboard import parse_bool, parse_number, parse_position

PARSERS: tuple[Callable[[str], object], ...] = (
    parse_position,
    lambda line: parse_number(line, "ramp_time"),
    parse_bool,
    parse_grbl_status,
    parse_grbl_setting,
    parse_marlin_count,
    parse_count,
)
_ALPHABET = b"0123456789 -.:,<>|$=\r\nXYZECountMPsIdlokrtf\x00\xff\x85?"
_RAW = st.binary(max_size=60)
NOISE = st.one_of(_RAW, _RAW.map(lambda raw: bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in raw)))
_TEN_THOUSAND = settings(max_examples=10_000, database=None, suppress_health_check=list(HealthCheck))


@_TEN_THOUSAND
@given(NOISE)
def test_ten_thousand_random_byte_strings_at_each_parser(noise: bytes) -> None:
    buffer = LineBuffer()
    for line in buffer.feed(noise) + buffer.feed(b"\n"):
        assert 0 < len(line) <= LONGEST_LINE
        for parse in PARSERS:
            parse(line)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_ten_thousand_random_byte_strings_move_nothing_and_lie_about_nothing(kind: Kind) -> None:
    bench = make_bench(kind)
    bench.axis.start_move(123)
    bench.rest()
    bench.board.commands.clear()

    @_TEN_THOUSAND
    @given(NOISE)
    def run(noise: bytes) -> None:
        # Unread noise, and noise right in front of the answer: the position is asked for at once.
        bench.wire.hear(noise)
        bench.wire.noise = noise.replace(b"\n", b"") + b"\n"
        axis = bench.axis
        try:
            assert axis._at_rest() == 123
        except MotorError:
            assert axis.position_steps == 123
        assert bench.board.z == 123
        assert moves(bench.board) == []
        bench.board.commands.clear()

    run()


def test_an_endless_line_is_dropped_in_bounded_memory() -> None:
    buffer = LineBuffer()
    for _ in range(1000):
        assert buffer.feed(b"x" * 1000) == []
        assert len(buffer._partial) <= LONGEST_LINE
    assert buffer.feed(b"tail\nnext\n") == ["next"]
