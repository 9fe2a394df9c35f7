"""Attacks on a compiled network or in bfloat16: other passes, the same reference model."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.datasets.tensors import TensorSplit
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.models.inference import inference_form
from harness.models.layout import Inference
from tests.attacks.nets import attack_of, images, threat
from tests.compilers import broken, tracing

BUDGETS = tuple(threat(eps) for eps in ("1/255", "4/255", "16/255"))
BFLOAT16 = Inference(precision="bfloat16")


class FarFromZero(nn.Module):
    """Two logits near 100 that differ by a fraction: bfloat16 rounds the first one up and the second one down."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 2)
        with torch.no_grad():
            self.head.weight[0], self.head.weight[1] = 1 / 192, 0
            self.head.bias[0], self.head.bias[1] = 99.76, 100.24

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


@pytest.fixture
def dark() -> TensorSplit:
    """Images of the second class, 20/255 from the first."""
    return TensorSplit(images(12, low=0.2, high=0.6), torch.ones(12, dtype=torch.int64))


def test_what_is_wrong_in_bfloat16_alone_is_no_success(dark: TensorSplit) -> None:
    net = FarFromZero().eval()
    form = inference_form(net, dark.images[:2], BFLOAT16)
    assert (net(dark.images).argmax(dim=1) == 1).all()
    assert (form(dark.images).argmax(dim=1) == 0).all()
    for name in ("fgsm", "pgd", "cw"):
        budget = threat("1/100", "L2") if name == "cw" else threat("1/255")
        outcome = sweep(net, dark, SweepSettings(attack_of(name), (budget,), inference=BFLOAT16))
        assert outcome.conditions[0].evidence.bfloat16 is True
        assert not outcome.conditions[0].is_adversarial.any()
        assert (outcome.conditions[0].logits.argmax(axis=1) == 1).all()


def test_what_is_right_in_bfloat16_alone_is_found_where_the_attack_ends(dark: TensorSplit) -> None:
    bright = TensorSplit(1 - dark.images, torch.zeros(12, dtype=torch.int64))
    net = FarFromZero().eval()
    outcome = sweep(net, bright, SweepSettings(attack_of("pgd"), (threat("128/255"),), inference=BFLOAT16))
    assert outcome.conditions[0].is_adversarial.all()
    assert (outcome.conditions[0].logits.argmax(axis=1) == 1).all()


@pytest.mark.parametrize("inference", [BFLOAT16, Inference(compile=True)], ids=["bfloat16", "compiled"])
def test_every_success_is_one_of_the_network_itself_in_float32(
    net: nn.Module, split: TensorSplit, inference: Inference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", tracing([]))
    found: dict[float, Tensor] = {float(it.eps): torch.zeros_like(split.images) for it in BUDGETS}

    def keep(eps: float, indices: np.ndarray, x: Tensor) -> None:
        found[float(eps)][indices] = x

    outcome = sweep(net, split, SweepSettings(attack_of("pgd"), BUDGETS, inference=inference), batch_size=16, keep=keep)
    plain = sweep(net, split, SweepSettings(attack_of("pgd"), BUDGETS), batch_size=16)
    for it, condition, other in zip(BUDGETS, outcome.conditions, plain.conditions, strict=True):
        logits = net(found[float(it.eps)]).detach()
        assert np.allclose(logits.numpy(), condition.logits, atol=1e-4)
        assert (logits.argmax(1).numpy()[condition.is_adversarial] != outcome.labels[condition.is_adversarial]).all()
        assert abs(int(condition.is_adversarial.sum()) - int(other.is_adversarial.sum())) <= 3
    assert outcome.conditions[-1].is_adversarial.sum() > 20


def test_sweep_is_compiled_for_few_sizes_however_its_batches_shrink(
    net: nn.Module, split: TensorSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.compiler.reset()
    sizes: list[int] = []
    monkeypatch.setattr(torch, "compile", tracing(sizes))
    outcome = sweep(net, split, SweepSettings(attack_of("pgd"), BUDGETS, inference=Inference(compile=True)), batch_size=16)
    assert {condition.evidence.compiled for condition in outcome.conditions} == {True}
    assert set(sizes) <= {16, 8, 4}
    assert len(sizes) == len(set(sizes))


def test_failing_compiler_changes_no_number_and_the_rows_know(
    net: nn.Module, split: TensorSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    asked, plain = (
        sweep(net, split, SweepSettings(attack_of("pgd"), BUDGETS, inference=inference), batch_size=16)
        for inference in (Inference(compile=True), Inference())
    )
    for found, wanted in zip(asked.conditions, plain.conditions, strict=True):
        assert np.array_equal(found.logits, wanted.logits)
        assert found.evidence.compiled is False
        assert (wanted.evidence.compiled, wanted.evidence.bfloat16) == (None, None)


@pytest.mark.slow
def test_generated_code_breaks_the_same_examples(net: nn.Module, split: TensorSplit) -> None:
    torch.compiler.reset()
    compiled, plain = (
        sweep(net, split, SweepSettings(attack_of("pgd"), BUDGETS, inference=inference), batch_size=16)
        for inference in (Inference(compile=True), Inference())
    )
    assert {condition.evidence.compiled for condition in compiled.conditions} == {True}
    for found, wanted in zip(compiled.conditions, plain.conditions, strict=True):
        assert math.isclose(found.is_adversarial.mean(), wanted.is_adversarial.mean(), abs_tol=0.051)
