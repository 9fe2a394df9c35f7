from importlib.metadata import EntryPoint

import pytest

from harness.errors import HarnessError
from harness.executors.choice import GROUP, executor_of
from harness.executors.cluster import execute_on_ray
from harness.executors.local import execute
from harness.executors.processes import execute_in_processes


def test_local_is_always_there() -> None:
    assert executor_of("local") is execute_in_processes


def test_executor_that_is_not_installed_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.choice.entry_points", lambda group: [])
    with pytest.raises(HarnessError, match=r"^executor: expected one that is installed \(local, ray\), got 'slurm'$"):
        executor_of("slurm")


def test_ray_that_is_not_installed_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.choice.find_spec", lambda name: None)
    said = "executor: expected Ray to be installed, found none: pip install 'robustness-harness[ray]'"
    with pytest.raises(HarnessError) as refused:
        executor_of("ray")
    assert str(refused.value) == said


def test_ray_is_known_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.choice.find_spec", lambda name: object())
    assert executor_of("ray") is execute_on_ray


def test_installed_executor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("cluster", "harness.executors.local:execute", GROUP)
    monkeypatch.setattr("harness.executors.choice.entry_points", lambda group: [point])
    assert executor_of("cluster") is execute
