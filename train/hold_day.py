"""The figure of drift tracking: simulated microscopes that focus once and hold it for a day, in virtual time.

    python -m train.hold_day --hours 24 --microscopes 12 --interval-s 30

Microscopes differ in objective, optics, camera, specimen and drift; specimens are those of no training.
Every fourth has the fixed optics that the default model was made for, the others have random ones.

The drift is assumed, not measured: warming up moves the focus by 10 to 20 µm either way, with a time constant
of 15 to 40 minutes; the temperature of the day by 5 to 10 µm to either side; a random walk by 1.5 µm in the
first hour. What it comes to without holding is printed beside.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import model as models
from edge.config import load_config, override
from edge.holder import Holder
from edge.microscope import Microscope
from edge.progress import Bar
from edge.rig import FRAME_PX, Rig, simulated_rig
from edge.simulator.recording import microscope
from train.closed_loop import OBJECTIVES
from train.data import named_recipe
from train.recipe import Recipe
from train.synthetic import field_specimen

__all__ = ["Day", "Drifting", "day", "main", "run_day"]

#: True defocus is sampled at least this often, in s.
SAMPLE_S = 5.0
_GRID_S = 10.0
#: Focus is asked for again this long, in s, after holding ended or a run failed, with ``--refocus``.
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Day:
    """One microscope and how it is run: all seeded by ``number`` and ``seed``."""

    recipe: Recipe
    number: int
    seed: int
    hours: float
    interval_s: float
    model: str
    refocus: bool


class Drifting:
    """Drift of the focus in µm by time in s, 0 at the start: warming up, the day, and a random walk."""

    def __init__(self, rng: np.random.Generator, hours: float) -> None:
        t = np.arange(0.0, hours * 3600 + 3600, _GRID_S)
        warm_um = rng.choice([-1, 1]) * rng.uniform(10, 20)
        warm = warm_um * (1 - np.exp(-t / rng.uniform(900, 2400)))
        daily = rng.uniform(5, 10) * np.sin(2 * math.pi * (t / 86_400 + rng.uniform()))
        walk = np.cumsum(rng.normal(0, 1.5 * math.sqrt(_GRID_S / 3600), len(t)))
        total = warm + daily + walk
        self._t_s, self._um = t, total - total[0]

    def __call__(self, t_s: float) -> float:
        return float(np.interp(t_s, self._t_s, self._um))


class _Record:
    """Time-weighted samples of how far from focus the specimen was, held and as if it had not been."""

    def __init__(self, rig: Rig, drift_um: Callable[[float], float]) -> None:
        self._rig, self._drift_um, self._dof_um = rig, drift_um, rig.optics.dof_um
        self._last_s = rig.clock.now_s()
        self._left_um = self._truth_um() - drift_um(self._last_s)
        self._rows: list[tuple[float, float, float]] = []

    def sample(self) -> None:
        """The time since the last sample counts as spent here."""
        now_s = self._rig.clock.now_s()
        left = abs(self._left_um + self._drift_um(now_s))
        self._rows.append((now_s - self._last_s, abs(self._truth_um()), left))
        self._last_s = now_s

    def wait(self, wait_s: float) -> None:
        """Sleep, sampling on the way."""
        until_s = self._rig.clock.now_s() + wait_s
        while (rest_s := until_s - self._rig.clock.now_s()) > 1e-6:
            self._rig.clock.sleep_s(min(rest_s, SAMPLE_S))
            self.sample()

    def figures(self) -> dict[str, float]:
        """Shares of time, and the worst excursion in dof."""
        rows = np.array(self._rows)
        weight = rows[:, 0] / rows[:, 0].sum()
        held, left = rows[:, 1] / self._dof_um, rows[:, 2] / self._dof_um
        return {
            "within_1_dof": _share(weight, held <= 1.0),
            "within_half_dof": _share(weight, held <= 0.5),
            "worst_dof": float(held.max()),
            "without_within_1_dof": _share(weight, left <= 1.0),
            "without_worst_dof": float(left.max()),
        }

    def _truth_um(self) -> float:
        assert self._rig.true_defocus_um is not None
        return self._rig.true_defocus_um()


def _share(weight: NDArray[np.float64], true: NDArray[np.bool_]) -> float:
    return float(weight[true].sum())


def day(
    scope: Microscope,
    drift_um: Callable[[float], float],
    *,
    hours: float,
    interval_s: float,
    refocus: bool = False,
) -> dict[str, Any]:
    """Focus, then hold for ``hours`` of the rig's time; the figures, from when the focus was found.

    ``refocus``: where holding ends, ask for a focus and hold on; else the focus is left to drift from there.
    """
    rig, stage = scope.rig, scope.rig.stage
    result = scope.focus()
    record = _Record(rig, drift_um)
    moves, travel, focus_runs, looks = stage.moves, stage.travel_steps, 0, 0
    given_up: list[str] = []
    started_dof = 0.0 if rig.true_defocus_um is None else rig.optics.dof_from_um(rig.true_defocus_um())
    holder = Holder(scope, interval_s=interval_s) if result.result == "focused" else None
    end_s = rig.clock.now_s() + hours * 3600
    while rig.clock.now_s() < end_s:
        if holder is None:
            record.wait(min(_PATIENCE_S, end_s - rig.clock.now_s()))
            if refocus:
                focus_runs += 1
                if scope.focus().result == "focused":
                    holder = Holder(scope, interval_s=interval_s)
                record.sample()
            continue
        status = holder.step()
        record.sample()
        if status.over:
            given_up.append(status.reason)
            looks, holder = looks + status.looks, None
            continue
        record.wait(min(status.next_s, end_s - rig.clock.now_s()))
    return {
        "focus": result.result,
        "started_dof": started_dof,
        **record.figures(),
        "moves": stage.moves - moves,
        "travel_um": (stage.travel_steps - travel) * stage.um_per_step,
        "looks": looks + (0 if holder is None else holder.status.looks),
        "given_up": len(given_up),
        "focus_runs": focus_runs,
        "reasons": given_up,
    }


def run_day(job: Day) -> dict[str, Any]:
    """One microscope's day."""
    data = job.recipe.data
    fixed = job.number % 4 == 3
    own = (
        {}
        if fixed
        else {"optics": {"objective": OBJECTIVES[(job.number - job.number // 4) % len(OBJECTIVES)]}}
    )
    config = override(load_config(None), "day", simulator={"seed": job.seed * 1000 + job.number}, **own)
    rng = np.random.default_rng((job.seed, job.number, 41))
    specimen = field_specimen(data, "test", job.number, FRAME_PX)
    optics = config.optics.optics()
    imaging, sensor = microscope(optics.objective, None if fixed else rng)
    drift_um = Drifting(rng, job.hours)
    rig = simulated_rig(
        config,
        start_defocus_um=float(rng.uniform(-8, 8)) * optics.dof_um,
        specimen=specimen,
        imaging=imaging,
        sensor=sensor,
        drift_um=drift_um,
    )
    with rig:
        scope = Microscope(rig, models.load(job.model), config)
        out = day(scope, drift_um, hours=job.hours, interval_s=job.interval_s, refocus=job.refocus)
    return {
        "microscope": job.number,
        "objective": str(optics.objective),
        "dof_um": optics.dof_um,
        "optics": "fixed" if fixed else "random",
        "specimen": specimen.name,
        **out,
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of all microscopes, each with the same weight."""
    within = np.array([row["within_1_dof"] for row in rows])
    return {
        "microscopes": len(rows),
        "within_1_dof_mean": float(within.mean()),
        "within_1_dof_median": float(np.median(within)),
        "at_least_99_percent": int((within >= 0.99).sum()),
        "within_half_dof_mean": float(np.mean([row["within_half_dof"] for row in rows])),
        "without_within_1_dof_mean": float(np.mean([row["without_within_1_dof"] for row in rows])),
        "gave_up": sum(row["given_up"] > 0 for row in rows),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each microscope, the worst first, and one for all; with ``--json`` all there is."""
    args = _parser().parse_args(argv)
    recipe = named_recipe(args.recipe)
    jobs = [
        Day(recipe, number, args.seed, args.hours, args.interval_s, args.model, args.refocus)
        for number in range(args.microscopes)
    ]
    with Bar("days", len(jobs)) as bar:
        rows = []
        for row in _days(jobs, args.processes):
            rows.append(row)
            bar.advance(1)
    rows.sort(key=lambda row: float(row["within_1_dof"]))
    out = {"all": summary(rows), "microscopes": rows}
    print(json.dumps(out, indent=1) if args.json else _text(out))
    return 0


def _days(jobs: list[Day], processes: int) -> Any:
    if processes == 1:
        return map(run_day, jobs)
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    return pool.map(run_day, jobs)


def _text(out: dict[str, Any]) -> str:
    lines = [
        f"{row['objective']} {row['optics']} {row['specimen']}: {row['within_1_dof']:.1%} within 1 dof,"
        f" {row['within_half_dof']:.1%} within 0.5, worst {row['worst_dof']:.2f} dof,"
        f" began {row['started_dof']:+.2f}; {row['moves']} moves, {row['travel_um']:.0f} µm of travel,"
        f" {row['looks']} looks, gave up {row['given_up']}, focus runs {row['focus_runs']};"
        f" not held: {row['without_within_1_dof']:.1%}, worst {row['without_worst_dof']:.1f} dof"
        + "".join(f"\n    gave up: {reason}" for reason in row["reasons"][:1])
        for row in out["microscopes"]
    ]
    every = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in out["all"].items())
    return "\n".join([*lines, f"all: {every}"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.hold_day", description=__doc__)
    above_zero = partial(_above, least=0.0)
    parser.add_argument("--hours", type=above_zero, default=24.0)
    parser.add_argument("--interval-s", type=above_zero, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--microscopes", type=int, default=4)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--refocus", action="store_true", help="ask for a focus where holding ends")
    parser.add_argument("--recipe", default="parfocal", help="whose test specimens (%(default)s)")
    parser.add_argument("--model", default="default")
    parser.add_argument("--json", action="store_true")
    return parser


def _above(text: str, *, least: float) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > least):
        raise argparse.ArgumentTypeError(f"{text}: a number above {least:g} is allowed")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
