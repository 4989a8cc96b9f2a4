"""The service in a machine that boots: in focus by itself, and whatever happens to it.

Real systemd, the real unit, rpi-lgpio on kernel lines; the camera is simulated and sees what the motor on
those lines has moved.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import virtual_machine
from machines import need
from virtual_machine import Computer

from edge import rig
from edge.config import Config, override
from firmware_iface.clock import VirtualClock

Records = dict[str, dict[str, Any]]
LIMIT_S = 1500.0


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """What the jobs of three boots told, by what happened."""
    need("virtual machine", virtual_machine.missing())
    folder = tmp_path_factory.mktemp("machine")
    computer = Computer(folder)
    try:
        shutil.copytree(virtual_machine.TREE / "systemd", computer.folder / "systemd")
        _draw_the_field(computer.folder / "cache")
        computer.boot("install_service", 300.0)
        records = computer.boot("service_faults", LIMIT_S, cut="cut")
        records += computer.boot("after_the_cut", 400.0)
    finally:
        (folder / "disk.img").unlink()
    return {record["what"]: record for record in records}


def _draw_the_field(folder: Path) -> None:
    """The simulated camera's field, which would take an emulated processor minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARFOCAL_CACHE", str(folder))
        config = override(Config(), "test", simulator={"specimen": "debris"})
        rig.simulated_camera(config, VirtualClock(), lambda t_s: 0.0)


@pytest.mark.vm
@pytest.mark.timeout(3600)
class TestService:
    def test_boots_into_focus(self, story: Records, figures: list[str]) -> None:
        boot = story["boot"]
        assert boot["by"] == "boot"
        assert boot["result"]["result"] == "focused"
        assert abs(boot["result"]["true_defocus_dof"]) <= 1.0
        figures.append(
            f"service, emulated: from the kernel's start to the service's {boot['started_s']:.0f} s, to READY"
            f" {boot['ready_s']:.0f} s, to focus {boot['focus_s']:.0f} s"
        )

    def test_answers_on_its_page(self, story: Records) -> None:
        assert (story["api"]["status"], story["api"]["foreign"], story["api"]["far"]) == (200, 403, 422)
        assert story["api"]["user"] not in ("root", "0")

    def test_hears_the_button(self, story: Records) -> None:
        assert (story["button"]["by"], story["button"]["result"]) == ("button", "focused")

    def test_is_stopped_in_mid_move(self, story: Records, figures: list[str]) -> None:
        stop, after = story["stop"], story["after stop"]
        assert stop["levels"] == [0, 0, 0, 0]
        assert stop["result"] == "success"
        assert after["result"] == "focused"
        assert after["uncertain"] == 0, "the position was saved"
        figures.append(f"service: systemctl stop in mid-move took {stop['stopped_s']:.2f} s; position saved")

    def test_is_killed_in_mid_move(self, story: Records, figures: list[str]) -> None:
        killed = story["SIGKILL"]
        assert killed["low_until_running"], "coils off until it is in charge again"
        assert len(killed["said"]) == 1
        assert "uncertain" in killed["said"][0]
        assert killed["result"] == "focused"
        assert killed["uncertain"] is None, "the focus that it remembers was found again"
        figures.append(
            f"service: SIGKILL in mid-move: coils off after {killed['coils_off_s']:.3f} s;"
            f" {killed['said'][0]}"
        )

    def test_hangs(self, story: Records, figures: list[str]) -> None:
        assert story["hung"]["result"] == "focused"
        figures.append(
            f"service: hung: killed and started again {story['hung']['noticed_s']:.0f} s later (60 s allowed)"
        )

    def test_finds_the_disk_full(self, story: Records) -> None:
        full = story["full disk"]
        assert full["free_blocks"] < 16
        assert (full["result"], full["after_restart"]) == ("focused", "focused")
        assert full["kept"] >= full["kept_before"] > 0, "nothing is lost"
        assert story["room again"]["traces"][-1] > full["kept"]

    def test_has_its_plug_pulled_in_mid_move(self, story: Records, figures: list[str]) -> None:
        cut, after = story["cut"], story["boot after the cut"]
        assert after["result"]["result"] == "focused"
        assert abs(after["result"]["true_defocus_dof"]) <= 1.0
        assert len(after["said"]) == 1
        assert "uncertain" in after["said"][0]
        assert after["uncertain"] is None
        assert after["restarts"] == 0
        assert after["config"] == cut["config"]
        assert set(cut["traces"]) <= set(after["traces"]), "nothing is lost"
        figures.append(
            f"service: plug pulled at {cut['here_um']:.1f} µm in mid-move: {after['said'][0]}; in focus"
            f" {after['focus_s']:.0f} s after the next start, all {len(cut['traces'])} traces there"
        )
