"""Trained networks as teachers: what they say, how much of a label it is, and what is refused."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray
from oracle import Parfocal

from train import teacher
from train.labels import bins_of, label_rows

needs_keras = pytest.mark.skipif(find_spec("keras") is None, reason="needs the train extra (TensorFlow)")
pytestmark = [
    pytest.mark.train,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


class Saying:
    """A network that says the same of every tile."""

    def __init__(self, *probabilities: float) -> None:
        self._logits = np.log(np.array([probabilities])) + 3.0

    def predict_on_batch(self, pixels: NDArray[np.float32]) -> dict[str, Any]:
        return {"logits": np.repeat(self._logits, len(pixels), axis=0)}


def test_teachers_say_their_geometric_mean() -> None:
    told: list[float] = []
    data = tiny.tile_data(40)
    one = teacher.lesson([Saying(0.2, 0.5, 0.3)], data)
    assert (one.shape, one.dtype) == ((40, 3), np.float32)
    np.testing.assert_allclose(one[-1], [0.2, 0.5, 0.3], rtol=1e-5)
    both = teacher.lesson([Saying(0.2, 0.5, 0.3), Saying(0.8, 0.1, 0.1)], data, progress=told.append)
    wanted = np.sqrt([0.2 * 0.8, 0.5 * 0.1, 0.3 * 0.1])
    np.testing.assert_allclose(both, np.tile(wanted / wanted.sum(), (40, 1)), rtol=1e-5)
    assert sum(told) == 80, "each teacher hears every tile"


@needs_keras
def test_it_is_its_share_of_each_label_and_none_of_validation() -> None:
    from train.batches import Batches

    recipe, data = tiny.recipe(fit={"teacher_share": 0.25}), tiny.tile_data(50)
    lesson = np.random.default_rng(1).dirichlet(np.ones(7), 50).astype(np.float32)
    plain = label_rows(data.truth("dof"), bins_of(recipe.network), recipe.fit, 1.0)
    taught = Batches(data, recipe, 3, train=True, lesson=lesson)
    found = np.concatenate([taught.batch(0, k)[1] for k in range(len(taught))])
    order = np.random.default_rng((3, 0)).permutation(50)
    np.testing.assert_allclose(found, (0.75 * plain + 0.25 * lesson)[order], atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(Batches(data, recipe, 3, train=False).batch(0, 0)[1], plain[:16])


@needs_keras
def test_a_network_learns_what_its_teacher_says_and_not_the_truth(tmp_path: Path) -> None:
    from train import fit, network

    recipe = tiny.recipe(fit={"epochs": 3, "learning_rate": 0.02, "flips": False, "teacher_share": 1.0})
    train, val = tiny.tile_data(400), tiny.tile_data(60, seed=1)
    wrong = label_rows(-train.truth("dof"), bins_of(recipe.network), recipe.fit, 1.0)
    model = network.build(recipe.network, "scratch", seed=1)
    fit.Fitting(model, train, val, recipe, seed=1, lesson=wrong).run(tmp_path, "a")
    logits = np.asarray(model(val.pixels / np.float32(127), training=False)["logits"])
    said = bins_of(recipe.network).centres[logits.argmax(axis=1)]
    far = np.abs(val.defocus_dof) > 0.7
    assert np.mean(np.sign(said[far]) == -np.sign(val.defocus_dof[far])) > 0.9


@needs_keras
def test_a_whole_run_is_taught_by_another_and_goes_on_with_no_other(
    parfocal: Parfocal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.network import build

    monkeypatch.setattr("train.pool.default_processes", lambda: 1)
    monkeypatch.setattr("train.run_folder.TO_RESUME", ())
    teachers = [tmp_path / name for name in ("a.keras", "b.keras")]
    for seed, file in enumerate(teachers):
        build(tiny.recipe().network, "scratch", seed=seed).save(file)
    recipe, run = tiny.write_recipe(tmp_path / "r.toml", fit={"teacher_share": 0.5}), tmp_path / "run"
    words = ["train", "synthetic", "--recipe", recipe, "--out", run, "--weights", "scratch", "--teacher"]
    code, _, err = parfocal(*map(str, [*words, *teachers]))
    assert code == 0, err
    record = json.loads((run / "run.json").read_text("utf-8"))
    assert record["taught_by"] == [hashlib.sha256(file.read_bytes()).hexdigest() for file in teachers]
    (run / "run.json").unlink()  # as if it had been killed before that was written
    code, _, err = parfocal(*map(str, [*words, teachers[0], "--resume"]))
    begun = "was begun with another recipe, seed, weights, teachers or data"
    assert (code, err) == (2, f"parfocal: {run}: {begun}: --resume goes on only with the same\n")


@pytest.mark.parametrize(
    ("share", "files", "said"),
    [
        (0, ["model.keras"], "--teacher: [fit] teacher_share is 0 in this recipe: above 0, to 1, is needed"),
        (0.5, [], "[fit] teacher_share = 0.5: --teacher with the model.keras of a run is needed"),
        (0.5, ["none.keras"], "none.keras: no such file; --teacher needs the model.keras of a run"),
        (1.5, ["model.keras"], "fit.teacher_share = 1.5: "),
        (0.5, ["model.keras"], "model.keras: not a readable Keras model: "),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    parfocal: Parfocal, tmp_path: Path, share: float, files: list[str], said: str
) -> None:
    (tmp_path / "model.keras").write_bytes(b"no")
    recipe = tiny.write_recipe(tmp_path / "r.toml")
    text = recipe.read_text("utf-8").replace("teacher_share = 0.0", f"teacher_share = {share}")
    recipe.write_text(text, "utf-8")
    out, given = tmp_path / "run", [str(tmp_path / name) for name in files]
    words = ["train", "synthetic", "--recipe", str(recipe), "--out", str(out), "--weights", "scratch"]
    if "Keras" in said and find_spec("keras") is None:
        pytest.skip("needs the train extra (TensorFlow)")
    code, shown, err = parfocal(*words, *(["--teacher", *given] if given else []))
    assert (code, shown) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not out.exists()
