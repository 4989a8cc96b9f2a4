"""What a stage promises, whatever drives it: one class of tests over all back ends and both conventions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from test_axis_contract import AXES, Bench

from firmware_iface.clock import Clock
from firmware_iface.errors import LimitError, MotorError, MoveCancelled
from firmware_iface.stage import Stage


class Scope:
    """A stage on one of the axes, within ±400 steps of where it stands, 0.5 µm each."""

    def __init__(self, bench: Bench, compensation: str) -> None:
        self.bench = bench
        self.clock: Clock = bench.clock
        start = bench.axis.position_steps
        self.stage = Stage(
            bench.axis,
            bench.clock,
            um_per_step=0.5,
            limits_steps=(start - 400, start + 400),
            backlash_steps=30,
            compensation=compensation,  # type: ignore[arg-type]
        )
        self.start = start
        self.start_um = self.stage.position_um


@pytest.fixture(params=["one-sided", "on-reversal"])
def compensation(request: pytest.FixtureRequest) -> str:
    convention: str = request.param
    return convention


@pytest.fixture(params=AXES.values(), ids=AXES.keys())
def scope(request: pytest.FixtureRequest, compensation: str) -> Iterator[Scope]:
    """A stage as constructed; closed after the test."""
    made = Scope(request.param(), compensation)
    yield made
    made.stage.close()


class TestStageContract:
    def test_making_it_moves_nothing(self, scope: Scope) -> None:
        assert scope.stage.moves == 0
        assert scope.stage.travel_steps == 0
        assert not scope.bench.axis.moving

    def test_goes_where_it_is_sent(self, scope: Scope) -> None:
        with scope.stage as stage:
            for steps in (120, -60, -61, 0, 240):
                stage.move_to_steps(scope.start + steps)
                assert stage.position_steps == scope.start + steps
                assert not scope.bench.axis.moving
                assert scope.clock.now_s() >= stage.last_motion_ended_s
            stage.move_by_um(-20.0)
            assert stage.position_um == scope.start_um + 100.0

    @pytest.mark.parametrize("to_um", [250.0, -250.0, float("nan"), float("inf")])
    def test_beyond_the_limits_nothing_moves(self, scope: Scope, to_um: float) -> None:
        with scope.stage as stage:
            with pytest.raises(LimitError):
                stage.move_by_um(to_um)
            assert (stage.position_um, stage.moves, stage.travel_steps) == (scope.start_um, 0, 0)

    def test_every_place_that_is_reachable_is_reached(self, scope: Scope) -> None:
        with scope.stage as stage:
            low, high = stage.reachable_um
            for place in (low, high, low):
                stage.move_to_um(place)
                assert stage.position_um == pytest.approx(place, abs=0.25)

    def test_cancelled_it_stands_and_knows_where(self, scope: Scope) -> None:
        with scope.stage as stage:
            stage.move_to_steps(scope.start + 40)
            begun_s = scope.clock.now_s()
            with pytest.raises(MoveCancelled):
                stage.move_to_steps(scope.start + 300, cancel=lambda: scope.clock.now_s() > begun_s + 0.05)
            assert not scope.bench.axis.moving
            assert scope.start + 40 <= stage.position_steps < scope.start + 300
            assert stage.uncertain is None
            stage.move_to_steps(scope.start)
            assert stage.position_steps == scope.start

    def test_closed_it_does_not_move(self, scope: Scope) -> None:
        with scope.stage:
            pass
        scope.stage.close()
        with pytest.raises(MotorError):
            scope.stage.move_to_steps(scope.start + 100)

    def test_an_error_in_between_releases_the_motor(self, scope: Scope) -> None:
        scope.stage.__enter__()
        scope.stage.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        with pytest.raises(MotorError):
            scope.bench.axis.start_move(1)
