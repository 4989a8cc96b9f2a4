"""The command line: exit codes, the keys of the JSON, what is said to whom. Bad input: test_bad_input."""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import json
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from oracle import Oracle, Parfocal

from edge import cli, model, outputs
from edge.camera.simulated import SimulatedCamera
from edge.errors import CameraError, InputError
from edge.microscope import Microscope
from firmware_iface.simulated import SimulatedAxis

ALWAYS = {
    "result",
    "reason",
    "method",
    "captures",
    "moves",
    "travel_um",
    "seconds",
    "position_um",
    "defocus_estimate_dof",
    "confidence",
    "sharpness_start",
    "sharpness_end",
}
TRUTH = {"true_defocus_um", "true_defocus_dof"}
REPLAY = {"plane", "plane_file"}


class TestFocus:
    def test_simulated(self, parfocal: Parfocal, network: Oracle) -> None:
        code, out, err = parfocal("focus", "--start-defocus-um", 25, "--seed", 1, "--json")
        result = json.loads(out)
        assert code == 0
        assert result["result"] == "focused"
        assert abs(result["true_defocus_dof"]) < 1
        assert result["sharpness_end"] > 10 * result["sharpness_start"]
        assert set(result) >= ALWAYS | TRUTH
        assert not set(result) & REPLAY
        assert result["rig"] == "simulated"
        assert err == "simulated rig: tissue, 25 µm past focus, seed 1; no hardware is used\n"

    def test_replay(self, parfocal: Parfocal, network: Oracle, stack: Path) -> None:
        code, out, err = parfocal("focus", "--stack", stack, "--start-plane", 1, "--json")
        result = json.loads(out)
        assert code == 0
        assert set(result) >= ALWAYS | TRUTH | REPLAY
        assert result["plane"] == 4
        assert result["plane_file"] == "plane004.png"
        assert err.startswith("replay of ")

    def test_replay_without_truth(
        self, parfocal: Parfocal, network: Oracle, stack: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        about = json.loads((stack / "about.json").read_text("utf-8"))
        (stack / "about.json").write_text(json.dumps({**about, "focus_z": None}), encoding="utf-8")
        blank = model.Look(None, network.centres, 0, np.zeros((0, 49)))
        monkeypatch.setattr(network, "look", lambda *given, **named: blank)
        code, out, _ = parfocal("focus", "--stack", stack, "--json")
        assert code == 3
        assert not set(json.loads(out)) & TRUTH
        assert json.loads(out)["confidence"] is None

    def test_says_what_was_assumed(self, parfocal: Parfocal, network: Oracle, stack: Path) -> None:
        rows = "".join(f"plane{k:03d}.png,{k}\n" for k in range(9))
        (stack / "planes.csv").write_text("file,z_plane\n" + rows, encoding="utf-8")
        (stack / "about.json").write_text('{"focus_z": 4}', encoding="utf-8")
        _, out, _ = parfocal("focus", "--stack", stack, "--step-um", 3.4, "--json")
        assumptions = json.loads(out)["assumptions"]
        assert any("3.4 µm apart" in line for line in assumptions)
        assert any("objective" in line for line in assumptions)
        assert any("pixel" in line for line in assumptions)
        _, out, _ = parfocal("focus", "--stack", stack, "--step-um", 3.4)
        assert out.count("assumed: ") == len(assumptions)

    def test_says_that_a_step_is_not_used(self, parfocal: Parfocal, network: Oracle, stack: Path) -> None:
        _, _, err = parfocal("focus", "--stack", stack, "--step-um", 2)
        assert "--step-um 2 is not used" in err

    def test_words_for_a_person(self, parfocal: Parfocal, network: Oracle) -> None:
        code, out, _ = parfocal("focus", "--specimen", "debris", "--start-defocus-um", -8, "--seed", 2)
        first, *rest = out.splitlines()
        assert code == 0
        assert first.startswith("in focus (")
        assert any("µm of travel" in line for line in rest)
        assert any(line.strip().startswith("truth ") for line in rest)

    def test_empty_field(self, parfocal: Parfocal, network: Oracle) -> None:
        code, out, _ = parfocal("focus", "--specimen", "empty", "--json")
        assert code == 3
        assert json.loads(out)["result"] == "no_specimen"

    def test_failed(self, parfocal: Parfocal, network: Oracle, tmp_path: Path) -> None:
        config = tmp_path / "parfocal.toml"
        config.write_text("[focus]\nsweep = false\nmax_looks = 1\nconfidence = 0.999\n", encoding="utf-8")
        code, out, _ = parfocal("focus", "--config", config, "--json")
        assert code == 4
        assert json.loads(out)["result"] == "failed"

    def test_a_seed_gives_the_same_run(self, parfocal: Parfocal, network: Oracle, tmp_path: Path) -> None:
        config = tmp_path / "rough.toml"
        config.write_text("[simulator]\nmissed_step_probability = 0.05\n", encoding="utf-8")
        words = ("focus", "--config", config, "--json", "--trace")
        runs = [parfocal(*words, tmp_path / f"{k}.json", "--seed", 7 if k < 2 else 8) for k in range(3)]
        assert runs[0] == runs[1]
        assert runs[0] != runs[2]
        assert (tmp_path / "0.json").read_bytes() == (tmp_path / "1.json").read_bytes()

    def test_writes_trace_and_picture(self, parfocal: Parfocal, network: Oracle, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib", reason="no matplotlib: the extra `plot` is not installed")
        trace, picture = tmp_path / "run.json", tmp_path / "run.png"
        code, *_ = parfocal("focus", "--trace", trace, "--plot", picture)
        assert code == 0
        assert json.loads(trace.read_text("utf-8"))["result"]["result"] == "focused"
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert sorted(tmp_path.iterdir()) == [trace, picture]

    def test_a_full_disk_costs_the_file_and_not_the_result(
        self, parfocal: Parfocal, network: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*given: object, **named: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(outputs, "write_trace", full)
        code, out, err = parfocal("focus", "--json", "--trace", tmp_path / "run.json")
        assert code == 1
        assert json.loads(out)["result"] == "focused"
        assert err.splitlines()[-1].startswith("parfocal: reading or writing failed: ")

    def test_an_error_on_the_way_releases_the_motor(self, parfocal: Parfocal, network: Oracle) -> None:
        network.error = CameraError("camera: unplugged")
        code, out, err = parfocal("focus", "--json")
        assert (code, out) == (4, "")
        assert err.splitlines()[-1] == "parfocal: camera: unplugged; the stage is back at 0.00 µm"
        assert network.rig is not None
        assert not vars(network.rig.stage)["_axis"].enabled

    def test_an_interrupt_releases_the_motor(self, parfocal: Parfocal, network: Oracle) -> None:
        network.error = KeyboardInterrupt()
        code, _, err = parfocal("focus")
        assert code == 130
        assert err.splitlines()[-1] == "parfocal: interrupted"
        assert network.rig is not None
        assert not vars(network.rig.stage)["_axis"].enabled


class TestCommands:
    def test_an_unknown_option_names_the_command_it_was_given_to(self, parfocal: Parfocal) -> None:
        code, out, err = parfocal("focus", "--strt-defocus-um", 5)
        assert (code, out) == (2, "")
        assert err == (
            "parfocal focus: unrecognized arguments: --strt-defocus-um 5 (see parfocal focus --help)\n"
        )

    def test_config(self, parfocal: Parfocal, tmp_path: Path, network: Oracle) -> None:
        code, out, _ = parfocal("config")
        assert code == 0
        (tmp_path / "all.toml").write_text(out, encoding="utf-8")
        assert parfocal("focus", "--config", tmp_path / "all.toml")[0] == 0
        code, out, _ = parfocal("config", "--reference")
        assert code == 0
        assert out.startswith("# Configuration")

    def test_version(self, parfocal: Parfocal) -> None:
        code, out, _ = parfocal("--version")
        assert code == 0
        assert out.startswith("parfocal ")

    @pytest.mark.parametrize(
        "words", [["--help"], *([name, "--help"] for name in ("focus", "simulate", "config"))]
    )
    def test_help(self, parfocal: Parfocal, words: list[str]) -> None:
        code, out, err = parfocal(*words)
        assert (code, err) == (0, "")
        assert out.startswith("usage: parfocal")

    def test_every_command_is_listed(self, parfocal: Parfocal) -> None:
        _, out, _ = parfocal("--help")
        assert all(name in out for name in cli.COMMANDS)

    def test_a_desktop_command_is_found_by_name(
        self, parfocal: Parfocal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _command(monkeypatch, lambda name, args: 40 + len(name))
        assert parfocal("train", "DATA")[0] == 45

    @pytest.mark.parametrize("missing", ["tensorflow", "keras.layers"])
    def test_a_missing_extra_is_one_line(
        self, parfocal: Parfocal, monkeypatch: pytest.MonkeyPatch, missing: str
    ) -> None:
        def work(name: str, args: argparse.Namespace) -> int:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

        _command(monkeypatch, work)
        code, _, err = parfocal("train", "DATA")
        assert code == 2
        assert len(err.splitlines()) == 1
        assert "pip install 'parfocal[train]'" in err

    def test_a_module_that_is_missing_is_one_line_too(
        self, parfocal: Parfocal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "train.train_command", None)
        code, _, err = parfocal("train", "DATA")
        assert code == 2
        assert "pip install 'parfocal[train]'" in err

    def test_a_bug_is_not_hidden(self, parfocal: Parfocal, monkeypatch: pytest.MonkeyPatch) -> None:
        def work(name: str, args: argparse.Namespace) -> int:
            raise ModuleNotFoundError("No module named 'edge.gone'", name="edge.gone")

        _command(monkeypatch, work)
        with pytest.raises(ModuleNotFoundError):
            parfocal("train", "DATA")

    def test_debug_shows_where(self, parfocal: Parfocal, monkeypatch: pytest.MonkeyPatch) -> None:
        def work(name: str, args: argparse.Namespace) -> int:
            raise InputError("no good")

        _command(monkeypatch, work)
        assert parfocal("train", "DATA")[2] == "parfocal: no good\n"
        monkeypatch.setenv("DEBUG", "1")
        assert "Traceback" in parfocal("train", "DATA")[2]


def _command(monkeypatch: pytest.MonkeyPatch, work: Callable[[str, argparse.Namespace], int]) -> None:
    """A desktop command `train` that takes one word and does ``work``."""
    module = types.ModuleType("train.train_command")
    module.__dict__.update(add_arguments=lambda name, parser: parser.add_argument("data"), run=work)
    monkeypatch.setitem(sys.modules, "train.train_command", module)


class TestProcess:
    """In a process of its own, as a user runs it."""

    def start(self, *words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        code = "import sys; from edge.cli import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", code, *words], text=True, timeout=60, stderr=subprocess.PIPE, **settings
        )

    def test_bad_input(self) -> None:
        done = self.start("focus", "--config", "no/such.toml", stdout=subprocess.PIPE)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "parfocal: no/such.toml: no such file\n"

    def test_output_that_takes_nothing(self) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full")
        with Path("/dev/full").open("w") as full:
            done = self.start("config", stdout=full)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr

    def test_version_loads_nothing_heavy(self) -> None:
        code = "import sys, edge.cli; assert not {'numpy', 'cv2', 'tensorflow', 'rich'} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_sigterm_releases_the_motor_and_says_so(
    parfocal: Parfocal, network: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[str] = []

    def killed(self: Microscope, **_: object) -> NoReturn:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("went on after SIGTERM")

    monkeypatch.setattr(Microscope, "focus", killed)
    monkeypatch.setattr(SimulatedAxis, "release", lambda self: released.append("coils off"))
    before = signal.getsignal(signal.SIGTERM)
    code, out, err = parfocal("focus")
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "parfocal: interrupted"
    assert "coils off" in released
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupt_that_a_library_swallows_stops_it_before_the_motor_has_current(
    parfocal: Parfocal, network: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow(*given: object, **named: object) -> Oracle:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        return network

    monkeypatch.setattr(model, "load", swallow)
    closed: list[str] = []
    monkeypatch.setattr(SimulatedAxis, "enable", lambda self: pytest.fail("the motor has current"))
    monkeypatch.setattr(SimulatedCamera, "close", lambda self: closed.append("camera"))
    assert parfocal("focus")[:2] == (130, "")
    assert closed == ["camera"], "what was opened by then is closed"


@pytest.mark.parametrize("name", ["focus", "serve"])
def test_loading_a_command_leaves_the_garbage_collector_on(name: str) -> None:
    assert gc.isenabled()
    cli.module_of(name)
    assert gc.isenabled()
    gc.disable()
    try:
        cli.module_of(name)
        assert not gc.isenabled(), "nor does it switch it on"
    finally:
        gc.enable()


def test_the_version_is_the_installed_one() -> None:
    assert cli.version() == metadata.version("parfocal")
