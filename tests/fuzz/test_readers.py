from pathlib import Path

import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.readers import READERS
from tests.fuzz.trials import Trials

SECONDS = 1.5
AT_ONCE = 40


@pytest.mark.parametrize("name", READERS)
def test_reader_returns_or_refuses_in_one_line(name: str, tmp_path: Path) -> None:
    trials = Trials(READERS[name], tmp_path)
    fuzz(trials, seconds=SECONDS, first=0, at_once=AT_ONCE)
    assert trials.count
    assert not trials.faults
