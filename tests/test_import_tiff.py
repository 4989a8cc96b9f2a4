"""`parfocal import-stack` of a TIFF: axes, colours, what its metadata says, what is missing from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from image_sources import HEIGHT, WIDTH, greys, levels, picture, shown
from numpy.typing import NDArray
from oracle import Parfocal

from edge.zstack import ZStack

tifffile = pytest.importorskip("tifffile", reason="no tifffile: the extra `train` is not installed")

OME = {
    "axes": "ZYX",
    "PhysicalSizeZ": 500,
    "PhysicalSizeZUnit": "nm",
    "PhysicalSizeX": 0.2,
    "PhysicalSizeY": 0.2,
}
INSTRUMENT = (
    '<Instrument ID="Instrument:0">'
    '<Objective ID="Objective:0" NominalMagnification="100" LensNA="1.3" Immersion="Oil"/>'
    '<Objective ID="Objective:1" NominalMagnification="10" LensNA="0.25"/></Instrument>'
)
RGB_PLANES = np.stack([picture(0) + np.array([k, 2 * k, 3 * k], np.uint8) for k in range(4)])
DEEP = levels(4, scale=1000, dtype="uint16")
#: What is written, how, options; what comes out: z, whether in planes, the lower right pixel of each plane.
TIFFS: list[tuple[Any, dict[str, Any], str, list[float], bool, list[Any]]] = [
    (levels(3), {}, "", [0, 1, 2], True, [0, 10, 20]),
    (levels(3), {"metadata": None}, "--step-um 2", [0, 2, 4], False, [0, 10, 20]),
    (levels(3), {"metadata": None}, "--reverse", [0, 1, 2], True, [20, 10, 0]),
    (levels(3), {"compression": "lzw", "metadata": None}, "", [0, 1, 2], True, [0, 10, 20]),
    (levels(3), {"metadata": OME, "ome": True}, "", [0, 0.5, 1], False, [0, 10, 20]),
    (levels(3), {"metadata": OME, "ome": True}, "--step-um 3", [0, 3, 6], False, [0, 10, 20]),
    (levels(3), {"imagej": True, "metadata": {"axes": "ZYX"}}, "", [0, 1, 2], True, [0, 10, 20]),
    (levels(3), {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 0.7, "unit": "micron"}}, "",
     [0, 0.7, 1.4], False, [0, 10, 20]),
    (levels(3), {"truncate": True, "metadata": {"axes": "ZYX"}}, "", [0, 1, 2], True, [0, 10, 20]),
    (levels(3), {"volumetric": True, "tile": (16, 16, 16)}, "", [0, 1, 2], True, [0, 10, 20]),
    (levels(3), {"photometric": "miniswhite", "metadata": None}, "", [0, 1, 2], True, [255, 245, 235]),
    (levels(3), {"photometric": "palette", "metadata": None,
                 "colormap": np.arange(768, dtype=np.uint16).reshape(3, 256) << 6}, "",
     [0, 1, 2], True, [[0, 64, 128], [2, 66, 130], [5, 69, 133]]),
    (RGB_PLANES, {"photometric": "rgb"}, "", [0, 1, 2, 3], True, [[k, 2 * k, 3 * k] for k in range(4)]),
    (np.moveaxis(RGB_PLANES, 3, 1), {"photometric": "rgb", "planarconfig": "separate"}, "",
     [0, 1, 2, 3], True, [[k, 2 * k, 3 * k] for k in range(4)]),
    (np.moveaxis(RGB_PLANES, 3, 1), {"metadata": {"axes": "ZCYX"}, "ome": True}, "",
     [0, 1, 2, 3], True, [[k, 2 * k, 3 * k] for k in range(4)]),
    (np.moveaxis(RGB_PLANES, 3, 0), {"metadata": {"axes": "CZYX"}, "ome": True}, "--channel 1",
     [0, 1, 2, 3], True, [0, 2, 4, 6]),
    (np.stack([levels(3), levels(3) + 1]), {"metadata": {"axes": "TZYX"}, "ome": True}, "--time 1",
     [0, 1, 2], True, [1, 11, 21]),
    (np.stack([levels(3), levels(3) + 1]), {"metadata": {"axes": "RZYX"}}, "--position 1",
     [0, 1, 2], True, [1, 11, 21]),
    (levels(3), {"metadata": OME, "ome": True}, "--time 0 --channel 0", [0, 0.5, 1], False, [0, 10, 20]),
    (DEEP, {"metadata": {"axes": "ZYX"}}, "", [0, 1, 2, 3], True, [0, 85, 170, 255]),
    (DEEP, {"metadata": {"axes": "ZYX"}, "photometric": "minisblack", "byteorder": ">"}, "--crop 2,3,4,5",
     [0, 1, 2, 3], True, [0, 85, 170, 255]),
]  # fmt: skip


class TestTiff:
    @pytest.mark.parametrize(("data", "how", "options", "z", "in_planes", "pixels"), TIFFS)
    def test_comes_out(
        self,
        parfocal: Parfocal,
        tmp_path: Path,
        data: NDArray[Any],
        how: dict[str, Any],
        options: str,
        z: list[float],
        in_planes: bool,
        pixels: list[Any],
    ) -> None:
        tifffile.imwrite(tmp_path / "s.tif", data, **{"photometric": "minisblack", **how})
        code, out, err = parfocal("import-stack", tmp_path / "s.tif", tmp_path / "o", *options.split())
        assert code == 0, err
        stack = ZStack.open(tmp_path / "o")
        stack.check()
        assert (list(stack.z_um), stack.z_in_planes) == (pytest.approx(z), in_planes)
        assert (shown(stack) if isinstance(pixels[0], list) else greys(stack)) == pixels
        assert stack.about["imported_from"] == "s.tif"
        assert stack.about["focus_z"] is None
        height, width = stack.shape[:2]
        assert out.startswith(
            f"{tmp_path / 'o'}: {len(z)} planes of {width} x {height} pixels, z 0 to {z[-1]:g} "
        )
        assert ("does not say its step" in err) == in_planes

    def test_what_ome_says_is_kept(self, parfocal: Parfocal, tmp_path: Path) -> None:
        file = tmp_path / "s.ome.tif"
        tifffile.imwrite(file, levels(3), photometric="minisblack", metadata=OME)
        with tifffile.TiffFile(file) as written:
            xml = written.ome_metadata.replace("<Image ", INSTRUMENT + "<Image ")
        xml = xml.replace("<Pixels ", '<ObjectiveSettings ID="Objective:0"/><Pixels ')
        tifffile.tiffcomment(file, xml.encode())
        assert parfocal("import-stack", file, tmp_path / "o")[0] == 0
        about = dict(ZStack.open(tmp_path / "o").about)
        assert about == {
            "imported_from": "s.ome.tif",
            "axes": "ZYX 3 x 8 x 9",
            "objective": "100x1.30oil",
            "pixel_um": 0.2,
            "focus_z": None,
        }
        words = "--objective 20x0.40 --pixel-um 0.3 --step-um 1 --focus-z 0.5 --slide S1"
        code, out, err = parfocal("import-stack", file, tmp_path / "p", *words.split())
        assert code == 0
        about = dict(ZStack.open(tmp_path / "p").about)
        assert (about["objective"], about["pixel_um"], about["slide"]) == ("20x0.40", 0.3, "S1")
        assert (about["focus_z"], about["focus_from"]) == (0.5, "given")
        assert "focus at 0.5 (given)" in out
        assert "--step-um 1 is used and not the 0.5 µm of the file" in err
        assert "--objective 20x0.40 is used and not what the source says: 100x1.30oil" in err
        assert "--pixel-um 0.3 is used and not what the source says: 0.2" in err

    @pytest.mark.parametrize(
        ("instrument", "settings", "objective", "says"),
        [
            (INSTRUMENT, "", None, "it names 2 objectives and not which one it was taken with"),
            (INSTRUMENT, '<ObjectiveSettings ID="Objective:1"/>', "10x0.25", ""),
            (INSTRUMENT.replace("0.25", "0.045"), '<ObjectiveSettings ID="Objective:1"/>', "10x0.045", ""),
            (INSTRUMENT.replace('LensNA="1.3" ', ""), '<ObjectiveSettings ID="Objective:0"/>', None, ""),
            (INSTRUMENT.replace("Oil", "Air"), '<ObjectiveSettings ID="Objective:0"/>', None, "NA = 1.3"),
            (INSTRUMENT.replace("1.3", "x"), '<ObjectiveSettings ID="Objective:0"/>', None, "is not used"),
            ("", "<&>", None, "its OME metadata cannot be read: "),
        ],
    )
    def test_objectives(
        self,
        parfocal: Parfocal,
        tmp_path: Path,
        instrument: str,
        settings: str,
        objective: str | None,
        says: str,
    ) -> None:
        file = tmp_path / "s.ome.tif"
        tifffile.imwrite(file, levels(3), photometric="minisblack", metadata={"axes": "ZYX"})
        with tifffile.TiffFile(file) as written:
            xml = written.ome_metadata.replace("<Image ", instrument + "<Image ")
        tifffile.tiffcomment(file, xml.replace("<Pixels ", settings + "<Pixels ").encode())
        code, _, err = parfocal("import-stack", file, tmp_path / "o")
        assert code == 0, err
        assert ZStack.open(tmp_path / "o").about["objective"] == objective
        assert says in err

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"PhysicalSizeZ": -1}, "its PhysicalSizeZ = -1 µm is not used: no length above 0"),
            ({"PhysicalSizeZ": 2, "PhysicalSizeZUnit": "pixel"}, "PhysicalSizeZ = 2 pixel is not used"),
            ({"PhysicalSizeX": 1, "PhysicalSizeY": 2}, "its pixels are 1 x 2 µm, not square"),
        ],
    )
    def test_ome_that_is_not_used(
        self, parfocal: Parfocal, tmp_path: Path, change: dict[str, Any], says: str
    ) -> None:
        how: dict[str, Any] = {
            "photometric": "minisblack",
            "metadata": {"axes": "ZYX", **change},
            "ome": True,
        }
        tifffile.imwrite(tmp_path / "s.tif", levels(3), **how)
        code, _, err = parfocal("import-stack", tmp_path / "s.tif", tmp_path / "o")
        assert code == 0
        assert says in err
        stack = ZStack.open(tmp_path / "o")
        assert (stack.z_in_planes, stack.pixel_um) == (True, None)

    def test_imagej_resolution(self, parfocal: Parfocal, tmp_path: Path) -> None:
        metadata = {"axes": "ZYX", "unit": "um"}
        tifffile.imwrite(tmp_path / "s.tif", levels(3), imagej=True, metadata=metadata, resolution=(4, 4))
        assert parfocal("import-stack", tmp_path / "s.tif", tmp_path / "o")[0] == 0
        assert ZStack.open(tmp_path / "o").pixel_um == 0.25

    def test_a_file_of_several_positions(self, parfocal: Parfocal, tmp_path: Path) -> None:
        file = tmp_path / "s.ome.tif"
        with tifffile.TiffWriter(file) as writer:
            for k, size in enumerate([0.2, 0.4]):
                metadata = {"axes": "ZYX", "PhysicalSizeX": size}
                writer.write(levels(3) + k, photometric="minisblack", metadata=metadata)
        assert parfocal("import-stack", file, tmp_path / "o", "--position", 1)[0] == 0
        stack = ZStack.open(tmp_path / "o")
        assert (greys(stack), stack.pixel_um) == ([1, 11, 21], 0.4)

    @staticmethod
    def siblings(folder: Path) -> list[Path]:
        """An OME-TIFF of three planes, each in a file of its own."""
        ids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{k}" for k in range(3)]
        places = "".join(
            f'<TiffData IFD="0" FirstZ="{k}" PlaneCount="1"><UUID FileName="s{k}.ome.tif">{name}</UUID>'
            "</TiffData>"
            for k, name in enumerate(ids)
        )
        for k, name in enumerate(ids):
            xml = (
                f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{name}">'
                f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8"'
                f' SizeX="{WIDTH}" SizeY="{HEIGHT}" SizeC="1" SizeZ="3" SizeT="1">'
                f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{places}</Pixels></Image></OME>'
            )
            tifffile.imwrite(
                folder / f"s{k}.ome.tif", picture(10 * k)[..., 0], description=xml, metadata=None
            )
        return sorted(folder.glob("s*.ome.tif"))

    def test_planes_in_files_of_their_own(self, parfocal: Parfocal, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        files = self.siblings(tmp_path / "in")
        for source, out in ((files[0], "a"), (tmp_path / "in", "b")):
            assert parfocal("import-stack", source, tmp_path / out)[0] == 0
            assert greys(ZStack.open(tmp_path / out)) == [0, 10, 20], f"{source}"
        files[1].unlink()
        code, _, err = parfocal("import-stack", files[0], tmp_path / "c")
        assert code == 2
        assert err.splitlines()[-1] == f"parfocal: {files[0]}: page 1 is missing"
        assert parfocal("import-stack", files[0], tmp_path / "c", "--skip-bad", "--step-um", 2)[0] == 0
        stack = ZStack.open(tmp_path / "c")
        assert (stack.z_um, greys(stack)) == ((0.0, 4.0), [0, 20])

    def test_a_file_that_breaks_off(self, parfocal: Parfocal, tmp_path: Path) -> None:
        file = tmp_path / "s.tif"
        tifffile.imwrite(file, levels(6), photometric="minisblack", metadata=None, compression="zlib")
        with tifffile.TiffFile(file) as whole:
            third = whole.pages[3].offset
        file.write_bytes(file.read_bytes()[:third])
        code, _, err = parfocal("import-stack", file, tmp_path / "o")
        assert code == 2
        assert "s.tif: breaks off after 3 pages" in err
        code, _, err = parfocal("import-stack", file, tmp_path / "o", "--skip-bad")
        assert code == 0
        assert greys(ZStack.open(tmp_path / "o")) == [0, 10, 20]
        assert "tifffile says: " in err


class TestDeepPixels:
    def test_one_scale_for_all(self, parfocal: Parfocal, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "s.tif", DEEP, photometric="minisblack")
        _, _, err = parfocal("import-stack", tmp_path / "s.tif", tmp_path / "o")
        stack = ZStack.open(tmp_path / "o")
        assert stack.about["scaled_from"] == [0, 3001]
        assert "16 bits: 0 to 3001, the highest value of the stack, become 0 to 255 in every plane" in err
        assert "bright pixels" not in err

    def test_a_hot_pixel_is_named(self, parfocal: Parfocal, tmp_path: Path) -> None:
        deep = np.full((3, 64, 64), 500, np.uint16)
        deep[1, 5, 5] = 65535
        tifffile.imwrite(tmp_path / "s.tif", deep, photometric="minisblack")
        _, _, err = parfocal("import-stack", tmp_path / "s.tif", tmp_path / "o")
        assert "99.9 % of the values are 500 or less: a few bright pixels set the scale, about 3 grey" in err

    def test_png(self, parfocal: Parfocal, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        for k, data in enumerate(DEEP):
            cv2.imwrite(str(tmp_path / "in" / f"{k}.png"), data)
        assert parfocal("import-stack", tmp_path / "in", tmp_path / "o")[0] == 0
        assert greys(ZStack.open(tmp_path / "o")) == [0, 85, 170, 255]
