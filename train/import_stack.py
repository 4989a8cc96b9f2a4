"""`parfocal import-stack SOURCE OUT`: a z-stack folder of a TIFF, a folder of images, or another z-stack.

Every plane is decoded once before anything is written: a size that differs, an image that is damaged and the
highest value of deep pixels must be known first. No more than one plane is kept in memory where the format
allows. What was done to the stack goes into its about.json:

    imported_from  name of the source          axes         of a TIFF, with their sizes
    crop           [x, y, width, height]       scaled_from  [0, highest]: values that became 0 and 255
    focus_from     how focus_z was found       skipped      images that could not be read
    before         the same of an earlier import
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge.cli import finite
from edge.console import note
from edge.errors import InputError, one_line
from edge.files import RGB
from edge.optics import Objective
from edge.progress import Bar
from edge.stack_theory import focus_of_pictures
from edge.zstack import LARGEST_Z_UM, TABLE, about_objective, write_zstack
from train.assumed import Assumed
from train.folder_source import folder_source, zstack_source
from train.stack_source import Choice, Source
from train.stack_survey import Crop, Survey, survey
from train.tiff_source import MAGIC, tiff_source

__all__ = ["add_arguments", "run"]

_RECORD = ("imported_from", "axes", "crop", "scaled_from", "focus_from", "skipped", "before")
_KINDS = "a TIFF, a folder of images or a z-stack folder is allowed"


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `import-stack`."""
    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="a multi-page TIFF or OME-TIFF, a folder, or a z-stack")
    add("out", metavar="OUT", type=Path, help="z-stack folder to make; it must not exist, or be empty")
    add("--step-um", metavar="U", type=finite, help="µm from plane to plane; not said: plane numbers")
    add("--objective", metavar="MxNA", help="such as 20x0.40 or 100x1.25oil")
    add("--pixel-um", metavar="U", type=finite, help="µm of the specimen to a pixel of the image")
    focus = parser.add_mutually_exclusive_group()
    text = "where it is sharp, in the unit of the z column (µm, or planes from 0)"
    focus.add_argument("--focus-z", metavar="Z", type=finite, help=text)
    focus.add_argument("--focus", choices=["measure"], help="measure: by what the planes show")
    add("--crop", metavar="X,Y,W,H", type=_crop, help="this part of each image, in pixels")
    add("--slide", metavar="NAME", help="what it is a stack of; stacks of one slide share it")
    for option in ("time", "channel", "position"):
        add(f"--{option}", metavar="K", type=_count, help=f"of a TIFF with several, from 0: this {option}")
    add(
        "--reverse",
        action="store_true",
        help="z falls along the order of the source (its sign, in a z-stack)",
    )
    add("--skip-bad", action="store_true", help="leave out images that cannot be read, and name them")


def run(name: str, args: argparse.Namespace) -> int:
    """Make the z-stack; returns 0. Raises InputError, with nothing written, for whatever cannot be used."""
    _check_options(args)
    _check_out(args.out)
    with _opened(args) as source:
        for text in source.notes:
            note(f"{args.source.name}: {text}")
        z, in_planes = _places(args, source)
        with Bar("reading", len(source.planes)) as bar:
            found = survey(
                str(args.source), source.planes, args.crop, skip_bad=args.skip_bad, progress=bar.advance
            )
        for text in found.notes:
            note(text)
        # A plane that is left out leaves a gap: the others stay where they were.
        order = sorted(found.kept, key=lambda k: z[k])
        about = _about(args, source, found)
        places = [z[k] for k in order]
        about |= _focus(args, source, found, about, order, places, in_planes=in_planes)
        width = max(3, len(str(len(order) - 1)))
        with Bar("writing", len(order)) as bar:
            write_zstack(
                args.out,
                (
                    (f"plane{k:0{width}d}.png", place, picture)
                    for k, (place, picture) in enumerate(
                        zip(places, _pictures(source, found, order, bar.advance), strict=True)
                    )
                ),
                about,
                z_in_planes=in_planes,
            )
    print(_summary(args.out, found, places, in_planes, about))
    return 0


def _crop(text: str) -> Crop:
    """`X,Y,W,H` on the command line."""
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        x = y = width = height = -1
    if min(x, y) < 0 or min(width, height) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: X,Y,W,H in pixels is allowed, W and H above 0")
    return Crop(x, y, width, height)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: 0 or more is allowed")
    return value


_count.__name__ = "whole number"  # argparse says "invalid whole number value"


def _check_options(args: argparse.Namespace) -> None:
    """Raise InputError for values out of their range, before anything is opened."""
    for option, value in (("--step-um", args.step_um), ("--pixel-um", args.pixel_um)):
        if value is not None and not 0 < value <= LARGEST_Z_UM:
            raise InputError(f"{option} {value:g}: a number above 0, of up to a metre, is allowed")
    if args.focus_z is not None and abs(args.focus_z) > LARGEST_Z_UM:
        raise InputError(f"--focus-z {args.focus_z:g}: within ±1 m is allowed")
    if args.slide is not None and (not args.slide.strip() or args.slide != one_line(args.slide)):
        raise InputError(f"--slide {one_line(args.slide)!r}: a name on one line is allowed")
    if args.objective is not None:
        try:
            Objective.parse(args.objective)
        except ValueError as error:
            raise InputError(f"--objective: {one_line(error)}") from error


def _check_out(out: Path) -> None:
    """Raise InputError where ``out`` cannot become a stack: now, and not after all was read."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not an empty folder; nothing was overwritten")
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: cannot be created: no folder {out.absolute().parent}")


@contextlib.contextmanager
def _opened(args: argparse.Namespace) -> Iterator[Source]:
    """The source, as what it turns out to be. Raises InputError where it is nothing that can be imported."""
    path: Path = args.source
    choice = Choice(args.time, args.channel, args.position)
    try:
        is_folder = path.is_dir()
        is_tiff = path.is_file() and _begins_as_tiff(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if is_tiff:
        with tiff_source(path, choice, skip_bad=args.skip_bad) as source:
            yield source
        return
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; {_KINDS}")
    if not is_folder:
        raise InputError(f"{path}: not a TIFF; {_KINDS}")
    for option in ("time", "channel", "position"):
        if getattr(choice, option) is not None:
            raise InputError(f"{path}: --{option} chooses in a TIFF; a folder has no such axis")
    yield zstack_source(path, args.step_um) if (path / TABLE).is_file() else folder_source(path)


def _begins_as_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in MAGIC


def _places(args: argparse.Namespace, source: Source) -> tuple[list[float], bool]:
    """z of each plane of the source, and whether it counts planes. Raises InputError beyond a metre."""
    count = len(source.planes)
    if source.z is not None:
        return [0.0 - z if args.reverse else z for z in source.z], source.z_in_planes  # not -0.0
    step_um = args.step_um
    if step_um is None:
        step_um = source.facts.step_um
    elif source.facts.step_um is not None:
        note(f"--step-um {step_um:g} is used and not the {source.facts.step_um:g} µm of the file")
    if step_um is None:
        note(f"{args.source.name} does not say its step in µm (--step-um does): z counts planes")
    step = 1.0 if step_um is None else step_um
    if (count - 1) * step > LARGEST_Z_UM:
        raise InputError(f"{args.source}: {count} planes {step:g} µm apart: up to a metre in all is allowed")
    return [(count - 1 - k if args.reverse else k) * step for k in range(count)], step_um is None


def _about(args: argparse.Namespace, source: Source, found: Survey) -> dict[str, Any]:
    """The about.json of the stack, all but its focus. Raises InputError where the source's is no JSON."""
    about = dict(source.about)
    try:
        json.dumps(about, allow_nan=False)
    except ValueError as error:  # Python reads NaN, and would write it
        raise InputError(
            f"{args.source / 'about.json'}: {one_line(error)}: JSON has no such number"
        ) from error
    before = {key: about.pop(key) for key in _RECORD if key in about}
    about["imported_from"] = args.source.resolve().name
    for key, given in (("objective", args.objective), ("pixel_um", args.pixel_um)):
        said = getattr(source.facts, key) or about.get(key)
        if given is not None and said not in (None, given):
            option = f"--{key.replace('_', '-')} {given}"
            note(f"{option} is used and not what the source says: {one_line(said, limit=40)}")
        about[key] = said if given is None else given
    additions = {
        "slide": args.slide,
        "axes": source.axes or None,
        "crop": None if args.crop is None else args.crop.as_list(),
        "scaled_from": None if found.highest is None else [0, found.highest],
        "skipped": list(found.skipped) or None,
        "before": before or None,
    }
    return about | {key: value for key, value in additions.items() if value is not None}


def _focus(
    args: argparse.Namespace,
    source: Source,
    found: Survey,
    about: Mapping[str, Any],
    order: list[int],
    places: list[float],
    *,
    in_planes: bool,
) -> dict[str, Any]:
    """`focus_z` and `focus_from`. Raises InputError where it shall be measured and has no clear peak."""
    if args.focus is not None:
        with Bar("measuring", len(order)) as bar:
            pictures = _pictures(source, found, order, bar.advance)
            known = about_objective(about) is not None and about["pixel_um"] is not None
            optics = Assumed().optics(args.source, about) if known else None
            measured = focus_of_pictures(places, pictures, optics, in_planes=in_planes)
        if measured.z_um is None:
            raise InputError(
                f"{args.source}: --focus measure: {measured.peak.reason}; --focus-z says where it is sharp"
            )
        return {"focus_z": measured.z_um, "focus_from": "theory" if measured.by_theory else "measured"}
    if args.focus_z is not None:
        if not places[0] <= args.focus_z <= places[-1]:
            note(f"--focus-z {args.focus_z:g} lies outside the planes ({places[0]:g} to {places[-1]:g})")
        return {"focus_z": args.focus_z, "focus_from": "given"}
    if source.focus_z is None:
        return {"focus_z": None}
    focus_z = 0.0 - source.focus_z if args.reverse and source.z is not None else source.focus_z
    part = "" if args.crop is None else "; another part of the field may be sharp elsewhere"
    note(f"focus_z = {focus_z:g} is taken over from the source's about.json{part}")
    return {"focus_z": focus_z, "focus_from": "about.json of the source"}


def _pictures(source: Source, found: Survey, order: list[int], progress: Callable[[], None]) -> Iterator[RGB]:
    """The planes of ``order`` as they are written, one at a time."""
    for k in order:
        yield found.picture(source.planes[k])
        progress()


def _summary(out: Path, found: Survey, places: list[float], in_planes: bool, about: Mapping[str, Any]) -> str:
    height, width = found.shape
    focus = about["focus_z"]
    sharp = "focus not known" if focus is None else f"focus at {focus:.4g} ({about['focus_from']})"
    unit = "planes" if in_planes else "µm"
    span = f"z {places[0]:.6g} to {places[-1]:.6g} {unit}"
    return f"{out}: {len(places)} planes of {width} x {height} pixels, {span}, {sharp}"
