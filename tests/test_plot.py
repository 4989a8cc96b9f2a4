"""The picture of a run: drawn for every kind of run, with the frames that matter."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge.optics import Objective, Optics, natural_pixel_um
from edge.plot import MOST_THUMBNAILS, chosen_frames, draw
from edge.run_result import Entry, Result, Trace

pytest.importorskip("matplotlib", reason="no matplotlib: the extra `plot` is not installed")

OBJECTIVE = Objective(20, 0.4)
OPTICS = Optics(OBJECTIVE, natural_pixel_um(OBJECTIVE))
RESULT = Result("focused", "sure", "network", 2, 1, 20.0, 1.5, -20.0, 0.1, 0.95, 1e-6, 1e-4)


def _entry(
    number: int, *, looked: bool = True, defocus_um: float | None = 3.0, sharpness: float = 1.0
) -> Entry:
    grid = np.linspace(-12, 12, 121)
    probability = np.exp(-0.5 * (grid - (defocus_um or 0) / OPTICS.dof_um) ** 2)
    return Entry(
        time_s=0.1 * number,
        state="looking" if looked else "glancing",
        position_um=-2.0 * number,
        sharpness=sharpness,
        tiles=9 if looked else None,
        within=0.5 if looked else None,
        surprise=0.0 if looked else None,
        true_defocus_um=defocus_um,
        image=np.full((30, 40, 3), 40 + number % 200, np.uint8),
        belief=(grid, probability / probability.sum()) if looked else None,
    )


def _drawn(entries: list[Entry], title: str = "simulated tissue, seed 1") -> np.ndarray:
    data = draw(Trace(entries), RESULT, optics=OPTICS, tolerance_dof=1.0, title=title)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture)


class TestDraw:
    @pytest.mark.parametrize("frames", [1, 2, 3, 7, 40])
    def test_any_number_of_frames(self, frames: int) -> None:
        picture = _drawn([_entry(k, looked=k < 3) for k in range(frames)])
        height, width = picture.shape[:2]
        assert width == 1430
        assert 500 < height < 1400
        assert picture.std() > 10

    def test_a_run_without_truth_or_belief(self) -> None:
        blank = replace(_entry(0, defocus_um=None), tiles=0, belief=None, within=None, sharpness=0.0)
        assert _drawn([blank, blank, blank]).std() > 5

    def test_names_are_not_read_as_formulae(self) -> None:
        odd, plain = (
            _drawn([_entry(0), _entry(1)], title=text) for text in ("replay of $\\frac{$ 100 % {x}", "a")
        )
        assert odd.shape == plain.shape
        assert not np.array_equal(odd, plain), "the odd name is drawn"

    def test_the_same_run_gives_the_same_picture(self) -> None:
        entries = [_entry(0), _entry(1)]
        np.testing.assert_array_equal(_drawn(entries), _drawn(entries))

    def test_settings_of_the_caller_are_left_alone(self) -> None:
        import matplotlib

        before = dict(matplotlib.rcParams)
        _drawn([_entry(0)])
        assert dict(matplotlib.rcParams) == before

    def test_an_empty_trace(self) -> None:
        with pytest.raises(ValueError, match="without frames"):
            draw(Trace(), RESULT, optics=OPTICS, tolerance_dof=1.0, title="")


class TestFilmstrip:
    def test_shows_all_of_a_short_run(self) -> None:
        assert chosen_frames([_entry(k) for k in range(12)]) == list(range(12))

    def test_shows_ends_looks_and_the_sharpest_of_a_long_run(self) -> None:
        entries = [_entry(k, looked=k in (0, 5, 9, 79), sharpness=9.0 if k == 43 else 1.0) for k in range(80)]
        shown = chosen_frames(entries)
        assert len(shown) == MOST_THUMBNAILS
        assert shown == sorted(set(shown))
        assert {0, 5, 9, 43, 79} <= set(shown)

    def test_does_not_show_looks_alone(self) -> None:
        shown = chosen_frames([_entry(k) for k in range(100)])
        assert len(shown) == MOST_THUMBNAILS
        assert {0, 99} <= set(shown)
        assert max(np.diff(shown)) < 60
