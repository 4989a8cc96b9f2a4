"""The figures of `parfocal adapt`: simulated microscopes beyond what the default model was trained on, and
one real stack.

    python -m train.adapt_figures --microscopes 20 --seed 1
    python -m train.adapt_figures --stack ../shared/data/zstacks/blood_0152

Each microscope has two of six properties outside the span of `Imaging.random`, and every third one a stage
that counts the other way round. It is adapted on three z-stacks of 21 planes within 6 depths of field and
judged on other fields; where `adapt` refuses, the parent stays. A stack is adapted on its left half and
judged on its right half, in planes, each labelled by its own sharpest plane.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge import model as models
from edge.adapt import figures
from edge.adapt_command import Parent, adapt_model
from edge.cli import finite
from edge.config import Config, load_config, override
from edge.errors import AdaptError, InputError, one_line
from edge.estimate import estimate
from edge.files import RGB
from edge.model import Model
from edge.optics import Optics
from edge.progress import Bar
from edge.simulator.formation import Imaging
from edge.simulator.recording import exposures, optics_of, optics_parameters
from edge.simulator.sensor import Sensor
from edge.simulator.specimens import make
from edge.simulator.stacks import PROCEDURAL
from edge.stack_focus import measured_focus
from edge.zstack import ZStack, about_objective, write_zstack
from train.closed_loop import OBJECTIVES

__all__ = ["Scope", "beyond_span", "main", "run_scope"]

STACKS, PLANES, RANGE_DOF = 3, 21, 6.0
HELD_OUT_FIELDS, HELD_OUT_FRAMES = 3, 16
#: Frames beyond the planes that were adapted on: only their direction is asked for.
FAR_DOF = (7.0, 11.0)
FAR_FRAMES = 6
FRAME_PX = 384
BEYOND = ("tilt", "coma", "spherical", "chromatic", "condenser", "astigmatism")


@dataclass(frozen=True)
class Scope:
    """One simulated microscope: optics, camera, and whether its stage counts the other way round."""

    number: int
    objective: str
    imaging: Imaging
    sensor: Sensor
    beyond: tuple[str, str]
    mirrored: bool

    @classmethod
    def of(cls, number: int, seed: int) -> tuple[Scope, np.random.Generator]:
        """Microscope ``number`` of ``seed``, and the chance that goes on from it."""
        rng = np.random.default_rng((seed, number, 97))
        optics = optics_of(OBJECTIVES[number % len(OBJECTIVES)])
        first = number % len(BEYOND)
        second = (first + 1 + int(rng.integers(len(BEYOND) - 1))) % len(BEYOND)
        names = (BEYOND[first], BEYOND[second])
        imaging = Imaging.random(rng)
        for name in names:
            imaging = replace(imaging, **beyond_span(name, rng))
        na_over_n = optics.objective.na / optics.objective.immersion_index
        imaging = replace(imaging, na_over_n=na_over_n)
        text = OBJECTIVES[number % len(OBJECTIVES)]
        return cls(number, text, imaging, Sensor.random(rng), names, number % 3 == 2), rng

    @property
    def sign(self) -> int:
        """Of the stage's z for a rising defocus."""
        return -1 if self.mirrored else 1


def beyond_span(name: str, rng: np.random.Generator) -> dict[str, Any]:
    """One property of `Imaging` outside what `Imaging.random` draws, or at its rarest end."""
    angle, sign = rng.uniform(0, 2 * math.pi), float(rng.choice([-1, 1]))

    def vector(length: float) -> tuple[float, float]:
        return length * math.cos(angle), length * math.sin(angle)

    if name == "tilt":
        return {"tilt": vector(float(rng.uniform(0.35, 0.5)))}
    if name == "coma":
        return {"coma_waves": vector(float(rng.uniform(0.2, 0.3)))}
    if name == "spherical":
        return {"spherical_waves": sign * float(rng.uniform(0.2, 0.3))}
    if name == "chromatic":
        red, blue = float(rng.uniform(0.9, 1.4)), float(rng.uniform(1.0, 1.6))
        return {"chromatic_dof": (sign * red, 0.0, -sign * blue)}
    if name == "condenser":
        low, high = (0.08, 0.15) if sign < 0 else (0.9, 1.0)
        return {"condenser_ratio": float(rng.uniform(low, high))}
    return {"astigmatism_waves": sign * float(rng.uniform(0.1, 0.15))}


def _frames(scope: Scope, kind: str, defoci_dof: Sequence[float], rng: np.random.Generator) -> list[RGB]:
    specimen = make(kind, (FRAME_PX, FRAME_PX), int(rng.integers(1 << 40)))
    return list(exposures(specimen, scope.imaging, scope.sensor, defoci_dof, rng))


def _write_stacks(scope: Scope, folder: Path, rng: np.random.Generator, *, stated: bool) -> list[Path]:
    """The stacks to adapt on; ``stated``: their about.json says where the focus is."""
    optics, paths = optics_of(scope.objective), []
    for number in range(STACKS):
        defoci = np.linspace(-RANGE_DOF, RANGE_DOF, PLANES).tolist()
        images = _frames(scope, PROCEDURAL[number % len(PROCEDURAL)], defoci, rng)
        planes = [
            (f"plane{k:03d}.png", round(scope.sign * optics.um_from_dof(defocus), 6), image)
            for k, (defocus, image) in enumerate(zip(defoci, images, strict=True))
        ]
        about = {"objective": scope.objective, **optics_parameters(optics)}
        paths.append(folder / f"stack{number}")
        write_zstack(paths[-1], planes, {**about, "focus_z": 0.0} if stated else about)
    return paths


def _guesses(model: Model, frames: Sequence[RGB], optics: Optics, most: int) -> np.ndarray[Any, Any]:
    """Signed defocus in dof that ``model`` reads of each frame, NaN where it saw nothing."""
    out = []
    for frame in frames:
        look = model.look(frame, optics, most_tiles=most)
        joint = look.log_likelihood
        out.append(math.nan if joint is None else float(estimate(joint[None], look.bin_centres_dof)[0][0]))
    return np.array(out)


def run_scope(number: int, seed: int, parent: Parent, config: Config, *, stated: bool) -> dict[str, Any]:
    """One microscope: adapted, and judged before and after. Takes half a minute."""
    scope, rng = Scope.of(number, seed)
    optics = optics_of(scope.objective)
    out: dict[str, Any] = {"microscope": number, "objective": scope.objective, "beyond": list(scope.beyond)}
    out["mirrored"] = scope.mirrored
    before = parent.read()[0]
    with tempfile.TemporaryDirectory() as name:
        paths = _write_stacks(scope, Path(name), rng, stated=stated)
        started = time.monotonic()
        try:
            made = adapt_model(parent, paths, config)
            after = _opened(made.content, Path(name))
            out |= {"refused": "", "strength": made.card.adapted.strength if made.card.adapted else 0.0}
        except (AdaptError, InputError) as error:
            after = before
            out["refused"] = one_line(error).replace(name, "")
        out["seconds"] = time.monotonic() - started
    fields = _held_out(scope, seed)
    for label, model in (("before", before), ("after", after)):
        out[label] = _judged(model, scope, fields, optics, config.model.tiles)
    return out


def _opened(content: bytes, folder: Path) -> Model:
    path = folder / "own.tflite"
    path.write_bytes(content)
    return models.load(path)


def _held_out(scope: Scope, seed: int) -> list[tuple[list[RGB], np.ndarray[Any, Any]]]:
    """Frames and true defocus in dof of fields not adapted on; the last `FAR_FRAMES` of each lie beyond."""
    rng = np.random.default_rng((seed, scope.number, 98))
    out = []
    for field in range(HELD_OUT_FIELDS):
        near = np.sort(rng.uniform(-RANGE_DOF, RANGE_DOF, HELD_OUT_FRAMES))
        far = rng.choice([-1, 1], FAR_FRAMES) * rng.uniform(*FAR_DOF, FAR_FRAMES)
        defoci = np.concatenate([near, far])
        out.append((_frames(scope, PROCEDURAL[field % len(PROCEDURAL)], defoci.tolist(), rng), defoci))
    return out


def _judged(
    model: Model,
    scope: Scope,
    fields: Sequence[tuple[list[RGB], np.ndarray[Any, Any]]],
    optics: Optics,
    most: int,
) -> dict[str, float]:
    """`figures` within the planes that were adapted on, and the direction beyond them."""
    said = [_guesses(model, frames, optics, most) for frames, _ in fields]
    truth = [scope.sign * defoci for _, defoci in fields]
    near, far = slice(None, -FAR_FRAMES), slice(-FAR_FRAMES, None)
    within, beyond = (
        figures(*_seen(np.concatenate([of[part] for of in said]), np.concatenate([of[part] for of in truth])))
        for part in (near, far)
    )
    return within | {"far_wrong_direction": beyond["wrong_direction"], "far_n": beyond["n"]}


def _seen(guess: Any, truth: Any) -> tuple[Any, Any]:
    """Those of which the model saw anything."""
    return guess[np.isfinite(guess)], truth[np.isfinite(guess)]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over microscopes, how many were refused, and how many ended worse on held-out fields."""
    out: dict[str, Any] = {"microscopes": len(rows), "refused": sum(bool(row["refused"]) for row in rows)}
    for key in ("median_dof", "mae_dof", "wrong_direction", "far_wrong_direction"):
        before, after = (np.array([row[label][key] for row in rows]) for label in ("before", "after"))
        out[key] = {
            "before_median": float(np.median(before)),
            "after_median": float(np.median(after)),
            "before_mean": float(before.mean()),
            "after_mean": float(after.mean()),
            "worse": int((after > before).sum()),
        }
    ratios = [row["after"]["median_dof"] / row["before"]["median_dof"] for row in rows]
    out["median_ratio"] = float(np.median(ratios))
    out["seconds_median"] = float(np.median([row["seconds"] for row in rows]))
    out["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return out


def run_stack(folder: Path, parent: Parent, config: Config, step_um: float) -> dict[str, Any]:
    """A stack adapted on its left half, and its right half judged in planes, before and after."""
    whole = ZStack.open(folder, step_um=step_um)
    with tempfile.TemporaryDirectory() as name:
        left, right = (_half(whole, Path(name) / side, side) for side in ("left", "right"))
        stack = ZStack.open(right, step_um=step_um)
        focus = measured_focus(stack)
        truth = np.arange(len(stack)) - focus.plane
        objective = about_objective(whole.about) or config.optics.optics().objective
        pixel_um = whole.pixel_um or config.optics.optics().pixel_um
        optics = Optics(objective, pixel_um, config.optics.wavelength_um)
        started = time.monotonic()
        try:
            made = adapt_model(parent, [left], config, step_um=step_um if whole.z_in_planes else None)
            after, refused = _opened(made.content, Path(name)), ""
        except AdaptError as error:
            after, refused = parent.read()[0], one_line(error)
        out: dict[str, Any] = {"stack": folder.name, "refused": refused}
        out |= {"seconds": time.monotonic() - started, "right_focus_plane": focus.plane}
        frames = [stack.load(plane) for plane in range(len(stack))]
    for label, model in (("before", parent.read()[0]), ("after", after)):
        guess_um = _guesses(model, frames, optics, config.model.tiles) * optics.dof_um
        guess = guess_um / step_um
        far = np.abs(truth) >= 1
        out[label] = {
            "median_planes": float(np.median(np.abs(guess - truth))),
            "mean_planes": float(np.abs(guess - truth).mean()),
            "within_one_plane": int((np.abs(guess - truth) <= 1).sum()),
            "wrong_direction": int((np.sign(guess) != np.sign(truth))[far].sum()),
            "planes": len(truth),
            "guesses": [round(float(value), 2) for value in guess],
        }
    return out


def _half(stack: ZStack, folder: Path, side: str) -> Path:
    """One half of every plane, less a strip in the middle that would be in both tilings."""
    width = stack.shape[1]
    columns = slice(0, int(0.48 * width)) if side == "left" else slice(int(0.52 * width), width)
    images = ((f"p{k:03d}.png", float(k), stack.load(k)[:, columns].copy()) for k in range(len(stack)))
    if not stack.z_in_planes:
        images = ((name, stack.z_um[k], image) for k, (name, _, image) in enumerate(images))
    about = {key: value for key, value in stack.about.items() if key != "focus_z"}
    write_zstack(folder, images, about, z_in_planes=stack.z_in_planes)
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each microscope and one for all, or with ``--json`` all there is."""
    args = _parser().parse_args(argv)
    given = {"objective": args.objective, "pixel_um": args.pixel_um}
    optics = {key: value for key, value in given.items() if value is not None}
    try:
        config = override(load_config(None), "command line", optics=optics)
        parent = Parent(models.DEFAULT_PATH if args.model == "default" else Path(args.model))
        if args.stack is not None:
            out: dict[str, Any] = run_stack(args.stack, parent, config, args.step_um)
        else:
            rows = []
            with Bar("microscopes", args.microscopes) as bar:
                for number in range(args.microscopes):
                    rows.append(run_scope(number, args.seed, parent, config, stated=not args.measure_focus))
                    bar.advance()
            out = {"all": summary(rows), "microscopes": rows}
    except InputError as error:
        print(f"adapt_figures: {one_line(error)}", file=sys.stderr)
        return 2
    print(json.dumps(out, indent=1) if args.json else _text(out))
    return 0


def _text(out: dict[str, Any]) -> str:
    if "all" not in out:
        return json.dumps(out)
    lines = []
    for row in out["microscopes"]:
        change = ", ".join(
            f"{key} {row['before'][key]:.3f} to {row['after'][key]:.3f}"
            for key in ("median_dof", "wrong_direction", "far_wrong_direction")
        )
        what = ("reversed " if row["mirrored"] else "") + " ".join(row["beyond"])
        refused = f"; refused: {row['refused']}" if row["refused"] else ""
        lines.append(
            f"{row['microscope']} {row['objective']} {what}: {change}, {row['seconds']:.1f} s{refused}"
        )
    return "\n".join([*lines, json.dumps(out["all"])])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.adapt_figures", description=__doc__)
    parser.add_argument("--microscopes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--measure-focus", action="store_true", help="stacks that do not state their focus")
    parser.add_argument("--stack", type=Path, metavar="DIR", help="a real z-stack instead")
    parser.add_argument("--step-um", type=finite, default=1.0, help="where the stack counts planes")
    parser.add_argument("--objective", metavar="MxNA", help="where the stack states none")
    parser.add_argument("--pixel-um", type=finite, metavar="U", help="where the stack states none")
    parser.add_argument("--model", default="default")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
