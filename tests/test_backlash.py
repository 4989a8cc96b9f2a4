"""The two conventions about the gap between screw and nut, on a simulated drive whose nut can be seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_iface.backlash import Gap
from firmware_iface.clock import VirtualClock
from firmware_iface.errors import LimitError, MoveCancelled
from firmware_iface.simulated import SimulatedAxis
from firmware_iface.stage import Stage

LOW, HIGH, SIZE = -1000, 1000, 100


class Bench:
    """A stage that compensates on reversal; every place that the screw was sent to is kept."""

    def __init__(self, *, slack: float = 40.0, size: int = SIZE, approach: int = 1) -> None:
        self.clock = VirtualClock()
        self.ends: list[int] = []
        bench = self

        class WrittenDown(SimulatedAxis):
            def start_move(self, steps: int) -> float:
                bench.ends.append(self.position_steps + steps)
                return super().start_move(steps)

        self.axis = WrittenDown(
            self.clock, backlash_steps=size, initial_slack=slack, vibration_amplitude_steps=0.0, seed=0
        )
        self.axis.enable()
        self.stage = Stage(
            self.axis,
            self.clock,
            um_per_step=1.0,
            limits_steps=(LOW, HIGH),
            backlash_steps=size,
            compensation="on-reversal",
            approach=approach,
        )

    @property
    def nut(self) -> float:
        return self.axis.true_position_steps()


def test_by_hand() -> None:
    bench = Bench()
    for target in (50, 300, 250, 150, 160, 160):
        bench.stage.move_to_steps(target)
        assert bench.stage.position_steps == target
    # Nobody knows how the nut lies: one-sided first. Then a reversal costs the gap, and nothing else does.
    assert bench.ends == [-50, 50, 300, 150, 50, 160]
    assert bench.stage.moves == 5


def test_approach_from_above_is_the_mirror() -> None:
    bench = Bench(approach=-1)
    for target in (-50, -300, -250):
        bench.stage.move_to_steps(target)
        assert bench.stage.position_steps == target
    assert bench.ends == [50, -50, -300, -150]


def test_a_move_cut_short_in_the_gap_goes_on_with_what_is_left_of_it() -> None:
    bench = Bench()
    bench.stage.move_to_steps(500)
    offset = bench.nut - 500
    begun_s = bench.clock.now_s()
    with pytest.raises(MoveCancelled):
        bench.stage.move_to_steps(300, cancel=lambda: bench.clock.now_s() > begun_s + 0.05)
    crossed = 500 - bench.axis.position_steps
    assert 0 < crossed < SIZE
    assert bench.stage.position_steps == 500, "the nut has not moved"
    bench.stage.move_to_steps(490)
    assert bench.axis.position_steps == 500 - SIZE - 10
    assert bench.nut - 490 == pytest.approx(offset)


def test_the_limits_are_the_screws() -> None:
    bench = Bench()
    assert bench.stage.limits_um == (LOW, HIGH)
    assert bench.stage.reachable_um == (LOW + SIZE, HIGH)
    bench.stage.move_to_steps(0)
    with pytest.raises(LimitError, match=r"\(soft limit, with an overshoot to -1001 um\)"):
        bench.stage.move_to_steps(LOW + SIZE - 1)
    bench.stage.move_to_steps(LOW + SIZE)
    assert min(bench.ends) == LOW


targets = st.integers(LOW + SIZE, HIGH)
journeys = st.lists(st.tuples(targets, st.one_of(st.none(), st.floats(0.0, 0.6))), min_size=1, max_size=10)


@given(journeys, st.floats(0.0, 1.0), st.sampled_from([0, 7, SIZE]))
def test_the_nut_is_where_the_position_says_from_the_first_move_on(
    journey: list[tuple[int, float | None]], part: float, size: int
) -> None:
    bench = Bench(slack=size * part, size=size)
    bench.stage.move_to_steps(0)
    offset = bench.nut
    for target, patience_s in journey:
        until_s = bench.clock.now_s() + (patience_s or 0.0)
        try:
            bench.stage.move_to_steps(
                target, cancel=None if patience_s is None else lambda s=until_s: bench.clock.now_s() >= s
            )
        except MoveCancelled:
            assert patience_s is not None
        else:
            assert bench.stage.position_steps == target
        assert bench.nut - bench.stage.position_steps == pytest.approx(offset, abs=1e-6)
    assert all(LOW <= end <= HIGH for end in bench.ends)


@given(st.lists(st.integers(-300, 300), max_size=10), st.integers(0, 200), st.sampled_from([-1, 1]))
def test_what_is_known_of_a_gap_is_true_wherever_the_nut_began(
    moves: list[int], size: int, approach: int
) -> None:
    for closed in {0, size // 3, size}:
        gap = Gap.unknown(size, approach, on_reversal=True)
        for moved in moves:
            gap = gap.after(moved)
            closed = min(max(closed + moved * approach, 0), size)
            assert gap.least_closed_steps <= closed <= gap.most_closed_steps


@pytest.mark.parametrize(("size", "approach"), [(-1, 1), (1, 0), (1, 2)])
def test_impossible_gaps_are_refused(size: int, approach: int) -> None:
    with pytest.raises(ValueError, match=r"backlash_steps = -1|approach = "):
        Gap.unknown(size, approach, on_reversal=False)


@pytest.mark.parametrize(
    ("size", "approach", "on_reversal", "onward"),
    [(0, 1, False, None), (0, 1, True, None), (200, 1, False, 1), (200, -1, False, -1), (200, -1, True, 0)],
)
def test_which_way_on_is_cheap(size: int, approach: int, on_reversal: bool, onward: int | None) -> None:
    assert Gap.unknown(size, approach, on_reversal=on_reversal).onward == onward
