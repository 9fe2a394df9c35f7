"""Every registered attack on every kind of network, through the public function: a form of a network must suit every library."""

import pytest
import timm
import torch
import torchattacks
from torch import Tensor, nn

import harness
from harness.attacks.base import ATTACKS
from harness.attacks.frame import restart_seed, run_attack
from harness.attacks.results import AttackInput
from harness.models.inference import inference_form
from harness.system.seeds import global_seed
from harness.threat import Norm
from tests.attacks.nets import attack_of, threat

FEW = {"steps": 2, "fab_steps": 1, "queries": 2, "targets": 2, "search_steps": 1}
BUDGETS = {Norm.LINF: "1/255", Norm.L2: "1/10", Norm.L1: "1/2"}
POINT = 0.01


def _conv(classes: int = 4) -> nn.Module:
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 64, classes))


class Permuted(nn.Module):
    """Works on channels-last values by itself, as some mixers do: its gradients come back permuted in any form."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer, self.head = nn.Linear(3, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mixer(x.permute(0, 3, 2, 1)).relu().mean(dim=(1, 2)))


class Probabilities(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = _conv()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).softmax(dim=1)


class RobModel(nn.Sequential):
    """torchattacks takes a network of this class for one of another library of its author, which normalises."""

    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.5)


NETS = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)),
    "conv": _conv,
    "conv, channels last": lambda: _conv().to(memory_format=torch.channels_last),
    "timm conv": lambda: timm.create_model("test_efficientnet", num_classes=5),
    "timm ViT": lambda: timm.create_model("test_vit", num_classes=12, img_size=32),
    "TorchScript": lambda: torch.jit.script(_conv().eval()),
    "traced": lambda: torch.jit.trace(_conv().eval(), torch.rand(2, 3, 32, 32)),
    "3 classes": lambda: _conv(3),
    "2 classes": lambda: _conv(2),
    "permuted": Permuted,
    "probabilities": Probabilities,
    "named RobModel": lambda: RobModel(*_conv()),
}


def _small(norm: Norm) -> list[dict[str, object]]:
    """Returns all attacks that know a norm, with few steps."""
    known = {name: ATTACKS.get(name) for name in ATTACKS.names() if norm in ATTACKS.get(name).NORMS}
    small = [
        {"name": name, **{field: value for field, value in FEW.items() if field in cls.model_fields}}
        for name, cls in known.items()
    ]
    ratio = [{"name": "art-autopgd", "steps": 2, "loss": "difference_logits_ratio"}] if "art-autopgd" in known else []
    return small + ratio


def _needs_more(classes: int) -> set[str]:
    return ({"apgd-t"} if classes < 4 else set()) | ({"art-autopgd-2"} if classes < 3 else set())


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("kind", NETS)
def test_every_attack_runs_on_every_kind_of_network(kind: str, norm: Norm) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, x = NETS[kind]().eval(), torch.rand(3, 3, 32, 32)
    logits = net(x)
    table = harness.evaluate(
        net, (x, logits.argmax(dim=1)), attacks=_small(norm), threat_model=harness.ThreatModel(norm=norm, eps=BUDGETS[norm])
    )
    assert not table.loc[table["status"] == "failed", "reason"].tolist()
    skipped = table[table["status"] == "skipped"]
    expected = _needs_more(logits.shape[1])
    assert set(skipped["attack"]) == {name for name in expected if name in set(table["attack"])}
    assert all("classes" in reason for reason in skipped["reason"])


def test_pgd_in_l2_is_the_bare_librarys_on_a_network_in_its_inference_form(digits: AttackInput) -> None:
    threat_model = threat("1", "L2")
    with global_seed(restart_seed(0, 0)):
        library = torchattacks.PGDL2(digits.model, eps=1.0, alpha=0.1, steps=40)(digits.x, digits.y)
    bare = float((digits.model(library).argmax(dim=1) == digits.y).float().mean())
    form = inference_form(digits.model, digits.x[:2])
    assert form is not digits.model
    attack, inputs = attack_of("pgd", steps=40, alpha_relative="1/10"), AttackInput(digits.model, digits.x, digits.y, form)
    ours = run_attack(attack, inputs, threat_model=threat_model, seed=0, best_of_iterates=False)
    assert abs(1 - float(ours.is_adversarial.float().mean()) - bare) <= POINT
    table = harness.evaluate(digits.model, (digits.x, digits.y), attacks=attack, threat_model=threat_model)
    assert 0 < table["robust_accuracy"].iloc[1] <= bare + POINT
