"""The focus of a z-stack by the wave theory, against simulated ones whose focus is known."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from edge.files import RGB
from edge.optics import Objective, Optics, natural_pixel_um
from edge.sharpness import sharpness
from edge.simulator.formation import Imaging
from edge.simulator.recording import exposures
from edge.simulator.sensor import Sensor
from edge.simulator.specimens import make
from edge.stack_focus import peak_of
from edge.stack_theory import focus_of_planes, geometric_focus, spectrum_of

OBJECTIVE = Objective(20, 0.4)
OPTICS = Optics(OBJECTIVE, natural_pixel_um(OBJECTIVE))
DOF_UM = OPTICS.dof_um
DEFOCI = np.linspace(-6, 6, 21)
ABERRATED = Imaging(na_over_n=0.4, spherical_waves=0.2, coma_waves=(0.15, 0.1), astigmatism_waves=0.05)
FOCUS_UM = 40.0


@lru_cache
def frames(specimen: str) -> list[RGB]:
    rng = np.random.default_rng(2)
    return list(exposures(make(specimen, (256, 256), 5), ABERRATED, Sensor(), DEFOCI.tolist(), rng))


def focus_of(
    planes: slice, specimen: str = "tissue", *, sign: int = 1, near_dof: float = 0.0, z_scale: float = 1.0
) -> float | None:
    """In dof beside the true one, of these planes of a stack; ``z_scale``: what z is taken for."""
    z_um = FOCUS_UM + sign * DEFOCI[planes] * DOF_UM * z_scale
    spectra = [spectrum_of(frame, OPTICS) for frame in frames(specimen)[planes]]
    found = geometric_focus(
        z_um[::sign].tolist(),
        spectra[::sign],
        OPTICS,
        near_um=FOCUS_UM + near_dof * DOF_UM,
        dof_per_um=sign / DOF_UM,
    )
    return None if found is None else (found - FOCUS_UM) / DOF_UM


@pytest.mark.parametrize("specimen", ["tissue", "debris"])
@pytest.mark.parametrize("sign", [1, -1])
def test_aberrations_shift_the_sharpest_place_and_not_this_one(specimen: str, sign: int) -> None:
    sharp = [sharpness(frame) for frame in frames(specimen)]
    peak = peak_of(DEFOCI.tolist(), sharp)
    assert not peak.clear or abs(peak.position) > 0.6
    found = focus_of(slice(None), specimen, sign=sign, near_dof=-1.0)
    assert found == pytest.approx(0.0, abs=0.35)


@pytest.mark.parametrize("z_scale", [0.85, 1.2])
def test_a_wrong_pitch_does_not_matter(z_scale: float) -> None:
    assert focus_of(slice(None), z_scale=z_scale) == pytest.approx(0.0, abs=0.35)


def test_what_tells_nothing() -> None:
    assert focus_of(slice(0, 11)) is None, "too few planes"
    assert focus_of(slice(9, None), near_dof=3.0) is None, "the focus is not within them"
    assert focus_of(slice(None), z_scale=2.0) is None, "planes too far apart"
    assert spectrum_of(np.zeros((100, 100, 3), np.uint8), OPTICS) is None


def of_planes(specimen: str, planes: slice = slice(None)) -> tuple[float | None, bool, bool]:
    """Where, in dof; whether by theory; whether the peak is clear."""
    shown = frames(specimen)[planes]
    found = focus_of_planes(
        (DEFOCI[planes] * DOF_UM).tolist(),
        [sharpness(frame) for frame in shown],
        [spectrum_of(frame, OPTICS) for frame in shown],
        OPTICS,
        else_near_um=0.0,
        dof_per_um=1 / DOF_UM,
    )
    return None if found.z_um is None else found.z_um / DOF_UM, found.by_theory, found.peak.clear


def test_the_theory_goes_first_then_a_clear_peak_then_nothing() -> None:
    where, by_theory, _ = of_planes("tissue")
    assert by_theory
    assert where == pytest.approx(0.0, abs=0.35)
    where, by_theory, clear = of_planes("tissue", slice(4, 15))
    assert (by_theory, clear) == (False, True), "too few planes for the theory"
    assert where is not None
    assert 0.3 < abs(where) < 2.0
    assert of_planes("empty") == (None, False, False)
