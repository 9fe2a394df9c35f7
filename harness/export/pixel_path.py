"""The part of an ONNX graph that computes with each pixel by itself, from the images on: normalisation, layout, resize."""

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from harness.errors import ModelError

CPU = "CPUExecutionProvider"
ORT_FORMAT = b"ORTM"
"""In the first bytes of a file in ONNX Runtime's own format, which it runs as well."""
AFFINE = frozenset({"Add", "Sub", "Mul", "Div", "Min", "Max", "BatchNormalization", "Clip", "Neg", "Relu", "LeakyRelu"})
"""Operators on one number, beside constants; the result never turns as the number rises."""
LAYOUT = frozenset(
    {"Cast", "Concat", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that leave numbers as they are, or add constants."""
BETWEEN = frozenset({"AveragePool", "MaxPool", "Resize"})
"""Operators whose results lie between the numbers of one channel that they are made from."""
PIXELWISE = AFFINE | LAYOUT | BETWEEN | {"QuantizeLinear", "DequantizeLinear"}
OF_SHAPES = frozenset({"Shape", "Size"})
"""Operators whose results depend on no pixel."""
DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
"""Those of ONNX's operators, and of ONNX Runtime's, which has the same names for quantisation."""


class PixelPath:
    """The tensors of a graph that hold pixels, up to the first layer of the network.

    Whatever else mixes channels or pixels ends the path, as does a Resize by cubic interpolation: it gives more than white.

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
        self.tensors = self._followed()
        """Names of the tensors, the images first."""

    @property
    def quantisers(self) -> list[onnx.NodeProto]:
        """The QuantizeLinear nodes that take pixels."""
        pixels = set(self.tensors)
        return [node for node in self._model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in pixels]

    def session(self, names: Sequence[str]) -> onnxruntime.InferenceSession:
        """Returns a session from the images to the tensors of these names, in their order, without the network behind them.

        Raises:
            ModelError: if ONNX Runtime does not take it.
        """
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        try:
            return onnxruntime.InferenceSession(self._part(names).SerializeToString(), options, providers=[CPU])
        except Exception as error:  # ONNX Runtime raises a class of its own for each status
            raise ModelError(f"{self.path}: expected operators on pixels that run, got: {str(error).splitlines()[0]}") from error

    def _followed(self) -> tuple[str, ...]:
        found = [value.name for value in self._images]
        for node in self._model.graph.node:
            data = [name for name in node.input if name and name not in self._constants]
            if any(attribute.HasField("g") for attribute in node.attribute):
                continue  # the branches of a condition may take any tensor
            if not data or node.op_type in OF_SHAPES:
                self._constants.update(node.output)
            elif set(data) <= set(found) and _is_pixelwise(node, data):
                found.extend(name for name in node.output if name)
        return tuple(found)

    def _part(self, names: Sequence[str]) -> onnx.ModelProto:
        graph, needed = self._model.graph, set(names)
        nodes: list[onnx.NodeProto] = []
        for node in reversed(graph.node):
            if needed & set(node.output):
                nodes.insert(0, node)
                needed.update(node.input)
        constants = [tensor for tensor in graph.initializer if tensor.name in needed]
        for tensor in constants:
            if uses_external_data(tensor):
                load_external_data_for_tensor(tensor, str(self.path.parent))
        # Copies, as a graph's input cannot be its output.
        ends = [f"{name}/{place}" for place, name in enumerate(names)]
        nodes += [onnx.helper.make_node("Identity", [name], [end]) for name, end in zip(names, ends, strict=True)]
        outputs = [onnx.ValueInfoProto(name=end) for end in ends]
        part = onnx.helper.make_graph(nodes, "pixels", self._images, outputs, initializer=constants)
        return onnx.helper.make_model(part, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)


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
    return len(data) == 1 or node.op_type == "Concat"
