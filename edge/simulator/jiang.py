"""Simulated data in the layout of Jiang et al. 2018 (Biomed. Opt. Express 9, 1601), whose own images carry no
licence: what ``parfocal simulate --layout jiang`` writes.

    about.json
    incoherent_RGBchannels/
      train_incoherent_RGBChannels/s1_l1/Seg1_defocus-9873.jpg          224 x 224 tiles of a frame
      testRawData_incoherent_sameProtocol/s5_l1/defocus-9873.jpg        whole frames, slides of the same lab
      testRawData_incoherent_diffProtocol/s6_l1/defocus-9873.jpg        whole frames, slides of another lab

The integer is the signed defocus in NANOMETRES, exactly what was simulated. The planes of a stack lie on a
grid that is shifted by its own random offset, as where a slide's surface lies has nothing to do with the
stage's steps.

A slide (``s``) is one specimen with its stain, sizes and refraction, a location (``l``) one field of it.
Slide numbers go on from train to the tests, so one number is one slide. The other lab's slides take up the
dyes in other proportions, and its camera is balanced otherwise and exposed shorter. The plan's counts, the
seed, slide and location decide what a folder shows; the number of processes does not matter.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import InputError
from edge.files import RGB, PathLike, atomic_folder
from edge.optics import Optics
from edge.simulator.formation import Imaging
from edge.simulator.recording import (
    FARTHEST_DOF,
    check_bounds,
    checked,
    exposures,
    licence,
    microscope,
    optics_of,
    optics_parameters,
)
from edge.simulator.sensor import Sensor
from edge.simulator.specimens import Specimen, from_image, images_in, make, read_image
from edge.simulator.workers import asked_to_stop, spread

__all__ = [
    "OTHER",
    "SAME",
    "TILE_PX",
    "TRAIN",
    "Plan",
    "Slide",
    "defoci_nm",
    "field",
    "slides_of",
    "write_jiang",
]

TRAIN = "incoherent_RGBchannels/train_incoherent_RGBChannels"
SAME = "incoherent_RGBchannels/testRawData_incoherent_sameProtocol"
OTHER = "incoherent_RGBchannels/testRawData_incoherent_diffProtocol"
TILE_PX = 224
_SAME_LAB = ("tissue", "tissue", "blood", "tissue", "tissue", "debris")
#: Drawn specimens of a part's slides in turn: mostly stained tissue, as in the original.
KINDS = {TRAIN: _SAME_LAB, SAME: _SAME_LAB, OTHER: ("tissue", "blood")}
STAINS = {"tissue": "haematoxylin and eosin", "blood": "Giemsa", "debris": "eosin, a little"}
_JPEG_QUALITY = 95
_FARTHEST_UM = 1000
_BOUNDS = {
    "slides": (1, 1000),
    "locations": (1, 1000),
    "planes": (2, 1001),
    "step_nm": (1, 100_000),
    "seed": (0, 2**32 - 1),
    "size_px": (TILE_PX, 2048),
}
_SPECIMEN, _MICROSCOPE, _OFFSET, _FRAMES, _LAB = range(5)


@dataclass(frozen=True)
class Plan:
    """What to write. Raises InputError for a value outside its range."""

    slides: int = 8
    """Slides to train on, 1 to 1000; a quarter as many more, at least one, for each of the two tests."""
    locations: int = 2
    """Fields of each slide, 1 to 1000; of a slide of the tests at most 2."""
    planes: int = 51
    """Planes of each field, 2 to 1001; 51 of 500 nm reach the outermost of the paper's 41 classes."""
    step_nm: int = 500
    """From plane to plane in nm, 1 to 100 000; all planes must lie within 60 depths of field of
    focus, and 1 mm."""
    objective: str = "20x0.75"
    """Magnification and NA, as `edge.optics.Objective.parse` reads them."""
    random_optics: bool = False
    """Another microscope and camera for each slide, else one and the same."""
    seed: int = 0
    """Start of all chance, 0 to 2**32 - 1."""
    size_px: int = 512
    """Width and height of a frame, 224 to 2048; the tiles are as many as fit side by side in its middle."""
    specimens: Path | None = None
    """A folder of sharp photographs, one for each slide; None for drawn specimens."""

    def __post_init__(self) -> None:
        check_bounds(self, _BOUNDS)
        reach_um = self.planes * self.step_nm / 2000
        reach_dof = self.optics().dof_from_um(reach_um)
        if reach_dof > FARTHEST_DOF or reach_um > _FARTHEST_UM:
            raise InputError(
                f"{self.planes} planes of {self.step_nm} nm reach {reach_dof:.4g} depths of field or"
                f" {reach_um:g} µm to either side: to {FARTHEST_DOF} and {_FARTHEST_UM} µm is allowed"
            )

    def optics(self) -> Optics:
        """Objective and sampling of every frame. Raises InputError where the objective cannot be read."""
        return optics_of(self.objective)

    @property
    def parts(self) -> tuple[tuple[str, int, int], ...]:
        """Name, slides, locations of each slide: `TRAIN`, `SAME`, `OTHER`."""
        tests = max(1, self.slides // 4), min(2, self.locations)
        return (TRAIN, self.slides, self.locations), (SAME, *tests), (OTHER, *tests)

    @property
    def location_count(self) -> int:
        """Locations of all slides: the folders with images."""
        return sum(slides * locations for _, slides, locations in self.parts)


@dataclass(frozen=True)
class Slide:
    """A slide and the microscope it is under."""

    number: int
    """From 1; no two slides share one."""
    part: str
    """`TRAIN`, `SAME` or `OTHER`."""
    locations: int
    """How many, numbered from 1."""
    specimen: str
    """The kind of a drawn one, or the name of a photograph."""
    photograph: Path | None
    """None for a drawn one."""
    dyes: tuple[float, float, float]
    """What its optical density in red, green and blue is multiplied by; 1 in the lab of the training data."""
    imaging: Imaging
    sensor: Sensor


def write_jiang(
    plan: Plan,
    out: PathLike,
    *,
    processes: int | None = None,
    progress: Callable[[], None] | None = None,
) -> list[Slide]:
    """Write the data set ``out``, whole or not at all, and return its slides. Takes about half a minute a
    location and core with frames of 512 pixels.

    Raises InputError where ``out`` has content or cannot be made, photographs are too few or cannot be read:
    before anything is written. OSError where writing fails or a worker process dies. ``processes``: None for
    one a core. ``progress`` is called after each location.
    """
    with atomic_folder(out) as folder:
        slides = slides_of(plan)
        jobs = [_Job(plan, s, k, folder) for s in slides for k in range(1, s.locations + 1)]
        for job in jobs:
            job.folder.mkdir(parents=True)
        about = json.dumps(_about(plan, slides), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "about.json").write_text(about + "\n", encoding="utf-8")
        with contextlib.closing(spread(_write_location, jobs, processes or os.cpu_count() or 1)) as done:
            for _ in done:
                if progress is not None:
                    progress()
    return slides


def slides_of(plan: Plan) -> list[Slide]:
    """The slides by number: to train on, of the same protocol, of the other.

    Raises InputError where there are not as many photographs, or one that is needed cannot be read.
    """
    photographs = _photographs(plan, sum(count for _, count, _ in plan.parts))
    slides: list[Slide] = []
    for part, count, locations in plan.parts:
        for k in range(count):
            number = len(slides) + 1
            rng = _rng(plan, number, 0, _MICROSCOPE)
            imaging, sensor = microscope(plan.optics().objective, rng if plan.random_optics else None)
            file = photographs[number - 1] if photographs else None
            slide = Slide(
                number=number,
                part=part,
                locations=locations,
                specimen=KINDS[part][k % len(KINDS[part])] if file is None else file.name,
                photograph=file,
                dyes=(1.0, 1.0, 1.0),
                imaging=imaging,
                sensor=sensor,
            )
            slides.append(_of_the_other_lab(plan, slide) if part == OTHER else slide)
    return slides


def _photographs(plan: Plan, needed: int) -> list[Path]:
    """One for each slide, in the order of their paths; empty for drawn specimens."""
    if plan.specimens is None:
        return []
    files = images_in(plan.specimens)
    if len(files) < needed:
        raise InputError(
            f"{plan.specimens}: {len(files)} photographs; {needed} are needed, one for each slide of"
            " training and tests"
        )
    return checked(files[:needed])


def _of_the_other_lab(plan: Plan, slide: Slide) -> Slide:
    """``slide`` stained and photographed as in the one other lab of this data set."""
    rng = _rng(plan, 0, 0, _LAB)
    weaker, stronger = rng.uniform(0.55, 0.8), rng.uniform(1.25, 1.7, 2)
    red, green, blue = (float(x) for x in rng.permutation([weaker, *stronger]))
    balance = (float(rng.uniform(0.8, 0.92)), 1.0, float(rng.uniform(0.75, 0.9)))
    sensor = replace(slide.sensor, white_balance=balance, background=float(rng.uniform(0.5, 0.65)))
    return replace(slide, dyes=(red, green, blue), sensor=sensor)


def field(plan: Plan, slide: Slide, location: int) -> Specimen:
    """What lies on ``slide`` at ``location``, from 1: ``size_px`` square. Raises InputError where its
    photograph cannot be read.
    """
    shape = (plan.size_px, plan.size_px)
    rng, common = _rng(plan, slide.number, location, _SPECIMEN), _rng(plan, slide.number, 0, _SPECIMEN)
    if slide.photograph is not None:
        found = from_image(read_image(slide.photograph), shape, rng, name=slide.specimen, slide=common)
    else:
        seed, slide_seed = int(rng.integers(1 << 40)), int(common.integers(1 << 40))
        found = make(slide.specimen, shape, seed, slide_seed)
    dyes = np.asarray(slide.dyes, np.float32)[:, None, None]
    return replace(found, od=np.minimum(found.od * dyes, np.float32(3)))


def defoci_nm(plan: Plan, slide: Slide, location: int) -> list[int]:
    """Signed defocus of each plane in nm, rising by the step: about focus, but for half a step at most."""
    half = plan.step_nm // 2
    offset = int(_rng(plan, slide.number, location, _OFFSET).integers(-half, half, endpoint=True))
    first = offset - (plan.planes - 1) * plan.step_nm // 2
    return [first + k * plan.step_nm for k in range(plan.planes)]


@dataclass(frozen=True)
class _Job:
    """One location of one slide, to be written below ``root``."""

    plan: Plan
    slide: Slide
    location: int
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / self.slide.part / f"s{self.slide.number}_l{self.location}"


def _write_location(job: _Job) -> None:
    plan, slide = job.plan, job.slide
    optics, labels = plan.optics(), defoci_nm(plan, slide, job.location)
    images = exposures(
        field(plan, slide, job.location),
        slide.imaging,
        slide.sensor,
        [optics.dof_from_um(nm / 1000) for nm in labels],
        _rng(plan, slide.number, job.location, _FRAMES),
    )
    for nm, frame in zip(labels, images, strict=True):
        if asked_to_stop():
            return
        if slide.part == TRAIN:
            for number, tile in enumerate(_tiles(frame), start=1):
                (job.folder / f"Seg{number}_defocus{nm}.jpg").write_bytes(_jpeg(tile))
        else:
            (job.folder / f"defocus{nm}.jpg").write_bytes(_jpeg(frame))


def _tiles(frame: RGB) -> Iterator[RGB]:
    """Row by row, as many as fit side by side in the middle of ``frame``."""
    side = len(frame) // TILE_PX
    margin = (len(frame) - side * TILE_PX) // 2
    for k in range(side**2):
        y, x = (margin + TILE_PX * at for at in divmod(k, side))
        yield frame[y : y + TILE_PX, x : x + TILE_PX]


def _jpeg(image: RGB) -> bytes:
    """Raises ValueError where OpenCV cannot encode."""
    import cv2

    bgr = np.ascontiguousarray(image[..., ::-1])
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise ValueError(f"OpenCV could not encode an image of {image.shape}")
    return data.tobytes()


def _about(plan: Plan, slides: list[Slide]) -> dict[str, Any]:
    return {
        "source": "parfocal simulate",
        "licence": licence(plan.specimens),
        "modality": "brightfield, simulated",
        "layout": "jiang",
        "seed": plan.seed,
        "objective": plan.objective.strip(),
        **optics_parameters(plan.optics()),
        "planes": plan.planes,
        "step_nm": plan.step_nm,
        "frame_px": plan.size_px,
        "tile_px": TILE_PX,
        "optics": "random" if plan.random_optics else "fixed",
        "slides": [_about_slide(plan, slide) for slide in slides],
    }


def _about_slide(plan: Plan, slide: Slide) -> dict[str, Any]:
    folders = {
        f"s{slide.number}_l{location}": defoci_nm(plan, slide, location)[0]
        for location in range(1, slide.locations + 1)
    }
    return {
        "slide": slide.number,
        "folder": slide.part,
        "specimen": slide.specimen,
        "stain": STAINS[slide.specimen] if slide.photograph is None else "of the photograph",
        "dyes": slide.dyes,
        "first_defocus_nm": folders,
        "imaging": asdict(slide.imaging),
        "sensor": asdict(slide.sensor),
    }


def _rng(plan: Plan, slide: int, location: int, what: int) -> np.random.Generator:
    """Slides and locations count from 1; slide 0 is the data set, location 0 the slide."""
    return np.random.default_rng((plan.seed, slide, location, what))
