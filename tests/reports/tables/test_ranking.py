"""Who is ranked against whom, in which order, and how sure the order is."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.metrics import wilson_interval
from harness.reports.decision.intervals import PairCounts, paired_interval
from harness.reports.load import load_results
from harness.reports.page.headline import summary
from harness.reports.page.html import write_report
from harness.reports.summary import leaderboard_table
from harness.reports.tables.leaderboard import leaderboard_of, merge
from harness.reports.tables.ranking import DIFFERENCE, NO_EXAMPLES, kept_apart
from tests.reports.conftest import Write
from tests.reports.flips import SETTINGS, model, reversed_cell, suite
from tests.reports.planted import BUDGETS, LABELS, N, clean_result, digest_of, logits_of, predicted_with_errors


def test_a_model_that_did_not_meet_an_attack_is_in_a_contest_of_its_own(written: Write) -> None:
    cells = [*model("hard", 2, 20, ("fgsm", "pgd")), *model("soft", 2, 5, ("fgsm", "pgd")), *model("spared", 2, 36, ("fgsm",))]
    board = written(cells, suite=suite()).leaderboard.set_index("model")
    assert list(board.index) == ["hard", "soft", "spared"]
    assert list(board["contest"]) == [1, 1, 2]
    assert list(board["rank"]) == [1, 2, 1]
    assert board["attacks_not_met"].isna().tolist() == [True, True, False]
    assert board.loc["spared", "attacks_not_met"] == "pgd"
    assert kept_apart(board.reset_index()) == ["contest 2 (spared) is apart from contest 1: pgd not met"]


def test_a_poisoned_model_has_a_badge_and_no_rank(written: Write) -> None:
    poisoned = model("clean", 2, 30, poison="backdoor", poison_rate=0.05, target_class="beet")
    results = written([*model("clean", 2, 20), *poisoned], suite=suite())
    board = results.leaderboard
    assert list(board["rank"].isna()) == [False, True]
    assert board["badge"].tolist()[1] == "POISONED"
    assert "no rank among clean models" in board["rank_note"].iloc[1]
    assert "[POISONED]" in leaderboard_table(results).rows[1][2]
    assert "clean has the highest robust accuracy" in summary(results)


def test_a_model_without_attack_has_no_rank_where_others_have(written: Write) -> None:
    board = written([*model("hard", 2, 20), clean_result("pgd")], suite=suite()).leaderboard
    assert list(board["model"]) == ["hard", "pgd"]
    assert list(board["rank"].isna()) == [False, True]
    assert board.loc[1, "rank_note"] == "not attacked: no rank"
    assert board.loc[1, "attacks_not_met"] == "pgd"


def test_equal_robust_accuracies_share_a_rank_and_say_that_clean_accuracy_decides_nothing(written: Write) -> None:
    board = written([*model("a", 8, 0), *model("b", 2, 0), *model("c", 4, 20)], suite=suite()).leaderboard
    assert list(board["model"]) == ["c", "b", "a"]
    assert list(board["rank"]) == [1, 2, 2]
    assert "as robust as a: they share the rank" in board.loc[1, "rank_note"]
    assert "as robust as b: they share the rank" in board.loc[2, "rank_note"]
    assert list(board["rank_range"]) == ["1", "2-3", "2-3"]


def test_rank_ranges_and_paired_differences_are_those_of_the_same_examples(written: Write) -> None:
    results = written([*model("a", 2, 24), *model("b", 2, 22), *model("c", 2, 8)], suite=suite())
    board = results.leaderboard.set_index("model")
    assert board["rank_range"].to_dict() == {"a": "1-2", "b": "1-2", "c": "3"}
    low, high = paired_interval(PairCounts(both=22, first=2, second=0, neither=16))
    assert board.loc["a", list(DIFFERENCE)].tolist() == pytest.approx([2 / 40, low, high])
    assert board.loc["c", list(DIFFERENCE)].isna().all()
    assert "do not tell it from the next 1" in summary(results)


def test_without_the_examples_there_is_no_rank_range_and_the_table_says_so(written: Write) -> None:
    results = written([*model("a", 2, 24), *model("b", 2, 22)], suite=suite())
    (results.folder / "samples.parquet").unlink()
    board = leaderboard_of(load_results(results.folder))
    assert board["rank_range"].isna().all()
    assert set(board["rank_note"]) == {NO_EXAMPLES}
    assert board.loc[0, "difference_to_next"] == pytest.approx(2 / 40)


def test_the_worst_class_has_recall_number_and_interval(written: Write) -> None:
    errors = np.array([index for index in range(N) if LABELS[index] == 1][:5])  # carrot: 5 of 13 wrong
    cell = clean_result("baseline")
    logits = logits_of(predicted_with_errors(errors))
    assert cell.condition is not None
    cell = dataclasses.replace(cell, clean_logits=logits, condition=dataclasses.replace(cell.condition, logits=logits))
    row = written([cell], suite=suite()).leaderboard.iloc[0]
    assert (row["worst_class"], row["worst_class_n"]) == ("carrot", 13)
    found = row[["worst_class_recall", "worst_class_recall_low", "worst_class_recall_high"]].tolist()
    assert found == pytest.approx([8 / 13, *wilson_interval(8, 13)])


def test_the_suite_names_the_reference_budget(written: Write) -> None:
    results = written(model("a", 2, 24), suite=suite(reference_budget="8/255"))
    assert results.leaderboard["eps"].tolist() == pytest.approx([8 / 255])


def test_a_reference_budget_without_numbers_ranks_nobody(written: Write) -> None:
    board = written(model("a", 2, 24), suite=suite(reference_budget="3/255")).leaderboard
    assert board["eps"].tolist() == pytest.approx([3 / 255])
    assert board["robust_accuracy"].isna().all()


@pytest.fixture
def two_machines(written: Write, tmp_path: Path) -> tuple[Path, Path]:
    written(model("a", 2, 24), "one", suite=suite())
    written(model("b", 2, 8), "two", suite=suite())
    return tmp_path / "one", tmp_path / "two"


def test_runs_of_several_machines_are_ranked_on_the_examples_they_share(two_machines: tuple[Path, Path]) -> None:
    board = merge(two_machines)
    assert list(zip(board["rank"], board["rank_range"], board["model"], strict=True)) == [(1, "1", "a"), (2, "2", "b")]
    low, high = paired_interval(PairCounts(both=8, first=16, second=0, neither=16))
    assert board.loc[0, list(DIFFERENCE)].tolist() == pytest.approx([16 / 40, low, high])
    assert kept_apart(board) == []


def test_another_order_of_the_examples_is_the_same_contest(written: Write, tmp_path: Path) -> None:
    written(model("a", 2, 24), "one", suite=suite())
    backwards = [reversed_cell(cell) for cell in model("b", 2, 8)]
    hashes = tuple(digest_of(index) for index in reversed(range(N)))
    written(backwards, "two", suite=suite(), example_hashes=hashes)
    board = merge([tmp_path / "one", tmp_path / "two"])
    assert list(board["contest"]) == [1, 1]
    low, high = paired_interval(PairCounts(both=8, first=16, second=0, neither=16))
    assert board.loc[0, list(DIFFERENCE)].tolist() == pytest.approx([16 / 40, low, high])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"suite": suite(attacks={"pgd": {"plugin": {"name": "pgd", "steps": 20}}})}, "without pgd(steps=10)"),
        ({"suite": suite(evaluation={"best_of_iterates": False})}, "last iterate"),
        ({"suite": suite(reference_budget="2/255")}, "budget 2/255 for 4/255"),
        ({"suite": suite(), "example_hashes": tuple(f"other {index}" for index in range(N))}, "other examples"),
    ],
)
def test_what_differs_is_kept_apart_and_named(written: Write, tmp_path: Path, change: dict[str, Any], why: str) -> None:
    written([*model("a", 2, 24), *model("c", 2, 20)], "one", suite=suite())
    written(model("b", 2, 30), "two", **change)
    board = merge([tmp_path / "one", tmp_path / "two"])
    assert list(zip(board["rank"], board["model"], strict=True)) == [(1, "a"), (2, "c"), (1, "b")]
    (sentence,) = kept_apart(board)
    assert sentence.startswith("contest 2 (s: b) is apart from contest 1: ")
    assert why in sentence


def test_examples_that_are_not_stored_are_said_to_be_unknown(written: Write, tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(model(name, 2, 24), name, suite=suite())
    (tmp_path / "two" / "samples.parquet").unlink()
    board = merge([tmp_path / "one", tmp_path / "two"])
    assert kept_apart(board) == ["contest 2 (s: two) is apart from contest 1: examples unknown, as a run has no samples.parquet"]


def test_another_norm_or_protocol_is_kept_apart(written: Write, tmp_path: Path) -> None:
    written(model("a", 2, 24), "one", suite=suite())
    for name, update in (("l2", {"norm": "L2"}), ("other", {"protocol": "independent"})):
        cells = [
            dataclasses.replace(cell, cell=cell.cell.model_copy(update=update)) if cell.cell.condition == "attack" else cell
            for cell in model(name, 2, 30)
        ]
        written(cells, name, suite=suite())
    board = merge([tmp_path / name for name in ("one", "l2", "other")])
    assert sorted(board["contest"]) == [1, 2, 3]
    assert "norm L2 for Linf" in " ".join(kept_apart(board))


def test_a_label_alone_does_not_make_an_attack_another_one(written: Write, tmp_path: Path) -> None:
    written(model("a", 2, 24), "one", suite=suite())
    renamed = [cell.cell.model_copy(update={"attack": "mine"}) for cell in model("b", 2, 8)]
    cells = [
        dataclasses.replace(cell, cell=new if new.condition == "attack" else cell.cell)
        for cell, new in zip(model("b", 2, 8), renamed, strict=True)
    ]
    written(cells, "two", suite=suite(attacks={"mine": SETTINGS["pgd"]}))
    assert list(merge([tmp_path / "one", tmp_path / "two"])["contest"]) == [1, 1]


def test_the_same_model_twice_is_refused_in_one_sentence(two_machines: tuple[Path, Path], written: Write, tmp_path: Path) -> None:
    one, two = two_machines
    with pytest.raises(HarnessError, match=rf"expected each model once, found duplicates: a of {one} is a of {one}$"):
        merge([one, two, one])
    written(model("a", 2, 24), "renamed", suite=suite("another name"))
    with pytest.raises(HarnessError, match=r"a of .*renamed is a of .*one$"):
        merge([one, tmp_path / "renamed"])


def test_two_suites_may_have_models_of_one_name(written: Write, tmp_path: Path) -> None:
    written(model("a", 2, 24), "one", suite=suite())
    others = [dataclasses.replace(cell, digest=f"other {cell.digest}") for cell in model("a", 2, 20)]
    written(others, "two", suite=suite("t"))
    assert list(merge([tmp_path / "one", tmp_path / "two"])["suite"]) == ["s", "t"]


def test_the_leaderboard_of_an_older_run_is_made_anew_by_the_report(written: Write) -> None:
    results = written([*model("a", 2, 24), *model("b", 2, 8)], suite=suite())
    path = results.folder / "leaderboard.csv"
    today = path.read_text()
    pd.read_csv(path)[["rank", "model", "clean_accuracy"]].to_csv(path, index=False)
    write_report(load_results(results.folder))
    assert path.read_text() == today


def test_budgets_of_the_planted_sweep_are_those_of_the_settings(written: Write) -> None:
    settings = written(model("a", 2, 24), suite=suite()).leaderboard["attack_settings"].iloc[0]
    assert settings == "pgd(steps=10), nested at 2/255, 4/255"
    assert len(BUDGETS) == 3  # 8/255 lies above the reference budget


def test_a_note_names_some_of_very_many_equals(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.reports.tables.ranking.MOST_NAMED", 2)
    board = written([cell for name in "abcd" for cell in model(name, 2, 0)], suite=suite()).leaderboard
    assert "as robust as b, c and 1 more: they share the rank" in board.loc[0, "rank_note"]
