"""The graph of an ONNX file in PyTorch, for its gradient: onnx2torch with converters of our own."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import ModelError, first_line
from harness.onnxfile.network import Graph, applied
from harness.system.modes import set_eval
from harness.system.seeds import global_seed

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

    from harness.onnxfile.session import Session

VERSION = 1
"""Of the conversion: raised whenever it gives other gradients."""


class ConvertedGraph(Graph):
    """The graph of an ONNX file in PyTorch, in float32.

    Args:
        session: The file.
        network: Its graph, from images in its layout to its outputs.
    """

    def __init__(self, session: Session, network: nn.Module) -> None:
        """See the class."""
        super().__init__(session)
        self.network = network
        set_eval(self)

    def computed(self, x: Tensor) -> list[Tensor]:
        """See `Graph.computed`."""
        return applied(self.network, x)


def converted(session: Session) -> ConvertedGraph:
    """Returns the graph of a file in PyTorch.

    Raises:
        ModelError: if onnx2torch is not installed, or an operator has no converter.
    """
    import onnx

    try:
        from onnx2torch import convert  # type: ignore[import-untyped]

        from harness.onnxfile.converters import register_for
    except ImportError as error:
        raise ModelError(f"onnx2torch is not installed ({first_line(error)})") from error
    try:
        model = _in_float32(onnx.load(session.path))
        _fold_weights(model)
        register_for(model)
        with warnings.catch_warnings(), global_seed(0):  # layers draw weights before they get their own
            warnings.simplefilter("ignore")
            network: nn.Module = convert(model)
    except Exception as error:  # the library raises errors of many types for what it does not know
        logging.getLogger(__name__).debug("no conversion of %s", session.path, exc_info=True)
        raise ModelError(f"onnx2torch does not convert its graph ({first_line(error)})") from error
    return ConvertedGraph(session, network.requires_grad_(False))


def _in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a graph with all float16 numbers in float32: PyTorch's CPU computes few operators in float16, and slowly."""
    from onnx import TensorProto, numpy_helper

    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    tensors = [*model.graph.initializer, *(it.t for node in model.graph.node for it in node.attribute if it.HasField("t"))]
    for tensor in tensors:
        if tensor.data_type == half:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                attribute.i = single
    for value in [*model.graph.input, *model.graph.output]:
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    del model.graph.value_info[:]
    return model


def _fold_weights(model: onnx.ModelProto) -> None:
    """Puts the values of quantised weights into a graph in place of the operators that compute them."""
    from onnx import numpy_helper

    known: Mapping[str, Any] = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type != "DequantizeLinear" or not all(name in known for name in node.input if name):
            continue
        whole, scale, *zero = (numpy_helper.to_array(known[name]) for name in node.input if name)
        axis = next((it.i for it in node.attribute if it.name == "axis"), 1)
        if any(it.name == "block_size" and it.i for it in node.attribute):
            continue
        shape = [1] * whole.ndim
        if scale.size > 1:
            shape[axis] = -1
        steps = whole.astype(np.float32) - (zero[0].astype(np.float32).reshape(shape) if zero else np.float32(0))
        values = (steps * scale.astype(np.float32).reshape(shape)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        model.graph.node.remove(node)
