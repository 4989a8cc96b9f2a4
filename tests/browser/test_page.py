"""The page of `parfocal serve` in a real browser, on the simulated rig in real time.

With PARFOCAL_BROWSER=require a computer without Chromium is a failure.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, Tab
from served import SLOW, Served, serve

pytestmark = pytest.mark.timeout(300)

TOKEN = "the-token-of-this-microscope"
#: Little travel, so that the limits are near.
NEAR = "[stage]\nlimit_low_um = -60.0\nlimit_high_um = 60.0\n[service]\nboot_focus = false\n"
FAULT = (
    '[camera]\ndriver = "simulated"\n[stage]\ndriver = "marlin"\n'
    '[serial]\nport = "/dev/not-there"\nsteps_per_mm = 3200.0\n'
)
CONTROLS = {"button", "checkbox", "image", "link", "meter", "spinbutton", "switch", "textbox"}
STEPS = ["+50", "+10", "+1", "+0.1", "−50", "−10", "−1", "−0.1"]
LEAST_TOUCH_PX = 44
TOUCHED = "button, label.switch, input[type=number], input[type=text], summary, #runs a"
SHOWN = "e => e.outerHTML.slice(0, 80)"
NO_LONGER_THAN_S = 2.0


@pytest.fixture(scope="module")
def near(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service without a token."""
    with serve(tmp_path_factory.mktemp("near"), NEAR) as served:
        yield served


@pytest.fixture(scope="module")
def slow(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with a token whose motor is slow."""
    settings = f"{SLOW}[service]\nboot_focus = false\n"
    with serve(tmp_path_factory.mktemp("slow"), settings, token=TOKEN) as served:
        yield served


@pytest.fixture
def page(browser: Browser, near: Served) -> Iterator[Tab]:
    """The page of `near`, connected, nothing going on."""
    with browser.tab() as tab:
        tab.open(near.url)
        until_idle(tab)
        yield tab
        assert tab.complaints() == []


@pytest.fixture
def slow_page(browser: Browser, slow: Served) -> Iterator[Tab]:
    """The page of `slow`, let in, nothing going on; what a test began is stopped."""
    with browser.tab() as tab:
        tab.open(f"{slow.url}#token={TOKEN}")
        until_idle(tab)
        try:
            yield tab
        finally:
            slow.post("api/stop")
        until_idle(tab)
        assert tab.complaints() == []


def until_idle(tab: Tab) -> None:
    """Until it is connected and Focus may be pressed."""
    tab.until("document.querySelector('#press').textContent === 'Focus'")
    tab.until("!document.querySelector('#press').ariaDisabled")


def until_words(tab: Tab, words: str) -> None:
    """Until the state reads so."""
    tab.until(f"document.querySelector('#words').textContent === '{words}'", patience_s=60.0)


def until_focused(tab: Tab) -> None:
    """Until a run that was just asked for has ended well."""
    until_words(tab, "Focusing…")
    until_words(tab, "In focus")
    until_idle(tab)


def button(step: str) -> str:
    """Selector of a button of the stage."""
    return f"#steps button:nth-child({STEPS.index(step) + 1})"


def is_disabled(tab: Tab, selector: str) -> bool:
    return bool(tab.value(f"document.querySelector('{selector}').ariaDisabled === 'true'"))


def nodes(tab: Tab) -> list[tuple[str, str, str]]:
    """Role, name and description of all that a screen reader finds."""
    found = tab.call("Accessibility.getFullAXTree")["nodes"]
    return [
        tuple(str(node.get(key, {}).get("value", "")) for key in ("role", "name", "description"))  # type: ignore[misc]
        for node in found
        if not node["ignored"]
    ]


def test_focus_leads_into_focus(page: Tab, near: Served) -> None:
    page.click("#press")
    until_focused(page)
    assert near.get("api/status")["state"] == "in_focus"
    page.until("document.querySelectorAll('#runs li').length > 0")
    assert "In focus" in page.text("#runs li:first-child")
    page.until("document.querySelector('#belief').children.length > 5")
    page.until(
        "document.querySelector('#belief-text').textContent.includes(' % within 1 depth of field; most')"
    )
    assert "sharpest, at " in page.text("#sharpness-text")
    assert page.text("#polite").startswith("In focus. ")
    assert page.value("document.title") == "In focus – Parfocal"


def test_the_picture_lives(page: Tab) -> None:
    page.until(
        "!document.querySelector('#picture').hidden && document.querySelector('#picture').naturalWidth > 100"
    )
    first = page.value("document.querySelector('#picture').src")
    page.until(f"document.querySelector('#picture').src !== '{first}'")
    page.until("document.querySelector('#no-picture').textContent === ''")
    assert page.value("document.querySelector('#picture').src").startswith("blob:")


def test_nothing_is_asked_of_another_host(page: Tab, near: Served) -> None:
    page.until("!document.querySelector('#picture').hidden")
    strangers = [url for url in page.requests() if not url.startswith((near.url, f"blob:{near.url}"))]
    assert strangers == []


def test_the_policy_keeps_code_of_others_out_and_we_would_see_it(browser: Browser, near: Served) -> None:
    with browser.tab() as tab:
        tab.open(near.url)
        tab.value(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'window.bad = 1'}))"
        )
        assert tab.value("window.bad === undefined")
        tab.until("true")
        assert any("Content Security Policy" in text for text in tab.complaints())


def test_escape_stops_a_run(slow_page: Tab, slow: Served) -> None:
    slow_page.key("f")
    until_words(slow_page, "Focusing…")
    assert slow_page.text("#press") == "Stop"
    slow_page.key("Escape")
    until_words(slow_page, "Stopped")
    assert "stopped" in slow.get("api/status")["reason"]


def test_stop_stops_a_run_and_a_late_press_of_it_begins_none(slow_page: Tab, slow: Served) -> None:
    slow_page.click("#press")
    until_words(slow_page, "Focusing…")
    runs = len(slow.get("api/runs"))
    slow_page.value(  # presses again in the instant in which Stop becomes Focus
        "void new MutationObserver((_, seen) => { if (press.textContent === 'Focus')"
        " { seen.disconnect(); press.click(); window.late = true; } }).observe(press, {childList: true})"
    )
    slow_page.click("#press")
    slow_page.until("window.late")
    until_idle(slow_page)
    assert slow_page.text("#words") == "Stopped"
    assert len(slow.get("api/runs")) == runs + 1


def test_a_double_click_on_focus_does_not_stop_it(slow_page: Tab, slow: Served) -> None:
    slow_page.click("#press", times=2)
    until_words(slow_page, "Focusing…")
    slow_page.until("document.querySelector('#sharpness').children.length > 0")
    assert slow.get("api/status")["state"] == "focusing"


def test_enter_held_down_begins_one_run(slow_page: Tab, slow: Served) -> None:
    slow_page.value("document.querySelector('#press').focus()")
    slow_page.key("Enter", times=30)
    until_words(slow_page, "Focusing…")
    slow_page.until("document.querySelector('#sharpness').children.length > 0")
    assert slow.get("api/status")["state"] == "focusing"


def test_while_it_moves_the_stage_can_be_followed_and_not_be_moved(slow_page: Tab) -> None:
    before = slow_page.text("#position")
    slow_page.click(button("+10"))
    until_words(slow_page, "Moving…")
    assert is_disabled(slow_page, button("+1"))
    slow_page.until(f"document.querySelector('#position').textContent !== '{before}'")
    assert slow_page.text("#words") == "Moving…"


def test_it_works_by_keyboard_alone(page: Tab) -> None:
    seen: list[str] = []
    for _ in range(40):
        page.key("Tab")
        name = page.value("document.activeElement.id || document.activeElement.textContent")
        if name in seen or page.value("document.activeElement === document.body"):
            break
        seen.append(name)
        ring = page.value(
            "(s => s.outlineStyle + parseFloat(s.outlineWidth))(getComputedStyle(document.activeElement))"
        )
        assert ring == "solid3", name
    assert seen[: 5 + len(STEPS)] == ["press", "hold", "keys", *STEPS, "um", "move"]
    page.value("document.querySelector('#press').focus()")
    page.key("Enter")
    until_focused(page)
    page.value("document.querySelector('#um').focus()")
    page.type("-2")
    page.key("f")
    page.value("document.querySelector('#um').value = -2")
    page.key("Enter")
    until_words(page, "Ready")
    assert page.text("#reason") == "Moved -2 µm by page."
    until_idle(page)
    page.value("document.activeElement.blur()")
    page.key(" ")
    until_focused(page)


def test_the_shortcuts_can_be_turned_off(page: Tab, near: Served) -> None:
    page.click("#keys")
    page.value("document.activeElement.blur()")
    runs = len(near.get("api/runs"))
    page.key("f")
    page.key(" ")
    page.value(f"document.querySelector('{button('−1')}').focus()")
    page.key("Enter")  # would be refused while a run is under way
    page.until("document.querySelector('#reason').textContent === 'Moved -1 µm by page.'")
    assert len(near.get("api/runs")) == runs


def test_buttons_are_disabled_at_the_limits(page: Tab, near: Served) -> None:
    near.post("api/jog", {"um": 55.0 - near.get("api/status")["stage"]["position_um"]})
    page.until("document.querySelector('#position').textContent.startsWith('5')")
    until_idle(page)
    assert {step: is_disabled(page, button(step)) for step in STEPS} == {
        step: step in ("+50", "+10") for step in STEPS
    }
    described = [node for node in nodes(page) if node[:2] == ("button", "+10 µm")]
    assert "above the upper limit of " in described[0][2]
    before = page.text("#position")
    page.click(button("+10"))
    page.until("document.querySelector('#problem-jog').textContent.includes('above the upper limit')")
    assert page.text("#position") == before
    page.click(button("−10"))
    page.until("document.querySelector('#position').textContent.startsWith('4')")
    assert page.text("#problem-jog") == ""


def test_hold_is_switched_and_told(page: Tab, near: Served) -> None:
    page.click("#hold")
    page.until("document.querySelector('#held').textContent.match(/^(Waiting|Holding): /)")
    assert near.get("api/status")["hold"]["on"]
    page.click("#hold")
    page.until("document.querySelector('#held').textContent.startsWith('Off')")


def test_everything_has_a_name(page: Tab) -> None:
    page.click("#press")
    until_focused(page)
    page.until("document.querySelectorAll('#runs a').length > 0")
    found = nodes(page)
    nameless = [node for node in found if node[0] in CONTROLS and not node[1]]
    assert nameless == []
    assert {node[0] for node in found} >= {
        "button",
        "switch",
        "spinbutton",
        "meter",
        "image",
        "link",
        "status",
    }
    named = {node[1] for node in found if node[0] == "button"}
    assert named >= {"Focus", "Move", *(f"{step} µm" for step in STEPS)}


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_and_can_be_touched(browser: Browser, near: Served, width: int) -> None:
    with browser.tab(width=width) as tab:
        tab.open(near.url)
        until_idle(tab)
        tab.until("document.querySelector('#health dd')")
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


def test_the_token_is_asked_for_once(browser: Browser, slow: Served) -> None:
    with browser.tab() as tab:
        tab.open(f"{slow.url}#token=of-another-microscope")
        tab.until("document.querySelector('#door').open && document.activeElement.id === 'token'")
        assert tab.text("#problem-door") == "This is not the token."
        tab.type("not the token")
        tab.key("Enter")
        tab.until("document.querySelector('#problem-door').textContent === 'This is not the token.'")
        tab.key("Escape")
        tab.until("!document.querySelector('#door').open && !document.querySelector('#ask').hidden")
        tab.click("#ask")
        tab.value("document.querySelector('#token').value = ''")
        tab.type(TOKEN)
        tab.key("Enter")
        tab.until("document.querySelector('#link').textContent === 'Connected'")
        tab.until("!document.querySelector('#picture').hidden")
        assert not tab.value("document.querySelector('#door').open")
        tab.open(slow.url)
        until_idle(tab)
        refused = [text for text in tab.complaints() if "401" not in text]
        assert refused == []


def test_the_token_leaves_the_address(slow_page: Tab, slow: Served) -> None:
    assert slow_page.value("location.href") == slow.url
    assert TOKEN not in str(
        slow_page.value("[document.body.innerHTML, document.cookie, JSON.stringify(localStorage)]")
    )


def test_an_empty_field_and_a_lost_connection_are_told(browser: Browser, tmp_path: Path) -> None:
    with browser.tab(prefers_reduced_motion="reduce") as tab:
        with serve(tmp_path, '[simulator]\nspecimen = "empty"\n') as served:
            tab.open(served.url)
            until_words(tab, "No specimen")
            assert "nothing to focus on" in tab.text("#reason").lower()
            assert tab.value("getComputedStyle(document.querySelector('#mark')).animationName") == "none"
        until_words(tab, "Connection lost, retrying…")
        assert tab.text("#urgent").startswith("Connection lost")
        assert is_disabled(tab, "#press")
        with serve(tmp_path, "[service]\nboot_focus = false\n", port=served.port):
            until_words(tab, "Ready")
            until_idle(tab)
            tab.until("document.querySelector('#no-picture').textContent === ''")


def test_a_fault_is_told(browser: Browser, tmp_path: Path) -> None:
    with serve(tmp_path, FAULT) as served, browser.tab() as tab:
        tab.open(served.url)
        until_words(tab, "Fault")
        assert "/dev/not-there" in tab.text("#reason")
        assert tab.text("#urgent").startswith("Fault. ")
        assert tab.text("#no-picture").startswith("No picture: ")
        assert is_disabled(tab, "#press")
        assert is_disabled(tab, button("+1"))
        assert tab.complaints() == []
        tab.click("#press")
        tab.until("document.querySelector('#problem-act').textContent.startsWith('Not yet: ')")


def test_a_slow_reader_of_the_picture_holds_up_nobody(near: Served) -> None:
    slow = socket.socket()
    with slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.settimeout(30.0)
        slow.connect(("127.0.0.1", near.port))
        slow.sendall(f"GET /api/preview.mjpg HTTP/1.1\r\nHost: localhost:{near.port}\r\n\r\n".encode())
        assert slow.recv(12) == b"HTTP/1.1 200"
        took_s = []
        for _ in range(40):
            assert slow.recv(64)
            began_s = time.monotonic()
            near.get("api/status")
            took_s.append(time.monotonic() - began_s)
            near.jpeg()
        near.post("api/stop")
    assert max(took_s) < NO_LONGER_THAN_S
