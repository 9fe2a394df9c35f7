"""docs/security.md: the tests that it names exist; and those of its claims that are tested nowhere else."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from harness.bundle.attacked import read_attacked
from harness.errors import DataError, StoreError, SuiteError
from harness.reports.names import slug
from harness.storage.store import read_json
from harness.suites.files import load_suite
from harness.suites.yaml_text import parse_yaml
from tests.suites.test_suite import SMALL

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"(tests/[\w/]+\.py)::(test_\w+)")


class Hostile:
    """Makes a folder when it is unpickled by a careless reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_every_test_that_the_page_names_exists() -> None:
    named = NAMED.findall((ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")]
    assert not missing


def test_npz_with_pickled_objects_is_refused_and_not_run(tmp_path: Path) -> None:
    hostile = np.array([Hostile(tmp_path / "executed")], dtype=object)
    for name in ("x", "index"):
        arrays = {"x": np.zeros((1, 3, 4, 4), np.float32), "index": np.arange(1), "model": "m", "norm": "Linf", "eps": "8/255"}
        np.savez(tmp_path / f"{name}.npz", **{**arrays, name: hostile})
        with pytest.raises(DataError, match=f"{name}.npz"):
            read_attacked(tmp_path / f"{name}.npz")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 200_000, "[]", "1", "\ud800".encode("utf-8", "surrogatepass"), b"\xff"]
)
def test_json_without_end_is_one_line(text: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "provenance.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(StoreError, match=r"provenance\.json: expected a JSON") as caught:
        read_json(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("tag", ["python/object/apply:os.mkdir", "python/name:os.mkdir", "python/object/new:os.mkdir"])
def test_suite_builds_no_objects(tag: str, tmp_path: Path) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(f"{SMALL}\ndescription: !!{tag} [{json.dumps(str(tmp_path / 'executed'))}]\n")
    with pytest.raises(SuiteError, match="could not determine a constructor"):
        load_suite(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["../../outside", "/outside", "a/b", "..", ".", "a\x00b"])
def test_labels_lead_out_of_no_folder(name: str, tmp_path: Path) -> None:
    found = slug(name)
    assert (tmp_path / found).parent == tmp_path
    assert found not in (".", "..")
    values = parse_yaml(SMALL)
    path = tmp_path / "given.yaml"
    path.write_text(json.dumps({**values, "name": name}))
    with pytest.raises(SuiteError, match="name"):
        load_suite(path)
