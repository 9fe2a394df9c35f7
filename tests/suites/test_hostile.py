"""Suite files from unknown hands: one line, in bounded time, whatever is in them."""

import time
from pathlib import Path

import pytest

from harness.errors import SuiteError
from harness.suites.extent import MOST_CELLS, MOST_TRAININGS
from harness.suites.files import load_suite
from harness.suites.yaml_text import MOST_LEVELS, MOST_VALUES, parse_yaml
from tests.bench.grid import write_suite
from tests.suites.test_suite import SMALL


def refusal(text: str, folder: Path, *overrides: str) -> str:
    path = folder / "given.yaml"
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(SuiteError) as caught:
        load_suite(path, overrides)
    assert time.process_time() - started < 60, "a guard comes before the work that it guards against"
    return str(caught.value)


@pytest.mark.parametrize(
    ("tagged", "found"),
    [
        ("!!timestamp x", "'x', which is no timestamp"),
        ("2020-13-45", "'2020-13-45', which is no timestamp"),
        ("!!bool x", "'x', which is no bool"),
        ("!!int _", "'_', which is no int"),
        ("!!float _", "'_', which is no float"),
        ("0b_", "'0b_', which is no int"),
        ("0x" + 20 * "f", "a whole number of more than 64 bits"),
    ],
)
def test_value_that_is_none_of_its_tag_is_named_with_its_place(tagged: str, found: str, tmp_path: Path) -> None:
    said = refusal(f"{SMALL}\ntitle: {tagged}\n", tmp_path)
    assert said.startswith(f"{tmp_path / 'given.yaml'}: expected YAML, found ")
    assert found in said
    assert "line 14" in said
    assert "\n" not in said
    assert "expected a YAML value" in refusal(SMALL, tmp_path, f"title={tagged}")


@pytest.mark.parametrize("text", ["x: &a [*a]", "x: &a {b: *a}", "&a x: &b [[*b]]"])
def test_anchor_inside_itself_is_refused(text: str, tmp_path: Path) -> None:
    assert "inside itself" in refusal(text, tmp_path)


def test_nesting_is_bounded(tmp_path: Path) -> None:
    inside, beyond = (f"{levels * '['}{levels * ']'}" for levels in (MOST_LEVELS, MOST_LEVELS + 1))
    assert isinstance(parse_yaml(inside), list)
    assert f"more than {MOST_LEVELS} levels" in refusal(f"x: {inside}", tmp_path)
    assert f"at most {MOST_LEVELS} levels" in refusal(SMALL, tmp_path, f"{'.'.join(['a'] * (MOST_LEVELS + 2))}=1")
    assert "expected a YAML value" in refusal(SMALL, tmp_path, f"title={beyond}")


def test_aliases_count_as_what_they_stand_for(tmp_path: Path) -> None:
    few = "a: &a [1, 2]\nb: [*a, *a]"
    assert parse_yaml(few) == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    side = int(MOST_VALUES**0.5) + 1
    many = f"a: &a [{', '.join(side * ['1'])}]\nb: [{', '.join(side * ['*a'])}]"
    assert f"more than {MOST_VALUES} values" in refusal(many, tmp_path)


@pytest.mark.parametrize("eps", ["1e99999999", "1e-99999999", "1/1e99999999", "1e101", f"1{100 * '0'}", "1/0", "0x10"])
def test_budget_that_no_float_holds_is_one_line(eps: str, tmp_path: Path) -> None:
    said = refusal(SMALL, tmp_path, f'threat_model.eps=["{eps}"]')
    assert 'threat_model.eps.0: expected a budget like "8/255" or 0.03' in said
    assert "\n" not in said


def test_grid_is_bounded_before_it_is_made(tmp_path: Path) -> None:
    poison = "poisons={flip: {name: label_flip, rates: [0.1], seeds: %d}}"
    said = refusal(SMALL, tmp_path, poison % MOST_TRAININGS)
    assert f"poisons.flip.seeds: expected a grid of at most {MOST_TRAININGS} trainings, got {MOST_TRAININGS}" in said
    rates = [round(0.0001 * (1 + number), 4) for number in range(MOST_CELLS // 80)]
    many = f"poisons={{flip: {{name: label_flip, rates: {rates}}}}}"
    assert f"models: expected a grid of at most {MOST_CELLS} rows" in refusal(SMALL, tmp_path, many, _many_budgets())


def test_a_thousand_models_under_twenty_attacks_at_ten_budgets_make_a_suite(tmp_path: Path) -> None:
    write_suite(path := tmp_path / "generated.yaml", 1000, 20, 10)  # without an anchor, as a program writes it
    assert len(load_suite(path).models) == 1000


def test_repetitions_of_a_poison_count_without_attacks(tmp_path: Path) -> None:
    (path := tmp_path / "given.yaml").write_text(SMALL)
    poison = "poisons={flip: {name: label_flip, rates: [0.1], seeds: 2000}}"
    assert load_suite(path, [poison, _many_budgets()]).poisons["flip"].seeds == 2000


def test_text_of_a_file_is_escaped_and_cut(tmp_path: Path) -> None:
    assert "a\\x1b[2Jb: unknown field" in refusal(f'{SMALL}"a\\e[2Jb": 1\n', tmp_path)
    said = refusal(SMALL, tmp_path, f"evaluation.split={2_000 * 'a'}")
    assert "expected 'validation' or 'test', got 'aaa" in said
    assert len(said) < 300
    assert len(refusal(SMALL, tmp_path, f"{2_000 * 'a'}=1")) < 600


@pytest.mark.parametrize("field", ["warm_start=baseline", "recipe=pgd", "recipe.epochs=2"])
def test_override_does_not_invent_a_model(field: str, tmp_path: Path) -> None:
    said = refusal(SMALL, tmp_path, f"models.hardend.{field}")
    assert "expected a label of models, got 'hardend'; did you mean 'hardened'?" in said


def test_override_may_write_a_new_entry_whole(tmp_path: Path) -> None:
    (path := tmp_path / "given.yaml").write_text(SMALL)
    assert load_suite(path, ["models.third={recipe: {name: standard, epochs: 1}}"]).models.keys() >= {"third"}


def test_unknown_warm_start_is_not_answered_with_the_model_itself(tmp_path: Path) -> None:
    said = refusal(SMALL, tmp_path, "models.hardened.warm_start=base")
    assert said.endswith("models.hardened.warm_start: expected one of baseline, got 'base'")
    assert "expected a chain that ends" in refusal(SMALL, tmp_path, "models.hardened.warm_start=hardened")


def _many_budgets() -> str:
    return f"threat_model.eps=[{', '.join(f'{number}/1000' for number in range(1, 26))}]"
