"""The model's page says what was measured: nothing on it is older than the figures beside it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from edge.errors import InputError
from edge.model import DEFAULT_PATH
from train import model_card
from train.model_asked import ASKED, Asked, Found

TREE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def found() -> Found:
    return model_card.read(TREE / model_card.FOLDER, DEFAULT_PATH)


class TestThePage:
    def test_is_that_of_the_committed_model_and_figures(self, found: Found) -> None:
        assert (TREE / model_card.PAGE).read_text("utf-8") == model_card.page(found)

    def test_figures_are_of_this_file(self, found: Found) -> None:
        """Measured again, the held-out frames' figures are those that the converter put into the card."""
        card = found["card"].metrics["int8"]
        frames = found["frames"]["frames"]
        # Not to the last digit: the tiles of the run were cut when means were still taken in float32.
        assert card["frame_mae_dof"] == pytest.approx(frames["mae_dof"], abs=0.06)
        assert card["frame_n"] == frames["n"]

    def test_the_worst_come_first(self, found: Found) -> None:
        errors = [row["mae_dof"] for row in found["frames"]["frames_by_kind"].values()]
        assert errors == sorted(errors, reverse=True)

    def test_a_run_that_missed_is_named(self, found: Found) -> None:
        changed = copy.copy(found)
        missed = {
            "specimen": "debris",
            "objective": "10x0.25",
            "start_dof": 8.0,
            "true_defocus_dof": -4.25,
            "result": "focused",
            "method": "sweep",
            "captures": 31,
        }
        changed["loop"] = {**found["loop"], "failures": [missed] * 13}
        text = model_card.page(changed)
        assert "- debris behind 10x0.25, from +8.0 dof: ended -4.2 dof from focus (focused, sweep, 31" in text
        assert "- and 1 more" in text
        changed["loop"] = {**found["loop"], "failures": []}
        assert "- none" in model_card.page(changed)

    def test_every_plot_is_a_picture(self, found: Found) -> None:
        for draw in (model_card.distance, model_card.reliability):
            assert draw(found).startswith(b"\x89PNG")

    @pytest.mark.parametrize("content", [None, "{", "not json"])
    def test_a_figure_that_is_missing(self, tmp_path: Path, content: str | None) -> None:
        if content is not None:
            (tmp_path / "frames.json").write_text(content, "utf-8")
        with pytest.raises(InputError, match=r"frames.json: cannot be read: .*; `make figures` writes it"):
            model_card.read(tmp_path, DEFAULT_PATH)


class TestAsked:
    @pytest.mark.parametrize(
        ("value", "most", "word"),
        [
            (0.02, True, "aim met"),
            (0.03, True, "aim met"),
            (0.08, True, "met"),
            (0.11, True, "**short**"),
            (0.02, False, "**short**"),
            (0.11, False, "met"),
        ],
    )
    def test_words(self, value: float, most: bool, word: str) -> None:
        bounds = (0.10, 0.03) if most else (0.10, 0.5)
        row = Asked("error", *bounds, "%", lambda f: f["x"], most).row({"x": value})
        assert row.endswith(f"| {word} |")
        assert row.startswith("| error | 10 % | ")

    def test_bounds_are_in_order(self) -> None:
        for asked in ASKED:
            assert asked.aim <= asked.least if asked.most else asked.aim >= asked.least, asked.name
