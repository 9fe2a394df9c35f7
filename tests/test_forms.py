"""Compiled and bfloat16 attacks as a suite asks for them: in the digests and the provenance, and nowhere by default."""

from pathlib import Path

import pytest
import torch

from harness import load_results
from harness.errors import SuiteError
from harness.planning.plan import plan_of
from harness.running.runner import run
from harness.steps.evaluate import Sweep
from tests.compilers import broken
from tests.test_targeted import aimed, planned, sweeps

ASKED = ("evaluation.compile=true", "evaluation.precision=bfloat16")


def test_form_is_in_the_digest_of_attacks_where_it_is_asked_for_and_in_no_other_steps(tmp_path: Path) -> None:
    plain, *others = (planned(aimed(tmp_path, *overrides)) for overrides in ((), *((it,) for it in ASKED), ASKED))
    assert "inference" not in sweeps(plain)["pgd"].identity()
    assert len({sweeps(plan)["pgd"].digest for plan in (plain, *others)}) == 4
    rest = [{step.digest for step in plan.steps if not isinstance(step, Sweep)} for plan in (plain, *others)]
    assert rest == [rest[0]] * 4


def test_default_written_out_changes_no_digest(tmp_path: Path) -> None:
    written = aimed(tmp_path, "evaluation.compile=false", "evaluation.precision=float32")
    data = written.dataset.load()
    assert [step.digest for step in plan_of(written, data).steps] == [
        step.digest for step in plan_of(aimed(tmp_path), data).steps
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluation.precision=fp16"], "evaluation.precision: expected 'float32' or 'bfloat16', got 'fp16'"),
        (["evaluation.compile=3"], "evaluation.compile: expected"),
        (
            ["evaluation.best_of_iterates=false", "evaluation.compile=true"],
            "evaluation: compile: expected nothing beside best_of_iterates: false, .*, got True",
        ),
        (["evaluation.best_of_iterates=false", "evaluation.precision=bfloat16"], "precision: expected nothing .*, got bfloat16"),
    ],
)
def test_form_that_cannot_be_had_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        aimed(tmp_path, *overrides)


def test_run_records_what_was_asked_for_and_where_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    suite = aimed(tmp_path, *ASKED, "models.baseline.recipe.epochs=1", "expectations=[]")
    summary = run(suite, out=tmp_path / "out", store=tmp_path / "store", device="cpu")
    assert summary.ok
    recorded = load_results(tmp_path / "out").provenance["evaluation"]
    assert recorded == {
        **{"tf32": False, "cudnn_tf32": False},
        **{"compile": True, "precision": "bfloat16", "rows_in_another_form": 4},
    }
