"""The report on a run: its figures against hand-computed ones, its page, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import fake_run
import numpy as np
import pytest
from fake_run import DOF_UM
from oracle import Parfocal
from pages import Page

from train import metrics, page, report, samples
from train.judge import Judged, judge
from train.labels import bins_of
from train.network_size import Size
from train.run_folder import Run, read_run

keras_needed = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("keras") is None, reason="needs the train extra (TensorFlow)"),
    # TensorFlow's variables do not know NumPy 2's way to ask for an array.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
RECIPE = fake_run.recipe()
CENTRES = bins_of(RECIPE.network).centres
#: Classes at 0, +1, -1, +5, -9 and +20 from the middle.
TRUTHS = [float(CENTRES[20 + k]) for k in (0, 1, -1, 5, -9, 20)]
#: Two are right, one is off by a class, one by two, two are on the wrong side.
GUESSES = [float(CENTRES[20 + k]) for k in (0, 2, -1, 3, 9, -20)]


def _judged(
    folder: Path, truths: Sequence[float], guesses: Sequence[float], *, recipe: Any = RECIPE, **data: Any
) -> tuple[Run, Judged, dict[str, Any]]:
    """A run whose network says ``guesses``, without a network."""
    test = fake_run.ramps(truths, **data)
    fake_run.write_run(folder, recipe=recipe, val=test, test=test, log=fake_run.log_rows(3))
    read = read_run(folder)
    bins = bins_of(recipe.network)
    said = np.repeat(guesses, len(test) // len(truths))
    logits = fake_run.logits_at(said, bins, 400.0)
    judged = judge(read, {"val": logits, "test": logits})
    return read, judged, metrics.of_run(read, judged, Size(1000, 2_000_000))


class TestWilson:
    def test_by_hand(self) -> None:
        # 10 of 100: (0.1 + 1.9208 / 100 ± 1.96 sqrt(0.09 / 100 + 0.9604 / 10000)) / 1.038416
        assert metrics.wilson(10, 100) == pytest.approx((0.05523, 0.17437), abs=1e-5)
        assert metrics.wilson(5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-5)

    def test_has_a_width_where_nothing_or_everything_succeeded(self) -> None:
        # z² / (n + z²)
        assert metrics.wilson(0, 10) == pytest.approx((0, 0.27754), abs=1e-5)
        assert metrics.wilson(10, 10) == pytest.approx((0.72246, 1), abs=1e-5)

    def test_of_nothing_says_nothing(self) -> None:
        assert metrics.wilson(0, 0) == (0, 1)


class TestMetrics:
    def test_are_those_by_hand(self, tmp_path: Path) -> None:
        _, _, found = _judged(tmp_path / "run", TRUTHS, GUESSES)
        error = np.abs(np.array(TRUTHS) - GUESSES)
        assert found["accuracy"] == pytest.approx(2 / 6)
        assert found["mae_um"] == pytest.approx(error.mean(), abs=1e-6)
        assert found["mae_dof"] == pytest.approx(error.mean() / DOF_UM, abs=1e-6)
        assert found["median_um"] == pytest.approx(np.median(error), abs=1e-6)
        assert found["p95_um"] == pytest.approx(np.percentile(error, 95), abs=1e-6)
        assert found["mae_um_argmax"] == pytest.approx(error.mean(), abs=1e-6)
        assert found["within_1_dof"] == pytest.approx(3 / 6), "one class is 0.6 µm, a depth of field 0.98 µm"
        assert found["wrong_direction"] == pytest.approx(2 / 3), "of those at 1 dof or more"
        assert found["n_far"] == 3
        assert found["intervals"]["accuracy"] == metrics.wilson(2, 6)
        assert found["intervals"]["wrong_direction"] == metrics.wilson(2, 3)
        classes = found["per_class_accuracy"]
        assert len(classes) == 41
        known = {k - 20: value for k, value in enumerate(classes) if value is not None}
        assert known == {0: 1, 1: 0, -1: 1, 5: 0, -9: 0, 20: 0}
        assert sum(found["per_class_images"]) == 6
        assert np.sum(found["confusion"]) == 6
        assert found["confusion"][25][23] == 1, "row: the truth, column: what was said"

    def test_the_estimate_lies_between_classes_and_the_most_probable_bin_does_not(
        self, tmp_path: Path
    ) -> None:
        truths = [(CENTRES[25] + CENTRES[26]) / 2 - 0.01]
        read, _, _ = _judged(tmp_path / "run", truths, truths)
        logits = fake_run.logits_at(truths, bins_of(RECIPE.network), 3.0)
        found = metrics.of_run(read, judge(read, {"val": logits, "test": logits}), Size(1, 1))
        assert found["mae_um"] < 0.05
        assert found["mae_um_argmax"] == pytest.approx(truths[0] - CENTRES[25], abs=1e-6)

    def test_count_images_and_not_tiles(self, tmp_path: Path) -> None:
        _, judged, found = _judged(tmp_path / "run", TRUTHS, GUESSES, tiles=4)
        assert (found["n_test"], found["n_val"], found["n_train"]) == (6, 6, 30)
        assert (found["tiles"]["n"], found["tiles_per_image"]) == (24, 4)
        assert found["accuracy"] == pytest.approx(2 / 6)
        assert found["multiply_adds_per_image"] == 8_000_000
        assert judged.weight_was_fitted

    def test_name_the_run(self, tmp_path: Path) -> None:
        _, _, found = _judged(tmp_path / "run", TRUTHS, GUESSES)
        assert found["groups"] == {"train": ["s1", "s2"], "val": ["s3"], "test": ["s4", "s5"]}
        kept = {key: found[key] for key in ("recipe", "network", "labels", "weights", "epochs", "seed")}
        assert kept == {
            "recipe": "tiny", "network": "mobilenetv2", "labels": "jiang41", "weights": "imagenet",
            "epochs": 3, "seed": 7,
        }  # fmt: skip
        assert (found["parameters"], found["multiply_adds"]) == (1000, 2_000_000)
        assert json.loads(json.dumps(found, allow_nan=False)) is not None

    def test_without_um_there_are_none(self, tmp_path: Path) -> None:
        recipe = fake_run.recipe(labels="dof", bin_range_dof=12.0, bin_count=49)
        _, _, found = _judged(tmp_path / "run", [1.0, 2.0], [1.0, 2.0], recipe=recipe, in_um=False)
        assert [found[key] for key in ("mae_um", "median_um", "p95_um", "mae_um_argmax", "dof_um")] == [
            None
        ] * 5
        assert found["mae_dof"] == pytest.approx(np.abs(np.array([1, 2]) * (1 - 1 / DOF_UM)).mean(), abs=0.02)

    def test_the_worst_kind_comes_first(self, tmp_path: Path) -> None:
        _, _, found = _judged(
            tmp_path / "run", [1.0, 1.0, 2.0, 2.0], [1.0, 4.0, 2.0, 5.0], kinds=("good", "bad")
        )
        assert list(found["by_kind"]) == ["bad", "good"]
        assert found["by_kind"]["bad"]["n"] == 2

    def test_where_no_image_is_far_the_direction_is_not_known(self, tmp_path: Path) -> None:
        _, _, found = _judged(tmp_path / "run", [0.1, -0.2], [0.1, 0.2])
        assert found["wrong_direction"] is None
        assert found["intervals"]["wrong_direction"] is None

    def test_truths_beyond_the_last_class_are_counted(self, tmp_path: Path) -> None:
        _, _, found = _judged(tmp_path / "run", [12.5, 12.6, -14.0], [12.0, 12.0, -12.0])
        assert found["beyond_bins"] == 2, "the last class reaches to 12.5 µm"

    def test_further_sets(self, tmp_path: Path) -> None:
        data = fake_run.ramps(TRUTHS)
        fake_run.write_run(tmp_path / "run", recipe=RECIPE, val=data, test=data, more={"test_same": data})
        read = read_run(tmp_path / "run")
        right, wrong = (fake_run.logits_at(of, bins_of(RECIPE.network)) for of in (TRUTHS, GUESSES))
        judged = judge(read, {"val": right, "test": right, "test_same": wrong})
        found = metrics.of_run(read, judged, Size(1, 1))
        assert found["accuracy"] == 1
        assert found["protocols"]["test_same"]["accuracy"] == pytest.approx(2 / 6)


class TestCaveats:
    def test_what_is_small_is_said(self, tmp_path: Path) -> None:
        _, _, found = _judged(tmp_path / "run", TRUTHS, GUESSES)
        said = " ".join(metrics.caveats(found | {"weights": "scratch"}))
        for words in (
            "6 test images", "2 groups", "scratch", "3 epochs", "32 px", "35 of 41 classes",
            "not a fitted one",
        ):  # fmt: skip
            assert words in said
        enough = {
            "n_test": 200, "epochs": 10, "input_px": 224, "per_class_images": [5] * 41, "n_far": 150,
            "beyond_bins": 0, "tile_weight_was_fitted": True, "sources": ["jiang"], "weights": "imagenet",
            "groups": {"test": ["a", "b", "c"]},
        }  # fmt: skip
        assert metrics.caveats(enough) == []


class TestSamples:
    def test_are_a_mix_without_repetition(self, tmp_path: Path) -> None:
        truths = fake_run.spread(120)
        guesses = [truth + 0.02 * k for k, truth in enumerate(truths)]
        _, judged, _ = _judged(tmp_path / "run", truths, guesses)
        chosen = samples.choose(judged.test)
        assert [sample.group for sample in chosen] == ["best"] * 4 + ["typical"] * 4 + ["worst"] * 4
        assert len({sample.index for sample in chosen}) == 12
        error = metrics.errors_dof(judged.test.images)
        best, typical, worst = ([error[s.index] for s in chosen if s.group == g] for g in samples.GROUPS)
        assert max(best) < min(typical) < max(typical) < min(worst)
        assert worst == sorted(error, reverse=True)[:4]

    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_of_few_images(self, tmp_path: Path, count: int) -> None:
        _, judged, _ = _judged(tmp_path / "run", TRUTHS[:count], GUESSES[:count])
        chosen = [sample.index for sample in samples.choose(judged.test)]
        assert chosen
        assert len(set(chosen)) == len(chosen)

    def test_raw_tiles_are_the_cameras_pixels(self) -> None:
        pixels = np.arange(32 * 32 * 3, dtype=np.int64).reshape(32, 32, 3) % 256
        png = samples.tile_png((pixels - 128).astype(np.int8))
        shown = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(shown[::5, ::5], pixels)


class TestPage:
    def test_stands_alone(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        report.write_report(*_judged(run, fake_run.spread(60), fake_run.spread(60)))
        read = Page(run / "report.html")
        files = {path.name for path in (run / "report").iterdir()}
        assert len(read.images) == len(files) == 8 + 2 + 12 - 1, (
            "all pictures but data.png, which is not there"
        )
        for path in (run / "report").iterdir():
            assert cv2.imread(str(path)) is not None
        assert read.html.count('name="viewport"') == 1
        assert "Split by slide, never by tile" in read.text
        assert "s1, s2" in read.text
        assert "12.5 % of the time spent waiting for data" in read.text
        found = json.loads((run / "metrics.json").read_text("utf-8"))
        assert (found["n_test"], found["accuracy"]) == (60, 1)

    def test_every_share_has_its_interval(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        report.write_report(*_judged(run, TRUTHS, GUESSES))
        text = Page(run / "report.html").text
        low, high = (100 * bound for bound in metrics.wilson(2, 6))
        assert f"33.3 % ({low:.1f} to {high:.1f})" in text
        assert f"95 % interval {low:.1f} to {high:.1f}" in text
        assert "Only 6 test images" in text

    def test_names_are_text_and_nothing_else(self, tmp_path: Path) -> None:
        evil = '<script>alert(1)</script>"&amp; <img src=x onerror=alert(1)> $\\frac{'
        recipe = fake_run.recipe(evil)
        run = tmp_path / "a <b>&\" 'run"
        report.write_report(*_judged(run, TRUTHS, GUESSES, recipe=recipe, kinds=(evil, "s5")))
        read = Page(run / "report.html")
        assert " ".join(evil.split()) in read.text
        assert "Report on a <b>&\" 'run" in read.text

    def test_the_data_of_the_run_are_shown(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        read, judged, found = _judged(run, TRUTHS, GUESSES)
        side = {"slides": 2, "fields": 5, "images": 123, "tiles": 456, "class_counts": [1, 7, 3]}
        (run / "data.json").write_text(
            json.dumps({"unit": "µm", "class_centres": [1], "train": side}), "utf-8"
        )
        picture = samples.tile_png(np.zeros((32, 32, 3), np.int8))
        (run / "data.png").write_bytes(picture)
        report.write_report(read, judged, found)
        text = Page(run / "report.html").text
        assert "train 2 5 123 456 1 to 7" in text
        assert (run / "report" / "data.png").read_bytes() == picture

    def test_a_rerun_replaces_its_own_files_alone(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        judged = _judged(run, TRUTHS, GUESSES)
        report.write_report(*judged)
        first = {path.name: path.read_bytes() for path in (run / "report").iterdir()}
        (run / "report" / "sample_best_4.png").write_bytes(b"of an earlier run")
        (run / "report" / "mine.png").write_bytes(b"mine")
        report.write_report(*judged)
        again = {path.name: path.read_bytes() for path in (run / "report").iterdir()}
        assert again == first | {"mine.png": b"mine"}

    def test_one_image_and_no_log(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        _, judged, found = _judged(run, TRUTHS[:1], GUESSES[:1])
        (run / "log.csv").unlink()
        report.write_report(read_run(run), judged, found)
        assert "The run kept no log." in Page(run / "report.html").text

    def test_markup_is_not_escaped_twice(self) -> None:
        assert page.joined([page.paragraph("a & b"), "c < d"]) == "<p>a &amp; b</p>\nc &lt; d"


def _write(folder: Path, *, mistake_um: float = 0.0, **changes: Any) -> Path:
    """A run folder with a network that reads its tiles, each wrong by ``mistake_um``."""
    data = fake_run.ramps(TRUTHS)
    network = fake_run.reader(RECIPE.network, mistake_um=mistake_um)
    given = {"recipe": RECIPE, "val": data, "test": data, "network": network} | changes
    return fake_run.write_run(folder, **given)


class TestCommand:
    pytestmark = keras_needed

    def test_judges_the_network_of_the_run(self, parfocal: Parfocal, tmp_path: Path) -> None:
        run = _write(tmp_path / "run")
        code, out, err = parfocal("report", run)
        assert (code, err) == (0, "")
        assert out.startswith(f"{run / 'report.html'}: 6 test images, accuracy 100.0 % (61.0 to 100.0)")
        found = json.loads((run / "metrics.json").read_text("utf-8"))
        assert (found["accuracy"], found["wrong_direction"]) == (1, 0)
        # Grey: 32 columns times 3; slope: 32; logits: 41. Parameters: those, and the biases of the last two.
        assert (found["multiply_adds"], found["parameters"]) == (96 + 32 + 41, 3 + 33 + 82)
        Page(run / "report.html")

    def test_a_network_that_is_a_class_off(self, parfocal: Parfocal, tmp_path: Path) -> None:
        run = _write(tmp_path / "run", mistake_um=float(CENTRES[22] - CENTRES[21]))
        assert parfocal("report", run)[0] == 0
        found = json.loads((run / "metrics.json").read_text("utf-8"))
        assert found["accuracy"] == pytest.approx(1 / 6), "the last class has no neighbour to be taken for"
        assert found["mae_um"] == pytest.approx(5 / 6 * (CENTRES[22] - CENTRES[21]), abs=0.05)

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (
                lambda run: (run / "run.json").unlink(),
                "run.json: cannot be read: no such file",
            ),
            (lambda run: (run / "model.keras").unlink(), "no model.keras in it"),
            (lambda run: (run / "model.keras").write_bytes(b"PK"), "model.keras: not a readable Keras model"),
            (lambda run: (run / "test.npz").write_bytes(b"PK"), "test.npz: not readable tiles"),
            (lambda run: (run / "log.csv").write_text("epoch\nx\n"), "log.csv: not a readable log"),
            (lambda run: (run / "data.json").write_text("[]"), "data.json: not an object"),
            (lambda run: (run / "data.json").write_text("{"), "data.json: cannot be read"),
            (lambda run: (run / "report").write_bytes(b""), "report: cannot be written to: file exists"),
            (lambda run: (run / "report.html").mkdir(), "report.html: is not a regular file"),
        ],
    )
    def test_what_cannot_be_used_is_one_line(
        self, parfocal: Parfocal, tmp_path: Path, spoil: Any, words: str
    ) -> None:
        run = _write(tmp_path / "run")
        spoil(run)
        code, out, err = parfocal("report", run)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert str(run) in err
        assert words in err

    def test_a_network_that_is_not_the_recipes(self, parfocal: Parfocal, tmp_path: Path) -> None:
        other = fake_run.recipe(labels="dof", bin_range_dof=12.0, bin_count=49)
        run = _write(tmp_path / "run", network=fake_run.reader(other.network))
        code, _, err = parfocal("report", run)
        assert code == 2
        assert "49 logits: the recipe asks for (32, 32, 3) and 41" in err

    def test_labels_in_um_of_data_that_knows_none(self, parfocal: Parfocal, tmp_path: Path) -> None:
        data = fake_run.ramps(TRUTHS, in_um=False)
        code, _, err = parfocal("report", _write(tmp_path / "run", val=data, test=data))
        assert (code, err.count("\n")) == (2, 1)
        assert "labels in µm" in err

    def test_no_such_run(self, parfocal: Parfocal, tmp_path: Path) -> None:
        code, _, err = parfocal("report", tmp_path / "none")
        assert (code, err) == (2, f"parfocal: {tmp_path / 'none'}: no such run folder\n")
