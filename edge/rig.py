"""A rig: camera, stage and clock that belong together, and what is known of them; simulated or replayed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from edge.belief import KNOWN, LEARNED, UNKNOWN, Gains
from edge.calibration import Calibration, calibrated, scale_of
from edge.camera.base import Camera
from edge.camera.simulated import SimulatedCamera
from edge.config import Config, override
from edge.errors import InputError
from edge.optics import Optics, natural_pixel_um
from edge.simulator.fields import open_drawn_field, open_field
from edge.simulator.formation import Imaging
from edge.simulator.sensor import Sensor
from edge.simulator.specimens import SPECIMENS, Specimen, from_image, images_in, make, read_image
from firmware_iface.axis import Axis
from firmware_iface.clock import Clock, VirtualClock
from firmware_iface.journal import Journal
from firmware_iface.simulated import SimulatedAxis
from firmware_iface.stage import Stage

if TYPE_CHECKING:
    from edge.zstack import ZStack

#: Width and height of simulated frames: three by three tiles.
FRAME_PX = 384
UNCALIBRATED = "not calibrated (parfocal calibrate): scale and direction are learned as it goes"
#: A replayed stack's stage has no smaller steps than this.
FINEST_STEP_UM = 0.001


@dataclass(frozen=True)
class Rig:
    """``true_defocus_um()``: where truth is known, else None. ``assumed``: pitch or optics are guesses.
    ``assumptions``: sentences for the user. ``scale``: what defocus, as the network counts it, grows by for
    one depth of field of stage travel, as the stage counts it; negative where they have opposite directions.
    ``gains``: what may be wrong with that. ``calibration``: where it was measured.
    ``true_um_per_um``: how far a simulated specimen really moves for a µm of the stage.

    ``with rig:`` enables the motor; at the end, whatever happened, the motor is released and the camera
    closed.
    """

    name: str
    clock: Clock
    stage: Stage
    camera: Camera
    optics: Optics
    true_defocus_um: Callable[[], float] | None
    assumed: bool = False
    assumptions: tuple[str, ...] = ()
    scale: float = 1.0
    gains: Gains = KNOWN
    calibration: Calibration | None = None
    true_um_per_um: float = 1.0

    def dof_from_um(self, um: float) -> float:
        """Stage travel or position in µm to depths of field, in the direction of defocus."""
        return self.optics.dof_from_um(um) * self.scale

    def um_from_dof(self, dof: float) -> float:
        """Depths of field to µm along the stage."""
        return self.optics.um_from_dof(dof / self.scale)

    def __enter__(self) -> Rig:
        self.stage.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.camera.close()
        finally:
            self.stage.__exit__(kind, error, trace)


def without_hardware(config: Config) -> Config:
    """``config`` for the simulated rig: what is kept of a motor is not true of a simulated one."""
    nothing = {"driver": "none"}
    return override(config, "--rig simulated", stage=nothing, camera=nothing)


def simulated_rig(
    config: Config,
    *,
    start_defocus_um: float,
    specimen: Specimen | None = None,
    imaging: Imaging | None = None,
    sensor: Sensor | None = None,
    progress: Callable[[float], None] | None = None,
    clock: Clock | None = None,
    axis: SimulatedAxis | None = None,
    drift_um: Callable[[float], float] | None = None,
    calibration: Calibration | None = None,
) -> Rig:
    """A microscope whose stage stands at 0 µm, ``start_defocus_um`` past its focus; in virtual time, or on
    ``clock``.

    ``specimen``, ``imaging``, ``sensor``, ``axis`` (on the same clock): from ``config`` where not given.
    ``drift_um(t_s)``: what drift has added to the defocus by then, instead of the config's steady one.
    ``calibration``: where there is none, and the pitch or the direction is not what the configuration says,
    both are learned. Moves nothing. Raises InputError for an unknown specimen, or a focus that would lie
    outside the soft limits.
    """
    sim = config.simulator
    drift = drift_um or (lambda t_s: sim.drift_um_s * t_s)
    clock = VirtualClock() if clock is None else clock
    motor = simulated_axis(config, clock) if axis is None else axis
    um_per_step = config.stage.um_per_step * sim.pitch_factor * (-1 if sim.inverted else 1)
    known = um_per_step == config.stage.um_per_step and calibration is None
    stage = stage_of(config if known else measured(config, calibration), motor, clock)
    low, high = sorted(um * um_per_step / config.stage.um_per_step for um in stage.reachable_um)
    if not low <= -start_defocus_um <= high:
        raise InputError(
            f"start defocus {start_defocus_um:g} µm: the focus would lie beyond what the stage reaches"
            f" between its soft limits; {-high:g} to {-low:g} µm is allowed"
        )

    def defocus_um(t_s: float) -> float:
        return start_defocus_um + motor.true_position_steps(t_s) * um_per_step + drift(t_s)

    camera, optics = simulated_camera(
        config, clock, defocus_um, specimen=specimen, imaging=imaging, sensor=sensor, progress=progress
    )
    made = Rig("simulated", clock, stage, camera, optics, lambda: defocus_um(clock.now_s()))
    if known:
        return made
    made = replace(made, true_um_per_um=um_per_step / config.stage.um_per_step)
    return as_measured(made, config, calibration)


def simulated_axis(config: Config, clock: Clock, *, slack_steps: float | None = None) -> SimulatedAxis:
    """The motor and drive that ``[stage]`` and ``[simulator]`` describe.

    ``slack_steps``: what an upward motion has to take up first, by chance where it is None.
    """
    return SimulatedAxis(
        clock,
        start_rate_steps_s=config.stage.start_rate_steps_s,
        max_rate_steps_s=config.stage.max_rate_steps_s,
        acceleration_steps_s2=config.stage.acceleration_steps_s2,
        backlash_steps=config.simulator.backlash_steps,
        missed_step_probability=config.simulator.missed_step_probability,
        initial_slack=slack_steps,
        seed=config.simulator.seed,
    )


def simulated_camera(
    config: Config,
    clock: Clock,
    defocus_um: Callable[[float], float],
    *,
    specimen: Specimen | None = None,
    imaging: Imaging | None = None,
    sensor: Sensor | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[SimulatedCamera, Optics]:
    """A camera on ``[simulator] specimen``, which is ``defocus_um(t_s)`` past its focus, and its optics.

    Computes the field where it is not in the cache: seconds. Errors as `simulated_rig`.
    """
    sim = config.simulator
    objective = config.optics.optics().objective
    optics = Optics(
        objective, natural_pixel_um(objective, config.optics.wavelength_um), config.optics.wavelength_um
    )
    chosen_imaging = imaging or Imaging(na_over_n=objective.na / objective.immersion_index)
    if specimen is None and sim.specimen in SPECIMENS:
        shape = (FRAME_PX, FRAME_PX)
        field = open_drawn_field(sim.specimen, shape, sim.seed, chosen_imaging, progress=progress)
    else:
        chosen = specimen or named_specimen(sim.specimen, sim.seed)
        field = open_field(chosen, chosen_imaging, progress=progress)
    camera = SimulatedCamera(
        field,
        sensor or Sensor(full_well_e=sim.full_well_e, read_noise_e=sim.read_noise_e),
        clock,
        lambda t_s: optics.dof_from_um(defocus_um(t_s)),
        seed=sim.seed,
        frame_period_s=config.camera.frame_period_s,
        latency_frames=sim.latency_frames,
    )
    return camera, optics


def named_specimen(name: str, seed: int) -> Specimen:
    """A procedural specimen by name, or one image (chosen by ``seed``) of a folder of sharp photographs."""
    if name not in SPECIMENS and Path(name).is_dir():
        files = images_in(Path(name))
        rng = np.random.default_rng(seed)
        file = files[int(rng.integers(len(files)))]
        return from_image(read_image(file), (FRAME_PX, FRAME_PX), rng, name=file.name)
    return make(name, (FRAME_PX, FRAME_PX), seed)


def replay_rig(config: Config, stack: ZStack, *, start_plane: int, step_assumed: bool) -> Rig:
    """A recorded z-stack in virtual time; the stage has no backlash and its limits are the ends of the stack.

    Raises InputError for a start plane outside the stack, or a stack of one plane.
    """
    from edge.camera.replay import ReplayCamera  # a device that boots replays nothing, and is in a hurry
    from edge.stack_optics import stack_optics

    if not 0 <= start_plane < len(stack):
        raise InputError(f"start plane {start_plane}: the stack has planes 0 to {len(stack) - 1}")
    low, high = stack.z_um[0], stack.z_um[-1]
    if high <= low:
        raise InputError(f"{stack.path}: all planes are at one z: nothing to focus through")
    optics, assumptions = stack_optics(config, stack)
    clock = VirtualClock()
    # Every plane must be reachable, however coarse the configured motor.
    gaps = [b - a for a, b in zip(stack.z_um, stack.z_um[1:], strict=False) if b > a]
    step = min(config.stage.um_per_step, max(min(gaps) / 4, FINEST_STEP_UM))
    # The stage counts from the start plane, so the first frame is that plane to the step.
    start_um = stack.z_um[start_plane]
    axis = SimulatedAxis(
        clock,
        start_rate_steps_s=config.stage.start_rate_steps_s,
        max_rate_steps_s=config.stage.max_rate_steps_s,
        acceleration_steps_s2=config.stage.acceleration_steps_s2,
        backlash_steps=0,
        vibration_amplitude_steps=0.0,
        seed=config.simulator.seed,
    )
    limits = (round((low - start_um) / step), round((high - start_um) / step))
    if limits[0] == limits[1]:
        raise InputError(f"{stack.path}: all planes lie within {step:g} µm: nothing to focus through")
    stage = Stage(axis, clock, um_per_step=step, limits_steps=limits, settle_s=config.stage.settle_s)

    def z_um() -> float:
        return start_um + axis.true_position_steps() * step

    camera = ReplayCamera(stack, clock, z_um, frame_period_s=config.camera.frame_period_s)
    focus_um = stack.focus_um
    truth = None if focus_um is None else (lambda: z_um() - focus_um)
    assumed = step_assumed or bool(assumptions)
    sentences, gains = (*stack.assumptions, *assumptions), UNKNOWN if assumed else KNOWN
    return Rig("replay", clock, stage, camera, optics, truth, assumed, sentences, gains=gains)


def measured(config: Config, calibration: Calibration | None) -> Config:
    """``config`` with what was measured; where nothing was, slack may be twice what was thought.

    Too long an overshoot costs time; too short a one costs the focus.
    """
    if calibration is not None:
        return calibrated(config, calibration)
    section = config.stage
    low, high = section.limits_steps
    doubled = min(2 * section.backlash_steps, (high - low) // 4)
    if section.compensation != "one-sided" or doubled <= section.backlash_steps:
        return config
    return override(config, "uncalibrated", stage={"backlash_steps": doubled})


def as_measured(rig: Rig, config: Config, calibration: Calibration | None) -> Rig:
    """``rig`` with scale and direction as they were measured, or else to be learned."""
    if calibration is None:
        return replace(rig, gains=LEARNED, assumptions=(*rig.assumptions, UNCALIBRATED))
    return replace(rig, scale=scale_of(config, calibration), calibration=calibration)


def stage_of(config: Config, axis: Axis, clock: Clock, journal: Journal | None = None) -> Stage:
    """The stage that ``[stage]`` describes, on ``axis``. Moves nothing."""
    section = config.stage

    def steps(travel_um: float) -> int:
        return max(1, math.floor(travel_um / section.um_per_step))

    return Stage(
        axis,
        clock,
        um_per_step=section.um_per_step,
        limits_steps=section.limits_steps,
        backlash_steps=section.backlash_steps,
        compensation=section.compensation,
        approach=section.approach_sign,
        settle_s=section.settle_s,
        journal=journal,
        focus_travel_steps=None if section.focus_travel_um is None else steps(section.focus_travel_um),
        uncertain_travel_steps=steps(section.uncertain_travel_um),
    )
