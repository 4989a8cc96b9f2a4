"""The classical search: where it asks to look, what it calls a peak, and what it does not."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from focus_bench import Contrast, peaked
from hypothesis import given
from hypothesis import strategies as st

from edge.sweep import Peak, Sweep


def search(sweep: Sweep, contrast: Contrast, *, stage_step: float = 0.0) -> list[float]:
    """Run ``sweep`` to its end; the places it asked for."""
    asked: list[float] = []
    budget = sweep.budget
    while (place := sweep.next_position()) is not None:
        assert place == sweep.next_position(), "asking twice is asking once"
        asked.append(place)
        stands = place if stage_step == 0 else round(place / stage_step) * stage_step
        sweep.record(stands, contrast(stands))
        assert len(asked) + sweep.budget <= budget
    assert len(asked) <= budget
    return asked


@st.composite
def ranges(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """low, high, step, start."""
    low = draw(st.floats(-200, 200))
    width = draw(st.one_of(st.just(0.0), st.floats(0.001, 5), st.floats(5, 300)))
    step = draw(st.one_of(st.floats(0.1, 20), st.just(width / 7 if width > 1 else 1.0)))
    high = low + width
    return low, high, step, min(max(low + draw(st.floats(0, 1)) * width, low), high)


class TestPlaces:
    @given(ranges(), st.floats(0, 60), st.booleans(), st.integers(0, 2**32), st.sampled_from([0.0, 0.02]))
    def test_inside_rising_and_within_the_budget(
        self, span: tuple[float, float, float, float], window: float, fine: bool, seed: int, stage_step: float
    ) -> None:
        low, high, step, start = span
        rng = np.random.default_rng(seed)
        kind = seed % 3
        sweep = Sweep(low, high, step, start, window=window, fine=fine)
        asked = search(
            sweep, lambda z: (float(rng.random()), 0.0, peaked(start)(z))[kind], stage_step=stage_step
        )
        assert asked, "not one place"
        assert all(low <= place <= high for place in asked)
        if stage_step < step / 10:
            assert len(set(asked)) == len(asked), "asked for one place twice"
        # Each of the window, the rest and the fine pass rises.
        assert sum(b < a for a, b in pairwise(asked)) <= 2
        assert math.isfinite(sweep.peak().position)

    def test_the_whole_range_is_covered(self) -> None:
        asked = search(Sweep(-10, 10, 1.5, 0, fine=False), lambda _: 1e-4)
        assert (asked[0], asked[-1]) == (-10, 10)
        assert max(b - a for a, b in pairwise(asked)) <= 1.5

    def test_a_clear_peak_in_the_window_spares_the_rest(self) -> None:
        asked = search(Sweep(-100, 100, 1, 5, window=12), peaked(8))
        assert all(-8 <= place <= 18 for place in asked)

    @pytest.mark.parametrize("focus", [-60.0, 60.0, 17.5])
    def test_a_peak_outside_the_window_is_found(self, focus: float) -> None:
        sweep = Sweep(-100, 100, 1, 5, window=12)
        search(sweep, peaked(focus))
        assert sweep.peak().clear
        assert sweep.peak().position == pytest.approx(focus, abs=0.1)

    def test_a_window_between_two_places(self) -> None:
        sweep = Sweep(0, 10, 5, 2.5, window=0.1)
        assert search(sweep, peaked(5))[:3] == [0, 5, 10]
        assert sweep.peak().position == pytest.approx(5, abs=0.1)

    @pytest.mark.parametrize(
        ("low", "high", "step", "start"),
        [
            (0, 1, 0, 0.5),
            (0, 1, -1, 0.5),
            (0, 1, math.inf, 0.5),
            (0, 1, math.nan, 0.5),
            (1, 0, 1, 0.5),
            (0, 1, 1, 2),
            (0, 1, 1, math.nan),
            (-math.inf, 1, 1, 0),
            (0, math.inf, 1, 0),
        ],
    )
    def test_searches_that_are_none(self, low: float, high: float, step: float, start: float) -> None:
        with pytest.raises(ValueError, match="sweep from"):
            Sweep(low, high, step, start)

    def test_nothing_is_recorded_that_was_not_asked_for(self) -> None:
        sweep = Sweep(0, 2, 1, 0, fine=False)
        with pytest.raises(ValueError, match="nothing was recorded"):
            sweep.peak()
        search(sweep, peaked(1))
        with pytest.raises(ValueError, match="nothing was asked for"):
            sweep.record(0.0, 1.0)


class TestPeak:
    @given(st.floats(-8, 8), st.floats(1.0, 4.0), st.floats(0.25, 1.5))
    def test_is_found_to_a_fraction_of_the_step(self, focus: float, width: float, step: float) -> None:
        sweep = Sweep(-15, 15, step, 0)
        search(sweep, peaked(focus, width=width))
        peak = sweep.peak()
        assert peak.clear, peak.reason
        assert peak.position == pytest.approx(focus, abs=0.1 * step)
        assert peak.sharpness == max(sweep.seen.values())

    @given(st.floats(-8, 8))
    def test_of_a_stage_of_whole_steps(self, focus: float) -> None:
        sweep = Sweep(-15, 15, 1, 0)
        search(sweep, peaked(focus), stage_step=0.018)
        assert sweep.peak().position == pytest.approx(focus, abs=0.1)

    @pytest.mark.parametrize("level", [0.0, 1e-9, 1e-5, 1.0])
    def test_a_flat_field_has_none(self, level: float) -> None:
        sweep = Sweep(-10, 10, 1, 0, window=3)
        search(sweep, lambda _: level)
        peak = sweep.peak()
        assert not peak.clear
        assert peak.reason
        assert -10 <= peak.position <= 10

    @given(st.integers(0, 2**32))
    def test_noise_has_none(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        sweep = Sweep(-10, 10, 1, 0)
        search(sweep, lambda _: 1e-4 * float(rng.uniform(1.0, 1.1)))
        assert not sweep.peak().clear

    @pytest.mark.parametrize(("focus", "end"), [(14.0, 10.0), (-14.0, -10.0)])
    def test_at_an_end_may_lie_beyond_it(self, focus: float, end: float) -> None:
        sweep = Sweep(-10, 10, 1, 0)
        search(sweep, peaked(focus, width=4))
        peak = sweep.peak()
        assert not peak.clear
        assert "end of the range" in peak.reason
        assert peak.position == pytest.approx(end)

    def test_near_an_end_is_a_peak(self) -> None:
        sweep = Sweep(-10, 10, 1, 0)
        search(sweep, peaked(9.0))
        assert sweep.peak().clear
        assert sweep.peak().position == pytest.approx(9.0, abs=0.1)

    def test_in_a_range_that_is_nearly_all_in_focus(self) -> None:
        sweep = Sweep(-1, 1, 0.3, 0)
        search(sweep, peaked(0.2, width=2))
        assert sweep.peak().clear
        assert sweep.peak().position == pytest.approx(0.2, abs=0.05)

    def test_of_one_place_is_not_to_be_trusted(self) -> None:
        sweep = Sweep(3, 3, 1, 3)
        assert search(sweep, lambda _: 1e-3) == [3]
        peak = sweep.peak()
        assert not peak.clear
        assert "one place" in peak.reason
        assert peak.position == 3

    def test_of_a_plateau_is_its_middle(self) -> None:
        sweep = Sweep(-10, 10, 1, 0, fine=False)
        search(sweep, lambda z: 1e-3 if abs(z - 2) <= 2 else 1e-5)
        assert sweep.peak() == Peak(2.0, 1e-3, True)

    def test_beside_a_place_without_light(self) -> None:
        sweep = Sweep(-3, 3, 1, 0, fine=False)
        search(sweep, lambda z: 1e-3 if z == 1 else 0.0)
        assert sweep.peak() == Peak(1.0, 1e-3, True)

    @given(st.lists(st.floats(1e-6, 1e-3), min_size=5, max_size=5))
    def test_stays_between_the_neighbours(self, values: list[float]) -> None:
        sweep = Sweep(0, 4, 1, 0, fine=False)
        search(sweep, lambda z: values[round(z)])
        best = int(np.argmax(values))
        assert best - 1 <= sweep.peak().position <= best + 1 or values.count(max(values)) > 1


@pytest.mark.parametrize("window", [math.inf, 6.0])
def test_a_flat_top_at_an_end_is_no_peak(window: float) -> None:
    """A recorded stack shows its sharpest plane from several places, the last at the end of the range."""
    sweep = Sweep(-3.0, 3.0, 0.5, 0.0, window=window)
    search(sweep, lambda z: 1e-4 * min(round(z / 2), 1) + 3e-4)
    assert not sweep.peak().clear
    assert "end of the range" in sweep.peak().reason


class TestFalling:
    def test_each_pass_falls_and_the_peak_is_the_same(self) -> None:
        rising, falling = (Sweep(-100, 100, 1, 5, window=12, falling=way) for way in (False, True))
        up, down = search(rising, peaked(8)), search(falling, peaked(8))
        assert sorted(up) == sorted(down)
        assert sum(b > a for a, b in pairwise(down)) <= 2
        assert falling.peak().position == pytest.approx(rising.peak().position, abs=1e-9)
