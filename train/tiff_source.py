"""A TIFF as the planes of a stack: multi-page, ImageJ or OME-TIFF, read a page at a time where it has pages.

`tifffile` sorts the pages of a file into series (images of one shape) with named axes, such as `TZCYXS`:

    Z           the planes; where it is absent or 1, the one unnamed axis I or Q (pages without a name)
    T, C, R, P  time, channel, position (R, or P in files of Zeiss); with more than one entry an option must
                choose: the first in silence would be a guess
    S, or a C   of three: red, green, blue

Several series are positions as well: an OME-TIFF has one image for each.
"""

from __future__ import annotations

import contextlib
import logging
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError, one_line
from train.stack_source import Choice, Facts, Picture, Source, SourcePlane, coloured
from train.tiff_facts import imagej_facts, ome_facts

__all__ = ["MAGIC", "read_single", "tiff_source"]

#: How a TIFF and a BigTIFF begin, in either byte order.
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: A page of more is a damaged header, or no image of a camera; it is not given memory.
MOST_PIXELS = 500_000_000
#: How tifffile begins to say that the chain of pages leads nowhere: what came after it is lost.
_TORN = "<tifffile.TiffPages "
_CHOSEN_BY = {"T": "time", "C": "channel", "R": "position", "P": "position"}
_UNNAMED = "IQ"
_PHOTOMETRIC = ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE", "YCBCR")
_JPEG = ("JPEG", "ALT_JPEG")
#: What tifffile, its codecs and ElementTree raise on files that are damaged. RuntimeError: imagecodecs;
#: SyntaxError: a ParseError of XML.
_DAMAGE = (
    ValueError,
    OSError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    SyntaxError,
    EOFError,
    struct.error,
)


@dataclass(frozen=True)
class _Layout:
    """Which part of a series the planes are."""

    axes: str  # all axes of the series, of length 1 too
    sizes: Mapping[str, int]
    z: str  # the axis of the planes
    index: Mapping[str, int]  # of the axes that are neither z nor within a plane
    colour: bool  # the three channels are red, green and blue

    def __str__(self) -> str:
        """The axes of more than one entry, as `ZCYX 5 x 3 x 480 x 640`."""
        shown = [axis for axis in self.axes if self.sizes[axis] > 1 or axis in "YX"]
        return f"{''.join(shown)} {' x '.join(str(self.sizes[axis]) for axis in shown)}"


@contextlib.contextmanager
def tiff_source(path: Path, choice: Choice, *, skip_bad: bool) -> Iterator[Source]:
    """Open a TIFF of more than one plane; it is closed at the end of the block.

    Raises InputError, one line naming the file, where it cannot be read, has no planes, has an axis with more
    than one entry of which ``choice`` names none, or (unless ``skip_bad``) breaks off after some of its
    pages. ImportError without tifffile.
    """
    import tifffile

    with contextlib.ExitStack() as opened:
        heard = opened.enter_context(_complaints())
        with _understood(str(path)):
            file = opened.enter_context(tifffile.TiffFile(path))
            series, number = _series(path, file, choice)
            axes, shape = series.get_axes(False), series.get_shape(False)
            layout = _layout(path, axes, shape, choice, one_series=len(file.series) == 1)
            _check(str(path), series.keyframe)
            read = _reader(str(path), file, series, layout)
            notes: list[str] = []
            facts = _facts(file, number, notes.append)
        torn = next((text for text in heard if text.startswith(_TORN)), None)
        if torn is not None and not skip_bad:
            raise InputError(
                f"{path}: breaks off after {len(file.pages)} pages ({torn}); --skip-bad takes what is there"
            )
        if layout.colour:
            notes.append("its 3 channels are taken as red, green and blue (--channel chooses one)")
        notes += [f"tifffile says: {text}" for text in dict.fromkeys(heard)]
        yield Source(
            tuple(_plane(path, read, layout, k) for k in range(layout.sizes[layout.z])),
            axes=str(layout),
            facts=facts,
            notes=tuple(notes),
        )


def read_single(path: Path) -> Picture:
    """The one image of a TIFF, `(H, W, 3)` RGB of uint8 or uint16. Raises InputError naming the file."""
    import tifffile

    name = str(path)
    # Read as plain pages: an OME-TIFF may be one file of many, and would bring its siblings.
    with _complaints(), _understood(name), tifffile.TiffFile(path) as file:
        if len(file.pages) != 1:
            raise InputError(f"{name}: holds {len(file.pages)} images; in a folder one to a file is allowed")
        page = file.pages[0]
        _check(name, page)
        return coloured(_in_colour(page.asarray(), page.axes, page), name)


def _series(path: Path, file: Any, choice: Choice) -> tuple[Any, int]:
    """The series to read and its number. Raises InputError where ``choice`` must name one."""
    count = len(file.series)
    if count == 0:
        raise InputError(f"{path}: holds no image")
    if count == 1:
        return file.series[0], 0
    if choice.position is None:
        raise InputError(f"{path}: {count} images (positions): --position 0 to {count - 1} chooses")
    if choice.position >= count:
        raise InputError(f"{path}: --position {choice.position}: 0 to {count - 1} is allowed")
    return file.series[choice.position], choice.position


def _layout(path: Path, axes: str, shape: tuple[int, ...], choice: Choice, *, one_series: bool) -> _Layout:
    """How a series of ``axes`` is taken apart. Raises InputError where that is not clear."""
    sizes = dict(zip(axes, shape, strict=True))
    found = _Layout(axes, sizes, "", {}, False)
    if len(sizes) != len(axes) or not {"Y", "X"} <= sizes.keys():
        text = " x ".join(str(size) for size in shape)
        raise InputError(f"{path}: axes {axes} {text} are not understood; name them (OME-TIFF, ImageJ)")
    many = [axis for axis in axes if sizes[axis] > 1 and axis not in "YXS"]
    planes = "Z" if "Z" in many else "".join(axis for axis in many if axis in _UNNAMED)
    if len(planes) != 1:
        raise InputError(
            f"{path}: axes {found}: no axis of planes; Z, or one of pages without a name, is allowed"
        )
    colour = sizes.get("C") == 3 and sizes.get("S", 1) == 1 and choice.channel is None
    index = {axis: 0 for axis in axes if axis not in "YXS" + planes}
    for axis in many:
        if axis != planes and not (colour and axis == "C"):
            index[axis] = _chosen(path, found, axis, choice, one_series=one_series)
    _refuse_idle(path, found, [axis for axis in many if axis != planes], choice, one_series=one_series)
    return _Layout(axes, sizes, planes, index, colour)


def _chosen(path: Path, found: _Layout, axis: str, choice: Choice, *, one_series: bool) -> int:
    """The entry of ``axis`` that ``choice`` names. Raises InputError where it names none that is there."""
    size, option = found.sizes[axis], _CHOSEN_BY.get(axis)
    if option is None or (option == "position" and not one_series):
        raise InputError(f"{path}: axes {found}: no option chooses of {axis}; one entry is allowed")
    value = getattr(choice, option)
    if value is None:
        raise InputError(f"{path}: axes {found}: {size} {option}s: --{option} 0 to {size - 1} chooses")
    if value >= size:
        raise InputError(f"{path}: --{option} {value}: 0 to {size - 1} is allowed (axes {found})")
    return int(value)


def _refuse_idle(path: Path, found: _Layout, axes: list[str], choice: Choice, *, one_series: bool) -> None:
    """Raise InputError for a choice of what the file has one of; 0 is right there."""
    used = {_CHOSEN_BY.get(axis) for axis in axes} | (set() if one_series else {"position"})
    for option in ("time", "channel", "position"):
        value = getattr(choice, option)
        if option not in used and value not in (None, 0):
            raise InputError(f"{path}: --{option} {value}: it has one {option} (axes {found})")


def _check(name: str, page: Any) -> None:
    """Raise InputError for pixels that cannot become colours of 8 bits."""
    if page.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{name}: {page.dtype} pixels; 8 or 16 bits without a sign are allowed")
    kind = getattr(page.photometric, "name", str(page.photometric))
    packed = getattr(page.compression, "name", str(page.compression))
    if kind not in _PHOTOMETRIC or (kind == "YCBCR" and packed not in _JPEG):
        raise InputError(f"{name}: its colours are {kind}; grey, RGB, a palette, or JPEG are allowed")
    if math.prod(page.shape) > MOST_PIXELS:
        raise InputError(f"{name}: a page of {page.shape} values; {MOST_PIXELS} are allowed")


def _reader(
    name: str, file: Any, series: Any, layout: _Layout
) -> Callable[[Mapping[str, int]], NDArray[Any]]:
    """A function that reads the plane at an index of each axis but Y, X, S: `(H, W)` or `(H, W, 3)`."""
    page = series.keyframe
    leading = [axis for axis in layout.axes if axis not in "YXS"]
    counts = [layout.sizes[axis] for axis in leading]
    in_pages = (
        set(page.axes) <= set("YXS")
        and ("S" in page.axes or layout.sizes.get("S", 1) == 1)
        and not series.is_truncated
        and len(series) == math.prod(counts)
    )

    def read_page(index: Mapping[str, int]) -> NDArray[Any]:
        number = int(np.ravel_multi_index([index[axis] for axis in leading], counts)) if leading else 0
        one = series[number]
        if one is None:
            raise InputError(f"{name}: page {number} is missing")
        with _its_file_open(one):
            return _in_colour(one.asarray(), page.axes, page)

    @cache
    def everything() -> NDArray[Any]:
        # One page may describe all (ImageJ beyond 4 GB), or be a volume: where it lies there as it is, it is
        # mapped and not read.
        mapped = page.is_memmappable and series.dataoffset is not None
        whole = file.asarray(series=series, squeeze=False, out="memmap" if mapped else None)
        return np.asarray(whole).reshape([layout.sizes[axis] for axis in layout.axes])

    def read_part(index: Mapping[str, int]) -> NDArray[Any]:
        part = everything()[tuple(index.get(axis, slice(None)) for axis in layout.axes)]
        return _in_colour(part, "".join(axis for axis in layout.axes if axis not in leading), page)

    return read_page if in_pages else read_part


def _plane(
    path: Path, read: Callable[[Mapping[str, int]], NDArray[Any]], layout: _Layout, number: int
) -> SourcePlane:
    name = f"{path} plane {number}"

    def picture() -> Picture:
        index = {**layout.index, layout.z: number}
        with _understood(name):
            if not layout.colour:
                return coloured(read(index), name)
            return coloured(np.stack([read({**index, "C": channel}) for channel in range(3)], axis=-1), name)

    return SourcePlane(name, picture)


@contextlib.contextmanager
def _its_file_open(page: Any) -> Iterator[None]:
    """A page of an OME-TIFF may lie in a file beside the one that was opened, which tifffile has closed."""
    handle = page.parent.filehandle
    if not handle.closed:
        yield
        return
    handle.open()
    try:
        yield
    finally:
        handle.close()


def _in_colour(data: NDArray[Any], axes: str, page: Any) -> NDArray[Any]:
    """Values of ``axes`` Y, X, perhaps S as light, `(H, W)` or `(H, W, C)`: palette looked up, white high."""
    if "S" in axes:
        data = np.moveaxis(data, axes.index("S"), -1)
    if page.photometric.name == "MINISWHITE":
        return np.asarray(np.iinfo(data.dtype).max - data)
    if page.photometric.name == "PALETTE":
        # 16 bits to 8: writers put 8-bit colours into the high byte.
        return np.asarray(np.moveaxis(page.colormap[:, data.reshape(data.shape[:2])] >> 8, 0, -1), np.uint8)
    return data


def _facts(file: Any, image: int, note: Callable[[str], None]) -> Facts:
    if file.ome_metadata is not None:
        return ome_facts(file.ome_metadata, image, note)
    if file.imagej_metadata is None:
        return Facts()
    tag = file.pages[0].tags.get("XResolution")
    count, length = (0, 0) if tag is None else tag.value
    return imagej_facts(file.imagej_metadata, count / length if length else None)


@contextlib.contextmanager
def _understood(name: str) -> Iterator[None]:
    """Turn what a damaged file makes its readers raise into an InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except _DAMAGE as error:
        what = one_line(error) or type(error).__name__
        raise InputError(f"{name}: cannot be read as a TIFF: {what}") from error


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """What tifffile logs meanwhile: it goes on with what is left of a file, which the user should know."""
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(one_line(record.getMessage()))  # type: ignore[method-assign]
    logger = logging.getLogger("tifffile")
    passed_on, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield heard
    finally:
        logger.removeHandler(handler)
        logger.propagate = passed_on
