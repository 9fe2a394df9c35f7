"""Which cells of the grid go into a bundle."""

import pytest

from harness.bundle import BundleCondition
from harness.deployment.selection import bundling_of, variants_of
from harness.errors import SuiteError
from tests.deployed import Deployed


def conditions(deployed: Deployed, *overrides: str) -> list[BundleCondition]:
    bench = deployed.bench(*overrides)
    step = bundling_of(bench.plan, bench.plan.suite.variant("baseline"), bench.context.data.class_names)
    return [condition for source in step.sources for condition in source.conditions]


def attacks(found: list[BundleCondition]) -> set[tuple[str, str]]:
    return {(str(condition.attack), str(condition.eps)) for condition in found if condition.kind == "attack"}


def test_section_may_be_missing(deployed: Deployed) -> None:
    found = conditions(deployed, "crosscheck={}")
    assert attacks(found) == {("fgsm", "16/255"), ("pgd", "16/255")}
    assert not any(condition.kind == "corruption" for condition in found)


def test_every_named_budget_of_every_named_attack_is_taken(deployed: Deployed) -> None:
    found = conditions(deployed, "crosscheck.attacks=[random_noise, pgd]", "crosscheck.eps=[4/255, 48/255]")
    assert attacks(found) == {(name, eps) for name in ("random_noise", "pgd") for eps in ("4/255", "16/85")}
    assert "pgd Linf 48-255" in {condition.name for condition in found}


def test_independent_budgets_are_taken_too(deployed: Deployed) -> None:
    found = conditions(deployed, "evaluation.protocol=independent", "crosscheck.eps=[4/255, 16/255]")
    assert attacks(found) == {(name, eps) for name in ("fgsm", "pgd") for eps in ("4/255", "16/255")}


def test_images_of_a_targeted_attack_carry_the_class_that_they_aim_at(deployed: Deployed) -> None:
    found = conditions(deployed, "attacks.to_three={name: pgd, steps: 2, target_class: 3}")
    attacked = [condition for condition in found if condition.eps is not None]
    assert {"attack", "rounded8bit"} <= {condition.kind for condition in attacked}
    aims = {(condition.attack, condition.target_class) for condition in attacked}
    assert aims == {("fgsm", None), ("pgd", None), ("to_three", 3)}


def test_middle_severity_of_a_corruption_is_taken_or_the_named_ones(deployed: Deployed) -> None:
    def fog(*overrides: str) -> list[str]:
        return [condition.name for condition in conditions(deployed, *overrides) if condition.kind == "corruption"]

    assert fog() == ["fog 3"]
    assert fog("crosscheck.severities=[1, 5]") == ["fog 1", "fog 5"]


def test_every_condition_is_also_rounded_to_8_bits(deployed: Deployed) -> None:
    found = {condition.name: condition for condition in conditions(deployed)}
    own = {name: condition for name, condition in found.items() if condition.kind not in {"rounded8bit", "jpeg"}}
    assert {condition.kind for condition in own.values()} == {"clean", "attack", "corruption"}
    for name, condition in own.items():
        rounded = found[f"{name} rounded8bit"]
        assert (rounded.digest, rounded.attack, rounded.eps) == (condition.digest, condition.attack, condition.eps)
        assert (rounded.kind, rounded.clean, rounded.attacked) == ("rounded8bit", "clean", condition.kind == "attack")


def test_conditions_name_the_cells_that_they_come_from(deployed: Deployed) -> None:
    bench = deployed.bench()
    cells = {cell.digest: cell.cell for cell in bench.plan.cells}
    for condition in conditions(deployed):
        assert cells[condition.digest].model == "baseline"
        assert cells[condition.digest].eps == condition.eps


def test_models_are_all_or_the_named_ones_with_their_poisons(deployed: Deployed) -> None:
    assert [variant.name for variant in variants_of(deployed.suite())] == ["baseline", "baseline@backdoor@0.1", "other"]
    assert [variant.name for variant in variants_of(deployed.suite("crosscheck.models=[other]"))] == ["other"]


def test_repeated_poisons_are_checked_once(deployed: Deployed) -> None:
    names = [variant.name for variant in variants_of(deployed.suite("poisons.backdoor.seeds=2"))]
    assert names == ["baseline", "baseline@backdoor@0.1", "other"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("crosscheck.models=[hardened]", "crosscheck.models: expected one of baseline, other, got 'hardened'"),
        ("crosscheck.attacks=[cw]", "crosscheck.attacks: expected one of random_noise, fgsm, pgd, got 'cw'"),
        ("crosscheck.eps=[8/255]", "crosscheck.eps: expected one of 16/255, 16/85, 4/255, got '8/255'"),
        ("crosscheck.corruptions=[snow]", "crosscheck.corruptions: expected one of fog, got 'snow'"),
        ("crosscheck.severities=[2]", "crosscheck.severities: expected one of 1, 3, 5, got '2'"),
        ("crosscheck.limit=0", "crosscheck.limit: expected a number >= 1, got 0"),
        ("crosscheck.formats=[int4]", "crosscheck.formats.0"),
    ],
)
def test_bad_section_is_refused_with_its_place(deployed: Deployed, override: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message.replace("[", r"\[")):
        deployed.suite(override)
