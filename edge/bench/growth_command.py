"""`parfocal bench growth`: its options, its tables, its JSON and its picture."""

from __future__ import annotations

import argparse
import json

from edge import console
from edge import model as models
from edge.bench import focus, growth
from edge.bench.focus_command import known, within
from edge.cli import finite
from edge.config import load_config, override
from edge.files import atomic_write_bytes
from edge.outputs import checked
from edge.plot import backend

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of `bench growth`."""
    add = parser.add_argument
    add("--runs", metavar="N", type=int, default=24, help="runs of each point and strategy (%(default)s)")
    add("--seed", metavar="S", type=int, default=1, help="start of all chance (%(default)s)")
    text = f"with commas between ({','.join(growth.STRATEGIES)})"
    add("--strategies", metavar="NAMES", type=lambda text: text.split(","), help=text)
    add(
        "--look-ms",
        metavar="T",
        type=finite,
        default=50.0,
        help="what each inference is charged (%(default)g)",
    )
    add("--config", metavar="FILE", help="TOML file: motor, camera's frame period, focus loop, model")
    add("--workers", metavar="N", type=int, help="processes (one for each processor)")
    add("--plot", metavar="FILE.png", help="draw it")
    add("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure how cost grows, and show it. Takes minutes; moves no real motor."""
    count = within("--runs", args.runs, 1, 10_000)
    plan = focus.Plan(
        count=count,
        seed=within("--seed", args.seed, 0, 2**32 - 1),
        fields=min(count, 2 * len(focus.OBJECTIVES)),
        strategies=growth.STRATEGIES if args.strategies is None else known(args.strategies),
        look_s=within("--look-ms", args.look_ms, 0.0, 60_000.0) / 1000,
    )
    workers = None if args.workers is None else within("--workers", args.workers, 1, 256)
    config = override(load_config(args.config), "bench", stage={"compensation": "on-reversal"})
    models.load(config.model.path)
    if args.plot is not None:
        backend()
        checked("--plot", args.plot, ".png")
    found = growth.measure(config, plan, workers=workers, progress=console.note)
    if args.plot is not None:
        from edge.bench.pictures import growth_picture

        atomic_write_bytes(args.plot, growth_picture(found))
    if args.json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        from edge.bench.tables import growth_tables

        growth_tables(found)
    return 0
