"""The recipe: one TOML file that says what a model is trained on and how.

It is saved with the run and in the card of the model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.errors import InputError, one_line
from edge.simulator.specimens import SPECIMENS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Share = Annotated[float, Field(ge=0, le=1)]
#: A kind of specimen that training alone draws (`train.variety.mosaic`).
MOSAIC = "mosaic"
#: NumPy and Keras seed from 32 bits.
LARGEST_SEED = 2**32 - 1
MOST_EPOCHS = 1000


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(_Section):
    """Synthetic fields: how many, how large, of what."""

    seed: int = Field(1, ge=0, le=LARGEST_SEED)
    train_seed: int | None = Field(None, ge=0, le=LARGEST_SEED)
    """Of the fields that are trained on; ``seed`` where None. Another one: to go on with fields not seen yet,
    against the same validation and test."""
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
    """Every n-th photograph of each folder (sorted by name) is held out: for validation and test in turn."""
    val_photographs: tuple[str, ...] = ()
    test_photographs: tuple[str, ...] = ()
    """Patterns of file names, such as ``slide7_*``, held out instead: whole slides, where names tell them."""
    mix: dict[str, float] = Field(default_factory=lambda: {"tissue": 1.0})
    """Weights of specimens: procedural names, or ``folder:N`` for the N-th sharp folder, from 0."""
    train_mix: dict[str, float] = Field(default_factory=dict)
    """The same for training alone, which may have ``mosaic`` too; ``mix`` where empty."""
    variety: Share = 0.0
    """Share of the training fields that are turned, stained and mixed as no slide is (`train.variety`)."""

    @model_validator(mode="after")
    def _both_are_held_out(self) -> Data:
        if bool(self.val_photographs) != bool(self.test_photographs):
            raise ValueError("val_photographs and test_photographs: both or neither is allowed")
        return self

    @model_validator(mode="after")
    def _mix_is_known(self) -> Data:
        folders = [f"folder:{k}" for k in range(len(self.sharp_folders))]
        self._check_mix("mix", self.mix, [*SPECIMENS, *folders])
        if self.train_mix:
            self._check_mix("train_mix", self.train_mix, [*SPECIMENS, MOSAIC, *folders])
        return self

    def _check_mix(self, key: str, mix: dict[str, float], allowed: list[str]) -> None:
        for name, weight in mix.items():
            if name not in allowed:
                raise ValueError(f"{key}: {name!r}: allowed are {', '.join(allowed)}")
            if weight < 0:
                raise ValueError(f"{key}: {name} = {weight:g}: 0 or more is allowed")
        if not any(mix.values()):
            raise ValueError(f"{key}: a weight above 0 is needed")


#: The last block that can be kept, of each network.
LAST_BLOCK = {"mobilenetv2": 16, "resnet50": 5, "vgg16": 5}


_Count = Annotated[int, Field(ge=1, le=512)]
Block = tuple[_Count, _Count, _Count, Literal[1, 2]]


class Network(_Section):
    """The network's shape, what it is shown, and what it says."""

    base: Literal["mobilenetv2", "resnet50", "vgg16"] = "mobilenetv2"
    width: float = Field(0.35, ge=0.05, le=2.0)
    """MobileNetV2 alpha."""
    cut: int | None = Field(None, ge=1, le=16)
    """The last block that is kept (MobileNetV2: 1 to 16, ResNet50: 2 to 5, VGG16: 1 to 5); all where None."""
    stem_stride: Literal[1, 2] = 2
    """Stride of MobileNetV2's first layer; 1 keeps fine texture, at four times the work."""
    patch_px: int | None = Field(None, ge=2, le=16)
    """MobileNetV2's ``blocks`` behind one layer of patches of this width, in place of its own first layers;
    ``width``, ``cut`` and ``stem_stride`` are not for it."""
    stem: int = Field(32, ge=1, le=512)
    """Channels that a patch becomes."""
    blocks: tuple[Block, ...] = ()
    """Rows of expansion, channels, repeats, and stride of the first of them (MobileNetV2 paper, table 2)."""
    fused: int = Field(0, ge=0)
    """How many of these rows, from the first on, have one convolution of 3 x 3 in place of an expansion and a
    depthwise layer (`train.patched`)."""
    head: Literal["parfocal", "paper"] = "parfocal"
    input: Literal["normalised", "raw"] = "normalised"
    """``normalised``: informative tiles at the model's sampling, as `edge.tiles` says. ``raw``: tiles of the
    frame as the camera gave it, shrunk so that 224 of its pixels become ``tile_px``."""
    tile_px: int = Field(128, ge=32, le=512)
    tiles_per_frame: int = Field(9, ge=1, le=256)
    labels: Literal["dof", "um", "jiang41"] = "dof"
    """Bins in depths of field, in µm, or the paper's 41 classes."""
    bin_range_dof: float = Field(12.0, gt=0)
    bin_range_um: float = Field(12.5, gt=0)
    bin_count: int = Field(49, ge=5, le=255)

    @model_validator(mode="after")
    def _cut_exists(self) -> Network:
        low, high = (2 if self.base == "resnet50" else 1), LAST_BLOCK[self.base]
        if self.cut is not None and not low <= self.cut <= high:
            raise ValueError(f"cut = {self.cut}: {low} to {high} is allowed for {self.base}")
        return self

    @model_validator(mode="after")
    def _patches_have_blocks(self) -> Network:
        if (self.patch_px is None) != (not self.blocks):
            raise ValueError("patch_px and blocks: both or neither is allowed")
        if self.fused > len(self.blocks):
            raise ValueError(f"fused = {self.fused}: 0 to the rows of blocks, {len(self.blocks)}, is allowed")
        if self.patch_px is None:
            return self
        if self.base != "mobilenetv2":
            raise ValueError(f"patch_px: allowed for mobilenetv2, not for {self.base}")
        for name in ("width", "cut", "stem_stride"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} = {getattr(self, name)}: not allowed beside patch_px")
        if self.tile_px % self.patch_px:
            raise ValueError(f"patch_px = {self.patch_px}: a divisor of tile_px = {self.tile_px} is allowed")
        return self


class Fit(_Section):
    """Optimisation."""

    epochs: int = Field(10, ge=1, le=MOST_EPOCHS)
    batch: int = Field(64, ge=1, le=4096)
    learning_rate: float = Field(2e-3, gt=0, lt=1)
    warmup_share: Share = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate: warmed up and let down along a cosine, or the same throughout."""
    weight_decay: float = Field(1e-4, ge=0, lt=1)
    frozen: bool = False
    """Whether the base keeps the weights it started from, and the head alone is fitted."""
    patience: int = Field(0, ge=0)
    """Stop after this many epochs without a lower validation loss; 0 for never."""
    label_sigma_dof: float = Field(0.35, ge=0)
    """Width of the soft ordinal label near focus; it grows by ``label_sigma_slope`` a dof of defocus. 0: the
    label is one class."""
    label_sigma_slope: float = Field(0.05, ge=0)
    teacher_share: Share = 0.0
    """Share of a training tile's label that is what trained networks say of it (``--teacher``)."""
    augment: Literal["parfocal", "paper", "none"] = "parfocal"
    """``parfocal``: gain, white balance, tone curve, noise. ``paper``: flips, zoom and rotation."""
    flips: bool | None = None
    """With ``augment = "parfocal"``, flips and quarter turns; where None: only where the optics vary, since
    on one microscope they destroy a cue to the sign."""


class Recipe(_Section):
    """A whole recipe; ``name`` goes into the card."""

    name: str = "parfocal"
    data: Data = Data()
    network: Network = Network()
    fit: Fit = Fit()


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises InputError naming file, key and what is wrong."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: recipe cannot be read: {(error.strerror or str(error)).lower()}"
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, or not TOML
        raise InputError(f"{path}: not a readable recipe: {one_line(error)}") from error
    return parse_recipe(data, source=str(path))


def parse_recipe(data: Any, *, source: str) -> Recipe:
    """A recipe from the content of a TOML or JSON file; ``source`` names it in errors. Raises InputError."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{source}: {_line(error)}") from error


def _line(error: ValidationError) -> str:
    """The first thing that is wrong, as one line."""
    first = error.errors(include_url=False)[0]
    place = [one_line(part, limit=60) for part in first["loc"]]
    where = ".".join(place) or "recipe"
    if first["type"] == "extra_forbidden":
        section: Any = Recipe
        for part in place[:-1]:
            section = section.model_fields[part].annotation
        known = ", ".join(section.model_fields)
        return f"unknown key {place[-1]!r}{f' in [{place[0]}]' if place[1:] else ''}; allowed: {known}"
    if first["type"] == "value_error":
        return f"[{where}] {one_line(first['ctx']['error'])}"
    return f"{where} = {one_line(repr(first['input']), limit=60)}: {one_line(first['msg'])}"
