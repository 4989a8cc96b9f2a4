"""In the unit's walls: tries what the service must and must not be able to do; a line for each."""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path


def attempt(name: str, action: Callable[[], object]) -> None:
    """Print ``name`` and what came of it."""
    try:
        action()
    except OSError as error:
        print(f"{name}: {error.strerror}")
    else:
        print(f"{name}: works")


def realtime(priority: int) -> None:
    """As the motor's thread asks for it."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


if __name__ == "__main__":
    attempt("real time", lambda: realtime(1))
    attempt("other affinity", lambda: os.sched_setaffinity(0, {0}))
    attempt("state", lambda: Path("probe").write_text("here"))
    attempt("pipe", lambda: os.mkfifo(f"{os.environ['LG_WD']}/probe"))
    attempt("cache", lambda: Path(os.environ["XDG_CACHE_HOME"], "parfocal", "probe").write_text("here"))
    attempt("token", lambda: Path(os.environ["CONFIGURATION_DIRECTORY"], "token").read_text())
    attempt("configuration", lambda: os.open("/etc/parfocal/parfocal.toml", os.O_WRONLY))
    attempt("program", lambda: Path("/opt/parfocal/probe").write_text("here"))
    attempt("code", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC))
    attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close())
    attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).close())
    attempt("log of the kernel", lambda: os.open("/dev/kmsg", os.O_RDONLY))
    # Seen from a user namespace they have lost their numbers, but not their rights.
    print(f"groups: {sum(group != os.getgid() for group in os.getgroups())}")
    attempt("of the group dialout", lambda: Path(__file__).with_name("of-dialout").read_text())
    attempt("of the group root", lambda: Path(__file__).with_name("of-root").read_text())
