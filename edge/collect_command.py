"""The command `collect`: z-stacks about the focus, field after field, into a folder that can be gone on with.

Everything is checked before anything moves: arguments, config, model, the fields that are there already, the
room between the limits, the room on the disk, and that somebody can say when the slide has been moved.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from edge import calibration, console, hardware, model_store, rig
from edge.cli import finite, go_on, version
from edge.collect import Collector
from edge.collect_facts import facts
from edge.collect_plan import Plan, Recorded, Refused, check_before
from edge.collect_prompt import Prompt
from edge.collection import MOST_FIELDS, claimed, field_name, fields_in
from edge.config import Config, load_config, override
from edge.errors import InputError, one_line
from edge.microscope import Microscope
from edge.model import Model
from edge.progress import Bar
from edge.rig import Rig
from edge.zstack import ZStack

__all__ = ["add_arguments", "run"]

#: So many fields running that come to nothing end it, where nobody is asked.
MOST_REFUSED = 3
GAVE_UP = 4
#: Planes that are farther from the distance asked for, as a share of it, are told of.
OTHER_STEP = 0.2
_LONGEST_NAME = 100


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of `collect`, the only command here."""
    add = parser.add_argument
    add("out", metavar="OUT", help="folder for field-001 and so on; one with fewer than N is gone on with")
    add("--fields", metavar="N", type=int, default=3, help="fields that OUT shall hold (%(default)s)")
    text = "planes of each, an odd number (%(default)s)"
    add("--planes", metavar="K", type=int, default=Plan.planes, help=text)
    text = "depths of field from plane to plane, to the nearest motor step (%(default)s)"
    add("--step-dof", metavar="S", type=finite, default=Plan.step_dof, help=text)
    text = "what the slide is called in about.json; training never parts fields of one slide (name of OUT)"
    add("--name", metavar="TEXT", help=text)
    add("--config", metavar="FILE", help="TOML file; `parfocal config` prints one with every key")
    text = "not said: hardware with a config that names its drivers, else simulated"
    add("--rig", choices=("simulated", "hardware"), help=text)
    text = (
        "do not ask between fields: the simulated rig has a new one each time, else a script moves the slide"
    )
    add("--yes", "--no-prompt", action="store_true", help=text)
    add("--json", action="store_true", help="print what was recorded as JSON")


def run(name: str, args: argparse.Namespace) -> int:
    """Record what ``args`` ask for and return the exit code. MOVES the stage."""
    if not 1 <= args.fields <= MOST_FIELDS:
        raise InputError(f"--fields {args.fields}: 1 to {MOST_FIELDS} is allowed")
    plan = Plan(args.planes, args.step_dof)
    config = load_config(args.config)
    kind = args.rig or ("hardware" if hardware.is_configured(config) else "simulated")
    if kind == "simulated":
        config = rig.without_hardware(config)
    out = Path(args.out)
    with claimed(out):
        there = fields_in(out)
        missing = args.fields - len(there)
        if missing <= 0:
            return _told(args, there, [], f"{len(there)} fields are there already, nothing was moved", 0)
        with Prompt(config, unasked=args.yes, button=kind == "hardware", asks=missing > 1) as prompt:
            network, doubts = model_store.open_model(config)
            for text in doubts:
                console.note(text)
            slide = _slide(args)
            with _Bench(kind, config, network, there) as bench:
                session = _Session(out, plan, bench, prompt, slide, there)
                said, code = session.record(missing, said=not args.json)
        return _told(args, there, session.recorded, said, code)


def _slide(args: argparse.Namespace) -> str:
    """What the slide is called. InputError for a name of nothing."""
    if args.name is None:
        return Path(args.out).resolve().name
    if not (name := one_line(args.name, limit=_LONGEST_NAME)):
        raise InputError("--name: a text that is not empty is allowed")
    return name


class _Bench:
    """The microscope for each field: of hardware always the same, simulated another field each time."""

    def __init__(self, kind: str, config: Config, network: Model, there: Mapping[int, ZStack]) -> None:
        self.kind, self._simulated = kind, kind == "simulated"
        self._config, self._network = config, network
        self._calibration, note = calibration.in_force(config)
        if note is not None:
            console.note(note)
        self._opened = contextlib.ExitStack()
        self._scope: Microscope | None = None
        self.seed = max([config.simulator.seed, *_seeds(there)])

    def scope(self, check: Callable[[Rig], None]) -> Microscope:
        """A microscope ready to move, ``check`` passed before the motor had current. Moves nothing."""
        if self._scope is not None and not self._simulated:
            return self._scope
        self.close()
        made, config = self._made()
        self._opened.push(made.__exit__)  # a camera runs from the moment it is opened
        if made.stage.uncertain:
            console.note(made.stage.uncertain)
        check(made)
        go_on()
        made.__enter__()
        self._scope = Microscope(made, self._network, config)
        return self._scope

    def _made(self) -> tuple[Rig, Config]:
        if not self._simulated:
            return hardware.hardware_rig(self._config, self._calibration), self._config
        self.seed += 1
        config = override(self._config, "next field", simulator={"seed": self.seed})
        with contextlib.ExitStack() as until_done:
            bars: list[Bar] = []

            def report(share: float) -> None:
                if not bars:  # no bar where the field is in the cache
                    bars.append(until_done.enter_context(Bar("simulating the field", 1)))
                bars[0].set_share(share)

            start_um = config.simulator.start_defocus_um
            made = rig.simulated_rig(
                config, start_defocus_um=start_um, progress=report, calibration=self._calibration
            )
            return made, config

    def close(self) -> None:
        """Release the motor and close the camera; a second call does nothing."""
        self._scope = None
        self._opened.close()

    def __enter__(self) -> _Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Session:
    """Field after field into ``out``. ``recorded``: those of this run, also where it ends with an error."""

    def __init__(
        self,
        out: Path,
        plan: Plan,
        bench: _Bench,
        prompt: Prompt,
        slide: str,
        there: Mapping[int, ZStack],
    ) -> None:
        self._out, self._plan, self._bench, self._prompt, self._slide = out, plan, bench, prompt, slide
        self._there = there
        self._next = max(there, default=0) + 1
        self._told_of_step = False
        self.recorded: list[Recorded] = []

    def record(self, missing: int, *, said: bool) -> tuple[str, int]:
        """Record ``missing`` more fields; how it ended in words, and the exit code. MOVES the stage."""
        refused = 0
        while True:
            name = field_name(self._next)
            try:
                done = self._field(name, missing - len(self.recorded))
            except Refused as why:
                refused += 1
                what = f"{name} is not recorded: {why}"
                console.note(what)
                if self._prompt.unasked and refused >= MOST_REFUSED:
                    return f"gave up after {refused} fields running that came to nothing", GAVE_UP
                if not self._prompt.go_on("once more", failed=True):
                    return ("ended", 0) if self.recorded else (what, GAVE_UP)
                continue
            refused = 0
            self.recorded.append(done)
            self._next += 1
            if said:
                print(_line(done), flush=True)
            if len(self.recorded) == missing:
                return "done", 0
            if not self._prompt.go_on(f"{name} is recorded"):
                return "ended", 0

    def _field(self, name: str, left: int) -> Recorded:
        scope = self._bench.scope(lambda made: self._check(made, left))
        known = facts(
            scope, kind=self._bench.kind, slide=self._slide, source="parfocal collect", version=version()
        )
        with Bar(name, self._plan.planes) as bar:
            done = Collector(scope, self._plan, known, told=bar.of).record(self._out / name)
        if done.planes < self._plan.planes:
            console.note(f"{name}: the limits left room for {done.planes} of {self._plan.planes} planes")
        return done

    def _check(self, made: Rig, left: int) -> None:
        """InputError for what can be known before anything moves. BLOCKS for a frame."""
        check_before(made, self._plan, self._out, self._there, left)
        step_dof = self._plan.step_dof_of(made)
        if abs(step_dof / self._plan.step_dof - 1) > OTHER_STEP and not self._told_of_step:
            self._told_of_step = True
            console.note(
                f"planes are {step_dof:.2g} depths of field apart: the motor's step of"
                f" {made.stage.um_per_step:g} µm allows no nearer to {self._plan.step_dof:g}"
            )


def _told(
    args: argparse.Namespace, there: Mapping[int, ZStack], recorded: list[Recorded], said: str, code: int
) -> int:
    """Say how it ended, on stdout; the exit code as it is."""
    total = len(there) + len(recorded)
    if args.json:
        found = {
            "out": str(args.out),
            "fields": total,
            "asked": args.fields,
            "ended": said,
            "recorded": [vars(one) for one in recorded],
        }
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        asked = f"{total} of {args.fields}" if total <= args.fields else f"{total} ({args.fields} asked for)"
        print(f"{args.out}: {asked} fields, {said}")
    return code


def _line(done: Recorded) -> str:
    where = "in focus by the wave theory" if done.by_theory else "sharpest"
    return (
        f"{done.name}: {done.planes} planes of {done.step_um:.3g} µm, {done.low_um:.2f} to"
        f" {done.high_um:.2f} µm, {where} at {done.focus_um:.2f} µm"
    )


def _seeds(there: Mapping[int, ZStack]) -> list[int]:
    """The seeds of the simulated fields that are there."""
    found = [stack.about.get("seed") for stack in there.values()]
    return [seed for seed in found if isinstance(seed, int) and not isinstance(seed, bool)]
