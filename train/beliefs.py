"""Beliefs held against the truth: is the direction right, the confidence earned, the interval wide enough?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.dialogue import State
from edge.estimate import TOLERANCE_DOF
from edge.optics import Optics
from edge.run_result import Trace
from train.evaluate import INTERVAL, expected_calibration_error

Array = NDArray[np.float64]

#: Nearer to focus than this, in dof, a direction means nothing.
FAR_DOF = 1.0


@dataclass(frozen=True)
class Held:
    """One belief over signed defocus, all in depths of field.

    ``estimate``: mean of the most probable window of `TOLERANCE_DOF` to either side. ``confidence``: mass so
    near the estimate. ``truth``: what was so. ``likelier``: mass of the places likelier than the truth; were
    the belief exactly right, it would be spread evenly over 0 to 1. ``position``: of the stage.
    """

    estimate: float
    confidence: float
    truth: float
    likelier: float
    position: float = 0.0

    @property
    def right(self) -> bool:
        """Whether the truth lies so near the estimate, too."""
        return abs(self.estimate - self.truth) <= TOLERANCE_DOF

    @property
    def in_interval(self) -> bool:
        """Whether the smallest credible region of mass `INTERVAL` holds the truth."""
        return self.likelier <= INTERVAL


def held(defocus: Array, probability: Array, truth: float, position: float = 0.0) -> Held:
    """``probability`` ``(N,)`` over evenly spaced ``defocus`` ``(N,)`` in dof, in either order."""
    rising = np.argsort(defocus)
    x, p = defocus[rising], probability[rising] / probability.sum()
    reach = max(1, round(TOLERANCE_DOF / float(x[1] - x[0])))
    below = np.concatenate([[0.0], np.cumsum(p)])
    ends = np.clip(np.arange(len(x))[:, None] + (-reach, reach + 1), 0, len(x))
    mass = below[ends[:, 1]] - below[ends[:, 0]]
    low, high = ends[int(mass.argmax())]
    estimate = float((p[low:high] * x[low:high]).sum() / p[low:high].sum())
    edges = np.append(x - (x[1] - x[0]) / 2, x[-1] + (x[1] - x[0]) / 2)
    window = np.interp([estimate - TOLERANCE_DOF, estimate + TOLERANCE_DOF], edges, below)
    at_truth = float(np.interp(truth, x, p))
    return Held(estimate, float(window[1] - window[0]), truth, float(p[p > at_truth].sum()), position)


def of_trace(trace: Trace, optics: Optics) -> list[Held]:
    """The beliefs after each look of a run whose true defocus is known; without those that a sweep needed."""
    return [
        held(*entry.belief, optics.dof_from_um(entry.true_defocus_um), optics.dof_from_um(entry.position_um))
        for entry in trace.entries
        if entry.state == State.LOOKING.value
        and entry.belief is not None
        and entry.true_defocus_um is not None
    ]


def wrong_direction(start: Held, later: Held) -> bool:
    """Whether the belief ``later`` still has the focus on the wrong side of where ``start`` was seen from."""
    from_start = later.estimate + start.position - later.position
    return bool(np.sign(from_start) != np.sign(start.truth))


def figures(runs: Sequence[Sequence[Held]], look: int) -> dict[str, float]:
    """How true the beliefs after ``look`` looks were, over ``runs`` of one or more; a run that ended sooner
    counts with its last.

    ``wrong_direction``: share of the runs whose first frame was `FAR_DOF` or more from focus and whose belief
    has the focus on the wrong side of it. ``ece``: `evaluate.expected_calibration_error`. ``interval_90``:
    share whose 90 % region holds the truth.
    """
    after = [run[min(look, len(run)) - 1] for run in runs]
    far = [wrong_direction(run[0], last) for run, last in zip(runs, after, strict=True) if _far(run[0])]
    return {
        "wrong_direction": float(np.mean(far)) if far else 0.0,
        "far": len(far),
        **calibration(after),
    }


def calibration(beliefs: Sequence[Held]) -> dict[str, float]:
    """``ece`` and ``interval_90`` of one or more beliefs."""
    confidence = np.array([belief.confidence for belief in beliefs])
    right = np.array([belief.right for belief in beliefs])
    return {
        "ece": expected_calibration_error(confidence, right),
        "interval_90": float(np.mean([belief.in_interval for belief in beliefs])),
    }


def _far(belief: Held) -> bool:
    return abs(belief.truth) >= FAR_DOF
