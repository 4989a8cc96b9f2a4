"""Recording a z-stack about the focus of one field. It MOVES the stage.

    the ordinary loop finds the focus      ──────▶ •
    exposure is held as it is there                ▮
    to the far end, against the approach   ◀───────┘
    plane after plane, one settled frame   •─•─•─•─•─•─•─•─•▶     always on in the direction of approach,
    back to the focus of the planes                •              so slack has no part in the distances

Where a field is in focus is measured on its own planes: its geometric focus by the wave theory of the
objective, where that holds, else its sharpest place, and a field that has neither is not kept. The sharpest
place of a specimen that refracts lies about a depth of field beside the geometric focus (decision 0003), so
about.json keeps both, where the loop ended, and of a simulated field where the focus is.

Of a microscope that nobody has calibrated, lengths are what the configured pitch makes of them; `gain` in
about.json is what the loop found the pitch to be in units of that, negative for the other direction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge.belief import KNOWN
from edge.camera.health import fault_of
from edge.collect_plan import Plan, Recorded, Refused
from edge.errors import InputError
from edge.files import RGB
from edge.microscope import Microscope
from edge.ring_power import RingPower
from edge.sharpness import sharpness
from edge.stack_focus import focus_scale
from edge.stack_theory import FocusOfPlanes, focus_of_planes, spectrum_of
from edge.through_focus import PITCH_SIGMA
from edge.zstack import write_zstack
from firmware_iface.errors import MotionError, MoveCancelled

__all__ = ["Collector"]

#: So many planes must find room on either side of the focus, else the peak could not be told.
FEWEST_BESIDE = 2


class Collector:
    """Records fields with ``scope``, whose rig is entered. ``facts``: keys of about.json that are known
    before. ``seen(image)`` is called with each plane, ``told(planes done, planes)`` once it is written.
    ``cancel()`` is asked all the time: once it is true the motor is stopped, and nothing moves any more.
    """

    def __init__(
        self,
        scope: Microscope,
        plan: Plan,
        facts: Mapping[str, Any],
        *,
        told: Callable[[int, int], None] = lambda done, of: None,
        seen: Callable[[RGB], None] = lambda image: None,
        cancel: Callable[[], bool] = lambda: False,
    ) -> None:
        self._scope, self._rig, self._plan, self._facts = scope, scope.rig, plan, facts
        self._told, self._show, self._cancel = told, seen, cancel
        self._seen: dict[float, float] = {}
        self._truth: dict[float, float] = {}
        self._spectra: dict[float, RingPower | None] = {}
        self._focus: FocusOfPlanes | None = None
        self._loop_um = 0.0

    def record(self, path: Path) -> Recorded:
        """Focus, record a z-stack into the new folder ``path``, go to its focus. MOVES the stage, BLOCKS.

        Raises Refused where no focus is found, the limits leave no room about it, a frame shows nothing or
        the planes do not tell their focus; OSError where the disk is full or the camera fails: then the stage
        goes back to where the loop left it, and ``path`` is not there. MoveCancelled after a cancel: nor is
        it then, and the stage stays where it was stopped. So it does where errors of the motor pass. A cancel
        that comes when all is written ends the way to the focus, and is no error.
        """
        result = self._scope.focus(cancel=self._cancel)
        if result.result != "focused":
            self._check_cancel()
            raise Refused(f"{result.result.replace('_', ' ')}: {result.reason}")
        stage, began = self._rig.stage, self._rig.stage.position_steps
        self._seen.clear()
        self._truth.clear()
        self._spectra.clear()
        self._focus = None
        self._loop_um = stage.position_um
        try:
            self._rig.camera.lock()
            write_zstack(path, self._planes(self._places(began)), self._about)
        except MotionError:  # some of them are an OSError, too; a motor that was stopped is left alone
            raise
        except (Refused, OSError, InputError):
            self._back_to(began)
            raise
        finally:
            self._rig.camera.unlock()
        focus, z_um = self._found_focus(), sorted(self._seen)
        assert focus.z_um is not None
        with contextlib.suppress(MoveCancelled):
            self._back_to(round(focus.z_um / stage.um_per_step))
        return Recorded(
            path.name,
            len(z_um),
            self._step_um,
            z_um[0],
            z_um[-1],
            focus.z_um,
            focus.by_theory,
            focus.peak.sharpness,
        )

    @property
    def _step_um(self) -> float:
        return self._plan.step_steps(self._rig) * self._rig.stage.um_per_step

    def _places(self, focus: int) -> list[int]:
        """The planes about ``focus`` in steps, in the order of approach; those out of reach left out."""
        stage, step = self._rig.stage, self._plan.step_steps(self._rig)
        low, high = (um / stage.um_per_step for um in stage.reachable_um)
        half = self._plan.planes // 2
        # Half a thousandth of a step: limits in µm are not whole steps to the last bit.
        fits = [k for k in range(-half, half + 1) if low - 5e-4 <= focus + k * step <= high + 5e-4]
        if not fits or fits[0] > -FEWEST_BESIDE or fits[-1] < FEWEST_BESIDE:
            raise Refused(
                f"the focus at {focus * stage.um_per_step:.2f} µm is too near a limit:"
                f" {low * stage.um_per_step:.2f} to {high * stage.um_per_step:.2f} µm can be reached"
            )
        return [focus + k * step for k in fits][:: self._scope.config.stage.approach_sign]

    def _planes(self, places: list[int]) -> Iterator[tuple[str, float, RGB]]:
        """Each plane as it is recorded, named by its number in rising z. Moves the stage."""
        stage, optics = self._rig.stage, self._rig.optics
        scale = 1.0 if self._rig.assumed else focus_scale(optics.objective, optics.pixel_um)
        number = {place: k for k, place in enumerate(sorted(places))}
        for done, place in enumerate(places, start=1):
            self._check_cancel()  # a place where it already stands takes no move
            stage.move_to_steps(place, cancel=self._cancel)
            image = self._scope.settled_frame().image
            if fault := fault_of(image):
                raise Refused(f"the frame at {stage.position_um:.2f} µm is {fault}")
            z_um = round(stage.position_um, 6)
            self._seen[z_um] = sharpness(image, scale)
            self._spectra[z_um] = None if self._rig.assumed else spectrum_of(image, optics)
            if self._rig.true_defocus_um is not None:
                self._truth[z_um] = self._rig.true_defocus_um()
            self._show(image)
            yield f"plane{number[place]:03d}.png", z_um, image
            self._told(done, len(places))
        self._check_cancel()

    def _about(self) -> dict[str, Any]:
        """All of about.json, once every plane was seen. Refused where they do not tell the focus."""
        z_um = sorted(self._seen)
        values = [self._seen[z] for z in z_um]
        focus = self._found_focus()
        return {
            **self._facts,
            "focus_z": focus.z_um,
            "focus_from": "theory" if focus.by_theory else "measured",
            "sharpest_z": focus.peak.position if focus.peak.clear else None,
            "loop_focus_z": round(self._loop_um, 6),
            **self._true_focus(),
            "step_um": self._step_um,
            "step_dof": self._plan.step_dof_of(self._rig),
            **({} if self._rig.gains is KNOWN else {"gain": self._scope.gain}),
            "planes": len(z_um),
            "planes_asked": self._plan.planes,
            "sharpness": {"lowest_z": values[0], "peak": focus.peak.sharpness, "highest_z": values[-1]},
            "exposure_locked": True,
        }

    def _true_focus(self) -> dict[str, float]:
        """Where a simulated field is in geometric focus; nothing of a real one."""
        if not self._truth:
            return {}
        slope, at_zero = np.polyfit(list(self._truth), list(self._truth.values()), 1)
        return {"true_focus_z": float(-at_zero / slope)}

    def _found_focus(self) -> FocusOfPlanes:
        """The focus by all planes. Refused where neither the theory nor a clear peak tells it."""
        if self._focus is None:
            z_um = sorted(self._seen)
            dof_per_um, sigma = self._optical_scale()
            self._focus = focus_of_planes(
                z_um,
                [self._seen[z] for z in z_um],
                [self._spectra[z] for z in z_um],
                self._rig.optics,
                else_near_um=self._loop_um,
                dof_per_um=dof_per_um,
                sigma=sigma,
                progress=self._still_fitting,
            )
        if self._focus.z_um is None:
            raise Refused(self._focus.peak.reason)
        return self._focus

    def _still_fitting(self) -> None:
        self._check_cancel()
        self._told(len(self._seen), len(self._seen))

    def _optical_scale(self) -> tuple[float, float]:
        """Depths of field of the optics that a µm of the stage is, above 0, and the uncertainty of its
        logarithm.
        """
        rig, found = self._rig, self._rig.calibration
        if found is not None:
            sigma = found.optical_dof_per_step_sigma / found.optical_dof_per_step
            return found.optical_dof_per_step / rig.stage.um_per_step, max(sigma, 1e-3)
        gain = 1.0 if rig.gains is KNOWN else abs(self._scope.gain or 1.0)
        return gain / rig.optics.dof_um, PITCH_SIGMA

    def _back_to(self, place: int) -> None:
        """To ``place`` (steps), or as near as every move can go."""
        stage = self._rig.stage
        low, high = (round(um / stage.um_per_step) for um in stage.reachable_um)
        stage.move_to_steps(min(max(place, low), high), cancel=self._cancel)

    def _check_cancel(self) -> None:
        if self._cancel():
            raise MoveCancelled(f"stopped at {self._rig.stage.position_um:.2f} µm")
