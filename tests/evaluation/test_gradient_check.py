"""Gradients of another function than the forward pass are found; honest nets of every kind stay silent."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harness.datasets.tensors import TensorSplit
from harness.evaluation.checks.gradients import TOO_MANY
from harness.evaluation.clean import evaluate_clean
from harness.evaluation.gradient_check import check_gradients
from harness.records import Outcome
from harness.standalone import evaluate
from harness.threat import ThreatModel

SIDE, CLASSES, COUNT = 16, 5, 8
REASON = "gradients are not those of the forward pass"


def images(kind: str = "grey") -> Tensor:
    """Images whose values lie where nets have their kinks: equal, black, or on grey levels."""
    generator = torch.Generator().manual_seed(3)
    x = (torch.rand(COUNT, 3, SIDE, SIDE, generator=generator) * 255).round() / 255
    if kind == "black":
        x[:, :, :4] = x[:, :, -4:] = 0
    return x[:, :, :1, :1].expand(-1, -1, SIDE, SIDE).contiguous() if kind == "flat" else x


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build()
        with torch.no_grad():
            net(torch.rand(COUNT, 3, SIDE, SIDE))
        return net.eval()


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 12, 3, stride=2), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU(), head())


def head() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LazyLinear(CLASSES))


class Patches(nn.Module):
    """A small vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 4, stride=4)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True, norm_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x).flatten(2).transpose(1, 2)).mean(dim=1))


HONEST: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES)),
    "relu": conv,
    "max-pool without bias": lambda: nn.Sequential(nn.Conv2d(3, 12, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), head()),
    "batch norm, silu": lambda: nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.SiLU(), nn.AdaptiveMaxPool2d(2), head()
    ),
    "group norm": lambda: nn.Sequential(nn.Conv2d(3, 12, 3), nn.GroupNorm(3, 12), nn.LeakyReLU(), nn.Hardswish(), head()),
    "doubled pixels": lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.MaxPool2d(2), conv()),
    "vit": Patches,
}
OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "large": lambda z: 1e6 * z,
    "small": lambda z: 1e-6 * z,
    "with an offset": lambda z: z + 1e3,
    "softmax": lambda z: z.softmax(dim=1),
    "confident softmax": lambda z: (3e3 * z).softmax(dim=1),
    "percentages": lambda z: 100 * (300 * z).softmax(dim=1),
    "sigmoid": torch.sigmoid,
    "switched off": lambda z: torch.cat([z[:, :-1], torch.full_like(z[:, -1:], -torch.inf)], dim=1),
    "float32": lambda z: z.float(),
    "bfloat16": lambda z: z.bfloat16().float(),
}


class Changed(nn.Module):
    """A net with something done to its input and output."""

    def __init__(
        self, net: nn.Module, before: Callable[[Tensor], Tensor] = lambda x: x, after: Callable[[Tensor], Tensor] = lambda z: z
    ) -> None:
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.net(self.before(x)))


class NoCopy(Changed):
    """A net that can only be compared in float32."""

    def __deepcopy__(self, memo: object) -> "NoCopy":
        raise TypeError("no copies")


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    return x + (rounded - x).detach()


def quantised(x: Tensor, levels: int) -> Tensor:
    return (x * levels).round() / levels


FALSE: dict[str, Callable[[nn.Module], nn.Module]] = {
    "straight through, 8 bits": lambda net: Changed(net, lambda x: straight_through(x, quantised(x, 255))),
    "straight through, 3 bits": lambda net: Changed(net, lambda x: straight_through(x, quantised(x, 7))),
    "straight through, logits": lambda net: Changed(net, after=lambda z: straight_through(z, (100 * z).round() / 100)),
    "a part detached": lambda net: Changed(net, lambda x: torch.cat([x[..., :4].detach(), x[..., 4:]], dim=-1)),
    "reversed": lambda net: Changed(net, lambda x: 2 * x.detach() - x),
    "surrogate": lambda net: Surrogate(net, seeded(conv, seed=5)),
    "rounded input": lambda net: Changed(net, lambda x: quantised(x, 255)),
    "rounded input, 4 bits": lambda net: Changed(net, lambda x: quantised(x, 15)),
    "rounded logits": lambda net: Changed(net, after=lambda z: (1000 * z).round() / 1000),
    "rounded beside a faint slope": lambda net: Changed(net, lambda x: quantised(x, 255) + 1e-4 * x),
}


class Surrogate(nn.Module):
    """Predicts by one net and gives out the gradients of another."""

    def __init__(self, net: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.net, self.other = net, other

    def forward(self, x: Tensor) -> Tensor:
        z = self.other(x)
        return z + (self.net(x) - z).detach()


class Autocast(Changed):
    """Computes in bfloat16 what can be, and gives out float32."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return 0.37 * self.net(x).float()


def share(net: nn.Module, x: Tensor) -> float | None:
    """Returns the share of images whose gradients are doubted, None where nothing was compared."""
    with torch.no_grad():
        y = net(x).argmax(dim=1)
    found = check_gradients(net, x, y)
    return (found.gradients_wrong + found.gradients_flat) / found.gradients_compared if found.gradients_compared else None


@pytest.mark.parametrize("kind", ["grey", "black", "flat"])
@pytest.mark.parametrize("name", HONEST)
def test_honest_net_is_not_doubted(name: str, kind: str) -> None:
    for seed in range(3):
        net = seeded(HONEST[name], seed)
        assert share(net, images(kind)) == 0
        assert share(NoCopy(net), images(kind)) <= TOO_MANY


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("net", [Changed, NoCopy])
def test_scale_and_shape_of_the_outputs_are_no_fault(name: str, net: type[Changed]) -> None:
    assert share(net(seeded(conv), after=OUTPUTS[name]), images()) <= TOO_MANY


def test_short_number_formats_are_no_fault() -> None:
    for seed in range(3):
        net = seeded(conv, seed)
        assert share(Autocast(net), images()) == 0
        assert share(Changed(net.bfloat16(), lambda x: x.bfloat16(), lambda z: z.float()), images()) == 0


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("name", FALSE)
def test_gradients_of_something_else_are_doubted(name: str, copied: bool) -> None:
    net = FALSE[name](seeded(conv))
    assert share(net if copied else NoCopy(net), images()) > TOO_MANY


def test_nothing_is_said_of_what_has_no_gradients_or_depends_on_the_batch() -> None:
    net = seeded(conv)
    assert share(Changed(net, lambda x: x.detach()), images()) is None
    assert share(Changed(net, after=lambda z: z.argsort(dim=1).float()), images()) is None
    assert share(Changed(net, after=lambda z: z - z.mean(dim=0)), images()) is None
    assert share(Changed(net, after=lambda z: z + 0.3 * torch.randn_like(z)), images()) in {None, 0}


class Failing(torch.autograd.Function):
    """Has no backward pass."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()


def test_net_whose_backward_pass_fails_raises_nothing() -> None:
    assert share(Changed(seeded(conv), Failing.apply), images()) is None


def test_network_and_random_state_stay_as_they_were() -> None:
    net = seeded(HONEST["batch norm, silu"])
    net[1].train()
    before, modes, state = (
        {k: v.clone() for k, v in net.state_dict().items()},
        [m.training for m in net.modules()],
        torch.get_rng_state(),
    )
    x = images()
    for wrapped in (net.eval(), NoCopy(net).eval()):
        modes = [module.training for module in wrapped.modules()]
        share(wrapped, x)
        assert [module.training for module in wrapped.modules()] == modes
    assert all(torch.equal(value, before[name]) and value.dtype == before[name].dtype for name, value in net.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in net.parameters())
    assert not x.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


def test_caller_in_inference_mode_has_gradients_compared() -> None:
    net = seeded(conv)
    other = FALSE["surrogate"](net)
    with torch.inference_mode():
        assert share(net, 1.0 * images()) == 0
        assert share(other, 1.0 * images()) == 1
        assert share(seeded(conv), images()) == 0


def test_check_costs_tens_of_passes() -> None:
    passes = []
    net = NoCopy(seeded(conv), before=lambda x: passes.append(len(x)) or x)
    share(net, images())
    assert len(passes) <= 30
    assert max(passes) == COUNT


def outcome(net: nn.Module) -> Outcome:
    x = images()
    with torch.no_grad():
        return evaluate_clean(net, TensorSplit(x, net(x).argmax(dim=1)))


def test_finding_is_of_the_clean_row_and_missing_where_nothing_was_compared() -> None:
    found = [
        outcome(net).conditions[0].evidence.network
        for net in (seeded(conv), FALSE["surrogate"](seeded(conv)), Changed(seeded(conv), after=lambda z: z - z.mean(dim=0)))
    ]
    assert [it.gradients_wrong for it in found[:2]] == [0, found[1].gradients_compared]
    assert [it.gradients_compared > 0 for it in found] == [True, True, False]


@pytest.mark.parametrize("name", ["surrogate", "rounded input"])
def test_every_attack_on_gradients_is_suspect_and_no_other(name: str) -> None:
    net, x = FALSE[name](seeded(conv)), images()
    with torch.no_grad():
        y = net(x).argmax(dim=1)
    attacks = [
        "fgsm",
        {"name": "pgd", "steps": 2},
        {"name": "apgd-ce", "steps": 2},
        {"name": "square", "queries": 5},
        "random_noise",
    ]
    table = evaluate(net, (x, y), attacks=attacks, threat_model=ThreatModel(eps="1/255")).set_index("attack")
    doubted = {attack for attack, reasons in table["verdict_reasons"].items() if REASON in reasons}
    assert doubted == {"fgsm", "pgd", "apgd-ce"}
    assert set(table.loc[sorted(doubted), "verdict"]) <= {"SUSPECT", "INVALID"}
