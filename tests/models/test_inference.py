import pytest
import torch
from torch import Tensor, nn

from harness.models.inference import AS_GIVEN, Inference, Padded, fold_batchnorm, inference_form
from tests.attacks.nets import CLASSES, conv_net, images


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
    form = inference_form(net, x, Inference(dtype="bfloat16"))
    logits = form(x)
    assert logits.dtype is torch.float32
    assert not torch.equal(logits, net(x))
    assert (logits - net(x)).abs().max() <= 0.1 * net(x).abs().max()


def test_number_of_folded_layers_is_returned(x: Tensor) -> None:
    assert fold_batchnorm(conv_net().requires_grad_(False), x) == 2


def test_padding_calls_few_sizes_and_returns_the_rows_asked_for(x: Tensor) -> None:
    sizes: list[int] = []

    def network(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x.flatten(1)[:, :CLASSES]

    padded = Padded(network)
    for count in (6, 5, 3, 2, 1, 6):
        assert torch.equal(padded(x[:count]), x[:count].flatten(1)[:, :CLASSES])
    assert sizes == [6, 6, 3, 3, 1, 6]


def test_padding_gives_no_gradient_to_the_filling(x: Tensor) -> None:
    leaf = x[:4].clone().requires_grad_()
    padded = Padded(lambda x: x.sum(dim=(1, 2, 3))[:, None])
    padded(x)
    assert torch.equal(torch.autograd.grad(padded(leaf).sum(), leaf)[0], torch.ones_like(leaf))


@pytest.fixture
def eager_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces like torch.compile, but skips the minutes of code generation."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **options: compiler(network, backend="aot_eager", **options))


def test_compiled_form_has_the_networks_logits_and_gradients_for_every_batch_size(x: Tensor, eager_compiler: None) -> None:
    net = conv_net()
    form = inference_form(net, x[:2], Inference(compile=True))
    assert form.padded is not None
    for count in (6, 5, 2):
        assert torch.allclose(form(x[:count]), net(x[:count]), atol=1e-4)
        assert torch.allclose(_gradient(form, x[:count]), _gradient(net, x[:count]), rtol=1e-3, atol=1e-3)
