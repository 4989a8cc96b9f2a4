"""Holding on the simulated rig: an hour of drift, other views, the user's hand, and what breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from fake_calibration import found
from fake_field import blurred_field, empty_field, specimen
from oracle import Oracle

from edge import rig as rigs
from edge.calibration import Calibration
from edge.config import Config, override
from edge.errors import CameraError, FocusError
from edge.holder import Holder, HoldStatus, alike
from edge.microscope import Microscope
from edge.rig import Rig
from edge.simulator.fields import Field
from firmware_iface.clock import VirtualClock
from firmware_iface.errors import LimitError, MotorError

BLURRED, EMPTY = blurred_field(), empty_field()
DARK = Field(np.zeros((2, 96, 96, 3), np.uint16), np.array([-16.0, 16.0]))
DOF_UM = 3.4375


@dataclass(eq=False)
class Made:
    """A microscope in focus on a small field, whose focus drifts, and its holder."""

    drift_um: Callable[[float], float] = lambda t_s: 0.0
    interval_s: float = 10.0
    start_um: float = 0.0
    calibrated: Calibration | None = None
    away: list[HoldStatus] = field(default_factory=list)

    def __post_init__(self) -> None:
        other = {"inverted": True, "pitch_factor": 1.25} if self.calibrated else {}
        config = override(Config(), "test", simulator={"backlash_steps": 200, "seed": 3, **other})
        self.rig: Rig = rigs.simulated_rig(
            config,
            start_defocus_um=self.start_um,
            specimen=specimen(),
            drift_um=self.drift_um,
            calibration=self.calibrated,
        )
        self.rig.stage.__enter__()
        oracle = Oracle()
        oracle.rig = self.rig
        self.oracle = oracle
        self.scope = Microscope(self.rig, oracle, config)  # type: ignore[arg-type]
        # A whole focus run is tested elsewhere; here the stage is put where it would end.
        self.rig.stage.move_to_um(self.rig.stage.position_um)
        truth = self.rig.optics.dof_from_um(self.truth_um)
        self.rig.stage.move_to_um(self.rig.stage.position_um - self.rig.um_from_dof(truth))
        self.holder = Holder(self.scope, interval_s=self.interval_s)

    @property
    def truth_um(self) -> float:
        assert self.rig.true_defocus_um is not None
        return self.rig.true_defocus_um()

    def steps(self, count: int, **options: Any) -> list[float]:
        """So many steps and waits; the true defocus in dof after each wait."""
        out = []
        for _ in range(count):
            status = self.holder.step(**options)
            self.rig.clock.sleep_s(status.next_s)
            out.append(self.truth_um / DOF_UM)
        return out

    def show(self, planes: Field) -> None:
        self.rig.camera._field = planes  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def a_small_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rigs, "open_field", lambda *given, **named: BLURRED)


@pytest.mark.parametrize("rate_um_s", [0.01, -0.01, 0.0])
def test_an_hour_of_drift(rate_um_s: float) -> None:
    """Ten depths of field in an hour, single-sided moves on a drive with slack and all."""
    made = Made(lambda t_s: rate_um_s * t_s, interval_s=20.0)
    began_s, moves = made.rig.clock.now_s(), made.rig.stage.moves
    defocus: list[float] = []
    while made.rig.clock.now_s() < began_s + 3600:
        defocus += made.steps(1)
    assert np.max(np.abs(defocus)) < 1.0
    status = made.holder.status
    assert (status.state, status.reason, status.over) == ("holding", "", False)
    assert status.drift_um == pytest.approx(-rate_um_s * 3600, abs=2.0)
    assert status.drift_dof == pytest.approx(status.drift_um / DOF_UM)
    assert status.moves == made.rig.stage.moves - moves
    assert 10 < status.moves < 40 if rate_um_s else status.moves == 0
    assert set(status.as_dict()) >= {"state", "reason", "drift_um", "moves", "looks", "next_s"}


@pytest.mark.parametrize("rate_um_s", [0.01, -0.01])
def test_a_stage_that_runs_the_other_way_is_held_once_it_is_calibrated(rate_um_s: float) -> None:
    measured = found(dof_per_step=-1.25 * 0.062 / DOF_UM, backlash_steps=200.0)
    made = Made(lambda t_s: rate_um_s * t_s, interval_s=20.0, calibrated=measured)
    began_s, began_um = made.rig.clock.now_s(), made.rig.stage.position_um
    defocus: list[float] = []
    while made.rig.clock.now_s() < began_s + 1800:
        defocus += made.steps(1)
    assert np.max(np.abs(defocus)) < 1.0
    assert made.holder.status.drift_um == pytest.approx(rate_um_s * 1800 / 1.25, abs=2.0)
    assert made.rig.stage.position_um - began_um == pytest.approx(rate_um_s * 1800 / 1.25, abs=2.5)


def test_making_one_moves_nothing_and_looks_at_nothing() -> None:
    made = Made()
    moves, now_s = made.rig.stage.moves, made.rig.clock.now_s()
    status = Holder(made.scope).status
    assert (made.rig.stage.moves, made.rig.clock.now_s()) == (moves, now_s)
    assert (status.looks, status.next_s, status.over) == (0, 0.0, False)


def test_the_trace_of_the_run_is_left_alone() -> None:
    made = Made()
    made.steps(5)
    assert made.scope.trace.entries == []


@pytest.mark.parametrize("interval_s", [0.0, -1.0, float("inf"), float("nan")])
def test_intervals_that_are_none(interval_s: float) -> None:
    with pytest.raises(ValueError, match="interval_s"):
        Holder(Made().scope, interval_s=interval_s)


@pytest.mark.parametrize(
    ("planes", "says"),
    [
        (EMPTY, ("nothing to focus on", "view is another")),
        (DARK, ("frame is black",)),
        (Field(BLURRED.planes[:, ::-1].copy(), BLURRED.defocus_dof), ("view is another",)),
    ],
)
def test_another_view_waits_and_the_old_one_goes_on(planes: Field, says: tuple[str, ...]) -> None:
    made = Made()
    made.steps(5)
    made.show(planes)
    moves = made.rig.stage.moves
    made.steps(5)
    assert made.holder.status.state == "waiting"
    assert any(text in made.holder.status.reason for text in says), made.holder.status.reason
    made.show(BLURRED)
    made.steps(5)
    assert made.holder.status.state == "holding"
    assert made.rig.stage.moves == moves


def test_a_jog_pauses() -> None:
    made = Made()
    made.steps(3)
    made.rig.stage.move_by_um(5.0)
    status = made.holder.step()
    assert (status.state, status.over) == ("paused", True)
    assert "moved by others" in status.reason
    looks, moves = status.looks, made.rig.stage.moves
    made.steps(3)
    assert (made.holder.status.looks, made.rig.stage.moves) == (looks, moves), "nothing after the end"


class TestCancel:
    def test_before_a_look(self) -> None:
        made = Made()
        now_s = made.rig.clock.now_s()
        status = made.holder.step(cancel=lambda: True)
        assert (status.looks, status.over, made.rig.clock.now_s()) == (0, False, now_s)

    def test_in_a_move(self) -> None:
        made = Made(lambda t_s: 0.02 * t_s)

        def moving() -> bool:
            return made.rig.stage._axis.moving

        while not made.holder.hold.over:
            made.rig.clock.sleep_s(made.holder.step(cancel=moving).next_s)
        status = made.holder.status
        assert status.state == "paused"
        assert "stopped" in status.reason
        assert not made.rig.stage._axis.moving


class TestWhatBreaks:
    def test_the_camera(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = Made()
        made.steps(2)
        unlocked: list[bool] = []
        monkeypatch.setattr(made.rig.camera, "unlock", lambda: unlocked.append(True))
        made.oracle.error = CameraError("the cable came off")
        with pytest.raises(CameraError, match="cable"):
            made.holder.step()
        assert unlocked == [True]
        made.oracle.error = None
        made.steps(2)
        assert made.holder.status.state == "holding"

    @pytest.mark.parametrize("error", [MotorError("no power"), LimitError("z", 1.0, (0.0, 0.5), "um")])
    def test_the_motor(self, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        made = Made(lambda t_s: 0.02 * t_s)

        def refuse(*given: Any, **named: Any) -> None:
            raise error

        monkeypatch.setattr(made.rig.stage, "move_to_um", refuse)
        with pytest.raises(type(error)):
            made.steps(100)
        assert made.holder.status.over
        assert str(error) in made.holder.status.reason


def test_a_stage_beyond_what_its_moves_reach() -> None:
    made = Made()
    made.rig.stage._limits = type(made.rig.stage._limits)("z", 0.062, 500, 2000, None, 800)
    with pytest.raises(FocusError, match="outside"):
        Holder(made.scope)


class TestAlike:
    def test_noise_and_light_do_not_matter(self) -> None:
        rng = np.random.default_rng(1)
        view = rng.normal(120, 10, (12, 12)).astype(np.float32)
        assert alike(view, 1.3 * view + rng.normal(0, 2, view.shape).astype(np.float32))
        assert not alike(view, np.roll(view, 3, axis=0))
        assert not alike(view, view[:6])

    def test_nothing_to_see_is_no_other_view(self) -> None:
        flat = np.full((12, 12), 90, np.float32)
        assert alike(flat, np.random.default_rng(1).normal(120, 10, (12, 12)).astype(np.float32))


def test_the_clock_is_virtual() -> None:
    assert isinstance(Made().rig.clock, VirtualClock)
