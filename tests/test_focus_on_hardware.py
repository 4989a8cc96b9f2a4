"""`parfocal focus` with a configuration that names hardware: a Sangaboard on a pseudo-terminal, real time."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from emulators.board import Pty
from emulators.sangaboard import Sangaboard
from fake_field import blurred_field
from oracle import Oracle, Parfocal

from edge import hardware
from edge.camera.simulated import SimulatedCamera
from edge.config import Config, load_config
from edge.simulator.sensor import Sensor
from firmware_iface.clock import Clock, RealClock

UM_PER_STEP = 0.062
FOCUS_STEPS = 90


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Oracle) -> tuple[Path, Pty]:
    """A configuration file and its board, under a camera whose frames follow the board's motor."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    board = Sangaboard(RealClock(), ramp_time_us=1000)

    def defocus_um() -> float:
        return (board.z - FOCUS_STEPS) * UM_PER_STEP

    def open_camera(config: Config, clock: Clock) -> SimulatedCamera:
        optics = config.optics.optics()
        return SimulatedCamera(
            blurred_field(),
            Sensor(),
            clock,
            lambda t_s: optics.dof_from_um(defocus_um()),
            seed=0,
            frame_period_s=0.005,
        )

    monkeypatch.setattr(hardware, "open_camera", open_camera)
    network.rig = SimpleNamespace(true_defocus_um=defocus_um)  # type: ignore[assignment]
    path = tmp_path / "scope.toml"
    pty = Pty(board)
    path.write_text(
        f'[stage]\ndriver = "sangaboard"\nbacklash_steps = 20\nsettle_s = 0.0\n'
        f'[serial]\nport = "{pty.device}"\n[camera]\ndriver = "opencv"\n'
        "[optics]\npixel_um = 0.344\n"
    )
    return path, pty


def test_focused_and_remembered(parfocal: Parfocal, scope: tuple[Path, Pty]) -> None:
    path, pty = scope
    with pty:
        code, out, err = parfocal("focus", "--config", path, "--json")
        result = json.loads(out)
        assert (code, result["result"], result["rig"]) == (0, "focused", "hardware"), err
        assert err == "hardware: sangaboard and opencv, 20x0.40\n"
        assert abs(pty.board.z - FOCUS_STEPS) * UM_PER_STEP < load_config(path).optics.optics().dof_um
        assert result["position_um"] == pytest.approx(pty.board.z * UM_PER_STEP)
        assert "true_defocus_um" not in result, "nobody knows it"
        assert pty.board.released, "coils off at the end"
        code, out, _ = parfocal("move", "-1", "--config", path)
        assert code == 0
        assert f"stands at {pty.board.z * UM_PER_STEP:.3f} µm" in out


def test_another_rig_can_still_be_asked_for(parfocal: Parfocal, scope: tuple[Path, Pty]) -> None:
    path, pty = scope
    with pty:
        code, _, err = parfocal("focus", "--config", path, "--specimen", "blood")
        assert (code, "--specimen has no meaning for the hardware rig" in err) == (2, True)
        assert pty.board.commands == []


def test_a_board_that_is_not_there(parfocal: Parfocal, scope: tuple[Path, Pty]) -> None:
    path, pty = scope
    pty.unplug()
    code, out, err = parfocal("focus", "--config", path)
    assert (code, out) == (4, "")
    assert "cannot open the serial port" in err
    assert err.count("\n") == 1
