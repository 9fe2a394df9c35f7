"""Compares a network's gradients with differences of its own outputs, on a few examples.

Attacks follow the gradients of the backward pass. These may be those of another function than the forward pass computes: a
straight-through estimator, a surrogate network, a part that is detached. Differences of outputs show what the forward pass does.
"""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from harness.models.copying import deep_copy
from harness.models.reference import reference_parts
from harness.records.evidence import NetworkEvidence
from harness.system.out_of_memory import is_out_of_memory
from harness.system.seeds import generator_of, global_seed

logger = logging.getLogger(__name__)

COARSE_STEPS = (4 / 255, 16 / 255)
"""Pixel units, larger than the flats of a rounded input."""
COARSE_CHANGE = 1e-3
"""Change of outputs over a coarse step, relative to the largest logit, beside which a gradient must not be zero."""
FLATTER = 100
"""How many times the change that a gradient predicts for a coarse step may be exceeded."""
ROUNDING = 16
"""Last digits of the largest logit by which rounding may move an output."""
SAME_OUTPUT = 0.1
"""Relative difference of logits up to which a float64 copy computes what the network does, be that in bfloat16."""
WHOLE = 1e-3
"""The same of the sums of outputs that are shares of a whole."""
APART = 1e-5
"""Relative difference of logits up to which an example's do not depend on the others of its batch."""


class _Steps(NamedTuple):
    """What suits a number format, in pixel units."""

    sizes: tuple[float, ...]
    """Steps to try, smallest first: the best agreement counts."""
    bound: float
    """Largest difference between a change of outputs and the gradient's prediction, relative to the larger of the two."""
    jitter: float
    """How far images are moved off the kinks that equal and black pixels lie on: many times the smallest step."""


DOUBLE = _Steps((1e-8, 1e-6), bound=0.1, jitter=1e-3)
"""Hardly any kink of a ReLU lies within such steps, and hardly any jump of a rounded input."""
SINGLE = _Steps((1e-4, 3e-4, 1e-3), bound=0.2, jitter=8 / 255)
"""Rounding asks for larger steps, within which some kinks lie."""
STAND_IN = _Steps((1e-4, 1e-3, 2 / 255, 8 / 255), bound=0.5, jitter=8 / 255)
"""For a network in another runtime, with the gradient of another network: whole numbers of 8 bits have no slope within small
steps, and such a gradient need not be exact, but must lead over the steps that attacks take."""


@dataclass(frozen=True, eq=False)
class _Probe:
    """A network at a few images, one number an example: the label's logit less that of the likeliest other class.

    Unlike a loss such a margin does not saturate where a network is confident.
    """

    network: nn.Module
    y: Tensor
    """Labels (n,)."""
    rival: Tensor
    """The likeliest other classes (n,)."""
    x: Tensor
    """Images (n, C, H, W) in the number format of the check."""
    gradient: Tensor
    """(n, C, H, W) of the margins at `x`."""
    noise: Tensor
    """(n,) how far rounding may move a margin."""
    largest: Tensor
    """(n,) the largest logit."""
    saturates: bool
    """Whether the outputs are shares of a whole, or each lies in [0,1]: a margin of such outputs has flat ends."""

    def margins(self, x: Tensor) -> Tensor:
        """Returns the margins (n,) of images."""
        with torch.no_grad():
            return _margins(_logits(self.network, x), self.y, self.rival)

    def slope(self, x: Tensor) -> Tensor:
        """Returns (n,) the length of the margins' gradient at images."""
        leaf = x.detach().requires_grad_()
        margins = _margins(_logits(self.network, leaf), self.y, self.rival)
        return torch.autograd.grad(margins.sum(), leaf)[0].flatten(1).norm(dim=1)


def check_gradients(model: nn.Module, x: Tensor, y: Tensor, *, seed: int = 0) -> NetworkEvidence:
    """Compares directional derivatives by central differences with those that the gradient gives.

    Args:
        model: The network in eval mode, images (N, C, H, W) in [0,1] to logits (N, K); left as it is.
        x: A few correctly classified images (n, C, H, W), float32 in [0,1].
        y: Their labels (n,).
        seed: Seeds the directions.

    Returns:
        On how many images they were compared, are wrong and are flat; nothing where the network has no gradients, or where its
        outputs for an image depend on the other images of the batch.

    Source: Nocedal and Wright 2006, "Numerical Optimization", section 8.1: central differences. Tramèr et al. 2020,
        https://arxiv.org/abs/2002.08347: defences whose backward pass is not that of the forward pass.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        x, y = x.detach().clone(), y.clone()  # made in inference mode they would have no gradients
        for attempt in (_as_stand_in,) if reference_parts(model) else (_in_float64, _in_float32):
            try:
                found = attempt(model, x, y, seed=seed)
            except Exception as error:  # a network may fail in a number format, or in its backward pass, in any way
                if is_out_of_memory(error):
                    raise
                logger.debug("gradients not compared %s: %s", attempt.__name__.strip("_").replace("_", " "), error)
                continue
            if found is not None:
                return found
    return NetworkEvidence()


def _in_float64(model: nn.Module, x: Tensor, y: Tensor, *, seed: int) -> NetworkEvidence | None:
    """Returns the evidence on a float64 copy; None where it computes something else."""
    network = deep_copy(model, {}).double().requires_grad_(False)
    with torch.no_grad():
        wanted, logits = _logits(model, x), _logits(network, x.double())
    if _differ(logits, wanted, SAME_OUTPUT):
        return None
    return _compared(network, x.double(), y, DOUBLE if _format(logits) == torch.float64 else SINGLE, seed=seed)


def _in_float32(model: nn.Module, x: Tensor, y: Tensor, *, seed: int) -> NetworkEvidence | None:
    return _compared(model, x, y, SINGLE, seed=seed)


def _as_stand_in(model: nn.Module, x: Tensor, y: Tensor, *, seed: int) -> NetworkEvidence | None:
    """Returns the evidence where the gradient is that of another network."""
    return _compared(model, x, y, STAND_IN, seed=seed)


def _compared(network: nn.Module, x: Tensor, y: Tensor, steps: _Steps, *, seed: int) -> NetworkEvidence | None:
    """Returns the evidence in the number format of the images `x`; None where there are no gradients of each image alone."""
    generator = generator_of(seed, "gradient check", device=x.device)
    probe = _probe(network, _off_kinks(x, steps, generator), y)
    if probe is None:
        return None
    directions = (probe.gradient.sign(), _random_signs(x, generator))  # the first moves nothing where the gradient is zero
    wrong = torch.stack([_disagrees(probe, direction, steps) for direction in directions]).any(dim=0)
    flat = _is_flat(probe, directions)
    return NetworkEvidence(gradients_compared=len(x), gradients_wrong=int(wrong.sum()), gradients_flat=int((flat & ~wrong).sum()))


def _probe(network: nn.Module, x: Tensor, y: Tensor) -> _Probe | None:
    """Returns a network at the images `x`; None where it has no gradients, or an image's outputs depend on the others."""
    leaf = x.requires_grad_()
    logits = _logits(network, leaf)
    if not logits.requires_grad or _depends_on_batch(network, x.detach(), logits.detach()):
        return None
    rival = logits.detach().scatter(1, y[:, None], -torch.inf).argmax(dim=1)
    gradient = torch.autograd.grad(_margins(logits, y, rival).sum(), leaf, allow_unused=True)[0]
    if gradient is None:
        return None
    x, logits = x.detach(), logits.detach()
    largest = logits.abs().where(logits.isfinite(), 0.0).amax(dim=1)
    formats = [_format(logits), *(weight.dtype for weight in network.parameters() if weight.is_floating_point())]
    digits = max(torch.finfo(dtype).eps for dtype in formats)
    return _Probe(network, y, rival, x, gradient.detach(), ROUNDING * digits * largest, largest, _is_bounded(logits))


def _format(logits: Tensor) -> torch.dtype:
    """Returns the coarsest number format that logits (n, K) were computed in, as far as their values tell.

    A rounded output may fit in a short format too, but its steps do not become finer for small values.
    """
    values = logits[logits.isfinite()]
    for dtype in (torch.bfloat16, torch.float16):
        grid = torch.finfo(dtype).eps * values.abs().max()
        if bool((values.to(dtype) == values).all()) and bool(((values % 2 ** grid.log2().floor()) != 0).any()):
            return dtype
    return torch.float32 if bool((values.float() == values).all()) else torch.float64


def _logits(network: nn.Module, x: Tensor) -> Tensor:
    """Returns logits (n, K); where the network draws from the global generators, it draws the same in each call."""
    with global_seed(0):
        return cast(Tensor, network(x))


def _margins(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """Returns (n,) the logits (n, K) of the classes `y` less those of the classes `rival`, both (n,)."""
    return (logits.gather(1, y[:, None]) - logits.gather(1, rival[:, None])).squeeze(1)


def _is_bounded(outputs: Tensor) -> bool:
    sums = outputs.sum(dim=1)
    is_whole = len(sums) > 1 and bool((sums - sums.mean()).abs().max() <= WHOLE * sums.mean())
    return bool((outputs >= 0).all()) and (is_whole or bool((outputs <= 1).all()))


def _depends_on_batch(network: nn.Module, x: Tensor, logits: Tensor) -> bool:
    half = len(x) // 2
    if not half:
        return False
    with torch.no_grad():
        alone = _logits(network, x[:half])
    return _differ(alone, logits[:half], APART)


def _differ(logits: Tensor, wanted: Tensor, bound: float) -> bool:
    """Returns whether logits (n, K) differ from those wanted by more than that share of the largest, where both are finite.

    Raises:
        RuntimeError: if they are nowhere both finite.
    """
    finite = logits.isfinite() & wanted.isfinite()
    return bool((wanted - logits)[finite].abs().max() > bound * wanted[finite].abs().max())


def _off_kinks(x: Tensor, steps: _Steps, generator: torch.Generator) -> Tensor:
    """Returns images a little off the given ones, and so far inside [0,1] that no step leaves it."""
    low = 2 * steps.sizes[-1]
    moved = x + steps.jitter * (2 * torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype) - 1)
    above = low + (moved - low).abs()  # mirrored, as cut off many would be equal
    return 1 - low - (1 - low - above).abs()


def _random_signs(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, x.shape, generator=generator, device=x.device).to(x.dtype) * 2 - 1


class _Change(NamedTuple):
    """What a step along a direction does, arrays (n,)."""

    measured: Tensor
    """Of the margins, from one end to the other."""
    predicted: Tensor
    """The same by the gradient."""
    typical: Tensor
    """Standard deviation of what it predicts for steps of this size in random directions."""


def _change(probe: _Probe, direction: Tensor, step: float) -> _Change:
    ahead, behind = ((probe.x + sign * step * direction).clamp(0, 1) for sign in (1, -1))
    covered = (ahead - behind).flatten(1)  # exactly, as pixels are rounded too
    gradient = probe.gradient.flatten(1)
    return _Change(
        measured=probe.margins(ahead) - probe.margins(behind),
        predicted=(gradient * covered).sum(dim=1),
        typical=2 * step * gradient.norm(dim=1),
    )


def _disagrees(probe: _Probe, direction: Tensor, steps: _Steps) -> Tensor:
    """Returns (n,) whether outputs and gradient disagree at every step whose change stands out from rounding, of one at least."""
    seen = agreed = torch.zeros(len(probe.x), dtype=torch.bool, device=probe.x.device)
    for step in steps.sizes:
        measured, predicted, typical = _change(probe, direction, step)
        scale = torch.stack([measured.abs(), predicted.abs(), typical]).amax(dim=0)
        telling = scale.isfinite() & (2 * probe.noise < steps.bound * scale)
        seen = seen | telling
        agreed = agreed | (telling & ((measured - predicted).abs() <= steps.bound * scale))
        if bool(agreed.all()):
            break
    return seen & ~agreed


def _is_flat(probe: _Probe, directions: Sequence[Tensor]) -> Tensor:
    """Returns (n,) whether outputs move over a coarse step, while the gradients at its middle and ends say that they hardly do.

    A saturated output has next to no gradient in the middle only, a rounded one nowhere. Nothing more is tried once the
    gradient in the middle accounts for a change of every image.
    """
    flat = accounted = torch.zeros(len(probe.x), dtype=torch.bool, device=probe.x.device)
    for step, direction in itertools.product(() if probe.saturates else COARSE_STEPS, directions):
        measured, predicted, typical = _change(probe, direction, step)
        moved = measured.abs() > COARSE_CHANGE * probe.largest + 2 * probe.noise
        found = moved & (measured.abs() > FLATTER * torch.maximum(predicted.abs(), typical))
        if bool(found.any()):
            ends = [2 * step * probe.slope((probe.x + sign * step * direction).clamp(0, 1)) for sign in (1, -1)]
            flat = flat | (found & (measured.abs() > FLATTER * torch.maximum(*ends)))
        accounted = accounted | (moved & ~found)
        if bool(accounted.all()):
            break
    return flat
