"""The shape of the package: how deep its imports go, that they have no circle, and how long a function may be."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import harness

PACKAGE = Path(harness.__file__).parent
LONGEST_CHAIN = 14
"""Imports from one module to the next: what a reader follows at most from a command to the ground."""
MOST_LOOSE_MODULES = 9
"""Modules of the package that are in no room."""
LONGEST_FUNCTION = 60
"""Lines, with the docstring."""


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Returns the modules that each module of the package imports, wherever in its text, but for types alone."""
    graph = grimp.build_graph("harness", exclude_type_checking_imports=True, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def test_no_modules_import_each_other_in_a_circle(imports: dict[str, set[str]]) -> None:
    order = list(TopologicalSorter(imports).static_order())  # raises CycleError, which names the circle
    assert set(order) == set(imports)


def test_the_longest_chain_of_imports_has_a_bound(imports: dict[str, set[str]]) -> None:
    @cache
    def below(module: str) -> tuple[str, ...]:
        return (module, *max((below(other) for other in sorted(imports[module])), key=len, default=()))

    longest = max(map(below, sorted(imports)), key=len)
    assert len(longest) - 1 <= LONGEST_CHAIN, " > ".join(longest)


def test_few_modules_are_in_no_room(imports: dict[str, set[str]]) -> None:
    rooms = {module.rpartition(".")[0] for module in imports}
    loose = sorted(module for module in imports if module.count(".") == 1 and module not in rooms)
    assert len(loose) <= MOST_LOOSE_MODULES, loose


def test_no_function_is_longer_than_a_page() -> None:
    lengths = {
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(lengths) > 100
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION}
