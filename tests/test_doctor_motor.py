"""`parfocal doctor` on motors that are not here: pins, switches, serial boards, the journal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from emulators.board import Pty
from emulators.sangaboard import Sangaboard
from fake_gpio import FakeGpio
from fake_machine import COILS, Computer, uln2003

from edge.config import Config, override
from edge.doctor import motor
from edge.doctor.finding import ok
from firmware_iface.clock import RealClock
from firmware_iface.journal import Doubt, Journal, Record

pytestmark = pytest.mark.usefixtures("state")

STANDS = Record(
    position_steps=120,
    moving=None,
    axis_steps=120,
    closed_steps=0,
    focus_steps=None,
    doubt=None,
    um_per_step=0.0625,
)


class TestPins:
    @pytest.fixture
    def pins(self, monkeypatch: pytest.MonkeyPatch) -> FakeGpio:
        fake = FakeGpio()
        fake.setmode(fake.BCM)
        monkeypatch.setattr("firmware_iface.gpio.load", lambda *given: fake)
        return fake

    def test_not_used(self, computer: Computer) -> None:
        assert motor.gpio(computer.machine(), Config()).status == "warning"
        board = override(Config(), "test", stage={"driver": "sangaboard"})
        for check in (motor.gpio, motor.switches):
            assert check(computer.machine(), board) == ok('not used: [stage] driver = "sangaboard"')
        assert motor.serial(computer.machine(), uln2003()) == ok('not used: [stage] driver = "uln2003"')

    def test_pins_are_claimed_and_given_back_without_current(
        self, computer: Computer, pins: FakeGpio
    ) -> None:
        finding = motor.gpio(computer.machine(), uln2003())
        assert finding.status == "ok"
        assert "the pins of the uln2003 can be claimed" in finding.found
        assert {edge.pin for edge in pins.edges} == set(COILS.values())
        assert not any(edge.level for edge in pins.edges), "a coil was energised"
        assert pins.directions == {}

    def test_a_step_dir_driver_stays_disabled(self, computer: Computer, pins: FakeGpio) -> None:
        gpio = {"step_pin": 23, "dir_pin": 24, "enable_pin": 25}
        config = override(Config(), "test", stage={"driver": "drv8825"}, gpio=gpio)
        assert motor.gpio(computer.machine(), config).status == "ok"
        assert [edge.level for edge in pins.edges if edge.pin == 23 and edge.level] == [], "a step was made"
        assert all(edge.level for edge in pins.edges if edge.pin == 25), "ENABLE is active low"

    def test_a_pin_in_use(self, computer: Computer, pins: FakeGpio) -> None:
        pins.refused = {27}
        finding = motor.gpio(computer.machine(), uln2003())
        assert finding.status == "error"
        assert "pin 27" in finding.found
        assert pins.directions == {}

    def test_no_library(self, computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "RPi.GPIO", None)
        computer.put("/proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
        finding = motor.gpio(computer.machine(), uln2003())
        assert finding.status == "error"
        assert "no GPIO library for Raspberry Pi 5" in finding.found
        assert finding.do == "pip install rpi-lgpio"

    def test_a_missing_pin(self, computer: Computer, pins: FakeGpio) -> None:
        finding = motor.gpio(computer.machine(), uln2003(gpio={"in3_pin": None}))
        assert finding.status == "error"
        assert "[gpio] in3_pin is not set" in finding.found

    @pytest.mark.usefixtures("pins")
    def test_the_folder_of_lgpio(
        self, computer: Computer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setitem(sys.modules, "lgpio", type(sys)("lgpio"))
        monkeypatch.setenv("LG_WD", str(tmp_path))
        assert motor.gpio(computer.machine(), uln2003()).status == "ok"
        monkeypatch.setenv("LG_WD", str(tmp_path / "gone"))
        finding = motor.gpio(computer.machine(), uln2003())
        assert finding.status == "error"
        assert f"LG_WD {tmp_path / 'gone'} cannot be written" in finding.found

    def test_no_switches(self, computer: Computer) -> None:
        assert "none configured" in motor.switches(computer.machine(), uln2003()).found

    @pytest.mark.parametrize(
        ("pressed", "level", "status"), [("high", 0, "ok"), ("high", 1, "warning"), ("low", 0, "warning")]
    )
    def test_switches(
        self, computer: Computer, pins: FakeGpio, pressed: str, level: int, status: str
    ) -> None:
        pins.pull = {5: lambda: level, 13: lambda: level}
        config = uln2003(gpio={"low_limit_pin": 5, "stop_pin": 13, "pressed": pressed})
        finding = motor.switches(computer.machine(), config)
        assert finding.status == status
        word = "open" if status == "ok" else "pressed"
        assert finding.found == f"low limit switch (pin 5) {word}, stop button (pin 13) {word}"
        assert pins.edges == []
        assert pins.directions == {}


class TestSerial:
    def board(self, port: str) -> Config:
        return override(Config(), "test", stage={"driver": "sangaboard"}, serial={"port": port})

    def test_it_answers(self, computer: Computer) -> None:
        board = Sangaboard(RealClock(), z=-70)
        with Pty(board) as pty:
            computer.put(pty.device)
            finding = motor.serial(computer.machine(), self.board(pty.device))
            assert finding == ok(f"sangaboard on {pty.device} answers, at -70 steps")
            assert board.z == -70
            assert not any(command.startswith(("mr", "zero")) for command in board.commands)

    def test_no_such_port(self, computer: Computer) -> None:
        computer.put("/dev/ttyUSB0")
        computer.link("/dev/serial/by-id/usb-CH340", "../../ttyUSB0")
        finding = motor.serial(computer.machine(), self.board("/dev/ttyACM7"))
        assert finding.status == "error"
        assert finding.found == (
            "/dev/ttyACM7 does not exist; there is /dev/serial/by-id/usb-CH340, /dev/ttyUSB0"
        )

    def test_no_port_set(self, computer: Computer) -> None:
        config = override(Config(), "test", stage={"driver": "grbl"})
        finding = motor.serial(computer.machine(), config)
        assert finding.status == "error"
        assert "[serial] port is not set" in finding.found
        assert "there is no serial port" in finding.found

    def test_in_use(self, computer: Computer) -> None:
        port = str(computer.put("/dev/ttyACM0"))  # a plain file: it exists, and no serial port opens it
        inside = "/dev/ttyACM0"
        computer.put("/proc/99/comm", "ModemManager\n")
        computer.link("/proc/99/fd/4", inside)
        config = self.board(inside)
        finding = motor.serial(computer.machine(), config)
        assert Path(port).exists()
        assert finding.status == "error"
        assert "in use by ModemManager (pid 99)" in finding.found
        assert finding.do == "end that program first"


class TestJournal:
    @pytest.fixture
    def kept(self, state: Path) -> Iterator[Journal]:
        """The journal, in the hands of a process that drives the stage."""
        state.mkdir()
        journal = Journal(state / "stage.journal")
        journal.write(STANDS)
        yield journal
        journal.close()

    def test_none(self, computer: Computer) -> None:
        config = override(Config(), "test", stage={"journal": "none"})
        assert motor.journal(computer.machine(), config).status == "ok"

    def test_not_made_yet(self, computer: Computer, state: Path) -> None:
        finding = motor.journal(computer.machine(), Config())
        assert finding == ok(f"{state / 'stage.journal'} is made with the first move")
        assert not state.exists()
        finding = motor.journal(computer.machine(may_use=lambda path: False), Config())
        assert finding.status == "error"
        assert f"ada may not write in {state.parent}" in finding.found

    def test_new(self, computer: Computer, state: Path) -> None:
        state.mkdir()
        Journal(state / "stage.journal").close()
        assert motor.journal(computer.machine(), Config()).found.endswith(": no position yet")

    def test_a_position(self, computer: Computer, kept: Journal) -> None:
        kept.close()
        finding = motor.journal(computer.machine(), Config())
        assert finding == ok(f"{kept.path}: at 7.50 µm (120 steps)")

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"moving": (0, 120)}, "cut off in a move from 0 to 120 steps"),
            ({"doubt": Doubt("it was switched off", None, None, 0)}, "it was switched off"),
        ],
    )
    def test_uncertain(self, computer: Computer, kept: Journal, change: dict[str, Any], why: str) -> None:
        kept.write(replace(STANDS, **change))
        kept.close()
        finding = motor.journal(computer.machine(), Config())
        assert finding.status == "warning"
        assert f"(120 steps), uncertain: {why}" in finding.found.replace("it was cut", "cut")
        assert "within 50 µm" in finding.do

    def test_damaged(self, computer: Computer, state: Path) -> None:
        state.mkdir()
        (state / "stage.journal").write_bytes(b"a letter")
        finding = motor.journal(computer.machine(), Config())
        assert finding.status == "warning"
        assert "no position yet, uncertain: the file is not the journal of a stage" in finding.found
        assert (state / "stage.journal").read_bytes() == b"a letter"

    def test_no_file(self, computer: Computer, state: Path) -> None:
        (state / "stage.journal").mkdir(parents=True)
        assert motor.journal(computer.machine(), Config()).status == "error"

    @pytest.mark.usefixtures("kept")
    def test_a_stage_that_another_process_drives(
        self, computer: Computer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake = FakeGpio()
        monkeypatch.setattr("firmware_iface.gpio.load", lambda *given: fake)
        wired = uln2003(gpio={"low_limit_pin": 5})
        computer.put("/dev/ttyACM0")
        board = override(Config(), "test", stage={"driver": "sangaboard"}, serial={"port": "/dev/ttyACM0"})
        for finding in (
            motor.gpio(computer.machine(), wired),
            motor.switches(computer.machine(), wired),
            motor.serial(computer.machine(), board),
        ):
            assert finding.status == "warning"
            assert f"another process ({os.getpid()}) drives this stage" in finding.found
        assert fake.edges == []
        assert motor.journal(computer.machine(), wired).status == "warning"
