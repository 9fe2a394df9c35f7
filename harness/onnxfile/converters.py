"""Converters that onnx2torch lacks: operators of newer opsets, and quantisation with straight-through gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import onnx
import torch
from onnx2torch.node_converters import registry  # type: ignore[import-untyped]
from onnx2torch.node_converters.reduce import OnnxReduceStaticAxes  # type: ignore[import-untyped]
from onnx2torch.utils.common import (  # type: ignore[import-untyped]
    OnnxMapping,
    OnnxToTorchModule,
    OperationConverterResult,
    get_const_value,
    onnx_mapping_from_node,
)
from torch import Tensor, nn

REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare", "ReduceLogSumExp")
"""Operators whose axes are an input since opset 18; onnx2torch 1.5.15 knows them as an attribute alone."""
AXES_AS_INPUT = 18
ALLOWING_ZERO = 14
"""Version of Reshape since which it may be told what a 0 stands for."""
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
QUANTISED = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}
"""Smallest and largest number of the formats that tensors are quantised to."""


class StraightThrough(torch.autograd.Function):
    """Rounds to whole numbers, half to even; its gradient is that of no rounding.

    Source: Bengio et al. 2013, https://arxiv.org/abs/1308.3432, section 4: the straight-through estimator.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Returns whole numbers of the shape of `x`."""
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Returns the gradient as it comes."""
        return gradients[0]


class Quantise(nn.Module, OnnxToTorchModule):  # type: ignore[misc]  # the library has no types
    """QuantizeLinear: whole numbers, kept as floating-point ones; beyond the ends of their range there is no gradient."""

    def __init__(self, axis: int, bounds: tuple[int, int]) -> None:
        """See the class."""
        super().__init__()
        self.axis, self.bounds = axis, bounds

    def forward(self, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        """Returns the whole numbers of `x`, by a scale and a zero point for all of it, or for each place along the axis."""
        scale, zero = _along(scale, x, self.axis), None if zero is None else _along(zero, x, self.axis)
        steps = cast(Tensor, StraightThrough.apply(x / scale))
        return (steps if zero is None else steps + zero.to(x.dtype)).clamp(*self.bounds)


class Dequantise(nn.Module, OnnxToTorchModule):  # type: ignore[misc]
    """DequantizeLinear: whole numbers to the values that they stand for."""

    def __init__(self, axis: int) -> None:
        """See the class."""
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        """Returns the values of whole numbers; see `Quantise.forward`."""
        steps = x.to(scale.dtype)
        if zero is not None:
            steps = steps - _along(zero, x, self.axis).to(scale.dtype)
        return steps * _along(scale, x, self.axis)


class Reshape(nn.Module, OnnxToTorchModule):  # type: ignore[misc]
    """Reshape, where a 0 may stand for an extent of 0 instead of the input's own; onnx2torch 1.5.15 refuses that setting."""

    def __init__(self, *, zero_is_zero: bool) -> None:
        """See the class."""
        super().__init__()
        self.zero_is_zero = zero_is_zero

    def forward(self, x: Tensor, shape: Tensor) -> Tensor:
        """Returns the values of `x` in another shape."""
        extents = shape.tolist()
        if not self.zero_is_zero:
            extents = [extent or x.shape[place] for place, extent in enumerate(extents)]
        return x.reshape(extents)


def register_for(model: onnx.ModelProto) -> None:
    """Registers what the operators of a graph need: own converters, else that of an older version of the operator.

    An older converter may compute something else: the conversion is compared with ONNX Runtime afterwards.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    for node in model.graph.node:
        version = _since(node.op_type, node.domain, versions.get(node.domain, 1))
        key = registry.OperationDescription(domain=node.domain, operation_type=node.op_type, version=version)
        known = registry._CONVERTER_REGISTRY
        if version is None:
            continue
        converter = _own(node.op_type, version) or known.get(key) or _older(node, version, known)
        if converter is not None:
            known[key] = converter


def _since(operation: str, domain: str, version: int) -> int | None:
    try:
        return int(onnx.defs.get_schema(operation, domain=domain, max_inclusive_version=version).since_version)
    except onnx.defs.SchemaError:
        return None


def _own(operation: str, version: int) -> Any:
    if operation in QUANTISERS:
        return _quantiser
    if operation == "Reshape" and version >= ALLOWING_ZERO:
        return _reshape
    return _reduction if operation in REDUCTIONS and version >= AXES_AS_INPUT else None


def _older(node: onnx.NodeProto, version: int, known: Iterable[Any]) -> Any:
    """Returns the converter of the newest older version of an operator."""
    older = [key for key in known if (key.operation_type, key.domain) == (node.op_type, node.domain) and key.version < version]
    return registry._CONVERTER_REGISTRY[max(older, key=lambda key: key.version)] if older else None


def _reduction(node: Any, graph: Any) -> OperationConverterResult:
    """Converts a reduction whose axes are its second input."""
    name = node.input_values[1] if len(node.input_values) > 1 else ""
    axes = cast(Tensor, get_const_value(name, graph)).tolist() if name else None
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        raise NotImplementedError(f"{node.operation_type} that does nothing")
    module = OnnxReduceStaticAxes(node.operation_type, axes=axes, keepdims=node.attributes.get("keepdims", 1))
    return OperationConverterResult(module, OnnxMapping(inputs=(node.input_values[0],), outputs=node.output_values))


def _reshape(node: Any, graph: Any) -> OperationConverterResult:
    module = Reshape(zero_is_zero=bool(node.attributes.get("allowzero", 0)))
    return OperationConverterResult(module, onnx_mapping_from_node(node))


def _quantiser(node: Any, graph: Any) -> OperationConverterResult:
    axis = node.attributes.get("axis", 1)
    if node.attributes.get("block_size", 0):
        raise NotImplementedError(f"{node.operation_type} in blocks")
    if node.operation_type == "DequantizeLinear":
        return OperationConverterResult(Dequantise(axis), onnx_mapping_from_node(node))
    return OperationConverterResult(Quantise(axis, _bounds(node, graph)), onnx_mapping_from_node(node))


def _bounds(node: Any, graph: Any) -> tuple[int, int]:
    """Returns the ends of the format that a tensor is quantised to: that of its zero point, else the one named, else uint8."""
    stated = node.attributes.get("output_dtype", 0)
    name = "uint8" if not stated else onnx.helper.tensor_dtype_to_np_dtype(stated).name
    if len(node.input_values) > 2 and node.input_values[2]:
        name = str(get_const_value(node.input_values[2], graph).dtype).removeprefix("torch.")
    if name not in QUANTISED:
        raise NotImplementedError(f"{node.operation_type} to {name}")
    return QUANTISED[name]


def _along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """Returns a number for all of `x`, or one for each place along an axis, in a shape that fits it."""
    if values.numel() == 1:
        return values.reshape(())
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.reshape(shape)
