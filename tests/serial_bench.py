"""Emulated boards with the axes that drive them, and a bench for one, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulators.board import Board, Wire
from emulators.gcode import Grbl, Marlin
from emulators.klipper import Klipper
from emulators.sangaboard import Sangaboard

from firmware_iface.board_axis import BoardAxis
from firmware_iface.clock import Clock, VirtualClock
from firmware_iface.gcode import GcodeAxis
from firmware_iface.klipper import KlipperAxis
from firmware_iface.line_port import SerialLike
from firmware_iface.sangaboard import SangaboardAxis

MakeAxis = Callable[[SerialLike, Clock], BoardAxis]


def gcode(dialect: str) -> MakeAxis:
    """Makes axes for emulators as they are by default: 400 steps/mm, 1000 steps/s."""

    def make(serial: SerialLike, clock: Clock) -> BoardAxis:
        return GcodeAxis(
            serial, clock, dialect=dialect, steps_per_mm=400, feed_mm_min=150, acceleration_mm_s2=20
        )

    return make


def klipper(serial: SerialLike, clock: Clock) -> BoardAxis:
    """The same for Klipper."""
    return KlipperAxis(serial, clock, steps_per_mm=400, feed_mm_min=150)


@dataclass(frozen=True)
class Kind:
    """An emulator and the axis that drives it."""

    board: Callable[[Clock], Board]
    axis: MakeAxis


KINDS = {
    "sangaboard": Kind(Sangaboard, SangaboardAxis),
    "grbl": Kind(Grbl, gcode("grbl")),
    "marlin": Kind(Marlin, gcode("marlin")),
    "klipper": Kind(Klipper, klipper),
}


@dataclass
class Bench:
    """A board, the wire to it and its axis, enabled."""

    kind: Kind
    clock: VirtualClock
    board: Board
    wire: Wire
    axis: BoardAxis

    def rest(self) -> int:
        while self.axis.moving:
            self.clock.sleep_s(0.005)
        return self.axis.position_steps


def make_bench(kind: Kind) -> Bench:
    """A board of ``kind`` with its axis, enabled."""
    clock = VirtualClock()
    board = kind.board(clock)
    wire = Wire(board, clock)
    axis = kind.axis(wire, clock)
    axis.enable()
    return Bench(kind, clock, board, wire, axis)


def moves(board: Board) -> list[str]:
    """The motions that the board was sent for."""
    return [line for line in board.commands if line.startswith(("mr", "$J", "G1 ", "G0 "))]
