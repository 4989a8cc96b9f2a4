"""What the tests of `parfocal import-stack` import: small images whose level tells the planes apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.files import RGB
from edge.zstack import ZStack, write_zstack

HEIGHT, WIDTH = 8, 9


def levels(count: int, *, scale: int = 10, dtype: str = "uint8") -> NDArray[Any]:
    """`(count, H, W)`: plane k has value ``scale * k`` but for one pixel at the upper left, one higher."""
    stack = np.zeros((count, HEIGHT, WIDTH), dtype)
    stack += (scale * np.arange(count))[:, None, None].astype(dtype)
    stack[:, 0, 0] += 1
    return stack


def picture(level: int) -> RGB:
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def grain(blur_px: float) -> RGB:
    """An image to focus on, blurred."""
    noise = np.random.default_rng(0).integers(0, 2, (48, 64)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 1.0 + blur_px)
    return np.repeat((60 + 180 * soft)[..., None], 3, axis=2).astype(np.uint8)


def folder_of(path: Path, names: str, about: object = None) -> Path:
    """A folder of images; the k-th name has level 10 k."""
    path.mkdir()
    for k, name in enumerate(names.split()):
        cv2.imwrite(str(path / name), np.full((HEIGHT, WIDTH), 10 * k, np.uint8))
    if about is not None:
        (path / "about.json").write_text(about if isinstance(about, str) else json.dumps(about), "utf-8")
    return path


def zstack_of(path: Path, *, in_planes: bool, about: dict[str, Any] | None = None) -> Path:
    planes = [
        (f"{name}.png", z, picture(10 * k)) for k, (name, z) in enumerate([("b", -2), ("a", 0), ("c", 3)])
    ]
    write_zstack(
        path, planes, {"licence": "CC0", "focus_z": 1} if about is None else about, z_in_planes=in_planes
    )
    return path


def shown(stack: ZStack) -> list[list[int]]:
    """The colour of the lower right pixel of each plane."""
    return [stack.load(k)[-1, -1].tolist() for k in range(len(stack))]


def greys(stack: ZStack) -> list[int]:
    colours = shown(stack)
    assert all(len(set(colour)) == 1 for colour in colours), f"{colours} is not grey"
    return [colour[0] for colour in colours]
