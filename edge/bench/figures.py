"""What the runs of `edge.bench.focus` come to: overall, side by side, and by what may matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge import card as cards
from edge.bench.faults import FAULTS
from edge.bench.focus import Plan, Run
from edge.bench.strategies import STRATEGIES
from edge.config import Config
from edge.model import file_of

__all__ = ["against", "best_peer", "network_of", "report", "start_bin", "summary"]

_STARTS = (0.0, 1.0, 3.0, 6.0)


def summary(found: Sequence[Run]) -> dict[str, float | int]:
    """Figures of runs of one strategy, one or more."""
    error = np.array([r.error_dof for r in found])
    seconds = np.array([r.cost.seconds for r in found])
    return {
        "runs": len(found),
        "success": float(np.mean([r.success for r in found])),
        "seconds_median": float(np.median(seconds)),
        "seconds_p95": float(np.percentile(seconds, 95)),
        "captures_median": float(np.median([r.cost.captures for r in found])),
        "moves_median": float(np.median([r.cost.moves for r in found])),
        "travel_um_median": float(np.median([r.cost.travel_um for r in found])),
        "error_dof_median": float(np.median(error)),
        "error_dof_p95": float(np.percentile(error, 95)),
        "worse": sum(r.worse for r in found),
    }


def against(found: Sequence[Run], ours: str = "parfocal") -> dict[str, dict[str, float | int]]:
    """Each other strategy against ``ours`` over the trials where both succeeded: the median of each one's
    seconds, and their ratio.
    """
    own_runs = {r.trial: r for r in found if r.strategy == ours and r.success}
    out = {}
    for name in dict.fromkeys(r.strategy for r in found if r.strategy != ours):
        pairs = [
            (own_runs[r.trial].cost.seconds, r.cost.seconds)
            for r in found
            if r.strategy == name and r.success and r.trial in own_runs
        ]
        if pairs:
            own, other_s = (float(np.median(side)) for side in zip(*pairs, strict=True))
            out[name] = {
                "both": len(pairs),
                "ours": own,
                "seconds": other_s,
                "times": other_s / own,
            }
    return out


def best_peer(strategies: Mapping[str, Mapping[str, float]], ours: str = "parfocal") -> str | None:
    """The quickest of the others' strategies that succeeds as often as ``ours``; None: no one's does."""
    as_good = {
        name: of["seconds_median"]
        for name, of in strategies.items()
        if STRATEGIES[name].peer and ours in strategies and of["success"] >= strategies[ours]["success"]
    }
    return min(as_good, key=lambda name: as_good[name], default=None)


def start_bin(run: Run) -> str:
    """Start distance in words, such as ``3 to 6``."""
    edges = [*_STARTS, np.inf]
    k = int(np.searchsorted(edges, abs(run.start_dof), side="right")) - 1
    return f"{edges[k]:g} to {edges[k + 1]:g}" if np.isfinite(edges[k + 1]) else f"over {edges[k]:g}"


def network_of(path: str) -> dict[str, str]:
    """Which network was measured: the name of its file, and the SHA-256 in its card."""
    file = file_of(path)
    return {"name": file.name, "sha256": cards.read(file)[1].flatbuffer_sha256}


def report(found: Sequence[Run], plan: Plan, config: Config) -> dict[str, Any]:
    """The document of ``--json``: overall, side by side, and by objective, start, specimen and fault.

    Runs with a fault are not part of the other figures.
    """
    stage = config.stage
    sound = [r for r in found if r.trial.fault == "none"]
    kinds: dict[str, Callable[[Run], str]] = {
        "objective": lambda r: r.trial.objective,
        "start_dof": start_bin,
        "specimen": lambda r: r.specimen,
    }

    def table(chosen: Sequence[Run]) -> dict[str, dict[str, float | int]]:
        by_name = {name: [r for r in chosen if r.strategy == name] for name in plan.strategies}
        return {name: summary(own) for name, own in by_name.items() if own}

    out: dict[str, Any] = {
        "simulated": True,
        "model": network_of(config.model.path),
        "plan": {**vars(plan), "sources": {name: STRATEGIES[name].source for name in plan.strategies}},
        "microscope": {
            "backlash_steps": config.simulator.backlash_steps,
            "stage_backlash_steps": stage.backlash_steps,
            "compensation": stage.compensation,
            "um_per_step": stage.um_per_step,
            "max_rate_steps_s": stage.max_rate_steps_s,
            "settle_s": stage.settle_s,
            "frame_period_s": config.camera.frame_period_s,
        },
        "strategies": table(sound),
        "against": against(sound) if "parfocal" in plan.strategies else {},
    }
    out["best_peer"] = best_peer(out["strategies"])
    for kind, of in kinds.items():
        values = sorted({of(r) for r in sound})
        out[f"by_{kind}"] = {value: table([r for r in sound if of(r) == value]) for value in values}
    if plan.faults:
        out["by_fault"] = {name: table([r for r in found if r.trial.fault == name]) for name in FAULTS}
    return out
