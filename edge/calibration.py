"""What one microscope was found to be, behind one objective: kept on disk, and put into force.

Lengths along the stage are motor steps, so that a calibration stays true when `[stage] um_per_step` is
corrected.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.config import Config, override
from edge.errors import InputError
from edge.files import atomic_write_text
from edge.optics import Optics
from edge.record import Finite, NotNegative, Positive, Record, Unfit, as_json
from edge.record import read as read_record
from edge.service.owner import state_folder
from edge.settings import SimulatorConfig

__all__ = [
    "Calibration",
    "calibrated",
    "everything",
    "folder",
    "in_force",
    "in_words",
    "misfit",
    "note_run",
    "read",
    "scale_of",
    "stage_identity",
    "write",
]

#: An overshoot is longer than the slack measured by so many standard deviations, and by this share.
SURE_SIGMAS, SURE_SHARE = 3.0, 0.05
#: A wait is longer than the settling measured, by so many standard deviations.
SETTLED_SIGMAS = 1.0
#: Runs that are remembered for whether the calibration still fits, and how many it takes to say so.
FITS_KEPT, FITS_NEEDED = 20, 5
_LARGEST_BYTES = 1 << 16


class Calibration(Record, frozen=True, kw_only=True):
    """One microscope's numbers. Each ``*_sigma`` is a standard deviation."""

    schema_version: Literal[1] = 1
    date: Annotated[str, Meta(max_length=40)]
    """When, ISO 8601."""
    objective: Annotated[str, Meta(max_length=60)]
    """As the configuration names it."""
    stage: Annotated[str, Meta(max_length=200)]
    """Motor and where it hangs: `stage_identity`."""
    model: Annotated[str, Meta(max_length=200)]
    """Name of the model file's recipe."""
    model_fingerprint: Annotated[str, Meta(max_length=64)] = ""
    """`edge.model.Model.fingerprint` of it."""
    dof_per_step: Finite
    """Defocus in depths of field, as the network counts them, that one step adds; negative: it takes away."""
    dof_per_step_sigma: NotNegative
    optical_dof_per_step: Positive
    """The same without a sign, in depths of field of the optics, n·λ/NA²: what µm are worked out from."""
    optical_dof_per_step_sigma: NotNegative
    by_theory: bool
    """Whether the wave theory of the objective gave it; else it is the network's."""
    network_offset_dof: Finite = 0.0
    """What the network says where the wave theory has the focus; 0 where that is not known."""
    network_offset_dof_sigma: NotNegative = 0.0
    direction_odds: Finite
    """Log of how much likelier this direction is than the other."""
    backlash_steps: NotNegative
    backlash_steps_sigma: NotNegative
    settle_s: NotNegative
    settle_s_sigma: NotNegative
    drift_dof_s: Finite
    """Drift while it was measured, in dof/s."""
    drift_dof_s_sigma: NotNegative
    background: Annotated[float, Meta(ge=0, le=255)]
    """Brightness of the field, of 255: median of the brightest channel."""
    clipped: Annotated[float, Meta(ge=0, le=1)]
    """Share of the pixels with a channel at its end."""
    specimen_swing: NotNegative
    """How much the logarithm of the sharpness changed: what there was to measure by."""

    def um_per_step(self, optics: Optics) -> float:
        """The pitch, if the objective is the one of ``optics``."""
        return self.optical_dof_per_step * optics.dof_um


def stage_identity(config: Config) -> str:
    """The motor of ``config`` in words that change when another one, or another wiring, is meant."""
    driver = config.stage.driver
    keys = msgspec.structs.asdict(config.gpio)
    pins = [f"{key.removesuffix('_pin')} {value}" for key, value in keys.items() if key in _MOTOR_PINS]
    where = [pin for pin in pins if not pin.endswith("None")] if driver in _ON_GPIO else []
    if driver not in _ON_GPIO and driver != "none":
        where = [str(config.serial.port)]
    if driver == "none":
        return " ".join(["simulated", *_as_simulated(config.simulator)])
    inverted = " inverted" if config.stage.inverted else ""
    return " ".join([driver, *where]) + inverted


def _as_simulated(simulator: SimulatorConfig) -> list[str]:
    """What makes a simulated stage another one: its true pitch, direction and slack, where they were set."""
    usual = SimulatorConfig()
    values = {
        key: getattr(simulator, key) for key in _DRIVE if getattr(simulator, key) != getattr(usual, key)
    }
    return [key if value is True else f"{key} {value}" for key, value in values.items()]


_ON_GPIO = ("uln2003", "a4988", "drv8825", "tmc2209")
_DRIVE = ("pitch_factor", "inverted", "backlash_steps")
_MOTOR_PINS = ("in1_pin", "in2_pin", "in3_pin", "in4_pin", "step_pin", "dir_pin", "half_steps", "microsteps")


def folder() -> Path:
    """Where calibrations are kept: with what else must survive. Reads the environment, makes nothing."""
    return state_folder() / "calibration"


def path_of(config: Config) -> Path:
    """The file for this objective on this stage."""
    objective = re.sub(r"[^0-9A-Za-z.]+", "-", config.optics.objective)
    key = hashlib.sha256(f"{config.optics.objective}\n{stage_identity(config)}".encode()).hexdigest()[:8]
    return folder() / f"{objective}-{key}.json"


def read(config: Config) -> Calibration | None:
    """The calibration of this objective on this stage, None where there is none. InputError: damaged."""
    path = path_of(config)
    return _read(path) if path.exists() else None


def in_force(config: Config) -> tuple[Calibration | None, str | None]:
    """The calibration to use, and what to tell the user where it cannot be read: then there is none."""
    try:
        return read(config), None
    except InputError as error:
        return None, f"{error}; it is not used: calibrate again"


def note_run(config: Config, gain: float) -> None:
    """Remember what a run found: its most probable gain, 1 where the calibration fits. Full disk: nothing."""
    path = path_of(config).with_suffix(".fits")
    kept = [*_fits(path), gain][-FITS_KEPT:]
    with contextlib.suppress(OSError, InputError):
        atomic_write_text(path, json.dumps(kept) + "\n")


def misfit(config: Config) -> str | None:
    """What contradicts the calibration, in one line; None: most of the latest runs found what it says."""
    fits = _fits(path_of(config).with_suffix(".fits"))
    odd = [gain for gain in fits if gain != 1.0]
    if len(fits) < FITS_NEEDED or 2 * len(odd) <= len(fits):
        return None
    times = " or ".join(f"{gain:g}" for gain in sorted(set(odd)))
    return f"{len(odd)} of the last {len(fits)} runs saw the focus move by {times} times what was measured"


def _fits(path: Path) -> list[float]:
    try:
        found = json.loads(path.read_text())
        return [float(gain) for gain in found][-FITS_KEPT:]
    except (OSError, ValueError, TypeError):  # a memory aid: begun anew
        return []


def in_words(found: Calibration, config: Config) -> str:
    """One line: what was measured, and when."""
    way = "raises" if found.dof_per_step > 0 else "lowers"
    pitch_um = found.um_per_step(config.optics.optics())
    return (
        f"{found.objective} on {found.stage}, {found.date[:10]}: a step up {way} defocus,"
        f" {1 / abs(found.dof_per_step):.1f} steps a depth of field ({pitch_um:.3g} µm a step),"
        f" slack {found.backlash_steps:.0f} steps, settled after {found.settle_s:.2f} s"
    )


def everything() -> tuple[list[Calibration], list[str]]:
    """All that are kept, by objective, and a line for each file that cannot be read."""
    good, bad = [], []
    for path in sorted(folder().glob("*.json")) if folder().is_dir() else []:
        try:
            good.append(_read(path))
        except InputError as error:
            bad.append(str(error))
    return sorted(good, key=lambda one: (one.objective, one.stage)), bad


def write(calibration: Calibration, config: Config) -> Path:
    """Keep ``calibration`` in place of the one before, whole or not at all. BLOCKS for the disk; OSError."""
    path = path_of(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, as_json(calibration) + "\n")
    path.with_suffix(".fits").unlink(missing_ok=True)
    return path


def check_writable(config: Config) -> None:
    """See that one can be kept, and leave nothing behind but its folder. InputError, one line."""
    kept = path_of(config).parent
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=kept):
            pass
    except OSError as error:
        raise InputError(f"{kept}: a calibration cannot be kept there: {error.strerror or error}") from error


def _read(path: Path) -> Calibration:
    try:
        with path.open("rb") as file:
            return read_record(file.read(_LARGEST_BYTES), Calibration)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Unfit as error:
        raise InputError(f"{path}: no calibration: {error.where or 'it'}: {error.why}") from error


def calibrated(config: Config, found: Calibration) -> Config:
    """``config`` with slack and settling as they were measured.

    A one-sided overshoot is a little longer than the slack; on reversal the slack is taken as it is.
    """
    section, steps = config.stage, found.backlash_steps
    if section.compensation == "one-sided":
        steps += SURE_SIGMAS * found.backlash_steps_sigma + SURE_SHARE * steps
    low, high = section.limits_steps
    stage = {
        "backlash_steps": min(math.ceil(steps), max(0, high - low - 1)),
        "settle_s": min(60.0, found.settle_s + SETTLED_SIGMAS * found.settle_s_sigma),
    }
    return override(config, "calibration", stage=stage)


def scale_of(config: Config, found: Calibration) -> float:
    """`edge.rig.Rig.scale` of a rig that ``config`` describes."""
    return found.dof_per_step * config.optics.optics().dof_um / config.stage.um_per_step
