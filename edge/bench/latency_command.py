"""`parfocal bench latency`: its options, its tables, its JSON, and two of these side by side."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from typing import Any

from edge import console, hardware, model
from edge.bench import compared, latency
from edge.bench.focus_command import within
from edge.cli import finite, go_on
from edge.config import Config, load_config, override
from edge.errors import InputError
from edge.files import atomic_write_bytes, atomic_write_text
from edge.outputs import checked
from edge.plot import backend
from edge.rig import Rig, simulated_rig
from firmware_iface.clock import RealClock

__all__ = ["add_arguments", "run"]

_SIMULATED = "camera and motor are simulated: their stages take what they are told to; computing is real"
#: The motor of a bench goes no farther than this: what `parfocal move` does unasked.
MOST_STEP_UM = 50.0
_PLAN = latency.Plan()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of `bench latency`."""
    add = parser.add_argument
    add("--config", metavar="FILE", help="TOML file; where it names both drivers the hardware is measured")
    add("--rig", choices=("simulated", "hardware"), help="instead of what the config says")
    add("--model", metavar="FILE", help="a .tflite with its card, or `default`")
    add("--looks", metavar="N", type=int, default=_PLAN.looks, help="looks that count (%(default)s)")
    text = "looks before them, which do not (%(default)s)"
    add("--warm-up", metavar="N", type=int, default=_PLAN.warm_up, help=text)
    text = "the stage is moved up and down by so much between looks; 0: it stands (%(default)g)"
    add("--move-um", metavar="U", type=finite, default=_PLAN.step_um, help=text)
    text = f"numbers of threads ({','.join(map(str, _PLAN.threads))})"
    add("--threads", metavar="N,…", type=lambda text: text.split(","), help=text)
    text = "looks without a rest for so long; 0: none (%(default)g)"
    add("--sustained", metavar="S", type=finite, default=_PLAN.sustained_s, help=text)
    text = "measure nothing: two results of --out side by side, the second in units of the first"
    add("--compare", nargs=2, metavar=("A.json", "B.json"), help=text)
    add("--out", metavar="FILE.json", help="write the result there, to compare it later")
    add("--plot", metavar="FILE.png", help="draw it")
    add("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure, or compare, and show it. MOVES the stage of a hardware rig unless told not to."""
    if args.plot is not None:
        backend()
        checked("--plot", args.plot, ".png")
    if args.out is not None:
        checked("--out", args.out, ".json")
    if args.compare is not None:
        if args.out is not None:
            raise InputError("--out has no meaning with --compare")
        documents = [compared.read(name) for name in args.compare]
        found = compared.ratios(*documents)
    else:
        documents = [_measured(args)]
        found = documents[0]
    if args.out is not None:
        atomic_write_text(args.out, json.dumps(found, indent=1, allow_nan=False) + "\n")
    if args.plot is not None:
        from edge.bench.pictures import latency_picture

        names = args.compare or [found["machine"]["board"]]
        atomic_write_bytes(args.plot, latency_picture(dict(zip(names, documents, strict=True))))
    if args.json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        from edge.bench import tables

        (tables.compare_tables if args.compare is not None else tables.latency_tables)(found)
    return 0


def _measured(args: argparse.Namespace) -> dict[str, Any]:
    plan = latency.Plan(
        looks=within("--looks", args.looks, 1, 1_000_000),
        warm_up=within("--warm-up", args.warm_up, 0, 10_000),
        step_um=within("--move-um", args.move_um, 0, MOST_STEP_UM),
        threads=_PLAN.threads if args.threads is None else tuple(map(_threads, args.threads)),
        sustained_s=within("--sustained", args.sustained, 0, 86_400),
    )
    config = load_config(args.config)
    if args.model is not None:
        config = override(config, "--model", model={"path": args.model})
    model.load(config.model.path)  # what it refuses, it refuses before anything is switched on
    rig, kind = _rig(args, config)
    with contextlib.ExitStack() as opened:
        opened.push(rig.__exit__)
        if kind == "simulated":
            console.note(_SIMULATED)
        go_on()
        rig.__enter__()
        return latency.measure(rig, config, plan, progress=console.note)


def _rig(args: argparse.Namespace, config: Config) -> tuple[Rig, str]:
    kind = args.rig or ("hardware" if hardware.is_configured(config) else "simulated")
    if kind == "hardware":
        return hardware.hardware_rig(config), kind
    return simulated_rig(config, start_defocus_um=0.0, clock=RealClock()), kind


def _threads(text: str) -> int:
    most = 4 * (os.cpu_count() or 1)
    if not text.isdecimal() or not 1 <= int(text) <= max(most, 4):
        raise InputError(f"--threads {text!r}: numbers from 1 to {max(most, 4)}, with commas between")
    return int(text)
