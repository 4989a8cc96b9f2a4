"""What all running cameras have in common: one thread reads the driver, `capture` waits for the right frame.

    driver ──► reader thread: each frame's instants ──► wanted by a `capture`? ──► its picture, to the caller
                                                   └──► no: dropped, its picture never decoded

The reader takes every frame, so that none grows old in the driver, and keeps none but the last one that was
handed over. Only it touches the driver. A driver that never comes back therefore blocks nobody: `capture`
gives up after `STALL_S`, and so does `close`.

**When a frame was exposed.** Only the camera knows, and most do not tell. Each back end derives an interval
from what its driver does tell, and says how in its docstring. Doubt goes towards "too early": the start is
never later than the true one, as far as the back end's assumptions hold, and the worst that a wrong guess
costs is a frame. The end is never later than the arrival.
"""

from __future__ import annotations

import logging
import math
import threading
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.camera.base import Camera, Frame
from edge.camera.health import fault_of
from edge.errors import CameraError, one_line
from firmware_iface.clock import Clock

__all__ = ["STALL_S", "Image", "LiveCamera", "Shot"]

log = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]

STALL_S = 1.5
"""How long (s) a camera may give no frame, or the same one; slow cameras longer. With the frames that may be
on their way it takes less than 2 s from the fault to the error."""
START_S = 6.0
"""How long (s) a camera may take from its start to its first frame."""
WARM_UP_S = 1.0
"""How long (s) after the first frame exposure and white balance may take to find their values."""
_CLOSE_S = 2.0
_POLL_S = 0.002
_PAUSE_S = 0.01
"""Wait (s) after a driver said "no frame" at once, so that one which is gone does not spin."""


@dataclass(frozen=True)
class Shot:
    """When a frame was exposed: not before the start, nor after the end, in seconds of the rig's clock."""

    exposure_start_s: float
    exposure_end_s: float


Wanted = Callable[[Shot], bool]


class _Wish:
    """What one `capture` waits for, and what came meanwhile."""

    def __init__(self, not_before_s: float) -> None:
        self.not_before_s = not_before_s
        self.frame: Frame | None = None
        self.why_not: str | None = None


class _Order:
    """Something for the reader to do between two frames."""

    def __init__(self, job: Callable[[], None]) -> None:
        self.job = job
        self.done = False
        self.error: Exception | None = None


class LiveCamera(Camera):
    """A `Camera` that runs by itself. ``name`` stands at the front of each error; ``clock`` is the rig's.

    A descendant opens its device in its constructor, which raises CameraError where it cannot, and ends it
    with `_start`. It MUST implement `_read` and `_release`, and MAY override `_hold` and `_let_go`; all four
    run in the reader thread alone. `capture`, `lock`, `unlock` and `close` are for one thread at a time.
    """

    def __init__(self, clock: Clock, *, name: str, frame_period_s: float) -> None:
        if not (math.isfinite(frame_period_s) and frame_period_s > 0):
            raise ValueError(f"frame_period_s = {frame_period_s}: a finite number above 0 is allowed")
        self.name = name
        self._clock = clock
        self._period_s = frame_period_s
        self._wish: _Wish | None = None
        self._order: _Order | None = None
        self._failure: Exception | None = None
        self._closing = False
        self._arrived_s = -math.inf
        self._start_s = -math.inf
        self._advanced_s = -math.inf
        self._sequence = -1
        self._shown: Image | None = None
        self._shown_start_s = -math.inf
        self._thread = threading.Thread(target=self._run, name=f"camera {name}", daemon=True)

    # Hooks -------------------------------------------------------------------------------------------

    @abstractmethod
    def _read(self, wanted: Wanted) -> tuple[Shot, Image | None] | None:
        """The next frame of the driver: when it was exposed and, if ``wanted(shot)``, its picture.

        (H, W, 3) uint8 RGB in memory of its own. A picture that could not be decoded is None. No frame within
        about half a second: None for the whole. CameraError where there will be no more.
        """

    @abstractmethod
    def _release(self) -> None:
        """Put back what was changed in the camera and give it back. Called once, also after a failure."""

    def _hold(self) -> None:
        """Hold exposure, gain and white balance; twice is allowed. Reads frames with `_take` if it waits."""

    def _let_go(self) -> None:
        """Undo `_hold`; nothing without it."""

    # The interface -----------------------------------------------------------------------------------

    @property
    def frame_period_s(self) -> float:
        return self._period_s

    def capture(self, not_before_s: float) -> Frame:
        """See `Camera.capture`. The image is read-only.

        Raises CameraError where for `STALL_S` (with long exposures: for several frames) no frame arrives,
        none is new enough, or each shows the picture handed over last to the last bit. A black or saturated
        picture may well be the same again: it is handed over, for `fault_of` to name.
        """
        if math.isnan(not_before_s) or not_before_s == math.inf:
            raise ValueError(f"not_before_s = {not_before_s}: an instant of the rig's clock is allowed")
        self._check()
        asked_s = self._clock.now_s()
        wish = _Wish(not_before_s)
        self._wish = wish
        try:
            while wish.frame is None:
                self._check()
                self._check_alive(asked_s)
                self._check_fresh(wish, max(asked_s, not_before_s))
                self._clock.sleep_s(_POLL_S)
        finally:
            self._wish = None
        return wish.frame

    def lock(self) -> None:
        """See `Camera.lock`. BLOCKS until frames with the held values arrive; CameraError where none do."""
        self._check()
        self._have_done(self._hold)

    def unlock(self) -> None:
        """See `Camera.unlock`. A camera that is closed, or gives no frames any more, is left as it is."""
        if self._closing or self._failure is not None or self._silent_s() > self._patience_s():
            return
        self._have_done(self._let_go)

    def close(self) -> None:
        """See `Camera.close`. BLOCKS for 2 s at most, even where the driver does not come back."""
        if self._closing:
            return
        self._closing = True
        deadline_s = self._clock.now_s() + _CLOSE_S
        while self._thread.is_alive() and self._clock.now_s() < deadline_s:
            self._clock.sleep_s(_POLL_S)
        if self._thread.is_alive():
            log.warning("%s: its driver does not come back; it is given back when it does", self.name)

    # For descendants ---------------------------------------------------------------------------------

    def _start(self, *, warm_up_s: float = WARM_UP_S) -> None:
        """Start reading; wait for the first frame and then ``warm_up_s``. Closes before it raises."""
        began_s = self._clock.now_s()
        self._thread.start()
        try:
            until_s = math.inf
            while self._clock.now_s() < until_s:
                self._check()
                if self._sequence >= 0:
                    until_s = min(until_s, self._arrived_s + warm_up_s)
                elif self._clock.now_s() > began_s + START_S + self._patience_s():
                    raise CameraError(f"{self.name}: opened, but gives no frame; is it in use, or cut off?")
                self._clock.sleep_s(_POLL_S)
        except BaseException:
            self.close()
            raise

    def _take(self, wanted: Wanted) -> tuple[Shot, Image | None] | None:
        """`_read`, with the books kept. CameraError once the camera is to be closed."""
        if self._closing:
            raise CameraError(f"{self.name}: closed")
        began_s = self._clock.now_s()
        taken = self._read(wanted)
        now_s = self._clock.now_s()
        if taken is not None:
            self._arrived_s = now_s
            self._sequence += 1
            if taken[0].exposure_start_s != self._start_s:
                self._start_s = taken[0].exposure_start_s
                self._advanced_s = now_s
        elif now_s - began_s < _PAUSE_S:
            self._clock.sleep_s(_PAUSE_S)
        return taken

    # The reader --------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                self._serve_order()
                self._serve_wish()
        except Exception as error:  # noqa: BLE001 - the top of a thread: it is raised in the caller's
            self._failure = error
        finally:
            try:
                self._release()
            except Exception:
                log.exception("%s: giving it back failed", self.name)

    def _serve_order(self) -> None:
        order, self._order = self._order, None
        if order is not None:
            try:
                order.job()
            except CameraError as error:
                order.error = error
            order.done = True

    def _serve_wish(self) -> None:
        taken = self._take(self._wanted)
        wish = self._wish
        # Asked again: the caller may have given up meanwhile, and another wish have come.
        if taken is None or wish is None or not self._wanted(taken[0]):
            return
        shot, image = taken
        if image is None:
            wish.why_not = "none that can be decoded"
        elif self._is_shown(image):
            wish.why_not = "all the same to the last bit: it repeats the same frame"
        else:
            image.setflags(write=False)
            self._shown, self._shown_start_s = image, shot.exposure_start_s
            wish.frame = Frame(image, shot.exposure_start_s, shot.exposure_end_s, self._sequence)

    def _wanted(self, shot: Shot) -> bool:
        """Whether a `capture` waits for a frame such as this, later than the one before."""
        wish = self._wish
        if wish is None or wish.frame is not None:
            return False
        return shot.exposure_start_s >= wish.not_before_s and shot.exposure_start_s > self._shown_start_s

    def _is_shown(self, image: Image) -> bool:
        """Whether this is the picture handed over last, to the last bit, and noise should have changed it."""
        return self._shown is not None and np.array_equal(image, self._shown) and fault_of(image) is None

    # The caller --------------------------------------------------------------------------------------

    def _have_done(self, job: Callable[[], None]) -> None:
        """Have the reader do ``job`` between two frames, and wait for it."""
        order = _Order(job)
        asked_s = self._clock.now_s()
        self._order = order
        while not order.done:
            self._check()
            self._check_alive(asked_s)
            self._clock.sleep_s(_POLL_S)
        if order.error is not None:
            raise order.error

    def _check(self) -> None:
        if self._closing:
            raise CameraError(f"{self.name}: closed")
        failure = self._failure
        if isinstance(failure, CameraError):
            raise CameraError(str(failure)) from failure
        if failure is not None:
            raise CameraError(f"{self.name}: {type(failure).__name__}: {one_line(failure)}") from failure

    def _patience_s(self, frames: int = 3) -> float:
        return max(STALL_S, frames * self._period_s)

    def _silent_s(self) -> float:
        return self._clock.now_s() - self._arrived_s

    def _check_alive(self, asked_s: float) -> None:
        silent_s = self._clock.now_s() - max(asked_s, self._arrived_s)
        if silent_s > self._patience_s():
            raise self._stalled(silent_s)

    def _check_fresh(self, wish: _Wish, since_s: float) -> None:
        """Frames arrive, but is there a new one among them? A deep pipeline is given its dozen frames."""
        now_s = self._clock.now_s()
        waited_s, silent_s = now_s - since_s, now_s - self._arrived_s
        if waited_s <= self._patience_s(12):
            return
        if silent_s > self._patience_s() / 2:
            raise self._stalled(silent_s)
        if now_s - self._advanced_s > self._patience_s() / 2:
            why = "all with one time stamp: it repeats the same frame"
        elif wish.why_not is not None:
            why = wish.why_not
        else:
            why = f"none exposed late enough, the last one {now_s - self._start_s:.1f} s ago"
        raise CameraError(f"{self.name}: frames for {waited_s:.1f} s, but {why}")

    def _stalled(self, silent_s: float) -> CameraError:
        return CameraError(f"{self.name}: no frame for {silent_s:.1f} s: unplugged, or stalled")
