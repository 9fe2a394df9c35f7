"""Expectations of a suite with poisons."""

from pathlib import Path

import numpy as np
import pandas as pd

from harness.running.expectations import judge_expectations
from tests.poisoned_suite.suite import suite_of


def planted(**columns: list[object]) -> pd.DataFrame:
    rows = {"model": "baseline", "poison": None, "poison_rate": np.nan, "condition": "clean", "attack": "none", "eps": np.nan}
    count = max(map(len, columns.values()))
    return pd.DataFrame(rows | columns, index=range(count))


def test_expectations_speak_of_the_mean_over_repetitions_and_of_their_clean_controls(folder: Path) -> None:
    cells = planted(
        condition=["clean", "clean", "clean", "trigger", "trigger"],
        poison=[None, *["backdoor"] * 4],
        poison_rate=[np.nan, *[0.1] * 4],
        clean_accuracy=[0.9, 0.8, 0.7, 0.6, 0.6],
        attack_success_rate=[np.nan, np.nan, np.nan, 0.3, 0.5],
    )
    poisons = planted(poison=["backdoor"] * 2, poison_rate=[0.1] * 2, clean_accuracy_drop=[0.1, 0.2])
    success, drop, targets = judge_expectations(suite_of(folder).expectations, cells, poisons)
    assert (success.holds, success.found) == (False, "baseline: 0.400")
    assert (drop.holds, drop.found) == (True, "baseline: 0.150")
    assert targets.holds is None
    assert drop.text == "clean_accuracy_drop of baseline, backdoor 10 %, on clean images is at most 0.3"
