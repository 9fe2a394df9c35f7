import logging

import pytest
import torch
from torch import Tensor, nn

from harness.models.compiling import Padded, compiled
from tests.attacks.nets import CLASSES, images
from tests.compilers import broken
from tests.training.cases import copied, dropout_convnet

X = torch.rand(4, 3, 8, 8)
LINE = "torch.compile is off, as it fails here: RuntimeError: no working C++ compiler"


def first_pixels(x: Tensor) -> Tensor:
    return x.flatten(1)[:, :CLASSES]


def test_failing_compiler_falls_back_with_one_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    model = dropout_convnet()
    with caplog.at_level(logging.WARNING):
        assert compiled(model, X) is model
    assert [record.getMessage() for record in caplog.records] == [LINE]


def test_trial_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network: network)
    model = dropout_convnet().train()
    state, generator = copied(model.state_dict()), torch.get_rng_state()
    compiled(model, X)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize(
    ("full", "counts", "wanted"),
    [
        pytest.param({}, (6, 5, 3, 2, 1, 6), [6, 6, 3, 3, 1, 6], id="the largest that was met"),
        pytest.param({"largest": 8}, (1, 3, 8, 5, 2), [2, 4, 8, 8, 2], id="a full batch, however small the first one is"),
    ],
)
def test_padding_calls_few_sizes_and_returns_the_rows_asked_for(
    full: dict[str, int], counts: tuple[int, ...], wanted: list[int]
) -> None:
    x = images(8)
    sizes: list[int] = []

    def network(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return first_pixels(x)

    padded = Padded(network, network, **full)
    for count in counts:
        assert torch.equal(padded(x[:count]), first_pixels(x[:count]))
    assert sizes == wanted


def test_padding_gives_no_gradient_to_the_filling() -> None:
    x = images(6)
    leaf = x[:4].clone().requires_grad_()
    padded = Padded(lambda x: x.sum(dim=(1, 2, 3))[:, None], lambda _: pytest.fail("called the plain network"))
    padded(x)
    assert torch.equal(torch.autograd.grad(padded(leaf).sum(), leaf)[0], torch.ones_like(leaf))


def test_compiler_that_fails_later_is_given_up_for_good_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    x = images(4)
    calls: list[int] = []

    def failing(x: Tensor) -> Tensor:
        calls.append(len(x))
        raise RuntimeError("no working C++ compiler")

    padded = Padded(failing, first_pixels, largest=4)
    with caplog.at_level(logging.WARNING):
        for count in (3, 4):
            assert torch.equal(padded(x[:count]), first_pixels(x[:count]))
    assert (calls, padded.works) == ([4], False)
    assert [record.getMessage() for record in caplog.records] == [LINE]


class Backwards(torch.autograd.Function):
    """A compiled network whose backward pass fails for batches of two."""

    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return first_pixels(x)

    @staticmethod
    def backward(ctx, gradient):
        if ctx.shape[0] == 2:
            raise RuntimeError("no working C++ compiler")
        whole = gradient.new_zeros(ctx.shape).flatten(1)
        whole[:, :CLASSES] = gradient
        return whole.view(ctx.shape)


def test_network_that_is_compiled_anew_all_the_time_is_called_as_it_is_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    class Counting(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return first_pixels(x) + 0 * self.calls

    network = Counting()
    padded = Padded(torch.compile(network, backend="eager", dynamic=False), network)
    x = images(2)
    with caplog.at_level(logging.WARNING, logger="harness"):
        logits = [padded(x) for _ in range(20)]
    assert all(torch.equal(found, first_pixels(x)) for found in logits)
    assert not padded.works
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("harness")]
    assert line.startswith("torch.compile is off, as it fails here: FailOnRecompileLimitHit")


def test_backward_pass_that_fails_at_a_new_size_is_found_before_an_attack_needs_it(caplog: pytest.LogCaptureFixture) -> None:
    padded = Padded(Backwards.apply, first_pixels, largest=4)
    for count, works in ((4, True), (2, False)):
        leaf = images(count).requires_grad_()
        torch.autograd.grad(padded(leaf).sum(), leaf)
        assert padded.works is works
    assert [record.getMessage() for record in caplog.records] == [LINE]


def test_memory_that_runs_out_is_no_fault_of_the_compiler() -> None:
    def full(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("no memory")

    padded = Padded(full, lambda _: pytest.fail("tried again"))
    with pytest.raises(torch.OutOfMemoryError):
        padded(images(2))
    assert padded.works


def test_fault_of_the_network_itself_is_no_fault_of_the_compiler(caplog: pytest.LogCaptureFixture) -> None:
    def refusing(x: Tensor) -> Tensor:
        raise ValueError("too small")

    with pytest.raises(ValueError, match="too small"):
        Padded(refusing, refusing)(images(2))
    assert not caplog.records
