"""`parfocal calibrate`: measure the microscope that the configuration names, say what was found, keep it."""

from __future__ import annotations

import argparse
import contextlib
import json
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from edge import calibration, console, hardware, model_store, rig
from edge.calibrate import Calibrator, for_measuring
from edge.calibration import Calibration
from edge.calibration_found import Found, Refused
from edge.cli import FAILED, finite, go_on
from edge.config import Config, load_config, override
from edge.errors import InputError
from edge.files import atomic_write_bytes
from edge.model import Model
from edge.outputs import checked
from edge.progress import Bar
from edge.record import plain
from edge.rig import Rig
from edge.zstack import ZStack

__all__ = ["add_arguments", "lines", "run"]


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of the command."""
    add = parser.add_argument
    add("--config", metavar="FILE", help="TOML file that names objective and drivers")
    add("--objective", metavar="NAME", help="the objective that is in place, instead of the configuration's")
    text = "not said: hardware with a config that names its drivers, else simulated"
    add("--rig", choices=("simulated", "replay", "hardware"), help=text)
    add("--stack", metavar="DIR", help="replay: a z-stack folder to try it on; nothing is kept")
    text = "replay: µm between planes, where a stack counts planes (1)"
    add("--step-um", metavar="U", type=finite, help=text)
    add("--start-defocus-um", metavar="X", type=finite, help="simulated: start this far past focus")
    add("--plot", metavar="FILE.png", help="draw what was seen")
    add("--json", action="store_true", help="print what was found as JSON")


def run(name: str, args: argparse.Namespace) -> int:
    """Calibrate and keep what was found. MOVES the stage. Exit code 4: refused, nothing is kept."""
    config = load_config(args.config)
    if args.objective is not None:
        config = override(config, "--objective", optics={"objective": args.objective})
    network, doubts = model_store.open_model(config)
    for text in doubts:
        console.note(text)
    picture = None if args.plot is None else checked("--plot", args.plot, ".png")
    if picture is not None:
        from edge import plot

        plot.backend()
    kind = args.rig or ("hardware" if hardware.is_configured(config) else "simulated")
    if kind == "simulated":
        config = rig.without_hardware(config)
    if args.stack is None:
        calibration.check_writable(config)
    before, note = calibration.in_force(config)
    if note is not None:
        console.note(note)
    try:
        found = _measured(_rig(args, config, kind), config, network)
    except Refused as refusal:
        stays = (
            "nothing was kept" if before is None else f"the calibration of {before.date[:10]} stays in force"
        )
        console.note(f"calibrate: refused: {refusal}; {stays}")
        return FAILED
    kept = found.calibration(
        config, model=Path(network.name).name, fingerprint=network.fingerprint, date=_now()
    )
    path = None if args.stack is not None else calibration.write(kept, config)
    if args.json:
        print(json.dumps({**plain(kept), "frames": found.frames, "seconds": found.seconds}, indent=2))
    else:
        print("\n".join(lines(found, kept, config)))
        print(
            "replayed: nothing is kept"
            if path is None
            else f"kept in {path}: used from now on for {kept.objective} on {kept.stage}"
        )
    if picture is not None:
        from edge.calibration_plot import draw

        atomic_write_bytes(picture, draw(found, title=f"{kept.objective} on {kept.stage}"))
    return 0


def _measured(shown: Rig, config: Config, network: Model) -> Found:
    still = ": leave the specimen where it is" if shown.name == "hardware" else ""
    console.note(f"calibrating {shown.optics.objective} ({shown.name}){still}")
    with contextlib.ExitStack() as opened, Bar("measuring", 1) as bar:
        opened.push(shown.__exit__)
        go_on()
        shown.__enter__()
        return Calibrator(shown, network, config, told=lambda text, share: bar.set_share(share)).run()


def _rig(args: argparse.Namespace, config: Config, kind: str) -> Rig:
    own = for_measuring(config)
    if args.stack is not None:
        if args.rig not in (None, "replay") or args.start_defocus_um is not None:
            raise InputError("--stack: is replayed, without another --rig and without --start-defocus-um")
        stack = ZStack.open(args.stack, step_um=1.0 if args.step_um is None else args.step_um)
        stack.check()
        assumed = stack.z_in_planes and args.step_um is None
        made = rig.replay_rig(own, stack, start_plane=len(stack) // 4, step_assumed=assumed)
        apart_um = max((b - a for a, b in pairwise(sorted(set(stack.z_um)))), default=0.0)
        if apart_um > made.optics.dof_um:
            raise InputError(
                f"--stack {args.stack}: planes are up to {apart_um:.3g} µm apart;"
                f" no more than a depth of field ({made.optics.dof_um:.3g} µm) is allowed"
            )
        return made
    if args.step_um is not None:
        raise InputError("--step-um has a meaning only with --stack")
    if kind == "replay":
        raise InputError("--rig replay: say which z-stack with --stack DIR")
    if kind == "hardware":
        return hardware.hardware_rig(own)
    start_um = args.start_defocus_um
    start_um = config.simulator.start_defocus_um if start_um is None else start_um
    return rig.simulated_rig(own, start_defocus_um=start_um)


def lines(found: Found, kept: Calibration, config: Config) -> list[str]:
    """What was found, a figure a line, beside what the configuration says."""
    stage, optics = config.stage, config.optics.optics()
    steps = 1 / abs(kept.dof_per_step)
    share = kept.dof_per_step_sigma / abs(kept.dof_per_step)
    pitch_um = kept.um_per_step(optics)
    pitch_share = kept.optical_dof_per_step_sigma / kept.optical_dof_per_step
    theory = f"the wave theory of {kept.objective}" if kept.by_theory else "the network alone"
    way = "raises" if kept.dof_per_step > 0 else "lowers"
    drift_um = optics.um_from_dof(kept.drift_dof_s) * 60
    return [
        f"direction   a step up {way} defocus (odds of 1 : e^{kept.direction_odds:.0f})",
        f"scale       {steps:.1f} ± {steps * share:.1f} steps a depth of field, as the network sees it",
        *([] if kept.network_offset_dof_sigma == 0 else [_offset(kept)]),
        f"pitch       {pitch_um:.4g} ± {pitch_um * pitch_share:.2g} µm a step, by {theory}"
        f" (configuration: {stage.um_per_step:g})",
        f"slack       {kept.backlash_steps:.0f} ± {kept.backlash_steps_sigma:.1f} steps"
        f" (configuration: {stage.backlash_steps})",
        f"settling    {kept.settle_s:.3f} ± {kept.settle_s_sigma:.3f} s (configuration: {stage.settle_s:g})",
        f"drift       {kept.drift_dof_s:+.4f} ± {kept.drift_dof_s_sigma:.4f} dof/s ({drift_um:+.2f} µm/min)",
        f"exposure    field at {kept.background:.0f} of 255, {100 * kept.clipped:.1f} % of it clipped"
        + _advice(kept),
        f"            {found.frames} frames, {found.seconds:.0f} s",
    ]


def _offset(kept: Calibration) -> str:
    return (
        f"offset      {kept.network_offset_dof:+.2f} ± {kept.network_offset_dof_sigma:.2f} depths of field is"
        " what the network says in focus: it is taken off"
    )


def _advice(kept: Calibration) -> str:
    if kept.clipped > 0.02:
        return ": turn the lamp down, or shorten the exposure"
    return ": more light would help" if kept.background < 80 else ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
