"""What can be trained on: z-stacks, their splits, their faults; and tiles on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from edge.errors import InputError
from train import data as datasets
from train.arrays import read_npy, read_npz
from train.stacks import stack_folders
from train.synthetic import Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")
DOF_UM = 0.55 / 0.4**2


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """A folder of seven labelled z-stacks, s0 to s6."""
    for k in range(7):
        tiny.write_stack(tmp_path / "stacks" / f"s{k}", tiny.LABELLED, seed=k)
    return tmp_path / "stacks"


def _split(sources: list[Path], split: Split, **more: Any) -> Any:
    return datasets.load_split([str(s) for s in sources], tiny.recipe(), split, **more)


def _line(sources: list[Path], split: Split = "train", **more: Any) -> str:
    with pytest.raises(InputError) as caught:
        _split(sources, split, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestStacks:
    def test_every_plane_is_a_frame_with_its_defocus(self, stacks: Path) -> None:
        data = datasets.all_stacks([stacks / "s0", stacks / "s1"], tiny.recipe())
        assert data.kinds == ("s0", "s1")
        np.testing.assert_allclose(np.unique(data.defocus_dof), np.array([-1, 0, 1]) / DOF_UM, atol=1e-6)
        assert len(np.unique(data.frame)) == 6
        assert len(np.unique(data.field)) == 2
        assert data.pixels.shape[1:] == (tiny.TILE_PX, tiny.TILE_PX, 3)

    def test_focus_and_wavelength_are_those_of_about_json(self, tmp_path: Path) -> None:
        about = {**tiny.LABELLED, "focus_z": 1.0, "wavelength_um": 0.45, "specimen": "moss"}
        data = datasets.all_stacks([tiny.write_stack(tmp_path / "s", about)], tiny.recipe())
        np.testing.assert_allclose(
            np.unique(data.defocus_dof), np.array([-2, -1, 0]) * 0.4**2 / 0.45, atol=1e-6
        )
        assert data.kinds == ("moss",)

    def test_planes_take_the_step_that_is_given(self, tmp_path: Path) -> None:
        folder = tiny.write_stack(tmp_path / "s", tiny.LABELLED, z="z_plane")
        data = datasets.all_stacks([folder], tiny.recipe(), step_um=3.0)
        np.testing.assert_allclose(np.unique(data.defocus_dof), np.array([-3, 0, 3]) / DOF_UM, atol=1e-6)

    def test_splits_are_by_stack_and_disjoint(self, stacks: Path) -> None:
        kinds = {split: _split([stacks], split).kinds for split in SPLITS}
        assert kinds == {"val": ("s0", "s5"), "test": ("s1", "s6"), "train": ("s2", "s3", "s4")}

    def test_order_and_repetition_of_sources_do_not_change_the_split(self, stacks: Path) -> None:
        """A stack that is named twice, or by two paths, stays on its side of the split."""
        link = stacks.parent / "again"
        link.symlink_to(stacks, target_is_directory=True)
        named = [stacks / f"s{k}" for k in (4, 2, 0, 6)] + [link, stacks / "s0"]
        for split in SPLITS:
            assert _split(named, split).kinds == _split([stacks], split).kinds

    def test_progress_is_told_of_each_stack(self, stacks: Path) -> None:
        told: list[int] = []
        _split([stacks], "train", progress=lambda: told.append(1))
        assert len(told) == 3

    def test_their_number_must_be_seen(self, stacks: Path) -> None:
        assert datasets.field_count([str(stacks)], tiny.recipe(), "train") is None
        assert [datasets.field_count(["synthetic"], tiny.recipe(), s) for s in SPLITS] == [9, 3, 3]

    def test_a_folder_of_stacks_is_listed_in_order(self, stacks: Path) -> None:
        (stacks / "notes").mkdir()
        assert [p.name for p in stack_folders(stacks)] == [f"s{k}" for k in range(7)]


class TestFaults:
    def test_fewer_than_three(self, stacks: Path) -> None:
        line = _line([stacks / "s0", stacks / "s1", stacks / "s0"])
        assert line == "z-stacks: 2 found, at least 3 are needed: to train, validate and test on"

    def test_nothing_there(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none", tmp_path):
            assert _line([path]).startswith(f"{path}: neither a z-stack")

    def test_mixed_with_synthetic(self, stacks: Path) -> None:
        assert "cannot be mixed" in _line([Path("synthetic"), stacks])

    @pytest.mark.parametrize(
        ("about", "said"),
        [
            ({"focus_z": None}, "about.json must state focus_z"),
            ({"pixel_um": None}, "about.json must state objective and pixel_um"),
            ({"objective": "40x air"}, "about.json must state objective and pixel_um"),
            ({"wavelength_um": "green"}, "about.json: "),
            ({"wavelength_um": 550}, "about.json: wavelength_um = 550"),
            ({"wavelength_um": [1]}, "about.json: "),
        ],
    )
    def test_unlabelled(self, tmp_path: Path, about: dict[str, Any], said: str) -> None:
        folder = tiny.write_stack(tmp_path / "s", {**tiny.LABELLED, **about})
        with pytest.raises(InputError) as caught:
            datasets.all_stacks([folder], tiny.recipe())
        assert str(caught.value).startswith(f"{folder}: {said}")

    def test_a_corrupt_image(self, stacks: Path) -> None:
        file = stacks / "s2" / "p1.png"
        file.write_bytes(file.read_bytes()[:90])
        assert str(file) in _line([stacks])

    def test_a_blank_stack_has_nothing_to_learn_from(self, tmp_path: Path) -> None:
        folder = tiny.write_stack(tmp_path / "s", tiny.LABELLED)
        from edge.files import encode_png

        for file in folder.glob("*.png"):
            file.write_bytes(encode_png(np.full((64, 64, 3), 200, np.uint8)))
        with pytest.raises(InputError, match="no informative tile"):
            datasets.all_stacks([folder], tiny.recipe())


class TestOnDisk:
    def test_what_is_saved_is_read_back(self, tmp_path: Path) -> None:
        data = tiny.tile_data(20, tiles_per_frame=3)
        datasets.save(tmp_path / "a.npz", data)
        back = datasets.load(tmp_path / "a.npz", tile_px=tiny.TILE_PX)
        assert back.kinds == data.kinds
        for name in ("pixels", "defocus_dof", "frame", "field", "kind"):
            saved, read = getattr(data, name), getattr(back, name)
            assert saved.dtype == read.dtype
            np.testing.assert_array_equal(saved, read)

    def test_damage_is_one_line(self, tmp_path: Path) -> None:
        """Truncations and flipped bytes: the tiles come back as they were, or an InputError, nothing else."""
        path = tmp_path / "a.npz"
        datasets.save(path, tiny.tile_data(4))
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        damaged = [whole[:k] for k in np.linspace(0, len(whole) - 1, 40).astype(int)]
        for k in rng.integers(len(whole) - 2500, len(whole), 200):
            damaged.append(whole[:k] + bytes([whole[k] ^ 0x55]) + whole[k + 1 :])
        refused = 0
        for data in damaged:
            path.write_bytes(data)
            line = tiny.input_error(lambda: datasets.load(path, tile_px=tiny.TILE_PX))
            refused += line is not None
            assert line is None or line.startswith(f"{path}: ")
        assert refused > 100

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"pixels": np.zeros((4, 16, 16, 3), np.int8)}, "int8 of 32 x 32 are needed"),
            ({"pixels": np.zeros((4, 32, 32, 3), np.float32)}, "int8 of 32 x 32 are needed"),
            ({"pixels": np.zeros((0, 32, 32, 3), np.int8)}, "int8 of 32 x 32 are needed"),
            ({"pixels": np.int8(3)}, "int8 of 32 x 32 are needed"),
            ({"frame": np.zeros(3, np.int32)}, "do not fit together"),
            ({"defocus": np.array(["a"] * 4)}, "do not fit together"),
            ({"defocus": np.full(4, np.nan, np.float32)}, "truth or kinds are damaged"),
            ({"kind": np.full(4, 2, np.int16)}, "truth or kinds are damaged"),
            ({"more": np.zeros(1)}, "not readable tiles: it holds"),
        ],
    )
    def test_unfit_contents_are_one_line(self, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
        path = tmp_path / "a.npz"
        datasets.save(path, tiny.tile_data(4))
        arrays = read_npz(path, "x") | changes
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=said):
            datasets.load(path, tile_px=tiny.TILE_PX)

    def test_files_of_another_kind_are_one_line(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        with pytest.raises(InputError, match=r"a: not an array: no such file"):
            read_npy(path, "an array")
        with pytest.raises(InputError, match=r"a: not arrays: no such file"):
            read_npz(path, "arrays")
        for content in (b"", b"\x93NUMPY", b"{}", json.dumps([1] * 100).encode()):
            path.write_bytes(content)
            with pytest.raises(InputError, match=r"a: not an array: "):
                read_npy(path, "an array")
            with pytest.raises(InputError, match=r"a: not arrays: not an \.npz"):
                read_npz(path, "arrays")

    def test_nothing_pickled_is_opened(self, tmp_path: Path) -> None:
        for name in ("a.npy", "a.npz"):
            save: Any = np.save if name.endswith("y") else np.savez
            save(tmp_path / name, np.array([{}], dtype=object), allow_pickle=True)
        with pytest.raises(InputError, match=r"a\.npy: not an array: .*allow_pickle"):
            read_npy(tmp_path / "a.npy", "an array")
        with pytest.raises(InputError, match=r"a\.npz: not arrays: .*allow_pickle"):
            read_npz(tmp_path / "a.npz", "arrays")
