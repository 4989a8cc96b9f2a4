"""The hardware that a configuration describes: its motor, its stage, its camera, and the rig of them.

Everything here may claim pins, open ports and start a camera. Nothing moves, and no coil is energised, before
the rig (or the stage) is entered.
"""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edge.calibration import Calibration
from edge.camera import Camera
from edge.config import Config, as_toml
from edge.errors import ConfigError, InputError
from edge.hardware_settings import GPIO_DRIVERS
from edge.rig import Rig, as_measured, measured, simulated_camera, stage_of
from firmware_iface.axis import Axis
from firmware_iface.clock import Clock, RealClock
from firmware_iface.errors import MotorError
from firmware_iface.journal import Journal
from firmware_iface.stage import Stage

__all__ = [
    "check_keys",
    "hardware_rig",
    "is_configured",
    "journal_path",
    "open_axis",
    "open_camera",
    "open_stage",
]

_N = TypeVar("_N", int, float)

_NO_CAMERA = "the camera is simulated: its specimen is in focus where [simulator] says"
_STEP_DIR = ("gpio", "step_pin", "dir_pin", "enable_pin")
_NEEDED = {
    "uln2003": ("gpio", "in1_pin", "in2_pin", "in3_pin", "in4_pin"),
    "a4988": _STEP_DIR,
    "drv8825": _STEP_DIR,
    "tmc2209": _STEP_DIR,
    "sangaboard": ("serial", "port"),
}
"""Section and keys without which a driver cannot be; the other drivers are G-code boards."""


def is_configured(config: Config) -> bool:
    """Whether both a motor and a camera are named."""
    return config.stage.driver != "none" and config.camera.driver != "none"


def hardware_rig(config: Config, calibration: Calibration | None = None) -> Rig:
    """The microscope that ``config`` describes, in real time, as it was measured. BLOCKS while a board
    starts; moves nothing.

    Raises ConfigError for a driver that is missing or lacks a key, MotorError and CameraError where one does
    not open; what was open by then is closed again.
    """
    clock = RealClock()
    with contextlib.ExitStack() as opened:
        own = measured(config, calibration)
        stage = opened.enter_context(contextlib.closing(open_stage(own, clock)))
        if config.camera.driver == "simulated":
            start_um = config.simulator.start_defocus_um

            def defocus_um(t_s: float) -> float:
                return start_um + stage.position_um

            simulated, optics = simulated_camera(config, clock, defocus_um)
            truth = functools.partial(defocus_um, 0.0)
            rig = Rig("hardware", clock, stage, simulated, optics, truth, assumptions=(_NO_CAMERA,))
        else:
            camera = open_camera(config, clock)
            rig = Rig("hardware", clock, stage, camera, config.optics.optics(), None)
        opened.pop_all()
    return as_measured(rig, config, calibration)


def open_stage(config: Config, clock: Clock) -> Stage:
    """The stage with its journal, which it closes with itself. Errors as ``open_axis``; InputError where the
    journal cannot be kept, MotorError where another process has it: one stage, one driver.
    """
    with contextlib.ExitStack() as opened:
        journal = None
        if (path := journal_path(config)) is not None:
            journal = opened.enter_context(contextlib.closing(_open_journal(path)))
        axis = opened.enter_context(contextlib.closing(open_axis(config, clock)))
        stage = stage_of(config, axis, clock, journal)
        opened.pop_all()
    return stage


def open_axis(config: Config, clock: Clock) -> Axis:
    """The motor of ``[stage] driver``, its pins claimed or its port opened. Moves and energises nothing.

    Raises ConfigError for a key that this driver needs or does not allow, MotorError with what to do where
    the library is missing, a pin or port is in use, or the board does not answer.
    """
    driver = config.stage.driver
    if driver == "none":
        raise ConfigError('[stage] driver = "none": name the motor\'s driver to use the hardware')
    check_keys(config)
    return _gpio_axis(config, clock) if driver in GPIO_DRIVERS else _board_axis(config, clock)


def check_keys(config: Config) -> None:
    """ConfigError for keys of the motor that are missing or contradict each other. Opens nothing."""
    driver, home = config.stage.driver, config.stage.home
    needed = _NEEDED.get(driver, ("serial", "port", "steps_per_mm")) if driver != "none" else ("stage",)
    _needed(config, *needed)
    users: dict[int, str] = {}
    for key, value in msgspec.structs.asdict(config.gpio).items():
        if key.endswith("_pin") and value is not None:
            if value in users:
                raise ConfigError(f"[gpio] {key} = {value}: is {users[value]} already")
            users[value] = key
    if home != "none":
        _needed(config, "gpio", f"{home}_limit_pin", why=f'[stage] home = "{home}"')


def open_camera(config: Config, clock: Clock) -> Camera:
    """The camera of ``[camera] driver``, running. ConfigError for a wrong device; CameraError as it opens."""
    section = config.camera
    size = (section.width, section.height)
    match section.driver:
        case "picamera2":
            from edge.camera.picamera import Picamera2Camera

            return Picamera2Camera(
                clock,
                number=_camera_number(config),
                size=size,
                region_offset=_pair(section.region_x, section.region_y),
                exposure_us=section.exposure_us,
                gain=section.gain,
                colour_gains=_pair(section.red_gain, section.blue_gain),
                frame_period_s=section.frame_period_s,
            )
        case "opencv":
            from edge.camera.opencv import OpenCvCamera

            device = section.device
            return OpenCvCamera(
                clock,
                int(device) if device.isdecimal() else device,
                size=size,
                exposure_us=section.exposure_us,
                gain=section.gain,
                frame_period_s=section.frame_period_s,
            )
        case "gstreamer":
            from edge.camera.gstreamer import open_gstreamer

            return open_gstreamer(
                clock,
                _camera_number(config),
                size=size,
                exposure_us=section.exposure_us,
                gain=section.gain,
                frame_period_s=section.frame_period_s,
            )
        case "simulated":
            raise ConfigError('[camera] driver = "simulated": sees nothing without the motor that moves it')
        case _:
            raise ConfigError('[camera] driver = "none": name the camera\'s driver to use the hardware')


def journal_path(config: Config) -> Path | None:
    """The file that remembers the stage's position; None for none. Reads the environment, makes nothing."""
    text = config.stage.journal
    if text == "none":
        return None
    if text != "auto":
        return Path(text)
    # systemd gives the service its folder; a colon separates several, of which the first is ours.
    if state := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(state, "stage.journal")
    return Path(
        os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", "parfocal", "stage.journal"
    )


def _open_journal(path: Path) -> Journal:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Journal(path)
    except MotorError:
        raise
    except OSError as error:
        raise InputError(f"[stage] journal {path}: cannot be kept: {error.strerror or error}") from error


def _gpio_axis(config: Config, clock: Clock) -> Axis:
    # One of many drivers: importing all of them would keep a device waiting.
    from firmware_iface.stepper import Rates, Switches

    section, pins = config.stage, config.gpio
    rates = Rates(section.start_rate_steps_s, section.max_rate_steps_s, section.acceleration_steps_s2)
    switches = Switches(
        low_limit=pins.low_limit_pin,
        high_limit=pins.high_limit_pin,
        stop_button=pins.stop_pin,
        active_level=1 if pins.pressed == "high" else 0,
    )
    try:
        if section.driver == "uln2003":
            from firmware_iface.uln2003 import Uln2003Axis

            coils = _needed(config, *_NEEDED["uln2003"])
            return Uln2003Axis(
                clock,
                (coils[0], coils[1], coils[2], coils[3]),
                rates=rates,
                half_steps=pins.half_steps,
                inverted=section.inverted,
                hold_s=section.hold_s,
                switches=switches,
            )
        from firmware_iface.step_dir import StepDirAxis

        step, direction, enable = _needed(config, *_STEP_DIR)
        return StepDirAxis(
            clock,
            section.driver,
            step_pin=step,
            dir_pin=direction,
            enable_pin=enable,
            rates=rates,
            microstep_pins=tuple(p for p in (pins.ms1_pin, pins.ms2_pin, pins.ms3_pin) if p is not None),
            microsteps=pins.microsteps,
            inverted=section.inverted,
            hold_s=section.hold_s,
            switches=switches,
        )
    except ValueError as error:  # pins given twice, microsteps that the chip does not have
        if isinstance(error, InputError):
            raise
        raise ConfigError(f"[gpio] {error}") from error


def _board_axis(config: Config, clock: Clock) -> Axis:
    driver, rate = config.stage.driver, config.stage.max_rate_steps_s
    (port,) = _needed(config, "serial", "port")
    if driver == "sangaboard":
        from firmware_iface.sangaboard import SangaboardAxis

        return SangaboardAxis.open(port, clock)
    (factor,) = _needed(config, "serial", "steps_per_mm")
    from fractions import Fraction

    # As it is written: 400.1 is 4001/10 to the board, and not the nearest binary fraction.
    exact = Fraction(repr(factor))
    mm = {
        "steps_per_mm": exact,
        "feed_mm_min": 60.0 * rate / factor,
        "acceleration_mm_s2": config.stage.acceleration_steps_s2 / factor,
    }
    if driver == "klipper":
        from firmware_iface.klipper import KlipperAxis

        return KlipperAxis.open(port, clock, **mm)
    from firmware_iface.gcode import GcodeAxis

    return GcodeAxis.open(port, clock, dialect=driver, baud=config.serial.baud, **mm)


def _needed(config: Config, section: str, *keys: str, why: str | None = None) -> list[Any]:
    """The values of ``keys``, all of which this driver needs; else ConfigError that names them."""
    values = [getattr(getattr(config, section), key) for key in keys]
    missing = [key for key, value in zip(keys, values, strict=True) if value is None]
    if missing:
        raise ConfigError(
            f"[{section}] {missing[0]} is not set: {why or f'the driver {config.stage.driver}'} needs"
            f" {', '.join(keys)}"
        )
    return values


def _camera_number(config: Config) -> int:
    device = config.camera.device
    if not device.isdecimal():
        raise ConfigError(
            f"[camera] device = {as_toml(device)}: with {config.camera.driver} a camera's number is allowed"
        )
    return int(device)


def _pair(first: _N | None, second: _N | None) -> tuple[_N, _N] | None:
    return None if first is None or second is None else (first, second)
