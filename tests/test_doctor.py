"""`parfocal doctor`: the command, and the guard that keeps one check from stopping the others."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_machine import Computer
from oracle import Parfocal

from edge import doctor
from edge.doctor.finding import Check, Finding, advice, error, joined, ok, warning
from edge.doctor.guard import isolated, told
from edge.doctor.machine import Machine

pytestmark = pytest.mark.usefixtures("state")


def direct(check: Any, limit_s: float) -> Finding:
    """A guard that runs the check here."""
    return told(check)


class TestGuard:
    def test_what_it_finds(self) -> None:
        assert isolated(lambda: ok("fine"), 5.0) == ok("fine")

    def test_what_it_raises(self) -> None:
        finding = isolated(lambda: 1 // 0 and ok(""), 5.0)
        assert finding.status == "error"
        assert finding.found.startswith("ZeroDivisionError")

    def test_a_crash(self) -> None:
        def crash() -> Finding:
            faulthandler.disable()  # pytest's, which would show where on the terminal
            os.write(2, b"libcamera: some noise\nmalloc(): corrupted\n")
            os.abort()

        finding = isolated(crash, 5.0)
        assert finding.status == "error"
        assert finding.found == "it took its process down (SIGABRT): malloc(): corrupted"

    def test_an_exit(self) -> None:
        assert "took its process down" in isolated(lambda: sys.exit(3), 5.0).found

    @pytest.mark.parametrize("stubborn", [False, True])
    def test_one_that_hangs(self, stubborn: bool, tmp_path: Path) -> None:
        def hang() -> Finding:
            if stubborn:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (tmp_path / "pid").write_text(str(os.getpid()), encoding="ascii")
            time.sleep(60)
            return ok("")

        begun_s = time.monotonic()
        assert isolated(hang, 0.3).found == "no answer in 0.3 s"
        assert time.monotonic() - begun_s < 5
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text("ascii")), 0)

    def test_an_interrupt_ends_the_check_too(self, tmp_path: Path) -> None:
        def hang() -> Finding:
            (tmp_path / "pid").write_text(str(os.getpid()), encoding="ascii")
            for _ in range(20):  # what a signal raises in the middle of a fork is lost
                time.sleep(0.5)
                os.kill(os.getppid(), signal.SIGINT)
            return ok("")

        with pytest.raises(KeyboardInterrupt):
            isolated(hang, 30.0)
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text("ascii")), 0)

    def test_what_libraries_say_is_not_shown(self, capfd: pytest.CaptureFixture[str]) -> None:
        def talk() -> Finding:
            os.write(1, b"out")
            os.write(2, b"err")
            return ok("said")

        assert isolated(talk, 5.0) == ok("said")
        assert capfd.readouterr() == ("", "")


class TestFindings:
    def test_joined(self) -> None:
        both = joined([ok("a"), error("b", "x"), warning("c", "x"), warning("d", "y")])
        assert both == Finding("error", "a; b; c; d", "x; y")

    def test_advice(self) -> None:
        assert advice("no pyserial: pip install pyserial", "") == "pip install pyserial"
        assert advice("install it: pip install ai-edge-litert (or tflite-runtime)", "") == (
            "pip install ai-edge-litert"
        )
        assert advice("no permission; join it: sudo usermod -aG video ada, then log in anew; or not", "") == (
            "sudo usermod -aG video ada, then log in anew"
        )
        assert advice("unplugged", "plug it in") == "plug it in"


class TestCommand:
    @pytest.fixture
    def found(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """The checks that there are."""
        machine: dict[str, Any] = {"board": (lambda machine: ok("a PC"), 1.0)}
        needing: dict[str, Any] = {"camera": (lambda machine, config: warning("none", "buy one"), 1.0)}
        monkeypatch.setattr(doctor, "OF_THE_MACHINE", machine)
        monkeypatch.setattr(doctor, "OF_THE_CONFIG", needing)
        return needing

    def test_json(self, parfocal: Parfocal, found: dict[str, Any]) -> None:
        code, out, err = parfocal("doctor", "--json")
        assert (code, err) == (0, "")
        said = json.loads(out)
        assert set(said) == {"version", "ok", "checks"}
        assert said["ok"] is True
        assert said["checks"][1:] == [
            {"name": "board", "status": "ok", "found": "a PC", "do": ""},
            {"name": "camera", "status": "warning", "found": "none", "do": "buy one"},
        ]

    def test_text(self, parfocal: Parfocal, found: dict[str, Any]) -> None:
        code, out, err = parfocal("doctor")
        assert (code, err) == (0, "")
        assert out.splitlines()[1:] == [
            "ok      board     a PC",
            "warning camera    none -> buy one",
            "1 warning",
        ]

    def test_an_error_does_not_stop_the_others(self, parfocal: Parfocal, found: dict[str, Any]) -> None:
        found["camera"] = (lambda machine, config: {}["no\nsuch"], 1.0)
        found["after"] = (lambda machine, config: ok("fine"), 1.0)
        code, out, _ = parfocal("doctor")
        assert code == 1
        lines = out.splitlines()
        assert lines[2].startswith(r"error   camera    KeyError: 'no\nsuch' -> ")
        assert lines[3:] == ["ok      after     fine", "1 error"]

    def test_a_wrong_config_is_a_finding(
        self, parfocal: Parfocal, found: dict[str, Any], tmp_path: Path
    ) -> None:
        file = tmp_path / "wrong.toml"
        file.write_text("[camera]\ndriver = 'eyes'\n", encoding="utf-8")
        code, out, _ = parfocal("doctor", "--config", file, "--json")
        checks = json.loads(out)["checks"]
        assert code == 1
        assert [check["name"] for check in checks] == ["config", "board"]
        assert '[camera] driver = "eyes"' in checks[0]["found"]

    def test_a_library_that_does_not_import(
        self, parfocal: Parfocal, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "edge.config", None)
        code, out, _ = parfocal("doctor")
        assert code == 1
        assert out.startswith("error   config    ModuleNotFoundError")
        assert "ok      board" in out

    def test_every_check_on_a_bare_machine(self, computer: Computer, clock: object) -> None:
        """Nothing is connected and nothing installed: every check still says something, on one line."""
        checks = doctor.examine(computer.machine(), None, guard=direct)
        assert [check.name for check in checks] == ["config", *doctor.OF_THE_MACHINE, *doctor.OF_THE_CONFIG]
        assert all(check.found and "\n" not in check.found + check.do for check in checks)
        assert all(bool(check.do) == (check.status != "ok") for check in checks)
        assert not [check for check in checks if "Error: " in check.found]

    def test_here_in_a_process_of_its_own(self, tmp_path: Path) -> None:
        code = "import sys; from edge.cli import main; sys.exit(main())"
        begun_s = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code, "doctor"],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii", "STATE_DIRECTORY": str(tmp_path)},
            timeout=60,
            check=False,
        )
        assert done.stderr == b""
        assert b"\x1b" not in done.stdout, "colours, and nobody to see them"
        assert done.stdout.isascii()
        assert len(done.stdout.splitlines()) == 2 + len(doctor.OF_THE_MACHINE) + len(doctor.OF_THE_CONFIG)
        assert time.monotonic() - begun_s < 30


def test_a_check_as_json() -> None:
    check = Check("disk", "ok", "1 MB", "")
    assert check.as_dict() == {"name": "disk", "status": "ok", "found": "1 MB", "do": ""}


def test_a_command_that_is_not_there() -> None:
    assert Machine().run(["no-such-command-as-this"], 1.0).code is None
    assert Machine().run(["sleep", "5"], 0.05).err == "no answer in 0.05 s"
    assert Machine().run([sys.executable, "-c", "print(1)"], 30.0).out == "1\n"
