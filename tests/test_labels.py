"""Labels: bins in depths of field and µm, the paper's 41 classes, hard and soft."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from train.labels import Bins, bins_of, label_rows

RECIPE = tiny.recipe()
BINS = bins_of(RECIPE.network)
JIANG = bins_of(tiny.recipe(network={"labels": "jiang41"}).network)


class TestBins:
    def test_are_even_and_symmetric(self) -> None:
        assert BINS.unit == "dof"
        np.testing.assert_allclose(BINS.centres, [-1.5, -1, -0.5, 0, 0.5, 1, 1.5], atol=1e-12)

    def test_in_micrometres(self) -> None:
        bins = bins_of(tiny.recipe(network={"labels": "um", "bin_range_um": 6.0}).network)
        assert bins.unit == "um"
        np.testing.assert_allclose(bins.centres, np.linspace(-6, 6, 7), atol=1e-12)

    @pytest.mark.parametrize(
        ("defocus_nm", "number"),
        [
            (0, 0),
            (350, 0),
            (351, 1),
            (957, 1),  # 350 + 607.5
            (958, 2),
            (11892, 19),
            (11893, 20),
            (12500, 20),
            (19999, 20),
        ],
    )
    def test_the_41_classes_to_the_nanometre(self, defocus_nm: int, number: int) -> None:
        """Class 20 is the middle one; an edge belongs to the class nearer focus, on both sides."""
        up, down = JIANG.classes(np.array([defocus_nm / 1000, -defocus_nm / 1000]))
        assert (up, down) == (20 + number, 20 - number)

    def test_the_41_classes_are_as_the_paper_says(self) -> None:
        assert (len(JIANG), JIANG.unit) == (41, "um")
        assert JIANG.centres[20] == 0
        np.testing.assert_allclose(np.diff(JIANG.edges)[20:], (12.5 - 0.35) / 20)
        assert JIANG.edges[20] - JIANG.edges[19] == pytest.approx(0.7)
        assert JIANG.centres[40] == pytest.approx(12.5 - 0.60750 / 2)

    def test_of_a_card_are_the_same(self) -> None:
        for bins in (BINS, JIANG):
            again = Bins.of_centres(np.array(bins.centres.tolist()), bins.unit)
            np.testing.assert_allclose(again.edges, bins.edges)

    def test_each_centre_is_in_its_own_class(self) -> None:
        for bins in (BINS, JIANG):
            assert bins.classes(bins.centres).tolist() == list(range(len(bins)))


class TestSoft:
    def test_are_distributions_that_peak_at_the_truth(self) -> None:
        labels = label_rows(BINS.centres, BINS, RECIPE.fit, 1.0)
        assert labels.dtype == np.float32
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
        assert labels.argmax(axis=1).tolist() == list(range(7))

    def test_between_two_bins_they_share(self) -> None:
        [label] = label_rows(np.array([0.25]), BINS, RECIPE.fit, 1.0)
        assert label[3] == pytest.approx(label[4], rel=1e-4)

    def test_beyond_the_ends_they_are_those_of_the_ends(self) -> None:
        far, end = (label_rows(np.array([d, -d]), BINS, RECIPE.fit, 1.0) for d in (40.0, 1.5))
        np.testing.assert_array_equal(far, end)

    def test_are_wider_far_from_focus_and_mirror(self) -> None:
        recipe = tiny.recipe(network={"bin_range_dof": 12.0, "bin_count": 49}, fit={"label_sigma_slope": 0.1})
        bins = bins_of(recipe.network)
        near, far, mirrored = label_rows(np.array([0.0, 8.0, -8.0]), bins, recipe.fit, 1.0)
        assert far.max() < near.max()
        np.testing.assert_allclose(far, mirrored[::-1], atol=1e-6)

    def test_their_width_is_in_depths_of_field(self) -> None:
        """At 100x a depth of field is half a µm, at 10x nine: the label is as much wider in µm."""
        spread = [
            float((row * np.abs(JIANG.centres)).sum())
            for row in label_rows(np.zeros(2), JIANG, RECIPE.fit, np.array([1.0, 6.0]))
        ]
        assert spread[1] > 3 * spread[0]

    def test_narrower_than_a_bin_they_are_still_somewhere(self) -> None:
        labels = label_rows(np.array([0.67]), JIANG, RECIPE.fit, 1e-6)
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)


def test_without_width_a_label_is_one_class() -> None:
    recipe = tiny.recipe(network={"labels": "jiang41"}, fit={"label_sigma_dof": 0.0})
    rows = label_rows(np.array([0.2, -3.0, 99.0]), JIANG, recipe.fit, 1.0)
    assert rows.argmax(axis=1).tolist() == JIANG.classes(np.array([0.2, -3.0, 99.0])).tolist()
    assert sorted(set(rows.ravel().tolist())) == [0.0, 1.0]
