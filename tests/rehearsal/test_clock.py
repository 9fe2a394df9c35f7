"""A run on a machine whose clock jumps, in a small form."""

import logging
from pathlib import Path

import pytest

from harness.cli.main import main
from tests.rehearsal.clock import NEGATIVE, Machine, durations

SUITE = """
name: jumping
dataset: {name: digits, resolution: 8}
architecture: {name: factory, factory: "tests.nets:small_convnet"}
models:
  only: {recipe: {name: standard, epochs: 1, batch_size: 64}}
threat_model: {norm: Linf, eps: [16/255]}
attacks:
  fgsm: {name: fgsm}
evaluation: {limit: 50}
"""


@pytest.mark.slow
def test_a_run_and_who_watches_it_know_no_time_of_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (suite := tmp_path / "jumping.yaml").write_text(SUITE)
    machine = Machine(tmp_path / "there", suite)
    machine.run()
    assert machine.faults == []
    assert machine.watched
    assert len(list(durations(machine.folder))) > 5
    machine.age()
    where = ["--store", str(machine.folder / "store"), "--out", str(machine.results)]
    with pytest.raises(SystemExit) as stop, caplog.at_level(logging.INFO, logger="harness"):
        main(["run", str(suite), *where, "--device", "cpu"])
    assert not stop.value.code
    assert not [line for line in caplog.messages if "step 1 of" in line], "written in 1980 or in the future"


def test_negative_durations_are_noticed() -> None:
    assert NEGATIVE.search("3 of 5 steps, -12 s, eta 8 s")
    assert NEGATIVE.search("3 of 5 steps, 12 s, eta -1,208 s if the rest takes as long")
    assert not NEGATIVE.search("wrote 2026-01-02 s, a-7 s and 1-3 s")
