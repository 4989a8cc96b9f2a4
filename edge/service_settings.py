"""The sections of the configuration that only `parfocal serve` reads: the service and its HTTP interface."""

# Annotations are evaluated here, at once: as text they would be compiled one by one at each start.

import re
from typing import Annotated

from msgspec import Meta

from edge.section import Name, NotAllowed, Section

__all__ = ["ApiConfig", "ServiceConfig"]

_TIME = re.compile(r"([01]?\d|2[0-3]):[0-5]\d")


class ServiceConfig(Section, frozen=True, kw_only=True):
    """`parfocal serve`: what happens at start, at set times, and between two requests."""

    boot_focus: bool = True
    """Whether the service brings the specimen into focus as soon as it has started."""

    focus_every_min: Annotated[float, Meta(ge=0.1, le=100_000.0)] | None = None
    """Focus again this many minutes after the last run ended. Not set: only when asked."""

    focus_at: Name | None = None
    """Focus at these times of the day, local time, such as `08:00, 13:30`. Not set: never by the clock."""

    hold: bool = False
    """Whether focus is held through drift after each run that ended in focus. The page can switch it."""

    hold_interval_s: Annotated[float, Meta(ge=0.5, le=3600.0)] = 10.0
    """Time in s between two looks while focus is held."""

    history: Annotated[int, Meta(ge=1, le=100_000)] = 500
    """How many of the newest runs are kept, with their traces, in $STATE_DIRECTORY/runs, else in
    ~/.local/state/parfocal/runs."""

    def __post_init__(self) -> None:
        times = [] if self.focus_at is None else self.focus_at.split(",")
        if not all(_TIME.fullmatch(part.strip()) for part in times):
            raise NotAllowed("focus_at", "times from 00:00 to 23:59 with commas between them are allowed")


class ApiConfig(Section, frozen=True, kw_only=True):
    """The page and the HTTP interface of `parfocal serve` (`pip install 'parfocal[serve]'`)."""

    enabled: bool = True
    """Whether there is one."""

    host: Name = "127.0.0.1"
    """Address to listen on. Beyond this computer (`0.0.0.0`, `::`, an address of the network) only with a
    token in `token_file`, which every request must then bring."""

    port: Annotated[int, Meta(ge=1, le=65_535)] = 8080
    """Port to listen on."""

    token_file: Name = "auto"
    """File with the token: one line of at least 22 characters. `auto`: `token` in $CONFIGURATION_DIRECTORY,
    else /etc/parfocal/token; where there is no such file, none is asked for. `none`: none is."""

    names: Name | None = None
    """Further names, with commas between them, by which browsers may call this computer. Its own name, that
    with `.local`, `localhost` and the address that was called are always allowed; no other is."""

    preview_fps: Annotated[float, Meta(ge=0.1, le=60.0)] = 5.0
    """Pictures a second of the live preview, at the most."""

    preview_px: Annotated[int, Meta(ge=64, le=4096)] = 640
    """Longest side of the preview in pixels."""
