"""A calibration as a test wants it."""

from __future__ import annotations

from typing import Any

from edge.calibration import Calibration


def found(**changes: Any) -> Calibration:
    """Of a stage whose steps up lower defocus, with ``changes``."""
    keys: dict[str, Any] = {
        "date": "2026-01-02T03:04:05+00:00",
        "objective": "20x0.40",
        "stage": "simulated",
        "model": "parfocal-default",
        "dof_per_step": -0.03,
        "dof_per_step_sigma": 0.001,
        "optical_dof_per_step": 0.03,
        "optical_dof_per_step_sigma": 0.001,
        "by_theory": True,
        "direction_odds": 200.0,
        "backlash_steps": 120.0,
        "backlash_steps_sigma": 2.0,
        "settle_s": 0.25,
        "settle_s_sigma": 0.01,
        "drift_dof_s": 0.01,
        "drift_dof_s_sigma": 0.001,
        "background": 200.0,
        "clipped": 0.0,
        "specimen_swing": 3.0,
    }
    return Calibration(**{**keys, **changes})
