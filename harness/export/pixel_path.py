"""The part of an ONNX graph before the network: normalisation, channel order, luminance, layout, resize."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from harness.errors import ModelError

CPU = "CPUExecutionProvider"
ORT_FORMAT = b"ORTM"
"""In the first bytes of a file in ONNX Runtime's own format, which it runs as well."""
AFFINE = frozenset({"Add", "Sub", "Mul", "Div", "Min", "Max", "BatchNormalization", "Clip", "Neg", "Relu", "LeakyRelu"})
"""Operators on one number, beside constants; the result never turns as the number rises."""
LAYOUT = frozenset(
    {
        *("Cast", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "SpaceToDepth"),
        *("Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)
"""Operators that leave numbers as they are, or add constants."""
BETWEEN = frozenset({"AveragePool", "MaxPool", "ReduceMean", "ReduceSum", "Resize"})
"""Operators on several numbers; the result rises with each."""
PIXELWISE = AFFINE | LAYOUT | BETWEEN | {"QuantizeLinear", "DequantizeLinear"}
SEVERAL = frozenset({"Add", "Concat"})
"""Operators that may take pixels in more than one place."""
OF_SHAPES = frozenset({"Shape", "Size"})
"""Operators whose results depend on no pixel."""
DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
"""Those of ONNX's operators, and of ONNX Runtime's, which has the same names for quantisation."""


@dataclass(frozen=True)
class PixelStep:
    """An operator before the network."""

    name: str
    """Of its node; may be empty."""
    pixels: tuple[str, ...]
    """Names of the tensors with pixels that it takes."""
    tensors: tuple[str, ...]
    """Names of those that it gives."""


class PixelPath:
    """The tensors of a graph that hold pixels, up to the first layer of the network.

    Whatever weighs pixels with signs ends the path: a convolution, a product of matrices, a Resize by cubic interpolation.

    Args:
        path: A file that ONNX Runtime has opened. One in its own format has no path.
    """

    def __init__(self, path: Path) -> None:
        """See the class."""
        self.path = path
        self._model = _read(path)
        self._constants = {tensor.name for tensor in self._model.graph.initializer}
        inputs = [value for value in self._model.graph.input if value.name not in self._constants]
        self._images = inputs[:1]
        self.steps = self._followed()
        """The operators, in the order of the graph."""

    @property
    def images(self) -> onnx.ValueInfoProto:
        """The input of the graph."""
        return self._images[0]

    @property
    def quantisers(self) -> list[onnx.NodeProto]:
        """The QuantizeLinear nodes that take pixels."""
        pixels = {tensor for step in self.steps for tensor in step.pixels}
        return [node for node in self._model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in pixels]

    def session(
        self, names: Sequence[str], given: Mapping[str, NDArray[np.generic]] | None = None
    ) -> onnxruntime.InferenceSession:
        """Returns a session that computes the tensors of these names, in their order, without the network behind them.

        Args:
            names: The tensors.
            given: Tensors that it takes, with an example of each by its name; by default the images.

        Raises:
            ModelError: if ONNX Runtime does not take it.
        """
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        try:
            part = self._part(names, self._images if given is None else [_described(*pair) for pair in given.items()])
            return onnxruntime.InferenceSession(part.SerializeToString(), options, providers=[CPU])
        except Exception as error:  # ONNX Runtime raises a class of its own for each status
            raise ModelError(f"{self.path}: expected operators on pixels that run, got: {str(error).splitlines()[0]}") from error

    def _followed(self) -> tuple[PixelStep, ...]:
        found, steps = {value.name for value in self._images}, []
        for node in self._model.graph.node:
            data = [name for name in node.input if name and name not in self._constants]
            if any(attribute.HasField("g") for attribute in node.attribute):
                continue  # the branches of a condition may take any tensor
            if not data or node.op_type in OF_SHAPES:
                self._constants.update(node.output)
            elif found.issuperset(data) and _is_pixelwise(node, data):
                given = node.output[:1] if node.op_type == "MaxPool" else node.output  # the other is of places
                steps.append(PixelStep(node.name, tuple(data), tuple(name for name in given if name)))
                found.update(steps[-1].tensors)
        return tuple(steps)

    def _part(self, names: Sequence[str], inputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        graph, given = self._model.graph, {value.name for value in inputs}
        needed, nodes = set(names) - given, list[onnx.NodeProto]()
        for node in reversed(graph.node):
            if needed.intersection(node.output):
                nodes.insert(0, node)
                needed.update(name for name in node.input if name not in given)
        constants = [tensor for tensor in graph.initializer if tensor.name in needed]
        for tensor in constants:
            if uses_external_data(tensor):
                load_external_data_for_tensor(tensor, str(self.path.parent))
        # Copies, as a graph's input cannot be its output.
        ends = [f"{name}/{place}" for place, name in enumerate(names)]
        nodes += [onnx.helper.make_node("Identity", [name], [end]) for name, end in zip(names, ends, strict=True)]
        outputs = [onnx.ValueInfoProto(name=end) for end in ends]
        part = onnx.helper.make_graph(nodes, "pixels", inputs, outputs, initializer=constants)
        return onnx.helper.make_model(part, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)


def _described(name: str, example: NDArray[np.generic]) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(example.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, example.shape)


def _read(path: Path) -> onnx.ModelProto:
    with path.open("rb") as file:
        if ORT_FORMAT in file.read(2 * len(ORT_FORMAT)):
            return onnx.ModelProto()
    return onnx.load(path, format="protobuf", load_external_data=False)


def _is_pixelwise(node: onnx.NodeProto, data: Sequence[str]) -> bool:
    """Returns whether a node whose inputs `data` are pixels, and all others constants, gives pixels."""
    if node.op_type not in PIXELWISE or node.domain not in DOMAINS:
        return False
    if node.op_type == "Resize":
        return all(attribute.s != b"cubic" for attribute in node.attribute if attribute.name == "mode")
    if node.op_type in {"Div", "Gather"}:
        return list(data) == [node.input[0]]  # neither a constant divided by pixels, nor pixels as places
    return len(data) == 1 or node.op_type in SEVERAL
