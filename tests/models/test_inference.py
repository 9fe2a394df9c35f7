import pytest
import torch
from torch import Tensor, nn

from harness.models.inference import AS_GIVEN, Inference, inference_form
from harness.models.layout import NumberFormat
from tests.attacks.nets import conv_net, images
from tests.compilers import broken, tracing


@pytest.fixture
def x() -> Tensor:
    return images(6, low=0.0, high=1.0)


def _gradient(model: nn.Module, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf).pow(2).sum(), leaf)[0]


def test_form_has_the_same_logits_and_gradients_and_no_batchnorm(x: Tensor) -> None:
    net = conv_net()
    form = inference_form(net, x[:2])
    assert form is not net
    assert not any(isinstance(module, nn.BatchNorm2d) for module in form.modules())
    assert torch.allclose(form(x), net(x), atol=1e-4)
    assert torch.allclose(_gradient(form, x), _gradient(net, x), rtol=1e-3, atol=1e-3)


def test_network_itself_is_left_alone(x: Tensor) -> None:
    net = conv_net().train()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    form = inference_form(net, x[:2])
    assert net.training
    assert not form.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not any(parameter.requires_grad for parameter in form.parameters())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert net[5].inplace


def test_hooks_go_with_the_form_and_new_ones_stay_with_one_of_the_two(x: Tensor) -> None:
    net, seen = conv_net(), []
    net[0].register_forward_hook(lambda *_: seen.append("old"))
    form = inference_form(net, x[:2])
    form.network[2].register_forward_hook(lambda *_: seen.append("new"))
    seen.clear()
    form(x)
    assert seen == ["old", "new"]
    net(x)
    assert seen == ["old", "new", "old"]


def test_as_given_is_the_network_itself(x: Tensor) -> None:
    net = conv_net()
    assert inference_form(net, x, AS_GIVEN) is net


def test_timm_net_with_activations_inside_batchnorm_is_folded(x: Tensor) -> None:
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model("efficientnet_b0", num_classes=5).eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    photos = torch.rand(2, 3, 32, 32)
    form = inference_form(net, photos)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in form.modules())
    assert torch.allclose(form(photos), net(photos), atol=1e-4 * float(net(photos).detach().abs().max()))


class Shared(nn.Module):
    """One BatchNorm after two convolutions, and one convolution whose output is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.shared, self.skipped = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        for norm in (self.shared, self.skipped):
            norm.running_mean.fill_(0.3)
            norm.running_var.fill_(2.0)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.shared(self.first(x)) + self.shared(self.second(x))
        once = self.first(x)
        return (shared + once + self.skipped(once)).mean(dim=(2, 3))


def test_batchnorm_that_is_shared_is_not_folded(x: Tensor) -> None:
    net = Shared().eval()
    form = inference_form(net, x)
    assert torch.allclose(form(x), net(x), atol=1e-5)


def test_convolution_whose_output_has_a_second_use_is_not_folded(x: Tensor, caplog) -> None:
    class Peeking(nn.Module):
        """Uses a convolution's output before and after BatchNorm: folding changes the result."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.norm.running_mean.fill_(1.0)

        def forward(self, x: Tensor) -> Tensor:
            raw = self.conv(x)
            return (self.norm(raw) * raw).mean(dim=(2, 3))

    net = Peeking().eval()
    form = inference_form(net, x)
    assert torch.allclose(form(x), net(x), atol=1e-5)
    assert any(isinstance(module, nn.BatchNorm2d) for module in form.modules())
    assert not caplog.text


def test_folding_that_changes_the_network_all_the_same_is_given_up(x: Tensor, caplog) -> None:
    class Weighed(nn.Module):
        """Reads a convolution's weights beside calling it."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.norm.running_var.fill_(4.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(x)).mean(dim=(2, 3)) + self.conv.weight.abs().sum()

    net = Weighed().eval()
    form = inference_form(net, x)
    assert torch.allclose(form(x), net(x), atol=1e-5)
    assert any(isinstance(module, nn.BatchNorm2d) for module in form.modules())
    assert "differs" in caplog.text


def test_network_that_cannot_be_copied_is_attacked_as_it_is(x: Tensor, caplog) -> None:
    class Uncopyable(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(dim=(2, 3))

        def __deepcopy__(self, memo: dict) -> nn.Module:
            raise TypeError("no copies")

    net = Uncopyable()
    assert inference_form(net, x) is net
    assert "not possible" in caplog.text


def test_bfloat16_form_gives_float32_logits_close_to_the_networks(x: Tensor) -> None:
    net = conv_net()
    form = inference_form(net, x, Inference(precision="bfloat16"))
    logits = form(x)
    assert logits.dtype is torch.float32
    assert not torch.equal(logits, net(x))
    assert (logits - net(x)).abs().max() <= 0.1 * net(x).abs().max()


def test_bfloat16_keeps_the_networks_weights_buffers_and_constants_in_float32(x: Tensor) -> None:
    class Constant(nn.Module):
        """Adds a float32 number that no conversion of the network reaches."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            shifted = x - torch.full((3, 1, 1), 0.5)
            return self.conv(shifted).mean(dim=(2, 3))

    form = inference_form(Constant().eval(), x, Inference(precision="bfloat16"))
    assert {parameter.dtype for parameter in form.parameters()} == {torch.float32}
    assert form.inference.precision == "bfloat16"
    assert _gradient(form, x).dtype is torch.float32


def test_network_that_bfloat16_changes_too_much_is_attacked_in_float32(x: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    class Cancelling(nn.Module):
        """Subtracts two large products that float32 alone tells apart."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(192, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.flatten(1) + 1000) - self.head(torch.full_like(x.flatten(1), 1000))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Cancelling().eval()
    form = inference_form(net, x, Inference(precision="bfloat16"))
    assert form.inference.precision == "float32"
    assert torch.allclose(form(x), net(x), atol=1e-3)
    assert "differs by" in caplog.text


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch size of each graph that is compiled; none has code generated, which would take minutes."""
    torch.compiler.reset()
    sizes: list[int] = []
    monkeypatch.setattr(torch, "compile", tracing(sizes))
    return sizes


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_form_has_the_forms_logits_and_gradients_for_every_batch_size(
    x: Tensor, graphs: list[int], precision: NumberFormat
) -> None:
    net = conv_net()
    plain = inference_form(net, x[:2], Inference(precision=precision))
    form = inference_form(net, x[:2], Inference(compile=True, precision=precision), largest=8)
    assert form.is_compiled
    for count in (6, 5, 2, 4, 1, 6):
        for found, wanted in ((form(part := x[:count]), plain(part)), (_gradient(form, part), _gradient(plain, part))):
            assert (found - wanted).abs().max() <= {"float32": 1e-4, "bfloat16": 0.05}[precision] * wanted.abs().max()
    assert sorted(graphs) == [2, 2, 4, 4, 8, 8]  # each size once with gradients, and once without


def test_second_network_of_the_same_kind_is_not_compiled_anew(x: Tensor, graphs: list[int]) -> None:
    for seed in (0, 1):
        form = inference_form(conv_net(seed), x[:2], Inference(compile=True), largest=8)
        assert torch.allclose(_gradient(form, x), _gradient(conv_net(seed), x), rtol=1e-3, atol=1e-3)
    assert graphs == [8]


def test_failing_compiler_leaves_the_form_as_it_is_and_says_so_in_one_line(
    x: Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    form = inference_form(conv_net(), x[:2], Inference(compile=True))
    assert not form.is_compiled
    assert torch.equal(form(x), inference_form(conv_net(), x[:2])(x))
    assert [record.getMessage() for record in caplog.records] == [
        "torch.compile is off, as it fails here: RuntimeError: no working C++ compiler"
    ]


def test_compiler_that_changes_the_network_is_given_up(
    x: Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **_: lambda x: network(x) * 1.01)
    form = inference_form(conv_net(), x[:2], Inference(compile=True))
    assert not form.is_compiled
    assert "compiled, it differs by 0.01" in caplog.text


class Tied(nn.Module):
    """One weight in two layers, a weight of whole numbers, and one of a class of its own."""

    class Own(nn.Parameter):
        """A kind of parameter that only its own code knows how to copy."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight
        self.order = nn.Parameter(torch.tensor([2, 0, 1]), requires_grad=False)
        self.scale = self.Own(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)).mean(dim=(2, 3))[:, self.order] * self.scale


def test_weights_of_a_form_are_its_own_and_what_is_tied_stays_tied(x: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    net = Tied().eval()
    strides, logits = net.first.weight.stride(), net(x)
    form = inference_form(net, x)
    assert form is not net
    assert not caplog.text
    assert form.network.first.weight is form.network.second.weight
    assert type(form.network.scale) is Tied.Own
    addresses = {weight.data_ptr() for weight in net.parameters()}
    assert not any(weight.data_ptr() in addresses for weight in form.parameters())
    with torch.no_grad():
        for weight in form.parameters():
            weight.zero_()
    assert torch.equal(net(x), logits)
    assert net.first.weight.stride() == strides
    assert [weight.requires_grad for weight in net.parameters()] == [False, True, True, True, True]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_come_back_in_the_layout_of_the_images(x: Tensor, layout: torch.memory_format) -> None:
    """Attacks view them as rows."""

    class Permuted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 3, 2, 1).cumsum(dim=1).relu().mean(dim=(1, 2))

    for net in (conv_net(), Permuted()):
        form = inference_form(net, x[:2])
        gradient = _gradient(form, x.contiguous(memory_format=layout))
        assert gradient.is_contiguous(memory_format=layout)
        assert torch.allclose(gradient, _gradient(net, x), rtol=1e-3, atol=1e-3)
