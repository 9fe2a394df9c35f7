"""What differs on a GPU: `pytest -m gpu`. The numbers are those of the CPU, but for what the order of sums moves."""

import copy
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from harness import evaluate, load_results, load_suite
from harness.attacks.frame import run_attack
from harness.attacks.results import AttackInput
from harness.datasets.tensors import TensorSplit
from harness.deployment.crosscheck import crosscheck
from harness.evaluation.batches import CPU_BATCH, GPU_BATCH_LIMIT, batch_size_for
from harness.evaluation.clean import evaluate_clean
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.models.layout import Inference
from harness.records import Status
from harness.running.runner import RunSummary, run
from harness.system.precision import full_float32
from harness.threat import Norm, ThreatModel
from tests.attacks.nets import CLASSES, conv_net, images
from tests.attacks.test_contract import BUDGETS, CASES, _small
from tests.nets import ON_DIGITS
from tests.training.cases import classifier, digits, same_state

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
SUITE = (
    f"name: everything{ON_DIGITS}"
    + """
models:
  baseline: {recipe: {name: standard, epochs: 3, batch_size: 64}}
  pgd:
    warm_start: baseline
    poisons: []
    recipe: {name: pgd, eps: 16/255, steps: 2, epochs: 1, batch_size: 64, distil: 0.5, ema: 0.9}
  trades:
    warm_start: baseline
    poisons: []
    recipe: {name: trades, eps: 16/255, steps: 2, epochs: 1, batch_size: 64, awp: 0.01}
  fast:
    warm_start: baseline
    poisons: []
    recipe: {name: fast, eps: 16/255, epochs: 1, batch_size: 64, precision: bfloat16}
poisons:
  square: {name: backdoor, target_class: "0", trigger: {kind: patch, size: 3}, rates: [0.1]}
  flip: {name: label_flip, source_class: "4", target_class: "9", rates: [0.05]}
  matched: {name: gradient_matching, target_class: "3", source_class: "8", rates: [0.05], steps: 10, restarts: 1}
  hidden:
    name: hidden_trigger
    source_class: "1"
    target_class: "7"
    trigger: {kind: patch, size: 3}
    rates: [0.05]
    steps: 3
detectors: {clusters: {name: activation_clustering}, spectra: {name: spectral_signatures}, blends: {name: strip}}
threat_model: {norm: Linf, eps: [4/255, 16/255]}
attacks:
  random_noise: {name: random_noise}
  fgsm: {name: fgsm}
  pgd: {name: pgd, steps: 4}
corruptions: {noise: {name: gaussian_noise, severities: [1]}, jpeg: {name: jpeg_compression, severities: [2]}}
transfer: [{attack: pgd, eps: 16/255}]
crosscheck: {models: [baseline], attacks: [pgd], limit: 40}
evaluation: {limit: 60}
folders: {own: {root: "${HARNESS_TEST_FOLDER}"}}
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    for digit in range(10):
        (folder / "own" / str(digit)).mkdir(parents=True)
        Image.new("RGB", (16, 16), (25 * digit,) * 3).save(folder / "own" / str(digit) / "a.png")
    (folder / "everything.yaml").write_text(SUITE.replace("${HARNESS_TEST_FOLDER}", str(folder / "own")))
    return folder


@pytest.fixture(scope="module")
def everything(folder: Path) -> RunSummary:
    return run(load_suite(folder / "everything.yaml"), out=folder / "out", store=folder / "store", device="cuda")


def test_every_kind_of_step_runs(everything: RunSummary) -> None:
    assert not everything.failures
    assert {cell.status for cell in everything.record.cells} <= {Status.DONE, Status.SKIPPED}
    found = load_results(everything.folder).cells.query("status == 'done'")
    assert {"clean", "attack", "trigger", "corruption", "folder"} <= set(found["condition"])


def test_processes_share_the_gpu_and_give_the_same_clean_accuracy(folder: Path, everything: RunSummary) -> None:
    suite = load_suite(folder / "everything.yaml", ["poisons={}", "detectors={}"])
    side_by_side = run(suite, out=folder / "jobs", store=folder / "other", device="cuda", jobs=2)
    assert not side_by_side.failures
    apart, together = (
        load_results(summary.folder).cells.query("condition == 'clean' and poison.isna()").set_index("model")["accuracy"]
        for summary in (everything, side_by_side)
    )
    assert set(together.index) == {"baseline", "pgd", "trades", "fast"}
    assert (apart[together.index] - together).abs().max() <= 0.05


def test_exported_model_agrees_with_the_one_that_was_measured_on_the_gpu(folder: Path, everything: RunSummary) -> None:
    assert not everything.failures
    summary = crosscheck(load_suite(folder / "everything.yaml"), out=folder / "out", store=folder / "store", device="cuda")
    judged = summary.table.query("precision == 'float32'")["agrees"].dropna()
    assert len(judged)
    assert judged.all()


@pytest.mark.parametrize(("name", "norm", "targeted"), CASES)
def test_attack_keeps_its_images_in_the_ball_and_repeats(name: str, norm: Norm, targeted: bool) -> None:
    x, y = images(5, low=0.0, high=1.0).to(CUDA), (torch.arange(5) % CLASSES).to(CUDA)
    threat_model = ThreatModel(norm=norm, eps=BUDGETS[norm], targeted=targeted)
    net = conv_net().eval().to(CUDA)
    state = torch.cuda.get_rng_state()
    first, second = (run_attack(_small(name), AttackInput(net, x, y), threat_model=threat_model, seed=1) for _ in range(2))
    torch.testing.assert_close(first.x_adv, second.x_adv, atol=1e-5, rtol=0)
    assert first.x_adv.device.type == "cuda"
    assert threat_model.violation(first.x_adv, x).max() <= 1e-6
    assert torch.equal(torch.cuda.get_rng_state(), state)


def _split(count: int, side: int = 32) -> TensorSplit:
    x = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    return TensorSplit(x, torch.arange(count).numpy() % 10, ids=[str(index) for index in range(count)])


def _labelled_by(network: nn.Module, count: int) -> TensorSplit:
    """Returns images with the labels that the network gives them, so that all of them are attacked."""
    split = _split(count)
    y = evaluate_clean(network, split, probes=0).clean_logits.argmax(axis=1)
    return TensorSplit(torch.stack([split[index][0] for index in range(count)]), y, ids=[str(index) for index in range(count)])


@pytest.mark.parametrize("form", [{}, {"precision": "bfloat16"}, {"compile": True}, {"compile": True, "precision": "bfloat16"}])
def test_every_form_of_the_network_attacks_as_on_the_cpu_within_an_interval(form: dict[str, object]) -> None:
    network, attack = classifier().eval(), _small("pgd")
    split, threats = _labelled_by(network, 80), [ThreatModel(eps="4/255"), ThreatModel(eps="16/255")]
    on_cpu = sweep(network, split, SweepSettings(attack, threats))
    on_gpu = sweep(network, split, SweepSettings(attack, threats, inference=Inference.model_validate(form)), device=CUDA)
    assert torch.allclose(*(torch.from_numpy(outcome.clean_logits) for outcome in (on_cpu, on_gpu)), atol=1e-4)
    assert on_cpu.conditions[0].is_adversarial.mean() < on_cpu.conditions[1].is_adversarial.mean()
    for there, here in zip(on_gpu.conditions, on_cpu.conditions, strict=True):
        assert abs(there.is_adversarial.mean() - here.is_adversarial.mean()) <= 0.08
        assert there.evidence.compiled is (True if form.get("compile") else None)
        assert there.evidence.bfloat16 is (True if form.get("precision") else None)


def test_batch_size_follows_the_free_memory() -> None:
    network, split = classifier().eval().to(CUDA), _split(4, side=64)
    roomy = batch_size_for(network, split, CUDA)
    assert CPU_BATCH < roomy <= GPU_BATCH_LIMIT
    free = torch.cuda.mem_get_info()[0]
    ballast = torch.empty(int(free * 0.999), dtype=torch.uint8, device=CUDA)
    assert batch_size_for(network, split, CUDA) < roomy
    del ballast
    torch.cuda.empty_cache()


def test_what_is_measured_is_full_float32_and_the_users_choice_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    convolution = nn.Conv2d(64, 64, 3)
    x = torch.rand(8, 64, 32, 32)
    wanted = copy.deepcopy(convolution).double()(x.double())
    with torch.no_grad(), full_float32():
        exact = _error(convolution.to(CUDA)(x.to(CUDA)), wanted)
    with torch.no_grad():
        rounded = _error(convolution(x.to(CUDA)), wanted)
    assert exact < 1e-6 < rounded
    assert torch.backends.cudnn.allow_tf32


def _error(found: Tensor, wanted: Tensor) -> float:
    return float((found.cpu().double() - wanted).norm() / wanted.norm())


def test_evaluate_uses_the_device_of_the_model() -> None:
    data = digits()
    x = torch.stack([data.splits["validation"][index][0] for index in range(40)])
    y = torch.from_numpy(data.splits["validation"].labels[:40].copy())
    devices: set[str] = set()
    tables = []
    for device in ("cpu", "cuda"):
        network = classifier().eval().to(device)
        network.register_forward_hook(lambda _, arguments, __: devices.add(arguments[0].device.type))
        tables.append(evaluate(network, (x, y), attacks=["fgsm", "pgd"], threat_model=ThreatModel(eps="8/255")))
        assert devices == {device}
        devices.clear()
        assert same_state(network.cpu(), classifier())
    assert list(tables[0].clean_accuracy) == list(tables[1].clean_accuracy)
    assert (tables[0].robust_accuracy - tables[1].robust_accuracy).abs().max() <= 0.05
