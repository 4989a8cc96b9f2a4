"""The thin loop: what it asks of camera and stage, what it leaves behind, and the same every time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_field import blurred_field, blurred_planes, empty_field
from focus_bench import BINS, log_normal

from edge.camera.base import Frame
from edge.camera.simulated import SimulatedCamera
from edge.config import Config, override
from edge.errors import CameraError
from edge.microscope import THUMBNAIL_PX, Microscope
from edge.model import Look
from edge.optics import Objective, Optics, natural_pixel_um
from edge.rig import Rig, replay_rig
from edge.simulator.fields import LEVEL, Field
from edge.simulator.sensor import Sensor
from edge.tiles import extract
from edge.view import View
from edge.zstack import ZStack, write_zstack
from firmware_iface.clock import VirtualClock
from firmware_iface.errors import MotorError
from firmware_iface.simulated import SimulatedAxis
from firmware_iface.stage import Stage

KEYS = {
    *("result", "reason", "method", "captures", "moves", "travel_um", "seconds", "position_um"),
    *("defocus_estimate_dof", "confidence", "sharpness_start", "sharpness_end", "assumptions"),
}
TRUTH = {"true_defocus_um", "true_defocus_dof", "true_defocus_start_um"}
OBJECTIVE = Objective(20, 0.40)
BLURRED, EMPTY = blurred_field(), empty_field()


class Oracle:
    """A model that knows the truth, and blank fields by their tiles."""

    name = "oracle"

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def bins_dof(self, optics: Optics) -> np.ndarray:
        return BINS

    def look(self, frame: np.ndarray | View, optics: Optics, *, most_tiles: int) -> Look:
        found = extract(frame, optics.model_scale, size_px=32, most=most_tiles)
        assert self._rig.true_defocus_um is not None
        log_p = log_normal(optics.dof_from_um(self._rig.true_defocus_um()))
        return Look(log_p if len(found) else None, BINS, len(found), log_p[None], found.contrast)


class Camera(SimulatedCamera):
    """Remembers what was asked of it and when; breaks down at a frame of choice."""

    stage: Stage
    axis: SimulatedAxis
    settle_s = 0.0
    fails_at: int | None = None
    locked = False
    lock_fails = False
    frames: tuple[Frame, ...] = ()

    def lock(self) -> None:
        self.locked = True
        if self.lock_fails:
            raise CameraError("cannot lock")

    def unlock(self) -> None:
        self.locked = False

    def capture(self, not_before_s: float) -> Frame:
        assert self.locked, "exposure may change between two frames"
        assert not self.axis.moving
        frame = super().capture(not_before_s)
        self.frames = (*self.frames, frame)
        earliest_s = self.stage.last_motion_ended_s + (self.settle_s if self.stage.moves else 0.0)
        assert frame.exposure_start_s >= earliest_s, "a frame of a stage in motion"
        if len(self.frames) == self.fails_at:
            raise CameraError("the cable came off")
        return frame


@dataclass(eq=False)
class Made:
    """A microscope on a small field, and its parts."""

    start_um: float = 20.0
    planes: Field = BLURRED
    low_steps: int = -2400
    focus: dict[str, Any] = field(default_factory=dict)
    backlash_steps: int = 200
    seed: int = 1

    def __post_init__(self) -> None:
        config = override(Config(), "test", focus=self.focus)
        optics = Optics(OBJECTIVE, natural_pixel_um(OBJECTIVE))
        clock = VirtualClock()
        self.axis = SimulatedAxis(clock, backlash_steps=self.backlash_steps, seed=self.seed)
        stage = Stage(
            self.axis,
            clock,
            um_per_step=0.062,
            limits_steps=(self.low_steps, 2400),
            backlash_steps=200,
            settle_s=0.1,
        )

        def defocus_um(t_s: float) -> float:
            return self.start_um + self.axis.true_position_steps(t_s) * 0.062

        self.camera = Camera(
            self.planes, Sensor(), clock, lambda t_s: optics.dof_from_um(defocus_um(t_s)), seed=self.seed
        )
        self.camera.stage, self.camera.axis, self.camera.settle_s = stage, self.axis, 0.1
        self.rig = Rig("test", clock, stage, self.camera, optics, lambda: defocus_um(clock.now_s()))
        self.axis.enable()
        self.scope = Microscope(self.rig, Oracle(self.rig), config)  # type: ignore[arg-type]


def after(count: int) -> Callable[[], bool]:
    """True from the ``count``-th time it is asked on."""
    asked = iter(range(10**9))
    return lambda: next(asked) >= count


class TestFocus:
    @pytest.mark.parametrize("start_um", [-30.0, -8.0, 0.0, 3.0, 20.0, 60.0])
    def test_from_here(self, start_um: float) -> None:
        made = Made(start_um)
        result = made.scope.focus()
        assert (result.result, result.method) == ("focused", "network"), result.reason
        assert result.true_defocus_dof == pytest.approx(0.0, abs=1.0)
        assert result.captures == len(made.camera.frames) == len(made.scope.trace.entries)
        assert result.moves == made.rig.stage.moves
        assert result.travel_um == pytest.approx(made.rig.stage.travel_steps * 0.062)
        assert result.seconds == pytest.approx(made.rig.clock.now_s())
        assert result.position_um == made.rig.stage.position_um
        assert not made.camera.locked

    def test_by_the_sweep(self) -> None:
        made = Made(20.0, focus={"max_looks": 1})
        result = made.scope.focus()
        assert (result.result, result.method) == ("focused", "sweep")
        assert result.true_defocus_dof == pytest.approx(0.0, abs=1.0)
        assert result.sharpness_end > result.sharpness_start

    def test_stays_where_every_move_can_reach(self) -> None:
        made = Made(-100.0, low_steps=-900, focus={"max_looks": 2})
        result = made.scope.focus()
        low, high = made.rig.stage.reachable_um
        assert all(low <= entry.position_um <= high for entry in made.scope.trace.entries)
        assert result.captures > 2

    def test_starting_where_no_overshoot_fits(self) -> None:
        """The stage stands at the end of its range, from where a move down cannot be made."""
        made = Made(-10.0, low_steps=0)
        assert made.scope.focus().result == "focused"

    def test_an_empty_field_goes_back_to_where_it_began(self) -> None:
        made = Made(planes=EMPTY)
        made.rig.stage.move_to_um(12.4)
        result = made.scope.focus()
        assert result.result == "no_specimen"
        assert result.position_um == pytest.approx(12.4)
        assert (result.confidence, result.defocus_estimate_dof) == (None, None)
        assert made.scope.trace.entries[-1].state == "end"

    def test_bit_for_bit_the_same(self) -> None:
        one, two = Made(), Made()
        assert one.scope.focus() == two.scope.focus()
        for a, b in zip(one.scope.trace.entries, two.scope.trace.entries, strict=True):
            assert (a.time_s, a.position_um, a.sharpness, a.within) == (
                b.time_s,
                b.position_um,
                b.sharpness,
                b.within,
            )
            np.testing.assert_array_equal(a.image, b.image)

    def test_twice_in_a_row(self) -> None:
        made = Made()
        first = made.scope.focus()
        second = made.scope.focus()
        assert second.result == "focused"
        assert second.captures == len(made.scope.trace.entries) <= first.captures + 1
        assert second.seconds < made.rig.clock.now_s()


class TestTrace:
    def test_of_looks(self) -> None:
        made = Made()
        made.scope.focus()
        entries = made.scope.trace.entries
        assert [entry.state for entry in entries] == ["looking"] * len(entries)
        for entry in entries:
            assert entry.tiles == 9
            assert entry.belief is not None
            assert entry.belief[1].sum() == pytest.approx(1)
            assert entry.surprise is not None
            assert entry.image.shape == (96, 96, 3)
            assert math.isfinite(entry.sharpness)
        assert all(a.time_s < b.time_s for a, b in pairwise(entries))
        assert entries[-1].within is not None
        assert entries[-1].within >= 0.9
        assert entries[0].true_defocus_um == pytest.approx(20.0, abs=13.0)

    def test_of_a_sweep(self) -> None:
        made = Made(focus={"max_looks": 1})
        made.scope.focus()
        states = [entry.state for entry in made.scope.trace.entries]
        assert states[0] == "looking"
        assert states[-1] == "confirming"
        assert set(states[1:-1]) == {"glancing"}
        assert all(entry.belief is None and entry.tiles is None for entry in made.scope.trace.entries[1:-1])

    def test_keeps_small_pictures(self) -> None:
        made = Made(planes=Field(np.full((2, 300, 900, 3), LEVEL, np.uint16), np.array([-16.0, 16.0])))
        made.scope.focus()
        assert all(max(entry.image.shape) <= THUMBNAIL_PX for entry in made.scope.trace.entries)
        assert made.scope.trace.entries[0].image.shape == (128, 384, 3)

    def test_of_a_view_that_went_blank_has_what_is_believed_then(self) -> None:
        made = Made(backlash_steps=0)
        real, looks = made.scope.model.look, iter((1.0, None, 0.9, 0.9, 0.9))

        def look(*given: Any, **named: Any) -> Look:
            seen = real(*given, **named)
            contrast = next(looks)
            # The first look prefers the wrong direction, and the second sees nothing any more.
            likely = seen.log_likelihood
            if contrast == 1.0:
                likely = np.logaddexp(likely, likely[::-1] + 0.7)
            likely = None if contrast is None else likely
            return replace(seen, log_likelihood=likely, tiles=0, contrast=contrast or 0.0)

        made.scope.model.look = look  # type: ignore[method-assign]
        assert made.scope.focus().method == "network"
        first, second, *_ = (entry.belief for entry in made.scope.trace.entries)
        assert first is not None
        assert second is not None

        def ahead(belief: tuple[np.ndarray, np.ndarray]) -> float:
            return float(belief[1][belief[0] > 0].sum())

        assert ahead(first) < 0.5
        assert ahead(second) > 0.8

    def test_of_blank_frames_believes_nothing(self) -> None:
        made = Made(planes=EMPTY)
        made.scope.focus()
        assert all(entry.belief is None for entry in made.scope.trace.entries)


class TestResult:
    def test_keys(self) -> None:
        made = Made()
        plain = made.scope.focus().as_dict()
        assert set(plain) == KEYS | TRUTH
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain

    def test_keys_where_truth_is_not_known(self) -> None:
        made = Made(planes=EMPTY)
        rig = replace(made.rig, true_defocus_um=None, assumptions=("pixel assumed",))
        plain = Microscope(rig, Oracle(made.rig), made.scope.config).focus().as_dict()  # type: ignore[arg-type]
        assert set(plain) == KEYS
        assert plain["assumptions"] == ["pixel assumed"]


class TestLastGoodFocus:
    def test_is_told_to_the_stage(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[float] = []
        monkeypatch.setattr(Stage, "found_focus", lambda stage: told.append(stage.position_um))
        made = Made()
        assert made.scope.focus().result == "focused"
        assert told == [made.rig.stage.position_um]
        assert Made(planes=EMPTY).scope.focus().result == "no_specimen"
        assert len(told) == 1


class TestWhatGoesWrong:
    @pytest.mark.parametrize("frame", [1, 2, 4])
    def test_the_camera(self, frame: int) -> None:
        made = Made(focus={"max_looks": 1})
        made.camera.fails_at = frame
        with pytest.raises(CameraError, match="cable"):
            made.scope.focus()
        assert not made.camera.locked
        assert not made.axis.moving
        assert made.rig.stage.position_um == 0.0, "blind, it goes back to where it began"

    def test_a_frame_without_an_image_is_named(self) -> None:
        dark, grid = np.zeros((2, 96, 96, 3), np.uint16), np.array([-16.0, 16.0])
        for planes, what in ((dark, "black (100.0%"), (dark + 60_000, "saturated (100.0%")):
            result = Made(planes=Field(planes, grid)).scope.focus()
            assert result.result == "failed", "not: no specimen"
            assert f"; the frame is {what}" in result.reason

    def test_the_contrast_of_a_frame_without_an_image_is_no_evidence(self) -> None:
        grid = np.array([-16.0, 16.0])
        black = Made(planes=Field(np.zeros((2, 96, 96, 3), np.uint16), grid)).scope.observe()
        assert black.fault is not None
        assert math.isnan(black.seen.contrast)
        assert math.isfinite(Made(planes=EMPTY).scope.observe().seen.contrast), "a blank one has a contrast"

    def test_a_camera_that_cannot_be_locked(self) -> None:
        made = Made()
        made.camera.lock_fails = True
        with pytest.raises(CameraError, match="lock"):
            made.scope.focus()
        assert not made.camera.locked
        assert made.rig.stage.moves == 0

    def test_the_motor(self) -> None:
        made = Made()
        made.axis.release()
        with pytest.raises(MotorError):
            made.scope.focus()
        assert not made.camera.locked

    @pytest.mark.parametrize("count", [0, 1, 5, 40, 60, 100, 150, 200])
    def test_cancelled(self, count: int) -> None:
        """Before anything, while the slack is taken up, in a look, and in a move."""
        made = Made(focus={"max_looks": 1})
        result = made.scope.focus(cancel=after(count))
        assert result.result == "failed"
        assert "stopped" in result.reason
        assert not made.camera.locked
        assert not made.axis.moving
        assert result.position_um == made.rig.stage.position_um
        assert result.captures == len(made.scope.trace.entries) >= 1
        json.dumps(result.as_dict(), allow_nan=False)

    def test_cancelled_between_two_requests(self) -> None:
        made = Made()
        result = made.scope.focus(cancel=lambda: bool(made.camera.frames))
        assert (result.result, result.captures) == ("failed", 2)
        assert result.defocus_estimate_dof == pytest.approx(result.true_defocus_dof, abs=0.7)

    def test_and_again_after_that(self) -> None:
        made = Made()
        made.scope.focus(cancel=after(60))
        assert made.scope.focus().result == "focused"


class TestSettings:
    def test_come_from_the_config(self) -> None:
        made = Made(focus={"specimen": "phase", "tolerance_dof": 2.0, "sweep_range_um": 34.375})
        settings = made.scope.settings()
        assert (settings.phase, settings.absorbing, settings.tolerance) == (True, False, 2.0)
        assert settings.sweep_high - settings.sweep_low == pytest.approx(10.0)
        low, high = (made.rig.optics.dof_from_um(um) for um in made.rig.stage.reachable_um)
        assert (settings.low, settings.high) == (low, high)

    def test_a_long_stage_is_believed_in_part_by_part(self) -> None:
        made = Made(low_steps=-100_000)
        settings = made.scope.settings()
        assert settings.low == pytest.approx(-100.0)
        made.rig.stage.move_to_um(-900.0)
        assert made.scope.settings().high == pytest.approx(
            made.rig.optics.dof_from_um(-900.0) + 100.0, abs=0.1
        )


@pytest.mark.parametrize("step_assumed", [False, True])
@pytest.mark.parametrize("start", [0, 4, 8, 12])
def test_a_replay(tmp_path: Path, start: int, step_assumed: bool) -> None:
    grid = np.arange(-6.0, 6.5)
    planes = [
        (f"{k}.png", d * 3.4375, np.repeat(np.rint(200 * image)[..., None], 3, axis=2).astype(np.uint8))
        for k, (d, image) in enumerate(zip(grid, blurred_planes(grid), strict=True))
    ]
    about = {"objective": "20x/0.40", "pixel_um": 0.34375, "focus_z": 0.0}
    write_zstack(tmp_path / "stack", planes, about)
    rig = replay_rig(Config(), ZStack.open(tmp_path / "stack"), start_plane=start, step_assumed=step_assumed)
    with rig:
        result = Microscope(rig, Oracle(rig), Config()).focus()  # type: ignore[arg-type]
    assert result.result == "focused", result.reason
    plain = result.as_dict()
    assert set(plain) == KEYS | TRUTH | {"plane", "plane_file"}
    assert plain["plane"] in (5, 6, 7)
    assert plain["plane_file"] == f"{plain['plane']}.png"
