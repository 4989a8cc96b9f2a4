"""Dense focus stacks of one field, computed once, cached on disk, read back by memory map.

The key is a hash of everything that decides the pixels, so a stale stack cannot be picked up. A stack is
written under a name of its own and renamed when whole: two writers do the same work twice, and either
result is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import mmap
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.files import atomic_write_bytes, atomic_write_text
from edge.simulator import specimens
from edge.simulator.formation import ImageFormer, Imaging, lamp
from edge.simulator.specimens import Specimen

Float = NDArray[np.float32]

#: Raised when the same inputs would give other pixels.
FORMAT = 3
#: Stored value of the empty field; intensities up to 65535 / LEVEL fit.
LEVEL = 12000.0
#: The cache is kept below this many bytes; the stacks used longest ago go first.
CACHE_BYTES = 4 << 30


def plane_grid() -> NDArray[np.float64]:
    """Defoci of the planes in dof: every 0.25 to 6, every 0.5 to 10, every 1 to 16.

    A fine detail's contrast turns by up to 4.2 rad per dof: interpolated half way, it keeps 97 % of it in the
    first and 69 % in the second span.
    """
    near, middle, far = np.arange(0, 6, 0.25), np.arange(6, 10, 0.5), np.arange(10, 16.1, 1.0)
    half = np.concatenate([near, middle, far])
    return np.concatenate([-half[:0:-1], half])


@dataclass(frozen=True)
class Field:
    """``planes``: ``(Z, H, W, 3)`` uint16, linear, `LEVEL` for an empty field; ``defocus_dof``: ``(Z,)``."""

    planes: NDArray[np.uint16]
    defocus_dof: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.planes.shape[1]), int(self.planes.shape[2])

    def at(self, defocus_dof: float) -> Float:
        """``(H, W, 3)`` float32 linear intensity, at least 0: the cubic through the four nearest planes.

        The outermost planes stand for all beyond.
        """
        grid = self.defocus_dof
        d = float(np.clip(defocus_dof, grid[0], grid[-1]))
        first = int(np.clip(np.searchsorted(grid, d) - 2, 0, max(0, len(grid) - 4)))
        four = grid[first : first + 4]
        out = np.zeros(self.planes.shape[1:], np.float32)
        for k, own in enumerate(four):
            others = np.delete(four, k)
            share = float(np.prod((d - others) / (own - others)))
            if share:
                out += self.planes[first + k] * np.float32(share / LEVEL)
        np.maximum(out, 0, out=out)
        mapped: object = self.planes.base
        if isinstance(mapped, mmap.mmap):
            # The system keeps the pages; a small computer's process need not count all it ever looked at.
            mapped.madvise(mmap.MADV_DONTNEED)
        return np.asarray(out, np.float32)


def cache_folder() -> Path:
    """``$PARFOCAL_CACHE``, else ``parfocal`` in the user's cache folder."""
    own = os.environ.get("PARFOCAL_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parfocal"


def open_field(
    specimen: Specimen,
    imaging: Imaging,
    *,
    folder: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> Field:
    """The dense stack of ``specimen``: from the cache, or computed (seconds) and put there.

    ``progress`` is called with the share done while computing. Without a writable cache folder the stack
    stays in memory.
    """
    return _open(specimen, imaging, folder or cache_folder(), progress)[0]


def open_drawn_field(
    name: str,
    shape: tuple[int, int],
    seed: int,
    imaging: Imaging,
    *,
    folder: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> Field:
    """`open_field` of a drawn specimen, which need not be drawn anew to find out that its stack is there.

    InputError for a name that is none.
    """
    folder = folder or cache_folder()
    drawn_by = hashlib.sha256(Path(specimens.__file__).read_bytes()).hexdigest()
    text = json.dumps([FORMAT, LEVEL, name, shape, seed, asdict(imaging), drawn_by, plane_grid().tolist()])
    alias = folder / f"drawn-{hashlib.sha256(text.encode()).hexdigest()[:32]}.txt"
    with contextlib.suppress(OSError, ValueError):
        found = _read(folder / Path(alias.read_text("ascii").strip()).name, (len(plane_grid()), *shape, 3))
        if found is not None:
            return Field(found, plane_grid())
    field, path = _open(specimens.make(name, shape, seed), imaging, folder, progress)
    if path is not None:
        with contextlib.suppress(OSError, InputError):
            atomic_write_text(alias, path.name + "\n")
    return field


def _open(
    specimen: Specimen, imaging: Imaging, folder: Path, progress: Callable[[float], None] | None
) -> tuple[Field, Path | None]:
    """The stack, and its file where it could be put there."""
    grid = plane_grid()
    path = folder / f"field-{_key(specimen, imaging, grid)}.npy"
    shape = (len(grid), *specimen.shape, 3)
    found = _read(path, shape)
    if found is not None:
        return Field(found, grid), path
    planes = _compute(specimen, imaging, grid, progress)
    with contextlib.suppress(OSError, InputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, _header(shape) + planes.tobytes())
        _prune(path.parent, keep=path)
        found = _read(path, shape)
    return (Field(planes, grid), None) if found is None else (Field(found, grid), path)


def _key(specimen: Specimen, imaging: Imaging, grid: NDArray[np.float64]) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, LEVEL, specimen.shape, asdict(imaging)]).encode())
    for array in (specimen.od, specimen.phase_rad, specimen.upper_share, grid):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint16] | None:
    """The stack as a read-only memory map; None where the file is missing, of another length or header."""
    header = _header(shape)
    try:
        with path.open("rb") as file:
            whole = file.read(len(header)) == header
        planes = np.memmap(path, np.uint16, "r", offset=len(header), shape=shape)
        if not whole or path.stat().st_size != len(header) + planes.nbytes:
            return None
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):  # somebody else's cache, which this user may only read
        os.utime(path)
    return planes


def _header(shape: tuple[int, ...]) -> bytes:
    """What stands before the pixels: a stack of ``shape`` is an ordinary .npy file."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<u2", "fortran_order": False, "shape": shape})
    return head.getvalue()


def _compute(
    specimen: Specimen, imaging: Imaging, grid: NDArray[np.float64], progress: Callable[[float], None] | None
) -> NDArray[np.uint16]:
    former = ImageFormer(specimen, imaging)
    out = np.zeros((len(grid), *specimen.shape, 3), np.uint16)
    done = 0
    # Planes that need about as many source points share them, and so the work on the pupils.
    for low, high in ((0.0, 3.0), (3.0, 6.0), (6.0, 10.0), (10.0, float("inf"))):
        chosen = np.flatnonzero((np.abs(grid) >= low) & (np.abs(grid) < high))
        if len(chosen) == 0:
            continue
        points, disc = lamp(imaging, float(np.abs(grid[chosen]).max()))
        for part in np.array_split(chosen, max(1, len(chosen) // 8)):
            images = former.images([float(d) for d in grid[part]], points, disc)
            out[part] = np.clip(images * LEVEL + 0.5, 0, 65535).astype(np.uint16)
            done += len(part)
            if progress is not None:
                progress(done / len(grid))
    return out


def _prune(folder: Path, keep: Path) -> None:
    stacks = sorted(folder.glob("field-*.npy"), key=lambda p: p.stat().st_mtime, reverse=True)
    total = 0
    for path in stacks:
        total += path.stat().st_size
        if total > CACHE_BYTES and path != keep:
            path.unlink(missing_ok=True)
    left = {path.name for path in folder.glob("field-*.npy")}
    for alias in folder.glob("drawn-*.txt"):
        if alias.read_bytes().decode("ascii", "replace").strip() not in left:
            alias.unlink(missing_ok=True)
