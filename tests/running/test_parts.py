"""Conditions in parts: the same tables however the examples are cut, and a lost part costs that part."""

import shutil
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.utils import save_image

from harness.cli.inspection import step_rows
from harness.errors import DataError, SuiteError
from harness.evaluation import parts
from harness.evaluation.batches import CPU_BATCH
from harness.executors.local import execute
from harness.planning.plan import Plan, plan_of
from harness.records import Status
from harness.reports.load import load_results
from harness.running.estimate import Passes, _passes_of
from harness.running.runner import RunSummary, run
from harness.running.verification.recompute import recompute
from harness.running.workspace import Workbench, open_workbench
from harness.steps.base import Step
from harness.steps.judgement import OUTCOME
from harness.steps.parts import Divisible
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
corruptions: {grain: {name: gaussian_noise, severities: [1, 3]}, snow: {name: snow, severities: [2]}}
folders: {street: {root: "${STREET}"}}
evaluation: {limit: 22, batch_size: 8}
"""
)
CUT = {
    *("attack baseline with noise", "attack baseline with pgd", "attack baseline with apgd", "attack baseline with fab"),
    *("corrupt with grain, score baseline", "corrupt with snow, score baseline"),
    *("score baseline", "score baseline on the folder street"),
}
WHOLE = {"attack baseline with cw", "attack baseline with bisected"}
PHOTOGRAPHS = 7
"""Images of each class of the folder."""
SOME = (
    *("attack baseline with pgd", "corrupt with grain, score baseline"),
    *("score baseline", "score baseline on the folder street"),
)
OF_THE_RUN = ["seconds", "peak_memory_mb", "status"]


def tiny(folder: Path, shard: int | str | None) -> Suite:
    path = folder / "parts.yaml"
    path.write_text(TINY.replace("${STREET}", str(folder / "street")))
    return load_suite(path, () if shard is None else (f"evaluation.shard={shard}",))


def _run(folder: Path, shard: int | str | None, *, jobs: int = 1) -> RunSummary:
    """Runs the suite on a store that has its model alone."""
    store = folder / f"store-{shard}-{jobs}"
    shutil.copytree(folder / "store", store)
    return run(tiny(folder, shard), out=folder / store.name.replace("store", "out"), store=store, device="cpu", jobs=jobs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which the model is trained."""
    folder, generator = tmp_path_factory.mktemp("parts"), torch.Generator().manual_seed(0)
    for name in ("3", "7"):
        (folder / "street" / name).mkdir(parents=True)
        for number in range(PHOTOGRAPHS):
            save_image(torch.rand(3, 20, 24, generator=generator), folder / "street" / name / f"{number}.png")
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


def test_steps_that_keep_examples_apart_are_cut(folder: Path) -> None:
    suite = tiny(folder, 5)
    plan = plan_of(suite, suite.dataset.load())
    cut = [step for step in plan.steps if isinstance(step, Divisible) and step.span is not None]
    assert {step.title for step in _merged(plan) if step.parts} == CUT
    assert {step.title for step in _merged(plan) if not step.parts} == WHOLE
    spans = {"attack baseline with pgd": [0, 5, 10, 15, 20, 22], "score baseline on the folder street": [0, 5, 10, 14]}
    for title, edges in spans.items():
        own = [step for step in cut if step.title.startswith(f"{title}, part ")]
        assert [(step.span.first, step.span.end) for step in own if step.span] == list(pairwise(edges))
        assert own[1].title == f"{title}, part 2 of {len(own)}"


def test_digests_say_by_example_and_not_how_many_parts_there_are(folder: Path) -> None:
    plans = {shard: plan_of(suite := tiny(folder, shard), suite.dataset.load()) for shard in (None, 5, 16, 100, "auto")}
    digests = {shard: {step.title: step.digest for step in _merged(plan)} for shard, plan in plans.items()}
    assert digests[5] == digests[16] == digests[100] == digests["auto"]
    assert {title for title, digest in digests[5].items() if digest != digests[None][title]} == CUT


def _merged(plan: Plan) -> list[Divisible]:
    return [step for step in plan.steps if isinstance(step, Divisible) and step.span is None]


def test_a_damaged_photograph_is_refused_as_without_parts(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "street", tmp_path / "street")
    (tmp_path / "street/7/5.png").write_bytes(b"\x89PNG")
    refused = r"^folders\.street\.root: .* expected images that can be decoded, got 1 broken: 7/5\.png"
    for shard in (None, 5):
        suite = tiny(tmp_path, shard)
        with pytest.raises(DataError, match=refused):
            plan_of(suite, suite.dataset.load())


def test_parts_that_the_suite_leaves_open_are_of_as_many_passes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PASSES", 330)
    monkeypatch.setattr(parts, "LEAST_BATCHES", 1)
    suite = tiny(folder, "auto")
    plan = plan_of(suite, suite.dataset.load())
    found = {step.title: step.parts[0].span for step in _merged(plan) if step.parts}
    # Of PGD: a clean pass, and at both budgets two steps forward and backward, and a pass that judges: 15. APGD: 18 at one
    # budget, FAB, which runs once for all: 23. The other steps need fewer passes than a part has.
    sizes = {title.removeprefix("attack baseline with "): None if span is None else len(span) for title, span in found.items()}
    assert sizes == {"pgd": 330 // 15 // 8 * 8, "apgd": 330 // 18 // 8 * 8, "fab": 330 // 23 // 8 * 8}


@pytest.mark.parametrize(("cost", "batch", "size"), [(1, 10, 100_000), (6, None, 16_640), (10**6, None, 128), (10**6, 500, 2000)])
def test_size_of_a_part_follows_from_its_passes_in_full_batches(cost: int, batch: int | None, size: int) -> None:
    assert parts.size_of_part(cost, batch) == size


def test_batches_of_a_part_are_those_of_the_evaluation() -> None:
    assert parts.CPU_BATCH == CPU_BATCH


@pytest.mark.parametrize("shard", ["0", "many", "1.5"])
def test_another_size_is_refused_in_one_line(folder: Path, shard: str) -> None:
    with pytest.raises(SuiteError, match=r"^\S+ evaluation\.shard: expected a whole number >= 1 or auto, got \S+$"):
        tiny(folder, shard)


@pytest.fixture(scope="module")
def in_parts(folder: Path) -> Path:
    """A store that has some steps in parts of 8."""
    root = folder / "store-in-parts"
    shutil.copytree(folder / "store", root)
    bench = open_workbench(tiny(folder, 8), store=root)
    assert not bench.finish(*(_titled(bench, title) for title in SOME))
    return root


@pytest.fixture
def computed(folder: Path, whole: RunSummary, in_parts: Path, tmp_path: Path) -> Workbench:
    """The plan in parts of 8, with a store of its own that has some of them."""
    shutil.copytree(in_parts, tmp_path / "store")
    return open_workbench(tiny(folder, 8), store=tmp_path / "store")


def _titled(bench: Workbench, title: str) -> Divisible:
    (step,) = (step for step in _merged(bench.plan) if step.title == title)
    return step


def _entry(bench: Workbench, step: Step) -> Path:
    return bench.context.store.root / step.KIND / step.digest


def _expect_same(bench: Workbench, step: Divisible, folder: Path) -> None:
    """Compares an outcome with that of one part, but for seconds and memory."""
    found, wanted = (
        load_outcome(place / OUTCOME) for place in (_entry(bench, step), folder / "store-100-1" / step.KIND / step.digest)
    )
    assert np.array_equal(found.clean_logits, wanted.clean_logits)
    assert np.array_equal(found.smallest_eps, wanted.smallest_eps)
    for mine, theirs in zip(found.conditions, wanted.conditions, strict=True):
        assert np.array_equal(mine.logits, theirs.logits)
        assert np.array_equal(mine.distance, theirs.distance)
        assert mine.evidence == theirs.evidence


@pytest.mark.parametrize("title", SOME)
def test_a_lost_part_is_computed_anew_alone(title: str, folder: Path, computed: Workbench) -> None:
    merged = _titled(computed, title)
    lost, kept = merged.parts[:2]
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
    needless = {step.digest for step in plan.steps if isinstance(step, Divisible) and step.span is not None}
    assert needless
    left = {step.digest for step in plan.for_store(store).steps}
    assert {step.digest for step in plan.steps} - left == needless
    assert all(state == "finished" for *_, state in step_rows(plan, store))


@pytest.mark.parametrize("title", SOME)
def test_a_damaged_outcome_whose_parts_are_gone_is_computed_anew(title: str, folder: Path, computed: Workbench) -> None:
    merged = _titled(computed, title)
    for part in merged.parts:
        shutil.rmtree(_entry(computed, part))
    (_entry(computed, merged) / OUTCOME).write_bytes(b"")
    steps = [step for step in computed.plan.for_store(computed.context.store).steps if step.digest == merged.digest]
    assert {report.status for report in execute(steps, computed.context).values()} == {Status.DONE}
    _expect_same(computed, merged, folder)


def test_published_cells_in_parts_are_computed_anew_in_one(folder: Path, whole: RunSummary) -> None:
    bench = open_workbench(tiny(folder, 5), store=folder / "store-100-1")
    found = recompute(load_results(whole.folder), 0.5, bench, seed=1)
    assert not found.differences
    assert found.compared["examples computed anew"] > 0


def test_an_estimate_counts_the_passes_of_parts_and_not_those_of_the_step_that_merges(folder: Path) -> None:
    suites = [tiny(folder, shard) for shard in (None, 5)]
    data = suites[0].dataset.load()
    plans = [plan_of(suite, data) for suite in suites]
    uncut, cut = ([_passes_of(step, plan, data) or Passes() for step in plan.steps] for plan in plans)
    assert reduce(Passes.plus, cut) == reduce(Passes.plus, uncut)
    assert {_passes_of(step, plans[1], data) for step in plans[1].steps if isinstance(step, Divisible) and step.parts} == {
        Passes()
    }


@pytest.mark.parametrize(("shard", "said"), [(4, 1), (5, 0)])
def test_parts_that_are_far_smaller_than_a_batch_are_named_once(
    folder: Path, computed: Workbench, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, shard: int, said: int
) -> None:
    bench = replace(computed, plan=plan_of(tiny(folder, shard), computed.context.data))
    for part in _titled(bench, "score baseline on the folder street").parts:
        part.run(bench.context, tmp_path)
    assert caplog.text.count("images, in passes filled up to 8; larger parts") == said
