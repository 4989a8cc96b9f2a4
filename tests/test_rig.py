"""Rigs: parts that belong together, starts that are refused before anything moves, and assumptions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_field import GRID, blurred_planes, specimen

from edge import rig as rigs
from edge.config import Config, override
from edge.errors import CameraError, InputError
from edge.rig import Rig, named_specimen, replay_rig, simulated_rig
from edge.simulator import fields
from edge.zstack import ZStack, write_zstack
from firmware_iface.errors import LimitError, MotorError

FULL = {"objective": "20x/0.40", "pixel_um": 0.34, "focus_z": 4.0}


@pytest.fixture(autouse=True)
def small_and_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fields, "plane_grid", lambda: GRID)
    monkeypatch.setattr(rigs, "FRAME_PX", 64)
    monkeypatch.setenv("PARFOCAL_CACHE", str(tmp_path / "cache"))


def simulated(start_defocus_um: float = 10.0, **simulator: Any) -> Rig:
    config = override(Config(), "test", simulator=simulator)
    return simulated_rig(config, start_defocus_um=start_defocus_um, specimen=specimen())


def stack(folder: Path, z_um: list[float], about: dict[str, Any] | None = None) -> ZStack:
    """Planes whose brightness is their number."""
    planes = [(f"{k}.png", z, np.full((8, 8, 3), 10 * k, np.uint8)) for k, z in enumerate(z_um)]
    write_zstack(folder / "stack", planes, about or {})
    return ZStack.open(folder / "stack")


def replay(made: ZStack, start: int = 0, **options: Any) -> Rig:
    return replay_rig(Config(), made, start_plane=start, **{"step_assumed": False, **options})


class TestSimulated:
    def test_nothing_moves_until_it_is_told_to(self) -> None:
        rig = simulated(10.0)
        assert rig.stage.position_steps == 0
        assert rig.stage.travel_steps == 0
        assert rig.clock.now_s() == 0
        with pytest.raises(MotorError, match="coils are off"):
            rig.stage.move_to_um(1.0)

    @pytest.mark.parametrize("start_um", [-149.0, -3.0, 0.0, 10.0, 137.0])
    def test_truth(self, start_um: float) -> None:
        rig = simulated(start_um, backlash_steps=0)
        assert rig.true_defocus_um is not None
        assert rig.true_defocus_um() == pytest.approx(start_um)
        with rig:
            rig.stage.move_to_um(20.0)
            assert rig.true_defocus_um() == pytest.approx(start_um + 20.0, abs=0.1)

    def test_drift(self) -> None:
        rig = simulated(5.0, drift_um_s=0.5)
        rig.clock.sleep_s(10.0)
        assert rig.true_defocus_um is not None
        assert rig.true_defocus_um() == pytest.approx(10.0)

    @pytest.mark.parametrize("start_um", [-151.0, 151.0, math.nan, math.inf, -math.inf])
    def test_a_focus_outside_the_limits(self, start_um: float) -> None:
        with pytest.raises(InputError, match="beyond what the stage reaches") as caught:
            simulated(start_um)
        assert "\n" not in str(caught.value)
        assert "-149.978 to 137.578" in str(caught.value)

    def test_frames_need_no_resampling(self) -> None:
        rig = simulated()
        assert rig.optics.model_scale == pytest.approx(1.0)
        with rig:
            assert rig.camera.capture(0.0).image.shape == (32, 32, 3)

    def test_the_same_seed_the_same_frames(self) -> None:
        def run(seed: int) -> np.ndarray:
            with simulated(seed=seed) as rig:
                rig.stage.move_to_um(10.0)
                return rig.camera.capture(rig.clock.now_s()).image

        np.testing.assert_array_equal(run(1), run(1))
        assert (run(1) != run(2)).any()

    def test_the_specimen_of_the_config(self) -> None:
        config = override(Config(), "test", simulator={"specimen": "blood"})
        with simulated_rig(config, start_defocus_um=0.0) as rig:
            assert rig.camera.capture(0.0).image.shape == (64, 64, 3)
        with pytest.raises(InputError, match=r"cheese.*allowed"):
            simulated_rig(override(Config(), "test", simulator={"specimen": "cheese"}), start_defocus_um=0.0)


class TestLeaving:
    def test_releases_the_motor_and_closes_the_camera(self) -> None:
        rig = simulated()
        with pytest.raises(LimitError), rig:
            rig.stage.move_to_um(1e6)
        with pytest.raises(CameraError):
            rig.camera.capture(0.0)
        with pytest.raises(MotorError):
            rig.stage.move_to_um(2.0)

    def test_releases_the_motor_where_the_camera_does_not_close(self) -> None:
        rig = simulated()

        def refuse() -> None:
            raise CameraError("stuck")

        rig.camera.close = refuse  # type: ignore[method-assign]
        with pytest.raises(CameraError, match="stuck"), rig:
            rig.stage.move_to_um(1.0)
        with pytest.raises(MotorError):
            rig.stage.move_to_um(2.0)


class TestSpecimens:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "sharp"
        folder.mkdir()
        image = np.rint(blurred_planes(np.zeros(1), 96)[0] * 200).astype(np.uint8)
        for name in ("a.png", "b.png", "c.png"):
            cv2.imwrite(str(folder / name), image)
        return folder

    def test_from_a_folder(self, folder: Path) -> None:
        names = {named_specimen(str(folder), seed).name for seed in range(20)}
        assert names == {"a.png", "b.png", "c.png"}
        one, two = named_specimen(str(folder), 3), named_specimen(str(folder), 3)
        np.testing.assert_array_equal(one.od, two.od)
        assert one.shape == (64, 64)

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "none").mkdir()
        with pytest.raises(InputError, match="no image"):
            named_specimen(str(tmp_path / "none"), 0)

    def test_a_name_comes_before_a_folder_of_that_name(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.rename(folder.parent / "tissue")
        monkeypatch.chdir(folder.parent)
        assert named_specimen("tissue", 0).name not in ("a.png", "b.png", "c.png")


class TestReplay:
    @pytest.mark.parametrize("start", [0, 2, 4])
    def test_shows_the_start_plane_first(self, tmp_path: Path, start: int) -> None:
        made = stack(tmp_path, [-3.0, -1.0, 0.5, 2.0, 4.03], FULL)
        with replay(made, start) as rig:
            assert rig.camera.capture(0.0).image.max() == 10 * start
            assert rig.stage.position_um == 0

    def test_every_plane_can_be_reached_and_nothing_beyond(self, tmp_path: Path) -> None:
        made = stack(tmp_path, [-3.0, -1.0, 0.5, 2.0, 4.03], FULL)
        with replay(made, 2) as rig:
            low, high = rig.stage.limits_um
            assert low == pytest.approx(-3.5, abs=0.04)
            assert high == pytest.approx(3.53, abs=0.04)
            for k, z_um in enumerate(made.z_um):
                rig.stage.move_to_um(min(max(z_um - 0.5, low), high))
                assert rig.camera.capture(rig.clock.now_s()).image.max() == 10 * k

    def test_truth_is_what_the_stack_says(self, tmp_path: Path) -> None:
        rig = replay(stack(tmp_path, [0.0, 2.0, 4.0, 6.0], FULL), 3)
        assert rig.true_defocus_um is not None
        assert rig.true_defocus_um() == pytest.approx(2.0)
        assert (rig.assumed, rig.assumptions) == (False, ())

    def test_says_what_was_assumed(self, tmp_path: Path) -> None:
        rig = replay(stack(tmp_path, [0.0, 1.0]))
        assert rig.true_defocus_um is None
        assert rig.assumed
        assert len(rig.assumptions) >= 2
        assert rig.optics == Config().optics.optics()
        assert any("20x0.40" in sentence for sentence in rig.assumptions)
        assert any("pixel" in sentence for sentence in rig.assumptions)

    def test_an_assumed_step_is_an_assumption(self, tmp_path: Path) -> None:
        assert replay(stack(tmp_path, [0.0, 1.0], FULL), step_assumed=True).assumed

    @pytest.mark.parametrize("start", [-1, 2, 99])
    def test_planes_that_there_are_not(self, tmp_path: Path, start: int) -> None:
        with pytest.raises(InputError, match="planes 0 to 1"):
            replay(stack(tmp_path, [0.0, 1.0], FULL), start)

    @pytest.mark.parametrize("z_um", [[1.0], [2.0, 2.0], [0.0, 0.0004]])
    def test_nothing_to_focus_through(self, tmp_path: Path, z_um: list[float]) -> None:
        with pytest.raises(InputError, match="all planes"):
            replay(stack(tmp_path, z_um, FULL))
