"""What the focus loop holds to whatever it is told: limits, budget, an end, and no luck on a flat field."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from focus_bench import BINS, Bench, blank, log_normal, oracle, peaked, unsure
from hypothesis import assume, example, given
from hypothesis import strategies as st

from edge.belief import KNOWN, UNKNOWN, Array
from edge.dialogue import Settings, State


@st.composite
def any_settings(draw: st.DrawFn) -> Settings:
    """Ranges from a step to hundreds of depths of field, and every switch."""
    low = draw(st.floats(-100, 100))
    width = draw(st.one_of(st.floats(0.02, 3), st.floats(3, 200)))
    assumed = draw(st.booleans())
    half = draw(st.one_of(st.just(math.inf), st.floats(0.1, 60)))
    middle = low + draw(st.floats(0, 1)) * width
    return Settings(
        low=low,
        high=low + width,
        tolerance=draw(st.sampled_from([0.05, 0.5, 1.0, 4.0, 20.0])),
        confidence=draw(st.sampled_from([0.5, 0.9, 0.999])),
        max_looks=draw(st.integers(1, 8)),
        sweep=draw(st.booleans()),
        sweep_low=middle - half,
        sweep_high=middle + half,
        sweep_step=draw(st.sampled_from([0.3, 1.0, 20.0])),
        assumed=assumed,
        absorbing=draw(st.booleans()),
        phase=draw(st.booleans()),
        gains=UNKNOWN if assumed else KNOWN,
    )


#: Steps of the stage in dof; 0: it stands wherever it is sent.
STEPS = [0.0, 0.005, 0.018]


class Adversary:
    """Says anything: sharp and wrong, nothing, blank; contrast without a pattern, or with every trap."""

    def __init__(self, seed: int, blanks: float) -> None:
        self._rng, self._blanks = np.random.default_rng(seed), blanks
        self._kind = int(self._rng.integers(5))

    def network(self, position: float) -> Array | None:
        if self._rng.random() < self._blanks:
            return None
        kind = self._rng.integers(4)
        if kind == 0:
            return unsure(position)
        if kind == 1:
            noise = self._rng.normal(0, 5, len(BINS))
            return np.asarray(noise - np.log(np.exp(noise).sum()))
        return log_normal(float(self._rng.uniform(-14, 14)), sigma=float(self._rng.uniform(0.05, 3)))

    def contrast(self, position: float) -> float:
        draw = float(self._rng.random())
        values = (
            draw * 1e-4,  # no pattern
            10 ** (-12 * draw),  # every order of magnitude
            1e-4 if draw < 0.5 else 0.0,  # two values, ties
            1e-4 * math.exp(-(((position - 3) / 4) ** 2)) * (1 + 0.3 * draw),  # a noisy peak
            1e-4 * math.exp(position / 30),  # a slope
        )
        return values[self._kind]


runs = given(
    any_settings(),
    st.floats(0, 1),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.sampled_from(STEPS),
)


def run_against(adversary: Adversary, settings: Settings, share: float, step: float = 0.0) -> Bench:
    start = min(max(settings.low + share * (settings.high - settings.low), settings.low), settings.high)
    bench = Bench(settings, adversary.network, adversary.contrast, step=step)
    bench.run(start)
    return bench


class TestAgainstAnAdversary:
    @runs
    def test_limits_budget_and_end(
        self, settings: Settings, share: float, seed: int, blanks: float, step: float
    ) -> None:
        bench = run_against(Adversary(seed, blanks), settings, share, step)
        assert all(settings.low <= place <= settings.high for place in bench.asked), "outside the limits"
        assert len(bench.frames) <= bench.loop.budget, "more frames than the budget"
        assert bench.loop.state is State.DONE
        done = bench.done
        assert done is not None
        assert done.result in ("focused", "no_specimen", "failed")
        assert done.reason
        assert (done.confidence is None) == (done.defocus is None)
        if done.confidence is not None:
            assert -1e-9 <= done.confidence <= 1 + 1e-9
        if not settings.sweep:
            assert done.method == "network"

    @runs
    def test_the_same_again(
        self, settings: Settings, share: float, seed: int, blanks: float, step: float
    ) -> None:
        one, two = (run_against(Adversary(seed, blanks), settings, share, step) for _ in range(2))
        assert (one.asked, one.frames, one.position) == (two.asked, two.frames, two.position)

    @given(any_settings(), st.integers(0, 2**32), st.floats(0, 1, exclude_max=True))
    def test_cancelled_at_any_point(self, settings: Settings, seed: int, share: float) -> None:
        whole = run_against(Adversary(seed, 0.1), settings, 0.0)
        adversary, after = Adversary(seed, 0.1), int(share * (len(whole.asked) + len(whole.frames)))
        bench = Bench(settings, adversary.network, adversary.contrast, cancel_after=after)
        done = bench.run(settings.low)
        assert (done.result, done.reason) == ("failed", "enough")
        assert len(bench.asked) + len(bench.frames) == after
        assert bench.loop.state is State.DONE

    @runs
    def test_ends_no_blurrier_than_it_began_unless_focused(
        self, settings: Settings, share: float, seed: int, blanks: float, step: float
    ) -> None:
        """A specimen with one contrast at one place, and a network that says anything."""
        adversary = Adversary(seed, blanks)
        contrast = peaked(settings.low + 0.3 * (settings.high - settings.low))
        bench = Bench(settings, adversary.network, contrast)
        start = settings.low + share * (settings.high - settings.low)
        assume(settings.low <= start <= settings.high)
        if bench.run(start).result != "focused":
            assert contrast(bench.position) >= contrast(start)


class TestFlatField:
    @given(any_settings(), st.floats(0, 1), st.sampled_from([0.0, 1e-8, 1e-4]), st.floats(0, 0.06))
    @example(Settings(-40, 40), 0.5, 1e-4, 0.06)
    @example(Settings(0, 17, tolerance=4, confidence=0.5, max_looks=2, sweep=False), 0.0, 0.0, 0.0)
    def test_is_never_focused_by_the_sweep(
        self, settings: Settings, share: float, contrast: float, noise: float
    ) -> None:
        rng = np.random.default_rng(0)
        start = min(settings.low + share * (settings.high - settings.low), settings.high)
        # Within a tolerance as wide as the range, everything is in focus, and the loop may say so.
        assume(settings.high - settings.low > 4 * settings.tolerance)
        for network in (blank, unsure):
            bench = Bench(settings, network, lambda _: contrast * (1 + noise * rng.random()))
            done = bench.run(start)
            assert done.result == ("no_specimen" if network is blank else "failed")
            assert len(bench.frames) <= bench.loop.budget
            if network is blank or noise == 0:
                assert bench.position == start


class TestOracle:
    @given(st.floats(-25, 25), st.floats(-11, 11), st.floats(0.2, 0.6), st.sampled_from(STEPS))
    def test_three_looks(self, focus: float, away: float, sigma: float, step: float) -> None:
        bench = Bench(Settings(-40, 40), oracle(focus, sigma=sigma), peaked(focus), step=step)
        done = bench.run(focus + away)
        assert (done.result, done.method) == ("focused", "network")
        assert abs(bench.position - focus) <= 1.0
        assert len(bench.frames) <= 3

    @given(st.floats(-25, 25), st.floats(-11, 11), st.sampled_from([-1.0, 0.7, 1.4]), st.booleans())
    def test_a_mirrored_or_scaled_one_ends_in_focus(
        self, focus: float, away: float, gain: float, assumed: bool
    ) -> None:
        settings = Settings(-40, 40)
        if assumed:
            settings = replace(settings, assumed=True, gains=UNKNOWN)
        bench = Bench(settings, oracle(focus, gain=gain), peaked(focus))
        done = bench.run(min(max(focus + away, -40), 40))
        assert done.result == "focused"
        # Within the tolerance as the network counts it.
        assert abs(bench.position - focus) * min(1.0, abs(gain)) <= 1.0
        assert len(bench.frames) <= bench.loop.budget

    @given(st.floats(-35, 35), st.floats(-38, 38), st.integers(0, 2**32))
    def test_a_network_that_says_anything_is_caught_by_contrast(
        self, focus: float, start: float, seed: int
    ) -> None:
        """The sweep finds what the network cannot; where the network is believed, contrast agreed with it."""
        adversary = Adversary(seed, 0.0)
        bench = Bench(Settings(-40, 40, absorbing=True), adversary.network, peaked(focus))
        done = bench.run(start)
        assert done.result == "focused"
        if done.method == "sweep":
            assert bench.position == pytest.approx(focus, abs=0.5)
        else:
            sharpest = max(peaked(focus)(place) for _, place in bench.frames)
            assert peaked(focus)(bench.position) > 0.85 * sharpest
