"""A sweep in parts: the same tables however the examples are cut, and a lost part costs that part."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.cli.inspection import step_rows
from harness.executors.local import execute
from harness.planning.plan import plan_of
from harness.records import Status
from harness.reports.load import load_results
from harness.running.runner import RunSummary, run
from harness.running.verification.recompute import recompute
from harness.running.workspace import Workbench, open_workbench
from harness.steps.base import Step
from harness.steps.evaluate import MergedSweep, PartOfSweep, Sweep
from harness.steps.judgement import OUTCOME
from harness.storage.outcomes import load_outcome
from harness.storage.store import Store
from harness.suites.files import load_suite
from harness.suites.suite import Suite
from tests.nets import ON_DIGITS

TINY = (
    f"name: parts{ON_DIGITS}"
    + """
models:
  baseline: {recipe: {name: standard, epochs: 1, batch_size: 64}}
threat_model: {norm: Linf, eps: [4/255, 16/255]}
attacks:
  noise: {name: random_noise}
  pgd: {name: pgd, steps: 2}
  apgd: {name: apgd-ce, steps: 4, protocol: independent}
  fab: {name: fab, steps: 2, targets: 2}
  cw: {name: cw, norm: L2, eps: [1/2], steps: 4}
  bisected: {name: pgd, steps: 2, protocol: bisect}
evaluation: {limit: 22, batch_size: 8}
"""
)
CUT = {"noise", "pgd", "apgd", "fab"}
OF_THE_RUN = ["seconds", "peak_memory_mb", "status"]


def tiny(folder: Path, shard: int | None) -> Suite:
    path = folder / "parts.yaml"
    path.write_text(TINY)
    return load_suite(path, () if shard is None else (f"evaluation.shard={shard}",))


def _run(folder: Path, shard: int | None, *, jobs: int = 1) -> RunSummary:
    """Runs the suite on a store that has its model alone."""
    store = folder / f"store-{shard}-{jobs}"
    shutil.copytree(folder / "store", store)
    return run(tiny(folder, shard), out=folder / store.name.replace("store", "out"), store=store, device="cpu", jobs=jobs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which the model is trained."""
    folder = tmp_path_factory.mktemp("parts")
    bench = open_workbench(tiny(folder, None), store=folder / "store")
    assert not bench.finish(*bench.plan.training.values())
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> RunSummary:
    """One part: there are fewer examples than it may have."""
    return _run(folder, 100)


@pytest.mark.parametrize(("shard", "jobs"), [(5, 2), (16, 1)])
def test_tables_are_those_of_one_part_however_the_examples_are_cut(
    folder: Path, whole: RunSummary, shard: int, jobs: int
) -> None:
    found = _run(folder, shard, jobs=jobs)
    assert found.ok
    assert whole.ok
    cells = [pd.read_csv(it.folder / "cells.csv").drop(columns=OF_THE_RUN) for it in (whole, found)]
    pd.testing.assert_frame_equal(*cells, check_exact=True)
    samples = [pd.read_parquet(it.folder / "samples.parquet") for it in (whole, found)]
    pd.testing.assert_frame_equal(*samples, check_exact=True)


def test_only_attacks_that_keep_examples_apart_are_cut(folder: Path) -> None:
    suite = tiny(folder, 5)
    steps = plan_of(suite, suite.dataset.load()).steps
    parts = [step for step in steps if isinstance(step, PartOfSweep)]
    assert {step.label for step in parts} == CUT
    assert {step.label for step in steps if type(step) is Sweep} == {"cw", "bisected"}
    pgd = [step for step in parts if step.label == "pgd"]
    assert [(step.first, step.end) for step in pgd] == [(0, 5), (5, 10), (10, 15), (15, 20), (20, 22)]
    assert pgd[1].title == "attack baseline with pgd, part 2 of 5"


def test_digests_say_by_example_and_not_how_many_parts_there_are(folder: Path) -> None:
    plans = {shard: plan_of(suite := tiny(folder, shard), suite.dataset.load()) for shard in (None, 5, 16, 100)}
    digests = {shard: {step.label: step.digest for step in plan.steps if _is_merged(step)} for shard, plan in plans.items()}
    assert digests[5] == digests[16] == digests[100]
    assert {label for label, digest in digests[5].items() if digest != digests[None][label]} == CUT


def _is_merged(step: object) -> bool:
    return isinstance(step, Sweep) and not isinstance(step, PartOfSweep)


@pytest.fixture
def computed(folder: Path, whole: RunSummary, tmp_path: Path) -> Workbench:
    """The plan in parts of 16, with a store of its own that has all of them."""
    root = tmp_path / "store"
    shutil.copytree(folder / "store", root)
    suite = tiny(folder, 16)
    bench = open_workbench(suite, store=root)
    assert not bench.finish(*_of_pgd(bench))
    return bench


def _of_pgd(bench: Workbench) -> list[MergedSweep]:
    return [step for step in bench.plan.steps if isinstance(step, MergedSweep) and step.label == "pgd"]


def _entry(bench: Workbench, step: Step) -> Path:
    return bench.context.store.root / step.KIND / step.digest


def _expect_same(bench: Workbench, step: MergedSweep, folder: Path) -> None:
    """Compares an outcome with that of one part, but for seconds and memory."""
    found, wanted = (
        load_outcome(place / OUTCOME) for place in (_entry(bench, step), folder / "store-100-1/attack" / step.digest)
    )
    assert np.array_equal(found.smallest_eps, wanted.smallest_eps)
    for mine, theirs in zip(found.conditions, wanted.conditions, strict=True):
        assert np.array_equal(mine.logits, theirs.logits)
        assert np.array_equal(mine.distance, theirs.distance)
        assert mine.evidence == theirs.evidence


def test_a_lost_part_is_computed_anew_alone(folder: Path, computed: Workbench) -> None:
    (merged,) = _of_pgd(computed)
    lost, kept = merged.parts
    when = _entry(computed, kept).joinpath("meta.json").stat().st_mtime_ns
    for step in (merged, lost):
        shutil.rmtree(_entry(computed, step))
    assert not computed.finish(merged)
    assert _entry(computed, kept).joinpath("meta.json").stat().st_mtime_ns == when
    assert computed.context.entry(lost) is not None
    _expect_same(computed, merged, folder)


def test_parts_of_a_stored_outcome_are_not_computed(folder: Path, whole: RunSummary) -> None:
    suite, store = tiny(folder, 5), Store(folder / "store-100-1")
    plan = plan_of(suite, suite.dataset.load())
    parts = [step for step in plan.steps if isinstance(step, PartOfSweep)]
    assert parts
    left = {step.digest for step in plan.for_store(store).steps}
    assert {step.digest for step in plan.steps} - left == {step.digest for step in parts}
    assert all(state == "finished" for *_, state in step_rows(plan, store))


def test_a_damaged_outcome_whose_parts_are_gone_is_computed_anew(folder: Path, computed: Workbench) -> None:
    (merged,) = _of_pgd(computed)
    for part in merged.parts:
        shutil.rmtree(_entry(computed, part))
    (_entry(computed, merged) / OUTCOME).write_bytes(b"")
    steps = [step for step in computed.plan.for_store(computed.context.store).steps if step.digest == merged.digest]
    assert {report.status for report in execute(steps, computed.context).values()} == {Status.DONE}
    _expect_same(computed, merged, folder)


def test_published_cells_of_a_sweep_in_parts_are_computed_anew_in_one(folder: Path, whole: RunSummary) -> None:
    bench = open_workbench(tiny(folder, 5), store=folder / "store-100-1")
    found = recompute(load_results(whole.folder), 0.3, bench, seed=1)
    assert not found.differences
    assert found.compared["examples computed anew"] > 0
