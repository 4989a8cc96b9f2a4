"""Held-out figures on predictions made by hand, and the calibration on logits whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from edge.model import log_softmax
from train.evaluate import (
    Array,
    Predictions,
    by_distance,
    by_kind,
    estimate,
    expected_calibration_error,
    figures,
    fit_calibration,
    of_frames,
    of_tiles,
    reliability,
)
from train.labels import Bins
from train.tile_data import TileData

CENTRES = np.linspace(-6, 6, 25)
BINS = Bins.of_centres(CENTRES, "dof")


def _sure(guesses: list[float], sharpness: float = 400.0) -> Array:
    """Log-probabilities ``(N, bins)`` that peak at each guess."""
    return log_softmax(-sharpness * (CENTRES[None] - np.array(guesses)[:, None]) ** 2)


def _predictions(guesses: list[float], truths: list[float]) -> Predictions:
    count = len(guesses)
    kind = (np.arange(count) % 2).astype(np.int16)
    truth = np.array(truths, np.float64)
    return Predictions(_sure(guesses), truth, BINS, np.ones(count), None, kind, np.arange(count))


def _data(truth: Array, frame: Array) -> TileData:
    count = len(truth)
    whole = frame.astype(np.int32)
    pixels = np.zeros((count, 1, 1, 3), np.int8)
    return TileData(pixels, truth.astype(np.float32), whole, whole, np.zeros(count, np.int16), ("only",))


class TestBands:
    def test_errors_by_distance(self) -> None:
        near, middle, far = by_distance(_predictions([0.5, 4, -5.5], [0.25, 4.5, 5.5]))
        assert near == {"from": 0, "to": 0.5, "n": 1, "median_dof": pytest.approx(0.25), "wrong_direction": 0}
        assert (middle["from"], middle["to"], middle["median_dof"]) == (3, 5, pytest.approx(0.5))
        assert (far["from"], far["to"], far["wrong_direction"]) == (5, 8, 1)

    def test_reliability_adds_up(self) -> None:
        [row] = reliability(_predictions([0, 1, 5, 2], [0, 1, -5, 2]))
        assert row == {"confidence": pytest.approx(1), "right": 0.75, "n": 4}


class TestFigures:
    def test_errors_by_hand(self) -> None:
        out = figures(_predictions([0, 1, 2, -5, 4], [0, 1.5, 2, -4, 6]))
        assert out["n"] == 5
        assert out["mae_dof"] == pytest.approx((0 + 0.5 + 0 + 1 + 2) / 5)
        assert out["median_dof"] == pytest.approx(0.5)
        assert out["p95_dof"] == pytest.approx(np.percentile([0, 0.5, 0, 1, 2], 95))
        assert out["median_dof_within_3"] == pytest.approx(0)
        assert out["wrong_direction"] == 0

    def test_the_wrong_direction_counts_from_one_dof_on(self) -> None:
        out = figures(_predictions([2, -2, 0.5, -1, 3], [-2, -2, -0.5, 1, 3]))
        assert out["wrong_direction"] == pytest.approx(2 / 4), "the one at 0.5 dof does not count"
        assert out["median_abs_dof_within_3"] == pytest.approx(0), "the distance was right each time"

    def test_nothing_far_and_nothing_near(self) -> None:
        assert figures(_predictions([0.5], [-0.5]))["wrong_direction"] == 0
        assert figures(_predictions([5], [5]))["median_dof_within_3"] == 0

    def test_accuracy_is_the_share_of_right_classes(self) -> None:
        assert figures(_predictions([0, 1, 2, 3], [0.1, 1.2, 2.3, 3]))["accuracy"] == pytest.approx(3 / 4)

    def test_in_micrometres_errors_come_in_both_units(self) -> None:
        """Bins in µm, a depth of field of 2 µm: 1 µm off is half a dof; a wrong sign counts from 2 µm on."""
        count, bins = 3, Bins.of_centres(CENTRES, "um")
        dof, kind = np.full(count, 2.0), np.zeros(count, np.int16)
        truth = np.array([0.0, -1.5, -4.0])
        made = Predictions(_sure([1, 1.5, 4]), truth, bins, dof, dof, kind, np.arange(count))
        out = figures(made)
        assert out["mae_um"] == pytest.approx((1 + 3 + 8) / 3, rel=0.01)
        assert out["mae_dof"] == pytest.approx(out["mae_um"] / 2)
        assert out["wrong_direction"] == 1, "of the one that is 2 dof away"
        assert "mae_um" not in figures(_predictions([0], [0]))

    def test_by_kind_divides_them(self) -> None:
        out = by_kind(_predictions([0, 1, 2, 3], [0, 2, 2, 4]), ("even", "odd", "none"))
        assert {name: (row["mae_dof"], row["n"]) for name, row in out.items()} == {
            "even": (pytest.approx(0), 2),
            "odd": (pytest.approx(1), 2),
        }


class TestEstimate:
    def test_of_two_peaks_it_takes_one_and_not_the_middle(self) -> None:
        p = 0.55 * np.exp(_sure([3.0])) + 0.45 * np.exp(_sure([-3.0]))
        guess, confidence = estimate(np.log(p + 1e-12), CENTRES)
        assert guess == pytest.approx([3.0], abs=0.01)
        assert confidence == pytest.approx([0.55], abs=0.01)

    def test_a_broad_peak_beats_a_thin_one_that_is_higher(self) -> None:
        p = 0.6 * np.exp(_sure([-3.0], sharpness=2.0)) + 0.4 * np.exp(_sure([3.0]))
        assert estimate(np.log(p + 1e-12), CENTRES)[0] == pytest.approx([-3.0], abs=0.1)

    def test_between_two_bins_it_interpolates(self) -> None:
        guess, confidence = estimate(_sure([1.25], sharpness=5.0), CENTRES)
        assert guess == pytest.approx([1.25], abs=0.02)
        assert 0.9 < confidence[0] <= 1

    def test_at_the_ends(self) -> None:
        guess, confidence = estimate(_sure([-6, 6]), CENTRES)
        assert guess == pytest.approx([-6, 6], abs=0.01)
        assert confidence == pytest.approx([1, 1], abs=0.01)


class TestCalibrationError:
    def test_the_calibrated_have_none(self) -> None:
        rng = np.random.default_rng(0)
        confidence = rng.uniform(0, 1, 40_000)
        assert expected_calibration_error(confidence, rng.random(40_000) < confidence) < 0.015

    def test_the_overconfident_have_their_excess(self) -> None:
        right = np.random.default_rng(0).random(40_000) < 0.6
        assert expected_calibration_error(np.full(40_000, 0.95), right) == pytest.approx(0.35, abs=0.01)
        assert expected_calibration_error(np.full(40_000, 1.0), right) == pytest.approx(0.4, abs=0.01)

    def test_figures_carry_it(self) -> None:
        assert figures(_predictions([0, 3], [0, 3]))["ece"] == pytest.approx(0, abs=0.01)
        assert figures(_predictions([0, 3], [2, 5]))["ece"] == pytest.approx(1, abs=0.01)


class TestFrames:
    def test_tiles_of_a_frame_are_put_together(self) -> None:
        logits = np.concatenate([_sure([1.0], 1.0), _sure([2.0], 1.0), _sure([-3.0], 1.0)])
        data = _data(np.array([1.5, 1.5, -3.0]), np.array([7, 7, 9]))
        frames = of_frames(logits, data, BINS, 1.0, 1.0)
        assert frames.log_p.shape == (2, 25)
        assert frames.truth.tolist() == [1.5, -3.0]
        assert estimate(frames.log_p, CENTRES)[0] == pytest.approx([1.5, -3.0], abs=0.02)
        np.testing.assert_allclose(np.exp(frames.log_p).sum(axis=1), 1)

    def test_truth_beyond_the_bins_counts_as_the_outermost(self) -> None:
        data = _data(np.array([-9.0, 30.0]), np.array([0, 1]))
        assert of_tiles(_sure([-6, 6]), data, BINS, 1.0).truth.tolist() == [-6, 6]
        assert of_frames(_sure([-6, 6]), data, BINS, 1.0, 0.5).truth.tolist() == [-6, 6]

    def test_a_temperature_flattens(self) -> None:
        data = _data(np.array([1.0]), np.array([0]))
        sharp, flat = (of_tiles(_sure([1.0], 2.0), data, BINS, t).log_p.max() for t in (1.0, 3.0))
        assert flat < sharp


class TestCalibration:
    @pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
    def test_finds_the_temperature(self, temperature: float) -> None:
        rng = np.random.default_rng(3)
        honest = rng.normal(0, 3, (3000, len(CENTRES)))
        drawn = (log_softmax(honest) + rng.gumbel(size=honest.shape)).argmax(axis=1)
        data = _data(CENTRES[drawn], np.arange(3000))
        found, _ = fit_calibration(honest * temperature, data, BINS)
        assert found == pytest.approx(temperature, rel=0.12)

    def test_copies_of_a_tile_weigh_as_one_and_independent_tiles_in_full(self) -> None:
        rng = np.random.default_rng(4)
        truth = np.repeat(rng.choice(CENTRES, 300), 5)
        frame = np.repeat(np.arange(300), 5)
        own, shared = rng.normal(0, 1, 1500), np.repeat(rng.normal(0, 1, 300), 5)
        weights = []
        for noise in (own, shared):
            logits = -0.5 * (CENTRES[None] - (truth + noise)[:, None]) ** 2
            temperature, weight = fit_calibration(logits, _data(truth, frame), BINS)
            assert temperature == pytest.approx(1, rel=0.25)
            weights.append(weight)
        assert weights[0] > 0.8
        assert weights[1] < 0.1
