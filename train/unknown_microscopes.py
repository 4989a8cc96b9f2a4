"""Simulated microscopes of which the configuration knows little: pitch, direction, slack, settling and drift
are drawn, as they are with what people build.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edge.bench.bed import DRAWN
from edge.calibration import Calibration
from edge.config import Config, override
from edge.rig import FRAME_PX, Rig, simulated_rig
from edge.simulator.recording import microscope
from edge.simulator.specimens import make
from firmware_iface.clock import VirtualClock
from firmware_iface.simulated import SimulatedAxis

__all__ = ["HOPELESS", "OBJECTIVES", "SETTLED_DOF", "Truth", "configuration", "drawn", "opened"]

OBJECTIVES = ("10x0.25", "20x0.40", "40x0.65", "100x1.25oil")
#: A stage has settled when it rings by less than this, in depths of field.
SETTLED_DOF = 0.1
#: Ways in which a microscope cannot be calibrated.
HOPELESS = ("empty", "saturated", "stuck")
#: Farthest start from focus, and half of what a search may cover, in depths of field.
START_DOF, REACH_DOF = 10.0, 30.0
#: Drawn specimens of the training have seeds that leave 0 or 1 when divided by this (`train.synthetic`).
_HELD_OUT = 3


@dataclass(frozen=True)
class Truth:
    """What the configuration does not know. ``hopeless``: one of `HOPELESS`, or empty."""

    number: int
    seed: int
    objective: str
    specimen: str
    pitch_factor: float
    inverted: bool
    backlash_steps: int
    ring_dof: float
    ring_hz: float
    settle_s: float
    drift_dof_s: float
    start_dof: float
    hopeless: str = ""

    @property
    def decay_s(self) -> float:
        """Decay time of the ringing that makes ``settle_s`` true."""
        return self.settle_s / math.log(self.ring_dof / SETTLED_DOF)


def drawn(number: int, seed: int, *, hopeless: bool = False) -> Truth:
    """Microscope ``number`` of the series ``seed``."""
    rng = np.random.default_rng((seed, number, 8))
    return Truth(
        number=number,
        seed=seed,
        objective=OBJECTIVES[number % len(OBJECTIVES)],
        specimen=DRAWN[number % len(DRAWN)],
        pitch_factor=float(np.exp(rng.uniform(math.log(0.6), math.log(1.7)))),
        inverted=bool(rng.random() < 0.5),
        backlash_steps=int(rng.integers(0, 401)),
        ring_dof=float(rng.uniform(0.4, 2.0)),
        ring_hz=float(rng.uniform(15, 60)),
        settle_s=float(np.exp(rng.uniform(math.log(0.02), math.log(0.3)))),
        drift_dof_s=float(rng.uniform(-0.05, 0.05)),
        start_dof=float(rng.uniform(-START_DOF, START_DOF)),
        hopeless=HOPELESS[number % len(HOPELESS)] if hopeless else "",
    )


def configuration(truth: Truth, *, run: int = 0) -> Config:
    """What its owner has written down: the objective, and limits wide enough."""
    own = override(Config(), "trial", optics={"objective": truth.objective})
    dof_um = own.optics.optics().dof_um
    limit_um = max(150.0, 2 * REACH_DOF * dof_um)
    return override(
        own,
        "trial",
        stage={"limit_low_um": -limit_um, "limit_high_um": limit_um},
        focus={"sweep_range_um": 2 * REACH_DOF * dof_um},
        simulator={
            "seed": truth.number * 100 + run,
            "pitch_factor": truth.pitch_factor,
            "inverted": truth.inverted,
            "backlash_steps": truth.backlash_steps,
        },
    )


def opened(
    truth: Truth,
    own: Config,
    *,
    run: int = 0,
    start_dof: float | None = None,
    calibration: Calibration | None = None,
    power_on: bool = False,
) -> Rig:
    """The rig of ``truth`` by `configuration` ``own``, its motor off; ``run`` gives other noise. Close it.

    The drive was last moved up, as each move of a stage ends; ``power_on``: its slack lies anywhere, and to
    take it up shifts the specimen by up to all of it before the first look.
    """
    dof_um = own.optics.optics().dof_um
    rng = np.random.default_rng((truth.seed, truth.number, 9))
    name = "empty" if truth.hopeless == "empty" else truth.specimen
    specimen_seed = _HELD_OUT * int(rng.integers(1 << 40)) + _HELD_OUT - 1
    specimen = make(name, (FRAME_PX, FRAME_PX), specimen_seed)
    imaging, sensor = microscope(own.optics.optics().objective, rng)
    if truth.hopeless == "saturated":
        sensor = replace(sensor, white_balance=(60.0, 60.0, 60.0), vignetting=0.0)
    clock = VirtualClock()
    step_dof = own.stage.um_per_step * truth.pitch_factor / dof_um
    axis = SimulatedAxis(
        clock,
        start_rate_steps_s=own.stage.start_rate_steps_s,
        max_rate_steps_s=own.stage.max_rate_steps_s,
        acceleration_steps_s2=own.stage.acceleration_steps_s2,
        backlash_steps=1e9 if truth.hopeless == "stuck" else truth.backlash_steps,
        initial_slack=5e8 if truth.hopeless == "stuck" else None if power_on else 0.0,
        vibration_amplitude_steps=0.0 if truth.hopeless == "stuck" else truth.ring_dof / step_dof,
        vibration_hz=truth.ring_hz,
        vibration_decay_s=truth.decay_s,
        seed=truth.number * 100 + run,
    )
    return simulated_rig(
        own,
        start_defocus_um=(truth.start_dof if start_dof is None else start_dof) * dof_um,
        specimen=specimen,
        imaging=imaging,
        sensor=sensor,
        clock=clock,
        axis=axis,
        drift_um=lambda t_s: truth.drift_dof_s * dof_um * t_s,
        calibration=calibration,
    )
