"""What the metadata of a TIFF says of the microscope: OME-XML, or ImageJ's own few words.

OME (2016-06 schema): `Pixels` has PhysicalSizeX, Y, Z with a unit each (µm where none is said);
`ObjectiveSettings` of the image names one of the `Objective` elements, which have NominalMagnification,
LensNA and Immersion. ImageJ: `spacing` and the resolution tag, in `unit`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

from edge.errors import one_line
from edge.optics import Objective
from train.stack_source import Facts

__all__ = ["imagej_facts", "ome_facts"]

#: Lengths in µm. The micro sign has two code points; ImageJ escapes it.
UNITS_UM = {
    "pm": 1e-6,
    "Å": 1e-4,
    "nm": 1e-3,
    "µm": 1.0,
    "μm": 1.0,
    "\\u00b5m": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}
_MEDIA = {"oil": "oil", "water": "water", "waterdipping": "water", "glycerol": "glycerol", "air": "air"}
#: Pixels that differ by more than this share in width and height have no one size.
_SQUARE = 0.01
Note = Callable[[str], None]


def ome_facts(xml: str, image: int, note: Note) -> Facts:
    """What OME-XML says of image number ``image`` (from 0). What cannot be used is said to ``note``."""
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:  # ValueError: an encoding that is none
        note(f"its OME metadata cannot be read: {one_line(error)}")
        return Facts()
    images = _children(root, "Image")
    if not 0 <= image < len(images):
        return Facts()
    pixels = next(iter(_children(images[image], "Pixels")), None)
    attributes: Mapping[str, str] = {} if pixels is None else pixels.attrib
    width, height, step_um = (_physical_um(attributes, axis, note) for axis in "XYZ")
    if width is not None and height is not None and abs(width / height - 1) > _SQUARE:
        note(f"its pixels are {width:g} x {height:g} µm, not square: their size is not used")
        width = None
    return Facts(step_um, width, _ome_objective(root, images[image], note))


def imagej_facts(metadata: Mapping[str, Any], pixels_per_unit: float | None) -> Facts:
    """What ImageJ's metadata says. ``pixels_per_unit``: of the resolution tag; None where there is none."""
    scale = UNITS_UM.get(str(metadata.get("unit", "")).strip().lower())
    if scale is None:  # "inch" and "pixel" are defaults that nobody has set
        return Facts()
    step_um = _above_zero(str(metadata.get("spacing", "")), scale)
    pixel_um = scale / pixels_per_unit if pixels_per_unit is not None and pixels_per_unit > 0 else None
    return Facts(step_um, pixel_um)


def _physical_um(attributes: Mapping[str, str], axis: str, note: Note) -> float | None:
    """PhysicalSize of ``axis`` in µm; None where it is absent, or is no length above 0."""
    key = f"PhysicalSize{axis}"
    text, unit = attributes.get(key), attributes.get(f"{key}Unit", "µm").strip()
    if text is None:
        return None
    length = _above_zero(text, UNITS_UM.get(unit, math.nan))
    if length is None:
        note(
            f"its {key} = {one_line(text, limit=40)} {one_line(unit, limit=40)} is not used:"
            " no length above 0"
        )
    return length


def _above_zero(text: str, scale: float) -> float | None:
    try:
        length = float(text) * scale
    except ValueError:
        return None
    return length if math.isfinite(length) and length > 0 else None


def _ome_objective(root: ElementTree.Element, image: ElementTree.Element, note: Note) -> str | None:
    """The objective that the image names, or the only one there is."""
    objectives = [
        one for instrument in _children(root, "Instrument") for one in _children(instrument, "Objective")
    ]
    wanted = [settings.get("ID") for settings in _children(image, "ObjectiveSettings")]
    if wanted:
        objectives = [one for one in objectives if one.get("ID") in wanted]
    if len(objectives) != 1:
        if objectives:
            note(f"it names {len(objectives)} objectives and not which one it was taken with: none is used")
        return None
    magnification, na = objectives[0].get("NominalMagnification"), objectives[0].get("LensNA")
    if magnification is None or na is None:
        return None
    medium = _MEDIA.get(objectives[0].get("Immersion", "").lower(), "")
    try:
        # Two decimals as engraved on the objective, more where a low NA needs them.
        text = f"{float(magnification):g}x{re.sub('0{1,2}$', '', f'{float(na):.4f}')}{medium}"
        Objective.parse(text)
    except ValueError as error:
        note(f"its objective is not used: {one_line(error)}")
        return None
    return text


def _children(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Children of that name in whatever version of the OME name space."""
    return [child for child in element if isinstance(child.tag, str) and child.tag.rpartition("}")[2] == name]
