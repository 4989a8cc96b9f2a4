"""Synthetic tiles: the same seed gives the same ones, and nothing held out is seen in training."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from edge.errors import InputError
from edge.files import encode_png
from edge.simulator import specimens
from train import recipe as recipes
from train import synthetic
from train.data import named_recipe
from train.pool import opened
from train.recipe import Data
from train.run_folder import summary
from train.synthetic import Split, field_specimen, generate, photographs
from train.tile_data import TileData, collect

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def print_digest_of_two_processes() -> None:
    """For a process of its own: the hash of tiles made by Dask, and its workers' environment."""
    with opened(processes=2) as pool:
        print(summary(collect(generate(tiny.recipe(), "train", pool)))["sha256"])
        print(*pool.map(os.environ.get, ["MALLOC_TRIM_THRESHOLD_", "OPENCV_FOR_THREADS_NUM"]))


@pytest.fixture
def sharp(tmp_path: Path) -> Path:
    folder = tmp_path / "sharp"
    folder.mkdir()
    for k in range(7):
        (folder / f"{k}.png").write_bytes(encode_png(tiny.frame(k, 96)))
    return folder


@pytest.fixture(scope="module")
def made() -> dict[Split, TileData]:
    """Each split of the tiny recipe, made in this process."""
    return {split: collect(generate(tiny.recipe(), split)) for split in SPLITS}


def _same(a: TileData, b: TileData) -> bool:
    pairs = ("pixels", "defocus_dof", "frame", "field", "kind")
    return a.kinds == b.kinds and all(np.array_equal(getattr(a, k), getattr(b, k)) for k in pairs)


class TestGenerate:
    def test_does_not_depend_on_the_number_of_processes(self, made: dict[Split, TileData]) -> None:
        # Nine fields are two jobs. Dask leaves threads behind, which no test may: a process of its own.
        program = "import test_synthetic; test_synthetic.print_digest_of_two_processes()"
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
        digest, environment = done.stdout.splitlines()
        assert digest == summary(made["train"])["sha256"]
        assert environment == "None 1", "freed memory is kept, and each process has one thread"
        assert done.stderr == ""

    def test_micrometres_where_a_depth_of_field_is_known(self) -> None:
        recipe = tiny.recipe(data={"val_fields": 1})
        data = collect(generate(recipe, "val", dof_um=2.0))
        np.testing.assert_allclose(data.truth("um"), 2 * data.truth("dof"), rtol=1e-6)
        with pytest.raises(InputError, match="labels in µm: this data gives defocus in depths of field only"):
            collect(generate(recipe, "val")).truth("um")

    def test_raw_tiles_are_bytes(self) -> None:
        recipe = tiny.recipe(data={"val_fields": 1}, network={"input": "raw"})
        data = collect(generate(recipe, "val"))
        assert data.pixels.mean() > 0, "a bright field: above the middle grey"

    def test_another_seed_gives_other_tiles(self, made: dict[Split, TileData]) -> None:
        other = collect(generate(tiny.recipe(data={"seed": 2, "val_fields": 1}), "val"))
        assert not np.array_equal(other.pixels[:2], made["val"].pixels[:2])

    def test_shapes_and_dtypes(self, made: dict[Split, TileData]) -> None:
        for data in made.values():
            count = len(data)
            assert data.pixels.shape == (count, tiny.TILE_PX, tiny.TILE_PX, 3)
            assert data.pixels.dtype == np.int8
            assert data.pixels.min() >= -127
            assert [a.dtype for a in (data.defocus_dof, data.frame, data.field, data.kind)] == [
                np.float32,
                np.int32,
                np.int32,
                np.int16,
            ]
            assert all(a.shape == (count,) for a in (data.defocus_dof, data.frame, data.field, data.kind))

    def test_labels_stay_in_range_and_belong_to_frames(self, made: dict[Split, TileData]) -> None:
        data = made["train"]
        assert np.abs(data.defocus_dof).max() <= 2.0
        assert data.defocus_dof.min() < 0 < data.defocus_dof.max()
        for number in np.unique(data.frame):
            of = data.frame == number
            assert len(np.unique(data.defocus_dof[of])) == len(np.unique(data.field[of])) == 1
            assert of.sum() <= 4
        assert len(np.unique(data.frame)) <= 9 * 3

    def test_kinds_are_those_of_the_mix(self, made: dict[Split, TileData]) -> None:
        assert made["train"].kinds == ("debris", "tissue")
        assert set(made["train"].kind.tolist()) == {0, 1}
        for field in np.unique(made["train"].field):
            assert len(np.unique(made["train"].kind[made["train"].field == field])) == 1

    def test_an_empty_field_gives_nothing_to_learn_from(self) -> None:
        recipe = tiny.recipe(data={"mix": {"empty": 1.0}, "val_fields": 1})
        with pytest.raises(InputError, match="no informative tile"):
            collect(generate(recipe, "val"))


class TestHeldOut:
    def test_photographs_are_split_by_file(self, sharp: Path) -> None:
        data = Data(sharp_folders=(str(sharp),), held_out_every=3, mix={"folder:0": 1.0})
        names = {split: {p.name for p in photographs(data, 0, split)} for split in SPLITS}
        assert names == {
            "train": {"1.png", "2.png", "4.png", "5.png"},
            "val": {"3.png"},
            "test": {"0.png", "6.png"},
        }

    def test_or_by_the_names_of_slides(self, sharp: Path) -> None:
        patterns = {"val_photographs": ("[01].png",), "test_photographs": ("2.*", "5.png")}
        data = Data(sharp_folders=(str(sharp),), mix={"folder:0": 1.0}, **patterns)
        names = {split: {p.name for p in photographs(data, 0, split)} for split in SPLITS}
        assert names == {
            "train": {"3.png", "4.png", "6.png"},
            "val": {"0.png", "1.png"},
            "test": {"2.png", "5.png"},
        }

    @pytest.mark.parametrize(
        ("val", "test", "said"),
        [
            ("[01].png", "1.png", "1.png: named by val_photographs and by test_photographs"),
            ("*.tif", "1.png", "no photograph for val"),
            ("0.png", "[1-9].png", "no photograph for train"),
        ],
    )
    def test_patterns_that_leave_a_side_empty_or_mixed(
        self, sharp: Path, val: str, test: str, said: str
    ) -> None:
        patterns = {"val_photographs": (val,), "test_photographs": (test,)}
        data = Data(sharp_folders=(str(sharp),), mix={"folder:0": 1.0}, **patterns)
        with pytest.raises(InputError, match=re.escape(said)):
            synthetic.check_photographs(data)

    def test_a_side_without_a_pattern(self) -> None:
        with pytest.raises(InputError, match="both or neither"):
            recipes.parse_recipe({"data": {"val_photographs": ["a"]}}, source="r.toml")

    def test_fields_show_photographs_of_their_split_alone(
        self, sharp: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = Data(sharp_folders=(str(sharp),), held_out_every=3, mix={"folder:0": 1.0})
        read: list[str] = []
        monkeypatch.setattr(
            synthetic, "_photograph", lambda file: read.append(file.name) or tiny.frame(0, 96)
        )
        for split in SPLITS:
            read.clear()
            shown = [field_specimen(data, split, k, 32) for k in range(12)]
            assert set(read) <= {p.name for p in photographs(data, 0, split)}
            assert {s.name for s in shown} == {"sharp"}

    def test_drawn_specimens_of_two_splits_never_share_a_seed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seeds: list[int] = []

        def recording(name: str, shape: tuple[int, int], seed: int) -> Any:
            seeds.append(seed)
            return specimens.make("empty", shape, 0)

        monkeypatch.setattr(synthetic, "make", recording)
        for number, split in enumerate(SPLITS):
            seeds.clear()
            for index in range(40):
                field_specimen(Data(), split, index, 16)
            assert {seed % 3 for seed in seeds} == {number}
            assert len(set(seeds)) == 40

    def test_what_is_held_out_stays_the_same_whatever_is_trained_on(self, sharp: Path) -> None:
        plain = Data(sharp_folders=(str(sharp),), mix={"folder:0": 1.0, "tissue": 1.0})
        other = plain.model_copy(
            update={"train_seed": 5, "train_mix": {"mosaic": 1.0, "folder:0": 1.0}, "variety": 1.0}
        )
        for split in SPLITS:
            same = [
                np.array_equal(field_specimen(plain, split, k, 32).od, field_specimen(other, split, k, 32).od)
                for k in range(6)
            ]
            assert not any(same) if split == "train" else all(same)

    def test_a_photograph_that_the_training_mix_alone_asks_for_is_missing(self, tmp_path: Path) -> None:
        data = Data(sharp_folders=(str(tmp_path / "none"),), train_mix={"folder:0": 1.0})
        with pytest.raises(InputError, match=r"none: no such folder .*, --recipe drawn needs none$"):
            synthetic.check_photographs(data)

    @pytest.mark.parametrize("count", [1, 5])
    def test_too_few_photographs(self, tmp_path: Path, count: int) -> None:
        for number in range(count):
            (tmp_path / f"{number}.png").write_bytes(encode_png(tiny.frame(number)))
        data = Data(sharp_folders=(str(tmp_path),), mix={"folder:0": 1.0})
        with pytest.raises(InputError, match=r"no photograph for (train, )?val"):
            synthetic.check_photographs(data)

    def test_missing_photographs_are_told_before_the_work(self, tmp_path: Path) -> None:
        data = Data(sharp_folders=(str(tmp_path / "none"),), mix={"folder:0": 1.0, "tissue": 1.0})
        with pytest.raises(InputError, match=r"none: no such folder .*, --recipe drawn needs none$"):
            synthetic.check_photographs(data)
        # A folder that the mix does not ask for need not be there.
        synthetic.check_photographs(data.model_copy(update={"mix": {"folder:0": 0.0, "tissue": 1.0}}))


def test_the_recipe_of_drawn_specimens_needs_no_photograph() -> None:
    data = named_recipe("drawn").data
    synthetic.check_photographs(data)
    kinds = {synthetic.field_specimen(data, "train", index, 64).name for index in range(12)}
    assert len(kinds) >= 3
