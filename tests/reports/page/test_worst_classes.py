"""The page's table of worst classes."""

from statsmodels.stats.proportion import proportion_confint

from harness.reports.page.worst_classes import worst_classes_table
from tests.reports.conftest import Write
from tests.reports.planted import attack_results, clean_result, grid

POISON = {"poison": "backdoor", "poison_rate": 0.05, "target_class": "beet"}


def test_worst_classes_come_first_with_what_they_are_taken_for(written: Write) -> None:
    table = worst_classes_table(written(grid()))
    assert table is not None
    rows = [[entry.text for entry in row] for row in table.rows]
    assert [row[:2] for row in rows[::3]] == [
        ["pgd", "clean"],
        ["pgd", "pgd 4/255"],
        ["baseline", "clean"],
        ["baseline", "pgd 4/255"],
    ]
    assert rows[0] == ["pgd", "clean", "carrot", "13", "76.9 %", "null (3)"]
    assert rows[3][2:] == ["carrot", "13", "53.8 %", "null (6)"]
    low, high = proportion_confint(10, 13, method="wilson")
    assert table.rows[0][4].detail == f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f}"
    for start in range(0, len(rows), 3):
        recalls = [float(row[4].removesuffix(" %")) for row in rows[start : start + 3]]
        assert recalls == sorted(recalls)


def test_clean_images_alone_have_their_worst_classes(written: Write) -> None:
    table = worst_classes_table(written([clean_result("pgd")]))
    assert table is not None
    assert {row[1].text for row in table.rows} == {"clean"}


def test_only_leading_models_are_shown(written: Write) -> None:
    cells = [it for model in ("a", "b", "c", "d") for it in _renamed(model)]
    table = worst_classes_table(written(cells))
    assert table is not None
    assert len({row[0].text for row in table.rows}) == 3


def test_a_poisoned_model_does_not_lead(written: Write) -> None:
    poisoned = [it.__class__(**{**vars(it), "cell": it.cell.model_copy(update=POISON)}) for it in _renamed("pgd")]
    table = worst_classes_table(written([*poisoned, clean_result("baseline"), *attack_results("baseline", "pgd")]))
    assert table is not None
    assert {row[0].text for row in table.rows} == {"baseline"}
    alone = worst_classes_table(written(poisoned, "alone"))
    assert alone is not None
    assert {row[0].text for row in alone.rows} == {"pgd, backdoor 5 %"}


def _renamed(model: str) -> list:
    cells = [clean_result("pgd"), *attack_results("pgd", "pgd")]
    return [
        it.__class__(**{**vars(it), "cell": it.cell.model_copy(update={"model": model}), "digest": f"{model}{place}" * 8})
        for place, it in enumerate(cells)
    ]
