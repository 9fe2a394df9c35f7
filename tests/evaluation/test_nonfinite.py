"""Classes that are switched off by -inf are no fault; NaN is named, in logits and in what an attack returns."""

from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import harness
from harness.attacks.base import Attack
from harness.evaluation.attack_test import attack_test
from harness.metrics import largest_logit, logit_differences, roc_auc_macro, roc_curves
from harness.models.agreement import FiniteLogits, relative_difference
from harness.models.padding import keeps_images_apart
from harness.poisoning.detectors.strip import _entropy
from harness.threat import Norm, ThreatModel
from tests.attacks.nets import images

CLASSES, OFF = 10, 6
X = images(40, low=0.0, high=1.0)


class Masked(nn.Module):
    """A linear network on whose last classes a value is put."""

    def __init__(self, value: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(CLASSES, X[0].numel(), generator=generator) * 0.1)
        self.register_buffer("off", torch.arange(CLASSES) >= OFF)
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.weight.T).masked_fill(self.off, self.value)


class Own(Masked):
    """Which class is -inf changes from image to image."""

    def forward(self, x: Tensor) -> Tensor:
        lowest = super().forward(x)[:, :OFF].argmin(dim=1, keepdim=True)
        return super().forward(x).scatter(1, lowest, -torch.inf)


def judged(model: nn.Module, **arguments: object) -> pd.DataFrame:
    with torch.no_grad():
        y = model(X).argmax(dim=1)
    return harness.evaluate(model.eval(), (X, y), **arguments).set_index("attack")


@pytest.mark.parametrize(
    "attack",
    [
        *("fgsm", "pgd", "bim", "mifgsm", {"name": "apgd-ce", "steps": 10}, {"name": "apgd-t", "steps": 5}),
        *({"name": "square", "queries": 30}, {"name": "strong", "steps": 5, "fab_steps": 5, "queries": 20}, "random_noise"),
        *({"name": "fab", "steps": 5}, {"name": "fab", "steps": 5, "targets": 0}, {"name": "art-pgd", "steps": 5}),
        *({"name": "art-autopgd", "steps": 5}, {"name": "art-autopgd", "steps": 5, "loss": "difference_logits_ratio"}),
    ],
    ids=str,
)
def test_classes_at_minus_infinity_are_no_fault_of_the_number(attack: object) -> None:
    arguments = {"attacks": attack, "threat_model": ThreatModel(eps="2/255")}
    infinite, low = judged(Masked(-torch.inf), **arguments), judged(Masked(-1e4), **arguments)
    assert list(infinite.verdict) == list(low.verdict)
    assert list(infinite.verdict_reasons) == list(low.verdict_reasons)
    assert "INVALID" not in set(infinite.verdict)
    assert infinite.accuracy["none"] == 1
    assert abs(infinite.robust_accuracy.iloc[1] - low.robust_accuracy.iloc[1]) <= 2 / len(X)


@pytest.mark.parametrize("attack", [{"name": "cw", "steps": 20}, "deepfool", {"name": "fab", "steps": 5}], ids=str)
def test_searches_for_the_smallest_change_do_without_the_classes_at_minus_infinity(attack: object) -> None:
    arguments = {"attacks": attack, "threat_model": ThreatModel(norm=Norm.L2, eps="1/4")}
    infinite, low = judged(Masked(-torch.inf), **arguments), judged(Masked(-1e4), **arguments)
    assert "INVALID" not in set(infinite.verdict)
    assert "nan" not in " ".join(infinite.verdict_reasons).lower()
    assert infinite.robust_accuracy.iloc[1] <= low.robust_accuracy.iloc[1] + 2 / len(X)


def test_area_under_the_curves_is_that_of_the_classes_that_are_left() -> None:
    logits, labels = Masked(-torch.inf)(X).detach().numpy(), np.arange(len(X)) % OFF
    assert roc_auc_macro(roc_curves(logits, labels)) == roc_auc_macro(roc_curves(logits[:, :OFF], labels))
    assert roc_curves(np.where(np.isinf(logits), np.nan, logits), labels) == ()
    assert roc_curves(np.full_like(logits, -np.inf), labels) == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [(torch.nan, f"logits of {len(X)} examples are NaN"), (torch.inf, f"logits of {len(X)} examples are not finite")],
)
def test_other_logits_that_are_not_finite_are_named_and_never_called_random(value: float, text: str) -> None:
    table = judged(Masked(value), attacks="pgd")
    assert set(table.verdict) == {"INVALID"}
    assert all(text in reasons for reasons in table.verdict_reasons)
    assert not table.verdict_reasons.str.contains("random|nan %|inf %|batch").any()


def test_minus_infinity_that_moves_from_class_to_class_is_a_fault() -> None:
    table = judged(Own(-1e4), attacks="pgd")
    assert set(table.verdict) == {"INVALID"}
    assert all("not finite" in reasons and "random" not in reasons for reasons in table.verdict_reasons)


class Broken(Attack):
    """Returns images that are no numbers, in part of the batch."""

    NORMS: ClassVar[frozenset[Norm]] = frozenset(Norm)
    name: Literal["broken"] = "broken"
    value: Literal["nan", "inf"] = "nan"
    share: float = 1.0

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        entry = x.clone().requires_grad_()
        nn.functional.cross_entropy(model(entry), y).backward()
        x = x.clone()
        x[: round(self.share * len(x)), 0, 0] = float(self.value)
        return x


class BrokenSearch(Broken):
    MINIMUM_NORM: ClassVar[bool] = True


@pytest.mark.parametrize("kind", [Broken, BrokenSearch])
@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("protocol", ["nested", "independent"])
def test_attack_that_returns_nothing_but_nan_is_invalid_for_that_reason(kind: type[Broken], value: str, protocol: str) -> None:
    table = judged(Masked(-1e4), attacks=kind(value=value), protocol=protocol)
    assert table.verdict["broken"] == "INVALID"
    assert "returned NaN or infinite pixels in 100 % of the images" in table.verdict_reasons["broken"]
    assert "left the ball" not in table.verdict_reasons["broken"]


def test_a_few_images_of_nan_make_an_attack_suspect() -> None:
    table = judged(Masked(-1e4), attacks=Broken(share=0.1), threat_model=ThreatModel(eps="1/1000000"))
    assert table.verdict["broken"] == "SUSPECT"
    assert "NaN or infinite pixels in 10 % of the images" in table.verdict_reasons["broken"]


def test_attack_test_names_images_of_nan() -> None:
    assert any("expected finite images" in problem for problem in attack_test(Broken()).problems)


def test_infinities_of_one_sign_are_equal_and_nan_is_far_from_everything() -> None:
    row = np.array([[1.0, np.inf, -np.inf, np.nan, -np.inf]])
    found = np.array([[1.5, np.inf, -np.inf, np.nan, 0.0]])
    np.testing.assert_array_equal(logit_differences(found, row), [[0.5, 0, 0, np.inf, np.inf]])
    assert largest_logit(row) == 1
    assert largest_logit(row[:, 1:]) == 0


def test_forms_of_a_masked_network_agree_by_its_other_logits() -> None:
    logits = Masked(-torch.inf)(X)
    assert relative_difference(logits, logits) == 0
    assert 0.009 < relative_difference(logits * 1.01, logits) < 0.011
    assert relative_difference(logits.nan_to_num(neginf=0.0), logits) == torch.inf
    assert keeps_images_apart(Masked(-torch.inf), X)


def test_attacks_see_finite_logits_with_the_same_probabilities_and_gradients() -> None:
    network, x = Masked(-torch.inf), X.clone().requires_grad_()
    wanted, found = network(x), FiniteLogits(network)(x)
    assert found.isfinite().all()
    assert torch.equal(found.argmax(dim=1), wanted.argmax(dim=1))
    assert torch.equal(found.softmax(dim=1), wanted.softmax(dim=1))
    losses = [nn.functional.cross_entropy(logits, wanted.argmax(dim=1)) for logits in (wanted, found)]
    torch.testing.assert_close(*(torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in losses))


def test_entropy_of_a_masked_network_is_that_of_its_other_classes() -> None:
    logits = Masked(-torch.inf)(X)
    torch.testing.assert_close(_entropy(logits), _entropy(logits[:, :OFF]))
