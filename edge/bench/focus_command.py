"""`parfocal bench focus`: its options, its table, its JSON and its picture."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TypeVar

from edge import model as models
from edge.bench import focus
from edge.bench.figures import report
from edge.bench.strategies import STRATEGIES
from edge.cli import finite
from edge.config import load_config, override
from edge.errors import InputError
from edge.files import atomic_write_bytes
from edge.optics import Objective
from edge.outputs import checked
from edge.plot import backend
from edge.progress import Bar
from edge.simulator.specimens import images_in

__all__ = ["add_arguments", "known", "run", "within"]

Number = TypeVar("Number", int, float)

MOST_RUNS, MOST_FIELDS = 100_000, 100
_LONGEST_LOOK_MS = 60_000.0
#: Farther than this the simulator has no images, and a search twice as far no end.
_FARTHEST_DOF = 40.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of `bench focus`."""
    add = parser.add_argument
    add("--runs", metavar="N", type=int, default=100, help="runs of each strategy (%(default)s)")
    add("--seed", metavar="S", type=int, default=1, help="start of all chance (%(default)s)")
    text = f"with commas between: {', '.join(STRATEGIES)} (all)"
    add("--strategies", metavar="NAMES", type=lambda text: text.split(","), help=text)
    text = f"with commas between ({','.join(focus.OBJECTIVES)}, in turns)"
    add("--objective", metavar="MxNA", type=lambda text: text.split(","), help=text)
    add("--specimens", metavar="DIR", help="sharp photographs to use in turn, instead of drawn specimens")
    add("--fields", metavar="N", type=int, help=f"fields that runs share (one a run, at most {MOST_FIELDS})")
    text = "starts are spread so far to either side of focus, in depths of field (%(default)g)"
    add("--start-dof", metavar="D", type=finite, default=10.0, help=text)
    text = f"how far to either side a search looks ({focus.RANGE_OVER_START:g} times --start-dof)"
    add("--range-dof", metavar="D", type=finite, help=text)
    text = "what each inference is charged; the others' computing is free (%(default)g)"
    add("--look-ms", metavar="T", type=finite, default=50.0, help=text)
    text = "one microscope for all fields of an objective; else another for each field"
    add("--fixed", action="store_true", help=text)
    text = "begin with the drive's slack anywhere; else as in use: the stage knows how it lies"
    add("--power-on", action="store_true", help=text)
    text = "what the stage does about slack (on-reversal: its calibrated size, which here is the true one)"
    add("--compensation", choices=("on-reversal", "one-sided"), default="on-reversal", help=text)
    add("--faults", action="store_true", help="runs with each of the faults, too, as many as without")
    add("--config", metavar="FILE", help="TOML file: motor, camera's frame period, focus loop, model")
    add("--model", metavar="FILE", help="a .tflite with its card, or `default`")
    add("--workers", metavar="N", type=int, help="processes (one for each processor)")
    add("--plot", metavar="FILE.png", help="draw seconds, errors and successes")
    add("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Run every strategy on every trial and show what they came to. Takes minutes; moves no real motor."""
    plan = _plan(args)
    config = override(load_config(args.config), "command line", **_over(args))
    models.load(config.model.path)  # what it refuses, it refuses before the work
    if args.plot is not None:
        backend()
        checked("--plot", args.plot, ".png")
    workers = None if args.workers is None else within("--workers", args.workers, 1, 256)
    with Bar("runs", plan.total) as bar:
        found = focus.runs(plan, config, workers=workers, progress=bar.advance)
    document = report(found, plan, config)
    if args.plot is not None:
        from edge.bench.pictures import focus_picture

        atomic_write_bytes(args.plot, focus_picture(document))
    if args.json:
        print(json.dumps(document, indent=1, allow_nan=False))
    else:
        from edge.bench.tables import focus_tables

        focus_tables(document)
    return 0


def _plan(args: argparse.Namespace) -> focus.Plan:
    """What the options ask for, or InputError."""
    count = within("--runs", args.runs, 1, MOST_RUNS)
    fields = min(count, MOST_FIELDS) if args.fields is None else within("--fields", args.fields, 1, count)
    start = within("--start-dof", args.start_dof, 0.1, _FARTHEST_DOF)
    reach = args.range_dof if args.range_dof is not None else focus.RANGE_OVER_START * start
    return focus.Plan(
        count=count,
        seed=within("--seed", args.seed, 0, 2**32 - 1),
        fields=fields,
        strategies=known(args.strategies),
        objectives=focus.OBJECTIVES if args.objective is None else tuple(map(_objective, args.objective)),
        photographs=_photographs(args.specimens),
        start_dof=start,
        range_dof=within("--range-dof", reach, start, 2 * _FARTHEST_DOF),
        look_s=within("--look-ms", args.look_ms, 0.0, _LONGEST_LOOK_MS) / 1000,
        fixed=args.fixed,
        power_on=args.power_on,
        faults=args.faults,
    )


def _over(args: argparse.Namespace) -> dict[str, dict[str, str]]:
    over = {"stage": {"compensation": args.compensation}}
    return over if args.model is None else {**over, "model": {"path": args.model}}


def within(option: str, value: Number, low: float, high: float) -> Number:
    """``value`` of ``option``, or InputError."""
    if not low <= value <= high:
        raise InputError(f"{option} {value:g}: {low:g} to {high:g} is allowed")
    return value


def known(names: list[str] | None) -> tuple[str, ...]:
    """Strategies by their ``names``, all where None, or InputError."""
    if names is None:
        return tuple(STRATEGIES)
    for name in names:
        if name not in STRATEGIES:
            raise InputError(f"--strategies {name!r}: allowed are {', '.join(STRATEGIES)}")
    return tuple(dict.fromkeys(names))


def _objective(text: str) -> str:
    try:
        Objective.parse(text)
    except ValueError as error:
        raise InputError(f"--objective {text!r}: {error}") from error
    return text.strip()


def _photographs(folder: str | None) -> str | None:
    if folder is None:
        return None
    images_in(Path(folder))
    return folder
