"""What is missing of a suite is told in passes, hours and disk."""

from pathlib import Path

import pytest
import torch

from harness.attacks.base import ATTACKS
from harness.cli.main import main
from harness.planning.plan import plan_of
from harness.running import estimate as module
from harness.running.estimate import Passes, Speed, estimate, estimate_rows
from harness.storage.store import Store
from harness.suites.files import load_suite
from tests.running.test_runner import TINY, tiny

PASSES = {
    "random_noise": Passes(2, 0),
    "fgsm": Passes(2, 1),
    "pgd": Passes(11, 10),
    "square": Passes(5001, 0),
}


@pytest.mark.parametrize("name", PASSES)
def test_an_attacks_passes_follow_from_its_fields(name: str) -> None:
    assert module._attack_passes(ATTACKS.parse(name), classes=10) == PASSES[name]


def test_an_ensemble_has_the_passes_of_its_stages() -> None:
    strong = ATTACKS.parse("strong")
    parts = [module._attack_passes(stage, classes=10) for stage in strong.stages(10)]
    found = module._attack_passes(strong, classes=10)
    assert found == (sum(it.forward for it in parts), sum(it.backward for it in parts))
    assert found.backward == 100 + 9 * 100 + 9 * 100


def test_missing_steps_are_counted_and_finished_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = Speed(forward=0.001, backward=0.002, parameters=1234)
    monkeypatch.setattr(module, "time_batch", lambda *_, **__: speed)
    suite, store = tiny(tmp_path), Store(tmp_path / "store")
    data = suite.dataset.load()
    plan, cpu = plan_of(suite, data), torch.device("cpu")
    found = {it.title: it for it in estimate(plan, data, store, cpu)}
    n, training, validation = 60, len(data.splits["train"]), len(data.splits["validation"])
    assert found["score baseline"].passes == Passes(n)
    assert found["attack baseline with pgd"].passes == Passes(n + 2 * n * 3, 2 * n * 2)
    assert found["train baseline"].passes == Passes(2 * (training + validation), 2 * training)
    assert found["train hardened"].passes == Passes(3 * training + 11 * validation, 3 * training + 10 * validation)
    assert found["train baseline"].disk == 1234
    assert found["attack baseline with pgd"].disk == 4 * n * 10 * 3
    assert found["score baseline"].seconds == pytest.approx(n * 0.001)
    step = next(it for it in plan.steps if it.title == "train baseline")
    with store.locked(step.digest, "a step"), store.writing(step.KIND, step.digest, {"title": "a step"}):
        pass
    assert {it.title for it in estimate(plan, data, store, cpu)} == set(found) - {"train baseline"}
    *_, total = estimate_rows(tuple(found.values()))
    assert total[:2] == ("total", f"{len(found)} missing steps")
    assert total[2] == f"{sum(it.passes.forward for it in found.values() if it.passes):,}"


def test_a_batch_is_timed_forward_and_backward(tmp_path: Path) -> None:
    suite = load_suite(_written(tmp_path))
    data = suite.dataset.load()
    speed = module.time_batch(suite.architecture_of("baseline"), data, 16, batch=8, device=torch.device("cpu"))
    assert speed.forward > 0
    assert speed.backward > 0
    assert speed.parameters > 4 * 128 * 10


def test_plan_estimates_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["plan", str(_written(tmp_path)), "--estimate", "--device", "cpu", "--store", str(tmp_path / "none")])
    assert not stop.value.code
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["kind", "title", "forward passes", "backward passes", "hours", "MB"]
    assert lines[-1][:2] == ["total", "8 missing steps"]


def _written(folder: Path) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    return path
