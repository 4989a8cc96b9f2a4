"""The browser that the tests of the page share."""

from __future__ import annotations

from collections.abc import Iterator

import chromium
import pytest
from chromium import Browser
from machines import need


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium.executable()
    need("page", [] if program else ["chromium (apt install chromium)"], "PARFOCAL_BROWSER")
    assert program is not None
    with Browser(program) as browser:
        yield browser
