"""The camera as the focus loop sees it: a frame, and when it was exposed.

A live sensor keeps frames in flight. The picture that arrives after a move may have been exposed before the
move ended, and a focus loop that trusts it corrects an error which is no longer there. So a caller never
asks for "the next frame" but for one whose exposure *began* at or after an instant of the rig's clock:

    stage.move_to_um(12.0)
    frame = camera.capture(stage.last_motion_ended_s + settle_s)

    clock    ──────┬───────────────┬────────────────────────────────►
                   motion ends     not_before_s
    exposures  [ a   ] [ b   ] [ c   ] [ d   ]      a, b: moving; c: began too early; d is the one returned
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Camera", "Frame"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture with the instants of its exposure, in seconds of the rig's clock.

    Frames are compared by identity; the image is the camera's own memory and must not be written to.
    """

    image: npt.NDArray[np.uint8]
    """The picture, (H, W, 3) uint8 RGB, row 0 on top."""

    exposure_start_s: float
    """When the first row began to be exposed."""

    exposure_end_s: float
    """When the last row had been exposed; never before `exposure_start_s`."""

    sequence: int
    """Number of the frame in its camera's stream, from 0; it rises, with gaps for frames nobody asked for."""

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"a frame is (H, W, 3) uint8, not {self.image.shape} {self.image.dtype}")
        if self.exposure_end_s < self.exposure_start_s:
            raise ValueError(
                f"exposure ends ({self.exposure_end_s} s) before it starts ({self.exposure_start_s} s)"
            )


class Camera(ABC):
    """A source of frames on the rig's clock. It never moves anything.

    A descendant MUST implement `capture` and `frame_period_s`, and MAY override `lock`, `unlock` and `close`.
    `with camera:` closes it at the end.
    """

    @property
    @abstractmethod
    def frame_period_s(self) -> float:
        """Seconds from the start of one exposure to that of the next, above 0.

        A descendant MUST return a finite value; where the hardware varies it, the longest is the honest one.
        """

    @abstractmethod
    def capture(self, not_before_s: float) -> Frame:
        """The first frame whose exposure starts at or after `not_before_s` (seconds of the rig's clock).

        Blocks until that frame is complete and has arrived; `-inf` takes the next one. A descendant MUST
        return a frame with `exposure_start_s >= not_before_s`, with a `sequence` above that of the frame
        before, and MUST NOT return before `exposure_end_s` on its clock. `not_before_s` may lie in the
        future; NaN and +inf raise `ValueError`.

        Raises CameraError where no frame arrives, or the camera is closed.
        """

    @property
    def plane(self) -> int | None:
        """Index of the plane that is in view; None where there are none, as with a live camera."""
        return None

    @property
    def plane_file(self) -> str | None:
        """Name of that plane's file."""
        return None

    def lock(self) -> None:  # noqa: B027 - a camera may have nothing to lock
        """Hold exposure, gain and white balance as they are, so that frames can be compared.

        Called before the first look of a run; twice is allowed. A descendant MAY leave it a no-op where
        nothing adapts by itself.
        """

    def unlock(self) -> None:  # noqa: B027
        """Let exposure, gain and white balance adapt again. Without `lock` before it, it does nothing."""

    def close(self) -> None:  # noqa: B027
        """Give the camera back. A descendant that overrides it MUST allow a second call, and not raise."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
