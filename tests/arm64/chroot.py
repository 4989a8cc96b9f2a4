"""A Debian of an arm64 board, as the SD card of a Raspberry Pi has it, entered with chroot on this computer.

The tree is made once, outside the repository, under the user's cache folder, one for each state of its
recipe; it may be deleted at any time. What is done in it goes into a layer over it.

The kernel hands arm64 programs to qemu (binfmt_misc). That is set up in a user namespace of the chroot's own
(Linux 6.7 and later), with the same user ids as outside, so that this computer is left as it was, whatever
happens. Older kernels do with what the package qemu-user-static has set up for all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from machines import built_once

SUITE = "bookworm"
PACKAGES = ("systemd", "python3-venv", "python3-numpy", "openssh-client", "libstdc++6")
"""python3-numpy: what came with the system, and must stay in use. libstdc++6: what apt, left out, brings."""
BINFMT = Path("/proc/sys/fs/binfmt_misc")
QEMU = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
BUILD_S = 1800.0
_TOOLS = {
    "arch-test": "arch-test",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "qemu-aarch64-static": "qemu-user-static",
    "ssh-keygen": "openssh-client",
}
#: First in the namespace; $1: how arm64 programs are known. What this cannot mount is there already.
_EMULATE = f"""\
set -eu
if mount -t binfmt_misc binfmt_misc {BINFMT} 2>/dev/null; then grep '^:' "$1" >{BINFMT}/register; fi
shift
exec "$@"
"""
#: $1: the tree, $2: what it has as /mnt, $3: whether it has a /proc.
_ENTER = """\
set -eu
for name in null zero urandom; do
    [ -e "$1/dev/$name" ] || : >"$1/dev/$name"
    mount --bind "/dev/$name" "$1/dev/$name"
done
mount --bind "$2" "$1/mnt"
[ -z "$3" ] || mount -t proc proc "$1/proc"
top=$1
shift 3
exec chroot "$top" "$@"
"""
_ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/root", "LC_ALL=C.UTF-8")


class ChrootError(Exception):
    """The tree could not be built, or a program in it failed; the text says why."""


def missing() -> list[str]:
    """What this computer lacks, in words; empty when nothing is."""
    lacks = [
        f"{tool} (apt install {package})" for tool, package in _TOOLS.items() if shutil.which(tool) is None
    ]
    if os.geteuid() != 0:
        return [*lacks, "root, to change into the arm64 tree"]
    if not lacks and not QEMU.is_file():
        lacks.append(f"{QEMU} (apt install qemu-user-static)")
    return lacks or _lacks_emulation()


def _lacks_emulation() -> list[str]:
    mount = ("unshare", "--mount", "mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT)
    try:
        with _user_namespace() as entered:
            own = subprocess.run([*entered, *mount], capture_output=True, check=False).returncode == 0
    except (ChrootError, OSError) as error:
        return [f"user namespaces ({error})"]
    if own or (BINFMT / "qemu-aarch64").exists():
        return []
    return ["binfmt_misc in user namespaces (Linux 6.7), or set up for all (apt install binfmt-support)"]


class Chroot:
    """One board; ``host`` is its /mnt. Each `run` has a namespace of its own, and no network. BLOCKS."""

    def __init__(self, folder: Path) -> None:
        self._tree = built_once("arm64", " ".join((SUITE, *PACKAGES)), _build)
        self._folder = folder
        self.host = folder / "host"
        for name in ("upper", "scratch", "merged", "host"):
            (folder / name).mkdir(parents=True)
        self._namespaces: set[str] = set()

    def run(self, *words: str, proc: bool, limit_s: float) -> tuple[str, float]:
        """What a program says on its standard output, and the seconds it took. ChrootError where it fails.

        ``proc``: with a /proc, which tells of this computer's processor, not of the emulated one.
        """
        layers = f"lowerdir={self._tree},upperdir={self._folder}/upper,workdir={self._folder}/scratch"
        merged = str(self._folder / "merged")
        mount = 'mount -t overlay overlay -o "$0" "$1" && shift && exec "$@"'
        inside = ["sh", "-c", _ENTER, "enter", merged, str(self.host), "yes" if proc else ""]
        with _user_namespace(self._namespaces) as entered:
            command = ["unshare", "--mount", "sh", "-c", mount, layers, merged, *entered, *_emulated("--net")]
            began_s = time.monotonic()
            try:
                done = subprocess.run(
                    [*command, *inside, "env", "-i", *_ENVIRONMENT, *words],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=limit_s,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise ChrootError(f"{' '.join(words)}: over {limit_s:g} s") from error
        if done.returncode != 0:
            said = (done.stdout + done.stderr)[-3000:]
            raise ChrootError(f"{' '.join(words)}: exit code {done.returncode}\n{said}")
        return done.stdout, time.monotonic() - began_s

    def left_over(self) -> list[str]:
        """Processes and mounts that outlived their `run`: none, as it should be."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in mounts if str(self._folder) in line] + [
            f"process {process.name}"
            for process in Path("/proc").glob("[0-9]*")
            if _namespace(process) in self._namespaces
        ]

    def discard(self) -> None:
        """Delete all but the tree: a gigabyte."""
        shutil.rmtree(self._folder)


def _emulated(*options: str) -> list[str]:
    """What runs the words that follow where arm64 programs run, and kills what they leave behind."""
    unshare = ["unshare", "--mount", "--pid", *options, "--fork", "--kill-child"]
    return [*unshare, "sh", "-c", _EMULATE, "emulate", str(QEMU)]


@contextlib.contextmanager
def _user_namespace(seen: set[str] | None = None) -> Iterator[list[str]]:
    """What enters a new user namespace, in which user ids are those outside. ``seen``: gets its name."""
    # cat holds it open until its input ends, with this process if need be.
    with subprocess.Popen(["unshare", "--user", "cat"], stdin=subprocess.PIPE) as holder:
        process = Path("/proc", str(holder.pid))
        while (name := _namespace(process)) == _namespace(Path("/proc/self")):
            time.sleep(0.01)
        if not name:
            raise ChrootError("unshare --user failed: no user namespace can be made here")
        if seen is not None:
            seen.add(name)
        for table in ("uid_map", "gid_map"):
            (process / table).write_text("0 0 65536\n")
        yield ["nsenter", f"--user={process}/ns/user", "--"]


def _namespace(process: Path) -> str:
    """The user namespace of a process; empty where it has ended."""
    try:
        return str((process / "ns/user").readlink())
    except OSError:
        return ""


def _build(tree: Path) -> None:
    """Packages are configured, emulated."""
    command = [
        "mmdebstrap",
        "--variant=essential",
        "--architectures=arm64",
        f"--include={','.join(PACKAGES)}",
    ]
    with _user_namespace() as entered:
        done = subprocess.run(
            [*entered, *_emulated(), *command, SUITE, tree],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_S,
            check=False,
        )
    if done.returncode != 0:
        raise ChrootError(f"mmdebstrap failed:\n{done.stderr[-2000:]}")
