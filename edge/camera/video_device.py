"""A Linux video device before it is opened: where it is, and in plain words why it cannot be used."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
from pathlib import Path

from edge.errors import CameraError

__all__ = ["path_of", "probe", "users_of"]

DEV = Path("/dev")
PROC = Path("/proc")


def path_of(device: int | str) -> Path:
    """The device file of camera number ``device``, or the path itself (`/dev/v4l/by-id/…` is allowed)."""
    return DEV / f"video{device}" if isinstance(device, int) else Path(device)


def probe(path: Path) -> None:
    """Open ``path`` and close it again. Raises CameraError, in one line with what to do, where that fails."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        raise CameraError(f"{path}: {_why(path, error)}") from error


def users_of(path: Path) -> str:
    """Which processes have the device open, such as "process 812 (cheese)"; empty where none is seen.

    Processes of other users are seen by root alone.
    """
    device = path.resolve()
    found = []
    for process in PROC.glob("[0-9]*"):
        # A process may end, or be somebody else's, at any point of this.
        with contextlib.suppress(OSError):
            if any(entry.resolve() == device for entry in (process / "fd").iterdir()):
                name = (process / "comm").read_text().strip()
                found.append(f"process {process.name} ({name})")
    return ", ".join(found)


def _why(path: Path, error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission; join its group: sudo usermod -aG {_group(path)} $USER, then log in anew"
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR):
        there = ", ".join(map(str, sorted(DEV.glob("video*"))))
        return f"no such camera; is it plugged in? There is {there or 'none at all'}"
    if error.errno == errno.EBUSY:
        return f"in use by {users_of(path) or 'another program'}"
    return error.strerror or type(error).__name__


def _group(path: Path) -> str:
    try:
        return grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "video"
