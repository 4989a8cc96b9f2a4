"""Fitting: augmentation, batches, calibration tiles, checkpoints, and a network that really learns."""

from __future__ import annotations

import errno
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from edge.errors import InputError
from edge.model import log_softmax
from train.labels import bins_of, label_rows
from train.recipe import Recipe
from train.run_folder import read_log
from train.tile_data import TileData

Row = dict[str, float]

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("keras") is None, reason="needs the train extra (TensorFlow)"),
    # TensorFlow's variables do not know NumPy 2's way to ask for an array.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

RECIPE = tiny.recipe()
CENTRES = np.linspace(-1.5, 1.5, 7)


class TestAugment:
    def _tiles(self) -> np.ndarray:
        return np.random.default_rng(0).uniform(-1, 1, (40, 8, 8, 3)).astype(np.float32)

    @pytest.mark.parametrize("flips", [False, True])
    def test_keeps_shape_dtype_and_range_and_its_input(self, flips: bool) -> None:
        from train.batches import augment

        tiles = self._tiles()
        out = augment(tiles, np.random.default_rng(1), flips=flips)
        assert (out.shape, out.dtype) == (tiles.shape, np.float32)
        assert np.abs(out).max() <= 1
        assert not np.array_equal(out, tiles)
        np.testing.assert_array_equal(tiles, self._tiles())

    def test_without_flips_nothing_moves(self) -> None:
        from train.batches import augment

        tiles = 0.3 * self._tiles()
        out = augment(tiles, np.random.default_rng(1), flips=False)
        for before, after in zip(tiles, out, strict=True):
            assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9

    def test_with_flips_each_tile_is_one_of_its_eight_turns(self) -> None:
        from train.batches import augment

        tiles = 0.3 * self._tiles()
        seen = set()
        for before, after in zip(tiles, augment(tiles, np.random.default_rng(1), flips=True), strict=True):
            turns = [np.rot90(m, k) for m in (before, before[::-1]) for k in range(4)]
            alike = [np.corrcoef(t.ravel(), after.ravel())[0, 1] for t in turns]
            assert max(alike) > 0.9
            seen.add(int(np.argmax(alike)))
        assert seen == set(range(8))

    def test_the_papers_keeps_shape_and_range_and_its_input(self) -> None:
        from train.batches import paper_augmented

        tiles = self._tiles()
        out = paper_augmented(tiles, np.random.default_rng(1))
        assert (out.shape, out.dtype) == (tiles.shape, np.float32)
        assert np.abs(out).max() <= 1
        np.testing.assert_array_equal(tiles, self._tiles())
        assert min(float(np.abs(a - b).max()) for a, b in zip(tiles, out, strict=True)) > 0.05


class TestBatches:
    def _epoch(self, batches: Any, epoch: int) -> list[Any]:
        return [batches.batch(epoch, k) for k in range(len(batches))]

    def test_every_tile_once_an_epoch_in_another_order(self) -> None:
        from train.batches import Batches

        data = tiny.tile_data(50)
        wanted = label_rows(data.truth("dof"), bins_of(RECIPE.network), RECIPE.fit, 1.0)
        batches = Batches(data, RECIPE, 3, train=True)
        epochs = [np.concatenate([y for _, y in self._epoch(batches, k)]) for k in range(2)]
        assert len(batches) == 4
        for labels in epochs:
            np.testing.assert_allclose(np.sort(labels, axis=0), np.sort(wanted, axis=0))
        assert not np.array_equal(epochs[0], epochs[1])

    def test_an_epoch_is_the_same_made_ahead(self) -> None:
        from train.batches import Batches, Waiting

        batches, waiting = Batches(tiny.tile_data(90), RECIPE, 3, train=True), Waiting()
        ahead = list(batches.epoch(1, waiting))
        assert waiting.seconds > 0
        for (x, y), (again_x, again_y) in zip(ahead, self._epoch(batches, 1), strict=True):
            np.testing.assert_array_equal(x, again_x)
            np.testing.assert_array_equal(y, again_y)

    def test_machines_share_each_batch_without_overlap(self) -> None:
        from train.batches import Batches

        recipe = tiny.recipe(fit={"augment": "none"})
        data = tiny.tile_data(50)
        whole = Batches(data, recipe, 3, train=True)
        shares = [Batches(data, recipe, 3, train=True, share=(rank, 2)) for rank in range(2)]
        assert {len(share) for share in shares} == {3}, "the last, partial batch is left out"
        x, _ = whole.batch(4, 1)
        parts = [share.batch(4, 1)[0] for share in shares]
        np.testing.assert_array_equal(x[0::2], parts[0])
        np.testing.assert_array_equal(x[1::2], parts[1])

    def test_labels_stay_with_their_tiles(self) -> None:
        from train.batches import Batches

        recipe = tiny.recipe(fit={"flips": False})
        tiles, labels = Batches(tiny.tile_data(16), recipe, 3, train=True).batch(0, 0)
        rise = (tiles[:, :, 16:] - tiles[:, :, :16]).mean(axis=(1, 2, 3))
        assert np.corrcoef(rise, labels @ CENTRES)[0, 1] > 0.9

    def test_for_validation_the_tiles_are_as_they_are(self) -> None:
        from train.batches import Batches

        data = tiny.tile_data(20)
        tiles, _ = Batches(data, RECIPE, 3, train=False).batch(5, 1)
        np.testing.assert_array_equal(tiles, data.pixels[16:].astype(np.float32) / np.float32(127))

    def test_a_seed_gives_the_same_batches(self) -> None:
        from train.batches import Batches

        data = tiny.tile_data(16)
        one, same, other = (Batches(data, RECIPE, s, train=True).batch(0, 0)[0] for s in (3, 3, 4))
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


def _fitting(recipe: Recipe, train: TileData, val: TileData) -> tuple[Any, Any]:
    """(the network, what fits it)."""
    from train import fit, network

    model = network.build(recipe.network, "scratch", seed=1)
    return model, fit.Fitting(model, train, val, recipe, seed=1)


class TestFit:
    def test_the_loss_falls_and_the_best_epoch_is_kept(self, tmp_path: Path) -> None:
        recipe = tiny.recipe(fit={"epochs": 3, "learning_rate": 0.02, "flips": False})
        val = tiny.tile_data(60, seed=1)
        model, fitting = _fitting(recipe, tiny.tile_data(400), val)
        told: list[Row] = []
        rows = fitting.run(tmp_path, "a", on_epoch=told.append)
        assert rows == told
        assert read_log(tmp_path) == tuple(rows)
        # The entropy of the labels is the least that any network can reach.
        labels = label_rows(val.truth("dof"), bins_of(recipe.network), recipe.fit, 1.0)
        floor = float(-(labels * np.log(labels + 1e-12)).sum(axis=1).mean())
        assert rows[-1]["loss"] - floor < 0.5 * (rows[0]["loss"] - floor)
        logits = np.asarray(model(val.pixels / np.float32(127), training=False)["logits"])
        error = np.abs(CENTRES[logits.argmax(axis=1)] - np.clip(val.defocus_dof, -1.5, 1.5))
        assert np.median(error) < 0.4, "chance would be 0.8"
        assert 0 <= rows[1]["wait_share"] < 1
        loss = -(labels * log_softmax(logits.astype(np.float64))).sum(axis=1).mean()
        assert loss == pytest.approx(min(row["val_loss"] for row in rows), rel=1e-3)

    def test_a_run_that_is_gone_on_with_is_as_if_it_had_not_stopped(self, tmp_path: Path) -> None:
        recipe = tiny.recipe(fit={"epochs": 4})
        train, val = tiny.tile_data(64), tiny.tile_data(16, seed=1)
        for name in ("whole", "halved"):
            (tmp_path / name).mkdir()
        model, fitting = _fitting(recipe, train, val)
        rows = fitting.run(tmp_path / "whole", "a")

        class Killed(BaseException):
            pass

        def kill(row: Row) -> None:
            if row["epoch"] == 1:
                raise Killed

        with pytest.raises(Killed):
            _fitting(recipe, train, val)[1].run(tmp_path / "halved", "a", on_epoch=kill)
        again, second = _fitting(recipe, train, val)
        resumed = second.run(tmp_path / "halved", "a", resume=True)
        for row, other in zip(rows, resumed, strict=True):
            for key in ("loss", "val_loss", "learning_rate"):
                assert other[key] == pytest.approx(row[key], rel=2e-3), (row["epoch"], key)
        for one, two in zip(model.variables, again.variables, strict=True):
            np.testing.assert_allclose(np.asarray(one), np.asarray(two), atol=5e-3, err_msg=one.path)

    def test_it_stops_where_nothing_gets_better(self, tmp_path: Path) -> None:
        recipe = tiny.recipe(fit={"epochs": 40, "patience": 2, "learning_rate": 1e-12})
        _, fitting = _fitting(recipe, tiny.tile_data(16), tiny.tile_data(16, seed=1))
        rows = fitting.run(tmp_path, "a")
        best = int(np.argmin([row["val_loss"] for row in rows]))
        assert len(rows) == best + 3 < 40

    def test_a_loss_that_diverges_is_told(self, tmp_path: Path) -> None:
        data = tiny.tile_data(16)
        model, fitting = _fitting(RECIPE, data, data)
        layer = model.get_layer("logits")
        layer.set_weights([np.full_like(w, np.nan) for w in layer.get_weights()])
        with pytest.raises(InputError, match=r"diverged: a \[fit\] learning_rate below 0\.01 is needed"):
            fitting.run(tmp_path, "a")
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def first_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder, data = tmp_path_factory.mktemp("first"), tiny.tile_data(16)
    _fitting(RECIPE, data, data)[1].run(folder, "a")
    return folder


class TestCheckpoint:
    @pytest.fixture
    def begun(self, first_epoch: Path, tmp_path: Path) -> tuple[Path, Any]:
        """A copy of it, and what may go on with it."""
        shutil.copytree(first_epoch, tmp_path, dirs_exist_ok=True)
        data = tiny.tile_data(16)
        return tmp_path, _fitting(tiny.recipe(fit={"epochs": 2}), data, data)[1]

    def test_another_recipe_or_data_is_refused(self, begun: tuple[Path, Any]) -> None:
        folder, fitting = begun
        line = tiny.input_error(lambda: fitting.run(folder, "b", resume=True))
        assert line == (
            f"{folder}: was begun with another recipe, seed, weights, teachers or data: --resume goes"
            " on only with the same"
        )

    def test_damage_is_one_line(self, begun: tuple[Path, Any]) -> None:
        folder, fitting = begun
        path = folder / "checkpoint.npz"
        whole = path.read_bytes()
        for content in (b"", whole[:1000], whole[:-30]):
            path.write_bytes(content)
            line = tiny.input_error(lambda: fitting.run(folder, "a", resume=True))
            assert line is not None
            assert line.startswith(f"{path}: not a readable checkpoint")

    def test_of_another_network(self, begun: tuple[Path, Any]) -> None:
        folder, _ = begun
        data = tiny.tile_data(16)
        other = _fitting(tiny.recipe(network={"cut": 1}), data, data)[1]
        line = tiny.input_error(lambda: other.run(folder, "a", resume=True))
        assert line == f"{folder / 'checkpoint.npz'}: is of another network"

    def test_a_full_disk_leaves_the_last_epoch(
        self, begun: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, fitting = begun
        before = (folder / "checkpoint.npz").read_bytes()
        monkeypatch.setattr(os, "fsync", _no_space)
        line = tiny.input_error(lambda: fitting.run(folder, "a", resume=True))
        assert line == (
            f"{folder}: epoch 2 cannot be saved: the disk is full; epoch 1 is kept: make room, then --resume"
        )
        assert (folder / "checkpoint.npz").read_bytes() == before
        assert not list(folder.glob(".*.tmp"))


def _no_space(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
