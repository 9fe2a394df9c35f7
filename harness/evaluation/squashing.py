"""Whether a network ends in an operation that squashes, read off the autograd graph of its outputs."""

from typing import Any, cast

import torch
from torch import Tensor

SLOPES = 4.0
"""Factor between the largest and the smallest slope of the last operation, on images of the data set, that turns gradients."""
SOFTMAX = "SoftmaxBackward0"
SQUASHING = {"SigmoidBackward0", "TanhBackward0", "HardsigmoidBackward0", "HardtanhBackward0", "ErfBackward0", "AtanBackward0"}
CLAMPS = {"ClampBackward0", "ClampBackward1"}
PASSED_ON = {
    *("MulBackward0", "DivBackward0", "AddBackward0", "SubBackward0", "RsubBackward1", "NegBackward0", "AliasBackward0"),
    *("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "SqueezeBackward0", "SqueezeBackward1", "CloneBackward0"),
    *("UnsqueezeBackward0", "ToCopyBackward0", "PermuteBackward0", "TransposeBackward0", "SliceBackward0", "SplitBackward0"),
}
"""Operations that only shift, scale or rearrange what comes from a single other one."""
POINTWISE = PASSED_ON | {
    *("ExpBackward0", "Expm1Backward0", "AbsBackward0", "PowBackward0", "PowBackward1", "SqrtBackward0", "RsqrtBackward0"),
    *("ReciprocalBackward0", "SigmoidBackward0", "TanhBackward0"),
}
"""Operations of which squashing ones are written by hand."""


def ends_in_squashing(outputs: Tensor, x: Tensor) -> bool:
    """Returns whether the last operation squashes, with slopes that differ by more than `SLOPES` among outputs (n, K).

    Args:
        outputs: Of images `x`, with their graph.
        x: Images (n, C, H, W) that require a gradient.
    """
    node = _last_operation(outputs)
    if node is None:
        return False
    if node.name() == SOFTMAX:
        return True
    slopes: list[Tensor] = []
    handle = node.register_hook(lambda inputs, results: slopes.append((inputs[0] / results[0]).detach().abs()))
    gradient_of(outputs, x)
    handle.remove()
    return _differ(slopes)


def ends_in_quotient(outputs: Tensor, x: Tensor) -> bool:
    """Returns whether outputs (n, K) end in a quotient made of one tensor, as z / (1 + |z|), with slopes that differ so much.

    Args:
        outputs: Of images `x`, with their graph.
        x: Images (n, C, H, W) that require a gradient.
    """
    source = _source_of_quotient(outputs)
    if source is None:
        return False
    slopes: list[Tensor] = []
    handle = source.register_prehook(
        lambda gradients: slopes.extend(each.detach().abs() for each in gradients if each is not None)
    )
    gradient_of(outputs, x)
    handle.remove()
    return _differ(slopes)


def gradient_of(outputs: Tensor, x: Tensor) -> Tensor | None:
    """Returns the gradient of the sum of outputs with respect to images; nothing where an operation has none."""
    try:
        (gradient,) = torch.autograd.grad(outputs.sum(), x, allow_unused=True, retain_graph=True)
    except RuntimeError:  # also what torch raises for an operation without a derivative
        return None
    return cast(Tensor | None, gradient)


def _differ(slopes: list[Tensor]) -> bool:
    known = slopes[0][slopes[0].isfinite()] if slopes else torch.zeros(0)
    return bool(known.numel() and known.max() > SLOPES * known.min())


def _last_operation(outputs: Tensor) -> Any | None:
    """Returns the node of the graph that squashes, behind shifts and scales; nothing where the last one does not."""
    node: Any = outputs.grad_fn
    while node is not None:
        if node.name() in SQUASHING or node.name() == SOFTMAX:
            return node
        if node.name() in CLAMPS:
            ends = (getattr(node, "_saved_min", None), getattr(node, "_saved_max", None))
            return None if None in ends else node
        sources = _sources(node)
        if node.name() not in PASSED_ON or len(sources) != 1:
            return None
        node = sources[0]
    return None


def _source_of_quotient(outputs: Tensor) -> Any | None:
    """Returns the node whose values alone, one by one, make up the outputs by a quotient; nothing where there is none."""
    pending: list[Any] = [outputs.grad_fn] if outputs.grad_fn is not None else []
    seen, origins, divides = set(pending), [], False
    while pending:
        node = pending.pop()
        sources = _sources(node)
        if node.name() not in POINTWISE:
            origins.append(node)
            continue
        divides |= node.name() == "ReciprocalBackward0" or (node.name() == "DivBackward0" and len(sources) > 1)
        pending += [source for source in sources if source not in seen]
        seen.update(sources)
    return origins[0] if divides and len(origins) == 1 else None


def _sources(node: Any) -> list[Any]:
    return [source for source, _ in node.next_functions if source is not None]
