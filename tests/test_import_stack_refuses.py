"""`parfocal import-stack` on bad input: one line that names the file and what is allowed, nothing written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from image_sources import HEIGHT, WIDTH, folder_of, levels, zstack_of
from numpy.typing import NDArray
from oracle import Parfocal

tifffile = pytest.importorskip("tifffile", reason="no tifffile: the extra `train` is not installed")

Make = Callable[[Path], Path]
DEEP = np.full((HEIGHT, WIDTH), 9, np.uint16)


def tiff(data: NDArray[Any], **how: Any) -> Make:
    """A TIFF at `s.tif`."""

    def make(folder: Path) -> Path:
        tifffile.imwrite(folder / "s.tif", data, **{"photometric": "minisblack", **how})
        return folder / "s.tif"

    return make


def axes(names: str, *counts: int) -> Make:
    """An OME-TIFF with those axes before Y and X."""
    return tiff(np.zeros((*counts, HEIGHT, WIDTH), np.uint8), metadata={"axes": names + "YX"}, ome=True)


def images(names: str = "0.png 1.png", about: object = None, **more: NDArray[Any] | bytes) -> Make:
    """A folder of images, with further files: pixels or bytes."""

    def make(folder: Path) -> Path:
        made = folder_of(folder / "in", names, about)
        for name, content in more.items():
            path = made / name.replace("_", ".")
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif path.suffix == ".tif":
                tifffile.imwrite(path, content, photometric="minisblack")
            else:
                cv2.imwrite(str(path), content)
        return made

    return make


def stack(in_planes: bool = False, **about: Any) -> Make:
    return lambda folder: zstack_of(folder / "in", in_planes=in_planes, about=about)


def file(content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / "s.tif").write_bytes(content)
        return folder / "s.tif"

    return make


def two_positions(folder: Path) -> Path:
    with tifffile.TiffWriter(folder / "s.ome.tif") as writer:
        for _ in range(2):
            writer.write(levels(3), photometric="minisblack", metadata={"axes": "ZYX"})
    return folder / "s.ome.tif"


FLOATS = np.zeros((3, HEIGHT, WIDTH), np.float32)
#: The source, options, and what the last line says after "parfocal: " and the folder of the test.
BAD: list[tuple[Make, str, str]] = [
    (
        lambda folder: folder / "no",
        "",
        "/no: no such file or folder; a TIFF, a folder of images or a z-stack",
    ),
    (file(b"text"), "", "/s.tif: not a TIFF; a TIFF, a folder of images or a z-stack folder is allowed"),
    (file(b""), "", "/s.tif: not a TIFF"),
    (file(b"II*\0"), "", "/s.tif: cannot be read as a TIFF: "),
    (file(b"MM\0*\0\0\0\x08" + b"\xff" * 40), "", "/s.tif: "),
    (tiff(FLOATS), "", "/s.tif: float32 pixels; 8 or 16 bits without a sign are allowed"),
    (tiff(FLOATS.astype(np.int16)), "", "/s.tif: int16 pixels"),
    (tiff(FLOATS > 1), "", "/s.tif: bool pixels"),
    (
        tiff(np.zeros((3, 8, 9, 4), np.uint8), photometric="separated"),
        "",
        "/s.tif: its colours are SEPARATED",
    ),
    (tiff(np.zeros((3, 8, 9, 2), np.uint8), planarconfig="contig"), "", "2 samples a pixel; 1 (grey), 3"),
    (tiff(levels(3).astype(np.uint16) * 0), "", "/s.tif: 16 bits, and every value is 0"),
    (tiff(levels(1)[0]), "", "/s.tif: axes YX 8 x 9: no axis of planes; Z, or one of pages without a name"),
    (tiff(np.zeros((2, 3, 8, 9), np.uint8)), "", "/s.tif: axes QQYX 2 x 3 x 8 x 9 are not understood"),
    (axes("T", 3), "", "/s.tif: axes TYX 3 x 8 x 9: no axis of planes"),
    (axes("TZ", 2, 3), "", "/s.tif: axes TZYX 2 x 3 x 8 x 9: 2 times: --time 0 to 1 chooses"),
    (axes("TZ", 2, 3), "--time 2", "/s.tif: --time 2: 0 to 1 is allowed (axes TZYX 2 x 3 x 8 x 9)"),
    (axes("ZC", 3, 2), "", "/s.tif: axes ZCYX 3 x 2 x 8 x 9: 2 channels: --channel 0 to 1 chooses"),
    (axes("ZC", 3, 4), "--channel 4", "/s.tif: --channel 4: 0 to 3 is allowed"),
    (axes("ZC", 3, 2), "--channel 0 --time 1", "/s.tif: --time 1: it has one time (axes ZCYX 3 x 2 x 8 x 9)"),
    (axes("Z", 3), "--channel 1", "/s.tif: --channel 1: it has one channel"),
    (axes("Z", 3), "--position 1", "/s.tif: --position 1: it has one position"),
    (tiff(np.zeros((2, 3, 8, 9), np.uint8), metadata={"axes": "RZYX"}), "", "2 positions: --position 0 to 1"),
    (tiff(np.zeros((2, 3, 8, 9), np.uint8), metadata={"axes": "EZYX"}), "", "no option chooses of E"),
    (two_positions, "", "/s.ome.tif: 2 images (positions): --position 0 to 1 chooses"),
    (two_positions, "--position 2", "/s.ome.tif: --position 2: 0 to 1 is allowed"),
    (tiff(levels(3)), "--crop 0,0,10,8", "/s.tif plane 0: --crop 0,0,10,8: within 9 x 8 pixels is allowed"),
    (images(""), "", "/in: no image in it; .png, .jpg, .jpeg, .tif, .tiff are allowed, or a planes.csv"),
    (images("0.png"), "", "/in: 1 image(s) to read; 2 or more make a stack"),
    (images("0.png", z_png=b"no"), "", "/in/z.png: image cannot be read: not an image, or damaged"),
    (images("0.png", z_png=b"no"), "--skip-bad", "/in: 1 image(s) to read; 2 or more make a stack"),
    (images(z_png=np.zeros((3, 4))), "", "/in/z.png: image is 4 x 3 pixels; as 0.png it must be 9 x 8"),
    (images(z_png=np.zeros((3, 4))), "--skip-bad", "/in/z.png: image is 4 x 3 pixels; as 0.png"),
    (images(z_png=DEEP), "", "/in/z.png: uint16 pixels; as 0.png it must have uint8"),
    (images(z_tif=DEEP), "", "/in/z.tif: uint16 pixels; as 0.png"),
    (images(z_tif=levels(3)), "", "/in/z.tif: holds 3 images; in a folder one to a file is allowed"),
    (images(z_tif=b"II*\0" + bytes(9)), "", "/in/z.tif: "),
    (
        images(z_png=b"\x89PNG\r\n\x1a\n" + bytes(16) + b"\x10" * 9),
        "",
        "/in/z.png: image cannot be read: cut",
    ),
    (images(about="["), "", "/in/about.json: not JSON"),
    (images(about='{"focus_z": "x"}'), "", '/in/about.json: focus_z = "x"'),
    (images(about='{"pixel_um": 0}'), "", "/in/about.json: pixel_um = 0"),
    (images(about='{"mine": [NaN]}'), "", "/in/about.json: Out of range float values"),
    (images(), "--time 0", "/in: --time chooses in a TIFF; a folder has no such axis"),
    (images(), "--step-um 2e6", "--step-um 2e+06: a number above 0, of up to a metre, is allowed"),
    (images("0.png 1.png 2.png"), "--step-um 6e5", "/in: 3 planes 600000 µm apart: up to a metre in all"),
    (
        images(),
        "--focus measure",
        "/in: --focus measure: 2 different z: 3 or more are needed; --focus-z says",
    ),
    (stack(), "--step-um 1", "/in/planes.csv: gives z in µm; --step-um is allowed where it counts planes"),
    (stack(pixel_um=-1), "", "/in/about.json: pixel_um = -1"),
    (images(), "--step-um 0", "--step-um 0: a number above 0, of up to a metre, is allowed"),
    (images(), "--pixel-um -1", "--pixel-um -1: a number above 0"),
    (images(), "--focus-z 1e9", "--focus-z 1e+09: within ±1 m is allowed"),
    (
        images(),
        "--objective 20",
        "--objective: objective = '20': write magnification and NA, such as 20x0.40",
    ),
    (images(), "--slide \n", "--slide '': a name on one line is allowed"),
    (images(), "--crop 1,2,3", "argument --crop: '1,2,3': X,Y,W,H in pixels is allowed, W and H above 0"),
    (images(), "--crop 0,0,0,5", "argument --crop: '0,0,0,5'"),
    (images(), "--crop -1,0,3,5", "argument --crop: "),
    (images(), "--time -1", "argument --time: '-1': 0 or more is allowed"),
    (images(), "--channel x", "argument --channel: invalid whole number value: 'x'"),
    (images(), "--focus-z 1 --focus measure", "argument --focus: not allowed with argument --focus-z"),
    (images(), "--step-um nan", "argument --step-um: 'nan': a finite number is allowed"),
]


@pytest.mark.parametrize(("make", "options", "says"), BAD)
def test_bad_input(parfocal: Parfocal, tmp_path: Path, make: Make, options: str, says: str) -> None:
    source, out = make(tmp_path), tmp_path / "o"
    before = sorted(tmp_path.rglob("*"))
    code, said, err = parfocal("import-stack", source, out, *options.split(" ") if options else ())
    line = err.splitlines()[-1]
    assert code == 2
    assert says in line.replace(str(tmp_path), ""), f"{line!r} does not say {says!r}"
    if says.startswith("/"):
        assert line.startswith(f"parfocal: {source.parent}"), "the file is not named first"
    assert "Traceback" not in err
    assert said == ""
    assert sorted(tmp_path.rglob("*")) == before, "something was written"


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("full", "full: exists and is not an empty folder; nothing was overwritten"),
        ("file", "file: exists and is not an empty folder"),
        ("no/o", "no/o: cannot be created: no folder "),
        ("in", "in: exists and is not an empty folder"),
    ],
)
def test_places_that_are_taken(parfocal: Parfocal, tmp_path: Path, out: str, says: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x", "utf-8")
    (tmp_path / "file").write_text("x", "utf-8")
    source = folder_of(tmp_path / "in", "0.png 1.png")
    code, _, err = parfocal("import-stack", source, tmp_path / out)
    assert code == 2
    assert says in err
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "0.png", "1.png", "file", "full", "in", "thesis.tex",
    ]  # fmt: skip


def test_without_tifffile(parfocal: Parfocal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiff(levels(3))(tmp_path)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    code, _, err = parfocal("import-stack", source, tmp_path / "o")
    says = "import-stack runs on a desktop and tifffile is missing here: pip install 'parfocal[train]'"
    assert (code, err) == (2, f"parfocal: {says}\n")
    assert parfocal("import-stack", folder_of(tmp_path / "in", "0.png 1.png"), tmp_path / "o")[0] == 0
