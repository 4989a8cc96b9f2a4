"""Objective and camera sampling: depth of field and resolution.

The only place that knows micrometres per depth of field.

Formulae (Born & Wolf, Principles of Optics, 8.8; Inoue & Spring, Video Microscopy, 2.5):

* depth of field (wave-optical term)   ``dof = n * wavelength / NA**2``
* coherent resolution length           ``wavelength / NA``
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

REFERENCE_WAVELENGTH_UM = 0.55

#: Pixels per ``wavelength / NA`` to which every frame is resampled before tiling. The partially coherent
#: cut-off is at most ``2 NA / wavelength``, so four pixels sample it exactly at the Nyquist rate.
PIXELS_PER_RESOLUTION = 4.0

_OBJECTIVE = re.compile(
    r"^\s*(?P<mag>\d+(?:\.\d+)?)\s*[xX]?\s*/?\s*(?P<na>\d?\.\d+)\s*(?P<medium>air|oil|water|glycerol)?\s*$"
)
_MAGNIFICATION_FIRST = re.compile(r"\d\s*[xX]|/")
_MEDIA = {"air": 1.0, "water": 1.333, "glycerol": 1.474, "oil": 1.515}


@dataclass(frozen=True)
class Objective:
    """A microscope objective.

    ``magnification`` (times, 0.5 to 250), ``na`` (numerical aperture, above 0 and below ``immersion_index``),
    ``immersion_index`` (refractive index of the medium before the front lens, 1.0 to 2.0).
    Raises ValueError for values outside these ranges.
    """

    magnification: float
    na: float
    immersion_index: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.magnification) and 0.5 <= self.magnification <= 250):
            raise ValueError(f"magnification = {self.magnification}: 0.5 to 250 is allowed")
        if not (math.isfinite(self.immersion_index) and 1.0 <= self.immersion_index <= 2.0):
            raise ValueError(f"immersion index = {self.immersion_index}: 1.0 to 2.0 is allowed")
        if not (math.isfinite(self.na) and 0.01 <= self.na < self.immersion_index):
            raise ValueError(
                f"NA = {self.na}: 0.01 up to the immersion index {self.immersion_index} is allowed"
            )

    @classmethod
    def parse(cls, text: str, immersion_index: float | None = None) -> Objective:
        """Read ``20x0.40``, ``20x/0.40``, ``20/0.4`` or ``100x1.25oil``.

        A medium in ``text`` decides; else ``immersion_index``, unless it is 1.0 and the NA is 1 or more
        (which cannot be); else an NA of 1 or more is taken as oil (1.515), a lower one as air (1.0).
        Raises ValueError naming what was read and what is allowed.
        """
        match = _OBJECTIVE.match(text)
        if match is None or not _MAGNIFICATION_FIRST.search(text):
            raise ValueError(
                f"objective = {text!r}: write magnification and NA, such as 20x0.40 or 100x1.25oil"
            )
        na = float(match["na"])
        if match["medium"]:
            index = _MEDIA[match["medium"]]
        elif immersion_index is not None and not (immersion_index == 1.0 and na >= 1.0):
            index = immersion_index
        else:
            index = _MEDIA["oil"] if na >= 1.0 else _MEDIA["air"]
        return cls(float(match["mag"]), na, index)

    def __str__(self) -> str:
        return f"{self.magnification:g}x{self.na:.2f}"


@dataclass(frozen=True)
class Optics:
    """An objective and the sampling of the frames behind it.

    ``pixel_um``: micrometres in the OBJECT plane per frame pixel, above 0. ``wavelength_um``: vacuum
    wavelength that stands for the lamp, 0.2 to 2. Raises ValueError outside these ranges.
    """

    objective: Objective
    pixel_um: float
    wavelength_um: float = REFERENCE_WAVELENGTH_UM

    def __post_init__(self) -> None:
        if not (math.isfinite(self.pixel_um) and self.pixel_um > 0):
            raise ValueError(f"pixel_um = {self.pixel_um}: a size above 0 is allowed")
        if not (math.isfinite(self.wavelength_um) and 0.2 <= self.wavelength_um <= 2.0):
            raise ValueError(f"wavelength_um = {self.wavelength_um}: 0.2 to 2.0 is allowed")

    @property
    def dof_um(self) -> float:
        """Depth of field in µm: ``n * wavelength / NA**2``."""
        return self.objective.immersion_index * self.wavelength_um / self.objective.na**2

    @property
    def resolution_um(self) -> float:
        """Resolution length in µm: ``wavelength / NA``."""
        return self.wavelength_um / self.objective.na

    @property
    def model_scale(self) -> float:
        """Factor by which a frame's width and height are multiplied to reach the model's sampling."""
        return self.pixel_um * PIXELS_PER_RESOLUTION / self.resolution_um

    def um_from_dof(self, defocus_dof: float) -> float:
        """Depths of field to µm; linear, so it serves for variances' roots and for signed defocus."""
        return defocus_dof * self.dof_um

    def dof_from_um(self, defocus_um: float) -> float:
        """µm to depths of field."""
        return defocus_um / self.dof_um


def natural_pixel_um(objective: Objective, wavelength_um: float = REFERENCE_WAVELENGTH_UM) -> float:
    """The object-side pixel in µm that needs no resampling before tiling."""
    return wavelength_um / objective.na / PIXELS_PER_RESOLUTION
