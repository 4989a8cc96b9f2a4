"""`parfocal model`: `list` the model files of this device, `use` one of them or a new one, `rollback`.

Before it is chosen a model's card and SHA-256 are looked at, and it is run: in a process of its own, since a
runtime may crash on a file that somebody else made. Then it is copied in and chosen; see `edge.model_store`.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge import card as cards
from edge import console, model
from edge.card import Card
from edge.config import load_config
from edge.doctor import finding, guard
from edge.errors import InputError, ModelError
from edge.model import CHOSEN, DEFAULT
from edge.model_store import Pointer, Store
from edge.record import plain
from edge.self_check import self_check

__all__ = ["add_arguments", "run"]

_CHECK_S = 60.0
#: Of a card's figures, those that a row shows, the first that is there.
_SHOWN = {
    "frame_median_abs_dof_within_3": "median error of frames within 3",
    "mae_dof": "mean error",
    "median_dof": "median error",
}
_NEXT = "a service that runs takes it once it is restarted: sudo systemctl restart parfocal"


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` what `model` can do, each with its own options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, text in {
        "list": "show the model files that are kept, and which is used",
        "use": "check a model file and use it from now on",
        "rollback": "use the model that was used before, after checking it",
    }.items():
        own = actions.add_parser(action, help=text, description=text[0].upper() + text[1:] + ".")
        if action == "use":
            own.add_argument(
                "model",
                metavar="FILE_OR_NAME",
                help="a .tflite with its card, a name of `list`, or `default`",
            )
        own.add_argument("--config", metavar="FILE", help="TOML file, for its [model] section")
        if action == "list":
            own.add_argument("--json", action="store_true", help="print the list as JSON")


def run(name: str, args: argparse.Namespace) -> int:
    """Run the action and return its exit code. InputError, one line, with nothing changed."""
    section = load_config(args.config).model
    if section.path != CHOSEN:
        console.note(
            f'[model] path = "{section.path}" in {args.config} comes first: what is chosen here is used where'
            f' that is "{CHOSEN}", or left out'
        )
    store = Store()
    if args.action == "list":
        _list(store, as_json=args.json)
    elif args.action == "use":
        _use(store, args.model, section.threads)
    else:
        _roll_back(store, section.threads)
    return 0


def _use(store: Store, wanted: str, threads: int) -> None:
    try:
        before = store.pointer()
    except ModelError as problem:
        console.note(str(problem))
        before = Pointer()
    stored = wanted == DEFAULT or wanted in store.names()
    if not stored and "/" not in wanted and not os.path.exists(wanted):  # noqa: PTH110 - never raises
        raise ModelError(f"{wanted}: neither a model file nor one of {', '.join([*store.names(), DEFAULT])}")
    if stored:
        store.check_bytes(wanted)
    path = store.path(wanted) if stored else Path(wanted)
    card = _checked(path, threads)
    name = wanted if stored else store.add(path)
    if cards.read(store.path(name))[1] != card:
        raise ModelError(f"{path}: was changed while it was copied; nothing was chosen")
    _point(store, before.then(name), card)


def _roll_back(store: Store, threads: int) -> None:
    before = store.pointer()
    if before.previous is None:
        raise ModelError("there is no model to go back to: none was used before")
    store.check_bytes(before.previous)
    card = _checked(store.path(before.previous), threads)
    _point(store, before.then(before.previous), card)


def _point(store: Store, to: Pointer, card: Card) -> None:
    store.point(to)
    print(f"in use: {to.current} ({card.name}, {card.trained_at}); before: {to.previous or 'none'}")
    console.note(_NEXT)


def _checked(path: Path, threads: int) -> Card:
    """The card of ``path``, which works here; else ModelError. BLOCKS up to a minute."""

    def check() -> finding.Finding:
        try:
            return finding.ok(str(self_check(model.load(path, threads=threads))))
        except ModelError as problem:
            return finding.error(str(problem), "")

    _, card = cards.read(path)
    status, found, _ = guard.isolated(check, _CHECK_S)
    if status != "ok":
        text = found if found.startswith(str(path)) else f"{path}: fails its self-check: {found}"
        raise ModelError(text)
    return card


def _list(store: Store, *, as_json: bool) -> None:
    problem = None
    try:
        pointer = store.pointer()
    except InputError as error:
        problem, pointer = str(error), Pointer()
        console.note(f"{problem}; the shipped model is used")
    first = [pointer.current, pointer.previous or DEFAULT, DEFAULT]
    names = dict.fromkeys([*first, *store.names()])
    models = [_about(store, name, pointer) for name in names]
    if as_json:
        found = {**asdict(pointer), "problem": problem, "models": models}
        print(json.dumps(found, indent=2, allow_nan=False))
        return
    for about in models:
        print("\n".join(_lines(about)))


def _about(store: Store, name: str, pointer: Pointer) -> dict[str, Any]:
    """What is known of a model, as plain values; None for each thing that is not known."""
    path = store.path(name)
    about: dict[str, Any] = {
        "name": name,
        "mark": {pointer.current: "current", pointer.previous: "previous"}.get(name),
        "file": str(path),
        "bytes": None,
        "problem": None,
        **dict.fromkeys(("card", "trained_on", "trained_at", "adapted", "metrics")),
    }
    try:
        store.check_bytes(name)
        _, card = cards.read(path)
        about["bytes"] = path.stat().st_size
    except (ModelError, OSError) as problem:
        return {**about, "problem": str(problem)}
    known = plain(card)
    kept = {key: known.get(key) for key in ("trained_on", "trained_at", "adapted", "metrics")}
    return {**about, "card": card.name, **kept}


def _adapted(record: dict[str, Any]) -> str:
    """Where the head of an adapted model comes from, and what it gained."""
    before, after = record["before"], record["after"]
    return (
        f"adapted from {record['parent']} ({record['parent_sha256'][:12]}); on {record['frames']} frames left"
        f" out: median error {before['median_dof']:.2f} to {after['median_dof']:.2f} depths of field, wrong"
        f" direction {100 * before['wrong_direction']:.1f} to {100 * after['wrong_direction']:.1f} %"
    )


def _lines(about: dict[str, Any]) -> list[str]:
    """A model in two or three lines."""
    head = f"{about['mark'] or '':<9}{about['name']}"
    if about["problem"] is not None:
        return [head, f"{'':<9}{about['problem']}"]
    facts = ["shipped"] if about["name"] == DEFAULT else []
    facts += [f"{about['bytes'] / 1000:.0f} kB", about["card"], about["trained_at"]]
    figures = about["metrics"].get("int8") or about["metrics"].get("float") or {}
    facts += [
        f"held out: {words} {figures[key]:.3g} depths of field"
        for key, words in _SHOWN.items()
        if key in figures
    ][:1]
    lines = [head, f"{'':<9}{', '.join(facts)}", f"{'':<9}{about['trained_on']}"]
    if about["adapted"] is not None:
        lines.append(f"{'':<9}{_adapted(about['adapted'])}")
    return lines
