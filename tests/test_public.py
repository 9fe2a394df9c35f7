"""What `import harness` promises, and the examples in docstrings."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.registry import Registry

PACKAGE = Path(harness.__file__).parent
WITH_EXAMPLES = sorted(path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


def _module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=_module_of)
def test_examples_in_docstrings_hold(path: Path) -> None:
    found = doctest.testmod(importlib.import_module(_module_of(path)))
    assert found.attempted > 0
    assert found.failed == 0


def test_there_are_examples_to_hold() -> None:
    assert {"harness.metrics", "harness.reports.names"} <= set(map(_module_of, WITH_EXAMPLES))


@pytest.mark.parametrize("name", harness.__all__)
def test_public_name_is_found(name: str) -> None:
    assert getattr(harness, name) is not None


def test_registry_of_every_family_is_public() -> None:
    public = [getattr(harness, name) for name in harness.__all__]
    families = {item.family for item in public if isinstance(item, Registry)}
    assert families == {"attacks", "corruptions", "datasets", "detectors", "models", "poisons", "recipes"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, harness; print([name for name in ('torch', 'pandas', 'numpy') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert found.stdout.strip() == "[]"
