"""The errors that the `edge` layer raises, as one small tree.

    ParfocalError
    ├── InputError   (ValueError)    what the user gave is wrong: one line on stderr, exit code 2
    │   ├── ConfigError              the configuration file
    │   ├── StackError               a z-stack folder
    │   └── ModelError               a model file or its card
    ├── CameraError  (OSError)       the camera failed or went away
    ├── FocusError   (RuntimeError)  the focus loop was used wrongly or cannot go on
    └── AdaptError   (RuntimeError)  a model was not made better by the stacks it was adapted to

Each leaf is also a builtin, so that code which knows nothing of us can catch it. What stops a motor is in
`firmware_iface.errors`. The text of an `InputError` is one line that can stand alone on stderr: it names
the file, what is wrong in it and what is allowed. `one_line` makes foreign text fit for that.
"""

from __future__ import annotations

__all__ = [
    "AdaptError",
    "CameraError",
    "ConfigError",
    "FocusError",
    "InputError",
    "ModelError",
    "ParfocalError",
    "StackError",
    "one_line",
]


class ParfocalError(Exception):
    """Base of every error that `edge` raises on purpose."""


class InputError(ParfocalError, ValueError):
    """Something the user gave cannot be used. Nothing moved and nothing was overwritten."""


class ConfigError(InputError):
    """The configuration: `{path}: [section] key = value: what is allowed`."""


class StackError(InputError):
    """A z-stack folder: missing, or its table or images cannot be used."""


class ModelError(InputError):
    """A model file or its card: missing, truncated, mismatched or of a newer schema."""


class CameraError(ParfocalError, OSError):
    """A camera could not be opened or gave no frame."""


class FocusError(ParfocalError, RuntimeError):
    """The focus loop was given an event that its state does not allow, or cannot go on."""


class AdaptError(ParfocalError, RuntimeError):
    """An adapted model is not better than its parent on fields left out. Nothing was written."""


def one_line(text: object, *, limit: int = 200) -> str:
    """Foreign text (an exception, a cell of a table) on one line: control characters become spaces.

    More than `limit` characters are cut, and the cut is shown.
    """
    # splitlines would miss escape codes: whatever cannot be printed has no place on the user's terminal.
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
