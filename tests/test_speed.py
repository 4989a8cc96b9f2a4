"""How fast the shipped model is: ratios that add up, on a reference that takes no time to build."""

from __future__ import annotations

import msgspec
import pytest

from convert import speed
from edge import model as models
from edge.errors import InputError


def test_ratios_are_of_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load("default")
    monkeypatch.setattr(speed, "STOCK_PX", model.card.tile_px)
    found = speed.measure(model, models.load("default"), models.load("default"), rounds=15)
    ms = {name: timing["median_ms"] for name, timing in found["ms"].items()}
    assert found["tiles"] == model.card.recipe["network"]["tiles_per_frame"]
    assert found["tiles_over_stock"] == pytest.approx(ms["tiles"] / ms["stock"])
    assert found["tiles_over_stock"] > 2, "nine tiles against one"
    assert found["look_over_stock"] > found["tiles_over_stock"]
    assert found["look_over_stock"] == pytest.approx(ms["look"] / ms["stock"])


def test_all_tiles_or_none() -> None:
    model = models.load("default")
    recipe = {**model.card.recipe, "network": {**model.card.recipe["network"], "tiles_per_frame": 16}}
    model.card = msgspec.structs.replace(model.card, recipe=recipe)
    with pytest.raises(InputError, match="9 of 16 tiles"):
        speed.measure(model, model, model, rounds=1)
