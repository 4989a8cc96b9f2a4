"""`parfocal collect`: z-stacks about the focus, field after field, on the simulated rig."""

from __future__ import annotations

import errno
import io
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_calibration
import msgspec
import numpy as np
import pytest
from fake_gpio import FakeGpio
from oracle import Oracle, Parfocal

from edge import calibration, collect, collection, hardware, rig, zstack
from edge.calibration import Calibration
from edge.camera.base import Frame
from edge.camera.simulated import SimulatedCamera
from edge.collect_prompt import Prompt
from edge.config import Config, load_config, override
from edge.errors import InputError
from edge.record import plain
from edge.service import panel
from edge.zstack import ZStack
from firmware_iface.errors import MotorError
from firmware_iface.simulated import SimulatedAxis
from firmware_iface.stage import Stage

DOF_UM = 0.55 / 0.4**2
STEP_UM = 33 * 0.062
"""0.6 depths of field are 2.0625 µm: the nearest whole number of motor steps."""
FEW = ("--planes", 9, "--yes")
CARD = SimpleNamespace(name="oracle", flatbuffer_sha256="0" * 64)
HARDWARE = """
[stage]
driver = "marlin"
[serial]
port = "/dev/ttyACM0"
[camera]
driver = "opencv"
"""


class Terminal(io.StringIO):
    """A terminal with somebody who types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def network(network: Oracle, state: Path, monkeypatch: pytest.MonkeyPatch) -> Oracle:
    """The oracle, with what a model file says of itself; nothing is known of the microscope."""
    monkeypatch.setattr(Oracle, "card", CARD, raising=False)
    return network


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "slide7"


def about(field: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((field / "about.json").read_text("utf-8"))
    return found


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scope.toml"
    path.write_text(text, encoding="utf-8")
    return path


def true_focus_um(network: Oracle) -> float:
    """Where along the stage the last field is in focus; its slack is taken up."""
    assert network.rig is not None
    assert network.rig.true_defocus_um is not None
    return network.rig.stage.position_um - network.rig.true_defocus_um()


def sharpest_um(seed: int) -> float:
    """Where the field of ``seed`` is sharpest, by small steps up through the focus."""
    config = override(Config(), "test", simulator={"seed": seed})
    with rig.simulated_rig(config, start_defocus_um=20.0) as scope:
        seen = {}
        for place in range(-500, 0, 4):
            scope.stage.move_to_steps(place)
            frame = scope.camera.capture(scope.stage.last_motion_ended_s + 0.1)
            seen[scope.stage.position_um] = collect.sharpness(frame.image, scope.optics.model_scale)
        return max(seen, key=lambda z: seen[z])


def of_stage(stage: str) -> Calibration:
    """What was found of a microscope."""
    return fake_calibration.found(stage=stage)


def pressed_again_and_again(monkeypatch: pytest.MonkeyPatch, pin: int) -> FakeGpio:
    """Pins of which one has a button to ground that somebody plays with."""
    gpio = FakeGpio()
    gpio.setmode(gpio.BCM)
    gpio.pull[pin] = lambda: int(len(gpio.reads) % 12 < 6)
    monkeypatch.setattr("firmware_iface.gpio.load", lambda: gpio)
    monkeypatch.setattr(panel, "_POLL_S", 0.001)
    return gpio


def moves(network: Oracle) -> int:
    assert network.rig is not None
    return network.rig.stage.moves


def watch_planes(monkeypatch: pytest.MonkeyPatch, seen: Callable[[np.ndarray, float], float]) -> None:
    """Have ``seen(image, scale)`` measure the planes of a stack."""
    monkeypatch.setattr(collect, "sharpness", seen)


class TestOneField:
    def test_planes_about_the_focus(self, parfocal: Parfocal, network: Oracle, out: Path) -> None:
        code, said, _ = parfocal("collect", out, "--fields", 1)
        assert code == 0
        stack = ZStack.open(out / "field-001")
        stack.check()
        assert len(stack) == 21
        assert np.diff(stack.z_um) == pytest.approx(STEP_UM, abs=1e-5)
        assert stack.shape == (128, 128, 3)
        focus = true_focus_um(network)
        assert stack.focus_um == pytest.approx(focus, abs=0.15 * DOF_UM)
        assert about(stack.path)["focus_from"] == "theory"
        sharpest = about(stack.path)["sharpest_z"]
        assert sharpest == pytest.approx(sharpest_um(seed=1), abs=0.1 * DOF_UM)
        assert 0.5 * DOF_UM < abs(sharpest - focus) < 0.9 * DOF_UM, "decision 0003: it refracts, too"
        assert about(stack.path)["true_focus_z"] == pytest.approx(focus, abs=0.001 * DOF_UM)
        assert (
            stack.z_um[10] == about(stack.path)["loop_focus_z"] == pytest.approx(focus, abs=1.1 * DOF_UM)
        ), "the middle plane is where it focused"
        assert said.splitlines()[0] == (
            f"field-001: 21 planes of 2.05 µm, {stack.z_um[0]:.2f} to {stack.z_um[-1]:.2f} µm,"
            f" in focus by the wave theory at {stack.focus_um:.2f} µm"
        )
        assert said.splitlines()[1] == f"{out}: 1 of 1 fields, done"
        assert [path.name for path in out.iterdir()] == ["field-001"]

    def test_ends_where_it_is_sharp_with_the_motor_off(
        self, parfocal: Parfocal, network: Oracle, out: Path
    ) -> None:
        assert parfocal("collect", out, "--fields", 1, *FEW)[0] == 0
        assert network.rig is not None
        sharp_um = about(out / "field-001")["focus_z"]
        assert network.rig.stage.position_um == pytest.approx(sharp_um, abs=0.032)
        assert not vars(network.rig.stage)["_axis"].enabled

    def test_what_is_kept_of_it(self, parfocal: Parfocal, network: Oracle, out: Path) -> None:
        parfocal("collect", out, "--fields", 1, *FEW, "--name", "smear 3")
        found = about(out / "field-001")
        assert found["objective"] == "20x0.40"
        assert found["pixel_um"] == pytest.approx(0.55 / 0.4 / 4)
        assert found["wavelength_um"] == 0.55
        assert found["slide"] == "smear 3"
        assert found["model"] == vars(CARD) | {"name": "oracle"}
        assert found["step_um"] == pytest.approx(STEP_UM)
        assert found["step_dof"] == pytest.approx(STEP_UM / DOF_UM)
        assert (found["planes"], found["exposure_locked"], found["calibration"]) == (9, True, None)
        assert (found["stage"], found["um_per_step"], found["camera"]) == ("simulated", 0.062, "simulated")
        ends = found["sharpness"]
        assert ends["peak"] > 2 * max(ends["lowest_z"], ends["highest_z"])
        assert found["date"][:2] == "20"

    @pytest.mark.parametrize("other_way", [False, True])
    def test_the_calibration_is_that_of_its_rig(
        self, parfocal: Parfocal, network: Oracle, out: Path, other_way: bool
    ) -> None:
        """Not of the motor that is named, nor of another simulated one."""
        motor = toml(out.parent, HARDWARE + ("[simulator]\ninverted = true\n" if other_way else ""))
        calibration.write(of_stage("marlin"), load_config(motor))
        stages = {way: override(Config(), "test", simulator={"inverted": way}) for way in (False, True)}
        found = {
            way: fake_calibration.found(
                dof_per_step=(-1 if way else 1) * 0.062 / DOF_UM, stage=calibration.stage_identity(stage)
            )
            for way, stage in stages.items()
        }
        for way, stage in stages.items():
            calibration.write(found[way], stage)
        words = ("collect", out, "--fields", 1, *FEW, "--rig", "simulated", "--config", motor)
        assert parfocal(*words)[0] == 0
        kept = about(out / "field-001")["calibration"]
        assert kept == plain(found[other_way])

    def test_each_frame_waits_for_the_settling_that_was_measured(
        self, parfocal: Parfocal, network: Oracle, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = fake_calibration.found(dof_per_step=-0.062 / DOF_UM, settle_s=0.4, settle_s_sigma=0.0)
        config = toml(out.parent, "[simulator]\ninverted = true\n")
        calibration.write(found, load_config(config))
        waited: list[float] = []
        real = SimulatedCamera.capture

        def capture(self: SimulatedCamera, not_before_s: float) -> Frame:
            frame = real(self, not_before_s)
            assert network.rig is not None
            if network.rig.stage.moves:
                waited.append(frame.exposure_start_s - network.rig.stage.last_motion_ended_s)
            return frame

        monkeypatch.setattr(SimulatedCamera, "capture", capture)
        assert parfocal("collect", out, "--fields", 1, *FEW, "--config", config)[0] == 0
        assert len(waited) > 9
        assert min(waited) >= 0.4
        assert about(out / "field-001")["stage"] == "simulated inverted"

    def test_it_replays(self, parfocal: Parfocal, network: Oracle, out: Path) -> None:
        parfocal("collect", out, "--fields", 1, *FEW)
        words = ("focus", "--rig", "replay", "--stack", out / "field-001", "--start-plane", 1, "--json")
        code, said, _ = parfocal(*words)
        result = json.loads(said)
        assert code == 0
        assert abs(result["true_defocus_dof"]) < 1
        assert result["assumptions"] == [], "the stack says all that there is to know"

    @pytest.mark.parametrize("approach", ["positive", "negative"])
    @pytest.mark.parametrize("compensation", ["one-sided", "on-reversal"])
    def test_slack_has_no_part_in_the_distances(
        self,
        parfocal: Parfocal,
        network: Oracle,
        out: Path,
        monkeypatch: pytest.MonkeyPatch,
        approach: str,
        compensation: str,
    ) -> None:
        places: list[tuple[float, float]] = []

        def seen(image: np.ndarray, scale: float) -> float:
            assert network.rig is not None
            places.append((network.rig.stage.position_um, true_focus_um(network)))
            return measured(image, scale)

        measured = collect.sharpness
        watch_planes(monkeypatch, seen)
        text = f'[stage]\napproach = "{approach}"\ncompensation = "{compensation}"\n'
        code, *_ = parfocal("collect", out, "--fields", 1, *FEW, "--config", toml(out.parent, text))
        assert code == 0
        at, focus = np.array(places).T
        assert np.ptp(focus) < 1e-3, "the true focus is at one place of the stage in all planes"
        assert (np.diff(at) > 0).all() if approach == "positive" else (np.diff(at) < 0).all()
        rows = (out / "field-001" / "planes.csv").read_text("utf-8").splitlines()[1:]
        assert [float(row.split(",")[1]) for row in rows] == pytest.approx(at.tolist())
        assert sorted(rows) == (rows if approach == "positive" else rows[::-1]), "named by rising z"

    def test_frames_are_settled_and_exposure_is_held(
        self, parfocal: Parfocal, network: Oracle, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done: list[str] = []
        monkeypatch.setattr(SimulatedCamera, "lock", lambda self: done.append("lock"))
        monkeypatch.setattr(SimulatedCamera, "unlock", lambda self: done.append("unlock"))
        capture = SimulatedCamera.capture

        def captured(self: SimulatedCamera, not_before_s: float) -> Any:
            frame = capture(self, not_before_s)
            if network.rig is not None and network.rig.stage.moves:
                done.append("frame")
                assert frame.exposure_start_s >= network.rig.stage.last_motion_ended_s + 0.1
            return frame

        monkeypatch.setattr(SimulatedCamera, "capture", captured)
        assert parfocal("collect", out, "--fields", 1, *FEW)[0] == 0
        assert done[-11:] == ["lock", *["frame"] * 9, "unlock"]

    def test_a_field_without_a_clear_peak_is_not_kept(
        self, parfocal: Parfocal, network: Oracle, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rising = iter(range(1, 100))
        watch_planes(monkeypatch, lambda image, scale: float(next(rising)))
        code, _, err = parfocal("collect", out, "--fields", 1, "--planes", 9)
        assert code == 4
        assert "field-001 is not recorded: the last plane is the sharpest: the focus may lie beyond it" in err
        assert not out.exists()
        assert network.rig is not None
        assert network.rig.true_defocus_um is not None
        assert abs(network.rig.true_defocus_um()) < DOF_UM, "back where the loop had left it"

    def test_a_pitch_that_nobody_knows(self, parfocal: Parfocal, network: Oracle, out: Path) -> None:
        config = toml(out.parent, "[simulator]\npitch_factor = 2.0\ninverted = true\n")
        assert parfocal("collect", out, "--fields", 1, *FEW, "--config", config)[0] == 0
        found = about(out / "field-001")
        assert found["gain"] == pytest.approx(-2.0, rel=0.3)
        assert network.rig is not None
        assert network.rig.true_defocus_um is not None
        focus = network.rig.stage.position_um + network.rig.true_defocus_um() / 2
        assert found["true_focus_z"] == pytest.approx(focus, abs=0.001)

    def test_a_motor_with_coarse_steps(self, parfocal: Parfocal, network: Oracle, out: Path) -> None:
        config = toml(out.parent, "[stage]\num_per_step = 3.0\nbacklash_steps = 5\n"
            "[simulator]\nbacklash_steps = 5\n")  # fmt: skip
        code, _, err = parfocal("collect", out, "--fields", 2, *FEW, "--config", config)
        assert code == 0
        assert np.diff(ZStack.open(out / "field-001").z_um) == pytest.approx(3.0)
        assert about(out / "field-001")["step_dof"] == pytest.approx(3 / DOF_UM)
        note = "planes are 0.87 depths of field apart: the motor's step of 3 µm allows no nearer to 0.6"
        assert err.splitlines() == [note], "said once"

    def test_as_json(self, parfocal: Parfocal, network: Oracle, out: Path) -> None:
        code, said, _ = parfocal("collect", out, "--fields", 2, *FEW, "--json")
        found = json.loads(said)
        assert code == 0
        assert (found["fields"], found["asked"], found["ended"]) == (2, 2, "done")
        assert [one["name"] for one in found["recorded"]] == ["field-001", "field-002"]
        assert found["recorded"][1]["focus_um"] == about(out / "field-002")["focus_z"]


class TestRoom:
    def config(self, tmp_path: Path, high_um: float) -> Path:
        """The focus lies 25 µm up."""
        return toml(tmp_path, f"[stage]\nlimit_high_um = {high_um}\n[simulator]\nstart_defocus_um = -20.0\n")

    def test_the_planes_that_find_room(
        self, parfocal: Parfocal, network: Oracle, out: Path, tmp_path: Path
    ) -> None:
        words = ("collect", out, "--fields", 1, "--config", self.config(tmp_path, 31.0))
        code, _, err = parfocal(*words)
        assert code == 0
        stack = ZStack.open(out / "field-001")
        assert 12 <= len(stack) < 21
        assert 31 - STEP_UM < stack.z_um[-1] <= 31
        assert stack.focus_um == pytest.approx(true_focus_um(network), abs=0.9 * DOF_UM)
        assert f"field-001: the limits left room for {len(stack)} of 21 planes" in err
        assert about(stack.path)["planes_asked"] == 21

    def test_too_near_a_limit(self, parfocal: Parfocal, network: Oracle, out: Path, tmp_path: Path) -> None:
        words = ("collect", out, "--fields", 1, "--config", self.config(tmp_path, 26.0))
        code, _, err = parfocal(*words)
        assert code == 4
        assert "is too near a limit: -137.58 to 25.98 µm can be reached" in err
        assert not out.exists()

    def test_more_planes_than_any_place_has_room_for(
        self, parfocal: Parfocal, network: Oracle, out: Path, tmp_path: Path
    ) -> None:
        code, _, err = parfocal("collect", out, "--fields", 1, "--planes", 201)
        assert code == 2
        assert err.count("\n") == 1
        assert "201 planes of 2.046 µm span 409.2 µm" in err
        assert moves(network) == 0
        assert not out.exists()


class TestGoingOn:
    def test_each_field_is_another(self, parfocal: Parfocal, network: Oracle, out: Path) -> None:
        assert parfocal("collect", out, "--fields", 1, *FEW)[0] == 0
        first = {path: path.stat().st_mtime_ns for path in (out / "field-001").iterdir()}
        code, said, _ = parfocal("collect", out, "--fields", 3, *FEW)
        assert code == 0
        assert said.splitlines()[-1] == f"{out}: 3 of 3 fields, done"
        assert sorted(path.name for path in out.iterdir()) == ["field-001", "field-002", "field-003"]
        assert {path: path.stat().st_mtime_ns for path in (out / "field-001").iterdir()} == first
        assert [about(out / f"field-00{k}")["seed"] for k in (1, 2, 3)] == [1, 2, 3]
        middles = [ZStack.open(out / f"field-00{k}").load(4) for k in (1, 2, 3)]
        assert all((middles[a] != middles[b]).mean() > 0.5 for a, b in ((0, 1), (0, 2), (1, 2)))
        network.rig = None
        for asked, told in ((3, "3 of 3"), (2, "3 (2 asked for)")):
            code, said, _ = parfocal("collect", out, "--fields", asked)
            assert code == 0
            assert said == f"{out}: {told} fields, 3 fields are there already, nothing was moved\n"
        assert network.rig is None, "not even opened"

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"objective": "40x0.65"}, "was recorded with 40x0.65 (index 1), now it is 20x0.40 (index 1)"),
            ({"immersion_index": 1.333}, "was recorded with 20x0.40 (index 1.333), now it is"),
            ({"pixel_um": 0.5}, "has pixels of 0.5 µm, now they are 0.3438 µm"),
        ],
    )
    def test_other_optics_are_refused(
        self, parfocal: Parfocal, network: Oracle, out: Path, change: dict[str, Any], says: str
    ) -> None:
        parfocal("collect", out, "--fields", 1, *FEW)
        path = out / "field-001" / "about.json"
        path.write_text(json.dumps(about(out / "field-001") | change), "utf-8")
        code, _, err = parfocal("collect", out, "--fields", 2, *FEW)
        assert code == 2
        assert err.startswith(f"parfocal: {out / 'field-001'}: {says}")
        assert err.count("\n") == 1
        assert moves(network) == 0
        assert not (out / "field-002").exists()

    def test_a_field_that_is_damaged(self, parfocal: Parfocal, network: Oracle, out: Path) -> None:
        parfocal("collect", out, "--fields", 1, *FEW)
        (out / "field-001" / "plane003.png").unlink()
        network.rig = None
        code, _, err = parfocal("collect", out, "--fields", 2, *FEW)
        assert code == 2
        assert "field-001/planes.csv line 5: image 'plane003.png' is missing" in err
        assert network.rig is None

    def test_what_a_power_cut_left_is_removed(self, parfocal: Parfocal, network: Oracle, out: Path) -> None:
        left = out / ".field-001.0123456789ab.tmp"
        left.mkdir(parents=True)
        (left / "plane000.png").write_bytes(b"half")
        (out / "notes.txt").write_text("mine")
        assert parfocal("collect", out, "--fields", 1, *FEW)[0] == 0
        assert sorted(path.name for path in out.iterdir()) == ["field-001", "notes.txt"]

    def test_one_at_a_time(self, parfocal: Parfocal, network: Oracle, out: Path) -> None:
        with collection.claimed(out):
            code, _, err = parfocal("collect", out, "--fields", 1, *FEW)
        assert code == 2
        assert "another `parfocal collect` is recording there" in err
        assert not out.exists(), "an empty folder that was made goes again"

    def test_an_interrupted_field_leaves_nothing(
        self, parfocal: Parfocal, network: Oracle, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert parfocal("collect", out, "--fields", 1, *FEW)[0] == 0
        measured, count = collect.sharpness, iter(range(100))

        def seen(image: np.ndarray, scale: float) -> float:
            if next(count) == 4:
                assert len([path for path in out.iterdir() if path.name.startswith(".field-002")]) == 1
                raise KeyboardInterrupt
            return measured(image, scale)

        watch_planes(monkeypatch, seen)
        released: list[str] = []
        monkeypatch.setattr(SimulatedAxis, "release", lambda self: released.append("coils off"))
        code, said, err = parfocal("collect", out, "--fields", 2, *FEW)
        assert (code, said) == (130, "")
        assert err.splitlines()[-1] == "parfocal: interrupted"
        assert released
        assert [path.name for path in out.iterdir()] == ["field-001"]
        ZStack.open(out / "field-001").check()


class TestDisk:
    def test_no_room(
        self, parfocal: Parfocal, network: Oracle, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        free = 2 * 9 * 128 * 128 * 3
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
        code, _, err = parfocal("collect", out, "--fields", 2, *FEW)
        assert code == 2
        assert "2 more of 9 planes may need 1.0 MB and 0.9 MB are free" in err
        assert err.count("\n") == 1
        assert moves(network) == 0
        assert not out.exists()
        assert parfocal("collect", out, "--fields", 1, *FEW)[0] == 0, "one has room"

    def test_full_in_mid_field(
        self, parfocal: Parfocal, network: Oracle, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encode, count = zstack.encode_png, iter(range(100))

        def full(image: np.ndarray) -> bytes:
            if next(count) == 9 + 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return encode(image)

        monkeypatch.setattr(zstack, "encode_png", full)
        code, _, err = parfocal("collect", out, "--fields", 2, *FEW)
        assert code == 1
        assert err.splitlines()[-1].startswith("parfocal: reading or writing failed: ")
        assert [path.name for path in out.iterdir()] == ["field-001"]
        ZStack.open(out / "field-001").check()
        assert network.rig is not None
        assert network.rig.true_defocus_um is not None
        assert abs(network.rig.true_defocus_um()) < DOF_UM, "the picture is left in focus"


def test_a_motor_that_was_stopped_is_left_alone(
    parfocal: Parfocal, network: Oracle, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop button is an error of the motor, and that is an OSError like a full disk."""
    move, planes = Stage.move_to_steps, iter(range(100))

    def move_to_steps(stage: Stage, target: int, **named: Any) -> None:
        if next(planes, 0) == 3:
            ended.append(stage.moves)
            raise MotorError("z: the stop button ended the move at 3 um")
        move(stage, target, **named)

    ended: list[int] = []
    measured = collect.Collector._places

    def places(self: collect.Collector, focus: int) -> list[int]:
        monkeypatch.setattr(Stage, "move_to_steps", move_to_steps)
        return measured(self, focus)

    monkeypatch.setattr(collect.Collector, "_places", places)
    code, _, err = parfocal("collect", out, "--fields", 1, *FEW)
    assert code == 4
    assert "the stop button ended the move" in err
    assert ended == [moves(network)]
    assert not out.exists()


class TestPrompt:
    def test_nobody_to_ask(self, parfocal: Parfocal, network: Oracle, out: Path) -> None:
        code, _, err = parfocal("collect", out, "--fields", 2)
        assert code == 2
        assert err.endswith("add --yes, or --fields 1 for one field\n")
        assert err.count("\n") == 1
        assert network.rig is None
        assert not out.exists()

    @pytest.mark.parametrize(
        ("typed", "fields", "ended"),
        [("\n\n", 3, "done"), ("\nq\n", 2, "ended"), ("Q\n", 1, "ended"), ("", 1, "ended")],
    )
    def test_a_line_goes_on(
        self,
        parfocal: Parfocal,
        network: Oracle,
        out: Path,
        monkeypatch: pytest.MonkeyPatch,
        typed: str,
        fields: int,
        ended: str,
    ) -> None:
        monkeypatch.setattr("sys.stdin", Terminal(typed))
        code, said, err = parfocal("collect", out, "--planes", 9)
        assert code == 0
        assert said.splitlines()[-1] == f"{out}: {fields} of 3 fields, {ended}"
        assert len(collection.fields_in(out)) == fields
        assert "field-001 is recorded: move the slide, then press Enter (q ends) " in err

    def test_a_field_that_came_to_nothing_is_asked_for_again(
        self, parfocal: Parfocal, network: Oracle, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        measured, first = collect.sharpness, iter(range(1, 10))
        watch_planes(monkeypatch, lambda image, scale: next(first, 0) or measured(image, scale))
        monkeypatch.setattr("sys.stdin", Terminal("\n"))
        code, _, err = parfocal("collect", out, "--fields", 1, "--planes", 9)
        assert code == 0
        assert "once more: move the slide" in err
        assert [path.name for path in out.iterdir()] == ["field-001"]
        assert about(out / "field-001")["seed"] == 2, "another field than the one that was refused"

    def test_a_script_gives_up_in_the_end(self, parfocal: Parfocal, network: Oracle, out: Path) -> None:
        config = toml(out.parent, '[simulator]\nspecimen = "empty"\n')
        code, said, err = parfocal("collect", out, *FEW, "--config", config)
        assert code == 4
        assert said == f"{out}: 0 of 3 fields, gave up after 3 fields running that came to nothing\n"
        assert err.count("field-001 is not recorded: no specimen: ") == 3
        assert not out.exists()

    def test_the_button_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpio = pressed_again_and_again(monkeypatch, 21)
        config = override(Config(), "test", gpio={"focus_pin": 21})
        with Prompt(config, unasked=False, button=True, asks=True) as prompt:
            assert prompt.go_on("field-001 is recorded")
            assert prompt.go_on("field-002 is recorded")
            assert sum(level for _, level in gpio.reads) > 0
        assert gpio.directions == {}, "the pin is given back"
        with pytest.raises(InputError, match="no terminal to ask at and no button"):
            Prompt(config, unasked=False, button=False, asks=True)

    def test_a_press_that_came_too_early_was_not_meant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpio = pressed_again_and_again(monkeypatch, 21)
        playing, waited = gpio.pull[21], []

        def level() -> int:
            """Pressed before it is waited for, and again only after 20 readings of that."""
            if prompt.state != "ready":
                return playing()
            waited.append(1)
            return playing() if len(waited) > 20 else 1

        config = override(Config(), "test", gpio={"focus_pin": 21})
        with Prompt(config, unasked=False, button=True, asks=True) as prompt:
            gpio.pull[21] = level
            deadline_s = time.monotonic() + 10
            while not vars(prompt)["_pressed"].is_set() and time.monotonic() < deadline_s:
                time.sleep(0.001)
            assert prompt.go_on("field-001 is recorded")
        assert len(waited) > 20


class TestHardware:
    def test_the_button_goes_on_where_there_is_no_terminal(
        self,
        parfocal: Parfocal,
        network: Oracle,
        out: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        gpio = pressed_again_and_again(monkeypatch, 21)
        opened = rig.simulated_rig
        monkeypatch.setattr(
            hardware, "hardware_rig", lambda config, calibration: opened(config, start_defocus_um=20.0)
        )
        monkeypatch.setattr(rig, "simulated_rig", lambda *given, **named: pytest.fail("not the hardware"))
        path = toml(tmp_path, HARDWARE + "[gpio]\nfocus_pin = 21\nled_pin = 20\n")
        code, _, err = parfocal("collect", out, "--fields", 2, "--planes", 9, "--config", path)
        assert code == 0
        assert "field-001 is recorded: move the slide, then press the button" in err
        assert len(collection.fields_in(out)) == 2
        assert gpio.directions == {}
        assert gpio.levels[20] == 0, "the LED is off"

    def test_only_failures_that_follow_each_other_end_it(
        self,
        parfocal: Parfocal,
        network: Oracle,
        out: Path,
        tmp_path: Path,
        state: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        made = rig.simulated_rig
        monkeypatch.setattr(
            hardware, "hardware_rig", lambda config, calibration: made(config, start_defocus_um=20.0)
        )
        record, comes_to = collect.Collector.record, iter("xx.xx.")

        def recorded(self: collect.Collector, path: Path) -> collect.Recorded:
            if next(comes_to) == "x":
                raise collect.Refused("a reason")
            return record(self, path)

        monkeypatch.setattr(collect.Collector, "record", recorded)
        code, _, err = parfocal("collect", out, "--fields", 2, *FEW, "--config", toml(tmp_path, HARDWARE))
        assert code == 0
        assert err.count("is not recorded: a reason\n") == 4
        assert sorted(collection.fields_in(out)) == [1, 2]

    def test_one_microscope_for_all_fields(
        self,
        parfocal: Parfocal,
        network: Oracle,
        out: Path,
        tmp_path: Path,
        state: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = toml(tmp_path, HARDWARE)
        found = of_stage("marlin")
        calibration.write(found, load_config(path))
        made: list[rig.Rig] = []

        def opened(given: Config, measured: calibration.Calibration | None) -> rig.Rig:
            assert measured == found
            # Known, by a calibration that says what the simulated one is.
            made.append(replace(rig.simulated_rig(given, start_defocus_um=20.0), calibration=measured))
            network.rig = made[-1]
            return made[-1]

        monkeypatch.setattr(hardware, "hardware_rig", opened)
        assert parfocal("collect", out, "--config", path, "--fields", 2, *FEW)[0] == 0
        assert len(made) == 1
        for k in (1, 2):
            kept = about(out / f"field-00{k}")
            assert msgspec.convert(kept["calibration"], Calibration) == found
            assert (kept["stage"], kept["camera"]) == ("marlin /dev/ttyACM0", "opencv")
            assert not {"seed", "specimen"} & set(kept)
        assert "gain" not in kept
        again = [about(out / f"field-00{k}")["focus_z"] for k in (1, 2)]
        assert again[0] == pytest.approx(again[1], abs=0.1 * DOF_UM), "the same field, it was not moved"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--planes", 20), "--planes 20: an odd number from 5 to 1001 is allowed"),
        (("--planes", 3), "--planes 3: "),
        (("--fields", 0), "--fields 0: 1 to 9999 is allowed"),
        (("--step-dof", 0), "--step-dof 0: 0.05 to 20 is allowed"),
        (("--step-dof", "nan"), "a finite number is allowed"),
        (("--name", " "), "--name: a text that is not empty is allowed"),
    ],
)
def test_bad_words(
    parfocal: Parfocal, network: Oracle, out: Path, words: tuple[object, ...], says: str
) -> None:
    code, said, err = parfocal("collect", out, "--fields", 1, *words)
    assert (code, said) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert network.rig is None
    assert not out.exists()


@pytest.mark.parametrize("place", ["a-file", "no/such/parent", "nul\0"])
def test_bad_places(parfocal: Parfocal, network: Oracle, tmp_path: Path, place: str) -> None:
    (tmp_path / "a-file").write_text("mine")
    code, _, err = parfocal("collect", f"{tmp_path}/{place}", "--fields", 1)
    assert code == 2
    assert "cannot be written to: " in err
    assert err.count("\n") == 1
    assert network.rig is None
    assert (tmp_path / "a-file").read_text() == "mine"
