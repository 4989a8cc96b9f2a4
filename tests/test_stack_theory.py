"""The focus of a z-stack by the wave theory, against simulated ones whose focus is known."""

from __future__ import annotations

import json
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import Parfocal

from edge import model as models
from edge import stack_theory
from edge.adapt_stacks import opened
from edge.config import parse_config
from edge.files import RGB
from edge.optics import Objective, Optics, natural_pixel_um
from edge.sharpness import sharpness
from edge.simulator.formation import Imaging
from edge.simulator.recording import exposures
from edge.simulator.sensor import Sensor
from edge.simulator.specimens import make
from edge.stack_focus import peak_of
from edge.stack_theory import focus_of_planes, focus_of_stack, geometric_focus, spectrum_of
from edge.zstack import ZStack, write_zstack
from train.assumed import Assumed
from train.stacks import stack_shots

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


def written(folder: Path) -> Path:
    """A z-stack of 13 planes about the focus, which its about.json does not state, a depth of field apart."""
    rng = np.random.default_rng(2)
    defoci = [float(k) for k in range(-6, 7)]
    shown = exposures(make("tissue", (256, 256), 5), ABERRATED, Sensor(), defoci, rng)
    planes = [
        (f"p{k:02d}.png", FOCUS_UM + x * DOF_UM, frame)
        for k, (x, frame) in enumerate(zip(defoci, shown, strict=True))
    ]
    write_zstack(folder, planes, {"objective": "20x0.40", "pixel_um": OPTICS.pixel_um})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Planes one depth of field apart, and what rounding makes of that."""
    return written(tmp_path_factory.mktemp("planes") / "s")


class TestOfAStack:
    def test_planes_one_depth_of_field_apart_will_do(self, folder: Path) -> None:
        z_um, found = focus_of_stack(ZStack.open(folder), OPTICS)
        assert found.by_theory
        assert z_um == pytest.approx(FOCUS_UM, abs=0.35 * DOF_UM)
        assert not found.peak.clear or abs(found.peak.position - FOCUS_UM) > 0.6 * DOF_UM

    def test_training_labels_by_it_and_says_so(self, folder: Path) -> None:
        shots, notes = stack_shots([folder], Assumed())
        assert [round(shot.defocus_um / DOF_UM) for shot in shots] == list(range(-6, 7))
        assert any("measured on its planes, by the wave theory of its objective: " in note for note in notes)

    def test_so_does_an_import(self, folder: Path, tmp_path: Path, parfocal: Parfocal) -> None:
        code, out, _ = parfocal("import-stack", folder, tmp_path / "o", "--focus", "measure")
        assert code == 0
        assert "(theory)" in out
        about = ZStack.open(tmp_path / "o").about
        assert about["focus_from"] == "theory"
        assert about["focus_z"] == pytest.approx(FOCUS_UM, abs=0.35 * DOF_UM)

    def test_without_an_objective_it_is_where_they_are_sharpest(self, folder: Path) -> None:
        z_um, found = focus_of_stack(ZStack.open(folder), None)
        assert not found.by_theory
        assert z_um == found.peak.position
        assert abs(found.peak.position - FOCUS_UM) > 0.6 * DOF_UM

    def test_the_wavelength_is_the_one_that_is_stated(
        self, folder: Path, tmp_path: Path, parfocal: Parfocal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: list[float] = []

        def spy(*given: Any, **named: Any) -> stack_theory.FocusOfPlanes:
            said.append(given[3].wavelength_um)
            return stack_theory.FocusOfPlanes(FOCUS_UM, True, peak_of([0, 1, 2], [1, 2, 1]))

        monkeypatch.setattr(stack_theory, "focus_of_planes", spy)
        config = parse_config("[optics]\nwavelength_um = 0.5\n", source="test")
        stacks = [folder, shutil.copytree(folder, tmp_path / "other")]
        opened(stacks, config, models.load(config.model.path), step_um=None)
        own = shutil.copytree(folder, tmp_path / "s")
        about = json.loads((own / "about.json").read_text("utf-8"))
        (own / "about.json").write_text(json.dumps({**about, "wavelength_um": 0.6}), "utf-8")
        stack_shots([own], Assumed())
        assert parfocal("import-stack", own, tmp_path / "o", "--focus", "measure")[0] == 0
        assert said == [0.5, 0.5, 0.6, 0.6]
