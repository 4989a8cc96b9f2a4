"""The command line: ``parfocal COMMAND``. Parses, runs one command, and turns what it raises into a line
and an exit code.

    0  done; `focus`: in focus      3  `focus`: no specimen     1    reading or writing failed; doctor: errors
    2  bad input, nothing was done  4  `focus`: failed          130  interrupted, the motor is released
                                       `adapt`: not better

A command lives in a module that offers ``add_arguments(name, parser)`` and ``run(name, args) -> int``. The
module is imported once its command was chosen, so the desktop commands may sit beside those of the device
without the device importing TensorFlow, or anything else, for them.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import io
import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn, Protocol, cast

from edge import __version__
from edge.errors import InputError, ParfocalError, one_line
from edge.memory import keep_freed
from firmware_iface.errors import MotionError

__all__ = ["COMMANDS", "finite", "go_on", "main", "module_of", "version"]

#: Name: (module, one line of help).
COMMANDS = {
    "focus": ("edge.commands", "bring the specimen into focus"),
    "calibrate": (
        "edge.calibrate_command",
        "measure direction, scale, slack and settling of this microscope",
    ),
    "move": ("edge.hands_on", "move the stage by a distance"),
    "home": ("edge.hands_on", "move the stage to its limit switch and count from there"),
    "snap": ("edge.hands_on", "take one frame"),
    "collect": ("edge.collect_command", "record z-stacks around the focus, field after field"),
    "serve": ("edge.service.command", "focus at start, then serve page, button, signal and clock"),
    "doctor": ("edge.doctor", "check the machine, camera and motor"),
    "model": ("edge.model_command", "list, choose or take back the model file that is used"),
    "bench": ("edge.bench.command", "measure focusing beside how others focus, and each stage of a look"),
    "adapt": ("edge.adapt_command", "teach a model file this microscope, from a few z-stacks"),
    "simulate": ("edge.simulate_command", "write simulated z-stacks, or data to train on"),
    "config": ("edge.commands", "print the default configuration, or its reference"),
    "data": ("train.commands", "say what a data set holds, and how it would be split (desktop)"),
    "import-stack": ("train.import_stack", "make a z-stack folder of a TIFF or a folder of images (desktop)"),
    "train": ("train.train_command", "train a network (desktop)"),
    "convert": ("convert.commands", "quantize a trained network into a model file (desktop)"),
    "evaluate": ("train.commands", "measure a model file on images (desktop)"),
    "report": ("train.report", "judge a trained network on held-out data, as a page (desktop)"),
    "bundle": ("convert.bundle", "make one signed file that installs Parfocal without a network (desktop)"),
    "compare": ("convert.compare", "compare trained networks side by side (desktop)"),
}
#: What the extra `train` brings; without it the desktop commands say so in one line.
TRAIN_PACKAGES = frozenset(
    {
        "tensorflow",
        "keras",
        "tifffile",
        "imagecodecs",
        "h5py",
        "dask",
        "distributed",
        "packaging",
        "train",
        "convert",
    }
)
IO_FAILED, BAD_INPUT, FAILED, BROKEN_PIPE, INTERRUPTED = 1, 2, 4, 141, 130
_LONGEST_LINE = 2000
_interrupts: list[int] = []


class _CommandModule(Protocol):
    def add_arguments(self, name: str, parser: argparse.ArgumentParser) -> None: ...

    def run(self, name: str, args: argparse.Namespace) -> int: ...


class _Parser(argparse.ArgumentParser):
    """One line for an error; no abbreviations, so that a typing error cannot pass for another option."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**{**settings, "allow_abbrev": False})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        self.exit(
            BAD_INPUT, f"{self.prog}: {one_line(message, limit=_LONGEST_LINE)} (see {self.prog} --help)\n"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in ``argv`` (default: the process's own) and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an old terminal may not know µ
    try:
        keep_freed()
        with _terminated_as_interrupted():
            code = _run(words)
        sys.stdout.flush()
    except SystemExit as stop:  # argparse, for --help and for bad arguments
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except InputError as error:
        return _say(error, BAD_INPUT)
    except (ParfocalError, MotionError) as error:
        return _say(error, FAILED)
    except BrokenPipeError:
        # The reader (head, less) has gone; without this the interpreter would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        return _say(f"reading or writing failed: {error}", IO_FAILED)
    return code


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM and Ctrl-C raise KeyboardInterrupt: each `with` and `finally` on the way releases its motor."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> NoReturn:
        _interrupts.append(number)
        raise KeyboardInterrupt

    _interrupts.clear()
    # A shell starts what it runs in the background with Ctrl-C ignored, and means it.
    heard = [
        number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) != signal.SIG_IGN
    ]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def go_on() -> None:
    """KeyboardInterrupt where somebody has asked for it and a library has swallowed it: the imports of
    extension modules do. Called before the motor has current.
    """
    if _interrupts:
        raise KeyboardInterrupt


def version() -> str:
    """Version of this program."""
    return __version__


def finite(text: str) -> float:
    """A number on the command line that is neither infinite nor NaN: the ``type`` of an argument."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r}: a finite number is allowed")
    return value


finite.__name__ = "number"  # argparse says "invalid number value"


def _run(words: list[str]) -> int:
    # The top level has no option with a value, so the first word without a dash is the command.
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser = _Parser(
        prog="parfocal",
        description="Microscope autofocus: looks once, knows how far and which way, moves once, proves it.",
    )
    parser.add_argument("--version", action="version", version=f"parfocal {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # The others are there for the help, and for a word that is none of them.
    known = {chosen: COMMANDS[chosen]} if words[:1] == [chosen] and chosen in COMMANDS else COMMANDS
    for name, (_, text) in known.items():
        own = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == chosen:
            module_of(name).add_arguments(name, own)
    args, unknown = parser.parse_known_args(words)
    if unknown:
        commands.choices[args.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return module_of(args.command).run(args.command, args)
    except ImportError as error:
        _explain(args.command, error)
        raise


def module_of(name: str) -> _CommandModule:
    """The module of the command ``name``. Raises InputError where a desktop command lacks its extra."""
    collects = gc.isenabled()
    gc.disable()  # to load modules makes much and drops nothing
    try:
        return cast(_CommandModule, importlib.import_module(COMMANDS[name][0]))
    except ImportError as error:
        _explain(name, error)
        raise
    finally:
        if collects:
            gc.enable()


def _explain(name: str, error: ImportError) -> None:
    """Raise InputError where a desktop command lacks its extra; any other import that fails is a bug."""
    root = (error.name or "").partition(".")[0]
    if root in TRAIN_PACKAGES and not COMMANDS[name][0].startswith("edge."):
        text = f"{name} runs on a desktop and {root} is missing here: pip install 'parfocal[train]'"
        raise InputError(text) from error


def _say(error: object, code: int) -> int:
    """One line on stderr; with DEBUG=1 in the environment the traceback before it."""
    if os.environ.get("DEBUG") == "1":
        traceback.print_exc()
    print(f"parfocal: {one_line(error, limit=_LONGEST_LINE)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
