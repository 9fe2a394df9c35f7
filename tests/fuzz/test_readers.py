from pathlib import Path

import pytest

from tests.fuzz.__main__ import run_some
from tests.fuzz.readers import READERS
from tests.fuzz.trials import Trials

FEW = 15


@pytest.mark.parametrize("name", READERS)
def test_reader_returns_or_refuses(name: str, tmp_path: Path) -> None:
    trials = Trials(READERS[name], tmp_path)
    run_some(trials, 0, FEW)
    assert trials.count
    assert not trials.faults
