"""Whether a network's outputs are squashed into an interval: a sigmoid or softmax at the end, whatever it is multiplied by.

Where such outputs saturate their slope vanishes, and with it the gradient of a cross-entropy taken of them. Small logits
are no such outputs: a bound alone harms no attack, saturation at the bound does.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from harness.evaluation.squashing import ends_in_quotient, ends_in_squashing, gradient_of
from harness.system.modes import frozen_parameters

SUM_TOLERANCE = 1e-3
"""Rounding that probabilities may show in their sum, as a share of it."""
PUSHED = 8
"""Images on which an output is pushed up and down."""
STEPS, STEP = 10, 0.1
"""Of a push: it may cross the whole pixel range."""
END = 0.05
"""Outer share of an interval that counts as its end."""
CEILING = 0.9
"""Share of the pushes that end there, where there is a ceiling; those of an unbounded output end class by class."""


def are_probabilities(outputs: Tensor) -> Tensor:
    """Returns (n,) whether the outputs (n, K) of an example lie in [0,1] and add up to 1."""
    in_range = ((outputs >= 0) & (outputs <= 1)).all(dim=1)
    return in_range & ((outputs.sum(dim=1) - 1).abs() <= SUM_TOLERANCE)


def are_bounded(model: nn.Module, x: Tensor) -> bool:
    """Returns whether the outputs on images (n, C, H, W) of the data set are squashed into an interval, and saturate.

    They are where they are probabilities up to a factor; where the last operation squashes, with slopes that differ much
    from output to output; or where most lie at the ends of an interval that no push along the gradient leaves. Without
    gradients the pushes find less.

    Source: Carlini and Wagner 2017, https://arxiv.org/abs/1608.04644, section IV: cross-entropy of saturated outputs.
    """
    with frozen_parameters(model), torch.enable_grad():
        entry = x.detach().clone().requires_grad_()
        outputs = _outputs(model, entry)
        natural = outputs.detach()
        live = ~natural.isneginf().all(dim=0)
        if not natural[:, live].isfinite().all() or int(live.sum()) < 2:
            return False
        live_outputs = partial(_live_outputs, model, live)
        return (
            _are_shares(natural[:, live])
            or ends_in_squashing(outputs, entry)
            or (ends_in_quotient(outputs, entry) and _share_a_ceiling(live_outputs, x, natural[:, live]))
            or _piles_up(live_outputs, x, natural[:, live])
        )


def _outputs(model: nn.Module, x: Tensor) -> Tensor:
    return cast(Tensor, model(x * 1)).float()  # a copy, as a network may write into its input


def _live_outputs(model: nn.Module, live: Tensor, x: Tensor) -> Tensor:
    return _outputs(model, x)[:, live]


def _are_shares(outputs: Tensor) -> bool:
    """Returns whether outputs (n, K) are probabilities up to a factor, n at least 2."""
    sums = outputs.sum(dim=1)
    alike = bool((sums - sums.mean()).abs().max() <= SUM_TOLERANCE * sums.mean())
    return bool((outputs >= 0).all()) and len(outputs) > 1 and alike and bool((outputs != outputs[:1]).any())


def _piles_up(outputs: Callable[[Tensor], Tensor], x: Tensor, natural: Tensor) -> bool:
    """Returns whether outputs (n, K) lie at the ends of an interval that pushes do not leave.

    That is: most outputs but the largest of each image at the lower end; most of the largest in its upper half, and, once
    they are pushed up, at the upper end.
    """
    top = natural.argmax(dim=1, keepdim=True)
    others = natural.scatter(1, top, -torch.inf)
    highest, rest = natural.gather(1, top).flatten(), others[others.isfinite()]
    low, middle = natural.min(), highest.median()
    if ((rest - low) <= 2 * END * (middle - low)).float().mean() <= 1 / 2:
        return False  # the pushes could not change that: they only make the interval wider
    few = slice(0, PUSHED)
    up, seen_up = _pushed(outputs, x[few], top[few], sign=1.0)
    _, seen_down = _pushed(outputs, x[few], others[few].argmax(dim=1, keepdim=True), sign=-1.0)
    seen = torch.cat([natural, seen_up, seen_down, outputs(_extremes(x[few])).detach()])
    low, high = seen.min(), seen.max()

    def share(values: Tensor, least: float, most: float) -> float:
        places = (values - low) / (high - low)
        return float(((places >= least) & (places <= most)).float().mean())

    return share(rest, 0, END) > 1 / 2 and share(highest, 1 / 2, 1) > 1 / 2 and share(up, 1 - END, 1) > 1 / 2


def _share_a_ceiling(outputs: Callable[[Tensor], Tensor], x: Tensor, natural: Tensor) -> bool:
    """Returns whether nearly all outputs that are pushed up end at the same height: the two largest of each image.

    Twice as much as elsewhere counts as the end: of z / (1 + |z|) the last tenth takes as long as all the rest.
    """
    few, classes = x[:PUSHED], natural[:PUSHED].topk(2, dim=1).indices
    pushed = [_pushed(outputs, few, classes[:, rank : rank + 1], sign=1.0) for rank in (0, 1)]
    seen = torch.cat([natural, *(every for _, every in pushed)])
    low, high = seen.min(), seen.max()
    return all(float((up >= high - 2 * END * (high - low)).float().mean()) >= CEILING for up, _ in pushed)


def _extremes(x: Tensor) -> Tensor:
    """Returns images of other kinds than `x` (n, C, H, W): negatives, and one black and one white image."""
    return torch.cat([1 - x, torch.zeros_like(x[:1]), torch.ones_like(x[:1])])


def _pushed(outputs: Callable[[Tensor], Tensor], x: Tensor, classes: Tensor, *, sign: float) -> tuple[Tensor, Tensor]:
    """Moves images along the sign of the gradient of one output each.

    Args:
        outputs: Images (n, C, H, W) to outputs (n, K).
        x: Where to begin.
        classes: Which output, (n, 1).
        sign: 1 to raise it, -1 to lower it.

    Returns:
        The largest value times `sign` that each of these outputs took, (n,), times `sign` again; and all outputs seen, (m, K).
    """
    best, seen = torch.full((len(x),), -torch.inf, device=x.device), []
    for step in range(STEPS + 1):
        entry = x.detach().requires_grad_()
        found = outputs(entry)
        value = sign * found.gather(1, classes).flatten()
        seen.append(found.detach())
        best = torch.maximum(best, value.detach())
        if step == STEPS or not value.requires_grad:
            break
        slope = gradient_of(value, entry)
        if slope is None:
            break
        x = (x + STEP * slope.nan_to_num().sign()).clamp(0, 1)
    return sign * best, torch.cat(seen)
