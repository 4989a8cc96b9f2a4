"""Fitting: labels, augmentation, calibration tiles, and a network that really learns."""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tiny

from edge.errors import InputError

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("keras") is None, reason="needs the train extra (TensorFlow)"),
    # TensorFlow's variables do not know NumPy 2's way to ask for an array.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

RECIPE = tiny.recipe()
CENTRES = np.linspace(-1.5, 1.5, 7)


class TestLabels:
    def test_are_distributions_that_peak_at_the_truth(self) -> None:
        from train.fit import soft_labels

        labels = soft_labels(CENTRES.astype(np.float32), RECIPE.network, RECIPE.fit)
        assert labels.dtype == np.float32
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
        assert labels.argmax(axis=1).tolist() == list(range(7))

    def test_between_two_bins_they_share(self) -> None:
        from train.fit import soft_labels

        [label] = soft_labels(np.array([0.25], np.float32), RECIPE.network, RECIPE.fit)
        assert label[3] == pytest.approx(label[4], rel=1e-4)

    def test_beyond_the_ends_they_are_those_of_the_ends(self) -> None:
        from train.fit import soft_labels

        far, end = (
            soft_labels(np.array([d, -d], np.float32), RECIPE.network, RECIPE.fit) for d in (40.0, 1.5)
        )
        np.testing.assert_array_equal(far, end)

    def test_are_wider_far_from_focus_and_mirror(self) -> None:
        from train.fit import soft_labels

        recipe = tiny.recipe(network={"bin_range_dof": 12.0, "bin_count": 49}, fit={"label_sigma_slope": 0.1})
        near, far, mirrored = soft_labels(np.array([0, 8, -8], np.float32), recipe.network, recipe.fit)
        assert far.max() < near.max()
        np.testing.assert_allclose(far, mirrored[::-1], atol=1e-6)


class TestAugment:
    def _tiles(self) -> np.ndarray:
        return np.random.default_rng(0).uniform(-1, 1, (40, 8, 8, 3)).astype(np.float32)

    @pytest.mark.parametrize("flips", [False, True])
    def test_keeps_shape_dtype_and_range_and_its_input(self, flips: bool) -> None:
        from train.fit import augment

        tiles = self._tiles()
        out = augment(tiles, np.random.default_rng(1), flips=flips)
        assert (out.shape, out.dtype) == (tiles.shape, np.float32)
        assert np.abs(out).max() <= 1
        assert not np.array_equal(out, tiles)
        np.testing.assert_array_equal(tiles, self._tiles())

    def test_without_flips_nothing_moves(self) -> None:
        from train.fit import augment

        tiles = 0.3 * self._tiles()
        out = augment(tiles, np.random.default_rng(1), flips=False)
        for before, after in zip(tiles, out, strict=True):
            assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9

    def test_with_flips_each_tile_is_one_of_its_eight_turns(self) -> None:
        from train.fit import augment

        tiles = 0.3 * self._tiles()
        seen = set()
        for before, after in zip(tiles, augment(tiles, np.random.default_rng(1), flips=True), strict=True):
            turns = [np.rot90(m, k) for m in (before, before[::-1]) for k in range(4)]
            alike = [np.corrcoef(t.ravel(), after.ravel())[0, 1] for t in turns]
            assert max(alike) > 0.9
            seen.add(int(np.argmax(alike)))
        assert seen == set(range(8))


class TestBatches:
    def test_every_tile_once_an_epoch_in_another_order(self) -> None:
        from train.fit import Batches, soft_labels

        data = tiny.tile_data(50)
        wanted = soft_labels(data.defocus_dof, RECIPE.network, RECIPE.fit)
        batches = Batches(data, RECIPE, 3, train=True)
        epochs = []
        for _ in range(2):
            epochs.append(np.concatenate([batches[k][1] for k in range(len(batches))]))
            batches.on_epoch_end()
        assert len(batches) == 4
        for labels in epochs:
            np.testing.assert_allclose(np.sort(labels, axis=0), np.sort(wanted, axis=0))
        assert not np.array_equal(epochs[0], epochs[1])

    def test_labels_stay_with_their_tiles(self) -> None:
        from train.fit import Batches

        recipe = tiny.recipe(fit={"flips": False})
        tiles, labels = Batches(tiny.tile_data(16), recipe, 3, train=True)[0]
        rise = (tiles[:, :, 16:] - tiles[:, :, :16]).mean(axis=(1, 2, 3))
        assert np.corrcoef(rise, labels @ CENTRES)[0, 1] > 0.9

    def test_for_validation_the_tiles_are_as_they_are(self) -> None:
        from train.fit import Batches

        data = tiny.tile_data(20)
        tiles, _ = Batches(data, RECIPE, 3, train=False)[1]
        np.testing.assert_array_equal(tiles, data.pixels[16:].astype(np.float32) / np.float32(127))

    def test_a_seed_gives_the_same_batches(self) -> None:
        from train.fit import Batches

        one, same, other = (Batches(tiny.tile_data(16), RECIPE, s, train=True)[0][0] for s in (3, 3, 4))
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)


class TestCalibrationTiles:
    def test_are_spread_evenly_over_the_defocus(self) -> None:
        from train.fit import calibration_tiles

        data = tiny.tile_data(900)
        # Far more near focus than elsewhere, as in training.
        data.defocus_dof[:] = np.concatenate([np.linspace(-0.2, 0.2, 700), np.linspace(-2, 2, 200)])
        data.pixels[:] = np.rint(data.defocus_dof * 60).astype(np.int8)[:, None, None, None]
        chosen = calibration_tiles(data, 40, 10, seed=0)
        assert (chosen.shape, chosen.dtype) == ((40, 32, 32, 3), np.int8)
        counts, _ = np.histogram(chosen[:, 0, 0, 0], np.linspace(-120, 120, 11))
        assert counts.min() >= 3, counts

    def test_all_at_one_defocus_and_fewer_than_wanted(self) -> None:
        from train.fit import calibration_tiles

        data = tiny.tile_data(30)
        data.defocus_dof[:] = 59.0
        assert len(calibration_tiles(data, 400, 20, seed=0)) == 20  # those of one of the 20 slices
        data.defocus_dof[:] = np.linspace(-1, 59, 30)
        assert len(calibration_tiles(data, 400, 20, seed=0)) == 30


class TestFit:
    def test_the_loss_falls_and_the_run_folder_fills(self, tmp_path: Path) -> None:
        from train import network
        from train.fit import soft_labels
        from train.run_folder import write

        recipe = tiny.recipe(fit={"epochs": 3, "learning_rate": 0.02, "flips": False})
        model = network.build(recipe.network, "scratch", seed=1)
        splits = {"train": tiny.tile_data(400), "val": tiny.tile_data(60, seed=1), "test": tiny.tile_data(9)}
        out = tmp_path / "runs" / "one"
        write(out, model, splits, recipe, sources=["synthetic"], weights="scratch", seed=1)  # type: ignore[arg-type]
        rows = list(csv.DictReader((out / "log.csv").read_text("utf-8").splitlines()))
        assert len(rows) == 3
        # The entropy of the labels is the least that any network can reach.
        labels = soft_labels(splits["val"].defocus_dof, recipe.network, recipe.fit)
        floor = float(-(labels * np.log(labels + 1e-12)).sum(axis=1).mean())
        assert float(rows[-1]["loss"]) - floor < 0.5 * (float(rows[0]["loss"]) - floor)
        logits = np.asarray(model(splits["val"].pixels / np.float32(127), training=False)["logits"])
        error = np.abs(CENTRES[logits.argmax(axis=1)] - np.clip(splits["val"].defocus_dof, -1.5, 1.5))
        assert np.median(error) < 0.4, "chance would be 0.8"
        assert sorted(p.name for p in out.iterdir()) == [
            "calibration.npy",
            "log.csv",
            "model.keras",
            "recipe.json",
            "run.json",
            "split.json",
            "test.npz",
            "val.npz",
        ]
        record = json.loads((out / "run.json").read_text("utf-8"))
        assert (record["sources"], record["weights"], record["seed"]) == (["synthetic"], "scratch", 1)
        split = json.loads((out / "split.json").read_text("utf-8"))
        assert split["train"]["tiles"] == split["train"]["frames"] == 400

    def test_a_loss_that_diverges_is_told(self, tmp_path: Path) -> None:
        from train import network
        from train.fit import fit

        model = network.build(RECIPE.network, "scratch", seed=1)
        layer = model.get_layer("logits")
        layer.set_weights([np.full_like(w, np.nan) for w in layer.get_weights()])
        data = tiny.tile_data(16)
        with pytest.raises(InputError, match=r"diverged: a \[fit\] learning_rate below 0\.01 is needed"):
            fit(model, data, data, RECIPE, tmp_path, seed=1, verbose=0)
        assert not (tmp_path / "model.keras").exists()
