"""The card: what a model file says about itself, in JSON, appended to the .tflite as TFLite Metadata is.

A flatbuffer is read from its front and a zip from its back, so one file is both: every TFLite runtime loads
it, and ``unzip -p FILE card.json`` shows the card.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.errors import ModelError, one_line
from edge.head import Head

#: The newest layout that is read here; cards with a `Head` have it.
SCHEMA = 2
#: The layout of a card without a head, which older versions read too.
PLAIN_SCHEMA = 1
CARD_NAME = "card.json"
_LARGEST_CARD = 1 << 20

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AdaptedStack(BaseModel):
    """One z-stack that a model was adapted on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name of its folder."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of its table and images, in the order of z."""
    planes: int = Field(ge=1)
    """Its planes with anything to see in them."""
    focus_um: Finite
    """Where it was taken to be sharp, in µm of its stage."""
    focus_measured: bool
    """Whether that was measured on its planes, or stated in its about.json."""


class Adapted(BaseModel):
    """Where the head of an adapted model comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parent: str
    """Name in the parent's card."""
    parent_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the parent's whole file."""
    at: str
    """Date, ISO 8601."""
    stacks: tuple[AdaptedStack, ...] = Field(min_length=1)
    """What it was fitted to."""
    held_out: Literal["stack", "half"]
    """What was left out in turn to judge it: each stack, or of a single one each half of the frame."""
    fields: int = Field(ge=2)
    """How many such parts."""
    frames: int = Field(ge=1)
    """Planes of all parts."""
    tiles: int = Field(ge=1)
    """Tiles that the head was fitted to."""
    strength: Positive
    """Pull towards the parent, chosen on the parts left out."""
    before: dict[str, Finite]
    """The parent on the frames of all parts; names as `edge.adapt.figures`."""
    after: dict[str, Finite]
    """The same of heads fitted without the part that each was judged on."""


class Card(BaseModel):
    """What must be known to use a model. Extra keys are kept out, so that a typing error cannot hide."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = Field(ge=1)
    """Version of this layout; a newer one than `SCHEMA` is refused."""
    name: str
    """Name of the recipe."""
    tile_px: int = Field(ge=16, le=1024)
    """Width and height of the input."""
    pixels_per_resolution: Positive
    """Pixels per wavelength / NA that frames are resampled to."""
    input: Literal["normalised", "raw"] = "normalised"
    """What a tile holds: shape alone, as `edge.tiles` makes it, or the camera's bytes less 128."""
    bin_centres: tuple[Finite, ...] = Field(min_length=3, max_length=1024)
    """Centres of the defocus bins, rising; the outermost stand for "at least this far"."""
    unit: Literal["dof", "um"]
    """Unit of the bins."""
    temperature: Positive
    """Divides the logits before the softmax; fitted on held-out fields."""
    tile_weight: float = Field(gt=0, le=1)
    """Evidence of one tile of a frame of several: tiles of one frame err together."""
    trained_on: str
    """One sentence."""
    trained_at: str
    """Date, ISO 8601."""
    recipe: dict[str, Any]
    """The whole recipe, seed included."""
    metrics: dict[str, dict[str, Finite]]
    """Held-out figures: ``float`` and ``int8``, names as `parfocal evaluate` prints them."""
    flatbuffer_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the bytes before the zip."""
    head: Head | None = None
    """What `parfocal adapt` adds to the network's last layer; None for a model as it was converted."""
    adapted: Adapted | None = None
    """Where the head comes from."""

    @model_validator(mode="after")
    def _bins_rise(self) -> Card:
        if any(b <= a for a, b in zip(self.bin_centres, self.bin_centres[1:], strict=False)):
            raise ValueError("bin_centres must rise")
        return self

    @model_validator(mode="after")
    def _head_fits(self) -> Card:
        if (self.head is None) != (self.adapted is None):
            raise ValueError("head and adapted belong together")
        if self.head is None:
            return self
        if self.schema_version <= PLAIN_SCHEMA:
            raise ValueError(f"a card with a head is of schema {PLAIN_SCHEMA + 1} or newer")
        if self.head.bins != len(self.bin_centres):
            raise ValueError(f"head: {self.head.bins} bins, bin_centres has {len(self.bin_centres)}")
        return self

    def as_json(self) -> str:
        """The card's text; without a head, what older versions wrote and read."""
        absent = {name for name in ("head", "adapted") if getattr(self, name) is None}
        return self.model_dump_json(indent=1, exclude=absent)


def attach(flatbuffer: bytes, card: Card) -> bytes:
    """The file's bytes: ``flatbuffer``, ``card`` behind it. Raises ValueError for a card of another one, or
    one too large to be read again.
    """
    if hashlib.sha256(flatbuffer).hexdigest() != card.flatbuffer_sha256:
        raise ValueError("the card's SHA-256 is not that of the flatbuffer")
    text = card.as_json().encode()
    if len(text) > _LARGEST_CARD:
        raise ValueError(f"a card of {len(text)} bytes; at most {_LARGEST_CARD} is allowed")
    tail = io.BytesIO()
    with zipfile.ZipFile(tail, "w", zipfile.ZIP_STORED) as archive:
        info = zipfile.ZipInfo(CARD_NAME, date_time=(1980, 1, 1, 0, 0, 0))
        archive.writestr(info, text)
    return flatbuffer + tail.getvalue()


def read(path: Path) -> tuple[bytes, Card]:
    """The flatbuffer and card of ``path``; raises ModelError with one line that says what is wrong."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such model file") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if data[4:8] != b"TFL3":
        raise ModelError(f"{path}: not a TFLite file (its identifier is missing)")
    text, flatbuffer = _split(path, data)
    card = _parse(path, text)
    if hashlib.sha256(flatbuffer).hexdigest() != card.flatbuffer_sha256:
        raise ModelError(
            f"{path}: damaged: the flatbuffer is not the one its card describes (SHA-256 differs)"
        )
    return flatbuffer, card


def _split(path: Path, data: bytes) -> tuple[bytes, bytes]:
    """The card's text and the bytes before the zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            info = archive.getinfo(CARD_NAME)
            fits = info.file_size <= _LARGEST_CARD
            text = _unpacked(archive, info) if fits else b""
            start = min(entry.header_offset for entry in archive.infolist())
    except KeyError as error:
        raise ModelError(f"{path}: a zip without {CARD_NAME} is appended; convert the run again") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        ValueError,
        OSError,
        EOFError,
        RuntimeError,
    ) as error:
        raise ModelError(f"{path}: no card: truncated, or not made by `parfocal convert`") from error
    if not fits:
        raise ModelError(
            f"{path}: damaged: a card of {info.file_size} bytes, at most {_LARGEST_CARD} is allowed"
        )
    return text, data[:start]


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    # The other methods have errors of their own, and modules that a small Python may lack.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"compression method {info.compress_type}")
    return archive.read(info)


def _parse(path: Path, text: bytes) -> Card:
    newer = _newer_schema(text)
    if newer is not None:
        raise ModelError(
            f"{path}: card of schema {newer}; this version reads up to {SCHEMA}: upgrade parfocal"
        )
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "card"
        raise ModelError(f"{path}: card: {where}: {one_line(first['msg'])}") from error


def _newer_schema(text: bytes) -> int | None:
    try:
        version = json.loads(text).get("schema_version")
    except (ValueError, AttributeError, RecursionError):
        return None
    return version if isinstance(version, int) and version > SCHEMA else None
