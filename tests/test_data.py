"""What can be trained on: z-stacks, their labels, their faults; and tiles on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from edge.errors import InputError
from edge.files import encode_png
from train import data as datasets
from train import tile_data
from train.arrays import read_npy, read_npz
from train.assumed import Assumed
from train.pool import Pool
from train.stacks import stack_folders
from train.tile_data import TileData

DOF_UM = 0.55 / 0.4**2


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """A folder of seven labelled z-stacks, s0 to s6."""
    for k in range(7):
        tiny.write_stack(tmp_path / "stacks" / f"s{k}", tiny.LABELLED, seed=k)
    return tmp_path / "stacks"


def _all(*sources: Path, **assumed: Any) -> TileData:
    """Every plane of some stacks, without a split."""
    named = [str(source) for source in sources]
    return datasets.held_out(named, tiny.recipe(), Pool(), assumed=Assumed(**assumed))


def _plan(*sources: Path, seed: int = 1, **assumed: Any) -> datasets.Plan:
    named = [str(source) for source in sources]
    return datasets.plan(named, tiny.recipe(data={"seed": seed}), assumed=Assumed(**assumed))


def _sides(*sources: Path, seed: int = 1) -> dict[str, set[str]]:
    return {side: {shot.field for shot in of} for side, of in _plan(*sources, seed=seed).shots.items()}


def _line(*sources: Path, **assumed: Any) -> str:
    line = tiny.input_error(lambda: _plan(*sources, **assumed))
    assert line is not None
    return line


class TestStacks:
    def test_every_plane_is_a_frame_with_its_defocus(self, stacks: Path) -> None:
        data = _all(stacks / "s0", stacks / "s1")
        assert data.kinds == ("s0", "s1")
        np.testing.assert_allclose(np.unique(data.truth("um")), [-1, 0, 1])
        np.testing.assert_allclose(np.unique(data.truth("dof")), np.array([-1, 0, 1]) / DOF_UM, atol=1e-6)
        np.testing.assert_allclose(data.dof_in("um"), DOF_UM)
        assert len(np.unique(data.frame)) == 6
        assert len(np.unique(data.field)) == 2
        assert data.pixels.shape[1:] == (tiny.TILE_PX, tiny.TILE_PX, 3)

    def test_focus_and_wavelength_are_those_of_about_json(self, tmp_path: Path) -> None:
        about = {**tiny.LABELLED, "focus_z": 1.0, "wavelength_um": 0.45, "specimen": "moss"}
        data = _all(tiny.write_stack(tmp_path / "s", about))
        np.testing.assert_allclose(
            np.unique(data.defocus_dof), np.array([-2, -1, 0]) * 0.4**2 / 0.45, atol=1e-6
        )
        assert data.kinds == ("moss",)

    def test_planes_take_the_step_that_is_given(self, tmp_path: Path) -> None:
        folder = tiny.write_stack(tmp_path / "s", tiny.LABELLED, z="z_plane")
        np.testing.assert_allclose(np.unique(_all(folder, step_um=3.0).truth("um")), [-3, 0, 3])

    def test_optics_that_are_not_stated_may_be_assumed_and_it_is_said(self, tmp_path: Path) -> None:
        folder = tiny.write_stack(tmp_path / "s", {"focus_z": 0.0})
        data = _all(folder, objective="10x0.25", pixel_um=0.5)
        np.testing.assert_allclose(data.dof_in("um"), 0.55 / 0.25**2)
        found = datasets.read_collection([str(folder)], Assumed(objective="10x0.25", pixel_um=0.5))
        assert any("taken as 10x0.25 and 0.5 µm a pixel" in note for note in found.notes)

    def test_the_command_line_goes_before_what_is_stated_and_it_is_said(self, stacks: Path) -> None:
        assumed = Assumed(objective="10x0.25")
        found = datasets.read_collection([str(stacks / "s0")], assumed)
        assert {shot.optics.dof_um for shot in found.shots} == {0.55 / 0.25**2}
        assert {shot.optics.pixel_um for shot in found.shots} == {tiny.LABELLED["pixel_um"]}
        assert found.notes == [f"{stacks / 's0'}: taken as 10x0.25, as the command line says"]

    def test_a_focus_that_is_not_stated_is_measured_and_it_is_said(self, tmp_path: Path) -> None:
        folder = tiny.write_blurred_stack(tmp_path / "s", peak=3)
        found = datasets.read_collection([str(folder)], Assumed())
        assert [round(shot.defocus_um) for shot in found.shots] == [-3, -2, -1, 0, 1, 2, 3]
        assert any("about.json states no focus_z; measured" in note for note in found.notes)

    def test_a_folder_of_stacks_is_listed_in_order(self, stacks: Path) -> None:
        (stacks / "notes").mkdir()
        assert [p.name for p in stack_folders(stacks)] == [f"s{k}" for k in range(7)]

    def test_stacks_of_one_name_in_two_folders_are_two_fields(self, tmp_path: Path) -> None:
        for k, place in enumerate(("a", "b", "c")):
            tiny.write_stack(tmp_path / place / "s", tiny.LABELLED, seed=k)
        sides = _sides(*(tmp_path / place for place in ("a", "b", "c")))
        assert set().union(*sides.values()) == {"a/s", "b/s", "c/s"}

    def test_progress_is_told_of_each_stack(self, stacks: Path) -> None:
        told: list[object] = []

        def begin(side: str, count: int) -> Any:
            told.append((side, count))
            return lambda: told.append(1)

        datasets.prepare(_plan(stacks), tiny.recipe(), Pool(), progress=begin)
        assert told == [("train", 5), *[1] * 5, ("val", 1), 1, ("test", 1), 1]


class TestFaults:
    def test_nothing_there(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none", tmp_path):
            assert _line(path).startswith(f"{path}: neither a z-stack")

    def test_mixed_with_synthetic(self, stacks: Path) -> None:
        assert "cannot be mixed" in _line(Path("synthetic"), stacks)

    @pytest.mark.parametrize(
        ("about", "said"),
        [
            ({"pixel_um": None}, "objective and pixel size are needed to label defocus"),
            ({"objective": "40x air"}, "objective and pixel size are needed to label defocus"),
            ({"wavelength_um": "green"}, "about.json or --pixel-um: "),
            ({"wavelength_um": 550}, "about.json or --pixel-um: wavelength_um = 550"),
            ({"wavelength_um": [1]}, "about.json or --pixel-um: "),
        ],
    )
    def test_unlabelled(self, tmp_path: Path, about: dict[str, Any], said: str) -> None:
        folder = tiny.write_stack(tmp_path / "s", {**tiny.LABELLED, **about})
        with pytest.raises(InputError) as caught:
            _all(folder)
        assert str(caught.value).startswith(f"{folder}: {said}")

    def test_a_corrupt_image_is_named_and_left_out_only_when_asked(self, stacks: Path) -> None:
        file = stacks / "s2" / "p1.png"
        file.write_bytes(file.read_bytes()[:90])
        planned, recipe = _plan(stacks), tiny.recipe()
        line = tiny.input_error(lambda: datasets.prepare(planned, recipe, Pool()))
        assert line is not None
        assert str(file) in line
        made = datasets.prepare(planned, recipe, Pool(), skip_bad=True)
        assert made.bad == [str(file)]
        assert sum(len(np.unique(side.frame)) for side in made.sides.values()) == 20

    def test_a_blank_stack_has_nothing_to_learn_from(self, tmp_path: Path) -> None:
        folder = tiny.write_stack(tmp_path / "s", tiny.LABELLED)
        for file in folder.glob("*.png"):
            file.write_bytes(encode_png(np.full((64, 64, 3), 200, np.uint8)))
        with pytest.raises(InputError, match="no informative tile"):
            _all(folder)


class TestOnDisk:
    def test_what_is_saved_is_read_back(self, tmp_path: Path) -> None:
        data = tiny.tile_data(20, tiles_per_frame=3, dof_um=3.4)
        tile_data.save(tmp_path / "a.npz", data)
        back = tile_data.load(tmp_path / "a.npz", tile_px=tiny.TILE_PX)
        assert back.kinds == data.kinds
        for name in ("pixels", "defocus_dof", "frame", "field", "kind", "defocus_um", "dof_um"):
            saved, read = getattr(data, name), getattr(back, name)
            assert saved.dtype == read.dtype
            np.testing.assert_array_equal(saved, read)

    def test_damage_is_one_line(self, tmp_path: Path) -> None:
        """Truncations and flipped bytes: the tiles come back as they were, or an InputError, nothing else."""
        path = tmp_path / "a.npz"
        tile_data.save(path, tiny.tile_data(4))
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        damaged = [whole[:k] for k in np.linspace(0, len(whole) - 1, 40).astype(int)]
        for k in rng.integers(len(whole) - 2500, len(whole), 200):
            damaged.append(whole[:k] + bytes([whole[k] ^ 0x55]) + whole[k + 1 :])
        refused = 0
        for data in damaged:
            path.write_bytes(data)
            line = tiny.input_error(lambda: tile_data.load(path, tile_px=tiny.TILE_PX))
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
            ({"dof_um": np.array([1.0, 1, 0, 1])}, "truth or kinds are damaged"),
            ({"defocus_um": np.zeros(3)}, "do not fit together"),
            ({"more": np.zeros(1)}, "not readable tiles: it holds"),
        ],
    )
    def test_unfit_contents_are_one_line(self, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
        path = tmp_path / "a.npz"
        tile_data.save(path, tiny.tile_data(4, dof_um=2.0))
        arrays = read_npz(path, "x") | changes
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=said):
            tile_data.load(path, tile_px=tiny.TILE_PX)

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
