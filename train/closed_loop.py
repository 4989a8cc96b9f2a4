"""The figures of the closed loop: seeded runs on the simulated rig, and every start plane of real z-stacks.

    python -m train.closed_loop simulated --runs 200 --optics fixed
    python -m train.closed_loop stacks ../shared/data/zstacks --network-only

Specimens are never those of the training: held-out photographs of the recipe, and procedural ones of other
seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from edge import model as models
from edge.config import Config, load_config, override
from edge.dialogue import Settings
from edge.errors import InputError, one_line
from edge.microscope import Microscope
from edge.progress import Bar
from edge.rig import FRAME_PX, Rig, replay_rig, simulated_rig
from edge.run_result import Result
from edge.simulator.recording import microscope
from edge.simulator.specimens import make
from edge.zstack import ZStack
from train import beliefs
from train.data import named_recipe
from train.recipe import Recipe
from train.stacks import stack_folders
from train.synthetic import field_specimen

RANGE_DOF = 10.0
#: From low to high aperture, dry and oil: what "any common objective" means.
OBJECTIVES = ("10x0.25", "20x0.40", "40x0.65", "100x1.25oil")


@dataclass(frozen=True)
class Trial:
    """One run: which field, under which optics, from how far, with which seed."""

    recipe: Recipe
    """Whose test split the specimen is of, and whether the optics are fixed or random."""
    field: int
    """Its number in that split."""
    empty: bool
    """An empty field instead."""
    start_dof: float
    """Defocus that the first look has, after the slack of the drive was taken up."""
    seed: int
    """Of noise, missed steps and slack."""
    model: str
    """Path of the model file, or ``default``."""
    objective: str | None = None
    """Such as ``20x0.40``; the config's where None."""


def simulated_trials(
    recipe: Recipe,
    runs: int,
    fields: int,
    seed: int,
    model: str,
    *,
    empty: bool,
    objectives: Sequence[str | None] = (None,),
) -> list[Trial]:
    """``runs`` seeded trials over ``fields`` held-out fields, each under one of ``objectives``.

    Starts are uniform within `RANGE_DOF`.
    """
    rng = np.random.default_rng(seed)
    starts = rng.uniform(-RANGE_DOF, RANGE_DOF, runs)
    return [
        Trial(
            recipe,
            k % fields,
            empty,
            start,
            seed * 100_000 + k,
            model,
            objectives[k % fields % len(objectives)],
        )
        for k, start in enumerate(starts.tolist())
    ]


def run_trial(trial: Trial) -> dict[str, Any]:
    """One run on the simulated rig: the keys of ``parfocal focus --json``, plus start, field and looks."""
    data = trial.recipe.data
    rng = np.random.default_rng((data.seed, trial.field, 23))
    own = {} if trial.objective is None else {"optics": {"objective": trial.objective}}
    if trial.empty:
        specimen = make("empty", (FRAME_PX, FRAME_PX), 0)
    else:
        specimen = field_specimen(data, "test", trial.field, FRAME_PX)
    config = override(load_config(None), "trial", simulator={"seed": trial.seed}, **own)
    optics = config.optics.optics()
    dof_um = optics.dof_um
    imaging, sensor = microscope(optics.objective, rng if data.optics == "random" else None)

    def rig_at(defocus_um: float) -> Rig:
        return simulated_rig(
            config, start_defocus_um=defocus_um, specimen=specimen, imaging=imaging, sensor=sensor
        )

    start_um = trial.start_dof * dof_um
    with rig_at(start_um) as rig:
        # The same seed has the same slack: how far taking it up moves the specimen, this one tells.
        rig.stage.move_to_um(rig.stage.position_um)
        moved_um = rig.true_defocus_um() - start_um if rig.true_defocus_um else 0.0
    with rig_at(start_um - moved_um) as rig:
        scope = Microscope(rig, _model(trial.model), config)
        result = scope.focus()
    first = scope.trace.entries[0].true_defocus_um
    start = trial.start_dof if first is None else first / dof_um
    return {
        **result.as_dict(),
        "start_dof": start,
        "field": trial.field,
        "specimen": specimen.name,
        "objective": str(optics.objective),
        "looks": beliefs.of_trace(scope.trace, rig.optics),
    }


_MODELS: dict[str, models.Model] = {}


def _model(path: str) -> models.Model:
    if path not in _MODELS:
        _MODELS[path] = models.load(path)
    return _MODELS[path]


def summary(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Shares and medians of simulated runs on specimens, one or more.

    ``worse``: runs that end farther from focus than they began and beyond the tolerance; ``less_sharp``: runs
    whose last frame is less sharp than the first (refracting specimens are sharpest beside focus).
    ``…_first`` and ``…_second``: `beliefs.figures` after that look.
    """
    error = np.array([abs(r["true_defocus_dof"]) for r in results])
    start = np.array([abs(r["start_dof"]) for r in results])
    captures = np.array([r["captures"] for r in results])
    focused = np.array([r["result"] == "focused" for r in results])
    network = np.array([r["method"] == "network" for r in results])
    start_sharpness = np.array([r["sharpness_start"] for r in results])
    end_sharpness = np.array([r["sharpness_end"] for r in results])
    return {
        "runs": len(results),
        "within_1_dof": float((error <= 1).mean()),
        "focused": float(focused.mean()),
        "by_network": float((network & focused).mean()),
        "worse": int(((error > start) & (error > 1)).sum()),
        "less_sharp": int((end_sharpness < 0.95 * start_sharpness).sum()),
        "captures_median": float(np.median(captures)),
        "captures_p95": float(np.percentile(captures, 95)),
        "error_median_dof": float(np.median(error)),
        "error_p95_dof": float(np.percentile(error, 95)),
        "seconds_median": float(np.median([r["seconds"] for r in results])),
        **_of_looks([r["looks"] for r in results if r["looks"]]),
    }


def _of_looks(runs: Sequence[Sequence[beliefs.Held]]) -> dict[str, float]:
    """`beliefs.figures` after one look and after two, of the runs that had any."""
    return {
        f"{key}_{name}": value
        for look, name in ((1, "first"), (2, "second"))
        if runs
        for key, value in beliefs.figures(runs, look).items()
    }


class NetworkAlone(Microscope):
    """Believes the network alone: no contrast sweep, nor one that confirms it where optics are guessed."""

    def settings(self) -> Settings:
        return replace(super().settings(), assumed=False, sweep=False)


def replay(
    folder: Path,
    plane: int,
    model: models.Model,
    *,
    config: Config | None = None,
    step_um: float = 1.0,
    network_only: bool = False,
) -> Result:
    """Focus on a z-stack from ``plane``; ``config`` and ``step_um`` stand in for what it does not state."""
    chosen = config or load_config(None)
    stack = ZStack.open(folder, step_um=step_um)
    rig = replay_rig(chosen, stack, start_plane=plane, step_assumed=stack.z_in_planes)
    with rig:
        return (NetworkAlone if network_only else Microscope)(rig, model, chosen).focus()


def _pooled(trials: list[Trial], what: str) -> list[dict[str, Any]]:
    # Field by field: one takes 50 MB and seconds to compute, and the cache does not hold hundreds.
    fields = [[t for t in trials if t.field == field] for field in sorted({t.field for t in trials})]
    out: list[dict[str, Any]] = []
    pool = ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"))
    with Bar(what, len(trials)) as bar, pool:
        for results in pool.map(_run_field, fields):
            out += results
            bar.advance(len(results))
    return out


def _run_field(trials: list[Trial]) -> list[dict[str, Any]]:
    return [run_trial(trial) for trial in trials]


def _simulated(args: argparse.Namespace) -> dict[str, Any]:
    recipe = named_recipe(args.recipe)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"optics": args.optics})})
    objectives = args.objective or (OBJECTIVES if args.optics == "random" else (None,))
    trials = simulated_trials(
        recipe, args.runs, args.fields, args.seed, args.model, empty=False, objectives=objectives
    )
    results = _pooled(trials, "runs")
    trials = simulated_trials(recipe, args.empty_runs, 1, args.seed + 1, args.model, empty=True)
    empties = _pooled(trials, "empty field")
    out: dict[str, Any] = {"all": summary(results), **by(results, "specimen"), **by(results, "objective")}
    if empties:
        out["empty"] = {
            "runs": len(empties),
            "no_specimen": float(np.mean([r["result"] == "no_specimen" for r in empties])),
            "back_at_start": float(np.mean([abs(r["position_um"]) < 1.0 for r in empties])),
        }
    out["failures"] = [
        {**r, "looks": [vars(look) for look in r["looks"]]} for r in results if abs(r["true_defocus_dof"]) > 1
    ]
    return out


def by(results: Sequence[dict[str, Any]], key: str) -> dict[str, dict[str, float]]:
    """`summary` of the runs of each value of ``key``, the worst first: least often within 1 dof."""
    names = sorted({r[key] for r in results})
    found = {name: summary([r for r in results if r[key] == name]) for name in names}
    return dict(sorted(found.items(), key=lambda item: item[1]["within_1_dof"]))


def _stacks(args: argparse.Namespace) -> dict[str, Any]:
    model, out = models.load(args.model), {}
    given = {"objective": args.objective, "pixel_um": args.pixel_um}
    optics = {key: value for key, value in given.items() if value is not None}
    config = override(load_config(None), "command line", optics=optics)
    for folder in stack_folders(args.folder):
        stack = ZStack.open(folder)
        rows = []
        for plane in range(len(stack)):
            result = replay(
                folder, plane, model, config=config, step_um=args.step_um, network_only=args.network_only
            ).as_dict()
            result.pop("assumptions", None)
            rows.append({"start": plane, **result})
        focus = None if stack.focus_um is None else stack.nearest(stack.focus_um)
        ended = [r["plane"] for r in rows]
        out[folder.name] = {
            "planes": len(stack),
            "focus_plane": focus,
            "ended_on": ended,
            "within_one_plane": None if focus is None else sum(abs(p - focus) <= 1 for p in ended),
            "focused": sum(r["result"] == "focused" for r in rows),
            "by_network": sum(r["method"] == "network" and r["result"] == "focused" for r in rows),
            "captures_median": float(np.median([r["captures"] for r in rows])),
            "rows": rows,
        }
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures as text, or with ``--json`` whole; for bad input one line, and return 2."""
    args = _parser().parse_args(argv)
    call: Callable[[argparse.Namespace], dict[str, Any]] = args.call
    try:
        out = call(args)
    except InputError as error:
        print(f"closed_loop: {one_line(error)}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(out, indent=1))
    else:
        _print(out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.closed_loop", description=__doc__)
    commands = parser.add_subparsers(required=True)
    simulated = commands.add_parser("simulated")
    simulated.add_argument("--runs", type=_above_zero, default=200)
    simulated.add_argument("--empty-runs", type=int, default=50)
    simulated.add_argument("--fields", type=_above_zero, default=30)
    simulated.add_argument("--seed", type=int, default=1)
    simulated.add_argument("--optics", choices=["fixed", "random"], default="fixed")
    text = "several take turns; default: the config's with fixed optics, else " + ", ".join(OBJECTIVES)
    simulated.add_argument("--objective", action="append", metavar="MxNA", help=text)
    simulated.add_argument("--recipe", default="parfocal")
    simulated.set_defaults(call=_simulated)
    stacks = commands.add_parser("stacks")
    stacks.add_argument("folder", type=Path, help="a z-stack, or a folder of them")
    stacks.add_argument("--step-um", type=float, default=1.0, help="where a stack states none")
    stacks.add_argument("--objective", metavar="MxNA", help="where a stack states none")
    stacks.add_argument("--pixel-um", type=float, metavar="U", help="where a stack states none")
    stacks.add_argument("--network-only", action="store_true", help="no sweep, and none to confirm")
    stacks.set_defaults(call=_stacks)
    for command in (simulated, stacks):
        command.add_argument("--model", default="default")
        command.add_argument("--json", action="store_true")
    return parser


def _above_zero(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _print(out: dict[str, Any]) -> None:
    for run in out.pop("failures", []):
        print(
            f"missed: {run['specimen']} field {run['field']}, start {run['start_dof']:+.1f},"
            f" end {run['true_defocus_dof']:+.2f} dof, {run['method']}, {run['captures']} captures:"
            f" {run['reason']}"
        )
    for name, row in out.items():
        cells = (
            f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items() if k != "rows"
        )
        print(f"{name}:", ", ".join(cells))


if __name__ == "__main__":
    raise SystemExit(main())
