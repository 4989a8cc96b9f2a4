"""Checks of what Python finds here: the libraries, the four import names, the model and its runtime.

A library that was built for another NumPy raises, or aborts, as it is imported. So libraries are imported in
a process of their own.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING

from edge.doctor.finding import Finding, advice, error, joined, ok, warning
from edge.doctor.machine import Machine, Reply
from edge.errors import ModelError

if TYPE_CHECKING:
    from edge.config import Config

__all__ = ["NAMES", "import_names", "packages", "picamera2", "runtime_and_model"]

#: The top-level packages of this distribution. Others may well have had the same ideas.
NAMES = ("edge", "train", "convert", "firmware_iface")
_OURS = "parfocal"
_IMPORT_S = 30.0
#: All put their files into one folder, `cv2`; the last one installed wins.
_OPENCVS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_OTHER_NUMPY = ("dtype size changed", "binary incompatibility", "compiled using NumPy 1", "_ARRAY_API")
_OPENCV = "import cv2; print(cv2.__version__, cv2.__file__); print(cv2.getBuildInformation())"
_NUMPY = "import numpy; print(numpy.__version__)"
_PICAMERA2 = "import picamera2; print(picamera2.__file__)"


def packages(machine: Machine, config: Config) -> Finding:
    """NumPy and OpenCV by themselves and together, and the runtime's demands on NumPy."""
    return joined([_numpy(machine), _opencv(machine, config), *_opencv_twice(), *_runtime_and_numpy()])


def _numpy(machine: Machine) -> Finding:
    reply = machine.run([sys.executable, "-c", _NUMPY], _IMPORT_S)
    if reply.code != 0:
        return error(
            f"NumPy cannot be imported: {_why(reply)}",
            f"{sys.executable} -m pip install --force-reinstall numpy",
        )
    return ok(f"NumPy {reply.out.strip()}")


def _opencv(machine: Machine, config: Config) -> Finding:
    reply = machine.run([sys.executable, "-c", _OPENCV], _IMPORT_S)
    if reply.code != 0:
        cure = f"{sys.executable} -m pip install --force-reinstall opencv-python-headless"
        return error(
            f"OpenCV cannot be imported: {_why(reply)}", _numpy_1() if _numpy_is_to_blame(reply) else cure
        )
    first, _, build = reply.out.partition("\n")
    number, _, file = first.partition(" ")
    if config.camera.driver == "gstreamer" and not re.search(r"GStreamer:\s*YES", build):
        found = f"OpenCV {number} has no GStreamer ({file})"
        own = " ".join(_opencvs())
        cure = "use the system's python3-opencv, in a virtual environment with --system-site-packages"
        return error(found, f"{cure}; {sys.executable} -m pip uninstall {own}" if own else cure)
    return ok(f"OpenCV {number}")


def _opencv_twice() -> list[Finding]:
    found = _opencvs()
    if len(found) < 2:
        return []
    text = f"{' and '.join(found)} overwrite each other's files"
    return [
        warning(text, f"{sys.executable} -m pip uninstall {' '.join(found)}, then install one of them again")
    ]


def _runtime_and_numpy() -> list[Finding]:
    """tflite-runtime 2.14, the last one, imports with NumPy 2 and dies when it is used."""
    numpy, runtime = _installed("numpy"), _installed("tflite-runtime")
    if runtime is None or numpy is None or numpy.startswith(("0.", "1.")):
        return []
    text = f"tflite-runtime {runtime} does not work with NumPy {numpy}"
    if _installed("ai-edge-litert"):  # it comes first; the other is never asked
        return [warning(text, f"{sys.executable} -m pip uninstall tflite-runtime: ai-edge-litert is used")]
    return [error(text, f"{_numpy_1()}, or {sys.executable} -m pip install ai-edge-litert")]


def picamera2(machine: Machine, config: Config) -> Finding:
    """Whether picamera2 (and with it libcamera and simplejpeg) can be imported, where it is wanted."""
    if config.camera.driver != "picamera2":
        return ok(f'not used: [camera] driver = "{config.camera.driver}"')
    reply = machine.run([sys.executable, "-c", _PICAMERA2], _IMPORT_S)
    if reply.code == 0:
        return ok(reply.out.strip())
    if _numpy_is_to_blame(reply):
        return error(f"picamera2 was built for another NumPy: {_why(reply)}", _numpy_1())
    cure = "sudo apt install python3-picamera2"
    if machine.in_venv and not machine.sees_system_packages:
        cure += f", then python3 -m venv --system-site-packages {machine.prefix}"
    return error(f"picamera2 cannot be imported: {_why(reply)}", cure)


def import_names(machine: Machine) -> Finding:
    """Whose `edge`, `train`, `convert` and `firmware_iface` a program that imports them gets."""
    import edge

    home = Path(edge.__file__).resolve().parent.parent
    owners = metadata.packages_distributions()
    findings = [finding for name in NAMES for finding in _name(name, home, owners.get(name, ()))]
    return joined(findings) if findings else ok(f"{', '.join(NAMES)} are those of {home}")


def _name(name: str, home: Path, owners: Sequence[str]) -> list[Finding]:
    findings = []
    there = _folder(importlib.util.find_spec(name))
    if there is not None and there != home / name:
        findings.append(
            error(
                f"`import {name}` gives {there} and not {home / name}",
                f"remove or rename {there}, or give {_OURS} a virtual environment of its own",
            )
        )
    others = sorted({owner for owner in owners if owner.lower() != _OURS})
    if others:
        findings.append(
            error(
                f"`{name}` is also a part of {', '.join(others)}",
                f"give {_OURS} a virtual environment of its own, or pip uninstall {' '.join(others)}"
                f" and install {_OURS} again",
            )
        )
    here = Path.cwd().resolve()
    local = next(
        (path for path in (here / name / "__init__.py", here / f"{name}.py") if path.is_file()), None
    )
    if local is not None and here not in (home, there and there.parent):
        findings.append(
            warning(
                f"{local} would be taken for {_OURS}'s `{name}` by a Python that is started here",
                "start it in another folder, or with the command parfocal",
            )
        )
    return findings


def _folder(spec: ModuleSpec | None) -> Path | None:
    """Where a package lies, or the file of a module; None for one that is not there."""
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return None if spec.origin is None else Path(spec.origin).resolve()


def runtime_and_model(machine: Machine, config: Config) -> Finding:
    """Loads the model in force and times one inference."""
    import numpy as np

    from edge import model_store

    try:
        loaded, fell_back = model_store.open_model(config)
        size = loaded.card.tile_px
        tile = np.zeros((1, size, size, 3), np.float32)
        loaded.infer(tile)  # the first one prepares
        begun_s = time.perf_counter()
        loaded.infer(tile)
        took_ms = 1e3 * (time.perf_counter() - begun_s)
    except ModelError as problem:
        text = str(problem)
        other = 'give [model] path a file made by `parfocal convert`, or "default"'
        return error(text, advice(text, other))
    except SystemError as problem:  # what tflite-runtime does with NumPy 2
        return error(f"the runtime cannot run the model: {problem}", _numpy_1())
    runtime = loaded.runtime.partition(".")[0]
    found = f"{loaded.name}, {runtime}, {took_ms:.1f} ms a tile, {config.model.threads} thread(s)"
    if fell_back:
        return warning("; ".join([*fell_back, found]), "parfocal model use FILE, or parfocal model rollback")
    return ok(found)


def _numpy_1() -> str:
    """How to get the NumPy that apt's packages and tflite-runtime were built for."""
    # The wheels of OpenCV ask for NumPy 2 from 4.12 on.
    opencv = " 'opencv-python-headless<4.12'" if _installed("opencv-python-headless") else ""
    return f"{sys.executable} -m pip install 'numpy<2'{opencv}"


def _opencvs() -> list[str]:
    return [name for name in _OPENCVS if _installed(name) is not None]


def _installed(distribution: str) -> str | None:
    """Its version, None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _numpy_is_to_blame(reply: Reply) -> bool:
    return any(mark in reply.err for mark in _OTHER_NUMPY)


def _why(reply: Reply) -> str:
    """The last line of a traceback, or how the process ended."""
    lines = reply.err.strip().splitlines()
    last = lines[-1].strip() if lines else "no message"
    return last if reply.code in (None, 1) else f"{last} (exit code {reply.code})"
