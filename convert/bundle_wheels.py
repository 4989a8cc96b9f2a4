"""The wheels of an offline bundle: Parfocal's own, built from this tree, and all that it needs on a board.

pip fetches for another computer (`pip download --platform`), but judges the conditions in packages' metadata
(`tomli; python_version < "3.11"`) by the Python that runs it. So what the board's Python needs besides is
worked out here from the wheels' own metadata, and fetched until nothing is lacking.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from edge.errors import InputError, one_line

__all__ = ["BOARDS", "EPOCH", "EXTRAS", "PARTS", "Board", "copy_sources", "gather", "lacking", "own_wheel"]

EXTRAS = "device,serve"
"""What a device needs of Parfocal beyond its core."""
EPOCH = 315_532_800
"""The time stamp (1980-01-01, the first that a zip file can hold) of everything in a bundle."""
PARTS = ("setup.py", "pyproject.toml", "edge", "firmware_iface", "train", "convert")
"""Of the source tree: what Parfocal's wheel is built from."""
_OLDEST_GLIBC = 17
_ROUNDS = 6


@dataclass(frozen=True)
class Board:
    """An operating system on a board: what its wheels must run on."""

    python: str
    """``3.11``: of the system's Python, which the service uses."""
    glibc: str
    """``2.36``."""
    machine: str = "aarch64"
    constraints: tuple[str, ...] = ()
    """pip constraints: the system's own packages were built for its NumPy, which the installer keeps."""
    wheels: tuple[str, ...] = ()
    """Requirements beyond Parfocal's: the GPIO library."""
    sdists: tuple[str, ...] = ()
    """Such that are pure Python and published without a wheel."""

    @property
    def platforms(self) -> list[str]:
        """The wheel tags that its C library can carry, newest first."""
        major, minor = (int(part) for part in self.glibc.split("."))
        return [f"manylinux_{major}_{n}_{self.machine}" for n in range(minor, _OLDEST_GLIBC - 1, -1)] + [
            f"manylinux2014_{self.machine}"
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What conditions in metadata are judged by."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


#: By the name that `--board` takes. NumPy: that of the system's python3-numpy. lgpio has no wheel for Python
#: 3.13: there the system's own python3-rpi-lgpio is used.
BOARDS = {
    "pi-bookworm": Board(
        "3.11",
        "2.36",
        constraints=("numpy>=1.24,<1.25", "opencv-python-headless<4.12"),
        wheels=("rpi-lgpio>=0.6",),
    ),
    "pi-trixie": Board("3.13", "2.41", constraints=("numpy>=2.2,<2.3",)),
    "jetson-jp6": Board(
        "3.10",
        "2.35",
        constraints=("numpy>=1.24,<2", "opencv-python-headless<4.12"),
        sdists=("Jetson.GPIO>=2.1.7",),
    ),
}


def own_wheel(tree: Path, folder: Path) -> Path:
    """Build Parfocal's wheel from the source ``tree`` into ``folder``; the tree is left as it is. BLOCKS.

    OSError where pip cannot.
    """
    with tempfile.TemporaryDirectory() as made:
        source = Path(made, "source")
        copy_sources(tree, source)
        before = set(folder.glob("*.whl"))
        _pip("wheel", "--no-deps", "--wheel-dir", folder, source)
    (wheel,) = set(folder.glob("*.whl")) - before
    return wheel


def copy_sources(tree: Path, to: Path) -> None:
    """Copy what the wheel is built from, without what a build has left behind, into the new folder ``to``."""
    to.mkdir()
    for part in PARTS:
        if (tree / part).is_dir():
            shutil.copytree(
                tree / part, to / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(tree / part, to)


def gather(own: Path, board: Board) -> None:
    """Fetch, into the folder of the wheel ``own``, all that it and its extras need on ``board``. BLOCKS.

    OSError where pip cannot, or where it settles on versions that do not go together on the board.
    """
    folder = own.parent
    roots = [f"parfocal[{EXTRAS}]", *board.wheels, *board.sdists]
    for requirement in board.sdists:
        _pip("wheel", "--no-deps", "--wheel-dir", folder, requirement)
    _download(folder, board, [f"{own}[{EXTRAS}]", *board.wheels], board.constraints)
    for _ in range(_ROUNDS):
        lacks = lacking(folder, roots, board.environment)
        if not lacks:
            return
        fixed = [f"{name}=={version}" for name, (version, _) in _wheels(folder).items() if name != "parfocal"]
        _download(folder, board, lacks, (*board.constraints, *fixed))
    raise OSError(f"pip found no set of wheels: still lacking {', '.join(lacks)}")


def lacking(folder: Path, roots: Iterable[str], environment: dict[str, str]) -> list[str]:
    """The requirements that no wheel in ``folder`` meets, of ``roots`` and of all that those need in turn."""
    have = _wheels(folder)
    lacks: set[str] = set()
    seen: set[str] = set()
    queue = [Requirement(root) for root in roots]
    while queue:
        wanted = queue.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        version, needs = have.get(canonicalize_name(wanted.name), (None, []))
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            lacks.add(f"{wanted.name}{wanted.specifier}")
            continue
        for need in needs:
            extras = ("", *sorted(wanted.extras))
            marker = need.marker
            if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in extras):
                need.marker = None
                queue.append(need)
    return sorted(lacks)


def _wheels(folder: Path) -> dict[str, tuple[Version, list[Requirement]]]:
    """Name: version and requirements, of each wheel."""
    found: dict[str, tuple[Version, list[Requirement]]] = {}
    for path in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            (name,) = (
                entry for entry in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", entry)
            )
            metadata = Parser().parsestr(wheel.read(name).decode("utf-8"), headersonly=True)
        needs = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
        found[canonicalize_name(metadata["Name"])] = (Version(metadata["Version"]), needs)
    return found


def _download(folder: Path, board: Board, wanted: Sequence[str], constraints: Sequence[str]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{line}\n" for line in constraints))
        file.flush()
        platforms = [word for platform in board.platforms for word in ("--platform", platform)]
        python = ("--implementation", "cp", "--python-version", board.python)
        where = ("--dest", folder, "--find-links", folder, "--constraint", file.name)
        _pip("download", "--only-binary=:all:", *python, *platforms, *where, *wanted)


def _pip(*words: object) -> None:
    """Run pip with this Python. OSError with the reason that it gives."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *map(str, words)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if "No module named pip" in done.stderr:
        raise InputError(f"{sys.executable} has no pip, which fetches the wheels: python -m ensurepip")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        said = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])
        raise OSError(f"pip {words[0]}: {one_line(said.removeprefix('ERROR: '), limit=500)}")
