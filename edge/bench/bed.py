"""A test bed: one simulated microscope on which a strategy of focusing is tried, in virtual time.

Every strategy gets a bed of its own that is the same to the last random number: field, optics, noise, start,
slack, faults. It drives the motor and takes frames through the bed, which counts what that costs. Where it
leaves the stage is judged by the truth, which only the oracle may ask for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bench.faults import Fault, FaultyCamera, fault
from edge.camera.base import Frame
from edge.config import Config, override
from edge.model import Look, Model
from edge.optics import Optics
from edge.rig import FRAME_PX, Rig, simulated_axis, simulated_rig
from edge.simulator.recording import microscope
from edge.simulator.specimens import Specimen, from_image, images_in, make, read_image
from edge.view import View
from firmware_iface.clock import Clock, VirtualClock
from firmware_iface.simulated import SimulatedAxis

__all__ = ["Bed", "Cost", "Trial", "field_of", "made"]

Array = NDArray[np.float64]

#: Specimens that are drawn where no photographs were given; fields take turns.
DRAWN = ("tissue", "blood", "debris")
#: Drawn specimens of the training have seeds that leave 0 or 1 when divided by 3 (`train.synthetic`).
_HELD_OUT = 3


@dataclass(frozen=True)
class Trial:
    """One run: which field behind which objective, from how far, and what goes wrong."""

    bench_seed: int
    """Of optics and specimen, together with ``field``."""
    field: int
    objective: str
    start_dof: float
    """Defocus where it begins, in depths of field."""
    seed: int
    """Of noise, missed steps and slack."""
    range_dof: float
    """How far to either side a search may look: what a user would have set."""
    look_s: float
    """Time that is charged for each inference."""
    power_on: bool = False
    """The drive has its slack anywhere; else it was last moved as a microscope in use is: upwards."""
    fixed: bool = False
    """The simulator's usual optics instead of other ones for each field."""
    fault: Fault = "none"
    photographs: str | None = None
    """Folder of sharp photographs; drawn specimens where None."""


@dataclass(frozen=True)
class Cost:
    """Virtual seconds until it stood or knew, frames, moves and travel of the motor."""

    seconds: float
    captures: int
    moves: int
    travel_um: float


class _ChargedModel(Model):
    """A model whose looks take ``look_s`` on ``clock``, as they would on a device."""

    def __init__(self, model: Model, clock: Clock, look_s: float) -> None:
        vars(self).update(vars(model))
        self._clock, self._look_s = clock, look_s

    def look(self, frame: NDArray[np.uint8] | View, optics: Optics, *, most_tiles: int) -> Look:
        found = super().look(frame, optics, most_tiles=most_tiles)
        self._clock.sleep_s(self._look_s)
        return found


class Bed:
    """The microscope of a `Trial`. ``frame`` and ``record`` take frames; ``drive`` moves the motor itself.

    Lengths are in µm along the stage unless the name says otherwise.
    """

    def __init__(
        self, rig: Rig, axis: SimulatedAxis, model: Model, config: Config, trial: Trial, specimen: str
    ) -> None:
        self.rig, self.axis, self.config, self.trial, self.specimen = rig, axis, config, trial, specimen
        self.clock = rig.clock
        self.model = _ChargedModel(model, rig.clock, trial.look_s)
        self.free_model = model
        self.captures = self._moves = self._travel_steps = 0
        self._began_s = rig.clock.now_s()
        self._ended_s = rig.stage.last_motion_ended_s
        self._stage_travel, self._stage_moves = rig.stage.travel_steps, rig.stage.moves

    @property
    def optics(self) -> Optics:
        """Objective and pixels."""
        return self.rig.optics

    @property
    def um_per_step(self) -> float:
        """Pitch of the motor."""
        return self.rig.stage.um_per_step

    @property
    def range_um(self) -> float:
        """How far to either side of the start a search may look."""
        return self.optics.um_from_dof(self.trial.range_dof)

    @property
    def position_um(self) -> float:
        """What the motor has counted."""
        return self.axis.position_steps * self.um_per_step

    @property
    def true_defocus_dof(self) -> float:
        """The truth, for the judge and the oracle."""
        assert self.rig.true_defocus_um is not None
        return self.optics.dof_from_um(self.rig.true_defocus_um())

    def frame(self) -> Frame:
        """A frame exposed after the stage has settled."""
        ended_s = max(self._ended_s, self.rig.stage.last_motion_ended_s)
        self.captures += 1
        return self.rig.camera.capture(max(self.clock.now_s(), ended_s + self.config.stage.settle_s))

    def next_frame(self) -> Frame:
        """The next frame of the camera's stream that was exposed after the stage has settled."""
        self.captures += 1
        return self.rig.camera.capture(self._ended_s + self.config.stage.settle_s)

    def move_to_um(self, target: float) -> None:
        """Move as the stage does, slack taken care of."""
        self.rig.stage.move_to_um(target)

    def drive(self, steps: int) -> None:
        """Move the motor by ``steps`` and nothing else: what slack does with it is the caller's affair."""
        self.clock.sleep_s(self.axis.start_move(steps))
        self._stood(steps)

    def record(self, steps: int, measure: Callable[[Frame], float]) -> tuple[Array, Array]:
        """Drive ``steps`` with the camera running: motor position (steps) in the middle of each exposure, and
        the ``measure`` of each frame.
        """
        begin_s = self.clock.now_s()
        end_s = begin_s + self.axis.start_move(steps)
        frames = []
        while self.clock.now_s() < end_s:
            frames.append(self.rig.camera.capture(-math.inf))
            self.captures += 1
        self._stood(steps)
        # Those of before the motion belong to the standstill, not to it.
        times = np.array([(f.exposure_start_s + f.exposure_end_s) / 2 for f in frames])
        inside = times >= begin_s
        places = np.array([self.axis.screw_steps(t_s) for t_s in times.tolist()])
        values = np.array([measure(f) for f in frames])
        return places[inside], values[inside]

    def close(self) -> None:
        """Release the motor."""
        self.rig.__exit__(None, None, None)

    def wait(self, seconds: float) -> None:
        """Let ``seconds`` of virtual time pass."""
        self.clock.sleep_s(seconds)

    def _stood(self, steps: int) -> None:
        while self.axis.moving:  # a sum of times may fall just short of the end
            self.clock.sleep_s(1e-6)
        self._ended_s = self.clock.now_s()
        self._travel_steps += abs(steps)
        self._moves += steps != 0

    def cost(self) -> Cost:
        """What it took so far."""
        stage = self.rig.stage
        steps = self._travel_steps + stage.travel_steps - self._stage_travel
        return Cost(
            self.clock.now_s() - self._began_s,
            self.captures,
            self._moves + stage.moves - self._stage_moves,
            steps * self.um_per_step,
        )


def made(trial: Trial, model: Model, config: Config) -> Bed:
    """The bed of ``trial`` with its motor enabled; its clock stands where the strategy may begin.

    ``config``: motor, camera and focus loop; objective, limits and seed are the trial's. Close it.
    """
    optics = override(config, "trial", optics={"objective": trial.objective}).optics.optics()
    reach_um = 2 * optics.um_from_dof(trial.range_dof) + 300 * config.stage.um_per_step
    own = override(
        config,
        "trial",
        optics={"objective": trial.objective},
        stage={"limit_low_um": -max(150.0, reach_um), "limit_high_um": max(150.0, reach_um)},
        focus={"sweep_range_um": 2 * optics.um_from_dof(trial.range_dof)},
        simulator={
            "seed": trial.seed,
            "missed_step_probability": 0.01 if trial.fault == "missed steps" else 0.0,
        },
    )
    specimen, rng = field_of(trial)
    imaging, sensor = microscope(optics.objective, None if trial.fixed else rng)
    clock = VirtualClock()
    axis = simulated_axis(own, clock, slack_steps=None if trial.power_on else 0.0)
    drift_um_s = optics.um_from_dof(fault(trial.fault).drift_dof_s)
    rig = simulated_rig(
        own,
        start_defocus_um=optics.um_from_dof(trial.start_dof),
        specimen=specimen,
        imaging=imaging,
        sensor=sensor,
        clock=clock,
        axis=axis,
        drift_um=lambda t_s: drift_um_s * t_s,
    )
    if fault(trial.fault).changes_frames:
        rig = replace(rig, camera=FaultyCamera(rig.camera, trial.fault, np.random.default_rng(trial.seed)))
    rig.__enter__()
    if not trial.power_on:
        rig.stage.move_to_steps(0)  # the nut stays where it is, and the stage knows how it lies
        clock.sleep_s(1.0)
    return Bed(rig, axis, model, own, trial, specimen.name)


def field_of(trial: Trial) -> tuple[Specimen, np.random.Generator]:
    """The specimen of a trial, and the generator that its optics are drawn from."""
    rng = np.random.default_rng((trial.bench_seed, trial.field, 5))
    shape = (FRAME_PX, FRAME_PX)
    if trial.fault == "empty field":
        return make("empty", shape, 0), rng
    if trial.photographs is None:
        name = DRAWN[trial.field % len(DRAWN)]
        return make(name, shape, _HELD_OUT * int(rng.integers(1 << 40)) + _HELD_OUT - 1), rng
    files = images_in(Path(trial.photographs))
    file = files[trial.field % len(files)]
    return from_image(read_image(file), shape, rng, name=file.parent.name), rng
