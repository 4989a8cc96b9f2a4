"""The model that ships: it opens on every runtime here, they agree, and the loop focuses with it."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from edge import model as models
from edge.config import load_config, override
from edge.microscope import Microscope
from edge.optics import Objective, Optics, natural_pixel_um
from edge.rig import simulated_rig
from edge.run_result import Result
from edge.simulator.formation import ImageFormer, Imaging, source_points
from edge.simulator.sensor import Exposer, Sensor
from edge.simulator.specimens import make

OBJECTIVE = Objective(20, 0.4)
OPTICS = Optics(OBJECTIVE, natural_pixel_um(OBJECTIVE))


@functools.cache
def network() -> models.Model:
    return models.load("default")


@functools.cache
def frames(name: str) -> dict[float, np.ndarray]:
    """One field that no training saw (a seed of another residue), at five distances."""
    specimen = make(name, (256, 256), 3 * 1234 + 2)
    exposer = Exposer(Sensor(), (256, 256), np.random.default_rng(0))
    defoci = [-6.0, -2.0, 0.0, 2.0, 6.0]
    images = ImageFormer(specimen, Imaging()).images(defoci, source_points(Imaging(), 32))
    return {d: exposer.expose(image) for d, image in zip(defoci, images, strict=True)}


def focus(name: str, start_defocus_um: float, seed: int, **sections: dict[str, object]) -> Result:
    config = override(
        load_config(None), "test", **{"simulator": {"specimen": name, "seed": seed}, **sections}
    )
    rig = simulated_rig(config, start_defocus_um=start_defocus_um)
    with rig:
        return Microscope(rig, network(), config).focus()


class TestCard:
    def test_says_what_it_was_trained_on_and_how_good_it_is(self) -> None:
        card = network().card
        assert card.unit == "dof"
        assert card.recipe["data"]["seed"] == 1
        for kind in ("float", "int8"):
            figures = card.metrics[kind]
            assert figures["frame_median_abs_dof_within_3"] < 0.5
            assert figures["frame_wrong_direction"] < 0.10
        assert card.metrics["int8"]["frame_mae_dof"] < 1.05 * card.metrics["float"]["frame_mae_dof"]

    def test_is_small(self) -> None:
        assert models.DEFAULT_PATH.stat().st_size < 700_000


class TestEstimate:
    @pytest.mark.parametrize("name", ["tissue", "blood", "debris"])
    def test_farther_looks_farther(self, name: str) -> None:
        distance = {}
        for defocus, frame in frames(name).items():
            look = network().look(frame, OPTICS, most_tiles=9)
            assert look.log_likelihood is not None
            distance[defocus] = float((np.exp(look.log_likelihood) * np.abs(look.bin_centres_dof)).sum())
        assert distance[0.0] < 1.0
        assert distance[0.0] < min(distance[2.0], distance[-2.0])
        assert max(distance[2.0], distance[-2.0]) < min(distance[6.0], distance[-6.0])

    @pytest.mark.parametrize("runtime", models.available_runtimes())
    def test_runtimes_agree(self, runtime: str) -> None:
        other = models.load("default", runtime=runtime)
        for frame in frames("tissue").values():
            ours, theirs = (
                np.exp(m.look(frame, OPTICS, most_tiles=4).log_likelihood) for m in (network(), other)
            )
            assert 0.5 * np.abs(ours - theirs).sum() < 0.1, "total variation of what the frame says"


class TestLoop:
    @pytest.mark.parametrize("name", ["tissue", "blood", "debris"])
    def test_focuses_from_either_side(self, name: str) -> None:
        for start_um in (-28.0, -6.0, 12.0, 30.0):
            result = focus(name, start_um, seed=5)
            assert result.result == "focused"
            assert result.true_defocus_dof is not None
            assert abs(result.true_defocus_dof) <= 1.0, (start_um, result)
            assert result.captures <= 8

    def test_an_empty_field_is_left_as_it_was(self) -> None:
        result = focus("empty", 10.0, seed=5)
        assert (result.result, result.captures <= 5) == ("no_specimen", True)
        assert result.position_um == pytest.approx(0.0, abs=0.1)
