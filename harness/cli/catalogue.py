"""The list of shipped suites and of the plug-ins of every family, and all that is known of one of them."""

import inspect
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points, packages_distributions, version
from typing import Any, NamedTuple

from harness.attacks.base import ATTACKS
from harness.cli.fields import FieldRow, field_rows
from harness.corruptions.base import CORRUPTIONS
from harness.datasets.base import DATASETS
from harness.errors import SuiteError
from harness.models.base import MODELS
from harness.poisoning.base import POISONS
from harness.poisoning.detectors.base import DETECTORS
from harness.registry import Plugin, Registry
from harness.spec import suggestion
from harness.suites.files import shipped_suites, suite_title
from harness.training.recipes.base import RECIPES

FAMILIES: Mapping[str, Registry[Any]] = {
    registry.family: registry for registry in (DATASETS, MODELS, RECIPES, ATTACKS, POISONS, DETECTORS, CORRUPTIONS)
}
OWN = __name__.partition(".")[0]
SOURCE = "Source:"


class Details(NamedTuple):
    """What is known of a plug-in or a shipped suite."""

    lines: tuple[str, ...]
    """What it is, where it comes from, and its source in the literature."""
    fields: tuple[FieldRow, ...]


def catalogue(family: str | None) -> list[tuple[str, str, str]]:
    """Returns rows (family, name, first line of its description), of one family or of all.

    Raises:
        SuiteError: if there is no such family.
    """
    if family is not None:
        _check_family(family)
    rows = [("suites", name, suite_title(path)) for name, path in shipped_suites().items() if family in (None, "suites")]
    for name, registry in FAMILIES.items():
        if family in (None, name):
            rows += [(name, plugin, _what_it_is(registry, plugin)) for plugin in registry.names()]
    return rows


def details(family: str, name: str) -> Details:
    """Returns all that is known of a plug-in, or of a shipped suite.

    Raises:
        SuiteError: if there is no such family, or no such name in it.
    """
    _check_family(family)
    if family == "suites":
        return _suite(name)
    cls: type[Plugin] = FAMILIES[family].get(name)
    text, _, source = (inspect.getdoc(cls) or "").partition(SOURCE)
    source = source or (sys.modules[cls.__module__].__doc__ or "").partition(SOURCE)[2].partition("\n\n")[0]
    package = _package(FAMILIES[family], name, cls)
    lines = [
        f"{family} {name}: {_one_line(text)}",
        f"{SOURCE} {_one_line(source) or 'none named'}",
        f"Class: {cls.__module__}:{cls.__qualname__}, version {cls.VERSION}, of the package {package or OWN}",
    ]
    return Details(tuple(lines), tuple(field_rows(cls)))


def _suite(name: str) -> Details:
    suites = shipped_suites()
    if name not in suites:
        raise SuiteError(f"suites: unknown name {name!r}{suggestion(name, list(suites))}")
    return Details((f"suites {name}: {suite_title(suites[name])}", f"File: {suites[name]}"), ())


def _check_family(family: str) -> None:
    known = ["suites", *FAMILIES]
    if family not in known:
        raise SuiteError(f"family: expected one of {', '.join(known)}, got {family!r}")


def _what_it_is(registry: Registry[Any], name: str) -> str:
    try:
        cls = registry.get(name)
    except Exception as error:  # code of another package: the others are listed all the same
        package = _package(registry, name, None)
        return f"cannot be imported{package and f' from the package {package}'}: {type(error).__name__}: {error}"
    package = _package(registry, name, cls)
    return (inspect.getdoc(cls) or "").partition("\n")[0] + (f" [package {package}]" if package else "")


def _package(registry: Registry[Any], name: str, cls: type | None) -> str:
    """Returns the name and version of the package that a plug-in comes from, empty for the harness itself."""
    top = OWN if cls is None else cls.__module__.partition(".")[0]
    for point in entry_points(group=f"harness.{registry.family}", name=name):
        if point.dist is not None and (cls is None or point.value == f"{cls.__module__}:{cls.__qualname__}"):
            return f"{point.dist.name} {point.dist.version}"
    if top == OWN:
        return ""
    found = packages_distributions().get(top, [])
    return f"{found[0]} {version(found[0])}" if found else f"{top} (not installed, only imported)"


def _one_line(text: str) -> str:
    return " ".join(text.split())
