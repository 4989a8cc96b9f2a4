"""Z-stacks that the service does not record: refused before anything moves, or come to nothing later."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from collecting_bench import FEW, NO_BOOT, about, ended, names, recorded, waiting, when
from service_bench import Bench, frame, running

from edge import collect, zstack
from edge.camera.base import Frame
from edge.camera.simulated import SimulatedCamera
from edge.collect_plan import Plan
from edge.errors import CameraError, InputError
from edge.zstack import ZStack
from firmware_iface.errors import MotorError
from firmware_iface.stage import Stage

#: A process that records into a folder until its stdin ends.
HOLDS = """
import sys
from pathlib import Path
from edge.collection import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """Where the service keeps the fields of the slide."""
    return tmp_path / "collected" / "blood-7"


class TestRefused:
    """Before anything moves, with the reason in one line."""

    def refused(self, bench: Bench, says: str, plan: Plan = FEW) -> None:
        moves = bench.opened[0].stage.moves
        status = recorded(bench, plan=plan)
        assert status["state"] == "failed"
        assert says in status["reason"]
        assert "\n" not in status["reason"]
        assert bench.opened[0].stage.moves == moves
        assert len(bench.opened) == 1, "no fault"

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "../x", "a/b", ".hidden", "a b", "ä", "a" * 65, "a\n", "\0"]
    )
    def test_names_that_are_no_folder(self, name: str, tmp_path: Path) -> None:
        with waiting(tmp_path) as bench:
            with pytest.raises(InputError, match=r"^slide '.*': 1 to 64 letters") as error:
                bench.service.collect(name, FEW, "test")
            assert "\n" not in str(error.value)
            assert bench.service.state == "ready"
        assert not (tmp_path / "collected").exists()

    def test_more_planes_than_there_is_room_for(self, tmp_path: Path) -> None:
        with (
            waiting(tmp_path) as bench,
            pytest.raises(InputError, match=r"201 planes of 2\.046 µm span 409\.2 µm"),
        ):
            bench.service.collect("blood-7", Plan(planes=201), "test")

    def test_other_optics(self, tmp_path: Path, slide: Path) -> None:
        with waiting(tmp_path) as bench:
            recorded(bench)
            path = slide / "field-001" / "about.json"
            path.write_text(json.dumps(about(path.parent) | {"objective": "40x0.65"}), "utf-8")
            self.refused(bench, "field-001: was recorded with 40x0.65 (index 1), now it is 20x0.40 (index 1)")
            assert names(slide) == ["field-001"]

    def test_a_field_that_is_damaged(self, tmp_path: Path, slide: Path) -> None:
        with waiting(tmp_path) as bench:
            recorded(bench)
            (slide / "field-001" / "planes.csv").unlink()
            self.refused(bench, "no planes.csv in this folder")
        assert names(slide) == ["field-001"]

    def test_another_process_records_there(self, tmp_path: Path, slide: Path) -> None:
        slide.mkdir(parents=True)
        words = [sys.executable, "-c", HOLDS, str(slide)]
        with (
            waiting(tmp_path) as bench,
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
        ):
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            self.refused(bench, "another `parfocal collect` is recording there")
            other.communicate()
            assert recorded(bench)["state"] == "ready"

    def test_no_room_on_the_disk(self, tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with waiting(tmp_path) as bench:
            monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e5))
            self.refused(bench, "1 more of 9 planes may need ")
            assert not slide.exists()

    def test_a_place_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        (tmp_path / "collected").write_text("mine")
        with waiting(tmp_path) as bench:
            self.refused(bench, "z-stack of blood-7 is not recorded: file exists")
        assert (tmp_path / "collected").read_text() == "mine"

    def test_what_is_held_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with running(tmp_path, service={"hold": True}) as bench:
            bench.until("in_focus")
            bench.wait_for(lambda: bench.service.status()["hold"]["state"] == "holding", "holding")
            monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e5))
            self.refused(bench, "1 more of 9 planes may need ")
            assert bench.service.status()["hold"]["state"] == "holding", "nothing has moved"

    def test_numbers_go_up_to_the_last(self, tmp_path: Path, slide: Path) -> None:
        with waiting(tmp_path) as bench:
            recorded(bench)
            (slide / "field-001").rename(slide / "field-9998")
            assert recorded(bench)["collect"]["field"] == "field-9999", "behind the last, not into a gap"
            self.refused(bench, "has field-9999 already: use another name")


class TestComesToNothing:
    def test_an_empty_field(self, tmp_path: Path, slide: Path) -> None:
        with running(tmp_path, empty=True, **NO_BOOT) as bench:
            bench.until("ready")
            status = recorded(bench)
            assert status["state"] == "failed"
            assert "z-stack of blood-7/field-001 is not recorded: no specimen: " in status["reason"]
            assert not slide.exists()

    def test_no_clear_peak(self, tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rising = iter(range(1, 100))
        monkeypatch.setattr(collect, "sharpness", lambda image, scale: float(next(rising)))
        with waiting(tmp_path) as bench:
            status = recorded(bench)
            assert status["state"] == "failed"
            assert "the last plane is the sharpest" in status["reason"]
            assert abs(bench.opened[0].true_defocus_um()) < bench.opened[0].optics.dof_um, "back in focus"
            assert not slide.exists()

    def test_too_near_a_limit(self, tmp_path: Path) -> None:
        with waiting(tmp_path, stage={"limit_low_um": -21.0}, simulator={"start_defocus_um": 20.0}) as bench:
            status = recorded(bench)
            assert status["state"] == "failed"
            assert "is too near a limit" in status["reason"]

    def test_a_full_disk(self, tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        encode, count = zstack.encode_png, iter(range(100))

        def full(image: Any) -> bytes:
            if next(count) == 9 + 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return encode(image)

        monkeypatch.setattr(zstack, "encode_png", full)
        with waiting(tmp_path) as bench:
            recorded(bench)
            status = recorded(bench)
            assert status["state"] == "failed"
            assert status["reason"] == "z-stack of blood-7/field-002 is not recorded: no space left on device"
            assert names(slide) == ["field-001"]
            ZStack.open(slide / "field-001").check()
            assert abs(bench.opened[0].true_defocus_um()) < bench.opened[0].optics.dof_um, "back in focus"
            assert recorded(bench)["collect"]["fields"] == 2, "there is room again"
            assert len(bench.opened) == 1

    def test_a_camera_that_dies(self, tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        capture = SimulatedCamera.capture

        def dead(self: SimulatedCamera, not_before_s: float) -> Frame:
            raise CameraError("camera: unplugged")

        with waiting(tmp_path) as bench:
            when(bench, 3, lambda: monkeypatch.setattr(SimulatedCamera, "capture", dead), monkeypatch)
            bench.service.collect("blood-7", FEW, "test")
            assert bench.until("fault")["reason"] == "camera: unplugged"
            assert ended(bench) == "z-stack of blood-7/field-001 is not recorded: camera: unplugged"
            assert not slide.exists()
            monkeypatch.setattr(SimulatedCamera, "capture", capture)
            bench._clock.sleep_s(60.0)
            bench.until("ready")
            assert recorded(bench)["collect"]["fields"] == 1

    def test_a_stop_button_of_the_motor(
        self, tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []

        def pressed(stage: Stage, target: int, **named: Any) -> None:
            asked.append(target)
            raise MotorError("z: the stop button ended the move at 3 um")

        with waiting(tmp_path) as bench:
            when(bench, 2, lambda: monkeypatch.setattr(Stage, "move_to_steps", pressed), monkeypatch)
            bench.service.collect("blood-7", FEW, "test")
            assert "stop button" in bench.until("fault")["reason"]
            assert len(asked) == 1, "it is left where it stands"
            assert not slide.exists()

    def test_a_black_frame(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        capture = SimulatedCamera.capture

        def dark(self: SimulatedCamera, not_before_s: float) -> Frame:
            real = capture(self, not_before_s)
            return Frame(frame(0), *(getattr(real, name) for name in list(Frame.__dataclass_fields__)[1:]))

        with waiting(tmp_path) as bench:
            when(bench, 3, lambda: monkeypatch.setattr(SimulatedCamera, "capture", dark), monkeypatch)
            status = recorded(bench)
            assert status["state"] == "failed"
            assert " µm is black" in status["reason"]
