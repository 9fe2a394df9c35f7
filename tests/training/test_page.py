"""docs/training.md names every field of every recipe."""

from pathlib import Path

import pytest

from harness.datasets.augment import Augment
from harness.training.recipes.base import RECIPES, Optimiser

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
SPECS = {name: RECIPES.get(name) for name in ("standard", "pgd", "trades", "fast")} | {"augment": Augment, "optimiser": Optimiser}


@pytest.mark.parametrize("spec", SPECS)
def test_page_names_every_field(spec: str) -> None:
    missing = [field for field in SPECS[spec].model_fields if f"`{field}`" not in PAGE and field != "name"]
    assert missing == []
