"""Scores of a bundle written by hand, through a forward pass whose answers are known."""

from pathlib import Path

import numpy as np
import pytest

from harness.bundle import Bundle, BundleCondition, BundleWriter, read_bundle
from harness.deployment.agreement import Rule
from harness.deployment.scores import Score, scores_of
from harness.threat import Norm

CLASSES = 4
LABELS = np.array([0, 1, 2, 3, 0, 1], dtype=np.int64)


def forward(x: np.ndarray) -> np.ndarray:
    """The class is painted into the image's first pixel."""
    return np.eye(CLASSES, dtype=np.float32)[(x[:, 0, 0, 0] * 10).round().astype(int) % CLASSES]


def painted(classes: np.ndarray) -> np.ndarray:
    x = np.full((len(classes), 3, 4, 4), 0.5, np.float32)
    x[:, 0, 0, 0] = classes / 10
    return x


def written(path: Path, *extra: tuple[BundleCondition, np.ndarray, np.ndarray], clean: np.ndarray) -> Bundle:
    with BundleWriter(path, class_names=[*"abcd"], model="m", model_sha256="0" * 64) as bundle:
        for condition, predicted, rows in extra:
            with bundle.condition(condition) as writer:
                x = painted(predicted)
                writer.append(x, LABELS[rows], forward(x), rows=rows)
        with bundle.condition(BundleCondition(name="clean", kind="clean")) as writer:
            writer.append(painted(clean), LABELS, forward(painted(clean)))
    return read_bundle(path)


def scored(bundle: Bundle) -> dict[str, Score]:
    return {score.condition.name: score for score in scores_of(bundle, forward, Rule())}


def test_attack_counts_what_was_correct_before_and_finds_its_rows(tmp_path: Path) -> None:
    attack = BundleCondition(name="pgd", kind="attack", attack="pgd", norm=Norm.LINF, eps="8/255", clean="clean")
    clean = np.array([0, 1, 2, 3, 1, 1])  # the example in row 4 is wrong from the start
    rows = np.array([5, 4, 3, 2, 1, 0])
    after = np.array([2, 0, 0, 2, 1, 0])  # rows 5 and 3 are adversarial; row 4 becomes correct, which is no robustness
    scores = scored(written(tmp_path / "b.h5", (attack, after, rows), clean=clean))
    assert scores["clean"].accuracy == pytest.approx(5 / 6)
    assert scores["pgd"].accuracy == pytest.approx(4 / 6)
    assert scores["pgd"].robust_accuracy == pytest.approx(3 / 6)
    assert scores["pgd"].attack_success_rate == pytest.approx(2 / 5)


def test_trigger_succeeds_by_reaching_the_target_class(tmp_path: Path) -> None:
    trigger = BundleCondition(name="trigger", kind="trigger", target_class=0, clean="clean")
    rows = np.array([1, 2, 3, 5])
    scores = scored(written(tmp_path / "b.h5", (trigger, np.array([0, 0, 1, 1]), rows), clean=LABELS))
    assert scores["trigger"].attack_success_rate == pytest.approx(2 / 4)
    assert scores["trigger"].accuracy == pytest.approx(1 / 4)


def test_targeted_attack_succeeds_by_reaching_its_class_and_what_ends_elsewhere_stands(tmp_path: Path) -> None:
    attack = BundleCondition(
        name="to_a", kind="attack", attack="to_a", norm=Norm.LINF, eps="8/255", target_class=0, clean="clean"
    )
    after = np.array([0, 0, 1, 3, 1, 0])  # rows 1 and 5 reach class 0, row 2 ends in class 1, row 4 leaves the target class
    score = scored(written(tmp_path / "b.h5", (attack, after, np.arange(6)), clean=LABELS))["to_a"]
    assert score.attack_success_rate == pytest.approx(2 / 4)
    assert score.robust_accuracy == pytest.approx(4 / 6)


def test_corruption_has_an_accuracy_and_no_success_rate(tmp_path: Path) -> None:
    fog = BundleCondition(name="fog 3", kind="corruption", attack="fog", clean="clean")
    scores = scored(written(tmp_path / "b.h5", (fog, LABELS, np.arange(6)), clean=LABELS))
    assert scores["fog 3"].accuracy == 1.0
    assert np.isnan([scores[name].robust_accuracy for name in ("clean", "fog 3")]).all()
    assert np.isnan([scores[name].attack_success_rate for name in ("clean", "fog 3")]).all()


def test_what_is_rounded_has_a_success_rate_where_it_was_attacked_before(tmp_path: Path) -> None:
    clean, fog, pgd, trigger = (
        BundleCondition(name=f"{name} rounded8bit", kind="rounded8bit", clean="clean", **fields)
        for name, fields in {
            "clean": {},
            "fog 3": {"attack": "fog"},
            "pgd": {"attack": "pgd", "norm": Norm.LINF, "eps": "8/255"},
            "trigger": {"attack": "backdoor", "target_class": 0},
        }.items()
    )
    is_adversarial = np.array([0, 0, 2, 3, 0, 1])
    found = scored(
        written(tmp_path / "b.h5", *((spec, is_adversarial, np.arange(6)) for spec in (clean, fog, pgd, trigger)), clean=LABELS)
    )
    assert [found[spec.name].accuracy for spec in (clean, fog, pgd, trigger)] == [pytest.approx(5 / 6)] * 4
    assert np.isnan([found[spec.name].robust_accuracy for spec in (clean, fog)]).all()
    assert np.isnan([found[spec.name].attack_success_rate for spec in (clean, fog)]).all()
    assert [found[spec.name].attack_success_rate for spec in (pgd, trigger)] == pytest.approx([1 / 6, 1 / 4])


def test_folder_has_an_accuracy_on_its_own_examples_and_no_success_rate(tmp_path: Path) -> None:
    street = BundleCondition(name="folder street", kind="folder", attack="street")
    score = scored(written(tmp_path / "b.h5", (street, LABELS[:3], np.arange(3)), clean=LABELS))["folder street"]
    assert (score.n_examples, score.accuracy) == (3, 1.0)
    assert np.isnan([score.robust_accuracy, score.attack_success_rate]).all()


def test_bundle_without_reference_logits_has_accuracies_and_no_agreement(tmp_path: Path) -> None:
    path = tmp_path / "b.h5"
    clean = BundleCondition(name="clean", kind="clean")
    with BundleWriter(path, class_names=[*"abcd"], model="m", model_sha256="0" * 64) as bundle, bundle.condition(clean) as writer:
        writer.append(painted(LABELS), LABELS)
    score = scored(read_bundle(path))["clean"]
    assert (score.accuracy, score.flips, score.flips_outside_margin, score.judged, score.reasons) == (1.0, None, None, False, ())
    assert np.isnan([score.agreement, score.max_difference, score.p99_difference]).all()


def test_another_model_is_measured_and_not_judged(tmp_path: Path) -> None:
    bundle = written(tmp_path / "b.h5", clean=LABELS)
    other = Rule(expects_reference=False)
    score, *_ = scores_of(bundle, lambda x: np.roll(forward(x), 1, axis=1), other)
    assert (score.flips, score.judged, score.reasons) == (6, False, ())
    broken, *_ = scores_of(bundle, lambda x: np.nan * forward(x), other)
    assert broken.reasons == ("6 examples with a logit that is NaN",)
