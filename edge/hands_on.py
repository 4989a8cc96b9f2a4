"""The commands that try a piece of the microscope by itself: `move`, `home` and `snap`."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys

from edge import console, hardware
from edge.camera import Camera
from edge.camera.health import fault_of
from edge.cli import finite
from edge.config import Config, load_config
from edge.errors import InputError
from edge.files import atomic_write_bytes, encode_png
from edge.outputs import checked
from edge.rig import simulated_rig
from firmware_iface.clock import RealClock
from firmware_iface.errors import LimitError
from firmware_iface.stage import Stage

__all__ = ["add_arguments", "run"]

#: A move longer than this is confirmed first: as far as an objective of 40x is from the slide.
UNASKED_UM = 50.0
SIMULATED = "simulated rig: it begins anew each time; no hardware is used"


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of the command ``name``."""
    add = parser.add_argument
    if name == "move":
        add("distance", metavar="±UM", type=finite, help="distance in µm, such as 20 or -7.5")
    if name == "snap":
        add("file", metavar="FILE.png", help="where the frame goes")
    add("--config", metavar="FILE", help="TOML file that names the drivers")
    if name == "home":
        add("--yes", action="store_true", help="do not ask")
        return
    add("--rig", choices=("simulated", "hardware"), default="hardware", help="(%(default)s)")
    if name == "move":
        add("--yes", action="store_true", help=f"do not ask, however far (more than {UNASKED_UM:g} µm asks)")


def run(name: str, args: argparse.Namespace) -> int:
    """Run the command ``name`` and return its exit code; `move` and `home` move the stage."""
    config = load_config(args.config)
    return {"move": _move, "home": _home, "snap": _snap}[name](args, config)


def _move(args: argparse.Namespace, config: Config) -> int:
    with contextlib.closing(_stage(args, config)) as stage:
        if stage.uncertain:
            console.note(stage.uncertain)
        began_um, (low, high) = stage.position_um, stage.limits_um
        target_um = began_um + args.distance
        if not low <= target_um <= high:
            raise InputError(str(LimitError("z", target_um, (low, high), "um")))
        if abs(args.distance) > UNASKED_UM and not args.yes:
            _confirm(f"move by {args.distance:+g} µm, to {target_um:.1f} µm")
        with stage:
            try:
                stage.move_to_um(target_um)
            except LimitError as error:
                raise InputError(str(error)) from error
            gone_um = stage.position_um - began_um
            print(f"moved {gone_um:+.3f} µm: the stage stands at {stage.position_um:.3f} µm")
    return 0


def _home(args: argparse.Namespace, config: Config) -> int:
    section = config.stage
    if section.home == "none":
        raise InputError('[stage] home = "none": say which limit switch to go to, "low" or "high"')
    hardware.check_keys(config)
    if not args.yes:
        _confirm(f"move the stage to its {section.home} limit switch")
    low, high = section.limits_steps
    with hardware.open_stage(config, RealClock()) as stage:
        stage.home(
            -1 if section.home == "low" else 1,
            round(section.home_um / section.um_per_step),
            most_steps=2 * (high - low),
        )
        print(f"home found: the stage stands at {stage.position_um:.3f} µm")
    return 0


def _snap(args: argparse.Namespace, config: Config) -> int:
    target = checked("FILE", args.file, ".png")
    with _camera(args, config) as camera:
        frame = camera.capture(-math.inf)
    atomic_write_bytes(target, encode_png(frame.image))
    height, width = frame.image.shape[:2]
    print(f"{args.file}: {width} x {height}, mean {frame.image.mean():.0f} of 255")
    if fault := fault_of(frame.image):
        console.note(f"the frame is {fault}")
    return 0


def _stage(args: argparse.Namespace, config: Config) -> Stage:
    if args.rig == "hardware":
        return hardware.open_stage(config, RealClock())
    console.note(SIMULATED)
    return simulated_rig(config, start_defocus_um=0.0).stage


def _camera(args: argparse.Namespace, config: Config) -> Camera:
    if args.rig == "hardware":
        return hardware.open_camera(config, RealClock())
    console.note(SIMULATED)
    return simulated_rig(config, start_defocus_um=config.simulator.start_defocus_um).camera


def _confirm(what: str) -> None:
    """Ask at the terminal. InputError for a no, and where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise InputError(f"{what}: not without a confirmation, and there is no terminal to ask at: add --yes")
    print(f"{what}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InputError("nothing was moved")
