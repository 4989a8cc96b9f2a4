"""The sections of the configuration that only `parfocal serve` reads: the service and its HTTP interface."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from edge.section import Name, Section

__all__ = ["ApiConfig", "ServiceConfig"]

_TIME = re.compile(r"([01]?\d|2[0-3]):[0-5]\d")


class ServiceConfig(Section):
    """`parfocal serve`: what happens at start, at set times, and between two requests."""

    boot_focus: bool = Field(default=True)
    """Whether the service brings the specimen into focus as soon as it has started."""

    focus_every_min: float | None = Field(default=None, ge=0.1, le=100_000.0)
    """Focus again this many minutes after the last run ended. Not set: only when asked."""

    focus_at: Name | None = Field(default=None)
    """Focus at these times of the day, local time, such as `08:00, 13:30`. Not set: never by the clock."""

    hold: bool = Field(default=False)
    """Whether focus is held through drift after each run that ended in focus. The page can switch it."""

    hold_interval_s: float = Field(default=10.0, ge=0.5, le=3600.0)
    """Time in s between two looks while focus is held."""

    history: int = Field(default=500, ge=1, le=100_000)
    """How many of the newest runs are kept, with their traces, in $STATE_DIRECTORY/runs, else in
    ~/.local/state/parfocal/runs."""

    @field_validator("focus_at")
    @classmethod
    def _times_of_the_day(cls, text: str | None) -> str | None:
        if text is not None and not all(_TIME.fullmatch(part.strip()) for part in text.split(",")):
            raise ValueError("times from 00:00 to 23:59 with commas between them are allowed")
        return text


class ApiConfig(Section):
    """The page and the HTTP interface of `parfocal serve` (`pip install 'parfocal[serve]'`)."""

    enabled: bool = Field(default=True)
    """Whether there is one."""

    host: Name = Field(default="127.0.0.1")
    """Address to listen on. Beyond this computer (`0.0.0.0`, `::`, an address of the network) only with a
    token in `token_file`, which every request must then bring."""

    port: int = Field(default=8080, ge=1, le=65_535)
    """Port to listen on."""

    token_file: Name = Field(default="auto")
    """File with the token: one line of at least 22 characters. `auto`: `token` in $CONFIGURATION_DIRECTORY,
    else /etc/parfocal/token; where there is no such file, none is asked for. `none`: none is."""

    names: Name | None = Field(default=None)
    """Further names, with commas between them, by which browsers may call this computer. Its own name, that
    with `.local`, `localhost` and the address that was called are always allowed; no other is."""

    preview_fps: float = Field(default=5.0, ge=0.1, le=60.0)
    """Pictures a second of the live preview, at the most."""

    preview_px: int = Field(default=640, ge=64, le=4096)
    """Longest side of the preview in pixels."""
