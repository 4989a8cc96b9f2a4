"""How others focus, written from what they have published of it, each on its best behaviour.

Where a peer's measure costs time, none is charged; where its software ignores the camera's delay, the bed
does not; where it leaves slack to the stage, it has ours. Ranges and steps are scaled to depths of field, in
the proportions of its own defaults, so that it covers the range searched behind any objective.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge.bench.bed import Bed
from edge.camera.base import Frame
from edge.sharpness import sharpness

__all__ = ["brent", "coarse_and_fine", "openflexure_fast", "openflexure_looping", "remoscope", "squid"]

#: OpenFlexure: its default sweep (steps of 0.062 µm), what it allows for backlash, and how often it tries.
DZ_UM, BACKLASH_STEPS, ATTEMPTS = 2000 * 0.062, 200, 10
_JPEG_QUALITY = 75
#: OughtaFocus: tolerance, as a share of a depth of field.
BRENT_XATOL_DOF = 0.5
#: JAF: coarse and fine steps in units of its half coarse step, fine steps to either side, and the loss of
#: sharpness at which a pass ends.
COARSE_DOF, FINE_DOF, FINE_STEPS, LOSS = 2.0, 0.2, 5, 0.02
#: Squid: distance of planes (1.524 µm behind 20x0.75) and the share of the best at which it stops.
SQUID_DOF, SQUID_STOP = 1.5, 0.85
#: Remoscope: inferences averaged, batches, and the pause after a move.
BATCH, BATCHES, PAUSE_S = 20, 2, 0.5


def jpeg_bytes(frame: Frame) -> float:
    """Size of the frame as a JPEG, in bytes: what an MJPEG stream tells for free."""
    import cv2

    image = frame.image[:, :, ::-1]
    return float(len(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]))


def _half_steps(bed: Bed) -> int:
    """Half of OpenFlexure's sweep: its default, or as much as covers the range searched."""
    return round(max(DZ_UM / 2, bed.range_um) / bed.um_per_step)


def openflexure_fast(bed: Bed) -> None:
    """Down by half, up with the camera running, down again, up to where the frame was largest; no check."""
    half = _half_steps(bed)
    bed.drive(-half)
    places, sizes = bed.record(2 * half, jpeg_bytes)
    bed.drive(-2 * half)
    bed.drive(round(places[sizes.argmax()]) - bed.axis.position_steps)


def openflexure_looping(bed: Bed) -> None:
    """Sweeps about the last peak until it lies in the middle three fifths of one."""
    half = _half_steps(bed)
    for _ in range(ATTEMPTS):
        bed.drive(-half - BACKLASH_STEPS)
        bed.drive(BACKLASH_STEPS)
        places, sizes = bed.record(2 * half, jpeg_bytes)
        peak = round(places[sizes.argmax()])
        bed.drive(peak - BACKLASH_STEPS - bed.axis.position_steps)
        bed.drive(BACKLASH_STEPS)
        if min(peak - places.min(), places.max() - peak) >= 2 * half / 5:
            return


def _measured(bed: Bed) -> Callable[[float], float]:
    """Moves to a place in µm, and the sharpness there."""

    def at(place: float) -> float:
        bed.move_to_um(place)
        return sharpness(bed.frame().image, bed.optics.model_scale)

    return at


def brent(bed: Bed) -> None:
    """Brent's minimization of minus the sharpness over the range."""
    from scipy.optimize import minimize_scalar

    at, start, reach = _measured(bed), bed.position_um, bed.range_um
    found = minimize_scalar(
        lambda place: -at(float(place)),
        bounds=(start - reach, start + reach),
        method="bounded",
        options={"xatol": bed.optics.um_from_dof(BRENT_XATOL_DOF)},
    )
    bed.move_to_um(float(found.x))


def coarse_and_fine(bed: Bed) -> None:
    """A coarse pass over the range, a fine one about its best; each ends where sharpness has fallen."""
    at, best = _measured(bed), bed.position_um
    coarse = round(bed.trial.range_dof / COARSE_DOF)
    for step_dof, count in ((COARSE_DOF, coarse), (FINE_DOF, FINE_STEPS)):
        places = best + bed.optics.um_from_dof(step_dof) * np.arange(-count, count + 1)
        sharpest = -np.inf
        for place in places.tolist():
            value = at(place)
            if value > sharpest:
                sharpest, best = value, place
            elif sharpest - value > LOSS * sharpest:
                break
    bed.move_to_um(best)


def squid(bed: Bed) -> None:
    """Fixed planes from below; ends where a plane is less than 0.85 of the best, and goes back to that."""
    at, apart = _measured(bed), bed.optics.um_from_dof(SQUID_DOF)
    count = int(2 * bed.range_um / apart) + 1
    start = bed.position_um - (count - 1) / 2 * apart
    seen: dict[float, float] = {}
    for k in range(count):
        place = start + k * apart
        seen[place] = at(place)
        if seen[place] < SQUID_STOP * max(seen.values()):
            break
    bed.move_to_um(max(seen, key=lambda place: seen[place]))


def remoscope(bed: Bed) -> None:
    """The mean of twenty inferences, a move by that, a pause, and the same again, whatever slack takes."""
    for _ in range(BATCHES):
        means = []
        for _ in range(BATCH):
            look = bed.free_model.look(bed.next_frame().image, bed.optics, most_tiles=bed.config.model.tiles)
            if look.log_likelihood is not None:
                means.append(float(np.exp(look.log_likelihood) @ look.bin_centres_dof))
        if means:
            bed.drive(-round(bed.optics.um_from_dof(float(np.mean(means))) / bed.um_per_step))
        bed.wait(PAUSE_S)
