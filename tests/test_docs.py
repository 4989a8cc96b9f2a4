"""The documents: manuals are as the code is, every command of the README runs, links lead somewhere, and what
the troubleshooting table quotes is said.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge import cli, command_reference

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
#: Commands of the README that are run as they stand, in order, in one folder.
RUN = (
    "parfocal focus --specimen blood",
    "parfocal simulate stacks",
    "parfocal focus --stack stacks/stack000",
    "parfocal config > parfocal.toml",
    "parfocal config --reference",
    "parfocal config --example 28byj48-uln2003 > scope.toml",
    "parfocal bench latency",
)
#: What a test cannot do with the others, by their beginnings, and what is checked instead.
NOT_RUN = {
    "make ": "minutes to an hour, or this very suite: that the target is there",
    "sudo ": "root: that the file is there and knows the option",
    "python3 -m venv": "an environment without a network: the words",
    "pip install": "no network in a test: that setup.py has the extra",
    ". .venv": "no command",
    "parfocal ": "hardware, TensorFlow or minutes: that the command takes the words",
}


def commands(text: str) -> list[str]:
    """Lines of indented blocks, comments taken off, continued lines joined; not synopses in brackets."""
    found = []
    for block in re.findall(r"(?:^    .*\n(?:^ {4,}.*\n|^\n(?=    ))*)", text, re.MULTILINE):
        joined = re.sub(r"\\?\n {8,}", " ", block)
        for line in joined.splitlines():
            words = re.split(r"\s+#\s", line.strip())[0].strip()
            if words and not words.startswith("#"):
                found += [part.strip() for part in words.split("&&")]
    return found


COMMANDS = commands(README)
SYNOPSES = [line for line in COMMANDS if "[" in line]
PLAIN = [line for line in COMMANDS if "[" not in line or line.startswith("pip ")]


def test_the_readme_fits_on_its_pages() -> None:
    assert len(README.splitlines()) <= 200
    assert len(PLAIN) > 25


@pytest.mark.parametrize("line", PLAIN)
def test_each_command_is_run_or_it_is_said_why_not(line: str) -> None:
    assert line.startswith((*RUN, *NOT_RUN)), line


@pytest.mark.timeout(300)
def test_what_can_be_run_runs(tmp_path: Path) -> None:
    lines = [line for line in PLAIN if line.startswith(RUN)]
    assert [next(start for start in RUN if line.startswith(start)) for line in lines] == sorted(
        RUN, key=lambda start: next(k for k, line in enumerate(PLAIN) if line.startswith(start))
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in lines:
        done = subprocess.run(
            ["bash", "-euc", line],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (tmp_path / "run.png").stat().st_size > 10_000
    assert "uln2003" in (tmp_path / "scope.toml").read_text()


@pytest.mark.parametrize("line", [line for line in PLAIN if line.startswith("parfocal ")])
def test_commands_take_their_words(line: str) -> None:
    pytest.importorskip("tensorflow", reason="commands of the desktop")
    name, *words = shlex.split(line.partition(">")[0])[1:]
    parser = argparse.ArgumentParser(prog=f"parfocal {name}", allow_abbrev=False)
    cli.module_of(name).add_arguments(name, parser)
    found = vars(parser.parse_args(words))  # SystemExit where one is not known
    said = {word[2:].replace("-", "_") for word in words if word.startswith("--")}
    assert all(found[name] is not None and found[name] is not False for name in said)


@pytest.mark.parametrize("line", SYNOPSES)
def test_synopses_name_options_that_are_there(line: str) -> None:
    pytest.importorskip("tensorflow", reason="commands of the desktop")
    name = shlex.split(line.replace("[", " ").replace("]", " ").replace("|", " "))[1]
    parser = argparse.ArgumentParser(prog=name)
    if line.startswith("parfocal "):
        cli.module_of(name).add_arguments(name, parser)
        known = {option for action in parser._actions for option in action.option_strings}
        assert set(re.findall(r"--[a-z-]+", line)) <= known


def test_targets_of_make_are_there() -> None:
    targets = {
        word
        for line in PLAIN
        for words in [line.removeprefix("sudo ").split()]
        if words[0] == "make"
        for word in words[1:]
    }
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_scripts_and_extras_are_there() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for line in PLAIN:
        for extra in re.findall(r"\.?'?(?:parfocal|\.)\[([a-z]+)\]", line):
            assert f'"{extra}":' in setup
        if "install.sh" in line:
            script = ROOT / shlex.split(line)[1]
            assert os.access(script, os.X_OK)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = document.parent / file if file else document
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, target


def test_every_document_is_reached_from_the_readme() -> None:
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        document = ahead.pop()
        if document in seen or document.suffix != ".md":
            continue
        seen.add(document)
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                ahead.append((document.parent / target).resolve())
    decisions = {path for path in DOCUMENTS if path.parent.name == "decisions"}
    assert set(DOCUMENTS) - decisions <= seen


def test_the_manual_of_commands_is_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorflow", reason="commands of the desktop")
    assert command_reference.main([]) == 0
    text = command_reference.TARGET.read_text(encoding="utf-8")
    assert text == capsys.readouterr().out, "stale: run `python -m edge.command_reference --write`"
    assert all(f"## parfocal {name}\n" in text for name in cli.COMMANDS)
    assert command_reference.main(["--nonsense"]) == 2


def test_the_manual_of_the_interface_is_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fastapi", reason="the extra `serve`")
    from edge.service import api_reference

    assert api_reference.main([]) == 0
    text = api_reference.TARGET.read_text(encoding="utf-8")
    assert text == capsys.readouterr().out, "stale: run `python -m edge.service.api_reference --write`"
    assert "## POST /api/focus\n" in text
    assert api_reference.main(["--nonsense"]) == 2


def test_the_page_of_benchmarks_is_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    from edge.bench import page

    assert page.main([]) == 0
    text = page.TARGET.read_text(encoding="utf-8")
    assert text == capsys.readouterr().out, "stale: run `python -m edge.bench.page --write`"
    assert page.main(["--nonsense"]) == 2


def test_the_page_says_what_is_of_an_earlier_network() -> None:
    from edge.bench import page

    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in page.FOLDER.glob("*.json")}
    own = {"sha256": "a" * 64}
    of_today = {name: {**of, "model": {**of.get("model", {}), **own}} for name, of in found.items()}
    assert "earlier network" not in page.page(of_today, own["sha256"])
    of_today["growth"]["model"] = {"sha256": "b" * 64}
    of_today["focus-faults"].pop("model")
    text = page.page(of_today, own["sha256"])
    assert "than the one that is shipped: when something goes wrong, how cost grows.\n" in text


def test_the_readme_states_what_was_measured() -> None:
    found = json.loads((ROOT / "docs" / "bench" / "focus.json").read_text(encoding="utf-8"))["strategies"]
    rows = {
        "**Parfocal**": "parfocal",
        "the fast sweep of OpenFlexure": "openflexure-fast",
        "Brent's method, as OughtaFocus": "brent",
        "the physical limit: one perfect move, one look": "oracle",
    }
    for words, name in rows.items():
        of, bold = found[name], "**" if name == "parfocal" else ""
        seconds = f"{bold}{of['seconds_median']:.2f}{bold}"
        row = f"| {words} | {100 * of['success']:.1f} % | {seconds} | {of['captures_median']:g} |"
        assert row in README
    one_sided = json.loads((ROOT / "docs" / "bench" / "focus-one-sided.json").read_text(encoding="utf-8"))
    assert f"ours takes {one_sided['strategies']['parfocal']['seconds_median']:.2f} s" in README
    loop = json.loads((ROOT / "docs" / "model-card" / "loop.json").read_text(encoding="utf-8"))["all"]
    assert f"in the model's card {100 * loop['within_1_dof']:.1f} % of {loop['runs']} other runs" in README


def test_what_the_troubleshooting_quotes_is_said() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    table = text[text.index("## What it says") : text.index("## What you see")]
    quoted = [
        phrase
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for phrase in re.findall(r"`(.+?)`", row)
    ]
    sources = [path for part in ("edge", "firmware_iface") for path in (ROOT / part).rglob("*.py")]
    # Long sentences are written in pieces.
    said = re.sub(r'"\s*\n?\s*f?"', "", "\n".join(path.read_text(encoding="utf-8") for path in sources))
    assert len(quoted) > 8
    for phrase in quoted:
        assert phrase.replace("no specimen", "no_specimen") in said or phrase in said, phrase


def test_shell_is_there() -> None:
    assert shutil.which("bash"), "the README's commands are run by it"
