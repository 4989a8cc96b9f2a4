"""The board that is measured: what it is, and how warm and fast it is just now."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from typing import Any

from edge.bench.timing import processor
from edge.cli import version
from edge.doctor import system
from edge.doctor.machine import Machine

__all__ = ["about", "health", "memory_mb"]

_LIBRARIES = (
    "ai-edge-litert",
    "tflite-runtime",
    "tensorflow-cpu",
    "tensorflow",
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "picamera2",
    "rpi-lgpio",
    "RPi.GPIO",
    "Jetson.GPIO",
)


def about(machine: Machine) -> dict[str, Any]:
    """Board, processor, system and versions of what takes part in a look."""
    return {
        "board": system.board(machine).found,
        "processor": processor(),
        "processors": os.cpu_count(),
        "system": system.operating_system(machine).found,
        "python": platform.python_version(),
        "parfocal": version(),
        "libraries": {name: found for name in _LIBRARIES if (found := _installed(name)) is not None},
    }


def health(machine: Machine) -> dict[str, Any]:
    """Temperature (°C), the fastest processor's clock (MHz), what throttles it; None where it is not told."""
    warmest = system.warmest(machine)
    kilohertz = [
        int(text)
        for path in machine.glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
        if re.fullmatch(r"\d+", text := machine.read(path) or "")
    ]
    flags = system.throttled_flags(machine) if machine.is_pi else None
    return {
        "temperature_c": None if warmest is None else warmest[0],
        "clock_mhz": max(kilohertz) / 1000 if kilohertz else None,
        "throttled": None if flags is None else system.throttled(flags),
    }


def memory_mb(machine: Machine) -> dict[str, float | None]:
    """Resident memory of this process in MB (10^6 bytes): now, and at its most."""
    status = machine.read("/proc/self/status") or ""
    found = {key: re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE) for key in ("VmRSS", "VmHWM")}
    now, most = (None if of is None else int(of[1]) * 1024 / 1e6 for of in found.values())
    return {"resident": now, "most": most}


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
