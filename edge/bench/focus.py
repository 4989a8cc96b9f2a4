"""`parfocal bench focus`: the same microscopes, fields and starts for every strategy, in virtual time.

No figure here is a time of this computer: motion, frames and inferences take what they are said to take, so
the same seed gives the same figures anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge import model as models
from edge.bench.bed import Cost, Trial, made
from edge.bench.faults import FAULTS
from edge.bench.strategies import STRATEGIES
from edge.config import Config
from edge.simulator.workers import spread

__all__ = ["OBJECTIVES", "Plan", "Run", "run", "runs", "trials"]

#: From low to high aperture, dry and oil; fields take turns.
OBJECTIVES = ("10x0.25", "20x0.40", "40x0.65", "100x1.25oil")
#: Within so many depths of field a run has succeeded.
TOLERANCE_DOF = 1.0
#: A search looks so much farther to either side than a start may lie.
RANGE_OVER_START = 1.2


@dataclass(frozen=True)
class Plan:
    """What is compared: ``count`` runs over ``fields`` fields for each of ``strategies``."""

    count: int
    seed: int
    fields: int
    strategies: tuple[str, ...] = tuple(STRATEGIES)
    objectives: tuple[str, ...] = OBJECTIVES
    photographs: str | None = None
    start_dof: float = 10.0
    """Starts are uniform to so far on either side of focus."""
    range_dof: float = 12.0
    """How far to either side of its start a search looks."""
    exactly: bool = False
    """Starts are at ``start_dof`` to either side, instead."""
    look_s: float = 0.05
    fixed: bool = False
    power_on: bool = False
    faults: bool = False
    """Each of the faults, too."""

    @property
    def total(self) -> int:
        """Trials of each strategy."""
        return self.count * (len(FAULTS) if self.faults else 1)


@dataclass(frozen=True)
class Run:
    """What one strategy made of one trial."""

    strategy: str
    trial: Trial
    specimen: str
    cost: Cost
    start_dof: float
    error_dof: float
    """Distance from focus at the end, 0 or more."""
    said: str | None
    """``focused``, ``no_specimen`` or ``failed``, of a strategy that says so."""

    @property
    def success(self) -> bool:
        """In focus at the end; of an empty field: said so, and the stage is back."""
        if self.trial.fault == "empty field":
            return self.said == "no_specimen" and abs(self.error_dof - abs(self.start_dof)) < 0.2
        return self.error_dof <= TOLERANCE_DOF

    @property
    def worse(self) -> bool:
        """Ended out of focus and farther from it than it began."""
        return self.error_dof > TOLERANCE_DOF and self.error_dof > abs(self.start_dof) + 0.1


def trials(plan: Plan) -> list[Trial]:
    """The runs of ``plan``, those of one field together; with faults, as many of each as without."""
    rng = np.random.default_rng((plan.seed, 41))
    starts = rng.uniform(-plan.start_dof, plan.start_dof, plan.count)
    if plan.exactly:
        starts = np.copysign(plan.start_dof, starts)
    made = [
        Trial(
            bench_seed=plan.seed,
            field=k % plan.fields,
            objective=plan.objectives[k % plan.fields % len(plan.objectives)],
            start_dof=start,
            seed=int(np.random.SeedSequence((plan.seed, k)).generate_state(1)[0]),
            range_dof=plan.range_dof,
            look_s=plan.look_s,
            power_on=plan.power_on,
            fixed=plan.fixed,
            fault=name,
            photographs=plan.photographs,
        )
        for name in (FAULTS if plan.faults else FAULTS[:1])
        for k, start in enumerate(starts.tolist())
    ]
    return sorted(made, key=lambda trial: trial.field)


def run(strategy: str, trial: Trial, model: models.Model, config: Config) -> Run:
    """``strategy`` on a bed of its own."""
    bed = made(trial, model, config)
    try:
        start_dof = bed.true_defocus_dof
        said = STRATEGIES[strategy].run(bed)
        cost = bed.cost()
        bed.wait(0.5)  # what still rings is no error; drift is
        return Run(
            strategy,
            trial,
            bed.specimen,
            cost,
            start_dof,
            abs(bed.true_defocus_dof),
            getattr(said, "result", None),
        )
    finally:
        bed.close()


def runs(
    plan: Plan,
    config: Config,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda trials: None,
) -> list[Run]:
    """All runs of ``plan``, spread over processes. BLOCKS. ``progress`` is told of trials done.

    Which process takes which changes nothing in the figures.
    """
    by_field: dict[int, list[Trial]] = {}
    for trial in trials(plan):
        by_field.setdefault(trial.field, []).append(trial)
    jobs = [(plan.strategies, group, config) for group in by_field.values()]
    done: list[list[Run]] = []
    for part in spread(_run_field, jobs, workers or os.cpu_count() or 1):
        done.append(part)
        progress(len(part) // len(plan.strategies))
    done.sort(key=lambda part: part[0].trial.field)  # they come as they are done
    return [run for part in done for run in part]


_models: dict[str, models.Model] = {}


def _run_field(job: tuple[tuple[str, ...], list[Trial], Config]) -> list[Run]:
    strategies, group, config = job
    path = config.model.path
    if path not in _models:
        _models[path] = models.load(path, threads=config.model.threads)
    model = _models[path]
    return [run(name, trial, model, config) for trial in group for name in strategies]
