"""The model: files that cannot be run are refused in one line; what a network says becomes log-probabilities.

The interpreter is a fake one: see test_default_model.py for the shipped network in real runtimes.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from fake_model import BINS, TILE_PX, FakeInterpreter, card, write_model
from hypothesis import given
from hypothesis import strategies as st

from edge import model as models
from edge.errors import ModelError
from edge.model import Model, combine, load, log_softmax
from edge.optics import Objective, Optics, natural_pixel_um

OBJECTIVE = Objective(20, 0.40)
OPTICS = Optics(OBJECTIVE, natural_pixel_um(OBJECTIVE))


def textured(size: int = 96) -> np.ndarray:
    """A frame ``(size, size, 3)`` uint8 with something in each tile."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(120, 240, (size // 6 + 1, size // 6 + 1))
    grey = np.kron(coarse, np.ones((6, 6)))[:size, :size]
    return np.repeat(grey[:, :, None], 3, axis=2).astype(np.uint8)


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> type[FakeInterpreter]:
    """The one runtime there is."""
    made = type("Interpreter", (FakeInterpreter,), {})
    module = types.ModuleType("fake_runtime")
    module.Interpreter = made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_runtime", module)
    monkeypatch.setattr(
        models, "RUNTIMES", (("no_such_runtime", "Interpreter"), ("fake_runtime", "Interpreter"))
    )
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.tflite")


def assert_refused(path: Path, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    for word in (path.name, *words):
        assert word in str(caught.value)


class TestLoad:
    def test_takes_the_first_runtime_there_is(self, interpreter: type, path: Path) -> None:
        model = load(path, threads=3)
        assert model.runtime == "fake_runtime"
        assert model.name == str(path)
        assert model._interpreter.threads == 3
        assert models.available_runtimes() == ["fake_runtime"]

    def test_a_runtime_that_is_not_there(self, interpreter: type, path: Path) -> None:
        with pytest.raises(ModelError, match="no TFLite runtime no_such_runtime here: pip install"):
            load(path, runtime="no_such_runtime")
        assert load(path, runtime="fake_runtime").runtime == "fake_runtime"

    def test_no_runtime_at_all(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        monkeypatch.setattr(models, "RUNTIMES", (("no_such_runtime", "Interpreter"),))
        with pytest.raises(ModelError, match="no TFLite runtime here: pip install"):
            load(path)
        assert models.available_runtimes() == []

    def test_default_is_the_shipped_one(
        self, interpreter: type, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(models, "DEFAULT_PATH", path)
        assert load("default").name == str(path)

    @pytest.mark.parametrize("error", [ValueError, RuntimeError])
    def test_bytes_that_no_interpreter_takes(self, interpreter: type, path: Path, error: type) -> None:
        interpreter.fails = error  # type: ignore[attr-defined]
        assert_refused(path, "fake_runtime cannot run it", "ABCD")

    @pytest.mark.parametrize("damage", ["", "half", "flipped"])
    def test_a_damaged_file(self, interpreter: type, path: Path, damage: str) -> None:
        data = bytearray(path.read_bytes())
        if damage == "flipped":
            data[60] ^= 255
        path.write_bytes(data[: len(data) // 2] if damage == "half" else data if damage else b"")
        assert_refused(path)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"input_shape": (1, 64, 64, 3)},
            {"input_shape": (1, TILE_PX, TILE_PX, 1)},
            {"outputs": ()},
            {"outputs": ((),)},
            {"outputs": ((1, 5),)},
            {"outputs": ((1, 7, 7, len(BINS)),)},
            {"dtype": np.uint8},
        ],
    )
    def test_a_network_that_does_not_fit_the_card(self, interpreter: type, path: Path, wrong: dict) -> None:  # type: ignore[type-arg]
        for key, value in wrong.items():
            setattr(interpreter, key, value)
        assert_refused(path)


class TestLook:
    def test_is_normalised(self, interpreter: type, path: Path) -> None:
        interpreter.network = staticmethod(lambda pixels: np.arange(len(BINS)) / 3)  # type: ignore[attr-defined]
        look = load(path).look(textured(), OPTICS, most_tiles=16)
        assert look.tiles == 9
        assert look.log_probabilities.shape == (9, len(BINS))
        np.testing.assert_allclose(np.exp(look.log_probabilities).sum(axis=1), 1)
        assert look.log_likelihood is not None
        assert look.log_likelihood.dtype == np.float64
        assert np.exp(look.log_likelihood).sum() == pytest.approx(1)
        np.testing.assert_array_equal(look.bin_centres_dof, BINS)

    def test_an_empty_frame(self, interpreter: type, path: Path) -> None:
        look = load(path).look(np.full((96, 96, 3), 200, np.uint8), OPTICS, most_tiles=16)
        assert (look.tiles, look.log_likelihood) == (0, None)
        assert look.log_probabilities.shape == (0, len(BINS))

    def test_no_more_tiles_than_allowed(self, interpreter: type, path: Path) -> None:
        model = load(path)
        assert model.look(textured(), OPTICS, most_tiles=2).tiles == 2
        assert model._interpreter.invoked == 2

    def test_bins_in_micrometres(self, interpreter: type, tmp_path: Path) -> None:
        model = load(write_model(tmp_path / "um.tflite", unit="um"))
        np.testing.assert_allclose(model.bins_dof(OPTICS) * OPTICS.dof_um, BINS)
        look = model.look(textured(), OPTICS, most_tiles=1)
        np.testing.assert_allclose(look.bin_centres_dof * OPTICS.dof_um, BINS)

    def test_another_sampling(self, interpreter: type, tmp_path: Path) -> None:
        """A model of half the pixels sees the frame at half the size: a quarter of the tiles."""
        model = load(write_model(tmp_path / "half.tflite", pixels_per_resolution=2.0))
        assert model.look(textured(192), OPTICS, most_tiles=99).tiles == 9

    def test_temperature_and_tile_weight(self, interpreter: type, tmp_path: Path) -> None:
        interpreter.network = staticmethod(lambda pixels: np.arange(len(BINS)) / 3)  # type: ignore[attr-defined]
        sharp, soft = (
            load(write_model(tmp_path / f"{t}.tflite", temperature=t)).look(textured(), OPTICS, most_tiles=4)
            for t in (1.0, 2.0)
        )
        assert sharp.log_likelihood is not None
        assert soft.log_likelihood is not None
        assert sharp.log_likelihood.max() > soft.log_likelihood.max()


class TestInfer:
    @pytest.mark.parametrize("dtype", [np.float32, np.int8])
    def test_what_the_network_was_shown_and_said(self, interpreter: type, path: Path, dtype: type) -> None:
        interpreter.dtype = dtype  # type: ignore[attr-defined]
        interpreter.network = staticmethod(lambda pixels: np.full(len(BINS), pixels.mean() * 10))  # type: ignore[attr-defined]
        tiles = np.stack([np.full((TILE_PX, TILE_PX, 3), v, np.float32) for v in (-1.0, -0.25, 0.0, 0.8)])
        logits, features = load(path).infer(tiles)
        assert logits.dtype == features.dtype == np.float32
        # Each tile has its own row: what the interpreter gives is a view that the next tile overwrites.
        np.testing.assert_allclose(logits[:, 0], [-10, -2.5, 0, 8], atol=0.1)
        np.testing.assert_allclose(features, np.tile(np.arange(5), (4, 1)), atol=0.05)

    def test_features_that_nobody_asked_for(self, interpreter: type, path: Path) -> None:
        model, tiles = load(path), np.zeros((2, TILE_PX, TILE_PX, 3), np.float32)
        logits, features = model.infer(tiles, features=False)
        np.testing.assert_array_equal(logits, model.infer(tiles)[0])
        assert features.shape == (2, 0)

    def test_no_tiles(self, interpreter: type, path: Path) -> None:
        logits, features = load(path).infer(np.zeros((0, TILE_PX, TILE_PX, 3), np.float32))
        assert logits.shape == (0, len(BINS))
        assert len(features) == 0

    def test_a_network_without_features(self, interpreter: type, path: Path) -> None:
        interpreter.outputs = ((1, len(BINS)),)  # type: ignore[attr-defined]
        logits, features = load(path).infer(np.zeros((2, TILE_PX, TILE_PX, 3), np.float32))
        assert logits.shape == (2, len(BINS))
        assert features.shape == (2, 0)

    def test_the_card_says_what_it_is_made_of(self, interpreter: type) -> None:
        from fake_model import FLATBUFFER

        model = Model(FLATBUFFER, card(temperature=3.0), name="here")
        assert model.card.temperature == 3.0


class TestArithmetic:
    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
    def test_log_softmax(self, logits: list[float]) -> None:
        log_p = log_softmax(np.array(logits))
        assert np.exp(log_p).sum() == pytest.approx(1)
        assert (log_p <= 1e-12).all()
        assert log_p[int(np.argmax(logits))] == log_p.max()

    def test_tiles_that_agree_weigh_as_the_card_says(self) -> None:
        one = log_softmax(np.array([0.0, 1.0, 3.0]))
        np.testing.assert_allclose(combine(one[None], 0.3), one)
        # Ten equal tiles at weight 0.1 are 1.9 tiles; at weight 1 they are ten.
        np.testing.assert_allclose(combine(np.tile(one, (10, 1)), 0.1), log_softmax(1.9 * one))
        np.testing.assert_allclose(combine(np.tile(one, (10, 1)), 1.0), log_softmax(10 * one))

    def test_tiles_that_contradict_each_other_leave_less_known(self) -> None:
        left, right = log_softmax(np.array([5.0, 0.0, 0.0])), log_softmax(np.array([0.0, 0.0, 5.0]))
        joint = combine(np.stack([left, right]), 0.2)
        assert joint[0] == pytest.approx(joint[2])
        assert joint.max() < left.max()
