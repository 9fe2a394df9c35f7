import time
from threading import Event

import pytest
from rich.console import Console

from harness.cli import console
from harness.cli.console import PlainProgress


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_line_has_units_and_an_eta_at_the_speed_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with PlainProgress().task("train standard", 120, unit="batches") as advance:
        clock.now = 20.0
        advance(30, "epoch 3 of 12")
        clock.now = 21.0
        advance(1, "epoch 3 of 12")
    assert capsys.readouterr().err.splitlines() == [
        "train standard: 30/120 batches, 20 s, eta 60 s  epoch 3 of 12",
        "train standard: done in 21.0 s",
    ]


def test_work_that_an_earlier_run_did_is_not_in_the_speed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with PlainProgress().task("train standard", 120, unit="batches") as advance:
        advance(100, "epoch 10 of 12")
        clock.now = 10.0
        advance(0, "validation")
        clock.now = 20.0
        advance(10, "epoch 11 of 12")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "train standard: 100/120 batches, 10 s, eta unknown  validation"
    assert lines[1] == "train standard: 110/120 batches, 20 s, eta 20 s  epoch 11 of 12"


def test_task_that_does_not_move_shows_a_line_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "PLAIN_INTERVAL", 0.01)
    monkeypatch.setattr(console, "AT_ONCE", 0.001)
    shown = Event()
    printed = console.stderr.print
    monkeypatch.setattr(console.stderr, "print", lambda *words, **how: (printed(*words, **how), shown.set()))
    with PlainProgress().task("compile", 3, unit="runtimes"):
        assert shown.wait(10)
    assert capsys.readouterr().err.startswith("compile: 0/3 runtimes, 0 s, eta unknown\n")


def test_task_that_fails_is_not_said_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), PlainProgress().task("attack", 3, unit="images"):
        raise ValueError("broken")
    assert not capsys.readouterr().err


def test_a_table_is_drawn_on_a_terminal_unless_it_is_very_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "MOST_DRAWN", 2)
    monkeypatch.setattr(console, "stdout", Console(force_terminal=True, width=40))
    console.show_table("", ["name"], [["one"], ["two"]])
    assert "━" in capsys.readouterr().out
    console.show_table("", ["name", "count"], [["one", 1], ["two", 2], ["three", 3]])
    assert capsys.readouterr().out == "name\tcount\none\t1\ntwo\t2\nthree\t3\n"
