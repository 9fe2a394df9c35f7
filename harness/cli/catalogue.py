"""The list of shipped suites and of the plug-ins of every family."""

import inspect
from collections.abc import Mapping
from typing import Any

from harness.attacks.base import ATTACKS
from harness.corruptions.base import CORRUPTIONS
from harness.datasets.base import DATASETS
from harness.errors import SuiteError
from harness.models.base import MODELS
from harness.poisoning.base import POISONS
from harness.poisoning.detectors.base import DETECTORS
from harness.registry import Registry
from harness.suites.files import shipped_suites, suite_title
from harness.training.recipes.base import RECIPES

FAMILIES: Mapping[str, Registry[Any]] = {
    registry.family: registry for registry in (DATASETS, MODELS, RECIPES, ATTACKS, POISONS, DETECTORS, CORRUPTIONS)
}


def catalogue(family: str | None) -> list[tuple[str, str, str]]:
    """Returns rows (family, name, first line of its description), of one family or of all.

    Raises:
        SuiteError: if there is no such family.
    """
    known = ["suites", *FAMILIES]
    if family is not None and family not in known:
        raise SuiteError(f"family: expected one of {', '.join(known)}, got {family!r}")
    wanted = known if family is None else [family]
    rows = [("suites", name, suite_title(path)) for name, path in shipped_suites().items() if "suites" in wanted]
    for name in wanted[wanted[0] == "suites" :]:
        rows += [(name, plugin, _first_line(FAMILIES[name].get(plugin))) for plugin in FAMILIES[name].names()]
    return rows


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]
