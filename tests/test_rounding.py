"""Rounding for the output: better than to the nearest step wherever inputs have a mean, and never worse."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import tiny

from convert import rounding
from convert.rounding import LARGEST, descend

needs_keras = pytest.mark.skipif(find_spec("keras") is None, reason="needs the train extra (TensorFlow)")


def cost(q: np.ndarray, weights: np.ndarray, step: np.ndarray, second: np.ndarray) -> np.ndarray:
    d = q * step - weights
    of = np.broadcast_to(second, (weights.shape[1], *second.shape[1:]))
    return np.einsum("io,oij,jo->o", d, of, d)


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernels that take differences, of inputs with a large mean."""
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 1, (9, 40))
    weights -= weights.mean(axis=0)
    x = 3 + rng.normal(0, 0.2, (500, 9))
    step = np.abs(weights).max(axis=0) / LARGEST
    return weights, step, (x.T @ x / len(x))[None]


class TestDescend:
    def test_is_better_than_the_nearest(self, problem: Any) -> None:
        weights, step, second = problem
        q = descend(weights, step, second)
        nearest = np.rint(weights / step)
        before, after = (cost(of, weights, step, second) for of in (nearest, q))
        assert (after <= before * (1 + 1e-6)).all()
        assert after.mean() < 0.05 * before.mean(), "the sum of each kernel is right now"

    def test_on_the_grid_and_with_the_same_steps(self, problem: Any) -> None:
        weights, step, second = problem
        q = descend(weights, step, second)
        assert (q == np.rint(q)).all()
        np.testing.assert_allclose(np.abs(q * step).max(axis=0) / LARGEST, step)
        assert np.abs(q - weights / step).max() < 4

    def test_without_correlation_it_is_the_nearest(self, problem: Any) -> None:
        weights, step, _ = problem
        np.testing.assert_array_equal(descend(weights, step, np.eye(9)[None]), np.rint(weights / step))

    def test_each_column_with_statistics_of_its_own(self, problem: Any) -> None:
        weights, step, second = problem
        many = np.repeat(second, weights.shape[1], axis=0)
        many[1::2] = np.eye(9)
        q = descend(weights, step, many)
        np.testing.assert_array_equal(q[:, 1::2], np.rint(weights / step)[:, 1::2])
        np.testing.assert_array_equal(q[:, ::2], descend(weights, step, second)[:, ::2])

    def test_inputs_that_are_always_zero(self) -> None:
        weights = np.array([[1.0], [0.3], [-0.2]])
        q = descend(weights, np.array([1 / LARGEST]), np.zeros((1, 3, 3)))
        np.testing.assert_array_equal(q, np.rint(weights * LARGEST))


@needs_keras
@pytest.mark.train
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
class TestNetworks:
    @pytest.mark.parametrize(
        ("base", "head"),
        [("mobilenetv2", "parfocal"), ("mobilenetv2", "paper"), ("resnet50", "paper"), ("vgg16", "parfocal")],
    )
    def test_the_network_says_the_same(self, base: str, head: str) -> None:
        """With biases in the normalisation or the layer, activations built in, and sums."""
        from train import network

        recipe = tiny.recipe(network={"base": base, "head": head, "cut": 2 if base != "mobilenetv2" else 4})
        exact, ours = (network.build(recipe.network, "scratch", seed=4) for _ in range(2))
        tiles = tiny.tile_data(30).pixels
        done: list[float] = []
        rounding.round_weights(ours, exact, tiles, progress=done.append)
        assert len(done) == len(rounding.plan(exact))
        x = tiles.astype(np.float32) / 127
        wanted, found = (np.asarray(of(x, training=False)["logits"]) for of in (exact, ours))
        assert np.abs(found - wanted).max() < 0.1 * max(np.ptp(wanted), 1e-3)
        changed = [
            not np.array_equal(a, b) for a, b in zip(exact.get_weights(), ours.get_weights(), strict=True)
        ]
        assert any(changed)

    def test_weights_are_whole_steps(self) -> None:
        from train import network

        recipe = tiny.recipe()
        exact, ours = (network.build(recipe.network, "scratch", seed=4) for _ in range(2))
        rounding.round_weights(ours, exact, tiny.tile_data(30).pixels)
        kernel = np.asarray(ours.get_layer("head_conv").kernel)[0, 0]
        norm = ours.get_layer("head_bn")
        folded = kernel * np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
        steps = folded / np.abs(folded).max(axis=0) * LARGEST
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
