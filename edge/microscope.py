"""The thin loop: carries out with camera, stage and model what `edge.autofocus` asks for; keeps a trace."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.autofocus import Autofocus
from edge.belief import LEARNED, Belief, Gains
from edge.camera.base import Frame
from edge.camera.health import fault_of
from edge.config import Config
from edge.dialogue import (
    Arrived,
    Begin,
    Cancelled,
    Done,
    Event,
    Glance,
    Glanced,
    Look,
    Move,
    Request,
    Seen,
    Settings,
)
from edge.errors import CameraError
from edge.model import Model
from edge.rig import Rig
from edge.run_result import Entry, Result, Trace
from edge.sharpness import sharpness
from edge.view import View
from firmware_iface.errors import MoveCancelled

#: Where the focus can be, beyond the start, in dof: what a belief is spread over at the most.
BELIEF_REACH_DOF = 100.0
#: A frame may have been exposed so many periods before it was asked for, if the stage stood still by then.
FRAMES_IN_FLIGHT = 2
#: Of what a run has taught about scale and direction so much is forgotten by the next.
FORGETS = 0.1
#: The trace keeps frames at no more than this many pixels a side: a sweep must fit a small computer.
THUMBNAIL_PX = 384


@dataclass(frozen=True, eq=False)
class Observation:
    """One look: the ``frame``, what was ``seen`` in it, on how many ``tiles`` (None: not inferred), and the
    ``fault`` of a frame that shows nothing (None: it has none).
    """

    frame: Frame
    seen: Seen
    tiles: int | None
    fault: str | None


class Microscope:
    """A rig with a model. `focus` moves the stage, and `step` may; nothing else here does.

    ``watch(entry, frame)`` is called with each frame of a run, and once more when what is believed after it
    is known. It must not move anything. ``settle_s``: how long after a motion no frame may begin, in s; None:
    as long as the stage waits. ``gain``: the most probable of the rig's gains, by a last
    run that ended in focus, looked more than once and needed no sweep; else None.
    """

    def __init__(
        self,
        rig: Rig,
        model: Model,
        config: Config,
        *,
        settle_s: float | None = None,
        watch: Callable[[Entry, Frame], None] | None = None,
    ) -> None:
        self._settle_s = rig.stage.settle_s if settle_s is None else settle_s
        self.rig, self.model, self.config = rig, model, config
        self._watch = watch
        self._frame: Frame | None = None
        self.trace = Trace()
        self._fault: str | None = None
        self._learned: Gains | None = None
        self._offset_dof = _offset_dof(rig, model)
        self.gain: float | None = None

    def settings(self) -> Settings:
        """What a run from here may do, in depths of field."""
        focus, rig, stage = self.config.focus, self.rig, self.rig.stage
        low, high = sorted(rig.dof_from_um(um) for um in stage.reachable_um)
        here = self.position_dof()
        half = math.inf if focus.sweep_range_um is None else abs(rig.dof_from_um(focus.sweep_range_um)) / 2
        onward = stage.onward if stage.onward is None or rig.scale > 0 else -stage.onward
        return Settings(
            low=max(low, min(here, high) - BELIEF_REACH_DOF),
            high=min(high, max(here, low) + BELIEF_REACH_DOF),
            tolerance=focus.tolerance_dof,
            confidence=focus.confidence,
            max_looks=focus.max_looks,
            sweep=focus.sweep,
            sweep_low=here - half,
            sweep_high=here + half,
            sweep_step=focus.sweep_step_dof,
            assumed=rig.assumed,
            absorbing=focus.specimen == "absorbing",
            phase=focus.specimen == "phase",
            gains=rig.gains if self._learned is None else self._learned,
            onward=onward,
        )

    def focus(self, *, cancel: Callable[[], bool] | None = None) -> Result:
        """Bring the specimen into focus. Moves the stage, blocks on the rig's clock, returns where it ended.

        ``cancel()`` true stops the motor in mid-move and ends the run as failed. Errors of camera and motor
        pass through, with the camera unlocked and the motor standing; after one of the camera the stage is
        back where it began.
        """
        rig = self.rig
        self.trace, self._fault, self.gain = Trace(), None, None
        began_s, moves, travel = rig.clock.now_s(), rig.stage.moves, rig.stage.travel_steps
        began_um = rig.stage.position_um
        try:
            rig.camera.lock()
            done = self._run(cancel)
            if done.result == "focused":
                rig.stage.found_focus()
            else:
                self._capture("end", infer=False)
        except CameraError as error:
            if rig.stage.moves == moves:
                raise
            # Blind, no place is known to be better than the one where the run began.
            self._move_um(began_um, cancel)
            raise CameraError(f"{error}; the stage is back at {rig.stage.position_um:.2f} µm") from error
        finally:
            rig.camera.unlock()
        return self._result(
            done, rig.clock.now_s() - began_s, rig.stage.moves - moves, rig.stage.travel_steps - travel
        )

    def _take_up_slack(self, cancel: Callable[[], bool] | None) -> None:
        """Close the gap of the drive, so that the first estimate is not off by the backlash."""
        self._move_um(self.rig.stage.position_um, cancel)

    def _move_um(self, to_um: float, cancel: Callable[[], bool] | None) -> None:
        """To the place nearest to ``to_um`` (µm) that every move can reach."""
        low, high = self.rig.stage.reachable_um
        self.rig.stage.move_to_um(min(max(to_um, low), high), cancel=cancel)

    def _run(self, cancel: Callable[[], bool] | None) -> Done:
        try:
            self._take_up_slack(cancel)
        except MoveCancelled as stop:
            return Done("failed", str(stop), "network", None, None)
        loop = Autofocus(self.settings())
        request: Request = loop.send(Begin(self.position_dof()))
        while not isinstance(request, Done):
            request = self.step(loop, request, cancel=cancel)
        if request.result == "focused":
            self.gain = loop.belief.gain() if loop.looks > 1 and request.method == "network" else None
            if self.rig.gains is LEARNED:
                self._learned = _remembered(loop.belief)
        return request

    def step(self, loop: Autofocus, request: Request, *, cancel: Callable[[], bool] | None = None) -> Request:
        """Carry out ``request`` of ``loop`` and return its next one. Moves the stage where that is asked."""
        if cancel is not None and cancel():
            event: Event = Cancelled()
        else:
            try:
                event = self._carry_out(loop, request, cancel)
            except MoveCancelled as stop:
                event = Cancelled(str(stop), self.position_dof())
        before = loop.reading
        request = loop.send(event)
        if isinstance(event, Seen) and loop.reading is not before:
            self._annotate(loop)
        return request

    def _carry_out(self, loop: Autofocus, request: Request, cancel: Callable[[], bool] | None) -> Event:
        match request:
            case Move(to):
                self._move_um(self.rig.um_from_dof(to), cancel)
                return Arrived(self.position_dof())
            case Look():
                return self._capture(loop.state.value, infer=True)
            case Glance():
                seen = self._capture(loop.state.value, infer=False)
                return Glanced(seen.position, seen.sharpness)
            case _:
                raise AssertionError(request)

    def observe(self) -> Observation:
        """One look that is part of no run, and of no trace. Blocks for a frame; moves nothing.

        Raises CameraError, with the camera unlocked.
        """
        try:
            self.rig.camera.lock()
            return self.look()
        finally:
            self.rig.camera.unlock()

    def look(self) -> Observation:
        """`observe` with the camera as it is, for many looks in a row: the caller keeps it locked."""
        return self._observe(infer=True)

    def settled_frame(self) -> Frame:
        """A frame exposed after the stage has settled. Blocks; raises CameraError."""
        rig = self.rig
        # A move that was stopped has not settled by itself.
        settled_s = rig.stage.last_motion_ended_s + self._settle_s
        in_flight_s = FRAMES_IN_FLIGHT * rig.camera.frame_period_s
        return rig.camera.capture(max(rig.clock.now_s() - in_flight_s, settled_s))

    def _observe(self, *, infer: bool) -> Observation:
        """A frame exposed after the stage has settled, its sharpness and, if asked for, its defocus."""
        rig, frame = self.rig, self.settled_frame()
        view = View(frame.image)
        # A guessed sampling could throw the finest detail away, and the finest is what peaks nearest focus.
        measure = sharpness(view, 1.0 if rig.assumed else rig.optics.model_scale)
        fault, log_likelihood, tiles, contrast = fault_of(frame.image), None, None, math.nan
        if infer:
            look = self.model.look(view, rig.optics, most_tiles=self.config.model.tiles)
            log_likelihood, tiles = look.log_likelihood, look.tiles
            contrast = look.contrast if fault is None else math.nan  # a black frame is no view that paled
        bins = self.model.bins_dof(rig.optics) - self._offset_dof
        seen = Seen(self.position_dof(), measure, log_likelihood, bins, contrast)
        return Observation(frame, seen, tiles, fault)

    def _capture(self, state: str, *, infer: bool) -> Seen:
        """A look of a run, put into its trace."""
        rig, got = self.rig, self._observe(infer=infer)
        self._fault = got.fault
        truth = None if rig.true_defocus_um is None else rig.true_defocus_um()
        entry = Entry(
            rig.clock.now_s(),
            state,
            rig.stage.position_um,
            got.seen.sharpness,
            got.tiles,
            None,
            None,
            truth,
            _thumbnail(got.frame.image),
            None,
        )
        self.trace.entries.append(entry)
        self._frame = got.frame
        self._tell()
        return got.seen

    def _annotate(self, loop: Autofocus) -> None:
        """Put what is believed after a look into the trace."""
        if loop.reading is None:
            return
        last = self.trace.entries[-1]
        histogram = loop.belief.defocus_histogram(self.position_dof())
        self.trace.entries[-1] = replace(
            last, within=loop.reading.within, surprise=loop.surprise, belief=histogram
        )
        self._tell()

    def _tell(self) -> None:
        if self._watch is not None and self._frame is not None:
            self._watch(self.trace.entries[-1], self._frame)

    def position_dof(self) -> float:
        """Where the stage stands, in depths of field."""
        return self.rig.dof_from_um(self.rig.stage.position_um)

    def _result(self, done: Done, seconds: float, moves: int, travel_steps: int) -> Result:
        rig, entries = self.rig, self.trace.entries
        truth = None if rig.true_defocus_um is None else rig.true_defocus_um()
        outcome, reason = done.result, done.reason
        if outcome != "focused" and self._fault is not None:
            # A frame without an image says nothing about a specimen.
            outcome, reason = "failed", f"{reason}; the frame is {self._fault}"
        return Result(
            result=outcome,
            reason=reason,
            method=done.method,
            captures=len(entries),
            moves=moves,
            travel_um=travel_steps * rig.stage.um_per_step,
            seconds=seconds,
            position_um=rig.stage.position_um,
            defocus_estimate_dof=done.defocus,
            confidence=done.confidence,
            sharpness_start=entries[0].sharpness if entries else math.nan,
            sharpness_end=entries[-1].sharpness if entries else math.nan,
            true_defocus_um=truth,
            true_defocus_dof=None if truth is None else rig.optics.dof_from_um(truth),
            true_defocus_start_um=entries[0].true_defocus_um if entries else None,
            plane=rig.camera.plane,
            plane_file=rig.camera.plane_file,
            assumptions=rig.assumptions,
        )


def _offset_dof(rig: Rig, model: Model) -> float:
    """What ``model`` says in focus, where a calibration has measured that of this very model."""
    found = rig.calibration
    if found is None or found.network_offset_dof == 0 or found.model_fingerprint != model.fingerprint:
        return 0.0
    return found.network_offset_dof


def _remembered(belief: Belief) -> Gains:
    """What a run has taught about scale and direction, for the next one: mostly, not for good."""
    kept = zip(belief.gain_weights(), LEARNED.weights, strict=True)
    return Gains(LEARNED.values, tuple((1 - FORGETS) * now + FORGETS * before for now, before in kept))


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of ``(H, W, 3)`` uint8 at no more than `THUMBNAIL_PX` a side."""
    import cv2

    factor = THUMBNAIL_PX / max(image.shape[:2])
    if factor >= 1:
        return image.copy()
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    # Averaging costs ten times as much, and does nothing where hardly a pixel is left out.
    method = cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
