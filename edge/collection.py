"""The folder of `parfocal collect`: one z-stack for each field, `field-001` and so on.

A field is there whole or not at all (`edge.zstack.write_zstack`), so what is found can be kept and counted.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from edge.errors import InputError, one_line
from edge.optics import Optics
from edge.zstack import ZStack, about_number

__all__ = ["SLIDE_NAME", "check_optics", "check_slide", "check_space", "claimed", "field_name", "fields_in"]

#: What a slide may be called where its name becomes a folder.
SLIDE_NAME = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"
MOST_FIELDS = 9999

_FIELD = re.compile(r"field-(\d{3,6})")
#: What a power cut in mid-field leaves: the temporary folder of `edge.files.atomic_folder`.
_LEFT = re.compile(r"\.field-\d{3,6}\.[0-9a-f]{12}\.tmp")
#: A PNG of noise is a little larger than its pixels; table and about.json come on top.
PNG_SHARE, TABLE_BYTES = 1.01, 1 << 16
#: Pixel sizes that differ by less than this share are the same, written differently.
SAME_PIXEL = 1e-3


def field_name(number: int) -> str:
    """The folder of field ``number``, from 1."""
    return f"field-{number:03d}"


def check_slide(name: str) -> None:
    """InputError where ``name`` cannot be the name of a slide's folder."""
    if not re.fullmatch(SLIDE_NAME, name) or name.endswith("\n"):
        raise InputError(
            f"slide {one_line(name, limit=80)!r}: 1 to 64 letters (a to z), digits, '-', '_' and '.' are"
            " allowed, no '.' in front"
        )


@contextlib.contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Make the folder ``out`` where it is missing, and keep other collectors out of it until the block ends.

    What a power cut left half written is removed; a folder that was made and stayed empty, too. The parent
    must exist. Raises InputError where ``out`` is no folder, cannot be written to, or is in use.
    """
    made = False
    try:
        if not out.is_dir():
            out.mkdir()
            made = True
        handle = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with tempfile.TemporaryFile(dir=out):
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{one_line(out)}: cannot be written to: {reason.lower()}") from error
    try:
        _lock(handle, out)
        for path in out.iterdir():
            if _LEFT.fullmatch(path.name):
                shutil.rmtree(path)
        yield
    finally:
        os.close(handle)
        if made:
            with contextlib.suppress(OSError):  # no longer empty
                out.rmdir()


def fields_in(out: Path) -> dict[int, ZStack]:
    """The fields that are there, by number, rising; images are not decoded. StackError for a damaged one."""
    numbered = ((_FIELD.fullmatch(path.name), path) for path in out.iterdir())
    return {int(match[1]): ZStack.open(path) for match, path in sorted(numbered, key=_by_name) if match}


def check_optics(fields: Mapping[int, ZStack], optics: Optics) -> None:
    """InputError where a field says that it was recorded through another objective or with other pixels."""
    now = optics.objective
    for stack in fields.values():
        was = stack.objective
        index = about_number(stack.path, stack.about, "immersion_index")
        if was is not None and (
            (was.magnification, was.na) != (now.magnification, now.na)
            or (index is not None and not math.isclose(index, now.immersion_index, abs_tol=1e-6))
        ):
            here = f"{was} (index {was.immersion_index if index is None else index:g})"
            raise InputError(
                f"{stack.path}: was recorded with {here}, now it is {now} (index {now.immersion_index:g}):"
                " use another folder"
            )
        pixel_um = stack.pixel_um
        if pixel_um is not None and not math.isclose(pixel_um, optics.pixel_um, rel_tol=SAME_PIXEL):
            raise InputError(
                f"{stack.path}: has pixels of {pixel_um:.4g} µm, now they are {optics.pixel_um:.4g} µm: use"
                " another folder"
            )


def check_space(out: Path, frame_bytes: int, planes: int, fields: int) -> None:
    """InputError where ``fields`` z-stacks of ``planes`` frames might not fit; nothing is counted on
    compression.
    """
    need = fields * (math.ceil(frame_bytes * PNG_SHARE) * planes + TABLE_BYTES)
    have = shutil.disk_usage(out).free
    if need > have:
        raise InputError(
            f"{out}: {fields} more of {planes} planes may need {_megabytes(need)} and {_megabytes(have)} are"
            " free: fewer fields or planes, or another disk"
        )


def _lock(handle: int, out: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"{out}: another `parfocal collect` is recording there") from error
    except OSError:  # a file system without locks
        return


def _by_name(entry: tuple[re.Match[str] | None, Path]) -> tuple[int, str]:
    match, path = entry
    return (int(match[1]) if match else 0), path.name


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB".replace(",", " ")
