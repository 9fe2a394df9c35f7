"""A run that is asked to stop keeps what it has, and the same command goes on from there."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from harness.cli.main import main
from harness.steps.train import WEIGHTS
from harness.training import loop

EPOCHS = 3
SUITE = f"""
name: stopped
dataset: {{name: digits, resolution: 8}}
architecture: {{name: factory, factory: "tests.nets:small_convnet"}}
models:
  only: {{recipe: {{name: standard, epochs: {EPOCHS}, batch_size: 64}}}}
"""


@pytest.fixture
def own_handler() -> Iterator[None]:
    """The handler of SIGTERM that the command line sets does not outlive the test."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run(folder: Path, store: str) -> int:
    arguments = [
        "run",
        str(folder / "stopped.yaml"),
        "--device",
        "cpu",
        "--store",
        str(folder / store),
        "--out",
        str(folder / "out"),
    ]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


@pytest.mark.usefixtures("own_handler")
def test_terminated_run_goes_on_in_its_training_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stopped.yaml").write_text(SUITE)
    saved: list[int] = []
    save = loop.save_snapshot

    def save_and_count(*arguments: object, **named: object) -> None:
        save(*arguments, **named)
        saved.append(len(saved))
        if len(saved) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "save_snapshot", save_and_count)
    assert run(tmp_path, "store") == 130
    assert not list((tmp_path / "store").glob(f"train/*/{WEIGHTS}"))
    said = capsys.readouterr().err.splitlines()
    assert said.count("harness: stopped; the same command goes on") == 1
    assert said.count("train only and 1 more: not run: stopped before") == 1
    assert run(tmp_path, "store") == 0
    assert len(saved) == EPOCHS
    assert run(tmp_path, "straight") == 0
    resumed, straight = (load_file(next((tmp_path / store).glob(f"train/*/{WEIGHTS}"))) for store in ("store", "straight"))
    assert all((resumed[name] == tensor).all() for name, tensor in straight.items())
