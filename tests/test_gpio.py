"""The choice of the library, pins with one user each, and outputs that end at rest."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from fake_gpio import FakeGpio

from firmware_iface import gpio
from firmware_iface.errors import MotorError
from firmware_iface.gpio import Lines


@pytest.fixture(autouse=True)
def no_pin_left() -> Iterator[None]:
    yield
    assert not gpio._users


@pytest.fixture
def fake() -> FakeGpio:
    made = FakeGpio()
    made.setmode(made.BCM)
    return made


def _without_libraries(patch: pytest.MonkeyPatch) -> None:
    for name in ("RPi", "RPi.GPIO", "Jetson", "Jetson.GPIO"):
        patch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("model", "package"),
    [
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "RPi.GPIO"),
        ("Raspberry Pi 4 Model B Rev 1.4", "RPi.GPIO"),
        ("Raspberry Pi 5 Model B Rev 1.0", "rpi-lgpio"),
        ("Raspberry Pi Compute Module 5 Rev 1.0", "rpi-lgpio"),
        ("NVIDIA Jetson Nano Developer Kit", "Jetson.GPIO"),
        ("NVIDIA Orin NX Developer Kit", "Jetson.GPIO"),
    ],
)
def test_a_missing_library_is_named_for_the_board(
    model: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_libraries(monkeypatch)
    file = tmp_path / "model"
    file.write_bytes(model.encode() + b"\0")
    with pytest.raises(MotorError, match=rf"{model}.*pip install {package}$"):
        gpio.load(file)


def test_a_pc_is_told_that_it_has_no_board_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_libraries(monkeypatch)
    with pytest.raises(MotorError, match="this machine"):
        gpio.load(tmp_path / "absent")


@pytest.mark.parametrize(
    ("model", "module"), [("Raspberry Pi 5", "RPi.GPIO"), ("NVIDIA Jetson", "Jetson.GPIO"), ("", "RPi.GPIO")]
)
def test_the_boards_own_library_is_loaded(
    model: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_libraries(monkeypatch)
    fake = FakeGpio()
    monkeypatch.setitem(sys.modules, module.split(".", maxsplit=1)[0], ModuleType("parent"))
    monkeypatch.setitem(sys.modules, module, fake)
    file = tmp_path / "model"
    file.write_text(model)
    assert gpio.load(file) is fake
    fake.setup(17, fake.IN)


def test_a_library_that_refuses_the_board_is_replaced_by_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(FakeGpio):
        def setmode(self, mode: object, /) -> None:
            raise RuntimeError("Cannot determine SOC peripheral base address")

    monkeypatch.setitem(sys.modules, "RPi", ModuleType("RPi"))
    monkeypatch.setitem(sys.modules, "RPi.GPIO", Refusing())
    file = tmp_path / "model"
    file.write_text("Raspberry Pi 5 Model B")
    with pytest.raises(MotorError, match=r"peripheral base address.*rpi-lgpio"):
        gpio.load(file)


def test_two_users_of_one_pin(fake: FakeGpio) -> None:
    with Lines("motor of z", outputs={17: 0, 18: 0}, gpio=fake):
        before = list(fake.edges)
        with pytest.raises(MotorError, match=r"^lamp: pin 18 is used by motor of z already$"):
            Lines("lamp", outputs={4: 0}, inputs=[18], gpio=fake)
        assert fake.edges == before
        Lines("lamp", outputs={4: 0}, gpio=fake).close()
    Lines("lamp", outputs={18: 0}, gpio=fake).close()
    with pytest.raises(MotorError, match="twice"):
        Lines("lamp", outputs={5: 0}, inputs=[5], gpio=fake)


def test_a_refused_pin_gives_all_back(fake: FakeGpio) -> None:
    fake.refused = {18}
    with pytest.raises(MotorError, match="pin 18: GPIO busy"):
        Lines("motor of z", outputs={17: 0, 18: 0}, gpio=fake)
    assert not fake.directions


def test_close_brings_the_outputs_to_rest_first(fake: FakeGpio) -> None:
    fake.pull[5] = lambda: 1
    lines = Lines("motor of z", outputs={17: 0, 18: 1}, inputs=[5], gpio=fake)
    lines.write({17: 1, 18: 0})
    assert (lines.read(17), lines.read(18), lines.read(5)) == (1, 0, 1)
    lines.close()
    lines.close()
    assert (fake.levels[17], fake.levels[18]) == (0, 1)
    assert not fake.directions
    for again in (lambda: lines.write({17: 1}), lambda: lines.read(5)):
        with pytest.raises(MotorError, match="closed"):
            again()


def test_only_what_changes_is_written(fake: FakeGpio) -> None:
    with Lines("motor of z", outputs={17: 0, 18: 0}, gpio=fake) as lines:
        fake.edges.clear()
        lines.write({17: 1, 18: 0})
        lines.write({17: 1, 18: 1})
        lines.write({17: 1, 18: 1})
        assert [(edge.pin, edge.level) for edge in fake.edges] == [(17, 1), (18, 1)]


def test_pins_of_others_are_refused(fake: FakeGpio) -> None:
    with Lines("motor of z", outputs={17: 0}, gpio=fake) as lines:
        with pytest.raises(ValueError, match="pin 4"):
            lines.write({4: 1})
        with pytest.raises(ValueError, match="pin 4"):
            lines.read(4)
    with pytest.raises(ValueError, match="level 2"):
        Lines("motor of z", outputs={17: 2}, gpio=fake)
    with pytest.raises(ValueError, match="pin -1"):
        Lines("motor of z", outputs={-1: 0}, gpio=fake)
