"""Watch a stage settle, frame after frame behind motions that end where sharpness is steep."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge.calibration_fit import Curve
from edge.camera.base import Frame
from edge.rig import Rig
from edge.settling import Flank, Settling, settling_of

__all__ = ["watched"]

Array = NDArray[np.float64]

#: So many motions of so many dof, each watched for so long, that end so far from each other.
MOTIONS, MOTION_DOF, WATCH_S, BESIDE_DOF = 6, 2.0, 0.7, 0.16
#: They are made twice where the settling is not surer than so many s, or this share of it.
SURE_S, SURE_SHARE = 0.002, 0.06


def watched(
    rig: Rig,
    flank: Flank,
    curve: Curve,
    dof: float,
    turn_to: Callable[[float], None],
    log_sharpness: Callable[[Frame], float],
) -> tuple[Settling, tuple[Array, Array]]:
    """MOVES the stage about ``flank``, BLOCKS for ten seconds or twenty; see `edge.settling.settling_of`.

    ``dof``: of a step. ``turn_to(place)``: goes on to where ``place`` of ``curve``, in steps, is by now.
    """
    period_s, clock, stage = rig.camera.frame_period_s, rig.clock, rig.stage
    places = (np.arange(MOTIONS) - (MOTIONS - 1) / 2) * BESIDE_DOF / dof
    ends = np.concatenate([places, places + BESIDE_DOF / 2 / dof])
    frame_s = took_s = first_s = 0.0
    since, values = [], []
    for k, end in enumerate(ends):
        turn_to(flank.place + end - MOTION_DOF / dof - 1.5 * curve.slack - 2 / dof)
        # Frames come at other phases of their period behind each motion; the second time, between those.
        phase_s = first_s + (k + 0.5 * (k // MOTIONS)) / MOTIONS * period_s
        clock.sleep_s((frame_s - phase_s - took_s - clock.now_s()) % period_s if k else 0.0)
        began_s = clock.now_s()
        turn_to(flank.place + end)
        took_s = stage.last_motion_ended_s - began_s
        times, seen = _frames(rig, log_sharpness)
        frame_s = stage.last_motion_ended_s + float(times[-1])
        first_s = first_s if k else float(times[-1])
        since.append(times)
        values.append(seen)
        if k + 1 in (MOTIONS, len(ends)):
            found = settling_of(flank, ends[: k + 1], since, values, curve.creep, dof)
            if found[0].sigma_s < max(SURE_S, SURE_SHARE * found[0].settle_s):
                break
    return found


def _frames(rig: Rig, log_sharpness: Callable[[Frame], float]) -> tuple[Array, Array]:
    """Frame after frame since the last motion ended: middle of the exposure in s after it, and log
    sharpness.
    """
    ended_s = rig.stage.last_motion_ended_s
    times: list[float] = []
    values: list[float] = []
    not_before_s = ended_s - rig.camera.frame_period_s
    while not times or times[-1] < WATCH_S:
        frame = rig.camera.capture(not_before_s)
        not_before_s = frame.exposure_end_s - 1e-6
        times.append((frame.exposure_start_s + frame.exposure_end_s) / 2 - ended_s)
        values.append(log_sharpness(frame))
    return np.array(times), np.array(values)
