"""`harness watch`: how far a run is, from another terminal."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import console
from harness.errors import HarnessError
from harness.system.messages import printable

if TYPE_CHECKING:
    from harness.running.watching import RunState


def watch(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder of results that a run works for.")],
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
) -> None:
    """Show what a run has done, does and has left, and the accuracies so far, until it ends; run this in another terminal."""
    from harness.running.watching import state_of

    if not results.is_dir():
        raise HarnessError(f"{results}: expected a results folder, found none")
    shown: set[tuple[str, str]] = set()
    last: RunState | None = None
    while (state := state_of(results)) is not None:
        for title, text in state.numbers:
            if (title, text) not in shown:
                console.stdout.print(printable(f"{title}: {text}"), markup=False)
                shown.add((title, text))
        if last is None or (state.finished, state.running) != (last.finished, last.running):
            console.stdout.print(printable(_line(state)), markup=False)
        last = state
        if once or not state.alive:
            break
        time.sleep(every)
    if last is None:
        console.stdout.print(f"no run works for {results}")
    elif state is None:
        console.stdout.print("the run has ended")
    elif not state.alive:
        console.stdout.print("its process has ended before the run did; the same `harness run` goes on")


def _line(state: "RunState") -> str:
    doing = f"; now: {', '.join(state.running)}" if state.running else ""
    eta = "" if state.eta is None else f", eta {state.eta:,.0f} s if the rest takes as long"
    cached = f" ({state.cached} from earlier runs)" if state.cached else ""
    return f"{state.finished} of {state.total} steps{cached}, {state.seconds:,.0f} s{eta}{doing}"
