"""Z-stacks that are recorded by the service: at each request one more field of a slide, as `parfocal collect`
records it, into a folder that both can go on with.

    collected/blood-7/field-001      a request; the slide is moved
                      field-002      a request; …

What cannot be is found out before anything moves, and what was recorded before stays whatever happens. Used
by the one thread of the service; `status` by any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge.collect_plan import Plan, Recorded, Refused, check_before
from edge.collection import MOST_FIELDS, claimed, field_name, fields_in
from edge.errors import CameraError, InputError, one_line
from edge.files import RGB
from edge.microscope import Microscope
from firmware_iface.errors import LimitError, MotionError, MoveCancelled

__all__ = ["Collecting", "Ended"]

_LONGEST_REASON = 400


@dataclass(frozen=True)
class Ended:
    """What a request came to, in one line. ``failed``: nothing was recorded, and nobody wanted that."""

    reason: str
    failed: bool = False


@dataclass(frozen=True)
class _Progress:
    """As `edge.service.messages.CollectStatus` describes it."""

    slide: str
    folder: str
    field: str | None
    planes_done: int
    planes: int
    fields: int
    ended: str | None = None


class Collecting:
    """Fields go into ``folder``/slide. ``begins()`` is called when all was checked and the stage is about to
    move, ``seen(image)`` with each plane, ``told()`` when `status` has changed; ``cancel()`` is asked all the
    time. ``source`` and ``version``: who records, for about.json.
    """

    def __init__(
        self,
        folder: Path,
        *,
        source: str,
        version: str,
        begins: Callable[[], None],
        seen: Callable[[RGB], None],
        told: Callable[[], None],
        cancel: Callable[[], bool],
    ) -> None:
        self._folder, self._source, self._version = folder, source, version
        self._begins, self._seen, self._told, self._cancel = begins, seen, told, cancel
        self._lock = threading.Lock()
        self._progress: _Progress | None = None

    def status(self) -> dict[str, Any] | None:
        """The recording that is under way, or was the last; None before the first."""
        with self._lock:
            return None if self._progress is None else asdict(self._progress)

    def expect(self, slide: str, plan: Plan) -> None:
        """From now on `status` tells of the next field of ``slide``, a name that was checked."""
        with self._lock:
            self._progress = _Progress(slide, str(self._folder / slide), None, 0, plan.planes, 0)

    def record(self, scope: Microscope, plan: Plan) -> Ended:
        """Record the field that is expected. MOVES the stage, BLOCKS.

        Errors of camera and motor pass, with `status` saying what they ended.
        """
        assert self._progress is not None
        out = Path(self._progress.folder)
        try:
            done = self._record(scope, out, plan)
        except MoveCancelled as stop:
            return self._ended(Ended(self._nothing(stop)))
        except (Refused, InputError, LimitError) as why:
            return self._ended(Ended(self._nothing(why), failed=True))
        except (CameraError, MotionError) as error:  # some of them are an OSError, too
            self._ended(Ended(self._nothing(error), failed=True))
            raise
        except OSError as error:
            return self._ended(Ended(self._nothing((error.strerror or str(error)).lower()), failed=True))
        return self._ended(Ended(self._recorded(done, plan)))

    def _record(self, scope: Microscope, out: Path, plan: Plan) -> Recorded:
        # Not loaded before: a device that boots is in a hurry.
        from edge.collect import Collector
        from edge.collect_facts import facts

        self._folder.mkdir(parents=True, exist_ok=True)
        with claimed(out):
            there = fields_in(out)
            number = max(there, default=0) + 1
            if number > MOST_FIELDS:
                raise InputError(f"{out}: has {field_name(MOST_FIELDS)} already: use another name")
            name = field_name(number)
            self._change(field=name, fields=len(there))
            check_before(scope.rig, plan, out, there, 1)
            self._begins()
            self._told()
            known = facts(
                scope, kind=scope.rig.name, slide=out.name, source=self._source, version=self._version
            )
            recording = Collector(scope, plan, known, told=self._plane, seen=self._seen, cancel=self._cancel)
            done = recording.record(out / name)
            self._change(fields=len(there) + 1)
            return done

    def _plane(self, done: int, planes: int) -> None:
        self._change(planes_done=done, planes=planes)
        self._told()

    def _ended(self, ended: Ended) -> Ended:
        self._change(ended=ended.reason)
        return ended

    def _change(self, **changes: Any) -> None:
        with self._lock:
            assert self._progress is not None
            self._progress = replace(self._progress, **changes)

    def _what(self) -> str:
        assert self._progress is not None
        return "/".join(filter(None, (self._progress.slide, self._progress.field)))

    def _nothing(self, why: object) -> str:
        """That nothing was recorded, and why."""
        return f"z-stack of {self._what()} is not recorded: {one_line(why, limit=_LONGEST_REASON)}"

    def _recorded(self, done: Recorded, plan: Plan) -> str:
        few = "" if done.planes == plan.planes else f" of {plan.planes}, for more the limits left no room"
        then = "stopped on the way to its focus" if self._cancel() else "move the slide, then record the next"
        planes = f"{done.planes} planes of {done.step_um:.3g} µm{few}"
        return f"z-stack of {self._what()} is recorded: {planes}; {then}"
