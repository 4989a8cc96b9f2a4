"""In the container: what the host wants to know of installs, one after the other, as JSON lines.

    python3 guest.py life     into /mnt/host/life.jsonl: from the first install to the power cut
    python3 guest.py after    into /mnt/host/after.jsonl: after the next boot, to the last uninstall

A record: the installer's exit code and words, and what the computer looks like afterwards.
"""

from __future__ import annotations

import json
import os
import pty
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HOST = Path("/mnt/host")
BUNDLES = HOST / "bundles"
KEY = BUNDLES / "key.pub"
ETC = Path("/etc/parfocal")
STATE = Path("/var/lib/parfocal")
PREFIX = Path("/opt/parfocal")
UNIT = "parfocal.service"
PRISTINE = HOST / "pristine.json"
TRIAL = Path("/run/systemd/system/parfocal.service")
#: Where an installer may leave something.
WATCHED = ("/etc", "/opt", "/usr", "/var/lib", "/var/cache", "/run/systemd/system", "/run/parfocal")
#: Kept by the system itself, whoever installs what: backups of passwd, locks, the random seed, the clock.
_PASSING = (
    "/etc/passwd-",
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
    "/etc/.pwd.lock",
    "/var/lib/systemd",
)
_RUN_S = 90.0


class Book:
    """Writes the records."""

    def __init__(self, name: str) -> None:
        self._file = (HOST / f"{name}.jsonl").open("w", encoding="utf-8")

    def note(self, step: str, **told: Any) -> None:
        print(json.dumps({"step": step, **told}), file=self._file, flush=True)

    def install(self, step: str, version: str, *words: str, before: Sequence[str] = ()) -> None:
        """Run the installer of an unpacked bundle, and note how it ended and what there is now."""
        self.script(step, BUNDLES / version / "systemd" / "install.sh", *words, before=before)

    def script(
        self, step: str, script: Path, *words: str, before: Sequence[str] = (), typed: str | None = None
    ) -> None:
        """Run an installer; ``typed``: at a terminal, where this is typed."""
        began_s = time.monotonic()
        keyboard, terminal = pty.openpty()
        if typed is not None:
            os.write(keyboard, typed.encode())
        done = subprocess.run(
            [*before, script, *words],
            stdin=subprocess.DEVNULL if typed is None else terminal,
            capture_output=True,
            text=True,
            check=False,
        )
        os.close(keyboard)
        os.close(terminal)
        self.note(
            step,
            code=done.returncode,
            out=done.stdout,
            err=done.stderr,
            seconds=time.monotonic() - began_s,
            **facts(),
        )


def facts() -> dict[str, Any]:
    """What the computer looks like."""
    releases = PREFIX / "releases"
    return {
        "active": systemctl("is-active", UNIT),
        "enabled": systemctl("is-enabled", UNIT),
        "process": systemctl("show", "--property=MainPID", "--value", UNIT),
        "runs": running(),
        "releases": sorted(path.name for path in releases.iterdir()) if releases.is_dir() else [],
        "current": link(PREFIX / "current"),
        "previous": link(PREFIX / "previous"),
        "config": text(ETC / "parfocal.toml"),
        "token": text(ETC / "token"),
        "token_mode": mode(ETC / "token"),
        "journal": text(STATE / "mine.journal"),
        "trial": TRIAL.exists(),
        "denied": systemctl("show", "--property=IPAddressDeny", "--value", UNIT),
        "network": text(Path("/usr/local/lib/systemd/system/parfocal.service.d/20-network.conf")),
    }


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False).stdout.strip()


def running() -> str:
    """The folder of the release that the service runs from."""
    process = systemctl("show", "--property=MainPID", "--value", UNIT)
    try:
        words = Path("/proc", process, "cmdline").read_text().split("\0")
    except OSError:
        return ""
    return next((Path(word).parts[4] for word in words if word.startswith(f"{PREFIX}/releases/")), "")


def link(path: Path) -> str:
    return path.resolve().name if path.is_symlink() else ""


def text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def mode(path: Path) -> str:
    if not path.exists():
        return ""
    state = path.stat()
    return f"{state.st_mode & 0o777:o} {path.owner()}:{path.group()}"


def snapshot() -> dict[str, str]:
    """Each path that an installer may leave, with the text of the user tables and the owner of the rest."""
    found = {}
    for top in map(Path, WATCHED):
        for path in [top, *top.rglob("*")]:
            name = str(path)
            if not name.startswith(_PASSING) and os.path.lexists(path):
                found[name] = str(path.lstat().st_uid)
    for table in ("/etc/passwd", "/etc/group"):
        found[table] = Path(table).read_text()
    return found


def changes(before: dict[str, str], after: dict[str, str]) -> dict[str, list[str]]:
    return {
        "gone": sorted(before.keys() - after.keys()),
        "left": sorted(after.keys() - before.keys()),
        "changed": sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
    }


def wait(condition: Any, limit_s: float = 30.0) -> bool:
    """Whether ``condition()`` became true in time."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.1)
    return True


def ask(path: str) -> tuple[int, str]:
    """What the service's page answers: status and text."""
    request = urllib.request.Request(
        f"http://127.0.0.1:8080{path}",
        headers={"Authorization": f"Bearer {(ETC / 'token').read_text().strip()}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")[:2000]
    except OSError as error:
        return getattr(error, "code", 0), str(error)


def life(book: Book) -> None:
    """From nothing to a power cut in the middle of an upgrade."""
    before = snapshot()
    PRISTINE.write_text(json.dumps(before))
    refusals(book)
    book.note("after refusals", **changes(before, snapshot()))
    good = ("--bundle-key", str(KEY))
    book.install("broken first", "99.2.0", "--build", "simulated", *good)
    book.note("after broken first", **changes(before, snapshot()))
    (ETC / "parfocal.toml").unlink()
    ETC.rmdir()
    book.install("first", "first", "--build", "simulated", *good)
    service(book)
    walls(book)
    book.install("again", "first")
    (STATE / "mine.journal").write_text("a position\n")
    config = ETC / "parfocal.toml"
    mine = f'{config.read_text()}# my own line\n[api]\nhost = "0.0.0.0"\n'
    config.write_text(mine)
    book.script("network", PREFIX / "current/systemd/install.sh")
    os.chdir(BUNDLES)
    newer = ("--bundle", "99.1.0.tar")
    book.script("upgrade", PREFIX / "current/systemd/install.sh", *newer, "--build", "gcode-marlin")
    book.install("broken upgrade", "99.2.0")
    config.write_text(f"{mine}[stage]\nspeed = 3\n")
    book.install("config that nobody knows", "first")
    config.write_text(mine)
    book.install("other key", "other-key")
    cut(book)


def refusals(book: Book) -> None:
    """Each with one line and exit code 2, and nothing touched."""
    good = ("--bundle-key", str(KEY))
    book.install("no build", "first", *good)
    book.install("unknown build", "first", "--build", "none", *good)
    book.install("no trusted key", "first", "--build", "simulated")
    book.install("not root", "first", before=("setpriv", "--reuid=65534", "--clear-groups"))
    book.install("other board", "other-board", "--build", "simulated", *good)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", "/opt"], check=True)
    book.install("disk full", "first", "--build", "simulated", *good)
    subprocess.run(["umount", "/opt"], check=True)


def service(book: Book) -> None:
    """That the service works behind its walls: a run of the simulated microscope, the page, its devices."""
    log = ["journalctl", "--unit", UNIT, "--output", "cat", "--no-pager"]
    ran = wait(lambda: any((STATE / "runs").glob("run-*.json")), _RUN_S)
    results = [json.loads(path.read_text()) for path in sorted((STATE / "runs").glob("run-*.json"))]
    page, said = ask("/")
    book.note(
        "service",
        ran=ran,
        results=[result.get("result", result) for result in results],
        page=page,
        said=said,
        status=systemctl("show", "--property=StatusText", "--value", UNIT),
        log=subprocess.run(log, capture_output=True, text=True, check=True).stdout,
        restarts=systemctl("show", "--property=NRestarts", "--value", UNIT),
        user=pwd.getpwuid(
            Path("/proc", systemctl("show", "--property=MainPID", "--value", UNIT)).stat().st_uid
        )[0],
        numpy=subprocess.run(
            [PREFIX / "current/bin/python", "-c", "import numpy; print(numpy.__version__, numpy.__file__)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split(),
        exposure=subprocess.run(
            ["systemd-analyze", "security", "--no-pager", UNIT], capture_output=True, text=True, check=False
        ).stdout.splitlines()[-1],
    )


def walls(book: Book) -> None:
    """What a program may do inside the unit."""
    unit = Path("/usr/local/lib/systemd/system/parfocal.service").read_text()
    folder = Path("/usr/local/lib/probe")
    folder.mkdir()
    probe = Path(shutil.copy(HOST / "probe.py", folder))
    probe.chmod(0o644)
    for group in ("dialout", "root"):
        owned = folder / f"of-{group}"
        owned.touch(0o640)
        shutil.chown(owned, "root", group)
    changed = {"Type": "oneshot", "ExecStart": f"/usr/bin/python3 {probe}", "Restart": "no"}
    # What the filter of system calls refuses is told from what the kernel does.
    changed["SystemCallErrorNumber"] = "EUCLEAN"
    for key, value in changed.items():
        unit = re.sub(rf"^{key}=.*$", f"{key}={value}", unit, flags=re.MULTILINE)
    installed = Path("/run/systemd/system/probe.service")
    installed.write_text(unit)
    systemctl("daemon-reload")
    systemctl("start", "probe.service")
    log = ["journalctl", "--unit", "probe.service", "--output", "cat", "--no-pager"]
    book.note("walls", said=subprocess.run(log, capture_output=True, text=True, check=True).stdout)
    installed.unlink()
    shutil.rmtree(folder)
    systemctl("daemon-reload")


def cut(book: Book) -> None:
    """A version that never gets ready is tried: the installer is told to stop; then the power is cut."""
    installer = hanging()
    installer.terminate()
    book.note("terminated", code=installer.wait(), **facts())
    installer = hanging()
    os.killpg(installer.pid, signal.SIGKILL)
    installer.wait()
    book.note("cut", **facts())


def hanging() -> subprocess.Popen[bytes]:
    """An installer that waits for the version that never gets ready."""
    script = BUNDLES / "99.3.0" / "systemd" / "install.sh"
    quiet = subprocess.DEVNULL
    installer = subprocess.Popen([script], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    if not wait(lambda: TRIAL.exists() and "99.3.0" in running(), 300.0):
        raise TimeoutError("the installer never came to try the version that hangs")
    return installer


def after(book: Book) -> None:
    """The boot after the power cut, a rerun, and the ends: uninstall and purge."""
    wait(lambda: systemctl("is-active", UNIT) in ("active", "failed"), 60.0)
    book.note("next boot", **facts())
    book.install("rerun", "99.1.0")
    before = snapshot()
    book.install("uninstall", "99.1.0", "--uninstall")
    now = snapshot()
    kept = [name for name in now if "parfocal" in name]
    book.note("after uninstall", **changes(before, now), kept=kept, owner=mode(STATE))
    book.install("uninstall again", "99.1.0", "--uninstall")
    book.install("purge asks", "99.1.0", "--uninstall", "--purge")
    book.install("purge", "99.1.0", "--uninstall", "--purge", "--yes")
    book.note("after purge", **changes(json.loads(PRISTINE.read_text()), snapshot()))
    links = f"PIP_FIND_LINKS={BUNDLES / 'first' / 'wheels'} {BUNDLES / 'tools'}"
    tree = BUNDLES / "tree/systemd/install.sh"
    last = str(len(list((BUNDLES / "tree/edge/examples").glob("*.toml"))) + 1)  # simulated
    book.script("tree", tree, before=("env", "PIP_NO_INDEX=1", links), typed=f"{last}\n")
    book.script("tree again", tree)
    book.script("removed", PREFIX / "current/systemd/install.sh", "--uninstall", "--purge", "--yes")
    book.note("after removed", **changes(json.loads(PRISTINE.read_text()), snapshot()))


if __name__ == "__main__":
    {"life": life, "after": after}[sys.argv[1]](Book(sys.argv[1]))
