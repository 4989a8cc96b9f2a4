"""`parfocal move`, `home` and `snap`, on the simulated rig and on a motor with fake pins."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_gpio import FakeGpio
from oracle import Parfocal

CONFIG = """
[stage]
driver = "uln2003"
settle_s = 0.0
um_per_step = 1.0
backlash_steps = 5
limit_low_um = -100
limit_high_um = 100
max_rate_steps_s = 5000
start_rate_steps_s = 5000
home = "low"
home_um = -100

[gpio]
in1_pin = 17
in2_pin = 18
in3_pin = 27
in4_pin = 22
low_limit_pin = 5
"""


class Terminal(io.StringIO):
    """A terminal with somebody who types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, FakeGpio]:
    """A configuration file, and the pins of its motor; the low switch is far away."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    gpio = FakeGpio()
    gpio.setmode(gpio.BCM)
    gpio.pull[5] = lambda: 0
    monkeypatch.setattr("firmware_iface.gpio.load", lambda: gpio)
    path = tmp_path / "scope.toml"
    path.write_text(CONFIG)
    return path, gpio


class TestMove:
    def test_there_and_remembered(self, parfocal: Parfocal, scope: tuple[Path, FakeGpio]) -> None:
        path, gpio = scope
        code, out, _ = parfocal("move", "+20", "--config", path)
        assert (code, out) == (0, "moved +20.000 µm: the stage stands at 20.000 µm\n")
        code, out, _ = parfocal("move", "-7", "--config", path)
        assert (code, out) == (0, "moved -7.000 µm: the stage stands at 13.000 µm\n")
        assert gpio.directions == {}
        assert not any(gpio.levels[pin] for pin in (17, 18, 22, 27)), "coils off at the end"

    def test_far_asks_first(
        self, parfocal: Parfocal, scope: tuple[Path, FakeGpio], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, gpio = scope
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
        code, _, err = parfocal("move", "60", "--config", path)
        assert code == 2
        assert "add --yes" in err
        monkeypatch.setattr("sys.stdin", Terminal("n\n"))
        code, _, err = parfocal("move", "60", "--config", path)
        assert code == 2
        assert "nothing was moved" in err
        assert not any(edge.level for edge in gpio.edges), "nothing was energised"
        monkeypatch.setattr("sys.stdin", Terminal("y\n"))
        assert parfocal("move", "60", "--config", path)[0] == 0
        code, out, _ = parfocal("move", "-60", "--yes", "--config", path)
        assert (code, out) == (0, "moved -60.000 µm: the stage stands at 0.000 µm\n")

    @pytest.mark.parametrize("distance", ["101", "nan", "up", "1e400"])
    def test_not_allowed(self, parfocal: Parfocal, scope: tuple[Path, FakeGpio], distance: str) -> None:
        path, gpio = scope
        code, out, err = parfocal("move", distance, "--yes", "--config", path)
        assert code == 2
        assert out == ""
        assert err.count("\n") == 1
        assert _half_steps(gpio) == 0

    def test_simulated(self, parfocal: Parfocal) -> None:
        code, out, err = parfocal("move", "10", "--rig", "simulated")
        assert code == 0
        assert "no hardware is used" in err
        assert "stands at 9.982 µm" in out, "the step nearest to it"

    def test_no_driver(self, parfocal: Parfocal) -> None:
        code, _, err = parfocal("move", "10")
        assert code == 2
        assert '[stage] driver = "none"' in err


class TestHome:
    def test_found(self, parfocal: Parfocal, scope: tuple[Path, FakeGpio]) -> None:
        path, gpio = scope

        def screw() -> int:
            return _half_steps(gpio)

        gpio.pull[5] = lambda: int(screw() <= -40)
        code, out, err = parfocal("home", "--yes", "--config", path)
        assert code == 0, err
        assert "home found" in out
        assert screw() > -40, "it stands off the switch"
        place = float(out.split("stands at ")[1].split()[0])
        assert place == pytest.approx(-100 + screw() + 40, abs=2), "the switch is at home_um"

    def test_is_confirmed(
        self, parfocal: Parfocal, scope: tuple[Path, FakeGpio], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        code, _, err = parfocal("home", "--config", scope[0])
        assert code == 2
        assert "low limit switch: not without a confirmation" in err

    def test_no_switch_named(self, parfocal: Parfocal, scope: tuple[Path, FakeGpio]) -> None:
        path, _ = scope
        path.write_text(CONFIG.replace('home = "low"', ""))
        code, _, err = parfocal("home", "--yes", "--config", path)
        assert code == 2
        assert '[stage] home = "none"' in err


class TestSnap:
    def test_simulated(self, parfocal: Parfocal, tmp_path: Path) -> None:
        code, out, _ = parfocal("snap", tmp_path / "a.png", "--rig", "simulated")
        assert code == 0
        assert "a.png: 384 x 384, mean " in out
        image = cv2.imread(str(tmp_path / "a.png"))
        assert image is not None
        assert image.shape == (384, 384, 3)
        assert np.ptp(image) > 20

    @pytest.mark.parametrize("name", ["a.jpg", "no-such-folder/a.png", "."])
    def test_a_place_that_cannot_be_written(self, parfocal: Parfocal, tmp_path: Path, name: str) -> None:
        code, _, err = parfocal("snap", tmp_path / name, "--rig", "simulated")
        assert code == 2
        assert err.count("\n") == 1

    def test_no_driver(self, parfocal: Parfocal, tmp_path: Path) -> None:
        code, _, err = parfocal("snap", tmp_path / "a.png")
        assert code == 2
        assert '[camera] driver = "none"' in err
        assert list(tmp_path.iterdir()) == []


def _half_steps(gpio: FakeGpio) -> int:
    """Where the rotor is, from the record of its coils alone."""
    table = [{17}, {17, 18}, {18}, {18, 27}, {27}, {27, 22}, {22}, {22, 17}]
    on: set[int] = set()
    place, phase = 0, 0
    for edge in gpio.edges:
        if edge.pin not in (17, 18, 27, 22):
            continue
        (on.add if edge.level else on.discard)(edge.pin)
        if on in table and (moved := (table.index(on) - phase + 4) % 8 - 4):
            place, phase = place + moved, table.index(on)
    return place
