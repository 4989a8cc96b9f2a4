"""Runs side by side: what may be compared, how it is timed, what the page says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fake_run
import numpy as np
import pytest
import tiny
from oracle import Parfocal
from pages import Page

from convert import compare, compare_page
from convert.same_test import difference, judged_on, shared_sets
from edge.bench.timing import ROUNDS, interleaved, machine
from train.labels import bins_of
from train.run_folder import read_run, write_json

keras_needed = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("keras") is None, reason="needs the train extra (TensorFlow)"),
    # TensorFlow's variables do not know NumPy 2's way to ask for an array.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
RECIPE = fake_run.recipe()
DOF = fake_run.recipe("in_dof", labels="dof", bin_range_dof=12.0, bin_count=49)
CENTRES = bins_of(RECIPE.network).centres
TRUTHS = [float(centre) for centre in CENTRES[::2]]
PAPER = "the paper's figure on the paper's data (11,396 tiles), not ours"


class TestInterleaved:
    def _clocked(
        self, costs_s: dict[str, Sequence[float]]
    ) -> tuple[list[str], dict[str, Callable[[], None]], Any]:
        """Work that costs what it is said to, call by call, of a clock that stands still else."""
        now, order = [0.0], []
        left = {name: list(costs) for name, costs in costs_s.items()}

        def work(name: str) -> Callable[[], None]:
            def once() -> None:
                order.append(name)
                now[0] += left[name].pop(0)

            return once

        return order, {name: work(name) for name in costs_s}, lambda: now[0]

    def test_takes_turns_and_rotates(self) -> None:
        order, work, clock = self._clocked({"a": [1] * 3, "b": [1] * 3, "c": [1] * 3})
        interleaved(work, rounds=2, warm_up=1, clock=clock)
        assert "".join(order) == "abcbcacab"

    def test_gives_median_and_quartiles_without_the_warm_up(self) -> None:
        _, work, clock = self._clocked(
            {"a": [9, 9, 0.001, 0.002, 0.003, 0.004, 0.005], "b": [1, 1] + [0.01] * 5}
        )
        taken = interleaved(work, rounds=5, warm_up=2, clock=clock)
        assert taken["a"].median_ms == pytest.approx(3)
        assert (taken["a"].p25_ms, taken["a"].p75_ms) == (pytest.approx(2), pytest.approx(4))
        assert taken["b"].median_ms == pytest.approx(10)

    def test_there_are_enough_rounds(self) -> None:
        assert ROUNDS >= 30

    def test_the_machine_is_named(self) -> None:
        assert "processors" in machine()
        assert "\n" not in machine()


class TestSameTest:
    def _run(self, folder: Path, truths: Sequence[float] = TRUTHS, **changes: Any) -> Any:
        data = fake_run.ramps(truths)
        given = {"recipe": RECIPE, "val": data, "test": data} | changes
        return judged_on(read_run(fake_run.write_run(folder, **given)))

    def test_the_same(self, tmp_path: Path) -> None:
        one = self._run(tmp_path / "a")
        turned = self._run(tmp_path / "b", TRUTHS[::-1], recipe=DOF)
        assert difference(one, turned) is None, "neither order nor labels matter"
        trained = {"train": {"s9": "z"}, "val": {"s2": "b"}, "test": fake_run.GROUPS["test"]}
        assert difference(one, self._run(tmp_path / "c", groups=trained)) is None, "the other sides are free"

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"groups": fake_run.GROUPS | {"test": {"s4": "d"}}}, "groups s4, s5 and s4"),
            (
                {"groups": fake_run.GROUPS | {"test": {"s4": "d", "s5": "x"}}},
                "the images of s4, s5 are not the same",
            ),
            ({"truths": TRUTHS[1:]}, f"{len(TRUTHS)} and {len(TRUTHS) - 1} images of the same groups"),
            ({"truths": [0.1, *TRUTHS[1:]]}, "the same images with other labels or optics"),
        ],
    )
    def test_what_differs_is_said(self, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
        what = difference(self._run(tmp_path / "a"), self._run(tmp_path / "b", **changes))
        assert what is not None
        assert words in what

    def test_synthetic_runs_are_known_by_their_fields(self, tmp_path: Path) -> None:
        made = []
        for k, data in enumerate(({}, {"train_fields": 7}, {"seed": 2})):
            recipe = RECIPE.model_copy(update={"data": RECIPE.data.model_copy(update=data)})
            run = self._run(tmp_path / str(k), recipe=recipe)
            write_json(tmp_path / str(k) / "split.json", {"train": {}, "val": {}, "test": {"sha256": str(k)}})
            run = judged_on(read_run(tmp_path / str(k)))
            made.append(replace(run, sources=("synthetic",)))
        assert difference(made[0], made[1]) is None
        assert difference(made[0], made[2]) == "simulated with other seeds, specimens or optics"
        real = self._run(tmp_path / "real")
        assert difference(made[0], real) == "simulated images and images from the disk"

    def test_further_sets_that_all_share(self, tmp_path: Path) -> None:
        same, other = fake_run.ramps([1.0, 2.0]), fake_run.ramps([1.0, 3.0])
        a = self._run(tmp_path / "a", more={"test_same": same, "test_diff": same})
        b = self._run(tmp_path / "b", more={"test_same": same, "test_diff": other})
        assert shared_sets([a, b]) == ["test_same"]
        assert shared_sets([a, self._run(tmp_path / "c")]) == []


class TestNames:
    def test_as_short_as_they_can_be(self) -> None:
        assert compare.distinct_names([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
        assert compare.distinct_names([Path("/x/a/run"), Path("/x/b/run")]) == ["a/run", "b/run"]

    def test_one_run_or_the_same_run_is_refused(self) -> None:
        one = tiny.input_error(lambda: compare.distinct_names([Path("/x/a")]))
        assert one == "/x/a: two runs or more are needed to compare"
        twice = tiny.input_error(
            lambda: compare.distinct_names([Path("/x/a"), Path("/x/b"), Path("/x/../x/a")])
        )
        assert twice == "/x/../x/a: is named twice"


def _write(folder: Path, recipe: Any = RECIPE, *, mistake_um: float = 0.0, **changes: Any) -> Path:
    data = fake_run.ramps(TRUTHS, tiles=2)
    network = fake_run.reader(recipe.network, mistake_um=mistake_um, sharpness=0.05)
    given = {"recipe": recipe, "val": data, "test": data, "network": network, "log": fake_run.log_rows(4)}
    return fake_run.write_run(folder, **(given | changes))


class TestCommand:
    pytestmark = keras_needed

    def test_two_runs(self, parfocal: Parfocal, tmp_path: Path) -> None:
        off = float(CENTRES[22] - CENTRES[21])
        runs = _write(tmp_path / "exact <b>"), _write(tmp_path / "off", mistake_um=off, weights="scratch")
        out = tmp_path / "side by side"
        code, text, err = parfocal("compare", *runs, "--out", out)
        assert (code, err) == (0, "")
        assert text.startswith(f"{out / 'compare.html'}: 2 runs\n  exact <b>: accuracy 100.0 %")
        assert {path.name for path in out.iterdir()} == {
            "compare.html",
            "compare.json",
            *compare_page.PICTURES,
        }
        found = json.loads((out / "compare.json").read_text("utf-8"))
        exact, other = found["runs"]
        assert (exact["name"], exact["accuracy"]) == ("exact <b>", 1)
        assert other["accuracy"] == pytest.approx(1 / len(TRUTHS)), "the last class has no neighbour beyond"
        for run in (exact, other):
            assert (run["multiply_adds"], run["parameters"]) == (96 + 32 + 41, 3 + 33 + 82)
            int8 = run["int8"]
            assert int8["file_bytes"] > 1000
            assert int8["tiles_in_image"] == 2
            assert 0 < int8["latency_tile_ms"]["median_ms"] < int8["latency_image_ms"]["median_ms"] < 100
            assert abs(int8["mae_um"] - run["mae_um"]) < 0.5
        assert found["same_test_images"] is True
        assert (found["rounds"], found["warm_up_rounds"]) == (40, 5)
        page = Page(out / "compare.html")
        assert len(page.images) == 4
        for words in (
            "exact <b>", "the same test images", "off: Started from scratch", "4 epochs, fewer than 10",
            "Tiles are 32 px wide", "medians of 40 rounds", "5 rounds of warm-up", "not the device",
        ):  # fmt: skip
            assert words in page.text
        assert f"{PAPER} 33.56 %" in page.text
        assert f"exact <b>, on its own {len(TRUTHS)} test images, not the paper's 100.0 %" in page.text
        assert page.text.count("33.56") == 1

    def test_different_test_sides_are_refused_unless_allowed(
        self, parfocal: Parfocal, tmp_path: Path
    ) -> None:
        groups = fake_run.GROUPS | {"test": {"s6": "f"}}
        runs = _write(tmp_path / "a", DOF), _write(tmp_path / "b", DOF, groups=groups)
        out = tmp_path / "out"
        code, text, err = parfocal("compare", *runs, "--out", out)
        assert (code, text, err.count("\n")) == (2, "", 1)
        assert "a and b: groups s4, s5 and s6; --allow-different-tests" in err
        assert not out.exists()
        assert parfocal("compare", *runs, "--out", out, "--allow-different-tests")[0] == 0
        page = Page(out / "compare.html")
        assert "a and b: groups s4, s5 and s6. Their figures do not compare." in page.text
        assert "DIFFERENT test images" in page.text
        assert "33.56" not in page.html, "only beside the paper's own classes"
        assert "paper" not in json.loads((out / "compare.json").read_text("utf-8"))

    def test_different_classes_are_said(self, parfocal: Parfocal, tmp_path: Path) -> None:
        runs = _write(tmp_path / "a"), _write(tmp_path / "b", DOF)
        out = tmp_path / "out"
        out.mkdir()
        (out / "mine.png").write_bytes(b"mine")
        assert parfocal("compare", *runs, "--out", out)[0] == 0
        assert "The runs have different classes" in Page(out / "compare.html").text
        assert (out / "mine.png").read_bytes() == b"mine"

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (
                lambda run: (run / "run.json").unlink(),
                "run.json: cannot be read: no such file",
            ),
            (lambda run: (run / "model.keras").unlink(), "no model.keras in it"),
            (lambda run: (run / "split.json").write_text("{"), "split.json: cannot be read"),
        ],
    )
    def test_what_is_not_a_finished_run_is_refused(
        self, parfocal: Parfocal, tmp_path: Path, spoil: Callable[[Path], object], words: str
    ) -> None:
        runs = _write(tmp_path / "a"), _write(tmp_path / "b")
        spoil(runs[0])
        code, text, err = parfocal("compare", *runs, "--out", tmp_path / "out")
        assert (code, text, err.count("\n")) == (2, "", 1)
        assert words in err

    def test_where_the_page_cannot_be_written(self, parfocal: Parfocal, tmp_path: Path) -> None:
        runs = _write(tmp_path / "a"), _write(tmp_path / "b")
        for out in (tmp_path / "none" / "out", runs[0] / "run.json"):
            code, _, err = parfocal("compare", *runs, "--out", out)
            assert (code, err.count("\n")) == (2, 1)
            assert f"{out}: cannot be written to" in err


class TestPage:
    def test_runs_without_a_log_have_no_curves(self) -> None:
        run: dict[str, Any] = {
            "name": "_$x_", "unit": "dof", "class_centres": [-1.0, 0.0, 1.0],
            "per_class_accuracy": [1, None, 0], "mae_um": None, "mae_dof": 1.0,
            "multiply_adds": 10**6, "int8": {"mae_dof": 1.1, "mae_um": None},
        }  # fmt: skip
        pictures = compare_page.pictures_of([run, run | {"name": "b"}], {"_$x_": [], "b": []})[1]
        assert sorted(pictures) == ["classes.png", "error_against_work.png"]

    def test_what_holds_for_all_stands_once_and_first(self) -> None:
        base = {
            "n_test": 500, "epochs": 4, "input_px": 224, "per_class_images": [5] * 3, "n_far": 150,
            "beyond_bins": 0, "tile_weight_was_fitted": True, "sources": ["jiang"], "weights": "imagenet",
            "unit": "um",
            "groups": {"test": ["a", "b", "c"]}, "class_centres": [1, 2, 3],
        }  # fmt: skip
        runs = [base | {"name": "a", "weights": "scratch"}, base | {"name": "b"}]
        assert compare_page.notes_on(runs, [(0, 0), (0.3, 0)], []) == [
            "The runs were fitted to labels of different width: their losses do not compare.",
            "Trained for 4 epochs, fewer than 10.",
            "a: Started from scratch, without ImageNet weights.",
        ]
        assert np.all(
            [note.endswith(".") for note in compare_page.notes_on(runs, [(0, 0)] * 2, ["a and b: x"])]
        )
