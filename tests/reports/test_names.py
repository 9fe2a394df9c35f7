import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records import Status
from harness.reports.names import (
    cell_fields,
    cell_name,
    condition_label,
    eps_text,
    model_label,
    model_labels,
    rate_text,
    rows_of_model,
    slug,
    unique_cell_names,
)
from tests.reports.planted import cell_of, grid, lost_result


def test_a_rate_is_in_per_cent_and_a_missing_one_empty() -> None:
    assert [rate_text(rate) for rate in (0.1234, 0, 1.0, None, float("nan"))] == ["12.3", "0.0", "100.0", "", ""]


@pytest.mark.parametrize(
    ("eps", "text"),
    [
        (8 / 255, "8/255"),
        (0.5 / 255, "0.5/255"),
        (0.25 / 255, "0.25/255"),
        (0.03, "0.03"),
        (0.5, "0.5"),
        (2.0, "2"),
        (0.0123456, "0.01235"),
    ],
)
def test_a_budget_is_written_as_people_write_it(eps: float, text: str) -> None:
    assert eps_text(eps) == text


def fields_of(model: str, **fields: object) -> dict[str, object]:
    return cell_fields(cell_of(model, **fields))


@given(st.integers(1, 254))
def test_a_budget_in_255ths_can_be_read_back(levels: int) -> None:
    text = eps_text(levels / 255)
    value = int(text.split("/")[0]) / 255 if "/" in text else float(text)
    assert value == pytest.approx(levels / 255)


@pytest.mark.parametrize(
    ("fields", "name", "label"),
    [
        ({}, "baseline__clean", "clean"),
        ({"condition": "attack", "attack": "pgd", "eps": "8/255"}, "baseline__pgd__eps-8-255", "pgd 8/255"),
        ({"condition": "corruption", "corruption": "fog", "severity": 3}, "baseline__fog__severity-3", "fog 3"),
        ({"condition": "folder", "attack": "street"}, "baseline__folder-street", "folder street"),
        ({"condition": "trigger", "poison": "badnets", "poison_rate": 0.05}, "baseline__badnets-0.05__trigger", "trigger"),
    ],
)
def test_a_cell_has_a_readable_name(fields: dict[str, object], name: str, label: str) -> None:
    assert cell_name(fields_of("baseline", **fields)) == name
    assert condition_label(fields_of("baseline", **fields)) == label


def test_a_poisoned_model_is_told_from_the_clean_one() -> None:
    assert model_label(fields_of("baseline")) == "baseline"
    assert model_label(fields_of("baseline", poison="badnets", poison_rate=0.05)) == "baseline, badnets 5 %"


def test_names_that_a_file_system_would_mix_up_carry_their_digest() -> None:
    results = [
        lost_result(model, Status.DONE, "", condition="attack", attack="pgd", eps="8/255") for model in ("Net", "net", "other")
    ]
    names = unique_cell_names([cell_fields(result.cell) | {"digest": result.digest} for result in results])
    assert names[results[0].digest] == f"Net__pgd__eps-8-255__{results[0].digest[:12]}"
    assert names[results[2].digest] == "other__pgd__eps-8-255"
    assert len({name.lower() for name in names.values()}) == 3


def test_every_cell_of_a_run_has_a_name_of_its_own() -> None:
    names = unique_cell_names([cell_fields(result.cell) | {"digest": result.digest} for result in grid()])
    assert len(set(names.values())) == len(grid())


@given(st.text())
def test_a_slug_is_safe_in_a_file_name(text: str) -> None:
    found = slug(text)
    assert found
    assert all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in found)
    assert not found.startswith(".")


@pytest.mark.parametrize("rows", [1, 3])
def test_models_of_a_table_are_named_row_by_row(rows: int) -> None:
    table = pd.DataFrame({"model": ["pgd"] * rows, "poison": None, "poison_rate": None, "accuracy": 0.5})
    assert [*table.groupby(model_labels(table)).groups] == ["pgd"]
    assert len(rows_of_model(table, "pgd")) == rows
