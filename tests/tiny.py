"""Small things to train on: recipes of seconds, tiles whose defocus is plain to see, z-stacks of noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.files import encode_png
from train.recipe import Recipe, parse_recipe
from train.tile_data import TileData

TILE_PX = 32


def recipe(**sections: dict[str, Any]) -> Recipe:
    """A few small fields, one microscope, the first blocks of a narrow network; then ``sections``."""
    data: dict[str, dict[str, Any]] = {
        "data": {
            "train_fields": 9,
            "val_fields": 3,
            "test_fields": 3,
            "defoci_per_field": 3,
            "train_frame_px": 96,
            "test_frame_px": 96,
            "range_dof": 2.0,
            "optics": "fixed",
            "mix": {"tissue": 1.0, "debris": 1.0},
        },
        "network": {
            "width": 0.1,
            "cut": 2,
            "tile_px": TILE_PX,
            "tiles_per_frame": 4,
            "bin_range_dof": 1.5,
            "bin_count": 7,
        },
        "fit": {"epochs": 1, "batch": 16, "learning_rate": 0.01},
    }
    for section, changes in sections.items():
        data[section] = {**data[section], **changes}
    return parse_recipe({"name": "tiny", **data}, source="tiny")


def write_recipe(path: Path, **sections: dict[str, Any]) -> Path:
    """`recipe` as a TOML file."""
    dumped = recipe(**sections).model_dump(mode="json")
    lines = [f'name = "{dumped.pop("name")}"']
    for section, keys in dumped.items():
        lines.append(f"[{section}]")
        for key, value in keys.items():
            if value is None:
                continue
            # JSON is TOML but for tables
            text = json.dumps(value)
            if isinstance(value, dict):
                text = "{ " + ", ".join(f"{json.dumps(k)} = {v}" for k, v in value.items()) + " }"
            lines.append(f"{key} = {text}")
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def tile_data(
    count: int,
    *,
    tiles_per_frame: int = 1,
    seed: int = 0,
    range_dof: float = 2.0,
    dof_um: float | None = None,
) -> TileData:
    """Noise whose brightness from left to right rises with the defocus: a network learns it in no time."""
    rng = np.random.default_rng(seed)
    frames = -(-count // tiles_per_frame)
    frame = np.repeat(np.arange(frames), tiles_per_frame)[:count]
    defocus = rng.uniform(-range_dof, range_dof, frames)[frame]
    ramp = np.linspace(-1, 1, TILE_PX)[None, None, :, None]
    tiles = 0.8 * (defocus / range_dof)[:, None, None, None] * ramp
    tiles = tiles + 0.05 * rng.standard_normal((count, TILE_PX, TILE_PX, 3))
    return TileData(
        np.rint(np.clip(tiles, -1, 1) * 127).astype(np.int8),
        defocus.astype(np.float32),
        frame.astype(np.int32),
        frame.astype(np.int32),
        (frame % 2).astype(np.int16),
        ("even", "odd"),
        None if dof_um is None else defocus * dof_um,
        None if dof_um is None else np.full(count, dof_um),
    )


def frame(seed: int, size_px: int = 64) -> NDArray[np.uint8]:
    """``(size_px, size_px, 3)`` uint8 of coarse blobs: informative at every sampling."""
    rng = np.random.default_rng(seed)
    blobs = np.kron(rng.uniform(60, 230, (size_px // 8, size_px // 8, 3)), np.ones((8, 8, 1)))
    return np.asarray(blobs, np.uint8)


#: What a stack to train on must say of itself.
LABELLED = {"objective": "20x0.40", "pixel_um": 0.34375, "focus_z": 0.0}


def write_stack(folder: Path, about: dict[str, Any], *, seed: int = 0, z: str = "z_um") -> Path:
    """A z-stack of three planes at -1, 0 and 1 of the unit ``z``; returns its folder."""
    folder.mkdir(parents=True)
    rows = []
    for k in (-1, 0, 1):
        (folder / f"p{k}.png").write_bytes(encode_png(frame(seed * 10 + k + 1)))
        rows.append(f"p{k}.png,{k}")
    (folder / "planes.csv").write_text("\n".join([f"file,{z}", *rows]) + "\n", "utf-8")
    (folder / "about.json").write_text(json.dumps(about), "utf-8")
    return folder


def input_error(call: Callable[[], object]) -> str | None:
    """The line of the InputError that ``call`` raises, None where it raises nothing."""
    try:
        call()
    except InputError as error:
        line = str(error)
    else:
        return None
    assert "\n" not in line, line
    return line


def write_blurred_stack(folder: Path, *, peak: int, planes: int = 7) -> Path:
    """A z-stack of ``planes`` planes 1 µm apart that is sharpest at ``peak`` and does not say so."""
    import cv2

    folder.mkdir(parents=True)
    sharp = np.random.default_rng(peak).uniform(60, 230, (96, 96, 3)).astype(np.float32)
    rows = ["file,z_um"]
    for k in range(planes):
        blurred = cv2.GaussianBlur(sharp, (0, 0), 1.0 + 0.7 * abs(k - peak))
        (folder / f"p{k}.png").write_bytes(encode_png(np.asarray(blurred, np.uint8)))
        rows.append(f"p{k}.png,{k}")
    (folder / "planes.csv").write_text("\n".join(rows) + "\n", "utf-8")
    about = {key: value for key, value in LABELLED.items() if key != "focus_z"}
    (folder / "about.json").write_text(json.dumps(about), "utf-8")
    return folder
