"""The command `simulate`: z-stacks, or a data set in the layout of Jiang 2018. `edge.cli` parses and turns
errors into exit codes.

An option that is not given keeps the default of the layout's own plan; one that means nothing to the layout
is an error.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.cli import finite
from edge.errors import InputError
from edge.progress import Bar
from edge.simulator import jiang, stacks

__all__ = ["add_arguments", "run"]

_OF_OTHER_LAYOUTS = {"stacks": ("slides", "locations", "step_nm"), "jiang": ("stacks", "range_dof")}


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of `simulate`, the only command here."""
    stack, data = stacks.Plan(), jiang.Plan()

    def add(option: str, metavar: str, kind: Callable[[str], Any], text: str) -> None:
        parser.add_argument(option, metavar=metavar, type=kind, help=text)

    parser.add_argument("out", metavar="OUT", help="folder to make; it must not exist, or be empty")
    text = "stacks: z-stack folders; jiang: the folders and names of Jiang 2018, to train on (%(default)s)"
    parser.add_argument("--layout", choices=("stacks", "jiang"), default="stacks", help=text)
    text = "sharp photographs to use in turn, with jiang one for each slide; else drawn specimens"
    add("--specimens", "DIR", str, text)
    add("--stacks", "N", int, f"stacks: number of stacks ({stack.stacks})")
    text = f"jiang: slides to train on ({data.slides}); a quarter as many more for each of the two tests"
    add("--slides", "N", int, text)
    add("--locations", "N", int, f"jiang: fields of each slide ({data.locations})")
    add("--planes", "N", int, f"planes of each stack ({stack.planes}; jiang: {data.planes})")
    add("--range-dof", "R", finite, f"stacks: from -R to R depths of field ({stack.range_dof:g})")
    add("--step-nm", "N", int, f"jiang: nm from plane to plane ({data.step_nm})")
    text = f"such as 20x0.40 or 100x1.25oil ({stack.objective}; jiang: {data.objective})"
    add("--objective", "MxNA", str, text)
    text = "random: another microscope and camera for each stack or slide (fixed)"
    parser.add_argument("--optics", choices=("fixed", "random"), help=text)
    add("--seed", "N", int, f"start of all chance ({stack.seed})")
    add("--size", "PX", int, f"width and height of the images ({stack.size_px}; jiang: {data.size_px})")


def run(name: str, args: argparse.Namespace) -> int:
    """Write what ``args`` ask for and return the exit code. Takes minutes."""
    for option in _OF_OTHER_LAYOUTS[args.layout]:
        if getattr(args, option) is not None:
            text = f"--{option.replace('_', '-')} has no meaning for the layout {args.layout}"
            raise InputError(text)
    return {"stacks": _stacks, "jiang": _jiang}[args.layout](args)


def _stacks(args: argparse.Namespace) -> int:
    plan = stacks.Plan(**_given(args, "stacks", "range_dof"))
    with Bar("planes", plan.stacks * plan.planes) as bar:
        names = stacks.write_stacks(plan, args.out, progress=bar.advance)
    print(f"{len(names)} simulated z-stacks of {plan.planes} planes in {args.out}: {names[0]} to {names[-1]}")
    return 0


def _jiang(args: argparse.Namespace) -> int:
    plan = jiang.Plan(**_given(args, "slides", "locations", "step_nm"))
    with Bar("locations", plan.location_count) as bar:
        slides = jiang.write_jiang(plan, args.out, progress=bar.advance)
    (_, train, _), (_, test, _), _ = plan.parts
    print(
        f"{len(slides)} simulated slides in {args.out}, {plan.planes} planes a location:"
        f" {train} to train on, {test} of the same protocol, {test} of another"
    )
    return 0


def _given(args: argparse.Namespace, *own: str) -> dict[str, Any]:
    """What was said on the command line, by the names of a plan: its ``own`` options and the shared ones."""
    values = {name: getattr(args, name) for name in (*own, "planes", "objective", "seed")}
    values["size_px"] = args.size
    values["random_optics"] = None if args.optics is None else args.optics == "random"
    values["specimens"] = None if args.specimens is None else Path(args.specimens)
    return {name: value for name, value in values.items() if value is not None}
