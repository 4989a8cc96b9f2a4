"""The public data of Jiang et al. (Biomedical Optics Express 9, 1601, 2018), or data in its layout.

    about.json                                         optional: objective, pixel_um, wavelength_um
    incoherent_RGBchannels/
      train_incoherent_RGBChannels/s<slide>_l<location>/Seg<n>_defocus<nm>.jpg        tiles of 224 x 224
      testRawData_incoherent_sameProtocol/s<slide>_l<location>/defocus<nm>.jpg         whole frames
      testRawData_incoherent_diffProtocol/s<slide>_l<location>/defocus<nm>.jpg         whole frames

The integer is signed defocus in nanometres: a grid of 500 nm with an offset of its own in each stack, so it
is kept as it is and never rounded. The data set comes with no licence; whoever wants it downloads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edge.errors import InputError, one_line
from edge.optics import Objective, Optics
from edge.zstack import read_about
from train.assumed import Assumed
from train.shots import Shot

INNER = "incoherent_RGBchannels"
TRAIN = "train_incoherent_RGBChannels"
#: Names of the further test sets, and their folders.
PROTOCOLS = {
    "test_same": "testRawData_incoherent_sameProtocol",
    "test_diff": "testRawData_incoherent_diffProtocol",
}
#: Nikon 20x/0.75 and a camera with pixels of 3.45 µm.
PUBLISHED_OPTICS = Optics(Objective(20, 0.75), 3.45 / 20)

_FOLDER = re.compile(r"s(\d+)_l(\d+)")
_TILE = re.compile(r"Seg(\d+)_defocus([+-]?\d+)\.jpe?g", re.IGNORECASE)
_FRAME = re.compile(r"defocus([+-]?\d+)\.jpe?g", re.IGNORECASE)
_LARGEST_NM = 1_000_000


@dataclass(frozen=True)
class JiangData:
    """Shots of the training tiles, and of each protocol's test frames (empty where there is no folder)."""

    tiles: list[Shot]
    protocols: dict[str, list[Shot]]


def root_of(source: Path) -> Path | None:
    """The folder that holds the three, where ``source`` is it or the one above it; else None."""
    for folder in (source, source / INNER):
        if any((folder / name).is_dir() for name in (TRAIN, *PROTOCOLS.values())):
            return folder
    return None


def read_jiang(source: Path, assumed: Assumed) -> JiangData:
    """Find every image and parse its label; no image is read.

    Slides are called ``s1``, and those of a protocol's test frames ``test_same/s1``. Raises InputError naming
    the file or folder whose name does not parse.
    """
    root = root_of(source)
    if root is None:
        raise InputError(f"{source}: holds none of {TRAIN}, {', '.join(PROTOCOLS.values())}")
    above = root.parent if root.name == INNER else root
    optics = assumed.optics(above, read_about(above), else_=PUBLISHED_OPTICS)
    tiles = _shots(root / TRAIN, optics, "", _TILE)
    protocols = {
        name: _shots(root / folder, optics, f"{name}/", _FRAME) for name, folder in PROTOCOLS.items()
    }
    return JiangData(tiles, protocols)


def _shots(folder: Path, optics: Optics, prefix: str, pattern: re.Pattern[str]) -> list[Shot]:
    if not folder.is_dir():
        return []
    found: list[Shot] = []
    for stack in sorted(folder.iterdir()):
        if stack.name.startswith(".") or not stack.is_dir():
            continue
        place = _FOLDER.fullmatch(stack.name)
        if place is None:
            raise InputError(f"{stack}: folder name does not parse: s<slide>_l<location> is allowed")
        slide = f"{prefix}s{int(place[1])}"
        field = f"{slide}_l{int(place[2])}"
        before = len(found)
        for file in sorted(stack.iterdir()):
            if file.name.startswith(".") or file.name == "Thumbs.db":
                continue
            nm = _nanometres(file, pattern)
            found.append(Shot(file, nm / 1000, field, slide, slide, optics, pattern is _TILE))
        if len(found) == before:
            raise InputError(f"{stack}: no image in it")
    return found


def _nanometres(file: Path, pattern: re.Pattern[str]) -> int:
    match = pattern.fullmatch(file.name)
    wanted = "Seg<n>_defocus<nm>.jpg" if pattern is _TILE else "defocus<nm>.jpg"
    if match is None:
        shown = one_line(file.name, limit=80)
        raise InputError(f"{file.parent}: label of '{shown}' does not parse: {wanted} is allowed")
    nm = int(match[match.lastindex or 1])
    if abs(nm) > _LARGEST_NM:
        raise InputError(f"{file}: {nm} nm: within ±1 mm is allowed")
    return nm
