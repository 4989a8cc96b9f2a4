"""Calibrate many simulated microscopes of which nothing is known, and focus with what was found, and without.

    python -m train.calibration_study --microscopes 200 --hopeless 50 --seed 8 [--json]

Each figure is printed beside what is asked of it. Everything runs in virtual time.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from edge import model
from edge.calibrate import Calibrator, for_measuring
from edge.calibration import Calibration
from edge.calibration_found import Refused
from edge.microscope import Microscope
from edge.progress import Bar
from train.unknown_microscopes import START_DOF, Truth, configuration, drawn, opened

__all__ = ["Trial", "main", "rows"]


@dataclass(frozen=True)
class Run:
    """One focus run: defocus where it began and ended (dof), and what it took; ``outside``: limits passed."""

    began: float
    ended: float
    result: str
    method: str
    captures: int
    seconds: float
    outside: bool

    @property
    def worse(self) -> bool:
        """Farther from focus than it began, and out of focus."""
        return abs(self.ended) > max(1.0, abs(self.began))


@dataclass(frozen=True)
class Trial:
    """One microscope: what was measured (ratios to the truth, errors), or why not; the runs."""

    truth: Truth
    refused: str
    direction_right: bool = False
    scale_ratio: float = math.nan
    network_ratio: float = math.nan
    by_theory: bool = False
    slack_error: float = math.nan
    settle_ratio: float = math.nan
    drift_error: float = math.nan
    frames: int = 0
    seconds: float = math.nan
    uncalibrated: Run | None = None
    calibrated: Run | None = None


def main(argv: list[str] | None = None) -> int:
    """Run the study and print it."""
    parser = argparse.ArgumentParser(prog="python -m train.calibration_study", description=__doc__)
    parser.add_argument("--microscopes", type=int, default=200)
    parser.add_argument("--hopeless", type=int, default=50)
    parser.add_argument("--seed", type=int, default=8)
    text = "the drive's slack lies anywhere at first: taking it up shifts the specimen before the first look"
    parser.add_argument("--power-on", action="store_true", help=text)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print every microscope as JSON")
    args = parser.parse_args(argv)
    jobs = [(k, args.seed, False, args.power_on) for k in range(args.microscopes)]
    jobs += [(k, args.seed, True, args.power_on) for k in range(args.hopeless)]
    trials = []
    with ProcessPoolExecutor(args.workers) as pool, Bar("microscopes", len(jobs)) as bar:
        for trial in pool.map(_tried, jobs):
            trials.append(trial)
            bar.advance()
    found = rows(trials)
    if args.json:
        print(json.dumps({"rows": found, "microscopes": [asdict(t) for t in trials]}, indent=1))
    else:
        for name, asked, value in found:
            print(f"{name:58} {asked:>14} {value}")
        for trial in trials:
            if trial.refused and not trial.truth.hopeless:
                print(f"refused, number {trial.truth.number}: {trial.refused}", file=sys.stderr)
    return 0


def _tried(job: tuple[int, int, bool, bool]) -> Trial:
    number, seed, hopeless, power_on = job
    truth = drawn(number, seed, hopeless=hopeless)
    network = model.load("default")
    found, trial = _calibrate(truth, network, power_on)
    if hopeless:
        return trial
    # The same start for both, that no calibration has seen.
    start = float(np.random.default_rng((seed, number, 10)).uniform(-START_DOF, START_DOF))
    runs = {"uncalibrated": _focused(truth, network, start, None, power_on)}
    if found is not None:
        runs["calibrated"] = _focused(truth, network, start, found, power_on)
    return Trial(**{**vars(trial), **runs})


def _calibrate(truth: Truth, network: model.Model, power_on: bool) -> tuple[Calibration | None, Trial]:
    own = configuration(truth)
    with opened(truth, for_measuring(own), power_on=power_on) as rig:
        try:
            found = Calibrator(rig, network, own).run()
        except Refused as refusal:
            return None, Trial(truth, str(refusal))
    step_dof = own.stage.um_per_step * truth.pitch_factor / own.optics.optics().dof_um
    trial = Trial(
        truth,
        "",
        direction_right=(found.dof_per_step < 0) == truth.inverted,
        scale_ratio=found.optical.scale / step_dof,
        network_ratio=abs(found.dof_per_step) / step_dof,
        by_theory=found.optical.trusted,
        slack_error=found.curve.slack - truth.backlash_steps,
        settle_ratio=found.settling.settle_s / truth.settle_s,
        drift_error=found.drift_dof_s - truth.drift_dof_s,
        frames=found.frames,
        seconds=found.seconds,
    )
    date = datetime.now(UTC).isoformat(timespec="seconds")
    kept = found.calibration(own, model=network.card.name, fingerprint=network.fingerprint, date=date)
    return kept, trial


def _focused(
    truth: Truth, network: model.Model, start: float, found: Calibration | None, power_on: bool
) -> Run:
    own = configuration(truth, run=1)
    with opened(truth, own, run=1, start_dof=start, calibration=found, power_on=power_on) as rig:
        scope = Microscope(rig, network, own)
        low, high = rig.stage.limits_um
        places: list[float] = [rig.stage.position_um]
        result = scope.focus()
        places += [entry.position_um for entry in scope.trace.entries]
        assert rig.true_defocus_um is not None
        ended = rig.optics.dof_from_um(rig.true_defocus_um())
    outside = not all(low <= place <= high for place in places)
    return Run(start, ended, result.result, result.method, result.captures, result.seconds, outside)


def rows(trials: list[Trial]) -> list[tuple[str, str, str]]:
    """(figure, asked, found), in the order in which they are asked."""
    known = [t for t in trials if not t.truth.hopeless]
    good = [t for t in known if not t.refused]
    hopeless = [t for t in trials if t.truth.hopeless]
    out = [("microscopes calibrated", "", f"{len(good)} of {len(known)}")]
    if good:
        out += _measured(good)
    for name, asked in (("calibrated", "99 %"), ("uncalibrated", "95 %")):
        runs = [run for t in known if (run := getattr(t, name)) is not None]
        if runs:
            out += _runs(name, asked, runs)
    out.append(
        ("hopeless ones refused", "all", f"{sum(bool(t.refused) for t in hopeless)} of {len(hopeless)}")
    )
    return out


def _measured(good: list[Trial]) -> list[tuple[str, str, str]]:
    def share(holds: Callable[[Trial], bool]) -> str:
        count = sum(holds(t) for t in good)
        return f"{100 * count / len(good):.1f} %"

    def slack_right(t: Trial) -> bool:
        return abs(t.slack_error) <= max(10.0, 0.15 * t.truth.backlash_steps)

    spread = float(np.std([math.log(t.scale_ratio) for t in good]))
    network = float(np.std([math.log(t.network_ratio) for t in good]))
    drift = float(np.sqrt(np.mean([t.drift_error**2 for t in good])))
    return [
        ("direction right", "all", share(lambda t: t.direction_right)),
        ("scale within 5 %", "95 %", share(lambda t: abs(t.scale_ratio - 1) <= 0.05)),
        ("scale within 10 %", "", share(lambda t: abs(t.scale_ratio - 1) <= 0.1)),
        ("scale by theory, not by the network alone", "", share(lambda t: t.by_theory)),
        ("scale, standard deviation of its logarithm", "", f"{spread:.3f}"),
        ("the same of the network's scale alone", "", f"{network:.3f}"),
        ("slack within 15 % or 10 steps", "95 %", share(slack_right)),
        ("settling within 30 %", "all", share(lambda t: abs(t.settle_ratio - 1) <= 0.3)),
        ("drift, rms error", "", f"{drift:.4f} dof/s"),
        ("frames, median", "", f"{np.median([t.frames for t in good]):.0f}"),
        ("seconds, median", "", f"{np.median([t.seconds for t in good]):.0f}"),
    ]


def _runs(name: str, asked: str, runs: list[Run]) -> list[tuple[str, str, str]]:
    def share(values: Any) -> str:
        return f"{100 * float(np.mean(list(values))):.1f} %"

    return [
        (f"{name}: within 1 dof", asked, share(abs(r.ended) <= 1 for r in runs)),
        (f"{name}: median error", "", f"{np.median([abs(r.ended) for r in runs]):.2f} dof"),
        (f"{name}: within 1.25 dof", "", share(abs(r.ended) <= 1.25 for r in runs)),
        (f"{name}: ended worse than begun", "none", str(sum(r.worse for r in runs))),
        (f"{name}: outside the limits", "none", str(sum(r.outside for r in runs))),
        (f"{name}: by the network alone", "", share(r.method == "network" for r in runs)),
        (f"{name}: captures, median", "", f"{np.median([r.captures for r in runs]):.0f}"),
        (f"{name}: seconds, median", "", f"{np.median([r.seconds for r in runs]):.2f}"),
    ]


if __name__ == "__main__":
    sys.exit(main())
