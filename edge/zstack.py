"""A z-stack: a folder with one image for each stage position, the form in which focus series travel.

    planes.csv    header `file,z_um`    then one row for each image: its name and the stage position in µm,
                  or     `file,z_plane` the same in planes, where the step in µm is not known
    about.json    optional; free keys. Read here: `pixel_um` (object-side µm per pixel), `objective` (text
    such as
                  20x0.40; any other text counts as not known), `focus_z` (where it is sharp, in the unit of
                  the z column). Null or absent means not known.
    *.png …       8-bit images of one size

Planes are numbered from 0 in order of rising z, equal z in order of the table. Several planes may share a z.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edge.errors import InputError, StackError, one_line
from edge.files import RGB, PathLike, atomic_folder, encode_png, read_image
from edge.optics import Objective

__all__ = [
    "LARGEST_Z_UM",
    "TABLE",
    "ZStack",
    "about_number",
    "about_objective",
    "read_about",
    "stacks_in",
    "write_zstack",
]

TABLE = "planes.csv"
ABOUT = "about.json"
LARGEST_Z_UM = 1e6
"""No microscope stage travels a metre: beyond it the table holds nonsense."""


@dataclass(frozen=True, eq=False)
class ZStack:
    """An opened z-stack folder. Use `ZStack.open`; the images are read when asked for."""

    path: Path
    """The folder."""

    files: tuple[str, ...]
    """Image names, by rising z."""

    z_um: tuple[float, ...]
    """Stage position of each plane in µm, finite, rising; equal values are allowed."""

    z_in_planes: bool
    """Whether the table counts planes, so that `z_um` rests on an assumed step."""

    focus_um: float | None
    """Where the stack is sharp, in µm; None where not known."""

    about: Mapping[str, Any]
    """All of about.json, read-only; empty where there is none."""

    pixel_um: float | None
    """Object-side size of a pixel in µm, above 0; None where not known."""

    objective: Objective | None
    """The objective; None where not known."""

    assumptions: tuple[str, ...]
    """What had to be assumed, each a sentence for the user."""

    @classmethod
    def open(cls, path: PathLike, *, step_um: float = 1.0) -> ZStack:
        """Read the table and about.json, and see that each image is there; the images are not decoded
        (`check`).

        `step_um` is µm from one plane to the next, finite and above 0, used only by a table in planes. Raises
        StackError naming file and row, InputError for a bad `step_um`.
        """
        if not (math.isfinite(step_um) and step_um > 0):
            raise InputError(f"step = {step_um} µm: a finite number above 0 is allowed")
        folder = Path(path)
        if not folder.is_dir():
            raise StackError(f"{one_line(path)}: {'not a folder' if folder.exists() else 'no such folder'}")
        rows, in_planes = _read_table(folder)
        scale = step_um if in_planes else 1.0
        for row in rows:
            if abs(row.z * scale) > LARGEST_Z_UM:
                raise StackError(
                    f"{folder / TABLE} line {row.line}: z = {row.z * scale:g} µm: within ±1 m is allowed"
                )
        rows.sort(key=lambda row: row.z)  # stable: equal z stay in the order of the table
        about = read_about(folder)
        focus = about_number(folder, about, "focus_z")
        z_um = tuple(row.z * scale for row in rows)
        return cls(
            path=folder,
            files=tuple(row.file for row in rows),
            z_um=z_um,
            z_in_planes=in_planes,
            focus_um=None if focus is None else focus * scale,
            about=MappingProxyType(about),
            pixel_um=about_number(folder, about, "pixel_um", above_zero=True),
            objective=about_objective(about),
            assumptions=tuple(_assumptions(folder, in_planes, step_um, z_um)),
        )

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of plane 0, the size that `check` asks of all. Reads one image; raises StackError."""
        height, width, channels = self.load(0).shape
        return height, width, channels

    def load(self, plane: int) -> RGB:
        """Decode one plane: (H, W, 3) uint8 RGB, a new array. Blocks for the disk.

        Raises StackError naming the file where it is no image, IndexError for a plane outside 0 .. len - 1.
        """
        if not 0 <= plane < len(self):
            raise IndexError(f"plane {plane}: 0 to {len(self) - 1} is allowed")
        try:
            return read_image(self.path / self.files[plane])
        except InputError as error:
            raise StackError(one_line(error, limit=1000)) from error  # a name may hold a line break

    def check(self) -> None:
        """Decode every plane. Raises StackError where one is unreadable or of another size than plane 0."""
        for plane, name in enumerate(self.files):
            height, width, _ = self.load(plane).shape
            if (height, width) != self.shape[:2]:
                raise StackError(
                    f"{self.path / name}: image is {width} x {height} pixels; as"
                    f" {self.files[0]} it must be {self.shape[1]} x {self.shape[0]}"
                )

    def nearest(self, z_um: float) -> int:
        """The plane nearest a stage position in µm, the first of equals. Raises ValueError for NaN, inf."""
        if not math.isfinite(z_um):
            raise ValueError(f"z = {z_um} µm is not a position")
        return min(range(len(self)), key=lambda plane: abs(self.z_um[plane] - z_um))


def stacks_in(folder: Path) -> list[Path]:
    """``folder`` itself where it is a z-stack, else those directly in it, sorted, without unfinished ones."""
    if (folder / TABLE).is_file():
        return [folder]
    within = sorted(path.parent for path in folder.glob(f"*/{TABLE}"))
    return [path for path in within if not path.name.startswith(".")]


def write_zstack(
    path: PathLike,
    planes: Iterable[tuple[str, float, RGB]],
    about: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    *,
    overwrite: bool = False,
    z_in_planes: bool = False,
) -> None:
    """Write a z-stack folder, whole or not at all; blocks until it is on the disk. The parent folder must
    exist.

    `planes` are (file name ending in .png, z in µm, (H, W, 3) uint8 RGB), written as they come, so a
    generator needs memory for one. Rows keep their order. With `z_in_planes` z counts planes, where the step
    in µm is not known, and the table says `z_plane`. A function in place of `about` is called once all planes
    are written; what it raises leaves no folder. Raises InputError where `path` has content;
    `overwrite` allows for that only where the content is a z-stack. ValueError for names, sizes, z or
    `about` that no reader would take.
    """
    about_text = None if callable(about) else _about_text(about)
    target = Path(path)
    if overwrite and target.is_dir() and any(target.iterdir()) and not (target / TABLE).is_file():
        raise StackError(f"{path}: the folder holds something other than a z-stack, it is not overwritten")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "z_plane" if z_in_planes else "z_um"])
    names: set[str] = set()
    shape: tuple[int, ...] | None = None
    with atomic_folder(target, replace=overwrite) as folder:
        for name, z, image in planes:
            if not name.endswith(".png") or name != one_line(name) or "/" in name or name.startswith("."):
                raise ValueError(f"file name {name!r}: a plain name that ends in .png is allowed")
            if name in names:
                raise ValueError(f"file name {name!r} is given twice")
            if not (math.isfinite(z) and abs(z) <= LARGEST_Z_UM):
                raise ValueError(f"{name}: z = {z} µm: finite and within ±1 m is allowed")
            if shape is not None and image.shape != shape:
                raise ValueError(f"{name}: shape {image.shape} differs from the first plane's {shape}")
            shape = image.shape
            names.add(name)
            _write_through(folder / name, encode_png(image))
            writer.writerow([name, f"{z:.0f}" if z_in_planes and z == round(z) else repr(float(z))])
        if not names:
            raise ValueError("a z-stack needs at least one plane")
        (folder / TABLE).write_text(table.getvalue(), encoding="utf-8")
        if callable(about):
            about_text = _about_text(about())
        assert about_text is not None
        (folder / ABOUT).write_text(about_text, encoding="utf-8")


def _write_through(path: Path, data: bytes) -> None:
    """Write, and have it on the disk: all planes at once, at the end, could take a slow card a minute."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _about_text(about: Mapping[str, Any]) -> str:
    return json.dumps(dict(about), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True)
class _Row:
    file: str
    z: float  # in the unit of the table
    line: int  # of planes.csv, from 1


def _read_table(folder: Path) -> tuple[list[_Row], bool]:
    """The rows of planes.csv in its order, and whether z counts planes. Raises StackError."""
    table = folder / TABLE
    text = _read_text(table)
    rows: list[_Row] = []
    lines = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [cell.strip() for cell in next(lines, [])]
        if header not in (["file", "z_um"], ["file", "z_plane"]):
            found = one_line(",".join(header), limit=80)
            raise StackError(f"{table} line 1: header is '{found}'; 'file,z_um' or 'file,z_plane' is allowed")
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            rows.append(_row(folder, cells, lines.line_num, header[1]))
    except csv.Error as error:
        raise StackError(f"{table} line {lines.line_num}: not readable as CSV: {one_line(error)}") from error
    if not rows:
        raise StackError(f"{table}: lists no planes")
    first_line: dict[str, int] = {}
    for row in rows:
        if first_line.setdefault(row.file, row.line) != row.line:
            raise StackError(
                f"{table} line {row.line}: '{row.file}' is listed in line {first_line[row.file]} already"
            )
    return rows, header[1] == "z_plane"


def _row(folder: Path, cells: list[str], line: int, z_name: str) -> _Row:
    """One row of the table, its image seen to lie in the folder. Raises StackError."""
    where = f"{folder / TABLE} line {line}"
    if len(cells) != 2:
        raise StackError(f"{where}: {len(cells)} cells; 2 are allowed: file and {z_name}")
    name, z_text = cells[0].strip(), cells[1].strip()
    shown = one_line(name, limit=80)
    try:
        z = float(z_text)
    except ValueError:
        z = math.nan
    if not math.isfinite(z):
        raise StackError(f"{where}: {z_name} = '{one_line(z_text, limit=40)}': a finite number is allowed")
    try:
        inside = (folder / name).resolve().is_relative_to(folder.resolve())
        present = inside and (folder / name).is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, a circle of links
        raise StackError(f"{where}: '{shown}' is not a usable file name") from error
    if not inside:
        raise StackError(f"{where}: '{shown}' leads out of the folder; files inside it are allowed")
    if not present:
        raise StackError(f"{where}: image '{shown}' is missing")
    return _Row(name, z, line)


def read_about(folder: Path) -> dict[str, Any]:
    """All of the about.json in `folder`, empty where there is none. Raises StackError naming the file."""
    path = folder / ABOUT
    if not path.exists():
        return {}
    try:
        about = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise StackError(f"{path}: not JSON: {one_line(error)}") from error
    if not isinstance(about, dict):
        raise StackError(f'{path}: holds no object; {{"key": value, …}} is allowed')
    return about


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as error:
        raise StackError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except FileNotFoundError as error:
        raise StackError(f"{path.parent}: no {path.name} in this folder") from error
    except OSError as error:
        raise StackError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error


def about_number(
    folder: Path, about: Mapping[str, Any], key: str, *, above_zero: bool = False
) -> float | None:
    """The number `key` of the about.json in `folder`; None where absent or null. Raises StackError."""
    value = about.get(key)
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and abs(value) <= LARGEST_Z_UM and (value > 0 or not above_zero):
        return float(value)
    allowed = f"a {'number above 0' if above_zero else 'finite number'} or null"
    raise StackError(
        f"{folder / ABOUT}: {key} = {one_line(json.dumps(value), limit=40)}: {allowed} is allowed"
    )


def about_objective(about: Mapping[str, Any]) -> Objective | None:
    """The objective where its text states magnification and NA; other texts ("40x air") are free."""
    text = about.get("objective")
    if not isinstance(text, str):
        return None
    try:
        return Objective.parse(text)
    except ValueError:
        return None


def _assumptions(folder: Path, in_planes: bool, step_um: float, z_um: tuple[float, ...]) -> Iterable[str]:
    if in_planes:
        yield f"{folder.name} gives plane numbers, not µm: they are taken as {step_um:g} µm apart"
    if not (folder / ABOUT).exists():
        yield f"{folder.name} has no {ABOUT}: nothing is known about its optics and focus"
    shared = len(z_um) - len(set(z_um))
    if shared:
        yield f"{folder.name} has {shared} more plane(s) at the z of another: the first in the table is shown"
