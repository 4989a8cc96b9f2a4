"""Simulated data in the layout of Jiang 2018: names that say the truth, slides that do not mix, whole or
nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import Parfocal

from edge.errors import InputError
from edge.files import RGB, encode_png, read_image
from edge.simulator.formation import ImageFormer, source_points
from edge.simulator.jiang import OTHER, SAME, TRAIN, Plan, Slide, defoci_nm, field, slides_of, write_jiang
from edge.simulator.sensor import Exposer
from edge.simulator.specimens import Specimen, make
from edge.simulator.workers import asked_to_stop, spread

QUICK = ("--layout", "jiang", "--slides", 1, "--locations", 1, "--planes", 2, "--size", 224)
FOLDER = re.compile(r"s(\d+)_l(\d+)")
TILE = re.compile(r"Seg(\d+)_defocus(-?\d+)\.jpg")
FRAME = re.compile(r"defocus(-?\d+)\.jpg")


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _about(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((folder / "about.json").read_text("utf-8"))
    return about


def _photographs(folder: Path, count: int) -> Path:
    folder.mkdir()
    for k in range(count):
        image = np.random.default_rng(k).integers(0, 255, (300, 300, 3)).astype(np.uint8)
        (folder / f"p{k}.png").write_bytes(encode_png(image))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A data set of four slides, not to be changed; its frames have room for 2 x 2 tiles."""
    plan = Plan(slides=2, locations=3, planes=3, step_nm=701, size_px=450, seed=2)
    folder = tmp_path_factory.mktemp("jiang") / "made"
    write_jiang(plan, folder, processes=1)
    return plan, folder


class TestLayout:
    def test_names_are_those_of_the_original(self, made: tuple[Plan, Path]) -> None:
        plan, folder = made
        assert sorted(p.name for p in folder.iterdir()) == ["about.json", "incoherent_RGBchannels"]
        for part, slides, locations in ((TRAIN, 2, 3), (SAME, 1, 2), (OTHER, 1, 2)):
            places = sorted((folder / part).iterdir())
            assert len(places) == slides * locations
            for place in places:
                assert FOLDER.fullmatch(place.name)
                names = [p.name for p in place.iterdir()]
                found = [(TILE if part == TRAIN else FRAME).fullmatch(name) for name in names]
                assert all(found), names
                assert len(names) == plan.planes * (4 if part == TRAIN else 1)
                if part == TRAIN:
                    assert {int(match[1]) for match in found if match} == {1, 2, 3, 4}

    def test_tiles_and_frames_have_their_sizes(self, made: tuple[Plan, Path]) -> None:
        _, folder = made
        for part, size in ((TRAIN, 224), (SAME, 450), (OTHER, 450)):
            for file in (folder / part).rglob("*.jpg"):
                assert read_image(file).shape == (size, size, 3)

    def test_no_slide_is_in_two_parts(self, made: tuple[Plan, Path]) -> None:
        _, folder = made
        slides = [
            {int(p.name.split("_")[0][1:]) for p in (folder / part).iterdir()}
            for part in (TRAIN, SAME, OTHER)
        ]
        assert slides == [{1, 2}, {3}, {4}]

    def test_planes_are_a_step_apart_and_each_location_has_its_own_offset(
        self, made: tuple[Plan, Path]
    ) -> None:
        plan, folder = made
        middles = []
        for place in sorted((folder / TRAIN).iterdir()):
            nm = sorted({int(match[2]) for p in place.iterdir() if (match := TILE.fullmatch(p.name))})
            assert np.diff(nm).tolist() == [plan.step_nm] * (plan.planes - 1)
            middles.append(nm[1])
        assert max(map(abs, middles)) <= plan.step_nm / 2
        assert len(set(middles)) > len(middles) / 2

    def test_about_tells_the_optics_and_the_slides(self, made: tuple[Plan, Path]) -> None:
        about = _about(made[1])
        assert about["objective"] == "20x0.75"
        assert about["pixel_um"] == pytest.approx(0.55 / 0.75 / 4)
        assert about["dof_um"] == pytest.approx(0.55 / 0.75**2)
        assert (about["wavelength_um"], about["seed"], about["optics"]) == (0.55, 2, "fixed")
        assert (about["source"], about["licence"]) == ("parfocal simulate", "simulated")
        assert [slide["slide"] for slide in about["slides"]] == [1, 2, 3, 4]
        assert [slide["folder"] for slide in about["slides"]] == [TRAIN, TRAIN, SAME, OTHER]
        assert about["slides"][0]["specimen"] == "tissue"
        first, *_, same, other = about["slides"]
        assert same["imaging"] == first["imaging"] == other["imaging"]
        assert same["sensor"] == first["sensor"]
        assert other["sensor"]["white_balance"] != first["sensor"]["white_balance"]
        assert other["sensor"]["background"] < first["sensor"]["background"]
        assert same["dyes"] == first["dyes"] == [1, 1, 1]
        assert min(abs(np.log(other["dyes"]))) > 0.2
        for slide in about["slides"]:
            for name, nm in slide["first_defocus_nm"].items():
                assert list((made[1] / slide["folder"] / name).glob(f"*defocus{nm}.jpg"))


class TestTruth:
    def test_the_name_is_the_defocus_that_was_simulated(self, made: tuple[Plan, Path]) -> None:
        """Of defoci around it, that of the name gives the frames most like the JPEGs, and nearly they are.

        The few random source points of one frame alone are worth some 0.1 depths of field: hence all frames.
        """
        plan, folder = made
        wrong_nm = (-200, 0, 200)
        differences = []
        for slide in slides_of(plan)[-2:]:
            specimen = field(plan, slide, 1)
            for nm in defoci_nm(plan, slide, 1):
                shown = read_image(folder / slide.part / f"s{slide.number}_l1" / f"defocus{nm}.jpg")
                tried = _frames(plan, slide, specimen, [nm + wrong for wrong in wrong_nm])
                differences.append([_difference(shown, frame) for frame in tried])
        mean = np.mean(differences, axis=0)
        assert int(np.argmin(mean)) == 1, differences
        assert max(differences, key=lambda three: three[1])[1] < 4

    def test_tiles_lie_side_by_side_in_the_middle_of_the_frame(self, made: tuple[Plan, Path]) -> None:
        plan, folder = made
        slide = slides_of(plan)[0]
        nm = defoci_nm(plan, slide, 2)[1]
        frame = _frames(plan, slide, field(plan, slide, 2), [nm])[0]
        for number, (y, x) in enumerate(((1, 1), (1, 225), (225, 1), (225, 225)), start=1):
            tile = read_image(folder / TRAIN / "s1_l2" / f"Seg{number}_defocus{nm}.jpg")
            assert _difference(tile, frame[y : y + 224, x : x + 224]) < 4

    def test_an_odd_step_and_an_even_number_of_planes_stay_whole_nanometres(self) -> None:
        plan = Plan(slides=1, locations=1, planes=4, step_nm=3, seed=1)
        nm = defoci_nm(plan, slides_of(plan)[0], 1)
        assert np.diff(nm).tolist() == [3, 3, 3]
        assert abs(np.mean(nm)) <= 1.5


def _frames(plan: Plan, slide: Slide, specimen: Specimen, all_nm: list[int]) -> list[RGB]:
    """Frames at ``all_nm`` without noise, under more and other source points than those of the files."""
    points = source_points(slide.imaging, 30)
    defoci_dof = [plan.optics().dof_from_um(nm / 1000) for nm in all_nm]
    quiet = replace(slide.sensor, full_well_e=1e9, read_noise_e=0.0)
    exposer = Exposer(quiet, specimen.shape, np.random.default_rng(0))
    return [exposer.expose(one) for one in ImageFormer(specimen, slide.imaging).images(defoci_dof, points)]


def _difference(one: RGB, two: RGB) -> float:
    return float(np.abs(one.astype(float) - two.astype(float)).mean())


class TestSlides:
    def test_fields_of_a_slide_differ_and_share_its_stain(self) -> None:
        plan = Plan(slides=4, locations=2, size_px=224)
        hues = []
        for slide in slides_of(plan)[:2]:
            assert slide.specimen == "tissue"
            fields = [field(plan, slide, location) for location in (1, 2)]
            assert not np.array_equal(fields[0].od, fields[1].od)
            hues.append([_hue(one) for one in fields])
        within = max(np.abs(one - two).max() for one, two in hues)
        between = min(np.abs(one - two).max() for one in hues[0] for two in hues[1])
        assert within < between

    @pytest.mark.parametrize("kind", ["tissue", "blood", "debris"])
    def test_a_slide_seed_decides_what_its_fields_share(self, kind: str) -> None:
        one, two = (make(kind, (224, 224), seed, slide_seed=7) for seed in (1, 2))
        assert not np.array_equal(one.od, two.od)
        assert np.array_equal(one.od, make(kind, (224, 224), 1, slide_seed=7).od)
        assert not np.array_equal(one.od, make(kind, (224, 224), 1, slide_seed=8).od)

    def test_the_other_lab_stains_otherwise(self) -> None:
        plan = Plan(slides=1, locations=1, size_px=224)
        _, same, other = slides_of(plan)
        assert np.abs(_hue(field(plan, same, 1)) - _hue(field(plan, other, 1))).max() > 0.05

    def test_a_slide_does_not_change_with_the_number_of_locations(self, tmp_path: Path) -> None:
        small = {"slides": 1, "planes": 2, "size_px": 224}
        for locations in (1, 2):
            write_jiang(Plan(locations=locations, **small), tmp_path / str(locations), processes=1)
        one, two = (_bytes(tmp_path / str(locations) / TRAIN) for locations in (1, 2))
        assert one == {name: data for name, data in two.items() if name.startswith("s1_l1/")}
        assert len(two) == 2 * len(one)

    def test_random_optics_are_those_of_the_slide(self) -> None:
        slides = slides_of(Plan(slides=4, random_optics=True, objective="40x0.65"))
        assert len({slide.imaging for slide in slides}) == len(slides)
        assert {slide.imaging.na_over_n for slide in slides} == {0.65}

    def test_photographs_are_one_for_each_slide(self, parfocal: Parfocal, tmp_path: Path) -> None:
        words = (*QUICK, "--specimens", _photographs(tmp_path / "photographs", 4))
        code, *_ = parfocal("simulate", tmp_path / "out", *words)
        assert code == 0
        about = _about(tmp_path / "out")
        assert [slide["specimen"] for slide in about["slides"]] == ["p0.png", "p1.png", "p2.png"]
        assert "photograph" in about["licence"]


def _hue(specimen: Specimen) -> np.ndarray[Any, np.dtype[np.floating[Any]]]:
    """Shares of red, green and blue in the optical density, weighted to where there is much of it."""
    weight = specimen.od.mean(axis=0)
    shares = (specimen.od * weight).sum(axis=(1, 2))
    return np.asarray(shares / shares.sum())


class TestProcesses:
    def test_the_number_of_processes_does_not_matter_and_the_seed_does(self, tmp_path: Path) -> None:
        calls: list[None] = []
        for name, processes, seed in (("one", 1, 5), ("two", 2, 5), ("other", 1, 6)):
            plan = Plan(slides=1, locations=1, planes=2, size_px=224, seed=seed)
            write_jiang(plan, tmp_path / name, processes=processes, progress=lambda: calls.append(None))
        one, two, other = (_bytes(tmp_path / name) for name in ("one", "two", "other"))
        assert one == two
        assert one.keys() != other.keys()
        assert len(calls) == 3 * plan.location_count == 9

    def test_a_worker_that_dies_is_an_error_and_not_a_wait(self) -> None:
        with pytest.raises(ChildProcessError, match="died"):
            list(spread(os._exit, [3, 3], 2))

    def test_what_a_job_raises_comes_through(self) -> None:
        with pytest.raises(ValueError, match="no number"):
            list(spread(int, ["1", "no number"], 2))
        with pytest.raises(ValueError, match="processes = 0"):
            list(spread(int, ["1"], 0))
        assert list(spread(int, ["1", "2"], 1)) == [1, 2]
        assert list(spread(int, [], 2)) == []
        assert not asked_to_stop()


#: Words after `simulate OUT`, and what the line on stderr must say.
BAD_WORDS = [
    ("--layout tiff", "tiff"),
    ("--layout jiang --stacks 2", "--stacks has no meaning for the layout jiang"),
    ("--layout jiang --range-dof 2", "--range-dof has no meaning for the layout jiang"),
    ("--slides 2", "--slides has no meaning for the layout stacks"),
    ("--locations 2", "--locations has no meaning for the layout stacks"),
    ("--layout stacks --step-nm 100", "--step-nm has no meaning for the layout stacks"),
    ("--layout jiang --size 223", "size_px = 223"),
    ("--layout jiang --slides 0", "slides = 0"),
    ("--layout jiang --locations 0", "locations = 0"),
    ("--layout jiang --planes 1", "planes = 1"),
    ("--layout jiang --step-nm 0", "step_nm = 0"),
    ("--layout jiang --step-nm 0.5", "0.5"),
    ("--layout jiang --step-nm 5000", "depths of field or"),
    ("--layout jiang --step-nm 100000 --objective 1x0.02", "1000 µm is allowed"),
    ("--layout jiang --seed -1", "seed = -1"),
    ("--layout jiang --objective big", "big"),
    ("--layout jiang --specimens {photographs}", "2 photographs; 3 are needed"),
    ("--layout jiang --specimens {tmp}/none", "no such folder"),
]


class TestNothingIsLeftBehind:
    @pytest.mark.parametrize(("words", "said"), BAD_WORDS)
    def test_bad_input_is_one_line(self, parfocal: Parfocal, tmp_path: Path, words: str, said: str) -> None:
        photographs = _photographs(tmp_path / "photographs", 2)
        given = words.format(photographs=photographs, tmp=tmp_path).split()
        few = ["--slides", "1"] if "photographs" in words else []
        code, out, err = parfocal("simulate", tmp_path / "out", *given, *few)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert said in err
        assert sorted(p.name for p in tmp_path.iterdir()) == ["photographs"]

    def test_a_folder_in_use_is_not_touched(self, parfocal: Parfocal, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
        code, _, err = parfocal("simulate", tmp_path, *QUICK)
        assert code == 2
        assert "not empty" in err
        assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]

    def test_an_unreadable_photograph(self, tmp_path: Path) -> None:
        photographs = _photographs(tmp_path / "photographs", 3)
        (photographs / "p1.png").write_bytes(b"no image")
        with pytest.raises(InputError, match=r"p1\.png"):
            write_jiang(Plan(slides=1, specimens=photographs), tmp_path / "out")
        assert [p.name for p in tmp_path.iterdir()] == ["photographs"]

    def test_an_error_on_the_way(self, tmp_path: Path) -> None:
        def stop() -> None:
            raise KeyboardInterrupt

        plan = Plan(slides=1, locations=2, planes=2, size_px=224)
        for processes in (1, 2):
            with pytest.raises(KeyboardInterrupt):
                write_jiang(plan, tmp_path / "out", processes=processes, progress=stop)
            assert list(tmp_path.iterdir()) == []

    def test_ctrl_c_in_a_terminal(self, tmp_path: Path) -> None:
        """The signal goes to the workers too: not a word from them."""
        words = ["simulate", str(tmp_path / "out"), "--layout", "jiang"]
        code = "import sys; from edge.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", code, *words]
        running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            deadline_s = time.monotonic() + 60
            while not list(tmp_path.rglob("*.jpg")) and time.monotonic() < deadline_s:
                time.sleep(0.01)
            os.killpg(running.pid, signal.SIGINT)
            _, err = running.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.communicate()
        assert running.returncode == 130
        assert err == "parfocal: interrupted\n"
        assert list(tmp_path.iterdir()) == []
