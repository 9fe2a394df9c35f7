"""The page's browser of examples."""

import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.reports.page.examples import NEVER, SHEET, TABLE, UNKNOWN, browser_of
from harness.reports.page.html import render
from tests.reports.conftest import Write
from tests.reports.page.browsing import add_thumbnails
from tests.reports.planted import attack_results, clean_result, grid


def test_each_model_says_what_it_predicts_and_what_fools_it(written: Write) -> None:
    results = written(grid())
    assert browser_of(results) is None, "no thumbnails"
    add_thumbnails(results.folder)
    browser = browser_of(results)
    assert browser is not None
    assert (browser.norm, browser.budgets) == ("Linf", ("2/255", "4/255", "8/255"))
    assert (browser.across, browser.down, browser.shown_model) == (20, 2, "")
    assert browser.models == ("baseline", "pgd")
    places = [[line.misclassified_at for line in example.lines] for example in browser.examples]
    assert places[0] == ["0", "0"]
    assert places[8] == ["1", "1"], "the smallest budget over attacks: of pgd 8 only by fgsm"
    assert places[13] == ["1", "2"]
    assert places[19] == ["1", "3"]
    assert places[39] == ["3", NEVER]
    assert browser.examples[0].lines[0].text == "carrot, misclassified when clean"
    assert browser.examples[13].lines[1].text == "carrot, misclassified from 4/255"
    assert (browser.examples[21].column, browser.examples[21].row) == (1, 1)
    page = render(results)
    assert page.index('<section id="classes">') < page.index('<section id="examples">') < page.index('<section id="models">')
    assert page.count("data:image/jpeg") == 1, "one sheet for all thumbnails"


def test_of_many_models_the_best_is_chosen_at_first(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.reports.page.examples.MOST_MODELS", 1)
    results = written(grid())
    add_thumbnails(results.folder)
    browser = browser_of(results)
    assert browser is not None
    assert browser.models[int(browser.shown_model)] == results.leaderboard["model"].iloc[0] == "pgd"


def test_a_run_without_attacks_has_its_predictions(written: Write) -> None:
    results = written([clean_result("pgd")])
    add_thumbnails(results.folder)
    browser = browser_of(results)
    assert browser is not None
    assert browser.budgets == ()
    assert [example.lines[0].misclassified_at for example in browser.examples[7:9]] == ["0", UNKNOWN]


def test_a_model_whose_attack_failed_is_not_said_to_withstand(written: Write) -> None:
    results = written([clean_result("pgd"), clean_result("baseline"), *attack_results("baseline", "pgd")])
    add_thumbnails(results.folder)
    browser = browser_of(results)
    assert browser is not None
    assert [line.misclassified_at for line in browser.examples[20].lines] == [UNKNOWN, "2"]


def test_a_copy_without_sheet_table_or_samples_has_no_section(written: Write) -> None:
    for place, name in enumerate((SHEET, TABLE, "samples.parquet")):
        results = written([clean_result("pgd")], f"run{place}")
        add_thumbnails(results.folder)
        (results.folder / name).unlink()
        assert browser_of(results) is None


@pytest.mark.parametrize("damage", ["", "place\n0\n", "place,example_id,content_hash,class\n1,a,b,c\n"])
def test_a_damaged_table_is_one_error(written: Write, damage: str) -> None:
    results = written([clean_result("pgd")])
    add_thumbnails(results.folder)
    (results.folder / TABLE).write_text(damage)
    with pytest.raises(HarnessError, match="expected a table of thumbnails"):
        browser_of(results)


def test_thumbnails_of_other_examples_are_not_shown_as_scored(written: Write) -> None:
    results = written([clean_result("pgd")])
    add_thumbnails(results.folder)
    table = pd.read_csv(results.folder / TABLE)
    table.assign(example_id=["another.png", *table["example_id"][1:]]).to_csv(results.folder / TABLE, index=False)
    browser = browser_of(results)
    assert browser is not None
    assert [line.text for line in browser.examples[0].lines] == ["not scored"]
