"""What is said of a run that works, has died, or has ended."""

import json
import os
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.planning.plan import Plan
from harness.records import ConditionResult, Outcome
from harness.running.watching import RUN_FILE, announced, state_of
from harness.spec import parse_eps
from harness.steps.base import Context
from harness.storage.outcomes import save_outcome
from harness.storage.store import Store, write_json

STEPS = [
    ("train", "a" * 64, "train pgd"),
    ("attack", "b" * 64, "attack pgd with fgsm"),
    ("attack", "c" * 64, "attack pgd with pgd"),
]


def announce(
    folder: Path,
    store: Store,
    *,
    process: int | None = None,
    cached: int = 0,
    host: str | None = None,
    clock: float | None = None,
    ahead: timedelta = timedelta(0),
) -> None:
    """Writes the record of a run that started ten seconds ago, by a clock that may have been set since."""
    folder.mkdir(exist_ok=True)
    steps = [{"kind": kind, "digest": digest, "title": title} for kind, digest, title in STEPS]
    started = (datetime.now(UTC) - timedelta(seconds=10) + ahead).isoformat()
    who: dict[str, object] = {"process": process or os.getpid(), "host": host or platform.node(), "started": started}
    who |= {} if clock is None else {"clock": clock}
    write_json(folder / RUN_FILE, {**who, "store": str(store.root), "cached": cached, "steps": steps})


def finish(store: Store, place: int, outcome: Outcome | None = None) -> None:
    kind, digest, title = STEPS[place]
    with store.locked(digest, title), store.writing(kind, digest, {"title": title}) as folder:
        if outcome is not None:
            save_outcome(outcome, folder / "outcome.safetensors")


def attacked() -> Outcome:
    """Four examples, of which three are right and one of these is adversarial."""
    logits, labels = np.eye(4, 3, dtype=np.float32), np.array([0, 1, 2, 1])
    adversarial = np.array([True, False, False, False])
    found = ConditionResult(parse_eps("8/255"), logits, adversarial, np.zeros(4, np.float32))
    return Outcome(labels, logits, (found,), np.zeros(4, np.float32))


def gone() -> int:
    """Returns the number of a process that has ended."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_steps_are_finished_running_or_left(tmp_path: Path, store: Store) -> None:
    announce(tmp_path / "run", store)
    finish(store, 0)
    finish(store, 1, attacked())
    with store.locked(STEPS[2][1], STEPS[2][2]):
        state = state_of(tmp_path / "run")
    assert state is not None
    assert (state.alive, state.total, state.finished, state.left) == (True, 3, 2, 1)
    assert state.running == ("attack pgd with pgd",)
    assert state.numbers == (("attack pgd with fgsm", "50.0 % at 8/255"),)
    assert state.eta == pytest.approx(5, abs=1.5), "two steps in ten seconds, one left"


def test_no_step_of_this_run_gives_no_eta(tmp_path: Path, store: Store) -> None:
    finish(store, 0)
    announce(tmp_path / "run", store, cached=1)
    state = state_of(tmp_path / "run")
    assert state is not None
    assert (state.finished, state.cached, state.eta) == (1, 1, None)


@pytest.mark.parametrize("ahead", [timedelta(days=400), timedelta(hours=-3), timedelta(0)])
def test_seconds_and_eta_do_not_follow_a_clock_that_is_set(tmp_path: Path, store: Store, ahead: timedelta) -> None:
    finish(store, 0)
    announce(tmp_path / "run", store, clock=time.monotonic() - 10, ahead=ahead)
    finish(store, 1)
    state = state_of(tmp_path / "run")
    assert state is not None
    assert state.seconds == pytest.approx(10, abs=1.5)
    assert state.eta == pytest.approx(5, abs=1.5)


@pytest.mark.parametrize("other", [{"host": "elsewhere"}, {}])
def test_no_run_has_worked_for_less_than_no_time(tmp_path: Path, store: Store, other: dict[str, str]) -> None:
    announce(tmp_path / "run", store, clock=time.monotonic() + 10_000, ahead=timedelta(hours=2), **other)
    state = state_of(tmp_path / "run")
    assert state is not None
    assert state.seconds == 0


def test_run_says_when_it_started_by_both_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Mapping[str, object]] = []
    monkeypatch.setattr("harness.running.watching.write_json", lambda _path, record: written.append(record))
    context = SimpleNamespace(store=Store(tmp_path / "store"), entry=lambda _step: None)
    with announced(tmp_path, cast(Plan, SimpleNamespace(steps=())), cast(Context, context)):
        (record,) = written
    assert record["clock"] == pytest.approx(time.monotonic(), abs=5)
    assert datetime.fromisoformat(str(record["started"])).timestamp() == pytest.approx(time.time(), abs=5)


def test_a_dead_process_is_told_from_one_on_another_machine(tmp_path: Path, store: Store) -> None:
    announce(tmp_path / "run", store, process=gone())
    state = state_of(tmp_path / "run")
    assert state is not None
    assert not state.alive
    announce(tmp_path / "run", store, process=1, host="elsewhere")
    state = state_of(tmp_path / "run")
    assert state is not None
    assert state.alive


@pytest.mark.parametrize("text", ["{", "[]", '{"store": 3}', '{"store": "x", "steps": [{}], "cached": 0}'])
def test_damaged_record_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / RUN_FILE).write_text(text)
    with pytest.raises(HarnessError, match="expected the record of a run"):
        state_of(tmp_path)


def test_verb_says_numbers_once_and_what_ended(tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    announce(tmp_path / "run", store, process=gone())
    finish(store, 1, attacked())
    with pytest.raises(SystemExit) as stop:
        main(["watch", str(tmp_path / "run")])
    assert not stop.value.code
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "attack pgd with fgsm: 50.0 % at 8/255"
    assert said[1].startswith("1 of 3 steps")
    assert said[2].startswith("its process has ended before the run did")
    (tmp_path / "run" / RUN_FILE).unlink()
    with pytest.raises(SystemExit):
        main(["watch", str(tmp_path / "run"), "--once"])
    assert "no run works for" in capsys.readouterr().out


def test_record_of_a_damaged_outcome_has_no_numbers(tmp_path: Path, store: Store) -> None:
    announce(tmp_path / "run", store)
    finish(store, 1, attacked())
    (store.root / "attack" / STEPS[1][1] / "outcome.safetensors").write_bytes(b"half")
    state = state_of(tmp_path / "run")
    assert state is not None
    assert state.numbers == ()
    assert json.loads((tmp_path / "run" / RUN_FILE).read_text())["cached"] == 0


def test_run_that_ends_between_two_looks_at_its_record_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(tmp_path, Store(tmp_path / ".store"))
    text = Path.read_text

    def ended(path: Path, *arguments: str) -> str:
        path.unlink()
        return text(path, *arguments)

    monkeypatch.setattr(Path, "read_text", ended)
    assert state_of(tmp_path) is None


def test_process_number_beyond_all_is_one_line(tmp_path: Path) -> None:
    announce(tmp_path, Store(tmp_path / ".store"), process=10**30)
    with pytest.raises(HarnessError, match="expected the record of a run"):
        state_of(tmp_path)
