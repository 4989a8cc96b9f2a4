"""A virtual machine with kernel GPIO lines and a kernel camera, for jobs that need a real kernel to talk to.

The machine is emulated in software, so it needs no rights beyond those to build its image, once: that takes
root, ``build_image.sh`` and some minutes. The image lies outside the tree, under the user's cache folder, one
for each state of its recipe; it may be deleted at any time. The machine never changes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

HERE = Path(__file__).parent
TREE = HERE.parents[1]
BUILD = HERE / "build_image.sh"
BOARD_LIBRARIES = ["rpi-lgpio>=0.6", "pytest>=8"]
"""What the machine's Python has beyond the extras `device` and `serve`: the GPIO library, and what runs the
contracts."""
BOOT_S = 200
"""Longest time (s) to boot and to switch off; some 30 s on an idle desktop."""
SILENT_S = 120
"""Longest time (s) between two signs of life; a machine that has booted gives one every ten seconds."""
BOOTS = 3
"""How often one is booted: an emulated machine may stand still, even before its kernel says a word."""
_TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"}


class VmError(Exception):
    """The machine could not be built or did not do its jobs; the text says why."""


@dataclass(frozen=True)
class Result:
    """What one job left behind."""

    code: int
    """Its exit code, 124 when it took too long."""
    records: list[dict[str, Any]]
    """The JSON objects of its standard output, one a line."""
    errors: str
    """Its standard error."""


def missing() -> list[str]:
    """What this computer lacks to run the machine, in words; empty when nothing is."""
    lacks = [
        f"{tool} (apt install {package})" for tool, package in _TOOLS.items() if shutil.which(tool) is None
    ]
    if platform.machine() != "x86_64":
        lacks.append(f"an x86_64 processor (this is {platform.machine()})")
    if os.geteuid() != 0 and not _image_folder().exists():
        lacks.append("root, to build the machine's image")
    return lacks


def run(limits_s: Mapping[str, float], folder: Path, say: Callable[[str], None]) -> dict[str, Result]:
    """Boot and run the jobs named in ``limits_s`` (their time limits in s) one after the other. BLOCKS.

    A job is ``jobs/NAME.py``: it runs as root in a folder of its own, with `edge`, `firmware_iface` and this
    folder on its path. ``folder``, empty at first, is the machine's /mnt/host and keeps what the jobs wrote.
    A machine that dies on the way says nothing of the drivers: what is left gets another boot, and ``say`` a
    line. A job that no machine lived to see the end of is left out; the last console is in console.log.
    VmError when the image cannot be built or the machine does not boot.
    """
    left = dict(limits_s)
    for boot in range(BOOTS):
        if boot:
            say(f"the machine ended early; booted again for {', '.join(left)}")
        share(folder, left)
        _boot(image(), folder, sum(left.values()), say=say)
        left = {name: limit_s for name, limit_s in left.items() if not (folder / f"{name}.code").exists()}
        if not left:
            break
    return {name: _result(folder, name) for name in limits_s if name not in left}


def share(folder: Path, limits_s: Mapping[str, float]) -> None:
    """Put into ``folder`` what the machine needs to run the jobs."""
    for package in ("edge", "firmware_iface", "tests"):
        shutil.copytree(
            TREE / package,
            folder / "tree" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
            dirs_exist_ok=True,
        )
    shutil.copy(HERE / "guest.sh", folder)
    (folder / "jobs").write_text("".join(f"{name} {limit_s:g}\n" for name, limit_s in limits_s.items()))


class Computer:
    """A machine with a disk of its own, which lasts from one boot to the next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "host"
        self.folder.mkdir()
        self._disk = folder / "disk.img"
        subprocess.run(["cp", "--sparse=always", image() / "disk.img", self._disk], check=True)

    def boot(self, job: str, limit_s: float, *, cut: str | None = None) -> list[dict[str, Any]]:
        """Boot, run ``job``, switch off; its records. BLOCKS. With ``cut``, the power goes as soon as a file
        of that name is in the shared folder. VmError where the job fails or there is no such file in time.
        """
        share(self.folder, {job: limit_s})
        try:
            _boot(image(), self.folder, limit_s, disk=self._disk, cut=cut)
        except VmError as error:
            raise VmError(f"{error}\n{_tail(self.folder / f'{job}.err')}") from error
        if not (self.folder / (cut or f"{job}.code")).exists():
            raise VmError(
                f"the machine ended before the job {job} did:\n{_tail(self.folder / 'console.log')}"
            )
        if cut is None and (result := _result(self.folder, job)).code != 0:
            raise VmError(f"the job {job} ended with {result.code}:\n{result.errors}")
        return [json.loads(line) for line in (self.folder / f"{job}.jsonl").read_text().splitlines()]


def _boot(
    image: Path,
    folder: Path,
    limit_s: float,
    *,
    disk: Path | None = None,
    cut: str | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Until the machine is off, or dead, or ``cut`` is in ``folder``; its jobs may take ``limit_s``.

    One that gives no sign of life within `BOOT_S` is switched off and on again. VmError after `BOOTS` of
    them, and where time is up.
    """
    console, alive = folder / "console.log", folder / "alive"
    command = _command(image, folder, console, disk)
    for _ in range(BOOTS):
        alive.unlink(missing_ok=True)
        with (
            (folder / "qemu.log").open("w") as log,
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as machine,
        ):
            try:
                ended = _wait(machine, BOOT_S + limit_s, alive, None if cut is None else folder / cut)
            finally:
                machine.kill()
        if alive.exists() and ended:
            return
        said = (folder / "qemu.log").read_text() + _tail(console)
        if alive.exists():
            raise VmError(f"the virtual machine was not done after {BOOT_S + limit_s:g} s:\n{said}")
        say(f"the virtual machine never came to life: {said!r}")
    raise VmError(f"the virtual machine never came to life, {BOOTS} times:\n{said}")


def _command(image: Path, folder: Path, console: Path, disk: Path | None) -> list[str | Path]:
    shared = f"local,path={folder},mount_tag=host,security_model=none"
    return [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
        # QEMU 7.2 makes a fault of AVX2's masked gathers, with which NumPy computes sines.
        *("-accel", "tcg,thread=multi", "-cpu", "max,avx2=off", "-smp", "2", "-m", "2048"),
        *("-nodefaults", "-nographic", "-no-reboot", "-net", "none", "-serial", f"file:{console}"),
        *("-kernel", image / "kernel", "-initrd", image / "initrd.img"),
        *("-append", "root=/dev/vda rw console=ttyS0 panic=-1 quiet systemd.show_status=0"),
        *("-virtfs", shared, "-drive"),
        f"file={disk or image / 'disk.img'},format=raw,if=virtio,snapshot={'on' if disk is None else 'off'}",
    ]


def _wait(machine: subprocess.Popen[bytes], limit_s: float, alive: Path, cut: Path | None) -> bool:
    """Until the machine has switched itself off, stands still, or ``cut`` is there; False when time is up."""
    begun_s = seen_s = time.monotonic()
    sign = 0
    while time.monotonic() < begun_s + limit_s:
        if machine.poll() is not None or (cut is not None and cut.exists()):
            return True
        last, sign = sign, alive.stat().st_mtime_ns if alive.exists() else 0
        if sign != last:
            seen_s = time.monotonic()
        if time.monotonic() > seen_s + (SILENT_S if sign else BOOT_S):
            return True
        time.sleep(0.05)
    return False


def _result(folder: Path, name: str) -> Result:
    records = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    errors = (folder / f"{name}.err").read_text()
    return Result(int((folder / f"{name}.code").read_text()), records, errors)


def _requirements() -> str:
    """A pip requirements file: Parfocal's own, the extras `device` and `serve`, and the board's libraries."""
    needed = map(Requirement, importlib.metadata.requires("parfocal") or [])
    wanted = [
        f"{requirement.name}{requirement.specifier}"
        for requirement in needed
        if requirement.marker is None
        or any(
            requirement.marker.evaluate({"extra": extra, "python_version": "3.11"})
            for extra in ("device", "serve")
        )
    ]
    return "".join(f"{line}\n" for line in sorted({*wanted, *BOARD_LIBRARIES}))


def _image_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    recipe = BUILD.read_bytes() + _requirements().encode()
    return cache / "parfocal" / "vm" / hashlib.sha256(recipe).hexdigest()[:16]


def image() -> Path:
    """The folder of the image, built first where it is not there. Only one process builds at a time."""
    made = _image_folder()
    made.parent.mkdir(parents=True, exist_ok=True)
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _build(made, lock.fileno())
    return made


def _build(made: Path, lock: int) -> None:
    """Into a folder beside ``made`` that takes its name at the end. The builder holds ``lock`` as long as it
    lives, should this process be killed; what it mounts is mounted for it alone."""
    unfinished = made.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    requirements = unfinished / "requirements.txt"
    requirements.write_text(_requirements())
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", BUILD]
    done = subprocess.run(
        [*command, unfinished, sys.executable, requirements],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=[lock],
        check=False,
    )
    if done.returncode != 0:
        raise VmError(f"{BUILD.name} failed:\n{_last_lines(done.stdout)}")
    unfinished.rename(made)


def _tail(file: Path) -> str:
    return _last_lines(file.read_text(errors="replace")) if file.exists() else ""


def _last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-50:])
