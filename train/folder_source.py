"""A folder of images, or a z-stack folder, as the planes of a stack."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.errors import InputError, one_line
from edge.files import read_image
from edge.zstack import TABLE, ZStack, about_number, read_about
from train.stack_source import Picture, Source, SourcePlane
from train.tiff_source import MAGIC, read_single

__all__ = ["SUFFIXES", "folder_source", "in_natural_order", "read_picture", "zstack_source"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_PNG = b"\x89PNG\r\n\x1a\n"
_SIGNED = re.compile(r"([+-]?\d+(?:\.\d+)?)")
_COUNTED = re.compile(r"(\d+)")


def folder_source(folder: Path) -> Source:
    """The images directly in ``folder``, in the natural order of their names. None is read yet.

    Raises InputError where there is none, StackError for an about.json that cannot be used.
    """
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    found = {path.name: path for path in visible if path.suffix.lower() in SUFFIXES and path.is_file()}
    if not found:
        raise InputError(f"{folder}: no image in it; {', '.join(SUFFIXES)} are allowed, or a {TABLE}")
    names = in_natural_order(list(found))
    about = read_about(folder)
    about_number(folder, about, "pixel_um", above_zero=True)
    left = sorted(path.name for path in visible if path.name not in found and path.name != "about.json")
    notes = [f"{len(names)} images by name: {one_line(names[0])} to {one_line(names[-1])}"]
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        notes.append(f"not images, left out: {', '.join(one_line(name) for name in left[:3])}{more}")
    return Source(
        tuple(_plane(found[name]) for name in names),
        focus_z=about_number(folder, about, "focus_z"),
        about=about,
        notes=tuple(notes),
    )


def zstack_source(folder: Path, step_um: float | None) -> Source:
    """A z-stack folder. ``step_um``: µm from plane to plane, for a table in planes that shall get µm.

    Raises StackError for a folder that is none, InputError for a step where the table has µm already.
    """
    stack = ZStack.open(folder, step_um=1.0 if step_um is None else step_um)
    if step_um is not None and not stack.z_in_planes:
        raise InputError(f"{folder / TABLE}: gives z in µm; --step-um is allowed where it counts planes")
    return Source(
        tuple(_plane(folder / name) for name in stack.files),
        z=stack.z_um,
        z_in_planes=stack.z_in_planes and step_um is None,
        focus_z=stack.focus_um,
        about=stack.about,
    )


def in_natural_order(names: list[str]) -> list[str]:
    """``names`` sorted with their numbers as numbers: z2 before z10.

    Where some carry a plus and some a minus before a number (z-3.5, z+0.0), the signs count; a lone minus is
    a hyphen (img-1, img-2).
    """
    signed = any(re.search(r"\+\d", name) for name in names) and any(
        re.search(r"-\d", name) for name in names
    )
    number = _SIGNED if signed else _COUNTED

    def key(name: str) -> tuple[list[Any], str]:
        # split() with one group gives text, number, text, …: like is compared with like.
        parts = number.split(Path(name).stem.casefold())
        return [float(part) if k % 2 else part for k, part in enumerate(parts)], name

    return sorted(names, key=key)


def read_picture(path: Path) -> Picture:
    """A PNG, JPEG or TIFF of one image: `(H, W, 3)` RGB of uint8 or uint16. Raises InputError naming it."""
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise InputError(f"{path}: image cannot be read: {(error.strerror or str(error)).lower()}") from error
    if start[:4] in MAGIC:
        return read_single(path)
    if start[:8] == _PNG and start[24:25] == b"\x10":  # bits a channel, in the first chunk
        return _deep_png(path)
    return read_image(path)


def _deep_png(path: Path) -> Picture:
    """A PNG of 16 bits, which `read_image` leaves to whoever knows the scale of the whole stack."""
    data = path.read_bytes()
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if b"IEND" in data[-64:] else None
    if image is None or image.dtype != np.uint16:
        raise InputError(f"{path}: image cannot be read: cut short, or damaged")
    return np.ascontiguousarray(image[..., ::-1], np.uint16)


def _plane(path: Path) -> SourcePlane:
    return SourcePlane(one_line(path, limit=1000), lambda: read_picture(path))
