"""Where a z-stack has its geometric focus, by the wave theory of its objective: a label where none is.

The sharpest plane is another place: coma, spherical aberration, astigmatism and refraction shift it, by half
a depth of field as a rule behind cheap optics and by two at the worst, and for each specimen otherwise. The
theory (`edge.through_focus`) fits them along with the focus. It holds or says that it does not, and then the
sharpest place has to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edge import through_focus
from edge.errors import StackError
from edge.files import RGB
from edge.optics import Optics
from edge.ring_power import RingPower, ring_power
from edge.sharpness import sharpness
from edge.stack_focus import focus_scale, peak_of
from edge.sweep import Peak, doubt
from edge.through_focus import PITCH_SIGMA
from edge.zstack import ZStack

__all__ = [
    "FocusOfPlanes",
    "focus_of_pictures",
    "focus_of_planes",
    "focus_of_stack",
    "geometric_focus",
    "spectrum_of",
]

#: Planes farther apart than so many dof do not show how the phases turn; one, and what rounding makes of it.
FARTHEST_APART_DOF = 1.001
#: A second start of the fit is worth its time where it is so many dof from the first.
OTHER_START_DOF = 1.0
#: Of the sharpest place, from the focus, in dof: so that the theory decides.
SHARPEST_SIGMA_DOF = 1.5


@dataclass(frozen=True)
class FocusOfPlanes:
    """``z_um``: the focus; None where the planes do not tell it, which ``peak`` gives the reason of.
    ``by_theory``: else it is where they are sharpest. ``peak``: of their sharpness, clear or not.
    """

    z_um: float | None
    by_theory: bool
    peak: Peak

    @property
    def how(self) -> str:
        """Where the focus is taken to be, in words."""
        return "by the wave theory of its objective" if self.by_theory else "where they are sharpest"


def focus_of_stack(stack: ZStack, optics: Optics | None) -> tuple[float, FocusOfPlanes]:
    """The focus of ``stack`` in µm, and how it was found. Reads each image once and blocks for the disk.

    ``optics``: None where they are not stated. Raises StackError, one line naming the stack, where its planes
    do not tell it or an image is unreadable.
    """
    pictures = (stack.load(plane) for plane in range(len(stack)))
    found = focus_of_pictures(stack.z_um, pictures, optics, in_planes=stack.z_in_planes)
    if found.z_um is None:
        raise StackError(f"{stack.path}: the focus cannot be measured: {found.peak.reason}")
    return found.z_um, found


def focus_of_pictures(
    z_um: Sequence[float], pictures: Iterable[RGB], optics: Optics | None, *, in_planes: bool
) -> FocusOfPlanes:
    """The focus of ``pictures`` ``(H, W, 3)`` uint8 at ``z_um`` ``(N,)``, rising.

    Without ``optics``, or where z is ``in_planes`` of unknown distance, it is where they are sharpest, else
    as `focus_of_planes` has it. One picture at a time is in memory.
    """
    scale = 1.0 if optics is None else focus_scale(optics.objective, optics.pixel_um)
    optics = None if in_planes else optics
    sharp, spectra = [], []
    for picture in pictures:
        sharp.append(sharpness(picture, scale))
        spectra.append(None if optics is None else spectrum_of(picture, optics))
    if optics is None:
        peak = peak_of(z_um, sharp)
        return FocusOfPlanes(peak.position if peak.clear else None, False, peak)
    middle_um = (z_um[0] + z_um[-1]) / 2
    return focus_of_planes(z_um, sharp, spectra, optics, else_near_um=middle_um, dof_per_um=1 / optics.dof_um)


def focus_of_planes(
    z_um: Sequence[float],
    sharpness: Sequence[float],
    spectra: Sequence[RingPower | None],
    optics: Optics,
    *,
    else_near_um: float,
    dof_per_um: float,
    sigma: float = PITCH_SIGMA,
    progress: Callable[[], None] = lambda: None,
) -> FocusOfPlanes:
    """The focus of planes at ``z_um`` ``(N,)``, rising, with their ``sharpness`` and `spectrum_of` each.

    ``else_near_um``: about where it is, should that not be where they are sharpest. The others as
    `geometric_focus` has them. Where sharpness hardly changes there is nothing to tell it by.
    """
    peak = peak_of(z_um, sharpness)
    if doubt(np.asarray(sharpness, np.float64)):
        return FocusOfPlanes(None, False, peak)
    starts = [peak.position] if peak.clear else []
    if not starts or abs((else_near_um - peak.position) * dof_per_um) > OTHER_START_DOF:
        starts.append(else_near_um)
    for near_um in starts:
        found = geometric_focus(
            z_um, spectra, optics, near_um=near_um, dof_per_um=dof_per_um, sigma=sigma, progress=progress
        )
        if found is not None:
            return FocusOfPlanes(round(found, 6), True, peak)
    return FocusOfPlanes(peak.position if peak.clear else None, False, peak)


def spectrum_of(frame: RGB, optics: Optics) -> RingPower | None:
    """What `geometric_focus` needs of a plane; None for one that is too small."""
    try:
        return ring_power(frame, optics)
    except ValueError:
        return None


def geometric_focus(
    z_um: Sequence[float],
    spectra: Sequence[RingPower | None],
    optics: Optics,
    *,
    near_um: float,
    dof_per_um: float,
    sigma: float = PITCH_SIGMA,
    progress: Callable[[], None] = lambda: None,
) -> float | None:
    """The z of the focus in µm of the stage; None where the theory does not hold or tells nothing.

    ``spectra``: of the planes at ``z_um`` ``(N,)``, which rises. ``near_um``: about where it is, within
    2 depths of field. ``dof_per_um``: depths of field a µm of the stage, either sign, with ``sigma`` of its
    logarithm. Takes a second or two; ``progress`` is called meanwhile.
    """
    kept = [(z, one) for z, one in zip(z_um, spectra, strict=True) if one is not None]
    apart = np.diff(np.unique(z_um))
    if len(kept) < through_focus.FEWEST or float(np.median(apart)) * abs(dof_per_um) > FARTHEST_APART_DOF:
        return None
    fitted = through_focus.fit(
        [z for z, _ in kept],
        [one for _, one in kept],
        optics,
        guess=dof_per_um,
        sigma=sigma,
        focus=near_um,
        focus_sigma_dof=SHARPEST_SIGMA_DOF,
        progress=progress,
    )
    inside = z_um[1] < fitted.focus < z_um[-2]
    return fitted.focus if fitted.trusted and inside else None
