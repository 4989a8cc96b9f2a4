"""`parfocal train`, `convert`, `evaluate` given what cannot be used: one line, exit code 2, nothing written.

All of it is refused before TensorFlow is imported. The commands at work: test_convert.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from oracle import Parfocal

from train import options, train_command


@pytest.fixture(autouse=True)
def no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad input must be refused on a machine without the train extra, too."""
    for name in ("tensorflow", "keras"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("train.network", "train.fit", "train.weights", "train.checkpoint", "convert.quantize"):
        package, _, module = name.partition(".")
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr(f"{package}.{module}", raising=False)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return tiny.write_recipe(tmp_path / "tiny.toml")


def _refused(parfocal: Parfocal, *words: object) -> str:
    code, out, err = parfocal(*words)
    assert (code, out) == (2, ""), err
    assert err.startswith("parfocal")
    assert err.count("\n") == 1
    return err


class TestTrain:
    def test_an_output_that_is_taken(self, parfocal: Parfocal, recipe: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        out.mkdir()
        (out / "mine.txt").write_text("mine")
        err = _refused(parfocal, "train", "synthetic", "--recipe", recipe, "--out", out)
        assert f"{out}: exists and is not an empty folder; nothing was overwritten" in err
        assert [p.name for p in out.iterdir()] == ["mine.txt"]
        for place in (recipe, recipe / "run"):
            err = _refused(parfocal, "train", "synthetic", "--recipe", recipe, "--out", place)
            assert str(place) in err

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--epochs", 0), "--epochs 0: 1 to 1000 is allowed"),
            (("--epochs", 1001), "--epochs 1001: 1 to 1000 is allowed"),
            (("--epochs", "x"), "--epochs"),
            (("--seed", -1), "--seed -1: 0 to 4294967295 is allowed"),
            (("--seed", 1 << 32), "--seed 4294967296: 0 to 4294967295 is allowed"),
            (("--network", "resnet"), "--network"),
            (("--labels", "mm"), "--labels"),
            (("--labels", "um"), "--labels um: synthetic data knows depths of field only: give --objective"),
            (("--size", 8), "network.tile_px = 8"),
            (("--objective", "20"), "--objective: objective = '20': write magnification and NA"),
            (("--split", "x.json"), "--split has no meaning for synthetic data"),
            (("--recipe", "none.toml"), "none.toml: recipe cannot be read: no such file"),
            (("--recipe", "none"), "recipe 'none': allowed are "),
            (
                ("--weights", "none.npz"),
                "none.npz: no such weights file; imagenet, scratch or a file",
            ),
        ],
    )
    def test_an_option_that_is_wrong(
        self, parfocal: Parfocal, recipe: Path, tmp_path: Path, words: tuple[object, ...], said: str
    ) -> None:
        out = tmp_path / "run"
        err = _refused(parfocal, "train", "synthetic", "--recipe", recipe, "--out", out, *words)
        assert said in err
        assert not out.exists()

    def test_without_tensorflow_it_says_what_to_install(
        self, parfocal: Parfocal, recipe: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        err = _refused(parfocal, "train", "synthetic", "--recipe", recipe, "--out", out)
        assert "pip install 'parfocal[train]'" in err
        assert not out.exists()

    def test_the_command_line_goes_before_the_recipe(self, recipe: Path) -> None:
        import argparse

        parser = argparse.ArgumentParser()
        train_command.add_arguments("train", parser)
        words = ["synthetic", "--out", "x", "--recipe", str(recipe)]
        kept = options.chosen_recipe(parser.parse_args(words))
        assert kept == tiny.recipe(fit={"flips": False}), "one microscope: flips would destroy a cue"
        chosen = options.chosen_recipe(parser.parse_args([*words, "--epochs", "7", "--seed", "9"]))
        assert (chosen.fit.epochs, chosen.data.seed) == (7, 9)
        assert chosen.network == kept.network
        chosen = options.chosen_recipe(
            parser.parse_args([*words, "--network", "vgg16", "--labels", "jiang41"])
        )
        assert (chosen.network.base, chosen.network.cut, chosen.network.labels) == ("vgg16", None, "jiang41")

    def test_flips_only_where_the_optics_vary(self, tmp_path: Path) -> None:
        import argparse

        recipe = tiny.write_recipe(tmp_path / "r.toml", data={"optics": "random"})
        parser = argparse.ArgumentParser()
        train_command.add_arguments("train", parser)
        for data, flips in (("synthetic", True), ("stacks", False)):
            args = parser.parse_args([data, "--out", "x", "--recipe", str(recipe)])
            assert options.chosen_recipe(args).fit.flips is flips


class TestConvert:
    def test_a_run_that_is_missing_or_empty(self, parfocal: Parfocal, tmp_path: Path) -> None:
        out = tmp_path / "m.tflite"
        assert "no such run folder" in _refused(parfocal, "convert", tmp_path / "none", "--out", out)
        run = tmp_path / "run"
        run.mkdir()
        err = _refused(parfocal, "convert", run, "--out", out)
        assert f"{run / 'run.json'}: cannot be read: no such file" in err
        assert "did the training run finish?" in err
        assert not out.exists()

    def test_an_output_without_a_folder_or_that_is_one(self, parfocal: Parfocal, tmp_path: Path) -> None:
        out = tmp_path / "none" / "m.tflite"
        assert "its folder does not exist" in _refused(parfocal, "convert", tmp_path, "--out", out)
        assert "is a folder" in _refused(parfocal, "convert", tmp_path, "--out", tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("run.json", b"{", "cannot be read: "),
            ("run.json", b"[" * 100_000, "cannot be read"),
            ("run.json", b"[]", "not an object"),
            ("run.json", b"{}", "sources: Field required"),
            ("run.json", b'{"sources": ["a"], "weights": 3, "seed": 1, "finished": "x"}', "weights: "),
            ("recipe.json", b"\xff", "cannot be read"),
            ("recipe.json", b'{"netwrok": {}}', "unknown key 'netwrok'"),
            ("calibration.npy", b"", "not readable calibration tiles"),
            ("calibration.npy", np.zeros((4, 16, 16, 3), np.int8), "int8 tiles of 32 x 32 are needed"),
            ("calibration.npy", np.zeros((4, 32, 32, 3), np.float32), "int8 tiles of 32 x 32 are needed"),
            ("calibration.npy", np.zeros((0, 32, 32, 3), np.int8), "int8 tiles of 32 x 32 are needed"),
            ("calibration.npy", np.int8(1), "int8 tiles of 32 x 32 are needed"),
            ("val.npz", b"PK", "not readable tiles"),
            ("test.npz", None, "not readable tiles: no such file"),
            ("split.json", None, "cannot be read"),
            ("log.csv", b"epoch\n\xff", "not a readable log"),
            ("log.csv", b"epoch\nx", "not a readable log"),
        ],
    )
    def test_a_run_that_is_damaged(
        self, parfocal: Parfocal, tmp_path: Path, name: str, content: Any, said: str
    ) -> None:
        run, out = _run_without_network(tmp_path), tmp_path / "m.tflite"
        if content is None:
            (run / name).unlink()
        elif isinstance(content, bytes):
            (run / name).write_bytes(content)
        else:
            np.save(run / name, content)
        err = _refused(parfocal, "convert", run, "--out", out)
        assert f"{run / name}: " in err
        assert said in err
        assert not out.exists()


class TestEvaluate:
    def test_a_model_that_is_missing_or_none(self, parfocal: Parfocal, tmp_path: Path) -> None:
        path = tmp_path / "m.tflite"
        assert f"{path}: no such model file" in _refused(parfocal, "evaluate", path, "synthetic")
        path.write_bytes(b"model")
        assert f"{path}: not a TFLite file" in _refused(parfocal, "evaluate", path, "synthetic", "--json")

    def test_a_recipe_that_is_missing(self, parfocal: Parfocal, tmp_path: Path) -> None:
        err = _refused(parfocal, "evaluate", tmp_path / "m", "synthetic", "--recipe", "none")
        assert "recipe 'none': allowed are " in err


def _run_without_network(tmp_path: Path) -> Path:
    """A run folder, whole but for the network: what is read before TensorFlow is imported."""
    from train import tile_data

    run = tmp_path / "run"
    run.mkdir()
    record = {"sources": ["synthetic"], "weights": "scratch", "seed": 1, "finished": "2024-01-01"}
    (run / "run.json").write_text(json.dumps(record), "utf-8")
    (run / "recipe.json").write_text(tiny.recipe().model_dump_json(), "utf-8")
    (run / "split.json").write_text("{}", "utf-8")
    np.save(run / "calibration.npy", tiny.tile_data(8).pixels)
    for name in ("val", "test"):
        tile_data.save(run / f"{name}.npz", tiny.tile_data(6))
    return run
