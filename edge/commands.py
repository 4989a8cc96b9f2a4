"""The commands of the device: `focus` and `config`. `edge.cli` parses and turns errors into exit codes.

`focus` checks everything before anything moves: arguments, config, model, every image of a stack, the
places where its outputs go. Only then is the rig switched on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from edge import calibration, console, hardware, model, model_store, rig
from edge.cli import finite, go_on, version
from edge.config import Config, load_config, override
from edge.config_reference import default_toml, reference_markdown
from edge.errors import InputError
from edge.microscope import Microscope
from edge.outputs import Outputs
from edge.progress import Bar
from edge.rig import Rig
from edge.trace import plain
from edge.zstack import ZStack

__all__ = ["add_arguments", "run"]

EXIT_CODES = {"focused": 0, "no_specimen": 3, "failed": 4}
#: A frame resampled to the model's sampling may have this many pixels: 60 times those of a common camera.
MOST_PIXELS = 150_000_000
_OF_OTHER_RIGS = {
    "replay": ("specimen", "start_defocus_um"),
    "simulated": ("stack", "start_plane", "step_um"),
    "hardware": ("stack", "start_plane", "step_um", "specimen", "start_defocus_um", "seed"),
}


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of the command ``name``."""
    {"focus": _focus_arguments, "config": _config_arguments}[name](parser)


def run(name: str, args: argparse.Namespace) -> int:
    """Run the command ``name`` and return its exit code; `focus` moves the stage."""
    return {"focus": _focus, "config": _config}[name](args)


def _focus_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", metavar="FILE", help="TOML file; `parfocal config` prints one with every key")
    rigs = ("simulated", "replay", "hardware")
    text = "not said: replay with --stack, hardware with a config that names its drivers, else simulated"
    add("--rig", choices=rigs, help=text)
    add("--stack", metavar="DIR", help="replay: a z-stack folder (planes.csv and images)")
    add(
        "--specimen",
        metavar="NAME",
        help="simulated: tissue, blood, debris, empty, or a folder of photographs",
    )
    start = parser.add_mutually_exclusive_group()
    text = "simulated: start this far past focus, instead of the configuration's (20)"
    start.add_argument("--start-defocus-um", metavar="X", type=finite, help=text)
    start.add_argument(
        "--start-plane", metavar="K", type=int, help="replay: start here, counted by rising z (0)"
    )
    add("--seed", metavar="N", type=int, help="start of all chance: the same seed gives the same run")
    add(
        "--step-um",
        metavar="U",
        type=finite,
        help="replay: µm between planes, where a stack counts planes (1)",
    )
    text = "a .tflite with its card, or `default`, the shipped one; not said: [model] path"
    add("--model", metavar="FILE", help=text)
    add("--trace", metavar="FILE", help="write what happened, frame by frame, as JSON")
    add("--plot", metavar="FILE.png", help="draw the run: frames, belief, position, sharpness")
    add("--json", action="store_true", help="print the result as JSON")


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--reference", action="store_true", help="print the manual of every key (Markdown) instead"
    )
    text = "print the commented configuration of a common build instead: %(choices)s"
    instead.add_argument("--example", metavar="BUILD", choices=sorted(_examples()), help=text)


def _focus(args: argparse.Namespace) -> int:
    config = _overridden(args)
    kind = _rig_kind(args, config)
    network, fell_back = model_store.open_model(config)
    outputs = Outputs(args.trace, args.plot)
    models = (model.DEFAULT_PATH.parent, model_store.Store().folder, config.model.path)
    read = (args.config, args.stack, *models)
    outputs.check([Path(name) for name in read if name is not None])
    shown, notes = {"replay": _replay, "simulated": _simulated, "hardware": _hardware}[kind](args, config)
    with contextlib.ExitStack() as opened:
        opened.push(shown.__exit__)  # a camera runs from the moment it is opened
        for text in (*fell_back, *notes):
            console.note(text)
        go_on()
        shown.__enter__()
        scope = Microscope(shown, network, config)
        result = scope.focus()
    if shown.calibration is not None and scope.gain is not None:
        calibration.note_run(config, scope.gain)
    if args.json:
        _print_json({**plain(result.as_dict()), "rig": shown.name, "model": network.name})
    else:
        console.show(result)
    sys.stdout.flush()  # the result stands, whatever becomes of the files
    outputs.save(scope, result, title=_title(args, config, kind), version=version())
    return EXIT_CODES[result.result]


def _rig_kind(args: argparse.Namespace, config: Config) -> str:
    """Which rig was asked for. Raises InputError for options that contradict each other: none is dropped."""
    named = "hardware" if hardware.is_configured(config) else "simulated"
    kind: str = args.rig or ("replay" if args.stack is not None else named)
    if kind == "replay" and args.stack is None:
        raise InputError("--rig replay: say which z-stack with --stack DIR")
    for name in _OF_OTHER_RIGS[kind]:
        if getattr(args, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} has no meaning for the {kind} rig")
    return kind


def _overridden(args: argparse.Namespace) -> Config:
    """The config file's values with those of the command line over them."""
    simulator = {"specimen": args.specimen, "seed": args.seed}
    given = {
        "simulator": {key: value for key, value in simulator.items() if value is not None},
        "model": {} if args.model is None else {"path": args.model},
    }
    return override(load_config(args.config), "command line", **given)


def _simulated(args: argparse.Namespace, config: Config) -> tuple[Rig, list[str]]:
    """The simulated rig, and that it is one."""
    given_um = args.start_defocus_um
    start_um = config.simulator.start_defocus_um if given_um is None else given_um
    with contextlib.ExitStack() as until_done:
        bars: list[Bar] = []

        def report(share: float) -> None:
            if not bars:  # nothing is computed, and no bar shown, where the field is in the cache
                bars.append(until_done.enter_context(Bar("simulating the field", 1)))
            bars[0].set_share(share)

        found, note = calibration.in_force(rig.without_hardware(config))
        made = rig.simulated_rig(config, start_defocus_um=start_um, progress=report, calibration=found)
    low, high = made.stage.limits_um
    if not low <= made.stage.position_um <= high:
        raise InputError(
            f"the stage starts at 0 µm, outside [stage] limit_low_um = {low:g} to limit_high_um = {high:g}"
        )
    sim = config.simulator
    about = f"{sim.specimen}, {start_um:g} µm past focus, seed {sim.seed}"
    return made, [f"simulated rig: {about}; no hardware is used", *_about_calibration(found, note)]


def _replay(args: argparse.Namespace, config: Config) -> tuple[Rig, list[str]]:
    """The rig that replays ``--stack``, every image of it checked."""
    stack = ZStack.open(args.stack, step_um=1.0 if args.step_um is None else args.step_um)
    start = 0 if args.start_plane is None else args.start_plane
    if not 0 <= start < len(stack):
        raise InputError(f"start plane {start}: {args.stack} has planes 0 to {len(stack) - 1}")
    stack.check()
    made = rig.replay_rig(
        config, stack, start_plane=start, step_assumed=stack.z_in_planes and args.step_um is None
    )
    pixels = stack.shape[0] * stack.shape[1] * made.optics.model_scale**2
    if pixels > MOST_PIXELS:
        raise InputError(
            f"{args.stack}: pixels of {made.optics.pixel_um:g} µm behind {made.optics.objective} would have"
            f" to be enlarged {made.optics.model_scale:.3g} times: objective or pixel_um is wrong"
        )
    notes = [f"replay of {args.stack}, from plane {start}; no hardware is used"]
    if args.step_um is not None and not stack.z_in_planes:
        notes.append(f"--step-um {args.step_um:g} is not used: the stack gives z in µm")
    return made, notes


def _hardware(args: argparse.Namespace, config: Config) -> tuple[Rig, list[str]]:
    """The rig that the configuration describes."""
    found, note = calibration.in_force(config)
    made = hardware.hardware_rig(config, found)
    notes = [f"hardware: {config.stage.driver} and {config.camera.driver}, {made.optics.objective}"]
    notes += _about_calibration(found, note)
    return made, notes + ([made.stage.uncertain] if made.stage.uncertain else [])


def _about_calibration(found: calibration.Calibration | None, note: str | None) -> list[str]:
    """Which one is in use, or why none is; nothing where there is none."""
    notes = [note] if note else []
    if found is not None:
        notes.append(f"calibrated on {found.date[:10]}: its scale, direction and slack are used")
    return notes


def _title(args: argparse.Namespace, config: Config, kind: str) -> str:
    if kind == "replay":
        return f"replay of {Path(args.stack).resolve().name}"
    if kind == "hardware":
        return f"{config.stage.driver} and {config.camera.driver}, {config.optics.objective}"
    return f"simulated {Path(config.simulator.specimen).name}, seed {config.simulator.seed}"


def _examples() -> dict[str, Path]:
    """The configurations of common builds by their names."""
    return {file.stem: file for file in (Path(__file__).parent / "examples").glob("*.toml")}


def _config(args: argparse.Namespace) -> int:
    if args.example is not None:
        sys.stdout.write(_examples()[args.example].read_text(encoding="utf-8"))
    else:
        sys.stdout.write(reference_markdown() if args.reference else default_toml())
    return 0


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, allow_nan=False))
