"""A Debian that a real systemd has booted, in a container: for what installs and runs a service.

The tree is made once, outside the repository, under the user's cache folder, one for each state of its
recipe; it may be deleted at any time. A container changes a layer over it, which lasts from one boot to the
next.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from machines import built_once

HERE = Path(__file__).parent
SUITE = "bookworm"
PACKAGES = ("systemd", "systemd-sysv", "dbus", "udev", "python3-venv", "python3-numpy", "openssh-client")
"""python3-numpy: what came with the system, and must stay in use."""
PYTHON, GLIBC = "3.11", "2.36"
"""The suite's."""
BOOT_S = 60
_TOOLS = {"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "ssh-keygen": "openssh-client"}
#: Runs the host's job and ends the container with its exit code.
_UNIT = """\
[Unit]
Description=Run the host's job and switch off
After=multi-user.target
[Service]
Type=oneshot
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart=/bin/bash -c '/usr/bin/python3 /mnt/host/guest.py $(cat /mnt/host/job) >/mnt/host/console.log 2>&1'
ExecStopPost=/usr/bin/systemctl exit $EXIT_STATUS
[Install]
WantedBy=default.target
"""


class ContainerError(Exception):
    """The tree could not be built or the container did not do its job; the text says why."""


def missing() -> list[str]:
    """What this computer lacks to run a container, in words; empty when nothing is."""
    lacks = [
        f"{tool} (apt install {package})" for tool, package in _TOOLS.items() if shutil.which(tool) is None
    ]
    return lacks if os.geteuid() == 0 else [*lacks, "root, to start a container"]


class Container:
    """One computer with a disk of its own; ``host`` is its /mnt/host. Each `boot` is a boot of it. BLOCKS."""

    def __init__(self, folder: Path) -> None:
        self._tree = built_once("container", " ".join((SUITE, *PACKAGES, _UNIT)), _build)
        self._folder = folder
        self.host = folder / "host"
        for name in ("upper", "scratch", "merged", "host"):
            (folder / name).mkdir(parents=True)

    def boot(self, job: str, limit_s: float) -> None:
        """Boot, run ``job`` of guest.py, and switch off. ContainerError where that does not end well."""
        for name in ("guest.py", "probe.py"):
            shutil.copy(HERE / name, self.host)
        (self.host / "job").write_text(job)
        layers = f"lowerdir={self._tree},upperdir={self._folder}/upper,workdir={self._folder}/scratch"
        merged = self._folder / "merged"
        nspawn = [
            *(
                "systemd-nspawn",
                "--quiet",
                f"--directory={merged}",
                f"--machine=parfocal-{os.getpid()}",
                "--boot",
                "--register=no",
                "--keep-unit",
            ),
            *(
                "--console=pipe",
                "--private-network",
                f"--bind={self.host}:/mnt/host",
                "--kill-signal=SIGKILL",
            ),
        ]
        mount = 'mount -t overlay overlay -o "$0" "$1" && shift && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", mount, layers, str(merged), *nspawn]
        with (self._folder / "boot.log").open("w") as log:
            try:
                code = subprocess.run(
                    ["setpriv", "--pdeathsig", "KILL", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=limit_s + BOOT_S,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired as error:
                raise ContainerError(f"the job {job} took over {limit_s:g} s\n{self._said()}") from error
        if code != 0:
            raise ContainerError(f"the job {job} ended with {code}\n{self._said()}")

    def _said(self) -> str:
        logs = (self._folder / "boot.log", self.host / "console.log")
        lines = [
            line for log in logs if log.exists() for line in log.read_text(errors="replace").splitlines()
        ]
        return "\n".join(lines[-30:])


def _build(tree: Path) -> None:
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    done = subprocess.run(
        [*command, SUITE, tree], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ContainerError(f"mmdebstrap failed:\n{done.stderr[-2000:]}")
    units = tree / "etc/systemd/system"
    (units / "job.service").write_text(_UNIT)
    (units / "default.target.wants").mkdir()
    (units / "default.target.wants/job.service").symlink_to("../job.service")
