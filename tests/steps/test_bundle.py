"""A bundle holds what the grid's steps showed a model, with its logits."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.bundle import Bundle, read_bundle
from harness.corruptions.stream import corrupt
from harness.deployment.selection import bundling_of
from harness.export.metadata import model_sha256
from harness.steps.bundle import Attacked, Bundling
from harness.system.seeds import seed_of
from tests.deployed import Deployed, finished

EPS = 16 / 255
PGD = "pgd Linf 16-255"


def bundling(deployed: Deployed, model: str, *overrides: str) -> Bundling:
    bench = deployed.bench(*overrides)
    return bundling_of(bench.plan, bench.plan.suite.variant(model), bench.context.data.class_names)


def bundle_of(deployed: Deployed, model: str) -> Bundle:
    step = bundling(deployed, model)
    finished(deployed.bench(), step)
    return read_bundle(step.file(deployed.bench().context))


@pytest.fixture(scope="module")
def clean_bundle(deployed: Deployed) -> Bundle:
    return bundle_of(deployed, "baseline")


@pytest.fixture(scope="module")
def poisoned_bundle(deployed: Deployed) -> Bundle:
    return bundle_of(deployed, "baseline@backdoor@0.1")


def images(bundle: Bundle, name: str) -> np.ndarray:
    return np.concatenate([batch.x for batch in bundle.batches(name, 7)])


def test_conditions_are_clean_attacks_as_they_are_and_in_8_bits_and_corruptions(clean_bundle: Bundle) -> None:
    attacks = [f"{attack} Linf 16-255{ending}" for attack in ("fgsm", "pgd") for ending in ("", " rounded8bit", " jpeg")]
    own = [["clean", "clean rounded8bit"], attacks, ["fog 3", "fog 3 rounded8bit"]]
    assert [condition.spec.name for condition in clean_bundle.conditions] == [name for names in own for name in names]
    assert {(condition.n, condition.shape, condition.has_logits) for condition in clean_bundle.conditions} == {
        (24, (3, 16, 16), True)
    }


@pytest.mark.parametrize("name", ["clean", PGD, f"{PGD} jpeg", "fog 3"])
def test_logits_are_those_of_the_trained_network(deployed: Deployed, clean_bundle: Bundle, name: str) -> None:
    network = deployed.model().classifier(deployed.bench().context)
    assert clean_bundle.model_sha256 == model_sha256(network.state_dict())
    for batch in clean_bundle.batches(name, 5):
        with torch.no_grad():
            found = network(torch.from_numpy(batch.x)).numpy()
        np.testing.assert_allclose(batch.logits, found, atol=1e-5)


def test_adversarials_stay_in_the_ball_around_their_clean_image(clean_bundle: Bundle) -> None:
    x, x_adv, rows = images(clean_bundle, "clean"), images(clean_bundle, PGD), clean_bundle.rows(PGD)
    assert sorted(rows) == list(range(24))
    distance = np.abs(x_adv - x[rows]).max()
    assert 4 / 255 < distance <= EPS + 1e-6
    assert 0 <= x_adv.min() <= x_adv.max() <= 1


def test_adversarials_are_those_that_the_sweep_finds(deployed: Deployed, clean_bundle: Bundle) -> None:
    source = next(source for source in bundling(deployed, "baseline").sources if source.conditions[0].name == PGD)
    assert isinstance(source, Attacked)
    assert [threat.eps for threat in source.step.settings.threat_models] == [Fraction(4, 255), Fraction(16, 255)]
    outcome = source.step.attacked(deployed.bench().context)
    labels, logits = (
        np.concatenate(parts) for parts in zip(*[batch[1:] for batch in clean_bundle.batches(PGD, 24)], strict=True)
    )
    rows = clean_bundle.rows(PGD)
    np.testing.assert_array_equal(labels, outcome.labels[rows])
    np.testing.assert_allclose(logits, outcome.conditions[1].logits[rows], atol=1e-4)


def assert_rounded(bundle: Bundle, name: str) -> None:
    """Every pixel of the rounded images is the nearest of 256 levels, and some pixel is another than before."""
    levels, own = 255 * images(bundle, f"{name} rounded8bit"), images(bundle, name)
    np.testing.assert_allclose(levels, levels.round(), atol=1e-4)
    assert 1e-5 < np.abs(levels / 255 - own).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_array_equal(bundle.rows(f"{name} rounded8bit"), bundle.rows(name))


@pytest.mark.parametrize("name", ["clean", PGD, "fog 3"])
def test_rounded_images_have_256_levels(clean_bundle: Bundle, name: str) -> None:
    assert_rounded(clean_bundle, name)


def test_triggered_images_are_rounded_too(poisoned_bundle: Bundle) -> None:
    assert_rounded(poisoned_bundle, "trigger")
    assert poisoned_bundle.condition("trigger rounded8bit").spec.target_class == 0


def test_images_of_8_bits_are_not_stored_twice(deployed: Deployed, tmp_path: Path) -> None:
    bench = deployed.bench("corruptions.photograph={name: rounding}", "crosscheck.corruptions=[fog, photograph]")
    step = bundling_of(bench.plan, bench.plan.suite.variant("other"), bench.context.data.class_names)
    step.run(bench.context, tmp_path)
    names = {condition.spec.name for condition in read_bundle(tmp_path / "bundle.h5").conditions}
    assert {"photograph 1", "fog 3 rounded8bit", "clean rounded8bit"} <= names
    assert "photograph 1 rounded8bit" not in names


def test_corruption_is_taken_at_its_middle_severity(deployed: Deployed, clean_bundle: Bundle) -> None:
    bench = deployed.bench()
    split = bundling(deployed, "baseline").examples.of(bench.context.data)
    fog = bench.plan.suite.corruptions["fog"]
    wanted = corrupt(fog, split[3][0], severity=3, seed=seed_of(0, "corruption"), key=split.hashes[3])  # type: ignore[arg-type]
    np.testing.assert_array_equal(images(clean_bundle, "fog 3")[3], wanted.numpy())


def test_trigger_is_on_examples_of_other_classes_only(poisoned_bundle: Bundle) -> None:
    stored, rows = poisoned_bundle.condition("trigger"), poisoned_bundle.rows("trigger")
    labels = np.concatenate([batch.y for batch in poisoned_bundle.batches("clean", 24)])
    assert stored.spec.target_class == 0
    np.testing.assert_array_equal(rows, np.flatnonzero(labels != 0))
    changed = (images(poisoned_bundle, "trigger") != images(poisoned_bundle, "clean")[rows]).any(axis=1)
    assert 0 < changed.any(axis=0).sum() < 16 * 16 / 4


def test_clean_model_has_no_trigger(clean_bundle: Bundle) -> None:
    assert "trigger" not in [condition.spec.kind for condition in clean_bundle.conditions]


@pytest.mark.parametrize(
    "override", ["crosscheck.limit=23", "crosscheck.eps=[4/255]", "attacks.pgd.steps=3", "crosscheck.attacks=[pgd]", "seed=1"]
)
def test_whatever_changes_the_images_changes_the_digest(deployed: Deployed, override: str) -> None:
    bench = deployed.bench(override)
    changed = bundling_of(bench.plan, bench.plan.suite.variant("baseline"), bench.context.data.class_names)
    assert changed.digest != bundling(deployed, "baseline").digest


def test_rule_of_agreement_is_not_in_the_digest(deployed: Deployed) -> None:
    changed = bundling(deployed, "baseline", "crosscheck.margin=0.1", "crosscheck.formats=[int8]")
    assert changed.digest == bundling(deployed, "baseline").digest


def test_bundle_of_one_example_still_fits(deployed: Deployed, tmp_path: Path) -> None:
    step = bundling(deployed, "other", "crosscheck.limit=1")
    step.run(deployed.bench().context, tmp_path)
    assert {condition.n for condition in read_bundle(tmp_path / "bundle.h5").conditions} == {1}
