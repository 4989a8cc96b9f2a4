"""A stage, a specimen and a network of arithmetic, on which tests run the focus loop; in depths of field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edge.autofocus import Autofocus
from edge.belief import Array
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

BINS = np.linspace(-12.0, 12.0, 49)
Network = Callable[[float], "Array | None"]
Contrast = Callable[[float], float]


def log_normal(defocus: float, *, sigma: float = 0.6, bins: Array = BINS) -> Array:
    """Log-probabilities over ``bins`` of a network that reads ``defocus``; the end bins mean all beyond."""
    log_p = -0.5 * ((bins - np.clip(defocus, bins[0], bins[-1])) / sigma) ** 2
    return np.asarray(log_p - np.log(np.exp(log_p).sum()))


def oracle(focus: float, *, gain: float = 1.0, sigma: float = 0.6, bins: Array = BINS) -> Network:
    """A network that is right, up to a ``gain``: -1 is one for which the stage runs the wrong way."""
    return lambda position: log_normal(gain * (position - focus), sigma=sigma, bins=bins)


def peaked(focus: float, *, width: float = 1.5, height: float = 1e-4) -> Contrast:
    """Contrast of a stained specimen: one peak, over the little that is left far from focus."""
    return lambda position: height * (0.02 + 1 / (1 + ((position - focus) / width) ** 2))


def refracting(focus: float, *, beside: float = 2.0) -> Contrast:
    """Contrast of an unstained one: two peaks beside the focus, and a dip in it."""
    left, right = peaked(focus - beside), peaked(focus + beside)
    return lambda position: left(position) + right(position)


def blank(position: float) -> None:
    """A network that finds nothing to read."""


def unsure(position: float) -> Array:
    """A network that says nothing."""
    return np.full(len(BINS), -math.log(len(BINS)))


@dataclass
class Bench:
    """Answers the requests of a loop. A stage of ``step`` dof stands at whole steps, 0: where it is sent.
    ``seen``: log of the contrast that a look has at a place; None: it is not measured.
    """

    settings: Settings
    network: Network
    contrast: Contrast
    step: float = 0.0
    seen: Callable[[float], float] | None = None
    cancel_after: int | None = None
    position: float = 0.0
    done: Done | None = None
    asked: list[float] = field(default_factory=list)
    frames: list[tuple[str, float]] = field(default_factory=list)
    loop: Autofocus = field(init=False)

    def run(self, start: float) -> Done:
        """One run; fails a test rather than not to end."""
        self.loop, self.position = Autofocus(self.settings), start
        request = self.loop.send(Begin(start))
        for count in range(self.loop.budget * 3 + 10):
            if isinstance(request, Done):
                self.done = request
                return request
            if count == self.cancel_after:
                request = self.loop.send(Cancelled("enough"))
            else:
                request = self.loop.send(self.answer(request))
        raise AssertionError(f"no end after {count} requests")

    def answer(self, request: Request) -> Event:
        """What the microscope would report."""
        match request:
            case Move(to):
                self.asked.append(to)
                self.position = to if self.step == 0 else round(to / self.step) * self.step
                return Arrived(self.position)
            case Look():
                self.frames.append(("look", self.position))
                seen = math.nan if self.seen is None else self.seen(self.position)
                says = self.network(self.position)
                return Seen(self.position, self.contrast(self.position), says, BINS, seen)
            case Glance():
                self.frames.append(("glance", self.position))
                return Glanced(self.position, self.contrast(self.position))
            case _:
                raise AssertionError(request)

    @property
    def looks(self) -> int:
        """Frames that the network looked at."""
        return sum(kind == "look" for kind, _ in self.frames)
