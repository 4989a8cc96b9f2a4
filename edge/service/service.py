"""The service itself: the one owner of camera and motor, who does one thing at a time and tells of it.

`Service.run` is the only thread that touches camera and motor; it opens them, brings the specimen into focus,
and then waits for work. Requests come from any thread and are taken only while nothing else is going on;
`stop` is heard at once, also in mid-move. A camera or motor that fails is closed, told of, and opened again
after a while that doubles each time:

    starting ──opened──► focusing ──► in_focus | failed | ready ──request──► focusing | moving | collecting …
        ▲                                   │
        └── after 1, 2, 4 … 30 s ── fault ◄─┴── camera or motor failed
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edge import trace
from edge.calibration import note_run
from edge.camera.base import Frame
from edge.config import Config
from edge.errors import CameraError, InputError, ParfocalError, one_line
from edge.microscope import Microscope
from edge.model import Model
from edge.rig import Rig
from edge.run_result import Entry, Trace
from edge.service.feed import Feed
from edge.service.history import History
from edge.service.holding import Holding
from edge.service.looks import look
from edge.service.runs import Runs
from edge.service.schedule import Schedule
from firmware_iface.clock import Clock
from firmware_iface.errors import LimitError, MotionError, MoveCancelled

if TYPE_CHECKING:
    from edge.collect_plan import Plan
    from edge.service.collecting import Collecting

__all__ = ["Busy", "Service", "State"]

log = logging.getLogger(__name__)

State = Literal["starting", "focusing", "moving", "collecting", "in_focus", "ready", "failed", "fault"]
_AFTER: dict[str, State] = {"focused": "in_focus", "no_specimen": "failed", "failed": "failed"}
_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 30.0
#: How often an idle camera is asked whether it still lives, which is what feeds the watchdog then.
_CHECK_S = 5.0
_IDLE_S = 0.25
_UNDER_WAY = "focus run or a move is under way"
#: Where a field could not be held focus is found anew, but not more often than this.
_HOLD_AGAIN_S = 600.0


class Busy(ParfocalError):
    """A request came while something else is going on, or before there is a microscope."""


@dataclass(frozen=True)
class _Job:
    kind: Literal["focus", "jog", "collect"]
    by: str
    um: float = 0.0
    slide: str = ""
    plan: Plan | None = None


class Service:
    """``open_rig`` gives a rig that is not entered yet; it may take long and is called again after a fault.

    ``beat`` is called after each piece of good work; ``announce`` with the state in words, first once camera
    and motor were opened, or could not be. ``clock`` is the rig's, ``local_time`` gives the wall's.
    ``model_note`` says why ``model`` is not the one that was chosen. Z-stacks go into ``collected``, a folder
    that is made when the first is asked for.
    """

    def __init__(
        self,
        config: Config,
        model: Model,
        open_rig: Callable[[], Rig],
        *,
        runs: Runs,
        feed: Feed,
        collected: Path,
        clock: Clock,
        version: str,
        model_note: str | None = None,
        beat: Callable[[], None] = lambda: None,
        announce: Callable[[str], None] = lambda text: None,
        local_time: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._config, self._model, self._open_rig = config, model, open_rig
        self._clock, self._version, self._local_time = clock, version, local_time
        self._beat, self._announce, self._model_note = beat, announce, model_note
        self.runs, self.feed = runs, feed
        self._schedule = Schedule.of(config.service.focus_every_min, config.service.focus_at)
        self._lock = threading.Lock()
        self._wake, self._cancel, self._closing = threading.Event(), threading.Event(), threading.Event()
        self.judged = threading.Event()
        """Set once the first frame was judged, or nothing is to be."""
        self._job: _Job | None = None
        self._doing = False
        self._rig: Rig | None = None
        self._state: State = "starting"
        self._reason = "camera and motor are being opened"
        self._history = History(runs, feed)
        service = config.service
        self._holding = Holding(on=service.hold, interval_s=service.hold_interval_s, clock=clock)
        self._collected = collected
        self._collecting: Collecting | None = None
        self._began_s, self._checked_s, self._beaten_at = clock.now_s(), clock.now_s(), 0.0
        self._held_again_s, self._worked, self._up = -float("inf"), False, False

    # Requests, from any thread -----------------------------------------------------------------------

    def focus(self, by: str) -> None:
        """Ask for a focus run. Busy where something else is going on."""
        self._ask(_Job("focus", by))

    def jog(self, um: float, by: str) -> None:
        """Ask for a move by ``um`` (µm). LimitError where it would end beyond the limits; Busy as `focus`."""
        with self._lock:
            rig = self._rig
        if rig is not None:
            low, high = rig.stage.limits_um
            target = rig.stage.position_um + um
            if not low <= target <= high:
                raise LimitError(rig.stage.name, target, (low, high), "um")
        self._ask(_Job("jog", by, um))

    def collect(self, slide: str, plan: Plan, by: str) -> None:
        """Ask for a z-stack of one more field of ``slide``. InputError for a name that is no folder's, or
        planes that find no room between the limits; Busy as `focus`.
        """
        from edge.collect_plan import check_room  # not loaded before: a device that boots is in a hurry
        from edge.collection import check_slide

        check_slide(slide)
        with self._lock:
            rig = self._rig
        if rig is not None:
            with contextlib.suppress(MotionError):
                check_room(rig, plan)
        self._ask(_Job("collect", by, slide=slide, plan=plan))

    def hold(self, on: bool) -> None:
        """Hold focus through drift from the next focused run on (from now on, if in focus), or no longer."""
        self._holding.switch(on)
        self._tell()

    def stop(self, by: str) -> bool:
        """End what is going on, on the spot; whether there was anything. Does not block."""
        with self._lock:
            self._cancel.set()
            waiting, self._job = self._job is not None, None
            rig = self._rig
        if rig is not None:
            rig.stage.stop()
        log.info("stop by %s", by, extra={"fields": {"EVENT": "stop", "BY": by}})
        return waiting or self._doing

    def press(self) -> None:
        """The push button: a focus, or the end of what is going on."""
        if self._doing:
            self.stop("button")
            return
        try:
            self.focus("button")
        except Busy as why:
            log.info("the button is not heard: %s", why)

    def shut_down(self) -> None:
        """Stop the motor and have `run` return. Does not block."""
        self._closing.set()
        self._cancel.set()
        if (rig := self._rig) is not None:
            rig.stage.stop()
        self._wake.set()

    @property
    def state(self) -> State:
        """What is going on, in a word."""
        return self._state

    def status(self) -> dict[str, Any]:
        """What is going on, as plain values. From any thread."""
        rig, place = self._rig, None
        if rig is not None:
            with contextlib.suppress(MotionError):
                place = {
                    "position_um": rig.stage.position_um,
                    "limits_um": list(rig.stage.limits_um),
                    "uncertain": rig.stage.uncertain,
                }
        optics = self._config.optics.optics() if rig is None else rig.optics
        found: dict[str, Any] = trace.plain(
            {
                "state": self._state,
                "reason": self._reason,
                "stage": place,
                "hold": self._holding.status(),
                "last": self._history.last,
                "collect": None if self._collecting is None else self._collecting.status(),
                "rig": None if rig is None else rig.name,
                "motor": self._config.stage.driver if rig is None or rig.name == "hardware" else rig.name,
                "camera": self._config.camera.driver if rig is None or rig.name == "hardware" else rig.name,
                "objective": str(optics.objective),
                "dof_um": optics.dof_um,
                "tolerance_dof": self._config.focus.tolerance_dof,
                "model": self._model.name,
                "model_note": self._model_note,
                "version": self._version,
                "uptime_s": round(self._clock.now_s() - self._began_s, 1),
                "lost_traces": self.runs.lost,
            }
        )
        return found

    # The one thread that works -----------------------------------------------------------------------

    def run(self) -> None:
        """Work until `shut_down`. BLOCKS; MOVES the stage. InputError where the first opening finds a mistake
        in the configuration; later ones, and whatever camera and motor do, are faults that are told of.
        """
        retry_s, boot, first = _FIRST_RETRY_S, self._config.service.boot_focus, True
        while not self._closing.is_set():
            self._worked = False
            try:
                self._session(boot=boot)
            except (CameraError, MotionError, InputError) as error:
                if first and isinstance(error, InputError):
                    raise
                self._fault(error)
            first, boot = False, boot and not self._worked
            self._history.keep_late()
            if self._worked:
                retry_s = _FIRST_RETRY_S
            self._rest(retry_s)
            retry_s = min(2 * retry_s, _LAST_RETRY_S)

    def _session(self, *, boot: bool) -> None:
        """One life of a rig: from its opening until it is closed, coils off, whatever ends it."""
        self._set("starting", "camera and motor are being opened")
        with contextlib.ExitStack() as opened:
            rig = self._open_rig()
            opened.push(rig.__exit__)
            if self._closing.is_set():
                return
            rig.__enter__()
            opened.callback(self._let_go)
            self._rig = rig
            scope = Microscope(rig, self._model, self._config, watch=self._saw)
            if rig.stage.uncertain:
                log.warning("%s", rig.stage.uncertain, extra={"fields": {"EVENT": "uncertain"}})
            self._set("ready", rig.stage.uncertain or "waiting for a request")
            self._up = True
            self._announce(f"ready: {self._reason}")
            if boot:
                self._carry_out(scope, _Job("focus", "boot"))
            self.judged.set()
            while not self._closing.is_set():
                self._turn(scope)

    def _let_go(self) -> None:
        self._rig = None
        self._holding.lost("camera and motor are closed")

    def _turn(self, scope: Microscope) -> None:
        """One round of an idle service: work if there is any, else look whether all is well."""
        self._wake.wait(min(_IDLE_S, 1 / self._config.api.preview_fps))
        self._wake.clear()
        with self._lock:  # a stop that comes later is for this job, one that came before has taken it
            self._cancel.clear()
            job, self._job = self._job, None
            self._doing = job is not None
        now_s = self._clock.now_s()
        if job is None and (by := self._schedule.due(now_s, self._local_time())) is not None:
            job = _Job("focus", by)
        if job is not None:
            self._carry_out(scope, job)
        elif self._holding.due:
            self._hold(scope)
        elif self.feed.wanted or now_s - self._checked_s >= _CHECK_S:
            self.feed.show(scope.rig.camera.capture(-float("inf")).image)
            self._did_well()

    def _carry_out(self, scope: Microscope, job: _Job) -> None:
        if self._closing.is_set():
            return
        self._doing = True
        try:
            if job.kind == "focus":
                self._focus(scope, job.by)
            elif job.kind == "collect":
                self._collect(scope, job)
            else:
                self._jog(scope.rig, job)
        finally:
            self._doing = False

    def _focus(self, scope: Microscope, by: str) -> None:
        self._set("focusing", f"asked for by {by}")
        self._holding.lost("a focus run is under way")
        at = self._local_time().astimezone().isoformat(timespec="seconds")
        try:
            result = scope.focus(cancel=self._cancelled)
        except (CameraError, MotionError) as error:
            late = self._closing.is_set()
            self._history.ended(at, by, {"result": "failed", "reason": one_line(error)}, None, late=late)
            raise
        finally:
            self._schedule.ran(self._clock.now_s())
        whole = trace.document(scope, result, version=self._version)
        self._history.ended(at, by, trace.plain(result.as_dict()), whole, late=self._closing.is_set())
        scope.trace = Trace()  # its pictures are megabytes
        self._set(_AFTER[result.result], result.reason)
        if result.result == "focused":
            self._holding.found(scope)
            if scope.rig.calibration is not None and scope.gain is not None:
                note_run(self._config, scope.gain)
        self._did_well()

    def _jog(self, rig: Rig, job: _Job) -> None:
        self._set("moving", f"{job.um:+g} µm, asked for by {job.by}")
        self._holding.lost("moved by hand; it begins again with the next focus")
        try:
            rig.stage.move_by_um(job.um, cancel=self._cancelled)
            reason = f"moved {job.um:+g} µm by {job.by}"
        except (LimitError, MoveCancelled) as error:
            reason = one_line(error)
        log.info(reason, extra={"fields": {"EVENT": "jog", "BY": job.by, "UM": job.um}})
        self._set("ready", reason)
        self._did_well()

    def _collect(self, scope: Microscope, job: _Job) -> None:
        assert job.plan is not None
        collecting = self._collecting = self._collecting or self._collector()
        collecting.expect(job.slide, job.plan)
        self._set("collecting", f"z-stack of {job.slide}, asked for by {job.by}")
        try:
            ended = collecting.record(scope, job.plan)
        finally:
            scope.trace = Trace()
            self._schedule.ran(self._clock.now_s())
            now = collecting.status() or {}
            fields = {"EVENT": "collect", "BY": job.by, "SLIDE": job.slide, "FIELD": now.get("field")}
            log.info("%s", now.get("ended"), extra={"fields": fields})
        self._set("failed" if ended.failed else "ready", ended.reason)
        self._did_well()

    def _collector(self) -> Collecting:
        from edge.service.collecting import Collecting  # not loaded before, as above

        return Collecting(
            self._collected,
            source="parfocal serve",
            version=self._version,
            begins=lambda: self._holding.lost("let go for a z-stack; it begins again with the next focus"),
            seen=self.feed.show,
            told=self._plane,
            cancel=self._cancelled,
        )

    def _plane(self) -> None:
        """One more of a z-stack is written."""
        self._did_well()
        self._tell()

    def _hold(self, scope: Microscope) -> None:
        before = scope.rig.stage.moves
        over = self._holding.step(cancel=self._cancelled)
        now = self._holding.status()
        if over is not None or scope.rig.stage.moves != before:
            fields = {"EVENT": "hold", "DRIFT_DOF": now["drift_dof"], "MOVES": now["moves"]}
            log.info("hold: %s", now["reason"], extra={"fields": fields})
        self._did_well()
        if over is None:
            self._tell()
            return
        self._set("ready", over)
        now_s = self._clock.now_s()
        if self._holding.gave_up and now_s - self._held_again_s >= _HOLD_AGAIN_S:
            self._held_again_s = now_s
            self._carry_out(scope, _Job("focus", "hold"))

    # Telling -----------------------------------------------------------------------------------------

    def _cancelled(self) -> bool:
        """Asked by the focus loop and the stage all the time; motion that goes on is good work."""
        rig = self._rig
        if rig is not None and (position := rig.stage.position_um) != self._beaten_at:
            self._beaten_at = position
            self._beat()
        return self._cancel.is_set() or self._closing.is_set()

    def _saw(self, entry: Entry, frame: Frame) -> None:
        """A frame of a run, and again when what is believed after it is known."""
        self._beat()
        if entry.belief is None and entry.within is None:
            self.feed.show(frame.image)
        elif not self.judged.is_set():
            self.judged.set()
            self._announce("focusing: the first frame is judged")
        self.feed.tell("look", look(entry))

    def _did_well(self) -> None:
        self._checked_s = self._clock.now_s()
        self._worked = True
        self._beat()

    def _fault(self, error: Exception) -> None:
        log.error("%s", one_line(error), extra={"fields": {"EVENT": "fault"}})
        self._up = True
        self._set("fault", one_line(error))
        self.judged.set()

    def _rest(self, seconds: float) -> None:
        """Wait after a fault; a loop that waits is alive."""
        until_s = self._clock.now_s() + seconds
        while not self._closing.is_set() and (left_s := until_s - self._clock.now_s()) > 0:
            self._closing.wait(min(left_s, _IDLE_S))
            self._beat()

    def _set(self, state: State, reason: str) -> None:
        with self._lock:
            self._state, self._reason = state, reason
        if self._up:
            self._announce(f"{state}: {reason}")
        self._tell()

    def _tell(self) -> None:
        self.feed.tell("status", self.status())

    def _ask(self, job: _Job) -> None:
        with self._lock:
            if self._closing.is_set():
                raise Busy("the service is stopping")
            if self._rig is None:
                raise Busy(f"not yet: {self._reason}")
            if self._job is not None or self._doing:
                what = "z-stack is being recorded" if self._state == "collecting" else _UNDER_WAY
                raise Busy(f"busy: a {what}; stop it first")
            self._job = job
        self._wake.set()
