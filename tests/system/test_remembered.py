"""Values that a file keeps: they are computed once, and a file that cannot be used costs nothing but the computing."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.system import remembered as module
from harness.system.remembered import remembered, remembering

CALLS: list[tuple[int, int]] = []


@remembered
def halves(first: int, second: int) -> list[float]:
    CALLS.append((first, second))
    return [first / 2, second / 2]


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", {})
    CALLS.clear()


def test_a_value_is_computed_once_in_a_process() -> None:
    assert halves(1, 2) == halves(1, 2) == [0.5, 1.0]
    assert halves(2, 1) == [1.0, 0.5]
    assert CALLS == [(1, 2), (2, 1)]


def test_a_value_is_read_from_the_file_in_the_next_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with remembering(path := tmp_path / "values.json", "scipy"):
        first = halves(1, 3)
    written = path.stat().st_mtime_ns
    monkeypatch.setattr(module, "_known", {})
    with remembering(path, "scipy"):
        assert halves(1, 3) == first == [0.5, 1.5]
    assert CALLS == [(1, 3)]
    assert path.stat().st_mtime_ns == written
    assert [it.name for it in tmp_path.iterdir()] == ["values.json"]


WRONG = {"halves(1, 3)": [9.0, 9.0]}
OTHERS = ({"version": 1, "scipy": "0.1"}, {"version": 0, "scipy": version("scipy")}, {"scipy": version("scipy")})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "[" * 100_000, *(json.dumps({**other, "values": WRONG}) for other in OTHERS)], ids=range(8)
)
def test_a_file_that_is_damaged_or_of_another_version_is_written_anew(tmp_path: Path, text: str) -> None:
    (path := tmp_path / "values.json").write_text(text)
    with remembering(path, "scipy"):
        assert halves(1, 3) == [0.5, 1.5]
    assert json.loads(path.read_text()) == {"version": 1, "scipy": version("scipy"), "values": {"halves(1, 3)": [0.5, 1.5]}}


def test_entries_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    kept = {"version": 1, "scipy": version("scipy"), "values": {"halves(1, 3)": "much", "halves(1, 4)": [1, None]}}
    (path := tmp_path / "values.json").write_text(json.dumps(kept))
    with remembering(path, "scipy"):
        assert (halves(1, 3), halves(1, 4)) == ([0.5, 1.5], [0.5, 2.0])


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    with remembering(tmp_path / "nowhere" / "values.json", "scipy"):
        assert halves(1, 3) == [0.5, 1.5]


@pytest.mark.parametrize("value", ["[0.1]", "[0.1, 0.2, 0.3]", "[0.1, NaN]", '"x"', "null", "[[0.1, 0.2]]"])
def test_a_value_of_another_form_in_the_file_is_computed_anew(tmp_path: Path, value: str) -> None:
    path = tmp_path / "values.json"
    text = f'{{"version": {module.VERSION}, "scipy": "{version("scipy")}", "values": {{"halves(1, 2)": {value}}}}}'
    path.write_text(text)
    with remembering(path, "scipy"):
        assert halves(1, 2) == [0.5, 1.0]
    assert CALLS == [(1, 2)]
