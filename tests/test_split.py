"""Splits: by slide, else by field, never by tile; kept in a file, held against the data, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from train.assumed import Assumed
from train.shots import Shot
from train.split import SIDES, divide, left_out, read_split
from train.stacks import stack_shots


def _stacks(folder: Path, count: int = 7, slides: int | None = None) -> list[Shot]:
    """The shots of ``count`` stacks, spread over ``slides`` where given."""
    for k in range(count):
        about = tiny.LABELLED if slides is None else {**tiny.LABELLED, "slide": f"slide{k % slides}"}
        tiny.write_stack(folder / f"s{k}", about, seed=k)
    return stack_shots([folder], Assumed())[0]


def _sides(shots: list[Shot], seed: int = 1) -> dict[str, set[str]]:
    division = divide(shots, seed)
    return {side: set(division.groups[side]) for side in SIDES}


class TestDivide:
    def test_every_group_is_on_one_side(self, tmp_path: Path) -> None:
        sides = _sides(_stacks(tmp_path, 10))
        assert {side: len(names) for side, names in sides.items()} == {"train": 6, "val": 2, "test": 2}
        assert set().union(*sides.values()) == {f"s{k}" for k in range(10)}

    def test_fields_of_a_slide_stay_together(self, tmp_path: Path) -> None:
        shots = _stacks(tmp_path, 9, slides=4)
        division = divide(shots, 1)
        assert division.by == "slide"
        for side in SIDES:
            for shot in division.side(shots, side):
                assert shot.slide in division.groups[side]
        fields = [{shot.field for shot in division.side(shots, side)} for side in SIDES]
        assert sum(map(len, fields)) == len(set().union(*fields)) == 9

    def test_of_two_slides_the_fields_are_divided(self, tmp_path: Path) -> None:
        assert divide(_stacks(tmp_path, 6, slides=2), 1).by == "field"

    def test_a_seed_gives_the_same_and_another_seed_another(self, tmp_path: Path) -> None:
        shots = _stacks(tmp_path)
        assert _sides(shots) == _sides(shots)
        assert any(_sides(shots) != _sides(shots, seed) for seed in range(2, 6))

    def test_order_and_repetition_of_sources_do_not_change_it(self, tmp_path: Path) -> None:
        shots = _stacks(tmp_path / "stacks")
        link = tmp_path / "again"
        link.symlink_to(tmp_path / "stacks", target_is_directory=True)
        named = [tmp_path / "stacks" / f"s{k}" for k in (4, 2, 0, 6)] + [link]
        again, _ = stack_shots(named, Assumed())
        assert divide(again, 1) == divide(shots, 1)

    def test_two_fields_are_too_few(self, tmp_path: Path) -> None:
        shots = _stacks(tmp_path, 2)
        line = tiny.input_error(lambda: divide(shots, 1))
        assert line == "2 field(s) of view found, at least 3 are needed: to train, validate and test on"

    def test_a_copy_under_another_name_is_found_out(self, tmp_path: Path) -> None:
        for k, name in enumerate(("a", "b", "c")):
            tiny.write_stack(tmp_path / name, tiny.LABELLED, seed=k // 2)  # a and b are the same
        shots, _ = stack_shots([tmp_path], Assumed())
        line = tiny.input_error(lambda: divide(shots, 1))
        assert line is not None
        assert "is the same image as" in line
        assert "on both sides of the split" in line

    def test_one_copied_image_is_found_out(self, tmp_path: Path) -> None:
        _stacks(tmp_path, 3)
        for k in (1, 2):
            (tmp_path / f"s{k}" / "p0.png").write_bytes((tmp_path / "s0" / "p0.png").read_bytes())
        shots, _ = stack_shots([tmp_path], Assumed())
        line = tiny.input_error(lambda: divide(shots, 1))
        assert line is not None
        assert "p0.png is the same image as" in line


class TestCalibratedStacks:
    def test_labels_have_the_direction_and_the_pitch_that_were_measured(self, tmp_path: Path) -> None:
        kept = {"dof_per_step": -0.03, "optical_dof_per_step": 0.025}
        tiny.write_stack(tmp_path / "a", tiny.LABELLED)
        tiny.write_stack(tmp_path / "b", {**tiny.LABELLED, "um_per_step": 0.062, "calibration": kept})
        shots, notes = stack_shots([tmp_path], Assumed())
        plain, calibrated = ([shot for shot in shots if shot.field == name] for name in ("a", "b"))
        share = -0.025 / 0.062 * plain[0].optics.dof_um
        assert [shot.defocus_um for shot in calibrated] == pytest.approx(
            [share * shot.defocus_um for shot in plain]
        )
        assert [note for note in notes if "calibrated" in note] == [
            f"{tmp_path / 'b'}: direction and pitch as they were calibrated when it was recorded"
        ]


class TestFile:
    def _written(self, tmp_path: Path, groups: Any, **more: Any) -> Path:
        path = tmp_path / "split.json"
        path.write_text(json.dumps({"by": "field", "seed": 1, "groups": groups, **more}), "utf-8")
        return path

    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        shots = _stacks(tmp_path / "s")
        division = divide(shots, 3)
        path = tmp_path / "split.json"
        path.write_text(json.dumps(division.as_dict()), "utf-8")
        assert read_split(path, shots) == division

    def test_names_alone_will_do_and_what_is_not_named_is_left_out(self, tmp_path: Path) -> None:
        shots = _stacks(tmp_path / "s", 5)
        path = self._written(tmp_path, {"train": ["s0", "s3"], "val": ["s1"], "test": ["s2"]})
        division = read_split(path, shots)
        assert {side: sorted(of) for side, of in division.groups.items()} == {
            "train": ["s0", "s3"],
            "val": ["s1"],
            "test": ["s2"],
        }
        assert left_out(division, shots) == ["s4"]
        assert all(len(value) == 64 for of in division.groups.values() for value in of.values())

    @pytest.mark.parametrize(
        ("groups", "said"),
        [
            (
                {"train": ["s0", "s1"], "val": ["s1"], "test": ["s2"]},
                "field s1 is on both sides of the split: train and val",
            ),
            (
                {"train": ["s0"], "val": ["s1"], "test": ["s0"]},
                "field s0 is on both sides of the split: train and test",
            ),
            (
                {"train": ["s0"], "val": ["s9"], "test": ["s2"]},
                "field s9 is not in the data; it has s0, s1, s2",
            ),
            ({"train": ["s0"], "val": [], "test": ["s2"]}, "no field to validate on"),
            ({"train": ["s0"], "test": ["s2"]}, 'groups": {train, val, test}} is allowed'),
            ({"train": "s0", "val": ["s1"], "test": ["s2"]}, "groups of each side: a list of names"),
            ([], "is allowed"),
        ],
    )
    def test_a_wrong_one_is_one_line(self, tmp_path: Path, groups: Any, said: str) -> None:
        shots = _stacks(tmp_path / "s", 3)
        path = self._written(tmp_path, groups)
        line = tiny.input_error(lambda: read_split(path, shots))
        assert line is not None
        assert line.startswith(f"{path}: ")
        assert said in line

    def test_data_that_has_changed_is_found_out(self, tmp_path: Path) -> None:
        shots = _stacks(tmp_path / "s", 3)
        division = divide(shots, 1)
        path = self._written(tmp_path, division.groups)
        [changed] = division.groups["test"]
        image = next((tmp_path / "s" / changed).glob("*.png"))
        image.write_bytes(image.read_bytes() + b"\0")
        line = tiny.input_error(lambda: read_split(path, shots))
        assert line == f"{path}: field {changed} is not what it was: its images or labels have changed"

    def test_slides_of_a_file_that_says_slides(self, tmp_path: Path) -> None:
        shots = _stacks(tmp_path / "s", 6, slides=3)
        groups = {"train": ["slide0"], "val": ["slide1"], "test": ["slide2"]}
        division = read_split(self._written(tmp_path, groups, by="slide"), shots)
        assert {shot.field for shot in division.side(shots, "test")} == {"s2", "s5"}
