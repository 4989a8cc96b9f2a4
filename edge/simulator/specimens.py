"""Specimens to look at: optical density and phase of stained tissue, blood films, sparse debris, an empty
field, and any sharp photograph.

The drawn ones are periodic, as the Fourier transform of the simulator wants.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.simulator.drawing import (
    Float,
    draw_cells,
    noise,
    pale_disc,
    per_area,
    soft_step,
    stamp,
    thread,
)

#: Optical density per unit of stain in red, green, blue (Ruifrok & Johnston 2001, rounded; Giemsa by eye).
HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
HAEMOGLOBIN = (0.10, 0.45, 0.62)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Specimen:
    """What light goes through.

    ``od``: ``(3, H, W)`` float32 optical density (natural logarithm) in red, green, blue, 0 or more.
    ``phase_rad``: ``(H, W)`` float32 phase delay at 0.55 µm. ``upper_share``: ``(H, W)`` float32, 0 to 1, the
    share of the material in the upper of two layers. ``name``: for traces. ``blank``: nothing to focus on.
    """

    name: str
    od: Float
    phase_rad: Float
    upper_share: Float
    blank: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.phase_rad.shape[0], self.phase_rad.shape[1]


def make(name: str, shape: tuple[int, int], seed: int, slide_seed: int | None = None) -> Specimen:
    """The specimen ``name`` (a key of `SPECIMENS`) at ``shape`` pixels; the same seed gives the same field.

    Fields of one ``slide_seed`` are of one slide: stain, sizes and refraction are the same. Raises InputError
    for an unknown name.
    """
    if name not in SPECIMENS:
        raise InputError(
            f"specimen {name!r}: allowed are {', '.join(SPECIMENS)}, or a folder of sharp images"
        )
    kind = list(SPECIMENS).index(name)
    rng = np.random.default_rng((seed, kind))
    slide = rng if slide_seed is None else np.random.default_rng((slide_seed, kind))
    return SPECIMENS[name](shape, rng, slide)


def stained_tissue(shape: tuple[int, int], rng: np.random.Generator, slide: np.random.Generator) -> Specimen:
    """Haematoxylin and eosin: a fibrous pink matrix with holes, and nuclei with chromatin texture."""
    fibres = noise(
        shape, rng, 2.2 + slide.uniform(0, 0.8), stretch=slide.uniform(1, 4), angle=rng.uniform(0, math.pi)
    )
    patches = noise(shape, rng, 3.4)
    eosin = np.clip(0.42 + 0.28 * fibres, 0, None) * soft_step(patches + rng.uniform(0.2, 1.4), 0.15)
    chromatin = np.clip(1 + 0.55 * noise(shape, rng, 1.4), 0.15, None)
    cells = draw_cells(
        shape, rng, count=per_area(shape, slide.uniform(4, 22)), radius=(6, 14), elongation=0.6
    )
    nuclei = cells * chromatin * slide.uniform(0.7, 1.3)
    od = _dye(HAEMATOXYLIN, nuclei, slide) + _dye(EOSIN, eosin * slide.uniform(0.5, 1.1), slide)
    phase = slide.uniform(0.1, 0.9) * (0.6 * eosin + nuclei + 0.15 * noise(shape, rng, 2.0))
    return specimen_of("tissue", od, phase, rng)


def blood_film(shape: tuple[int, int], rng: np.random.Generator, slide: np.random.Generator) -> Specimen:
    """Red cells with central pallor and refracting rims, platelets, and now and then a stained white cell."""
    radius = slide.uniform(11, 30)
    count = round(rng.uniform(0.12, 0.5) * shape[0] * shape[1] / (math.pi * radius**2))
    thickness = np.zeros(shape, np.float32)
    for _ in range(max(count, 2)):
        y, x, r = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), radius * rng.normal(1, 0.09)
        pallor, pallor_size = rng.uniform(0.1, 0.85), rng.uniform(0.35, 0.6)
        stamp(thickness, y, x, r, rng, partial(pale_disc, pallor=pallor, pallor_size=pallor_size))
    platelets = draw_cells(shape, rng, per_area(shape, rng.uniform(0, 3)), (2, 4), 0.3)
    white = draw_cells(shape, rng, int(rng.random() < 0.4), (radius * 1.0, radius * 1.5), 0.4)
    white *= np.clip(1 + 0.4 * noise(shape, rng, 1.6), 0.2, None)
    grain = np.asarray(1 + 0.06 * noise(shape, rng, 1.2), np.float32)
    od = _dye(HAEMOGLOBIN, thickness * grain * slide.uniform(0.4, 1.0), slide)
    od += _dye(HAEMATOXYLIN, white + 0.7 * platelets, slide)
    phase = slide.uniform(0.4, 2.2) * thickness + 0.6 * white + 0.4 * platelets
    return specimen_of("blood", od, phase, rng)


def sparse_debris(shape: tuple[int, int], rng: np.random.Generator, slide: np.random.Generator) -> Specimen:
    """A nearly empty smear: dark specks, clear refracting grains, a fibre or two."""
    specks = draw_cells(shape, rng, per_area(shape, rng.uniform(2, 8)), (1.5, 6), 0.6)
    grains = draw_cells(shape, rng, per_area(shape, rng.uniform(1, 6)), (2, 10), 0.5)
    fibre = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(0, 3))):
        fibre += thread(shape, rng)
    od = _dye((0.7, 0.7, 0.7), specks * slide.uniform(0.6, 1.6), slide)
    od += _dye(EOSIN, 0.4 * grains + 0.5 * fibre, slide)
    phase = slide.uniform(0.3, 1.6) * (grains + 0.4 * specks + 0.5 * fibre)
    return specimen_of("debris", od, phase, rng)


def empty_field(shape: tuple[int, int], rng: np.random.Generator, slide: np.random.Generator) -> Specimen:
    """Nothing but mounting medium: the answer must be "no specimen"."""
    flat = np.zeros(shape, np.float32)
    return Specimen("empty", np.zeros((3, *shape), np.float32), flat, flat + np.float32(0.5), blank=True)


_Drawing = Callable[[tuple[int, int], np.random.Generator, np.random.Generator], Specimen]

#: Their first generator draws what differs from field to field, the second what a slide has in common.
SPECIMENS: dict[str, _Drawing] = {
    "tissue": stained_tissue,
    "blood": blood_film,
    "debris": sparse_debris,
    "empty": empty_field,
}


def images_in(folder: Path) -> list[Path]:
    """Sharp images below ``folder``, sorted by path. Raises InputError when there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of sharp images")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not files:
        raise InputError(f"{folder}: no image ({', '.join(IMAGE_SUFFIXES)}) in it")
    return files


def read_image(path: Path) -> NDArray[np.uint8]:
    """``(H, W, 3)`` uint8 RGB of a PNG, JPEG, BMP or TIFF (OME-TIFF too, where tifffile is installed).

    Raises InputError naming the file when it cannot be read.
    """
    import cv2

    data: Any = None
    if path.suffix.lower() in (".tif", ".tiff"):
        try:
            import tifffile

            data = _colours_last(tifffile.imread(path))
        except (ImportError, ValueError, OSError):
            data = None
    if data is None:
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise InputError(f"{path}: not a readable image (for a compressed TIFF install parfocal[train])")
        data = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(data)


def _colours_last(data: NDArray[Any]) -> NDArray[np.uint8] | None:
    """``(H, W, 3)`` of what a TIFF holds, or None where that is not one 8-bit picture in colour."""
    if data.dtype != np.uint8 or data.ndim != 3:
        return None
    if data.shape[2] in (3, 4):
        return np.asarray(data[..., :3])
    return np.moveaxis(data[:3], 0, 2) if data.shape[0] in (3, 4) else None


def from_image(
    image: NDArray[np.uint8],
    shape: tuple[int, int],
    rng: np.random.Generator,
    name: str = "image",
    shrink: float | None = None,
    slide: np.random.Generator | None = None,
) -> Specimen:
    """A sharp photograph ``(H, W, 3)`` uint8 RGB as a specimen at ``shape`` pixels.

    Optical density is ``-ln(I / background)`` with the 98th percentile of each channel as background. A
    photograph carries its own microscope's blur, which would read as defocus, so it is first shrunk by
    ``shrink`` (2 to 4 where not given; less where little would be left). Phase follows density (a stained
    structure is denser and refracts more). Borders (scale bars) are cut; what is smaller than ``shape`` is
    mirrored up to it. ``slide`` draws what fields of one slide share: scale, density and refraction; ``rng``
    where it is not given.
    """
    import cv2

    slide = rng if slide is None else slide
    height, width = image.shape[:2]
    factor = float(slide.uniform(2.0, 4.0)) if shrink is None else shrink
    factor = min(factor, max(1.0, min(height, width) / 96))
    margin_y, margin_x = height // 12, width // 12
    inner = image[margin_y : height - margin_y, margin_x : width - margin_x].astype(np.float32) + 1
    size = round(inner.shape[1] / factor), round(inner.shape[0] / factor)
    small = np.asarray(cv2.resize(inner, size, interpolation=cv2.INTER_AREA), np.float32)
    background = np.percentile(small.reshape(-1, 3), 98, axis=0)
    density = np.clip(-np.log(small / background), 0, 2.5).astype(np.float32)
    density = np.clip(_periodic(_crop_or_mirror(density, shape, rng)), 0, None)
    if rng.random() < 0.5:
        density = density[::-1]
    od = np.ascontiguousarray(np.moveaxis(density, 2, 0)) * np.float32(slide.uniform(0.6, 1.3))
    phase = od.mean(axis=0) * slide.uniform(0.1, 2.0) + 0.1 * rng.uniform(0, 1) * noise(shape, rng, 2.0)
    return specimen_of(name, od, phase, rng)


def _crop_or_mirror(density: Float, shape: tuple[int, int], rng: np.random.Generator) -> Float:
    pads = [(0, max(0, want - have)) for want, have in zip(shape, density.shape[:2], strict=True)]
    density = np.pad(density, [*pads, (0, 0)], mode="symmetric")
    y = int(rng.integers(0, density.shape[0] - shape[0] + 1))
    x = int(rng.integers(0, density.shape[1] - shape[1] + 1))
    return density[y : y + shape[0], x : x + shape[1]]


def _periodic(image: Float) -> Float:
    """The periodic component of ``(H, W, C)``: a smooth image takes up the jumps at the edges; the rest.

    The simulator's Fourier transform joins opposite edges, and a jump there would ring far into the field.
    (Moisan, J. Mathematical Imaging and Vision 39, 2011.)
    """
    from scipy import fft

    height, width = image.shape[:2]
    jumps = np.zeros_like(image)
    jumps[0], jumps[-1] = image[-1] - image[0], image[0] - image[-1]
    jumps[:, 0] += image[:, -1] - image[:, 0]
    jumps[:, -1] += image[:, 0] - image[:, -1]
    cosines = [2 * np.cos(2 * math.pi * np.fft.fftfreq(n)) for n in (height, width)]
    laplacian = (cosines[0][:, None] + cosines[1][None, :] - 4)[:, :, None]
    laplacian[0, 0] = 1.0
    spectrum = fft.fft2(jumps, axes=(0, 1)) / laplacian
    spectrum[0, 0] = 0
    return np.asarray(image - fft.ifft2(spectrum, axes=(0, 1)).real, np.float32)


def specimen_of(name: str, od: Float, phase: Float, rng: np.random.Generator) -> Specimen:
    """A specimen of ``od`` ``(3, H, W)`` clipped to 0 to 3 and ``phase`` ``(H, W)``, in two layers."""
    share = soft_step(noise(phase.shape, rng, 3.0), 0.4)
    od = np.asarray(np.clip(od, 0, 3), np.float32)
    return Specimen(name, od, phase.astype(np.float32), share.astype(np.float32))


def _dye(stain: tuple[float, float, float], amount: Float, rng: np.random.Generator) -> Float:
    colour = np.clip(np.asarray(stain) * rng.normal(1, 0.2, 3), 0.02, None).astype(np.float32)
    return np.asarray(colour[:, None, None] * np.clip(amount, 0, None)[None], np.float32)
