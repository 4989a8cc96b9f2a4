"""The page records z-stacks, in a real browser, on the simulated rig; and it says which model runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, Tab
from served import Served, serve
from test_page import LEAST_TOUCH_PX, SHOWN, TOUCHED, is_disabled, nodes, until_idle, until_words

from edge import model
from edge.collection import claimed
from edge.model_store import Pointer, Store
from edge.zstack import ZStack

pytestmark = pytest.mark.timeout(300)

QUICK = "[service]\nboot_focus = false\n[camera]\nframe_period_s = 0.02\n[stage]\nsettle_s = 0.01\n"
PLANES = 21


@pytest.fixture(scope="module")
def quick(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    """A service, and where it keeps what it records."""
    folder = tmp_path_factory.mktemp("quick")
    with serve(folder, QUICK) as served:
        yield served, folder / "state" / "collected"


@pytest.fixture
def page(browser: Browser, quick: tuple[Served, Path]) -> Iterator[Tab]:
    with browser.tab() as tab:
        tab.open(quick[0].url)
        until_idle(tab)
        yield tab
        assert tab.complaints() == []


def name(tab: Tab, slide: str) -> None:
    """Open the section and name the slide."""
    tab.value("void (document.querySelector('#collect-more').open = true)")
    tab.value("document.querySelector('#slide').select()")
    tab.type(slide)


def test_the_page_goes_on(page: Tab, quick: tuple[Served, Path]) -> None:
    served, collected = quick
    assert not page.value("document.querySelector('#collect-more').open")
    page.click("#collect-more summary")
    for field in (1, 2):
        name(page, "blood-7")
        assert page.text("#record") == ("Record a field" if field == 1 else "Record the next field")
        page.value("""void (window.seen = [], window.watching = new MutationObserver(() => seen.push(
            [document.querySelector('#collect-told').textContent, document.querySelector('#planes').value]
        ))).observe(document.querySelector('#collect-told'), {childList: true})""")
        page.click("#record")
        until_words(page, "Recording…")
        assert page.text("#press") == "Stop"
        assert is_disabled(page, "#record")
        page.until("!document.querySelector('#planes').hidden")
        until_words(page, "Ready")
        until_idle(page)
        page.value("watching.disconnect()")
        seen = page.value("seen")
        counted = [(f"Field {field} of blood-7: plane {k} of {PLANES}.", k) for k in range(1, PLANES + 1)]
        told = [tuple(one) for one in seen if ": plane " in one[0]]
        assert [one for one in counted if one in told] == told, "in turn"
        assert len(told) > PLANES / 2
        assert f"Field {field} of blood-7: focusing, then {PLANES} planes." in [text for text, _ in seen]
        assert page.value("document.querySelector('#planes').hidden")
        recorded = f"Z-stack of blood-7/field-00{field} is recorded: {PLANES} planes of 2.05 µm;"
        then = "move the slide, then record the next."
        so_far = f"{field} field{'s' * (field > 1)} of blood-7 so far, on the microscope's computer:"
        assert page.text("#collect-told") == f"{recorded} {then} {so_far} {collected / 'blood-7'}"
        assert page.text("#polite") == f"Ready. {recorded} {then}", "what a screen reader says"
        stack = ZStack.open(collected / "blood-7" / f"field-00{field}")
        stack.check()
        assert len(stack) == PLANES
    assert served.get("api/status")["collect"]["fields"] == 2
    page.open(f"{served.url}?again")
    until_idle(page)
    assert page.value("document.querySelector('#slide').value") == "blood-7", "it is remembered"


def test_the_picture_lives_while_it_records(page: Tab) -> None:
    page.until("!document.querySelector('#picture').hidden")
    name(page, "lives")
    page.click("#record")
    page.until("document.querySelector('#planes').value >= 3")
    first = page.value("document.querySelector('#picture').src")
    page.until(
        f"document.querySelector('#picture').src !== '{first}'"
        " && document.querySelector('#words').textContent === 'Recording…'"
    )
    until_words(page, "Ready")
    until_idle(page)


def test_escape_ends_it_and_nothing_is_left(page: Tab, quick: tuple[Served, Path]) -> None:
    name(page, "stopped")
    page.click("#record")
    page.until("document.querySelector('#planes').value >= 3")
    page.key("Escape")
    until_words(page, "Ready")
    assert "Z-stack of stopped/field-001 is not recorded: " in page.text("#collect-told")
    assert "stopped at " in page.text("#collect-told")
    assert not (quick[1] / "stopped").exists()
    until_idle(page)


def test_by_keyboard_alone(page: Tab, quick: tuple[Served, Path]) -> None:
    page.value("document.querySelector('#move').focus()")
    order = []
    for _ in range(3):
        page.key("Tab")
        order.append(page.value("document.activeElement.id || document.activeElement.tagName"))
        if order == ["SUMMARY"]:
            page.key("Enter")
    assert order == ["SUMMARY", "slide", "record"]
    page.value("document.querySelector('#slide').select()")
    page.type("by-keyboard-f")
    page.key("Enter", times=20)  # held down
    until_words(page, "Recording…")
    page.until("document.querySelector('#planes').value >= 1")
    assert page.text("#problem-collect") == ""
    page.key("Escape")
    until_words(page, "Ready")
    until_idle(page)


@pytest.mark.parametrize("slide", ["", "../x", ".hidden", "a b", "ä"])
def test_a_name_that_is_no_folder(page: Tab, slide: str) -> None:
    name(page, slide or " ")
    page.click("#record")
    page.until(
        "document.querySelector('#problem-collect').textContent.startsWith('A name of 1 to 64 letters')"
    )
    assert page.value("document.querySelector('#slide').ariaInvalid") == "true"
    assert not [url for url in page.requests() if url.endswith("/api/collect")]
    name(page, "x" * 70)
    assert page.value("document.querySelector('#slide').value.length") <= 64


def test_what_is_refused_is_told(page: Tab, quick: tuple[Served, Path]) -> None:
    quick[1].mkdir(exist_ok=True)
    name(page, "in-use")
    with claimed(quick[1] / "in-use"):
        page.click("#record")
        until_words(page, "Not recorded")
    assert page.value("document.querySelector('#mark').className") == "mark bad"
    assert "another `parfocal collect` is recording there" in page.text("#reason")
    assert page.text("#collect-told") == page.text("#reason")
    until_idle(page)


def test_it_has_names_and_says_what_it_does(page: Tab) -> None:
    name(page, "named")
    page.click("#record")
    page.until("document.querySelector('#planes').value >= 1")
    found = nodes(page)
    roles = {(role, what) for role, what, _ in found}
    assert roles >= {
        ("textbox", "Name of the slide"),
        ("button", "Record a field"),
        ("progressbar", "Planes recorded"),
        ("heading", "Record z-stacks"),
    }
    described = next(
        what for role, called, what in found if called == "Name of the slide" and role == "textbox"
    )
    assert "Then move the slide to another place and press again." in described
    page.key("Escape")
    until_words(page, "Ready")
    until_idle(page)


def test_who_comes_later_sees_how_far_it_is(page: Tab, browser: Browser, quick: tuple[Served, Path]) -> None:
    quick[0].post("api/collect", {"slide": "later"})
    with browser.tab(width=360) as tab:
        tab.open(quick[0].url)
        tab.until("document.querySelector('#collect-more').open")
        tab.until("document.querySelector('#planes').value >= 1 && !document.querySelector('#planes').hidden")
        tab.click("#press")
        until_words(tab, "Ready")
    until_idle(page)


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_and_can_be_touched(browser: Browser, quick: tuple[Served, Path], width: int) -> None:
    with browser.tab(width=width) as tab:
        tab.open(quick[0].url)
        until_idle(tab)
        name(tab, "m" * 64)
        quick[0].post("api/collect", {"slide": "m" * 64})
        until_words(tab, "Recording…")
        tab.click("#press")
        until_words(tab, "Ready")
        assert tab.value("document.scrollingElement.scrollWidth") <= width
        wide = tab.value(
            "[...document.querySelectorAll('body *')]"
            f".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map({SHOWN})"
        )
        assert wide == []
        small = tab.value(
            f"[...document.querySelectorAll('{TOUCHED}')].filter(e => e.offsetHeight"
            f" && Math.min(e.offsetHeight, e.offsetWidth) < {LEAST_TOUCH_PX - 0.5}).map({SHOWN})"
        )
        assert small == []
        assert tab.value("document.querySelector('#record').offsetHeight") >= LEAST_TOUCH_PX
        until_idle(tab)


@pytest.mark.parametrize("width", [360, 1280])
def test_a_model_that_fell_back_is_told(browser: Browser, tmp_path: Path, width: int) -> None:
    pytest.importorskip("ai_edge_litert", reason="no ai-edge-litert")
    store = Store(tmp_path / "state" / "models")
    previous = store.add(model.DEFAULT_PATH)
    cut = "cut-0123456789ab.tflite"
    (store.folder / cut).write_bytes(model.DEFAULT_PATH.read_bytes()[:-1000])
    store.point(Pointer(current=cut, previous=previous))
    with serve(tmp_path, "[service]\nboot_focus = false\n") as served, browser.tab(width=width) as tab:
        note = served.get("api/status")["model_note"]
        assert note.startswith(f"{store.path(cut)}: damaged")
        tab.open(served.url)
        until_idle(tab)
        assert tab.text("#warning") == f"Not the model that was chosen: {note}"
        assert tab.value("getComputedStyle(document.querySelector('#warning')).display") == "block"
        assert json.dumps(previous)[1:-1] in tab.text("#health")
        assert tab.value("document.scrollingElement.scrollWidth") <= width
        shot = tmp_path / "told.png"
        tab.screenshot(shot)
        assert shot.stat().st_size > 10_000
