"""The stored steps that cells were made of are found at the first try, however many there are."""

from pathlib import Path

import pytest

from harness.planning.plan import cell_digest, plan_of
from harness.running.verification import stored
from harness.storage.store import Store
from harness.suites.files import load_suite
from tests.bench.grid import fill, write_suite


def test_each_cell_is_found_at_the_first_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_suite(tmp_path / "suite.yaml", 3, 2, 2)
    fill(str(tmp_path / "suite.yaml"), str(tmp_path / "store"))
    suite = load_suite(tmp_path / "suite.yaml")
    plan = plan_of(suite, suite.dataset.load())
    steps = stored.StoredSteps(Store(tmp_path / "store"), {"steps": {step.digest: step.title for step in plan.steps}})
    assert not steps.missing
    tried: list[str] = []
    monkeypatch.setattr(stored, "cell_digest", lambda fields, step: (tried.append(step), cell_digest(fields, step))[1])
    for cell in plan.cells:
        found = steps.find(cell.cell, cell.digest)
        assert found is not None
        assert cell.step is not None
        assert (found.entry.digest, found.position) == (cell.step.digest, cell.position)
    assert len(tried) == len(plan.cells)


def test_a_cell_whose_step_has_another_title_is_found_all_the_same(tmp_path: Path) -> None:
    write_suite(tmp_path / "suite.yaml", 2, 1, 1)
    fill(str(tmp_path / "suite.yaml"), str(tmp_path / "store"))
    suite = load_suite(tmp_path / "suite.yaml")
    plan = plan_of(suite, suite.dataset.load())
    steps = stored.StoredSteps(Store(tmp_path / "store"), {"steps": {step.digest: "renamed" for step in plan.steps}})
    assert all(steps.find(cell.cell, cell.digest) is not None for cell in plan.cells)
