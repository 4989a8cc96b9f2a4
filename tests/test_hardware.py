"""From a configuration to its hardware: pins and boards are opened as written, or refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emulators.board import Pty
from emulators.gcode import Marlin
from emulators.sangaboard import Sangaboard
from fake_gpio import FakeGpio

from edge import hardware
from edge.config import Config, load_config, override, parse_config
from edge.errors import ConfigError, InputError
from firmware_iface.clock import RealClock, VirtualClock
from firmware_iface.errors import MotorError
from firmware_iface.journal import Journal
from firmware_iface.step_dir import StepDirAxis
from firmware_iface.uln2003 import Uln2003Axis

pytestmark = pytest.mark.usefixtures("state")

EXAMPLES = sorted((Path(hardware.__file__).parent / "examples").glob("*.toml"))
COILS = {"in1_pin": 17, "in2_pin": 18, "in3_pin": 27, "in4_pin": 22}
STEP_DIR = {"step_pin": 23, "dir_pin": 24, "enable_pin": 25}


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch) -> FakeGpio:
    """The GPIO library of this board."""
    fake = FakeGpio()
    fake.setmode(fake.BCM)
    monkeypatch.setattr("firmware_iface.gpio.load", lambda: fake)
    return fake


def config(driver: str, **sections: dict[str, Any]) -> Config:
    sections["stage"] = {"driver": driver, **sections.get("stage", {})}
    return override(Config(), "test", **sections)


class TestPins:
    def test_uln2003(self, pins: FakeGpio) -> None:
        with hardware.open_axis(config("uln2003", gpio=COILS), VirtualClock()) as axis:
            assert isinstance(axis, Uln2003Axis)
            assert sorted(pins.directions) == [17, 18, 22, 27]
        assert pins.directions == {}

    def test_nothing_is_energised_before_it_is_entered(self, pins: FakeGpio) -> None:
        axis = hardware.open_axis(config("uln2003", gpio=COILS), VirtualClock())
        assert not any(pins.levels.values())
        axis.close()
        axis = hardware.open_axis(config("drv8825", gpio=STEP_DIR), VirtualClock())
        assert pins.levels[25] == 1, "ENABLE is active low"
        axis.close()

    def test_step_dir_with_microsteps_and_switches(self, pins: FakeGpio) -> None:
        gpio = {**STEP_DIR, "ms1_pin": 16, "ms2_pin": 20, "ms3_pin": 21, "microsteps": 16}
        switches = {"low_limit_pin": 5, "high_limit_pin": 6, "stop_pin": 13, "pressed": "low"}
        pins.pull = dict.fromkeys((5, 6, 13), lambda: 0)
        with hardware.open_axis(config("drv8825", gpio={**gpio, **switches}), VirtualClock()) as axis:
            assert isinstance(axis, StepDirAxis)
            assert [pins.levels[pin] for pin in (16, 20, 21)] == [0, 0, 1]
            with pytest.raises(MotorError, match="stop button is pressed"):
                axis.start_move(1)

    @pytest.mark.parametrize(
        ("driver", "gpio", "says"),
        [
            ("none", {}, r'\[stage\] driver = "none"'),
            (
                "uln2003",
                {"in1_pin": 1, "in2_pin": 2},
                r"\[gpio\] in3_pin is not set: the driver uln2003 needs",
            ),
            ("a4988", {"step_pin": 1}, r"\[gpio\] dir_pin is not set"),
            ("uln2003", {**COILS, "in2_pin": 17}, r"\[gpio\] in2_pin = 17: is in1_pin already"),
            ("tmc2209", {**STEP_DIR, "stop_pin": 23}, r"\[gpio\] stop_pin = 23: is step_pin already"),
            ("a4988", {**STEP_DIR, "microsteps": 16}, r"\[gpio\].*microsteps = 16 without"),
            (
                "tmc2209",
                {**STEP_DIR, "ms1_pin": 1, "ms2_pin": 2, "microsteps": 1},
                r"\[gpio\].*a TMC2209 has 8, 16, 32, 64",
            ),
        ],
    )
    def test_refused(self, pins: FakeGpio, driver: str, gpio: dict[str, Any], says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            hardware.open_axis(config(driver, gpio=gpio), VirtualClock())
        assert pins.edges == []

    def test_a_pin_of_another_user(self, pins: FakeGpio) -> None:
        with (
            hardware.open_axis(config("uln2003", gpio=COILS), VirtualClock()),
            pytest.raises(MotorError, match="pin 17 is used by ULN2003"),
        ):
            hardware.open_axis(config("a4988", gpio={**STEP_DIR, "dir_pin": 17}), VirtualClock())

    def test_home_without_a_switch(self, pins: FakeGpio) -> None:
        settings = config("uln2003", gpio=COILS, stage={"home": "low"})
        with pytest.raises(ConfigError, match=r'low_limit_pin is not set: \[stage\] home = "low" needs'):
            hardware.open_axis(settings, VirtualClock())


class TestBoards:
    def test_sangaboard(self) -> None:
        clock = RealClock()
        with Pty(Sangaboard(clock, z=-70)) as pty:
            axis = hardware.open_axis(config("sangaboard", serial={"port": pty.device}), clock)
            with axis:
                assert axis.position_steps == -70

    def test_marlin(self) -> None:
        clock = RealClock()
        with Pty(Marlin(clock, steps_per_mm=400)) as pty:
            serial = {"port": pty.device, "steps_per_mm": 400}
            with hardware.open_axis(config("marlin", serial=serial), clock) as axis:
                assert axis.position_steps == 0
            with pytest.raises(MotorError, match=r"has 400 steps/mm.*800 are configured"):
                hardware.open_axis(config("marlin", serial={**serial, "steps_per_mm": 800}), clock)

    def test_no_such_port(self) -> None:
        with pytest.raises(MotorError, match="/dev/no-such-port: cannot open the serial port"):
            hardware.open_axis(config("sangaboard", serial={"port": "/dev/no-such-port"}), RealClock())

    def test_what_is_no_port(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for path in (tmp_path, tmp_path / "file"):
            with pytest.raises(MotorError, match="cannot open the serial port: not a serial port"):
                hardware.open_axis(config("sangaboard", serial={"port": str(path)}), RealClock())

    @pytest.mark.parametrize(
        ("driver", "serial", "says"),
        [
            ("sangaboard", {}, r"\[serial\] port is not set: the driver sangaboard needs port"),
            ("grbl", {"port": "/dev/x"}, r"\[serial\] steps_per_mm is not set"),
            ("klipper", {"port": "/dev/x"}, r"\[serial\] steps_per_mm is not set"),
        ],
    )
    def test_refused(self, driver: str, serial: dict[str, Any], says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            hardware.open_axis(config(driver, serial=serial), VirtualClock())


class TestStage:
    def test_the_position_is_remembered(self, pins: FakeGpio, state: Path) -> None:
        settings = config("uln2003", gpio=COILS, stage={"settle_s": 0.0})
        with hardware.open_stage(settings, RealClock()) as stage:
            stage.move_to_steps(30)
        assert (state / "stage.journal").is_file()
        with hardware.open_stage(settings, RealClock()) as stage:
            assert stage.position_steps == 30
            assert stage.uncertain is None

    def test_no_journal(self, pins: FakeGpio, state: Path) -> None:
        with hardware.open_stage(config("uln2003", gpio=COILS, stage={"journal": "none"}), RealClock()):
            assert not state.exists()

    def test_one_stage_one_driver(self, pins: FakeGpio, state: Path) -> None:
        state.mkdir()
        held = Journal(state / "stage.journal")
        try:
            with pytest.raises(MotorError, match="another"):
                hardware.open_stage(config("uln2003", gpio=COILS), RealClock())
            assert pins.directions == {}, "the pins are not even claimed"
        finally:
            held.close()

    def test_a_folder_that_cannot_be(self, pins: FakeGpio, state: Path) -> None:
        state.write_text("a file")
        with pytest.raises(InputError, match=r"\[stage\] journal .* cannot be kept"):
            hardware.open_stage(config("uln2003", gpio=COILS), RealClock())

    def test_the_journal_is_free_again_where_the_motor_does_not_open(self, state: Path) -> None:
        settings = config("sangaboard", serial={"port": "/dev/no-such-port"})
        for _ in range(2):
            with pytest.raises(MotorError, match="no-such-port"):
                hardware.open_stage(settings, RealClock())


class TestCamera:
    def test_none(self) -> None:
        with pytest.raises(ConfigError, match=r'\[camera\] driver = "none"'):
            hardware.open_camera(Config(), RealClock())

    @pytest.mark.parametrize("driver", ["picamera2", "gstreamer"])
    def test_a_number(self, driver: str) -> None:
        settings = override(Config(), "test", camera={"driver": driver, "device": "/dev/video0"})
        with pytest.raises(
            ConfigError, match=r'\[camera\] device = "/dev/video0": with .* number is allowed'
        ):
            hardware.open_camera(settings, RealClock())

    def test_the_motor_is_given_back_where_the_camera_does_not_open(self, pins: FakeGpio) -> None:
        settings = override(
            config("uln2003", gpio=COILS), "test", camera={"driver": "opencv", "device": "77"}
        )
        with pytest.raises(OSError, match="video77"):
            hardware.hardware_rig(settings)
        assert pins.directions == {}


class TestExamples:
    @pytest.fixture(params=EXAMPLES, ids=[file.stem for file in EXAMPLES])
    def example(self, request: pytest.FixtureRequest) -> Path:
        file: Path = request.param
        return file

    def test_is_a_configuration_of_hardware(self, example: Path) -> None:
        assert hardware.is_configured(load_config(example))

    def test_its_pins_are_complete(self, example: Path, pins: FakeGpio) -> None:
        settings = load_config(example)
        if settings.stage.driver not in hardware.GPIO_DRIVERS:
            with pytest.raises(MotorError, match="cannot open the serial port"):
                hardware.open_axis(settings, VirtualClock())
            return
        with hardware.open_axis(settings, VirtualClock()):
            assert set(pins.directions) <= set(range(28))

    def test_every_line_that_is_commented_out_is_allowed(self, example: Path) -> None:
        # A key such as "# home = "low"" becomes live when its user takes the # away.
        lines = [
            line[2:] if line.startswith("# ") and " = " in line.partition("#")[2][:24] else line
            for line in example.read_text(encoding="utf-8").splitlines()
        ]
        assert parse_config("\n".join(lines), source=example.name)

    def test_is_printed(self, example: Path, parfocal: Any) -> None:
        code, out, _ = parfocal("config", "--example", example.stem)
        assert code == 0
        assert parse_config(out, source="stdout") == load_config(example)


@pytest.fixture(autouse=True)
def no_pin_left(pins: FakeGpio) -> Iterator[None]:
    """Whatever a test did, its pins are inputs again."""
    yield
    assert pins.directions == {}
