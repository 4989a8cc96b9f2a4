"""Checks of the motor: its GPIO pins and switches, or its serial board, and the journal of its position.

Pins are claimed at rest and a board is asked where it stands; no step is made and no coil switched on.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edge.doctor.devices import in_use
from edge.doctor.finding import Finding, advice, error, joined, ok, warning
from edge.doctor.machine import Machine, existing
from edge.errors import ConfigError, InputError
from firmware_iface.errors import MotorError

if TYPE_CHECKING:
    from edge.config import Config
    from firmware_iface.journal import Journal

__all__ = ["gpio", "journal", "serial", "switches"]

_PORTS = ("/dev/serial/by-id/*", "/dev/ttyACM*", "/dev/ttyUSB*")
_WIRING = "look at [gpio] and at the wiring (docs/wiring.md)"
_FREE = "end the program that uses it (systemctl stop parfocal), then look again"


def gpio(machine: Machine, config: Config) -> Finding:
    """The board's GPIO library; claims the motor's pins at rest and gives them back."""
    if config.stage.driver == "none":
        return warning("no motor is configured", "set [stage] driver")
    if (unused := _unused(config, "gpio")) is not None:
        return unused
    from edge.hardware import open_axis
    from firmware_iface import gpio as lines
    from firmware_iface.clock import RealClock

    try:
        with contextlib.ExitStack() as held:
            if (busy := _taken(config, held)) is not None:
                return busy
            library = lines.load(machine.at("/proc/device-tree/model"))
            # Not `with` the axis itself, which would energise it.
            held.enter_context(contextlib.closing(open_axis(config, RealClock())))
    except (MotorError, ConfigError) as problem:
        return joined([error(str(problem), advice(str(problem), _WIRING)), *_work_folder(machine)])
    name = f"{getattr(library, '__name__', 'GPIO')} {_package()}".strip()
    claimed = ok(f"{name}: the pins of the {config.stage.driver} can be claimed")
    return joined([claimed, *_work_folder(machine)])


def _package() -> str:
    """The distribution that provides RPi.GPIO here, with its version: two of them do."""
    for name in ("rpi-lgpio", "RPi.GPIO", "Jetson.GPIO"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return f"({name} {metadata.version(name)})"
    return ""


def _work_folder(machine: Machine) -> list[Finding]:
    """lgpio makes a FIFO in LG_WD, else in the current folder, as it is imported; others do not."""
    if "lgpio" not in sys.modules and "rpi-lgpio" not in _package():
        return []
    chosen = os.environ.get("LG_WD")
    folder = Path(chosen) if chosen else Path.cwd()
    try:
        with tempfile.TemporaryFile(dir=folder):
            return []
    except OSError as problem:
        name = "LG_WD" if chosen else "LG_WD is not set, and the current folder"
        text = f"{name} {folder} cannot be written: {problem.strerror}"
        return [error(text, "set LG_WD to a folder that this user may write, such as /run/user/1000")]


def switches(machine: Machine, config: Config) -> Finding:
    """The limit switches and the stop button as they are now."""
    if (unused := _unused(config, "gpio")) is not None:
        return unused
    from firmware_iface.gpio import Lines

    pins = config.gpio
    wired = {
        name: pin
        for name, pin in {
            "low limit switch": pins.low_limit_pin,
            "high limit switch": pins.high_limit_pin,
            "stop button": pins.stop_pin,
        }.items()
        if pin is not None
    }
    if not wired:
        return ok("none configured: only the soft limits protect the objective")
    active = 1 if pins.pressed == "high" else 0
    try:
        with contextlib.ExitStack() as held:
            if (busy := _taken(config, held)) is not None:
                return busy
            lines = held.enter_context(Lines("doctor", outputs={}, inputs=wired.values()))
            pressed = {name: lines.read(pin) == active for name, pin in wired.items()}
    except (MotorError, ValueError) as problem:
        return error(str(problem), advice(str(problem), _WIRING))
    found = ", ".join(
        f"{name} (pin {wired[name]}) {'pressed' if is_ else 'open'}" for name, is_ in pressed.items()
    )
    if any(pressed.values()):
        wrong = f'the wire, the resistor and pressed = "{pins.pressed}"'
        return warning(found, f"where nothing is pressed, look at {wrong}")
    return ok(found)


def serial(machine: Machine, config: Config) -> Finding:
    """Opens the board's port and asks where it stands."""
    if (unused := _unused(config, "serial")) is not None:
        return unused
    from edge.hardware import open_axis
    from firmware_iface.clock import RealClock

    port = config.serial.port
    if port is not None and not machine.exists(port):
        return error(f"{port} does not exist; {_ports(machine)}", "plug the board in, or set [serial] port")
    try:
        with contextlib.ExitStack() as held:
            if (busy := _taken(config, held)) is not None:
                return busy
            axis = held.enter_context(contextlib.closing(open_axis(config, RealClock())))
            return ok(f"{config.stage.driver} on {port} answers, at {axis.position_steps} steps")
    except ConfigError as problem:
        return error(f"{problem}; {_ports(machine)}", "set that key in the configuration")
    except MotorError as problem:
        text = f"{problem}{in_use(machine, port) if port else ''}"
        return error(text, advice(text, _cure(machine, port)))


def _cure(machine: Machine, port: str | None) -> str:
    if port is not None and not machine.may_use(machine.at(port)):
        return "see the line `access`"
    if port is not None and machine.holders([port]):
        return "end that program first"
    return "look at [stage] driver and [serial] baud, the cable and the board's supply"


def _ports(machine: Machine) -> str:
    found = [path for pattern in _PORTS for path in machine.glob(pattern)]
    return f"there is {', '.join(found)}" if found else "there is no serial port of a board here"


def _unused(config: Config, kind: str) -> Finding | None:
    """What to say where the motor does not hang on ``kind`` ("gpio" or "serial"); None where it does."""
    from edge.hardware_settings import GPIO_DRIVERS, SERIAL_DRIVERS

    driver = config.stage.driver
    if driver in {"gpio": GPIO_DRIVERS, "serial": SERIAL_DRIVERS}[kind]:
        return None
    return ok(f'not used: [stage] driver = "{driver}"')


def journal(machine: Machine, config: Config) -> Finding:
    """Where the journal says that the stage stands, and whether it is sure."""
    from edge.hardware import journal_path
    from firmware_iface.journal import Journal

    path = journal_path(config)
    if path is None:
        return ok('none is kept ([stage] journal = "none"): 0 is where each command begins')
    if not path.exists():
        return _not_made_yet(machine, path)
    try:
        with contextlib.closing(Journal(path)) as opened:
            return _position(opened, config)
    except MotorError as problem:
        if "drives this stage" in str(problem):
            return warning(f"{problem}", _FREE)
        return error(str(problem), "name another file in [stage] journal")
    except OSError as problem:
        return error(f"{path} cannot be opened: {problem.strerror}", f"sudo chown {machine.user} {path}")


def _not_made_yet(machine: Machine, path: Path) -> Finding:
    folder = existing(path.absolute().parent)
    if not machine.may_use(folder):
        cure = "name a file in [stage] journal where this user may write"
        return error(f"{path} cannot be made: {machine.user} may not write in {folder}", cure)
    return ok(f"{path} is made with the first move")


def _position(journal: Journal, config: Config) -> Finding:
    record = journal.record
    doubts = []
    if journal.damage is not None:
        doubts.append(f"the file {journal.damage}" if record is None else journal.damage)
    if record is not None and record.moving is not None:
        doubts.append("it was cut off in a move from {} to {} steps".format(*record.moving))
    if record is not None and record.doubt is not None:
        doubts.append(record.doubt.why)
    place = "no position yet"
    if record is not None:
        position_um = record.position_steps * record.um_per_step
        place = f"at {position_um:.2f} µm ({record.position_steps} steps)"
    if not doubts:
        return ok(f"{journal.path}: {place}")
    reach_um = config.stage.uncertain_travel_um
    return warning(
        f"{journal.path}: {place}, uncertain: {'; '.join(doubts)}",
        f"`parfocal focus` or `parfocal home`: until then a move ends within {reach_um:g} µm",
    )


def calibration(machine: Machine, config: Config) -> Finding:
    """What was measured of this microscope, and whether it still fits what focus runs see."""
    from edge import calibration as kept

    every, damaged = kept.everything()
    others = [f"{one.objective} on {one.stage}" for one in every]
    try:
        found = kept.read(config)
    except InputError as problem:
        return warning(str(problem), "parfocal calibrate: until then nothing is known of this microscope")
    if found is None:
        shown = f"; calibrated: {', '.join(others)}" if others else ""
        objective, stage = config.optics.objective, kept.stage_identity(config)
        return warning(f"none for {objective} on {stage}{shown}", "parfocal calibrate, on any specimen")
    text = kept.in_words(found, config)
    if (why := kept.misfit(config)) is not None:
        return warning(f"{text}; {why}", "parfocal calibrate: something has changed since")
    if damaged:
        return warning(f"{text}; {damaged[0]}", "calibrate that objective again, or remove the file")
    return ok(text)


def _taken(config: Config, held: contextlib.ExitStack) -> Finding | None:
    """Have the stage to oneself until ``held`` ends. Where another process drives it: what to say.

    RPi.GPIO knows nothing of other processes: claiming their pins would switch their coils off in mid-move.
    """
    from edge.hardware import journal_path
    from firmware_iface.journal import Journal

    path = journal_path(config)
    if path is None or not path.exists():
        return None
    try:
        held.enter_context(contextlib.closing(Journal(path)))
    except OSError as problem:  # a MotorError is one
        return warning(f"not tried: {problem}", "see the line `journal`")
    return None
