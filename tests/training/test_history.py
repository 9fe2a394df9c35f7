import json

import pytest

from harness.training.history import catastrophic_overfitting, summarise


def row(epoch: int, robust: float | None = None, *, train: float = 0.5, classes: int = 10, flag: float = 0.0) -> dict[str, float]:
    clean = {
        "epoch": float(epoch),
        "train_accuracy": train,
        "validation_accuracy": 0.8 - 0.01 * epoch,
        "predicted_classes": float(classes),
        "seconds": 10.0,
        "attack_share": 0.6,
    }
    return clean if robust is None else {**clean, "validation_robust_accuracy": robust, "catastrophic_overfitting": flag}


@pytest.mark.parametrize(
    ("last", "flagged"),
    [
        ({"robust": 0.05, "train": 0.9}, True),
        ({"robust": 0.05, "train": 0.2}, False),
        ({"robust": 0.38, "train": 0.9}, False),
        ({"robust": 0.45, "train": 0.9}, False),
    ],
    ids=["collapse under PGD only", "collapse under both", "slightly worse", "better"],
)
def test_catastrophic_overfitting_is_collapse_under_pgd_alone(last: dict[str, float], flagged: bool) -> None:
    history = [row(1, 0.3, train=0.4), row(2, 0.4, train=0.5), row(3, **last)]
    assert catastrophic_overfitting(history) is flagged


def test_first_epoch_has_not_overfitted() -> None:
    assert not catastrophic_overfitting([row(1, 0.0, train=1.0)])


def test_network_that_never_was_robust_has_not_collapsed() -> None:
    assert not catastrophic_overfitting([row(1, 0.0), row(2, 0.0, train=0.9)])


def test_network_that_withstands_its_attack_and_never_pgd_has_overfitted_from_the_start() -> None:
    history = [row(epoch, 0.0, train=0.95) for epoch in (1, 2, 3)]
    assert [catastrophic_overfitting(history[:count]) for count in (1, 2, 3)] == [False, True, True]


def test_growing_budget_is_no_overfitting() -> None:
    history = [row(epoch, 0.0, train=0.95) | {"eps": 0.01 * epoch} for epoch in (1, 2, 3)]
    assert not catastrophic_overfitting(history)


@pytest.mark.parametrize(("keep_by", "kept"), [("accuracy", 2), ("loss", 3)])
def test_robust_overfitting_is_counted_from_the_most_robust_epoch_whichever_is_kept(keep_by: str, kept: int) -> None:
    history = [row(1, 0.45), row(2, 0.55), row(3, 0.40)]
    summary = summarise([{**epoch, "validation_robust_loss": 1.5} for epoch in history], kept, 3, keep_by)
    assert summary["robust_overfitting"] == pytest.approx(0.15)
    assert summary["chosen_by"] == f"validation_robust_{keep_by}"
    assert "15.0 points less robust than epoch 2" in summary["warnings"][0]


def test_summary_says_in_words_when_overfitting_began_and_what_is_kept() -> None:
    summary = summarise([row(1, 0.3), row(2, 0.4), row(3, 0.0, flag=1.0), row(4, 0.0, flag=1.0)], 2, 4)
    assert summary["catastrophic_overfitting"] == 3
    assert summary["robust_overfitting"] == pytest.approx(0.4)
    assert "catastrophic overfitting in epoch 3" in summary["warnings"][0]
    assert "the weights of epoch 2 are kept" in summary["warnings"][0]
    assert "40.0 points less robust than epoch 2" in summary["warnings"][1]


def test_summary_looks_past_epochs_that_were_not_validated() -> None:
    bare = {"epoch": 1.0, "train_accuracy": 0.4, "seconds": 10.0, "attack_share": 0.6}
    history = [bare, row(2, 0.45), bare | {"epoch": 3.0}, row(4, 0.40), bare | {"epoch": 5.0}]
    summary = summarise(history, 2, 9)
    assert summary["chosen_by"] == "validation_robust_accuracy"
    assert summary["validation_robust_accuracy"] == 0.45
    assert summary["robust_overfitting"] == pytest.approx(0.05)
    assert summary["seconds"] == 50.0


def test_collapsed_network_is_flagged() -> None:
    assert summarise([row(1, 0.1, classes=1)], 1, 1)["collapsed"]
    assert "predicts one class" in summarise([row(1, 0.1, classes=1)], 1, 1)["warnings"][0]


def test_healthy_training_has_no_warnings() -> None:
    summary = summarise([row(1, 0.3), row(2, 0.4), row(3, 0.39)], 2, 3)
    assert summary["warnings"] == []
    assert not summary["collapsed"]
    assert summary["catastrophic_overfitting"] is None
    assert not summary["stopped_early"]


def test_standard_training_has_no_robust_numbers() -> None:
    summary = summarise([row(1), row(2)], 1, 5)
    assert summary["chosen_by"] == "validation_accuracy"
    assert summary["validation_robust_accuracy"] is None
    assert summary["robust_overfitting"] is None
    assert summary["stopped_early"]


def test_summary_is_plain_json() -> None:
    summary = summarise([row(1, 0.3), row(2, 0.4)], 2, 2)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["seconds"] == 20
    assert summary["attack_share"] == pytest.approx(0.6)
