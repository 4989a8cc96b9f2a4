"""Measure a microscope on any specimen: direction, scale, slack, settling, drift, exposure. MOVES the stage.

Theory of operation
-------------------
First the ordinary loop finds the focus, with scale and direction unknown and an overshoot for twice the slack
that is configured. From there on the screw is turned straight, and nothing is done about slack::

    pass 1, going on   ──•──•──•──•──•──▶          looks through the focus
    taking up          ◀─ ─ ─ ─ ─•                 back, in growing strides, until the picture changes
    pass 2, back         ◀──•──•──•──•──•          the same places again, later by the slack
    pass 3, going on        ──•──•──•──▶           nearer to the focus, and the two together cancel drift
    pass 4, back          ◀──•──•──•──
    settling                 ⟶ ▮▮▮▮▮▮▮             frame after frame behind a motion that ends on a flank

`edge.calibration_fit` and `edge.settling` read them. Wherever it ends, the stage stands where the focus is,
or where it began.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge import through_focus
from edge.calibration_fit import Curve, Fingerprints, Offset, Scale, fit_curve, fit_offset, fit_scale
from edge.calibration_found import Found, Looks, Refused
from edge.camera.base import Frame
from edge.camera.health import fault_of
from edge.config import Config, override
from edge.errors import CameraError
from edge.microscope import Microscope
from edge.model import Model
from edge.rig import Rig
from edge.ring_power import RingPower
from edge.settling import Flank, Settling
from edge.settling_watch import watched
from edge.sharpness import sharpness
from edge.stack_theory import spectrum_of
from edge.through_focus import Fitted

__all__ = ["Calibrator", "for_measuring"]

Array = NDArray[np.float64]

#: Looks go so far to either side of the focus, so far apart, in depths of field; the later passes less far.
REACH_DOF, APART_DOF, NEAR_DOF = 6.0, 0.5, 3.5
#: Wait after each motion while settling is not known, in s.
PATIENCE_S = 0.35
#: Strides that take up slack begin with so many dof and grow by this share of what was taken up.
STRIDE_DOF, STRIDE_SHARE = 1.0, 0.2
#: Slack is taken up where two looks running are those of places so many dof away.
TAKEN_UP_DOF = 2.0
#: Below these nothing can be told: change of the sharpness' logarithm, log odds of a changing picture, share
#: of the scale that was expected.
LEAST_SWING, LEAST_CHANGE, LEAST_SCALE = 0.25, 30.0, 0.25
#: Below these log odds for each look the direction cannot be told. The looks at one field err alike: many of
#: them are no proof. Of 263 simulated microscopes all but one had 1.5 and more, and that one was wrong.
LEAST_ODDS = 1.0
#: A sharpness whose logarithm changes by this much does so because the stage moves.
MOVES_SWING = 0.7
#: Added to each sharpness before its logarithm is taken: far below what a field with contrast has in focus.
FLOOR = 1e-7
#: Of a pass at least this share must lie between the soft limits.
LEAST_SHARE = 0.9
#: The pass is repeated where its middle, or its scale, was off by more.
OFF_CENTRE_DOF, OFF_SCALE = 2.0, 1.35


def for_measuring(config: Config) -> Config:
    """``config`` for a rig that is to be measured: moves end one-sided, and wait for nothing."""
    return override(config, "calibrate", stage={"compensation": "one-sided", "settle_s": 0.0})


class Calibrator:
    """One calibration of ``rig``, made from `for_measuring`. ``told(text, share)``: what is going on."""

    def __init__(
        self,
        rig: Rig,
        model: Model,
        config: Config,
        *,
        told: Callable[[str, float], None] = lambda text, share: None,
    ) -> None:
        self._rig, self._model, self._config, self._told = rig, model, config, told
        self._scope = Microscope(rig, model, config, settle_s=max(config.stage.settle_s, PATIENCE_S))
        self._sign = config.stage.approach_sign
        self._frames = 0
        self._frame: Frame | None = None

    def run(self) -> Found:
        """MOVES the stage, BLOCKS for a minute or two. Raises Refused; errors of camera and motor pass."""
        began_s, began = self._rig.clock.now_s(), self._rig.stage.screw_steps
        try:
            guess = self._focus()
            self._rig.camera.lock()  # for all looks: their sharpness is compared
            return self._measure(guess, began_s)
        except (Refused, CameraError):
            self._back_to(began)
            raise
        finally:
            self._rig.camera.unlock()

    def _back_to(self, screw: int) -> None:
        low, high = (round(um / self._rig.stage.um_per_step) for um in self._rig.stage.reachable_um)
        self._rig.stage.move_to_steps(min(max(screw, low), high))

    def _measure(self, guess: float, began_s: float) -> Found:
        first, scale = self._through(guess)
        dof = abs(scale.scale)  # of a step
        seen = Fingerprints(first.whole(), np.array([self._reading(lik) for lik in first.says]), dof)
        slack = self._take_up(seen, dof)
        middle = scale.focus
        reach, near, apart = (round(x / dof) for x in (REACH_DOF, NEAR_DOF, APART_DOF))
        self._turn(first.screw[-1] + 2 / dof)
        second = self._pass("back", 0.45, middle - slack, reach - 2 * apart, apart, back=True)
        third = self._pass("on", 0.62, middle, near, apart)
        self._turn(middle + near + 2 / dof)
        fourth = self._pass("back once more", 0.75, middle - slack, near, apart, back=True)
        looks = (first, second, third, fourth)
        passes = tuple(one.whole() for one in looks)
        known = np.array([place for one in looks for place in self._recognised(one, seen)])
        slack, creep = seen.slack_and_creep(passes, known, slack)
        curve = fit_curve(passes, dof, slack=slack, creep=creep)
        if not math.isfinite(curve.noise) or curve.swing < max(LEAST_SWING, 5 * curve.noise):
            raise Refused("the sharpness hardly changes with focus: no clear peak to measure by")
        places = np.concatenate([curve.places(one) for one in passes])
        says = [lik for one in looks for lik in one.says]
        final = fit_scale(places, says, self._bins, guess=dof)
        self._judge(final, dof, says, swing=curve.swing)
        optical = self._by_theory(places, [kept for one in looks for kept in one.spectra], final)
        offset = self._offset(places, says, final, optical)
        settling, behind = self._settling(curve, final, optical.scale)
        self._end(curve, final, optical)
        background, clipped = self._exposure()
        drift = math.copysign(optical.scale, final.scale) * curve.creep
        return Found(
            curve, final, optical, offset, settling, drift, optical.scale * curve.creep_sigma, background,
            clipped, self._frames, self._rig.clock.now_s() - began_s, passes, self._sign, self._bins,
            tuple(tuple(one.says) for one in looks), behind,
        )  # fmt: skip

    def _focus(self) -> float:
        """Find the focus; dof of a step, about."""
        self._told("finding the focus", 0.0)
        result = self._scope.focus()
        self._frames += result.captures
        if result.result != "focused":
            what = "nothing to measure by" if result.result == "no_specimen" else "the focus was not found"
            raise Refused(f"{what}: {result.reason}")
        gain = abs(self._scope.gain or 1.0)
        return gain * self._rig.optics.dof_from_um(self._rig.stage.um_per_step) * abs(self._rig.scale)

    def _through(self, guess: float) -> tuple[Looks, Scale]:
        """The first pass through the focus, again where it turns out to lie beside it, or to be too short."""
        middle = float(self._screw)
        for _ in range(4):
            reach, apart = round(REACH_DOF / guess), max(1, round(APART_DOF / guess))
            looks = self._pass("through the focus", 0.15, middle, reach, apart)
            try:
                scale = fit_scale(np.array(looks.screw), looks.says, self._bins, guess=guess)
            except ValueError as error:
                raise Refused("too few frames show anything to measure by") from error
            self._judge(scale, guess, looks.says, swing=float(np.ptp(looks.log_sharpness)))
            off = abs(scale.focus - middle) * abs(scale.scale)
            wrong = max(abs(scale.scale) / guess, guess / abs(scale.scale))
            middle, guess = scale.focus, abs(scale.scale)
            if off <= OFF_CENTRE_DOF and wrong <= OFF_SCALE:
                return looks, scale
        raise Refused("the focus does not stay where it is: drift, or a drive that slips")

    def _judge(self, scale: Scale, guess: float, says: list[Array | None], *, swing: float) -> None:
        still = scale.changes < LEAST_CHANGE or abs(scale.scale) < LEAST_SCALE * guess
        if still and swing < MOVES_SWING:
            raise Refused("the picture does not change as the motor turns: is the stage coupled to it?")
        if scale.odds < LEAST_ODDS * sum(one is not None for one in says):
            raise Refused(
                "the network hardly sees a difference between the two sides of the focus: the direction"
                f" cannot be told on this specimen; try another one (or the drive has more slack than"
                f" {self._most_slack} steps: see [stage] backlash_steps)"
            )

    def _pass(
        self, name: str, share: float, middle: float, reach: int, apart: int, *, back: bool = False
    ) -> Looks:
        """Looks ``apart`` steps apart within ``reach`` of ``middle``; going on, from beyond all slack."""
        self._told(f"looking {name}", share)
        looks, way, apart = Looks(back), -1 if back else 1, max(apart, 1)
        low, high = self._ends
        wanted = np.arange(round(middle) - reach, round(middle) + reach + 1, apart)[::way]
        places = wanted[(wanted >= low) & (wanted <= high)].tolist()
        if len(places) < LEAST_SHARE * len(wanted):
            low_um, high_um = self._rig.stage.limits_um
            raise Refused(f"the focus is too near the end of the travel ({low_um:.1f} to {high_um:.1f} µm)")
        before = max(low, places[0] - self._most_slack)
        if not back and self._screw > before:
            self._turn(before)
        for place in places:
            self._turn(place)
            self._look(looks)
        return looks

    def _take_up(self, seen: Fingerprints, dof: float) -> float:
        """Turn back until the picture has changed; the slack, about, in steps."""
        self._told("taking up the slack", 0.35)
        begin = self._screw
        room = begin - self._ends[0]
        taken, moved = 0.0, 0
        start = now = self._place(seen)
        while moved < 2:
            # A second look near the first one: farther on the network's reach may end.
            taken += STRIDE_DOF / dof if moved else max(STRIDE_DOF / dof, STRIDE_SHARE * taken)
            if taken > room:
                raise Refused("turned back as far as the soft limit, and the picture did not change")
            self._turn(begin - taken)
            now = self._place(seen)
            moved = moved + 1 if (start - now) * dof > TAKEN_UP_DOF else 0
        return max(0.0, taken - (start - now))

    def _place(self, seen: Fingerprints) -> float:
        """Where a look from here was seen before, in steps."""
        looks = Looks(back=True)
        self._look(looks)
        return self._recognised(looks, seen)[0]

    def _recognised(self, looks: Looks, seen: Fingerprints) -> list[float]:
        return [
            seen.place(self._reading(says), value)
            for says, value in zip(looks.says, looks.log_sharpness, strict=True)
        ]

    def _reading(self, says: Array | None) -> float:
        """Mean defocus in dof as the network has it; nan for nothing."""
        return math.nan if says is None else float(np.exp(says) @ self._bins)

    def _by_theory(self, places: Array, spectra: list[RingPower | None], scale: Scale) -> Fitted:
        """The scale by the wave theory of the objective; the network's where that does not hold."""
        self._told("working out the pitch", 0.82)
        kept = [(place, one) for place, one in zip(places, spectra, strict=True) if one is not None]
        at = [place for place, _ in kept]
        return through_focus.fit(
            at, [one for _, one in kept], self._rig.optics, guess=scale.scale, focus=scale.focus
        )

    def _offset(self, places: Array, says: list[Array | None], scale: Scale, optical: Fitted) -> Offset:
        """What the network says in focus; nothing is known of it where the wave theory does not hold."""
        if not optical.trusted:
            return Offset(0.0, 0.0)
        defocus = math.copysign(optical.scale, scale.scale) * (places - optical.focus)
        readings = np.array([self._reading(one) for one in says])
        return fit_offset(defocus, readings) or Offset(0.0, 0.0)

    def _settling(self, curve: Curve, scale: Scale, dof: float) -> tuple[Settling, tuple[Array, Array]]:
        """Watch frame after frame behind motions that end where sharpness is steep; ``dof``: of a step."""
        self._told("watching it settle", 0.85)
        try:
            flank = Flank(curve, scale.focus, dof)
        except ValueError as error:
            raise Refused("sharpness and network do not agree on where the focus is") from error
        return watched(
            self._rig, flank, curve, dof, lambda place: self._turn_to_place(place, curve), self._log_sharpness
        )

    def _turn_to_place(self, place: float, curve: Curve) -> None:
        """Going on, to where ``place`` of ``curve`` is by now: it holds for the middle of the time."""
        self._turn(place - curve.creep * (self._rig.clock.now_s() - curve.origin_s))

    def _end(self, curve: Curve, scale: Scale, optical: Fitted) -> None:
        """To the focus, from the side of the approach."""
        focus = optical.focus if optical.trusted else scale.focus
        self._turn(focus - 1.5 * curve.slack - 3 / abs(scale.scale))
        self._turn_to_place(focus, curve)
        self._look(Looks(back=False))

    def _exposure(self) -> tuple[float, float]:
        assert self._frame is not None
        image = self._frame.image
        return float(np.median(image.max(axis=2))), float(np.mean(image.max(axis=2) >= 254))

    def _look(self, looks: Looks) -> None:
        got = self._scope.look()
        self._frames += 1
        self._frame = got.frame
        if got.fault is not None:
            raise Refused(f"the frame is {got.fault}")
        looks.screw.append(float(self._screw))
        looks.time_s.append((got.frame.exposure_start_s + got.frame.exposure_end_s) / 2)
        looks.log_sharpness.append(math.log(got.seen.sharpness + FLOOR))
        looks.says.append(got.seen.log_likelihood)
        looks.spectra.append(spectrum_of(got.frame.image, self._rig.optics))

    def _log_sharpness(self, frame: Frame) -> float:
        self._frames += 1
        if fault := fault_of(frame.image):
            raise Refused(f"the frame is {fault}")
        return math.log(sharpness(frame.image, self._rig.optics.model_scale) + FLOOR)

    def _turn(self, screw: float) -> None:
        """Straight to ``screw``, steps in the direction of approach, or as far towards it as is allowed."""
        low, high = self._ends
        self._rig.stage.turn_screw_to(self._sign * min(max(round(screw), low), high))

    @property
    def _screw(self) -> int:
        return self._sign * self._rig.stage.screw_steps

    @property
    def _ends(self) -> tuple[int, int]:
        """Between which the screw may be turned, in steps in the direction of approach."""
        stage = self._rig.stage
        low, high = sorted(self._sign * um / stage.um_per_step for um in stage.limits_um)
        return math.ceil(low - 1e-6), math.floor(high + 1e-6)

    @property
    def _most_slack(self) -> int:
        """The farthest that slack is expected to reach."""
        return round(2.5 * self._config.stage.backlash_steps)

    @property
    def _bins(self) -> Array:
        return self._model.bins_dof(self._rig.optics)
