"""`harness.evaluate` on networks of every kind: they work, or end in one `HarnessError` that names the cause."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from harness import HarnessError, ModelError, ThreatModel, evaluate
from harness.records import Verdict
from tests.nets import small_convnet

COUNT = 16
X = torch.rand(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ATTACKS: list[Any] = ["fgsm", {"name": "pgd", "steps": 3}, {"name": "square", "queries": 10}]
BOX_FREE: list[Any] = [{"name": "square", "queries": 10}, "random_noise"]


def plain_net() -> nn.Module:
    """A small convolutional network that gives each of its four classes to some of the images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = small_convnet(4)
        net.train()(X)  # statistics of these images
        return net.eval()


class Through(nn.Module):
    """A network with a function around it."""

    def __init__(self, call: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.network, self.call = plain_net(), call

    def forward(self, x: Tensor) -> Any:
        return self.call(self.network, x)


def labels_of(net: nn.Module) -> Tensor:
    with torch.no_grad():
        return net(X.clone()).argmax(dim=1)


def judged(net: Any, **arguments: Any) -> pd.DataFrame:
    arguments = {"attacks": ATTACKS, "threat_model": ThreatModel(eps="16/255"), **arguments}
    return evaluate(net, (X, labels_of(plain_net())), **arguments)


@pytest.fixture(scope="module")
def wanted() -> list[float]:
    """Accuracies of the plain network: clean, and under each of the attacks."""
    table = judged(plain_net())
    assert table["status"].eq("done").all()
    assert table["accuracy"].iloc[0] == 1
    return table["accuracy"].tolist()


def _scripted(net: nn.Module) -> nn.Module:
    return torch.jit.script(net)


def _exported(net: nn.Module) -> nn.Module:
    return torch.export.export(net, (X[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()


@pytest.mark.parametrize(
    "form",
    [
        _scripted,
        lambda net: torch.jit.freeze(_scripted(net)),
        lambda net: torch.jit.trace(net, X[:2]),
        lambda net: nn.Sequential(torch.jit.freeze(_scripted(net)), nn.Dropout(0.9)),
        _exported,
        lambda net: nn.Sequential(_exported(net), nn.Dropout(0.9)),
        nn.DataParallel,
        lambda net: Through(lambda _, x: net(x).double()),
    ],
    ids=["script", "freeze", "trace", "freeze inside", "export", "export inside", "DataParallel", "float64 logits"],
)
def test_form_of_a_network_has_the_networks_numbers_and_no_warning(
    form: Callable[[nn.Module], nn.Module], wanted: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    net = form(plain_net())
    modes = {module: module.training for module in net.modules() if hasattr(module, "training")}
    table = judged(net)
    assert table["status"].eq("done").all()
    assert table["accuracy"].tolist() == pytest.approx(wanted, abs=1 / COUNT)
    assert {module: module.training for module in modes} == modes
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def _in_place_numpy(net: nn.Module, x: Tensor) -> Tensor:
    x.detach().numpy()[:] *= 0.9
    return net(x)


def _only_with_gradients(net: nn.Module, x: Tensor) -> Tensor:
    return net(x.mul_(0.9) if torch.is_grad_enabled() and x.requires_grad else x * 0.9)


@pytest.mark.parametrize(
    ("write", "same"),
    [
        (lambda net, x: net(normalize(x, [0.5] * 3, [0.5] * 3, inplace=True)), lambda x: (x - 0.5) / 0.5),
        (lambda net, x: net(x.mul_(0.9)), lambda x: x * 0.9),
        (lambda net, x: net(x.clamp_(0, 1)), lambda x: x.clamp(0, 1)),
        (lambda net, x: net(nn.functional.relu_(x)), lambda x: x),
        (lambda net, x: (x.data.mul_(0.9), net(x))[1], lambda x: x * 0.9),
        (_in_place_numpy, lambda x: x * 0.9),
        (_only_with_gradients, lambda x: x * 0.9),
    ],
    ids=["normalize", "scale", "clamp", "relu", "data", "numpy", "with gradients alone"],
)
def test_network_that_writes_into_its_input_is_judged_on_copies(
    write: Callable[[nn.Module, Tensor], Tensor], same: Callable[[Tensor], Tensor]
) -> None:
    images, given = X.clone(), X.clone()
    attacks = [*ATTACKS, {"name": "apgd-ce", "steps": 3}]  # signs of gradients: not all of these writes are seen by autograd
    tables = [
        evaluate(Through(call), (images, labels_of(Through(call))), attacks=attacks, threat_model=ThreatModel(eps="16/255"))
        for call in (write, lambda net, x: net(same(x)))
    ]
    assert tables[0]["status"].eq("done").all()
    assert tables[0]["accuracy"].tolist() == pytest.approx(tables[1]["accuracy"].tolist(), abs=1 / COUNT)
    assert torch.equal(images, given)


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()


class UndefinedGradient(NoBackward):
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None


def _without_autograd(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x)


def _dynamic_int8(net: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize(
    "net",
    [
        lambda: _dynamic_int8(plain_net()),
        lambda: Through(_without_autograd),
        lambda: Through(lambda net, x: net(x).detach()),
        lambda: Through(lambda net, x: net(NoBackward.apply(x))),
        lambda: Through(lambda net, x: net(UndefinedGradient.apply(x))),
        lambda: torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.script(plain_net()))),
    ],
    ids=["int8", "no_grad", "detach", "no backward", "undefined gradient", "optimised TorchScript"],
)
def test_network_without_gradients_is_judged_under_black_box_attacks_alone(
    net: Callable[[], nn.Module], caplog: pytest.LogCaptureFixture
) -> None:
    labels = labels_of(net())
    alone = evaluate(net(), (X, labels), attacks=BOX_FREE)
    assert [record.getMessage()[:40] for record in caplog.records] == ["no gradient passes through the network, "]
    assert alone["status"].eq("done").all()
    assert not alone["verdict"].eq(Verdict.INVALID).any()
    assert not alone["verdict_reasons"].str.contains("gradient").any()
    table = evaluate(net(), (X, labels), attacks=[*ATTACKS, {"name": "apgd-ce", "steps": 3}, "art-pgd"])
    assert table["accuracy"].iloc[3] == alone["accuracy"].iloc[1]
    blind = table[table["attack"].isin(["fgsm", "pgd", "apgd-ce", "art-pgd"])]
    assert blind["verdict"].eq(Verdict.INVALID).all()
    assert blind["verdict_reasons"].str.contains("no gradient passes through the network: only black-box attacks can run").all()


def test_honest_network_is_not_said_to_lack_gradients() -> None:
    assert not judged(plain_net())["verdict_reasons"].str.contains("no gradient").any()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    "caller",
    [
        torch.inference_mode,
        torch.no_grad,
        lambda: _default_dtype(torch.float64),
        lambda: _default_dtype(torch.bfloat16),
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda: torch.device("meta"),
    ],
    ids=["inference mode", "no_grad", "float64", "bfloat16", "autocast", "another device"],
)
def test_what_a_caller_chose_for_torch_changes_no_number(
    caller: Callable[[], AbstractContextManager[None]], wanted: list[float]
) -> None:
    more: list[Any] = [{"name": "apgd-ce", "steps": 3}, {"name": "apgd-t", "steps": 3}, {"name": "fab", "steps": 3}, "art-pgd"]
    net, labels, threat = plain_net(), labels_of(plain_net()), ThreatModel(eps="16/255")
    usual = evaluate(net, (X, labels), attacks=[*ATTACKS, *more], threat_model=threat)
    with caller():
        state = _state_of_torch()
        table = evaluate(net, (X, labels), attacks=[*ATTACKS, *more], threat_model=threat)
        assert _state_of_torch() == state
    assert table["reason"].eq("").all()
    assert table["accuracy"].tolist() == usual["accuracy"].tolist()
    assert table["accuracy"].tolist()[: len(wanted)] == wanted


def _state_of_torch() -> tuple[object, ...]:
    modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
    return *modes, torch.get_default_dtype(), torch.get_default_device()


def test_network_and_images_made_in_inference_mode_are_judged(wanted: list[float]) -> None:
    with torch.inference_mode():
        net, images = copy.deepcopy(plain_net()), X.clone()
        table = evaluate(net, (images, labels_of(plain_net())), attacks=ATTACKS, threat_model=ThreatModel(eps="16/255"))
    assert table["accuracy"].tolist() == wanted
    assert all(weight.is_inference() for weight in net.parameters())


def test_hooks_of_a_network_are_part_of_it() -> None:
    net, called = plain_net(), []
    net.register_forward_pre_hook(lambda _, inputs: (inputs[0].flip(-1),))
    net[0].register_full_backward_hook(lambda *_: called.append("back"))
    net[-1].register_forward_hook(lambda _, __, logits: logits.roll(1, dims=1))
    table = judged(net)
    accuracy = float((labels_of(net) == labels_of(plain_net())).float().mean())
    assert table["status"].eq("done").all()
    assert table["accuracy"].iloc[0] == pytest.approx(accuracy)
    assert called
    assert [len(net._forward_pre_hooks), len(net[0]._backward_hooks), len(net[-1]._forward_hooks)] == [1, 1, 1]


def _fails_on(fits: Callable[[int], bool]) -> nn.Module:
    return Through(lambda net, x: net(x) if fits(len(x)) else 1 / 0)


def _failing_hook() -> nn.Module:
    net = plain_net()
    net[3].register_forward_hook(lambda *_: {}["missing"])
    return net


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: Through(lambda net, x: None), "model: expected logits as one tensor, got NoneType"),
        (lambda: Through(lambda net, x: [net(x)]), "model: expected logits as one tensor, got list"),
        (lambda: Through(lambda net, x: net(x).detach().numpy()), "model: expected logits as one tensor, got ndarray"),
        (lambda: Through(lambda net, x: net(x)[:-1]), r"for 2 images, got torch.float32 of shape \(1, 4\)"),
        (lambda: Through(lambda net, x: net(x).squeeze()), r"for 1 image, got torch.float32 of shape \(4,\)"),
        (lambda: Through(lambda net, x: net(x)[:, : len(x) + 1]), "as many logits for one image as for several, got 2 and 3"),
        (lambda: Through(lambda net, x: net(x).to("meta")), "model: expected logits on cpu, .*, got meta"),
        (lambda: _fails_on(lambda count: count > 1), "a forward pass of 1 float32 image of 3 x 8 x 8 failed: ZeroDivisionError"),
        (lambda: _fails_on(lambda count: count < 3), "model: judging it on the clean images failed: ZeroDivisionError: division"),
        (
            lambda: torch.export.export(plain_net(), (X[:2],)).module(),
            r"a forward pass of 1 .*Guard failed: input.size\(\)\[0\] == 2",
        ),
        (lambda: torch.export.export(plain_net(), (X[:2],)), "got ExportedProgram; its module\\(\\) is one"),
        (
            lambda: Through(lambda net, x: net(x.mul_(0.9) if len(x) > 2 else x)),
            "that leaves its input alone, .* into some batches",
        ),
        (_failing_hook, "a forward pass of 2 float32 images of 3 x 8 x 8 failed: KeyError: 'missing'"),
        (lambda: plain_net().to("meta"), "model: expected weights with values, got some on the meta device"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), "model: expected weights with values, got lazy ones"),
        (lambda: plain_net().half(), r"its parameters are torch.float16: model.float\(\) converts them"),
        (lambda: nn.Conv2d(1, 4, 3), "a forward pass of 2 float32 images of 3 x 8 x 8 failed"),
        (lambda: nn.Linear, "model: expected a torch.nn.Module, got type"),
        (lambda: plain_net().forward, "model: expected a torch.nn.Module, got method"),
    ],
)
def test_network_that_cannot_be_judged_is_refused_in_one_line(net: Callable[[], Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message) as caught:
        judged(net())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["limit", "batch_size", "seed"])
@pytest.mark.parametrize("value", ["all", 2.5, True])
def test_number_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(HarnessError, match=f"{name}: expected a whole number, got {value!r}"):
        judged(plain_net(), **{name: value})


def test_error_of_a_network_is_a_model_error() -> None:
    with pytest.raises(ModelError):
        judged(Through(lambda net, x: None))
