"""What an ONNX file holds: the hash of its content, its number format, and operators that no runtime knows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import ModelError, first_line
from harness.storage.store import sha256_of_file
from harness.system.messages import shown

if TYPE_CHECKING:
    import onnx

Precision = Literal["float32", "float16", "int8"]
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Domains of the operators that ONNX Runtime brings along; a name that it does not know there is its own error."""
QUANTISED = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
        # ONNX Runtime's own, which its optimiser and its quantisation write.
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
    }
)
"""Operators of files that compute with whole numbers."""
EXTERNAL, LOCATION = 1, "location"
"""Where a tensor's values lie: `TensorProto.EXTERNAL`, and the key of the file's name."""


def onnx_path(text: str) -> Path:
    """Returns the path of an ONNX file.

    Raises:
        ModelError: if there is none.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:  # a "~name" of nobody
        raise ModelError(f"onnx: expected an ONNX file at {text}, found {error}") from error
    if not path.is_file():
        raise ModelError(f"onnx: expected an ONNX file at {text}, found {'a folder' if path.is_dir() else 'none'}")
    return path


def content_sha256(path: Path) -> str:
    """Returns the sha256 of an ONNX file; with external data the sha256 over the hashes of all its files, and their names.

    PyTorch's exporter writes the same bytes into `NAME.onnx` for other weights in `NAME.onnx.data`.

    Raises:
        ModelError: if it is damaged, or a file of external data is missing.
    """
    own, others = sha256_of_file(path), external_files(path)
    if not others:
        return own
    lines = [own, *(f"{location} {sha256_of_file(path.parent / location)}" for location in others)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def external_files(path: Path) -> tuple[str, ...]:
    """Returns the names of the files beside an ONNX file that hold its tensors, sorted.

    Raises:
        ModelError: if it is damaged, or one of them is missing or outside its folder, where ONNX Runtime does not look either.
    """
    found: set[str] = set()
    for tensor in _tensors(structure(path)):
        if tensor.data_location == EXTERNAL:
            found |= {entry.value for entry in tensor.external_data if entry.key == LOCATION}
    for location in sorted(found):
        if Path(location).is_absolute() or ".." in Path(location).parts:
            raise ModelError(f"{path}: expected its external data beside it, got them in {shown(location)}")
        if not (path.parent / location).is_file():
            raise ModelError(f"{path}: expected its external data in {location!r} beside it, found none")
    return tuple(sorted(found))


def structure(path: Path) -> onnx.ModelProto:
    """Returns the graph of an ONNX file, without external data.

    Raises:
        ModelError: if it is damaged.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf has errors of many types for damaged files
        raise ModelError(f"{path}: expected a readable ONNX model, found {first_line(error)}") from error
    if not model.graph.node:
        raise ModelError(f"{path}: expected a readable ONNX model, found a graph without operators")
    return model


def precision_of(model: onnx.ModelProto) -> Precision:
    """Returns the coarsest number format that a graph computes in."""
    import onnx

    if any(node.op_type in QUANTISED or node.op_type.startswith("QLinear") for node in _nodes(model)):
        return "int8"
    halves = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in _tensors(model))
    return "float16" if halves else "float32"


def expect_known_operators(model: onnx.ModelProto, path: Path) -> None:
    """Refuses operators of other domains, which ONNX Runtime has not; those that the file defines itself are no such.

    Raises:
        ModelError: if there is one.
    """
    defined = {(function.domain, function.name) for function in model.functions}
    for node in _nodes(model):
        if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in defined:
            name = f"{node.domain}.{node.op_type}"
            raise ModelError(f"{path}: expected operators that ONNX Runtime knows, got the custom operator {name}")


def _graphs(model: onnx.ModelProto) -> Iterator[Any]:
    """Yields the graph, the bodies of functions, and those that are attributes of operators, such as branches."""
    pending: list[Any] = [model.graph, *model.functions]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                pending += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(model):
        yield from graph.node


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from ([attribute.t] if attribute.HasField("t") else [])
                yield from attribute.tensors
