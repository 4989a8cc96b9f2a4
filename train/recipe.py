"""The recipe: one TOML file that says what a model is trained on and how; it is saved with the run and with the model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Section):
    """Synthetic fields: how many, how large, of what."""

    seed: int = Field(1, ge=0)
    train_fields: int = Field(5000, ge=1)
    """Microscopes with one specimen each; every field is seen at ``defoci_per_field`` distances."""
    val_fields: int = Field(300, ge=1)
    test_fields: int = Field(300, ge=1)
    defoci_per_field: int = Field(4, ge=1, le=64)
    train_frame_px: int = Field(256, ge=96, le=2048)
    test_frame_px: int = Field(384, ge=96, le=2048)
    """Frame size of validation and test, so that a frame gives as many tiles as on the device."""
    range_dof: float = Field(13.0, gt=0, le=60)
    near_share: Share = 0.3
    """Share of defoci drawn from a normal distribution of sigma 2 dof about focus, the rest uniform."""
    optics: Literal["fixed", "random"] = "random"
    sharp_folders: tuple[str, ...] = ()
    """Folders of sharp photographs, relative to the folder the command runs in."""
    held_out_every: int = Field(5, ge=2)
    """Every n-th photograph of each folder (sorted by name) is for validation and test only."""
    mix: dict[str, float] = Field(default_factory=lambda: {"tissue": 1.0})
    """Weights of specimens: procedural names, or ``folder:N`` for the N-th sharp folder."""


class Network(_Section):
    """The network's shape."""

    width: float = Field(0.35, ge=0.05, le=2.0)
    """MobileNetV2 alpha."""
    cut: int = Field(16, ge=1, le=16)
    """The last inverted-residual block that is kept, 16 for all."""
    tile_px: int = Field(128, ge=32, le=512)
    tiles_per_frame: int = Field(9, ge=1, le=64)
    bin_range_dof: float = Field(12.0, gt=0)
    bin_count: int = Field(49, ge=5, le=255)


class Fit(_Section):
    """Optimisation."""

    epochs: int = Field(10, ge=1, le=1000)
    batch: int = Field(64, ge=1, le=4096)
    learning_rate: float = Field(2e-3, gt=0, lt=1)
    warmup_share: Share = 0.05
    weight_decay: float = Field(1e-4, ge=0, lt=1)
    label_sigma_dof: float = Field(0.35, gt=0)
    """Width of the soft ordinal label near focus; it grows by ``label_sigma_slope`` a dof of defocus."""
    label_sigma_slope: float = Field(0.05, ge=0)
    flips: bool = True
    """Flips and quarter turns: only where the optics vary, on one microscope they destroy a cue to the sign."""


class Recipe(_Section):
    """A whole recipe; ``name`` goes into the card."""

    name: str = "parfocal"
    data: Data = Data()
    network: Network = Network()
    fit: Fit = Fit()


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises InputError naming file, key and what is wrong."""
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not a readable recipe: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where} = {first['input']!r}: {first['msg']}") from error
