"""Checks of the machine itself: board, system, Python, power and heat, disks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from edge.doctor.finding import Finding, error, joined, ok, warning
from edge.doctor.machine import Machine, existing

if TYPE_CHECKING:
    from edge.config import Config

__all__ = ["board", "disk", "operating_system", "power", "python", "throttled", "throttled_flags", "warmest"]

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
HOT_C = 80.0
FEW_BYTES, TOO_FEW_BYTES = 200_000_000, 20_000_000
#: Bits of get_throttled; sixteen higher: it has happened since the start.
_THROTTLED = {
    0: "under-voltage",
    1: "processor clock capped",
    2: "throttled",
    3: "soft temperature limit",
}
_SINCE_START = 16
_SYSFS_THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"
#: A Jetson Nano's PMIC always says 100 °C.
_ZONES_THAT_LIE = frozenset({"PMIC-Die"})


def board(machine: Machine) -> Finding:
    """What computer it is."""
    product = machine.read("/sys/class/dmi/id/product_name")
    pc = f"PC{f', {product}' if product else ''}"
    return ok(f"{machine.model or pc} ({machine.architecture})")


def operating_system(machine: Machine) -> Finding:
    """The distribution, its kernel, and whether programs are 64-bit."""
    release = machine.read("/etc/os-release") or machine.read("/usr/lib/os-release") or ""
    pretty = re.search(r'^PRETTY_NAME="?(.*?)"?$', release, re.MULTILINE)
    kernel = machine.read("/proc/sys/kernel/osrelease") or "unknown"
    found = f"{pretty[1] if pretty else 'no /etc/os-release'}, kernel {kernel}, {machine.bits}-bit programs"
    if machine.bits < 64:
        return warning(
            found,
            "install the 64-bit system: there is no ai-edge-litert for a 32-bit one, even on a 64-bit kernel",
        )
    return ok(found)


def python(machine: Machine, config: Config) -> Finding:
    """Its version, and whether it sees what it has to."""
    found = ".".join(map(str, machine.python))
    if not machine.in_venv:
        found += ", no virtual environment"
    else:
        reach = "with" if machine.sees_system_packages else "without"
        found += f", virtual environment {machine.prefix} {reach} the system's packages"
    if not OLDEST_PYTHON <= machine.python[:2] <= NEWEST_PYTHON:
        return error(found, "use a Python from 3.10 to 3.13")
    if not machine.sees_system_packages and config.camera.driver in ("picamera2", "gstreamer"):
        wanted = "picamera2" if config.camera.driver == "picamera2" else "an OpenCV with GStreamer"
        return warning(
            found,
            f"{wanted} comes with the system: python3 -m venv --system-site-packages {machine.prefix}",
        )
    return ok(found)


def power(machine: Machine) -> Finding:
    """Under-voltage and throttling on a Raspberry Pi, heat anywhere."""
    return joined([*([_throttling(machine)] if machine.is_pi else []), _heat(machine)])


def _throttling(machine: Machine) -> Finding:
    flags = throttled_flags(machine)
    if flags is None:
        return warning(
            "throttling unknown: neither vcgencmd nor the firmware's file can be read",
            f"sudo usermod -aG video {machine.user}, then log in again",
        )
    now, since = throttled(flags), throttled(flags >> _SINCE_START)
    if not now and not since:
        return ok("no under-voltage or throttling since the start")
    parts = [
        *(["now: " + ", ".join(now)] if now else []),
        *(["since the start: " + ", ".join(since)] if since else []),
    ]
    cures = []
    if {"under-voltage"} & {*now, *since}:
        cures.append("use the board's own power supply and a short cable, and power motors separately")
    if {*now, *since} - {"under-voltage"}:
        cures.append("cool the board")
    return warning("; ".join(parts), "; ".join(cures))


def throttled(flags: int) -> list[str]:
    """What the lower bits of ``flags`` say of this moment, in words."""
    return [text for bit, text in _THROTTLED.items() if flags >> bit & 1]


def throttled_flags(machine: Machine) -> int | None:
    """What a Raspberry Pi's firmware says of power and heat: bits; None where it cannot be asked."""
    # The command first: reading the file warns in the kernel's log, and older kernels forget by it.
    said = re.search(r"throttled=0x([0-9a-fA-F]+)", machine.run(["vcgencmd", "get_throttled"], 5.0).out)
    text = said[1] if said else machine.read(_SYSFS_THROTTLED)
    try:
        return None if text is None else int(text, 16)
    except ValueError:
        return None


def _heat(machine: Machine) -> Finding:
    found = warmest(machine)
    if found is None:
        return ok("no thermometer")
    celsius, kind = found
    text = f"{kind} {celsius:.0f} °C"
    return warning(text, "cool the board: a hot one is slowed down") if celsius > HOT_C else ok(text)


def warmest(machine: Machine) -> tuple[float, str] | None:
    """The warmest thermal zone, °C, and its name; None where there is no thermometer."""
    found: list[tuple[float, str]] = []
    for zone in machine.glob("/sys/class/thermal/thermal_zone*"):
        kind = machine.read(f"{zone}/type") or "thermal zone"
        text = machine.read(f"{zone}/temp") or ""
        if kind not in _ZONES_THAT_LIE and re.fullmatch(r"-?\d+", text):
            found.append((int(text) / 1000.0, kind))
    return max(found, default=None)


def disk(machine: Machine, config: Config) -> Finding:
    """Space and permission to write where the journal lies, and here."""
    from edge.hardware import journal_path

    journal = journal_path(config)
    folders = {"the current folder": Path.cwd()}
    if journal is not None:
        folders = {"the journal's folder": existing(journal.absolute().parent), **folders}
    findings: dict[int, Finding] = {}
    for name, folder in folders.items():
        on = machine.disk(folder)
        findings.setdefault(on.device, _space(name, folder, on.free_bytes, on.read_only))
    return joined(findings.values())


def _space(name: str, folder: Path, free_bytes: int, read_only: bool) -> Finding:
    found = f"{name} {folder} has {free_bytes / 1e6:.0f} MB free"
    if read_only:
        found = f"{name} {folder} is on a read-only file system"
        cure = "mount it writable; a card that went read-only by itself is worn out: replace it"
        return error(found, cure) if "journal" in name else warning(found, cure)
    if free_bytes < TOO_FEW_BYTES:
        return error(found, "delete something")
    return warning(found, "delete something soon") if free_bytes < FEW_BYTES else ok(found)
