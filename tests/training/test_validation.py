from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from harness.threat import Norm, ThreatModel
from harness.training.processes import OneProcess
from harness.training.recipes.inner import maximise, random_start, summed_cross_entropy
from harness.training.validation import Probe, Validation, validate
from tests.training.cases import classifier, digits

CPU = torch.device("cpu")


def batches(size: int) -> Iterator[tuple[Tensor, Tensor]]:
    split = digits().splits["validation"]
    images = torch.stack([split[index][0] for index in range(len(split))])
    return zip(images.split(size), torch.from_numpy(split.labels).split(size), strict=True)


def found(network: nn.Module, probe: Probe | None, size: int = 60) -> Validation:
    generator = torch.Generator().manual_seed(0)
    return validate(
        network.requires_grad_(False),
        batches(size),
        num_classes=10,
        probe=probe,
        processes=OneProcess(CPU),
        generator=generator,
    )


def linear(bias: float = 0.0) -> nn.Module:
    """Tells dark from bright images: a logit of 0, and one of the mean brightness plus a bias."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    nn.init.constant_(model[1].weight[0], 0)
    nn.init.constant_(model[1].weight[1], 1 / 192)
    model[1].bias.data = torch.tensor([0.0, bias])
    return model.requires_grad_(False)


def test_accuracy_and_loss_are_means_whatever_the_batches() -> None:
    one, other = found(classifier(), None), found(classifier(), None, size=13)
    assert one.accuracy == other.accuracy
    assert one.loss == pytest.approx(other.loss)
    x, y = next(batches(60))
    logits = classifier()(x)
    assert one.accuracy == pytest.approx((logits.argmax(1) == y).float().mean().item())
    assert one.loss == pytest.approx(nn.functional.cross_entropy(logits, y).item(), rel=1e-5)
    assert one.robust_accuracy is None


def test_constant_prediction_shows_as_one_predicted_class() -> None:
    model = classifier()
    with torch.no_grad():
        model.backbone[8].bias[4] = 1e4
    assert found(model, None).predicted_classes == 1
    assert found(classifier(), None).predicted_classes > 1


@pytest.mark.parametrize(("eps", "is_robust"), [(0.09, True), (0.11, False)])
def test_attack_succeeds_on_a_linear_model_exactly_beyond_its_margin(eps: float, is_robust: bool) -> None:
    x = torch.full((3, 3, 8, 8), 0.5)
    probe = Probe(ThreatModel(eps=eps), steps=10)
    start = random_start(x, probe.threat_model, torch.Generator())
    robust, _ = probe.attack(linear(-0.4), x, torch.ones(3, dtype=torch.long), start=start)
    assert robust.tolist() == [is_robust] * 3


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
def test_any_adversarial_iterate_counts(norm: Norm) -> None:
    torch.manual_seed(0)
    model = classifier().requires_grad_(False)
    threat_model = ThreatModel(norm=norm, eps=0.05 if norm is Norm.LINF else 0.5)
    x, _ = next(batches(60))
    y = model(x).argmax(1)
    expected = torch.ones(60, dtype=torch.bool)
    start = random_start(x, threat_model, torch.Generator().manual_seed(7))
    for steps in range(5):
        x_adv = maximise(
            model,
            x,
            y,
            threat_model=threat_model,
            alpha=2.5 * float(threat_model.eps) / 4,
            steps=steps,
            loss=summed_cross_entropy,
            start=start,
        )
        expected &= model(x_adv).argmax(1) == y
    robust, losses = Probe(threat_model, 4).attack(model, x, y, start=start)
    assert torch.equal(robust, expected)
    assert 0 < int(robust.sum()) < 60
    assert (losses > 0).all()


def test_robust_accuracy_counts_correct_examples_that_stand() -> None:
    clean = found(classifier(), None)
    weak = found(classifier(), Probe(ThreatModel(eps="1/2550"), steps=2))
    strong = found(classifier(), Probe(ThreatModel(eps="128/255"), steps=5))
    assert weak.robust_accuracy == pytest.approx(clean.accuracy, abs=0.05)
    assert strong.robust_accuracy < clean.accuracy
    assert strong.robust_loss > weak.robust_loss


def test_epochs_are_compared_by_robust_accuracy_then_loss() -> None:
    def rank(robust_accuracy: float | None, robust_loss: float | None = 1.0, accuracy: float = 0.5) -> tuple[float, float]:
        return Validation(accuracy, 2.0, 10, robust_accuracy, robust_loss).rank("accuracy")

    assert rank(0.4) > rank(0.3, accuracy=0.9)
    assert rank(0.4, 0.9) > rank(0.4, 1.0)
    assert rank(None, None, accuracy=0.6) > rank(None, None, accuracy=0.5)


def test_epochs_can_be_compared_by_loss() -> None:
    less_accurate, more_accurate = Validation(0.5, 1.0, 10, 0.3, 1.1), Validation(0.6, 0.9, 10, 0.4, 1.2)
    assert less_accurate.rank("accuracy") < more_accurate.rank("accuracy")
    assert less_accurate.rank("loss") > more_accurate.rank("loss")
    assert Validation(0.5, 1.0, 10).rank("loss") < Validation(0.5, 0.9, 10).rank("loss")


class Knowing(nn.Module):
    """Knows the labels of every n-th image of the validation split, and takes the others for the next class."""

    def __init__(self, n: int) -> None:
        super().__init__()
        (x, y), *_ = batches(60)
        wrong = torch.arange(60) % n != 0
        self.classes = {image.numpy().tobytes(): int(label) for image, label in zip(x, (y + wrong) % 10, strict=True)}

    def forward(self, x: Tensor) -> Tensor:
        classes = torch.tensor([self.classes[image.numpy().tobytes()] for image in x])
        return nn.functional.one_hot(classes, 10).float()


def test_an_example_starts_at_the_same_place_whatever_else_the_network_gets_right(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[dict[bytes, Tensor]] = []

    def noting(self: Probe, network: nn.Module, x: Tensor, y: Tensor, *, start: Tensor) -> tuple[Tensor, Tensor]:
        starts[-1].update({image.numpy().tobytes(): place for image, place in zip(x, start, strict=True)})
        return torch.ones(len(x), dtype=torch.bool), torch.zeros(len(x))

    monkeypatch.setattr(Probe, "attack", noting)
    for n in (2, 3, 60):
        starts.append({})
        found(Knowing(n), Probe(ThreatModel(eps="8/255"), steps=1), size=20)
    assert [len(one) for one in starts] == [30, 20, 1]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        both = starts[one].keys() & starts[other].keys()
        assert both
        assert all(torch.equal(starts[one][image], starts[other][image]) for image in both)
