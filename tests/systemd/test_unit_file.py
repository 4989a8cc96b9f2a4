"""The unit as systemd's own tools read it. No container: they need no running systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = SYSTEMD / "parfocal.service"
#: systemd's measure of what a service may do beyond what it should: 10 is everything, 0 nothing.
MOST_EXPOSURE = 1.8
#: What a driver needs of devices, by its class in /proc/devices.
DEVICES = ("gpiochip", "video4linux", "media", "dma_heap", "ttyUSB", "ttyACM")

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze (apt install systemd)"
)


def _with_a_program(folder: Path) -> Path:
    """The unit with a program that is here in the place of the one that is not installed."""
    text, count = re.subn(
        r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text("utf-8"), flags=re.MULTILINE
    )
    assert count == 1
    (folder / UNIT.name).write_text(text, encoding="utf-8")
    return folder / UNIT.name


def _analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


def _values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text("utf-8"), flags=re.MULTILINE)


@needs_systemd
def test_nothing_to_complain_of(tmp_path: Path) -> None:
    done = _analyze("verify", _with_a_program(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
def test_a_misspelt_key_would_be_told(tmp_path: Path) -> None:
    unit = _with_a_program(tmp_path)
    unit.write_text(unit.read_text("utf-8").replace("WatchdogSec=", "WatchdogSecs="), encoding="utf-8")
    assert "WatchdogSecs" in _analyze("verify", unit).stderr


@needs_systemd
@pytest.mark.parametrize("board", ["", "jetson.conf"])
def test_exposure(tmp_path: Path, board: str) -> None:
    unit = _with_a_program(tmp_path)
    if board:
        drop_ins = tmp_path / "parfocal.service.d"
        drop_ins.mkdir()
        shutil.copy(SYSTEMD / board, drop_ins)
    limit = f"--threshold={int(10 * MOST_EXPOSURE)}"
    done = _analyze("security", "--offline=true", "--no-pager", limit, unit)
    assert done.returncode == 0, done.stdout
    found = re.search(r"Overall exposure level for parfocal\.service: ([0-9.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= MOST_EXPOSURE


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("WatchdogSec", "30"),
        ("KillMode", "mixed"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "2"),
        ("User", "parfocal"),
        ("StateDirectory", "parfocal"),
        ("LimitRTPRIO", "1"),
        ("DevicePolicy", "closed"),
    ],
)
def test_says(key: str, value: str) -> None:
    assert _values(key) == [value]


@pytest.mark.parametrize("kind", DEVICES)
def test_devices_of_the_drivers_can_be_opened(kind: str) -> None:
    assert f"char-{kind} rw" in _values("DeviceAllow")


def test_the_program_is_what_the_installer_links() -> None:
    (command,) = _values("ExecStart")
    assert command.startswith("/opt/parfocal/current/bin/parfocal serve --config /etc/parfocal/parfocal.toml")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck (apt install shellcheck)")
def test_the_installer_passes_shellcheck() -> None:
    scripts = sorted(SYSTEMD.glob("*.sh"))
    done = subprocess.run(
        ["shellcheck", "--external-sources", f"--source-path={SYSTEMD.parent}", *scripts],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
