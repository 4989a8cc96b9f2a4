"""Depth of field and sampling against textbook figures; objectives read, or refused with what is allowed."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.optics import PIXELS_PER_RESOLUTION, Objective, Optics, natural_pixel_um

apertures = st.floats(min_value=0.05, max_value=0.95)
sizes_um = st.floats(min_value=0.01, max_value=5.0)
wavelengths_um = st.floats(min_value=0.2, max_value=2.0)


class TestObjective:
    @pytest.mark.parametrize(
        ("text", "magnification", "na", "index"),
        [
            ("20x0.40", 20.0, 0.40, 1.0),
            ("20x/0.40", 20.0, 0.40, 1.0),
            ("20/0.4", 20.0, 0.40, 1.0),
            ("  4X / .1 ", 4.0, 0.1, 1.0),
            ("2.5x0.075", 2.5, 0.075, 1.0),
            ("40x0.65 air", 40.0, 0.65, 1.0),
            ("100x1.25oil", 100.0, 1.25, 1.515),
            ("100x/1.25", 100.0, 1.25, 1.515),
            ("60x1.2water", 60.0, 1.2, 1.333),
            ("63x1.3 glycerol", 63.0, 1.3, 1.474),
            ("40x0.75oil", 40.0, 0.75, 1.515),
        ],
    )
    def test_reads(self, text: str, magnification: float, na: float, index: float) -> None:
        assert Objective.parse(text) == Objective(magnification, na, index)

    @pytest.mark.parametrize(
        ("text", "given_index", "index"),
        [
            ("20x0.40", 1.0, 1.0),
            ("40x0.80", 1.333, 1.333),  # a water dipping lens, told by the config
            ("100x1.25", 1.0, 1.515),  # an NA above 1 in air cannot be: the config's default gives way
            ("60x1.20", 1.333, 1.333),
            ("100x1.25oil", 1.333, 1.515),  # the text is nearer to the lens than the config
        ],
    )
    def test_the_medium_in_the_text_wins(self, text: str, given_index: float, index: float) -> None:
        assert Objective.parse(text, given_index).immersion_index == index

    @pytest.mark.parametrize(
        "text", ["", "20", "0.40", "20 0.40", "20x", "x0.40", "20x0.40mud", "20x0.4.0", "-20x0.40", "20x1e-1"]
    )
    def test_refuses_what_is_no_objective(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"write magnification and NA, such as 20x0\.40") as caught:
            Objective.parse(text)
        assert repr(text) in str(caught.value)

    @pytest.mark.parametrize(
        ("magnification", "na", "index", "message"),
        [
            (0.4, 0.1, 1.0, "magnification = 0.4: 0.5 to 250"),
            (251.0, 0.1, 1.0, "magnification = 251.0: 0.5 to 250"),
            (math.nan, 0.1, 1.0, "magnification = nan"),
            (math.inf, 0.1, 1.0, "magnification = inf"),
            (20.0, 0.0, 1.0, "NA = 0.0: 0.01 up to the immersion index 1.0"),
            (20.0, 1.0, 1.0, "NA = 1.0: 0.01 up to the immersion index 1.0"),
            (20.0, 1.4, 1.333, "NA = 1.4: 0.01 up to the immersion index 1.333"),
            (20.0, math.nan, 1.0, "NA = nan"),
            (20.0, 0.4, 0.9, "immersion index = 0.9: 1.0 to 2.0"),
            (20.0, 0.4, math.inf, "immersion index = inf: 1.0 to 2.0"),
        ],
    )
    def test_refuses_impossible_numbers(
        self, magnification: float, na: float, index: float, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            Objective(magnification, na, index)

    def test_refuses_an_impossible_objective_in_text(self) -> None:
        with pytest.raises(ValueError, match=r"NA = 1\.6"):
            Objective.parse("100x1.60oil")

    @given(st.integers(1, 250), st.integers(1, 99))
    def test_a_dry_objective_survives_its_text(self, magnification: int, na_percent: int) -> None:
        objective = Objective(float(magnification), na_percent / 100)
        assert Objective.parse(str(objective)) == objective

    def test_text(self) -> None:
        assert str(Objective(2.5, 0.1)) == "2.5x0.10"
        assert str(Objective(100, 1.25, 1.515)) == "100x1.25"


class TestOptics:
    @pytest.mark.parametrize(
        ("text", "dof_um", "resolution_um"),
        [
            ("10x0.25", 8.80, 2.20),
            ("20x0.40", 3.4375, 1.375),
            ("40x0.65", 1.3018, 0.8462),
            ("100x1.25oil", 0.5333, 0.44),  # n lambda / NA^2: the oil counts
        ],
    )
    def test_textbook_figures(self, text: str, dof_um: float, resolution_um: float) -> None:
        optics = Optics(Objective.parse(text), pixel_um=0.1)
        assert optics.dof_um == pytest.approx(dof_um, rel=1e-4)
        assert optics.resolution_um == pytest.approx(resolution_um, rel=1e-4)

    @given(apertures, sizes_um, wavelengths_um, st.floats(-1e4, 1e4))
    def test_units_go_there_and_back(
        self, na: float, pixel_um: float, wavelength_um: float, defocus: float
    ) -> None:
        optics = Optics(Objective(20, na), pixel_um, wavelength_um)
        assert optics.dof_from_um(optics.um_from_dof(defocus)) == pytest.approx(defocus)
        assert optics.um_from_dof(1.0) == optics.dof_um
        assert optics.um_from_dof(-defocus) == -optics.um_from_dof(defocus)

    @given(apertures, sizes_um, wavelengths_um)
    def test_resampled_pixels_divide_the_resolution(
        self, na: float, pixel_um: float, wavelength_um: float
    ) -> None:
        optics = Optics(Objective(20, na), pixel_um, wavelength_um)
        resampled_pixel_um = pixel_um / optics.model_scale
        assert optics.resolution_um / resampled_pixel_um == pytest.approx(PIXELS_PER_RESOLUTION)

    @given(apertures, wavelengths_um)
    def test_the_natural_pixel_needs_no_resampling(self, na: float, wavelength_um: float) -> None:
        objective = Objective(40, na)
        optics = Optics(objective, natural_pixel_um(objective, wavelength_um), wavelength_um)
        assert optics.model_scale == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("pixel_um", "wavelength_um", "message"),
        [
            (0.0, 0.55, "pixel_um = 0.0: a size above 0"),
            (-1.0, 0.55, "pixel_um = -1.0"),
            (math.nan, 0.55, "pixel_um = nan"),
            (math.inf, 0.55, "pixel_um = inf"),
            (0.1, 0.19, "wavelength_um = 0.19: 0.2 to 2.0"),
            (0.1, 550.0, "wavelength_um = 550.0: 0.2 to 2.0"),  # nanometres by mistake
            (0.1, math.nan, "wavelength_um = nan"),
        ],
    )
    def test_refuses_impossible_numbers(self, pixel_um: float, wavelength_um: float, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Optics(Objective(20, 0.4), pixel_um, wavelength_um)

    def test_is_frozen(self) -> None:
        optics = Optics(Objective(20, 0.4), 0.1)
        with pytest.raises(FrozenInstanceError):
            optics.pixel_um = 0.2  # type: ignore[misc]
