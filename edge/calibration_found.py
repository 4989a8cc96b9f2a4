"""What a calibration sees and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.calibration import Calibration, stage_identity
from edge.calibration_fit import Curve, Offset, Pass, Scale
from edge.config import Config
from edge.ring_power import RingPower
from edge.settling import Settling
from edge.through_focus import Fitted

__all__ = ["Found", "Looks", "Refused"]

Array = NDArray[np.float64]


class Refused(Exception):
    """Nothing was calibrated, and why, in one line."""


@dataclass
class Looks:
    """Looks of one pass as they come in: screw in the direction of approach, see `Pass`."""

    back: bool
    screw: list[float] = field(default_factory=list)
    time_s: list[float] = field(default_factory=list)
    log_sharpness: list[float] = field(default_factory=list)
    says: list[Array | None] = field(default_factory=list)
    spectra: list[RingPower | None] = field(default_factory=list)

    def whole(self) -> Pass:
        """As arrays."""
        return Pass(np.array(self.screw), np.array(self.time_s), np.array(self.log_sharpness), self.back)


@dataclass(frozen=True)
class Found:
    """What was measured; ``passes`` and ``says`` for drawing."""

    curve: Curve
    scale: Scale
    optical: Fitted
    offset: Offset
    settling: Settling
    drift_dof_s: float
    drift_sigma_dof_s: float
    background: float
    clipped: float
    frames: int
    seconds: float
    passes: tuple[Pass, ...]
    approach: int
    bin_centres: Array
    says: tuple[tuple[Array | None, ...], ...]
    watched: tuple[Array, Array]

    @property
    def dof_per_step(self) -> float:
        """Signed dof that a step in the positive direction adds."""
        return self.scale.scale * self.approach

    def calibration(self, config: Config, *, model: str, fingerprint: str, date: str) -> Calibration:
        """What is kept of it. ``model``: its name; ``fingerprint``: of `edge.model.Model`."""
        return Calibration(
            date=date,
            objective=config.optics.objective,
            stage=stage_identity(config),
            model=model,
            model_fingerprint=fingerprint,
            dof_per_step=self.dof_per_step,
            dof_per_step_sigma=self.scale.sigma,
            optical_dof_per_step=self.optical.scale,
            optical_dof_per_step_sigma=self.optical.scale * self.optical.sigma,
            by_theory=self.optical.trusted,
            network_offset_dof=self.offset.dof,
            network_offset_dof_sigma=self.offset.sigma,
            direction_odds=self.scale.odds,
            backlash_steps=max(0.0, self.curve.slack),
            backlash_steps_sigma=self.curve.slack_sigma,
            settle_s=self.settling.settle_s,
            settle_s_sigma=self.settling.sigma_s,
            drift_dof_s=self.drift_dof_s,
            drift_dof_s_sigma=self.drift_sigma_dof_s,
            background=self.background,
            clipped=self.clipped,
            specimen_swing=self.curve.swing,
        )
