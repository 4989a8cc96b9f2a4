"""The layout of the Jiang 2018 data: names, nanometres, slides and locations, both test protocols."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from oracle import Parfocal

from train import data as datasets
from train.assumed import Assumed
from train.jiang import read_jiang, root_of
from train.pool import Pool
from train.shots import FieldJob, field_tiles

TRAIN = "incoherent_RGBchannels/train_incoherent_RGBChannels"
SAME = "incoherent_RGBchannels/testRawData_incoherent_sameProtocol"
DIFF = "incoherent_RGBchannels/testRawData_incoherent_diffProtocol"
OFFSETS_NM = {"s1_l1": 13, "s1_l2": -77, "s2_l1": 201, "s3_l12": 0}


def _write(path: Path, seed: int, size_px: int = 224) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), tiny.frame(seed, size_px)[..., ::-1])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four stacks of three planes of two tiles to train on; a stack of two frames for each protocol."""
    for number, (stack, offset) in enumerate(OFFSETS_NM.items()):
        for plane in (-1, 0, 1):
            for tile in (1, 2):
                name = f"Seg{tile}_defocus{500 * plane + offset}.jpg"
                _write(tmp_path / TRAIN / stack / name, 100 * number + 10 * plane + tile + 20)
    for number, folder in enumerate((SAME, DIFF)):
        for nm in (-1250, 750):
            _write(tmp_path / folder / "s1_l1" / f"defocus{nm}.jpg", 900 + 10 * number + nm // 500, 448)
    return tmp_path


class TestRead:
    def test_labels_are_nanometres_kept_to_the_last(self, data: Path) -> None:
        found = read_jiang(data, Assumed())
        assert len(found.tiles) == 4 * 3 * 2
        of = {shot.file.parent.name: set() for shot in found.tiles}  # type: ignore[var-annotated]
        for shot in found.tiles:
            of[shot.file.parent.name].add(shot.defocus_um)
        for stack, offset in OFFSETS_NM.items():
            assert of[stack] == {(500 * plane + offset) / 1000 for plane in (-1, 0, 1)}

    def test_slides_and_locations_come_from_the_folders(self, data: Path) -> None:
        found = read_jiang(data, Assumed())
        assert {(shot.slide, shot.field) for shot in found.tiles} == {
            ("s1", "s1_l1"),
            ("s1", "s1_l2"),
            ("s2", "s2_l1"),
            ("s3", "s3_l12"),
        }
        assert {name: {shot.slide for shot in of} for name, of in found.protocols.items()} == {
            "test_same": {"test_same/s1"},
            "test_diff": {"test_diff/s1"},
        }
        assert [shot.defocus_um for shot in found.protocols["test_diff"]] == [-1.25, 0.75]

    def test_from_the_folder_or_the_one_above(self, data: Path) -> None:
        inner = data / "incoherent_RGBchannels"
        assert root_of(data) == root_of(inner) == inner
        assert root_of(data / TRAIN) is None
        assert len(read_jiang(inner, Assumed()).tiles) == 24

    def test_optics_are_the_published_ones_or_those_stated(self, data: Path) -> None:
        shot = read_jiang(data, Assumed()).tiles[0]
        assert (str(shot.optics.objective), shot.optics.pixel_um) == ("20x0.75", 3.45 / 20)
        shot = read_jiang(data, Assumed(pixel_um=0.345)).tiles[0]
        assert shot.optics.pixel_um == 0.345
        (data / "about.json").write_text(json.dumps({"objective": "10x0.25", "pixel_um": 0.6}), "utf-8")
        shot = read_jiang(data, Assumed()).tiles[0]
        assert (str(shot.optics.objective), shot.optics.pixel_um) == ("10x0.25", 0.6)

    def test_a_raw_tile_is_the_image_shrunk(self, data: Path) -> None:
        """The paper's network sees the 224 pixels of an image, whatever its own size."""
        shots = [shot for shot in read_jiang(data, Assumed()).tiles if shot.field == "s1_l1"]
        network = tiny.recipe(network={"input": "raw", "tile_px": 112}).network
        made = field_tiles(FieldJob(tuple(shots), network, False))
        assert [tile.shape for tile in made.tiles] == [(1, 112, 112, 3)] * 6
        image = cv2.imread(str(shots[0].file))[..., ::-1]
        shrunk = cv2.resize(image, (112, 112), interpolation=cv2.INTER_AREA).astype(int)
        np.testing.assert_array_equal(made.tiles[0][0].astype(int), np.clip(shrunk - 128, -128, 127))

    def test_a_published_tile_counts_though_it_shows_nothing(self, data: Path) -> None:
        file = data / TRAIN / "s2_l1" / "Seg1_defocus201.jpg"
        cv2.imwrite(str(file), np.full((224, 224, 3), 180, np.uint8))
        shots = tuple(shot for shot in read_jiang(data, Assumed()).tiles if shot.file == file)
        [made] = field_tiles(FieldJob(shots, tiny.recipe().network, False)).tiles
        assert len(made) == 1

    def test_a_plan_keeps_the_protocols_apart(self, data: Path) -> None:
        planned = datasets.plan([str(data)], tiny.recipe(), assumed=Assumed())
        assert set(planned.shots) == {"train", "val", "test", "test_same", "test_diff"}
        assert planned.division is not None
        assert planned.division.by == "slide"
        recipe = tiny.recipe(network={"labels": "jiang41"})
        made = datasets.prepare(planned, recipe, Pool())
        assert sorted(set(made.sides["test_same"].truth("um").tolist())) == [-1.25, 0.75]


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "said"),
        [
            (f"{TRAIN}/s1_l1/Seg1_defocus12.5.jpg", "label of 'Seg1_defocus12.5.jpg' does not parse"),
            (f"{TRAIN}/s1_l1/Seg1_defocus.jpg", "does not parse: Seg<n>_defocus<nm>.jpg is allowed"),
            (f"{TRAIN}/s1_l1/defocus500.jpg", "does not parse: Seg<n>_defocus<nm>.jpg is allowed"),
            (f"{TRAIN}/s1_l1/notes.txt", "label of 'notes.txt' does not parse"),
            (f"{TRAIN}/slide1/Seg1_defocus500.jpg", "folder name does not parse: s<slide>_l<location>"),
            (f"{TRAIN}/s1_l1/Seg1_defocus99999999.jpg", "99999999 nm: within ±1 mm is allowed"),
            (f"{SAME}/s1_l1/Seg1_defocus500.jpg", "does not parse: defocus<nm>.jpg is allowed"),
        ],
    )
    def test_names_that_do_not_parse(self, parfocal: Parfocal, data: Path, name: str, said: str) -> None:
        path = data / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        code, out, err = parfocal("data", data)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err
        assert str(path.parent) in err

    def test_an_empty_stack_and_no_stack(self, parfocal: Parfocal, data: Path) -> None:
        (data / TRAIN / "s9_l1").mkdir()
        code, _, err = parfocal("data", data)
        assert (code, err) == (2, f"parfocal: {data / TRAIN / 's9_l1'}: no image in it\n")

    def test_mixed_with_others(self, parfocal: Parfocal, data: Path) -> None:
        code, _, err = parfocal("data", data, data)
        assert code == 2
        assert "cannot be mixed with other data" in err

    def test_test_frames_alone(self, parfocal: Parfocal, data: Path) -> None:
        import shutil

        shutil.rmtree(data / TRAIN)
        code, _, err = parfocal("data", data)
        assert (code, err) == (2, "parfocal: only test frames in this data: nothing to train on\n")


class TestSummary:
    def test_says_what_there_is_and_how_it_is_split(
        self, parfocal: Parfocal, data: Path, tmp_path: Path
    ) -> None:
        code, out, err = parfocal("data", data, "--labels", "jiang41", "--plot", tmp_path / "p.png")
        assert (code, err) == (0, "Jiang layout: 20x0.75, 0.1725 µm a pixel, a depth of field is 0.978 µm\n")
        split, *lines = out.splitlines()
        assert split.startswith("split by slide: train s")
        assert [line.split()[0] for line in lines] == [
            "train",
            "val",
            "test",
            "test_same",
            "test_diff",
            "no",
        ]
        assert "2 fields, 12 images" in out, "s1, the slide with two locations"
        assert "no image for 39 of 41 classes" in lines[-1]
        assert cv2.imread(str(tmp_path / "p.png")).shape[1] > 600

    def test_too_few_fields_are_described_all_the_same(self, parfocal: Parfocal, tmp_path: Path) -> None:
        tiny.write_stack(tmp_path / "s", tiny.LABELLED)
        code, out, err = parfocal("data", tmp_path / "s")
        assert (code, err) == (0, "")
        assert out.splitlines()[0].startswith("too few fields of view to split")
        assert "1 fields, 3 images" in out

    def test_as_json(self, parfocal: Parfocal, data: Path) -> None:
        code, out, _ = parfocal("data", data, "--labels", "jiang41", "--json")
        assert code == 0
        value = json.loads(out)
        assert value["train"]["images"] == sum(value["train"]["class_counts"])
        assert sum(value["test_same"]["histogram"]["counts"]) == value["test_same"]["images"] == 2
        assert sorted(value["split"]["groups"]) == ["test", "train", "val"]
