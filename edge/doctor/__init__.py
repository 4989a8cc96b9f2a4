"""`parfocal doctor`: looks at the machine, the camera and the motor, and says what to do about what it finds.

Nothing moves and no coil is energised: pins are claimed at their rest level and given back, a serial board is
asked where it stands. Each check runs in a process of its own with a time limit, so that a library that
hangs or takes its process down costs one line.

The exit code is 0 without an error (warnings allowed), else 1. ``--json`` prints one object:

    version  of parfocal, text
    ok       true without an error
    checks   a list in the order of the text output, of objects with
             name    the check: config, board, system, ... (stable, for programs)
             status  "ok", "warning" or "error"
             found   what was found, one line
             do      what to do about it, one line; empty where the status is "ok"
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from edge.cli import version
from edge.doctor import devices, motor, packages, report, system
from edge.doctor.finding import Check, Finding, error, ok
from edge.doctor.guard import Guard, isolated
from edge.doctor.machine import Machine
from edge.errors import ConfigError, one_line

if TYPE_CHECKING:
    from edge.config import Config

__all__ = ["add_arguments", "examine", "run"]

#: Name: (check, its time limit in s). These need no configuration.
OF_THE_MACHINE: dict[str, tuple[Callable[[Machine], Finding], float]] = {
    "board": (system.board, 5.0),
    "system": (system.operating_system, 5.0),
    "power": (system.power, 10.0),
    "names": (packages.import_names, 30.0),
}
OF_THE_CONFIG: dict[str, tuple[Callable[[Machine, Config], Finding], float]] = {
    "python": (system.python, 5.0),
    "packages": (packages.packages, 65.0),
    "picamera2": (packages.picamera2, 35.0),
    "model": (packages.runtime_and_model, 60.0),
    "disk": (system.disk, 10.0),
    "access": (devices.access, 10.0),
    "camera": (devices.camera, 30.0),
    "gpio": (motor.gpio, 15.0),
    "switches": (motor.switches, 15.0),
    "serial": (motor.serial, 20.0),
    "journal": (motor.journal, 10.0),
    "measured": (motor.calibration, 10.0),
}


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of `doctor`."""
    parser.add_argument("--config", metavar="FILE", help="TOML file that names the drivers")
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")


def run(name: str, args: argparse.Namespace) -> int:
    """Run all checks and print them, as they come or as JSON. BLOCKS; nothing moves."""
    checks = examine(Machine(), args.config, said=(lambda check: None) if args.json else report.show)
    good = all(check.status != "error" for check in checks)
    if args.json:
        print(
            json.dumps({"version": version(), "ok": good, "checks": [c.as_dict() for c in checks]}, indent=2)
        )
    else:
        report.sum_up(checks)
    return 0 if good else 1


def examine(
    machine: Machine,
    config_file: str | None,
    *,
    said: Callable[[Check], None] = lambda check: None,
    guard: Guard = isolated,
) -> list[Check]:
    """Every check of ``machine``, in order; ``said`` is called with each as it ends. Never raises for a
    finding. ``guard`` runs one check.
    """
    checks: list[Check] = []

    def note(name: str, finding: Finding) -> None:
        checks.append(Check(name, *(one_line(part, limit=1000) for part in finding)))
        said(checks[-1])

    config, finding = _config(config_file)
    note("config", finding)
    for name, (check, limit_s) in OF_THE_MACHINE.items():
        note(name, guard(partial(check, machine), limit_s))
    if config is not None:
        for name, (needing, limit_s) in OF_THE_CONFIG.items():
            note(name, guard(partial(needing, machine, config), limit_s))
    return checks


def _config(file: str | None) -> tuple[Config | None, Finding]:
    """The configuration, None where it cannot be had, and what to say of it."""
    try:
        from edge.config import load_config
        from edge.hardware import check_keys

        config = load_config(file)
        check_keys(config)
    except ConfigError as problem:
        return None, error(str(problem), "correct it: the checks that need it were left out")
    except Exception as problem:  # noqa: BLE001 - a package that is broken is what this command is for
        text = f"{type(problem).__name__}: {problem}"
        return None, error(text, "install parfocal anew, in a virtual environment of its own")
    drivers = f"motor {config.stage.driver}, camera {config.camera.driver}"
    return config, ok(f"{file or 'the defaults, no --config given'}: {drivers}")
