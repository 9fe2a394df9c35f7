"""Cells that are computed anew tell a stored falsehood that tables, examples and store agree on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.records import Outcome
from harness.storage.store import META, read_json, write_json
from tests.running.verification.conftest import Copied, forged, run_without_page
from tests.running.verification.test_rederive import call


def lie(results: Path, finished: Path, *, spared: int, kind: str = "attack with") -> str:
    """Makes a stored outcome say that an attack had no success but on the first examples, and writes the tables from it."""
    steps = read_json(results / "provenance.json")["steps"]
    digest = next(it for it, title in steps.items() if title == kind)

    def robust(outcome: Outcome) -> Outcome:
        for condition in outcome.conditions:
            fooled = np.flatnonzero(condition.is_adversarial)[:spared]
            condition.is_adversarial[fooled] = False
            condition.logits[fooled] = outcome.clean_logits[fooled]
        return outcome

    forged(results.parent / ".store" / "attack" / digest, robust)
    run_without_page(finished / "suite.yaml", out=results, store=results.parent / ".store")
    return digest


def test_cells_computed_anew_are_the_same_to_the_last_digit(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "results").rglob("*") if path.is_file()}
    assert call("verify", str(finished / "results" / "audited_run"), "--recompute", "1", "--device", "cpu") == 0
    printed = capsys.readouterr()
    said = printed.out
    assert ": attack second with pgd\n" in printed.err
    assert "computed anew" in said
    assert "elsewhere" not in said
    assert "0 differences" in said
    assert ": train " not in printed.err
    assert {path: path.stat().st_mtime_ns for path in (finished / "results").rglob("*") if path.is_file()} == before


def test_small_share_computes_at_least_one_cell_and_the_seed_draws_it(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = []
    for seed in ("0", "0", "1", "2"):
        command = ("--recompute", "0.0001", "--seed", seed, "--device", "cpu")
        assert call("verify", str(finished / "results" / "audited_run"), *command) == 0
        printed = capsys.readouterr()
        assert ", 1 of " in printed.out
        drawn += [line for line in printed.err.splitlines() if "step 1 of 1" in line]
    assert len(drawn) == 4
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_stored_falsehood_is_found_by_computing_anew_only(
    copied: Copied, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = copied()
    lie(results, finished, spared=3, kind="attack second with pgd")
    assert call("verify", str(results)) == 0
    assert call("verify", str(results), "--recompute", "1", "--images", "any.h5", "--device", "cpu") == 1
    said = capsys.readouterr().out
    assert "the images were not judged: what was measured is not what the tables say" in said
    assert "cells.csv, computed anew: second__pgd__eps-16-255: robust_accuracy: written " in said
    assert "samples.parquet, computed anew: second__pgd__eps-16-255: examples: written 3 of 40 others" in said


@pytest.mark.parametrize(("spared", "code"), [(1, 0), (3, 1)])
def test_elsewhere_one_example_may_end_otherwise_and_three_of_forty_may_not(
    copied: Copied, finished: Path, spared: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    results = copied()
    digest = lie(results, finished, spared=spared, kind="attack second with pgd")
    meta = results.parent / ".store" / "attack" / digest / META
    write_json(meta, {**read_json(meta), "threads": 64})
    assert call("verify", str(results), "--recompute", "1", "--device", "cpu") == code
    said = capsys.readouterr().out
    assert "measured elsewhere (threads differ)" in said
    assert ("1 of 40 examples end otherwise" in said) == (code == 0)


@pytest.mark.parametrize(("written", "code"), [(0.05, 2), (0.5, 1), ("", 1)])
def test_elsewhere_a_share_without_examples_may_differ_by_few_examples_only(
    copied: Copied, written: float | str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    results = copied()
    (results / "samples.parquet").unlink()
    provenance = read_json(results / "provenance.json")
    write_json(results / "provenance.json", {**provenance, "threads": 64})
    for folder in (results.parent / ".store" / "attack").iterdir():
        (folder / META).unlink()
    cells = pd.read_csv(results / "cells.csv", dtype=str, keep_default_na=False)
    place = cells.index[(cells["model"] == "second") & (cells["attack"] == "pgd") & (cells["poison"] == "")][-1]
    known = float(cells.loc[place, "robust_accuracy"])
    cells.loc[place, "robust_accuracy"] = written if isinstance(written, str) else str(known + written)
    cells.to_csv(results / "cells.csv", index=False)
    assert call("verify", str(results), "--recompute", "1", "--device", "cpu") == code
    said = capsys.readouterr().out
    assert "measured elsewhere (threads differ)" in said
    assert ("computed anew: second__pgd__eps-16-255: robust_accuracy: written" in said) == (code == 1)


def test_model_that_is_not_in_the_store_is_bad_input_and_nothing_is_trained(
    copied: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    results = copied()
    for folder in (results.parent / ".store" / "train").iterdir():
        (folder / META).unlink()
    assert call("verify", str(results), "--recompute", "0.1", "--device", "cpu") == 2
    assert "expected the finished step train " in capsys.readouterr().err


@pytest.mark.parametrize("share", ["0", "-1", "1.5", "nan"])
def test_share_out_of_range_and_a_missing_store_are_bad_input(
    copied: Copied, share: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = copied(store=False)
    monkeypatch.chdir(results.parent)
    assert call("verify", str(results), "--recompute", "0.1") == 2
    assert "--recompute: expected a store with the models, found none" in capsys.readouterr().err
    (results.parent / ".store").mkdir()
    assert call("verify", str(results), "--recompute", share) == 2
    assert "--recompute: expected a share above 0 and at most 1" in capsys.readouterr().err


def test_option_beside_a_suite_is_bad_input(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in (["--recompute", "0.5"], ["--images", "some.h5"]):
        assert call("verify", str(finished / "suite.yaml"), *option) == 2
        assert f"{option[0]}: expected a folder of results beside it, got a suite" in capsys.readouterr().err


def test_examples_that_are_not_those_of_the_data_are_named(copied: Copied, capsys: pytest.CaptureFixture[str]) -> None:
    results = copied()
    samples = pd.read_parquet(results / "samples.parquet")
    samples["content_hash"] = samples["content_hash"].astype(str)
    place = samples.index[(samples["model"] == "first") & (samples["condition"] == "clean")][4]
    samples.loc[place, "content_hash"] = "0" * 64
    samples.to_parquet(results / "samples.parquet", index=False)
    assert call("verify", str(results), "--recompute", "1", "--device", "cpu") == 1
    assert "samples.parquet: first__clean: content_hash: written other examples" in capsys.readouterr().out


def test_lie_has_rows_of_a_store_that_agree(finished: Path, copied: Copied) -> None:
    results = copied()
    lie(results, finished, spared=3, kind="attack second with pgd")
    old, new = (pd.read_csv(it / "cells.csv") for it in (finished / "results" / "audited_run", results))
    changed = (old["robust_accuracy"] != new["robust_accuracy"]) & old["robust_accuracy"].notna()
    assert set(old.loc[changed, "attack"]) == {"pgd"}
