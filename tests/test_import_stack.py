"""`parfocal import-stack` of a folder and of a z-stack; order, crop, focus. TIFFs: test_import_tiff."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from image_sources import HEIGHT, WIDTH, folder_of, grain, greys, zstack_of
from oracle import Parfocal

from edge.zstack import ZStack
from train.folder_source import in_natural_order

tifffile = pytest.importorskip("tifffile", reason="no tifffile: the extra `train` is not installed")


@pytest.mark.parametrize(
    "names",
    [
        "z2.png z10.png",
        "Z1.png z2.png Z3.png",
        "a-1.png a-2.png a-10.png",
        "a-10.png a-2.png a+0.png a+3.png",
        "z-010.300um.png z-010.226um.png z+000.000um.png z+000.793um.png",
        "1.png 2.png 10.png x.png",
        "p1_z2.png p1_z10.png p2_z1.png",
        "z01.png z1.png z2.png",
    ],
)
def test_natural_order(names: str) -> None:
    assert in_natural_order(sorted(names.split())) == names.split()


class TestFolder:
    def test_images_by_name(self, parfocal: Parfocal, tmp_path: Path) -> None:
        folder = folder_of(
            tmp_path / "in", "z1.png z2.jpg z10.tif", {"licence": "CC0", "focus_z": 1, "mine": [1]}
        )
        (folder / "notes.txt").write_text("x", "utf-8")
        (folder / "._z1.png").write_bytes(b"what a Mac leaves behind")
        code, _, err = parfocal("import-stack", folder, tmp_path / "o")
        assert code == 0
        stack = ZStack.open(tmp_path / "o")
        assert greys(stack) == [0, 10, 20]
        assert stack.files == ("plane000.png", "plane001.png", "plane002.png")
        assert dict(stack.about) == {
            "licence": "CC0",
            "mine": [1],
            "imported_from": "in",
            "objective": None,
            "pixel_um": None,
            "focus_z": 1.0,
            "focus_from": "about.json of the source",
        }
        assert "in: 3 images by name: z1.png to z10.tif" in err
        assert "in: not images, left out: notes.txt" in err
        assert "focus_z = 1 is taken over from the source's about.json" in err

    def test_a_bad_image_leaves_a_gap(self, parfocal: Parfocal, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "in", "z1.png z2.png z3.png z4.png")
        data = (folder / "z2.png").read_bytes()
        (folder / "z2.png").write_bytes(data[: len(data) // 2])
        code, _, err = parfocal("import-stack", folder, tmp_path / "o", "--step-um", 2)
        assert code == 2
        assert err.splitlines()[-1] == (
            f"parfocal: {folder / 'z2.png'}: image cannot be read: the file is cut short"
        )
        assert not (tmp_path / "o").exists()
        code, _, err = parfocal("import-stack", folder, tmp_path / "o", "--step-um", 2, "--skip-bad")
        assert code == 0
        assert f"skipped: {folder / 'z2.png'}: image cannot be read: the file is cut short" in err
        stack = ZStack.open(tmp_path / "o")
        assert (stack.z_um, greys(stack)) == ((0.0, 4.0, 6.0), [0, 20, 30])
        assert stack.about["skipped"] == ["z2.png"]

    def test_crop(self, parfocal: Parfocal, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        ramp = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
        for k in range(2):
            cv2.imwrite(str(tmp_path / "in" / f"{k}.png"), ramp)
        assert parfocal("import-stack", tmp_path / "in", tmp_path / "o", "--crop", "2,3,4,5")[0] == 0
        stack = ZStack.open(tmp_path / "o")
        assert np.array_equal(stack.load(0)[..., 0], ramp[3:8, 2:6])
        assert stack.about["crop"] == [2, 3, 4, 5]


class TestZStack:
    @pytest.mark.parametrize(
        ("in_planes", "options", "z", "still_planes", "focus", "pixels"),
        [
            (False, "", [-2, 0, 3], False, 1, [0, 10, 20]),
            (False, "--reverse", [-3, 0, 2], False, -1, [20, 10, 0]),
            (True, "", [-2, 0, 3], True, 1, [0, 10, 20]),
            (True, "--step-um 0.5", [-1, 0, 1.5], False, 0.5, [0, 10, 20]),
            (True, "--step-um 0.5 --reverse", [-1.5, 0, 1], False, -0.5, [20, 10, 0]),
            (True, "--focus-z -1", [-2, 0, 3], True, -1, [0, 10, 20]),
        ],
    )
    def test_keeps_its_z(
        self,
        parfocal: Parfocal,
        tmp_path: Path,
        in_planes: bool,
        options: str,
        z: list[float],
        still_planes: bool,
        focus: float,
        pixels: list[int],
    ) -> None:
        source = zstack_of(tmp_path / "in", in_planes=in_planes)
        code, _, err = parfocal("import-stack", source, tmp_path / "o", *options.split())
        assert code == 0, err
        stack = ZStack.open(tmp_path / "o")
        assert (list(stack.z_um), stack.z_in_planes, stack.focus_um) == (z, still_planes, focus)
        assert greys(stack) == pixels
        assert stack.about["licence"] == "CC0"
        assert "-0" not in (tmp_path / "o" / "planes.csv").read_text("utf-8").replace("-0.5", "")

    def test_the_record_of_an_earlier_import_is_kept(self, parfocal: Parfocal, tmp_path: Path) -> None:
        source = zstack_of(tmp_path / "in", in_planes=True)
        parfocal("import-stack", source, tmp_path / "o", "--crop", "1,1,7,6")
        code, _, err = parfocal("import-stack", tmp_path / "o", tmp_path / "p", "--crop", "0,0,3,3")
        assert code == 0
        about = ZStack.open(tmp_path / "p").about
        assert (about["imported_from"], about["crop"]) == ("o", [0, 0, 3, 3])
        assert about["before"]["imported_from"] == "in"
        assert about["before"]["crop"] == [1, 1, 7, 6]
        assert "another part of the field may be sharp elsewhere" in err


class TestMeasure:
    @pytest.mark.parametrize(
        ("options", "step"), [("", 1.0), ("--step-um 0.5 --pixel-um 0.3 --objective 20x0.40", 0.5)]
    )
    def test_focus(self, parfocal: Parfocal, tmp_path: Path, options: str, step: float) -> None:
        planes = np.stack([grain(abs(k - 3)) for k in range(7)])
        tifffile.imwrite(tmp_path / "s.tif", planes, photometric="rgb")
        words = ("import-stack", tmp_path / "s.tif", tmp_path / "o", "--focus", "measure", *options.split())
        code, out, _ = parfocal(*words)
        assert code == 0
        about = ZStack.open(tmp_path / "o").about
        assert about["focus_z"] == pytest.approx(3 * step, abs=0.1 * step)
        assert about["focus_from"] == "measured"
        assert "(measured)" in out

    def test_is_refused_without_a_peak(self, parfocal: Parfocal, tmp_path: Path) -> None:
        planes = np.stack([grain(k) for k in range(4)])
        tifffile.imwrite(tmp_path / "s.tif", planes, photometric="rgb")
        code, _, err = parfocal("import-stack", tmp_path / "s.tif", tmp_path / "o", "--focus", "measure")
        assert code == 2
        assert err.splitlines()[-1] == (
            f"parfocal: {tmp_path / 's.tif'}: --focus measure: the first plane is the sharpest:"
            " the focus may lie before it; --focus-z says where it is sharp"
        )
        assert not (tmp_path / "o").exists()

    def test_a_focus_outside_the_planes_is_named(self, parfocal: Parfocal, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "in", "0.png 1.png")
        code, _, err = parfocal("import-stack", folder, tmp_path / "o", "--focus-z", 7)
        assert code == 0
        assert "--focus-z 7 lies outside the planes (0 to 1)" in err
