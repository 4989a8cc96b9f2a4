"""`parfocal serve` as a process: signals, the second start, and what is refused before anything moves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from oracle import Parfocal
from ports import free_port

PATIENCE_S = 90.0
FAST = '[simulator]\nspecimen = "debris"\n[camera]\nframe_period_s = 0.02\n'


@contextmanager
def serving(folder: Path, *, text: str = "") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command on the simulated rig, with its port; killed at the end where it still runs."""
    port = free_port()
    config = folder / "scope.toml"
    config.write_text(f"[api]\nport = {port}\n{FAST}{text}")
    command = [sys.executable, "-m", "edge.cli", "serve", "--config", str(config)]
    environment = {**os.environ, "STATE_DIRECTORY": str(folder / "state"), "JOURNAL_STREAM": ""}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process, port
    finally:
        process.kill()
        process.communicate()


def status(port: int) -> dict[str, Any]:
    """What the service says, waited for."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=PATIENCE_S) as reply:
                found: dict[str, Any] = json.load(reply)
                return found
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.01)
    raise AssertionError("the page never came")


def until(port: int, state: str, run: int | None = None) -> dict[str, Any]:
    """Wait for ``state``, after run number ``run``; the status then."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        found = status(port)
        if found["state"] == state and (run is None or (found["last"] or {}).get("run") == run):
            return found
        time.sleep(0.01)
    raise AssertionError(f"never {state}: {found}")


def test_boot_signal_second_start_and_the_end(
    tmp_path: Path, parfocal: Parfocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as (process, port):
        assert until(port, "in_focus")["last"]["by"] == "boot"
        process.send_signal(signal.SIGUSR1)
        assert until(port, "in_focus", run=2)["last"]["by"] == "signal"

        monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
        code, _, err = parfocal("serve", "--config", tmp_path / "scope.toml")
        assert code == 2
        assert err == (
            f"parfocal: parfocal serve runs already (process {process.pid}) and alone has camera and motor:"
            " ask it on its page, or stop it first\n"
        )
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert "Traceback" not in err
        assert err.endswith("stopped\n")
    assert len(list((tmp_path / "state" / "runs").glob("run-*.json"))) == 2


def test_ctrl_c_ends_it_in_mid_move(tmp_path: Path) -> None:
    with serving(tmp_path, text="[service]\nboot_focus = false\n") as (process, port):
        until(port, "ready")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/jog", b'{"um": 140}', {"content-type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=PATIENCE_S).close()
        until(port, "moving")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        assert "z: stopped at" in err


class TestRefused:
    """One line, exit code 2, and nothing has moved."""

    @pytest.fixture(autouse=True)
    def _state(self, state: Path) -> None:
        pass

    def _line(self, parfocal: Parfocal, folder: Path, text: str) -> str:
        (folder / "scope.toml").write_text(text)
        code, out, err = parfocal("serve", "--config", folder / "scope.toml")
        assert (code, out, err.count("\n")) == (2, "", 1), err
        return err

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('[api]\nhost = "0.0.0.0"\n', "[api] host = 0.0.0.0: beyond this computer only with a token"),
            ('[api]\nhost = "256.0.0.1"\n', "[api] 256.0.0.1 port 8080: cannot listen there"),
            ("[api]\nport = 0\n", "[api] port = 0: a whole number from 1 to 65535 is allowed"),
            ('[service]\nfocus_at = "25:00"\n', "times from 00:00 to 23:59"),
            ('[api]\ntoken_file = "/nowhere/token"\n', "[api] token_file /nowhere/token: cannot be read"),
            ('[stage]\ndriver = "uln2003"\n[camera]\ndriver = "simulated"\n', "[gpio] in1_pin is not set"),
        ],
    )
    def test_configuration(self, text: str, said: str, parfocal: Parfocal, tmp_path: Path) -> None:
        assert said in self._line(parfocal, tmp_path, text)

    def test_a_port_in_use(self, parfocal: Parfocal, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert "Address already in use" in self._line(parfocal, tmp_path, f"[api]\nport = {port}\n")

    @pytest.mark.parametrize("token", ["", "short", "x" * 10 + " " + "y" * 20, "two\n" + "x" * 30])
    def test_a_token_that_will_not_do(self, token: str, parfocal: Parfocal, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(token)
        line = self._line(parfocal, tmp_path, f'[api]\ntoken_file = "{tmp_path}/token"\n')
        assert "one line of at least 22 characters is allowed" in line

    def test_without_the_extra(
        self, parfocal: Parfocal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edge.service.command.find_spec", lambda name: None)
        assert "the page needs fastapi, uvicorn: pip install 'parfocal[serve]'" in self._line(
            parfocal, tmp_path, ""
        )

    def test_a_model_that_is_not_one(self, parfocal: Parfocal, tmp_path: Path) -> None:
        (tmp_path / "m.tflite").write_text("no")
        assert "m.tflite" in self._line(parfocal, tmp_path, f'[model]\npath = "{tmp_path}/m.tflite"\n')
