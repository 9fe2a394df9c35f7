import pytest
import timm
import torch
from torch import Tensor, nn

from harness.training.inference_form import LiveInferenceForm, without_copying_activations
from tests.training.cases import copied, dropout_convnet

X = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def randomised(model: nn.Module) -> nn.Module:
    """Gives batch norms statistics and weights that a fold must take into account."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
                nn.init.uniform_(module.bias, -0.2, 0.2, generator=generator)
    return model.eval()


def difference(form: LiveInferenceForm, model: nn.Module) -> float:
    with torch.no_grad():
        expected = model.eval()(X)
        return float((form.network(X) - expected).abs().max() / expected.abs().max())


def folded(form: LiveInferenceForm) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in form.network.modules())


@pytest.mark.parametrize(
    "arch", ["test_efficientnet", "resnet18", "mobilenetv3_small_050", "resnetv2_18", "tf_efficientnet_lite0"]
)
def test_inference_form_gives_the_networks_logits_before_and_after_an_update(arch: str) -> None:
    model = randomised(timm.create_model(arch, num_classes=3))
    form = LiveInferenceForm(model, X)
    assert difference(form, model) < 1e-4
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    model.train()(X)
    form.refresh()
    assert difference(form, model) < 1e-4


def test_every_batch_norm_behind_a_convolution_is_folded() -> None:
    form = LiveInferenceForm(randomised(timm.create_model("test_efficientnet", num_classes=3)), X)
    assert folded(form) == 0


def test_live_network_is_not_touched() -> None:
    model = randomised(dropout_convnet()).train()
    model[1].eval()
    state, modes = copied(model.state_dict()), [module.training for module in model.modules()]
    form = LiveInferenceForm(model, X)
    x = X.clone().requires_grad_()
    form.network(x).sum().backward()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert x.grad is not None


def test_inference_form_is_in_eval_mode_and_its_parameters_are_frozen() -> None:
    form = LiveInferenceForm(randomised(dropout_convnet()).train(), X)
    assert not any(module.training for module in form.network.modules())
    assert not any(weight.requires_grad for weight in form.network.parameters())


def test_layers_that_are_not_folded_share_their_memory() -> None:
    model = randomised(dropout_convnet())
    form = LiveInferenceForm(model, X)
    assert form.network[9].weight.data_ptr() == model[9].weight.data_ptr()


class Branching(nn.Module):
    """The convolution's output goes around its batch norm too, as in pre-activation networks."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.convolution(x)
        return self.head((h + self.norm(h)).mean((2, 3)))


class Repeated(nn.Module):
    """The same layers twice."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.head = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.convolution(self.norm(self.convolution(x)))).mean((2, 3)))


@pytest.mark.parametrize("kind", [Branching, Repeated])
def test_batch_norm_that_cannot_be_folded_is_left_alone(kind: type[nn.Module]) -> None:
    fresh = kind().eval()  # as long as its statistics are the first ones, a wrong fold would not show
    form = LiveInferenceForm(fresh, X)
    randomised(fresh)
    form.refresh()
    assert folded(form) == 1
    assert difference(form, fresh) < 1e-5


def test_batch_norm_without_weights_or_statistics_is_handled() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4, affine=False),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    model[1].running_mean.fill_(0.3)
    form = LiveInferenceForm(model.eval(), X)
    assert folded(form) == 1
    assert difference(form, model) < 1e-4


def test_network_that_is_not_differentiable_has_an_inference_form() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ones(len(x), 2)

    assert difference(LiveInferenceForm(Constant(), X), Constant()) == 0


def test_copying_activations_are_out_of_place_inside_the_block_only() -> None:
    model = nn.Sequential(nn.SiLU(inplace=True), nn.ReLU(inplace=True), nn.SiLU(inplace=False))
    with without_copying_activations(model):
        assert [layer.inplace for layer in model] == [False, True, False]
    assert [layer.inplace for layer in model] == [True, True, False]


class SwitchedOff(nn.Module):
    """A network whose last class is switched off by a logit of -inf."""

    def __init__(self) -> None:
        super().__init__()
        self.network = randomised(timm.create_model("resnet18", num_classes=3))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) + torch.tensor([0.0, 0.0, -torch.inf])


def test_network_with_a_class_that_is_switched_off_is_folded_as_others_are() -> None:
    assert folded(LiveInferenceForm(SwitchedOff().eval(), X)) == 0
