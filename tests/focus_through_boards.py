"""The autofocus through emulated motor boards, beside the simulated axis: same fields, seeds and starts.

    python tests/focus_through_boards.py --starts 20

The camera looks through the emulated motor's true steps: they turn the screw of the very stage (gap, slack,
ringing) that the simulated axis of the same seed would drag. What differs is what differs between boards:
how a motion is begun, how fast it goes, when its end is known.

Every move ends on the same step of the same approach, and noise is drawn frame by frame. So without ringing
(``--still``) all frames are the same to the last bit, and with them all decisions, moves and results. With it
a frame differs by what is left of the ringing when it is exposed, which hangs on the phase between motion and
camera: under 0.01 steps after the stage has settled. The network's estimate passes that on, so that a run may
end a few steps of 0.062 um beside the other. How long a run takes is the board's own.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

from emulators.board import Board, Wire
from emulators.gcode import Grbl, Marlin
from emulators.klipper import Klipper
from emulators.sangaboard import Sangaboard

from edge import rig
from firmware_iface.board_axis import BoardAxis
from firmware_iface.clock import Clock
from firmware_iface.gcode import GcodeAxis
from firmware_iface.klipper import KlipperAxis
from firmware_iface.sangaboard import SangaboardAxis
from firmware_iface.simulated import SimulatedAxis
from train.closed_loop import Trial, run_trial, simulated_trials
from train.data import named_recipe

SAME = ("result", "method", "captures", "moves")
"""Keys of a run that must be the same through every board, ringing or not."""
CLOSE = {
    "position_um": 0.35,
    "travel_um": 0.7,
    "true_defocus_um": 0.35,
}
"""Those that ringing may change, and by how much: a tenth of the depth of field (3.4 um)."""
STILL = (
    *SAME,
    *CLOSE,
    "defocus_estimate_dof",
    "confidence",
    "sharpness_start",
    "sharpness_end",
    "true_defocus_start_um",
)
"""Keys that must be the same to the last bit where nothing rings."""
STEPS_PER_MM = 400
FEED_MM_MIN = 150.0
"""With it, a thousand steps a second: the rate of the simulated axis."""


def _gcode(dialect: str) -> Callable[[Wire, Clock], BoardAxis]:
    def make(wire: Wire, clock: Clock) -> BoardAxis:
        return GcodeAxis(
            wire,
            clock,
            dialect=dialect,
            steps_per_mm=STEPS_PER_MM,
            feed_mm_min=FEED_MM_MIN,
            acceleration_mm_s2=20.0,
        )

    return make


def _klipper(wire: Wire, clock: Clock) -> BoardAxis:
    return KlipperAxis(wire, clock, steps_per_mm=STEPS_PER_MM, feed_mm_min=FEED_MM_MIN)


BOARDS: dict[str, tuple[Callable[[Clock], Board], Callable[[Wire, Clock], BoardAxis]]] = {
    "sangaboard": (Sangaboard, SangaboardAxis),
    "grbl": (Grbl, _gcode("grbl")),
    "marlin": (Marlin, _gcode("marlin")),
    "klipper": (Klipper, _klipper),
}


def axis_through(
    name: str, simulated: Callable[..., SimulatedAxis] = SimulatedAxis
) -> Callable[..., BoardAxis]:
    """Stands in for ``SimulatedAxis``: an axis on an emulated board that drags the stage of its twin."""
    make_board, make_axis = BOARDS[name]

    def make(clock: Clock, **options: Any) -> BoardAxis:
        twin = simulated(clock, **options)
        board = make_board(clock)
        board.drags = twin._stage
        axis = make_axis(Wire(board, clock), clock)
        axis.true_position_steps = twin.true_position_steps  # type: ignore[attr-defined]
        return axis

    return make


def run(trial: Trial, board: str = "", *, still: bool = False) -> dict[str, Any]:
    """The trial through ``board``, or by the simulated axis; ``still``: nothing rings. As ``run_trial``."""
    simulated = partial(SimulatedAxis, vibration_amplitude_steps=0.0) if still else SimulatedAxis
    with patch.object(rig, "SimulatedAxis", axis_through(board, simulated) if board else simulated):
        return run_trial(trial)


def differences(mine: dict[str, Any], theirs: dict[str, Any], *, still: bool = False) -> list[str]:
    """What two runs do not agree in, as far as they must; in words."""
    same = [key for key in (STILL if still else SAME) if mine[key] != theirs[key]]
    far = [] if still else [key for key, most in CLOSE.items() if _apart(mine[key], theirs[key]) > most]
    return [f"{key}: {mine[key]!r} and {theirs[key]!r}" for key in (*same, *far)]


def _apart(mine: float | None, theirs: float | None) -> float:
    if mine is None or theirs is None:
        return 0.0 if mine is theirs else math.inf
    return abs(mine - theirs)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the runs side by side; 1 where they do not agree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--fields", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recipe", default="parfocal", help="whose held-out specimens")
    parser.add_argument("--still", action="store_true", help="a stage that does not ring")
    args = parser.parse_args(argv)
    names = ("", *BOARDS)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    apart: dict[str, list[float]] = {name: [] for name in names}
    unlike = 0
    print(f"{'start':>10}  {'specimen':14}{'':12}captures  moves   end um  true dof  seconds")
    for trial in simulated_trials(
        named_recipe(args.recipe), args.starts, args.fields, args.seed, "default", empty=False
    ):
        mine = run(trial, still=args.still)
        for name in names:
            theirs = run(trial, name, still=args.still) if name else mine
            seconds[name].append(theirs["seconds"])
            apart[name].append(abs(theirs["true_defocus_um"] - mine["true_defocus_um"]))
            found = differences(mine, theirs, still=args.still)
            unlike += bool(found)
            head = f"{trial.start_dof:+6.2f} dof  {mine['specimen'][:14]:14}" if not name else " " * 26
            print(
                f"{head}{name or 'simulated':12}{theirs['captures']:8}{theirs['moves']:7}"
                f"{theirs['position_um']:+9.3f}{theirs['true_defocus_dof']:+10.3f}{theirs['seconds']:9.2f}"
                f"  {'; '.join(found)}"
            )
    for name in names:
        print(
            f"{name or 'simulated':12}{args.starts} runs, median {statistics.median(seconds[name]):.2f} s,"
            f" true defocus at most {max(apart[name]):.4f} um from the simulated axis'"
        )
    print(f"{unlike} runs do not agree" if unlike else "all runs agree")
    return 1 if unlike else 0


if __name__ == "__main__":
    sys.exit(main())
