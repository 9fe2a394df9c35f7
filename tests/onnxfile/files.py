"""ONNX files for tests, written operator by operator: an export takes seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

SIZE = 16
OPSET = 20


def save_onnx(path: Path, network: nn.Module, **form: Any) -> Path:
    """Writes `tests.nets.small_convnet` with its normalisation by 0.5 and 0.5 in front, for images of 16 x 16.

    Args:
        path: The file.
        network: The network, in eval mode.
        form: See `_model`; `external` puts the weights beside the file.
    """
    external = form.pop("external", False)
    model = _model(network, **form)
    if external:
        data = f"{path.name}.data"
        onnx.save_model(model, path, save_as_external_data=True, location=data, size_threshold=0)
    else:
        onnx.save(model, path)
    return path


def _model(
    network: nn.Module,
    *,
    batch: int | str = "n",
    name: str = "images",
    channels_last: bool = False,
    whole: bool = False,
    also: str = "",
    custom: bool = False,
    flip: bool = False,
) -> onnx.ModelProto:
    """Returns the graph.

    Args:
        network: Its weights.
        batch: Images of a pass, or a name for any number.
        name: Of the input.
        channels_last: Takes NHWC.
        whole: Takes whole numbers of 0 to 255.
        also: Name of a second output, the features.
        custom: Has an operator that no runtime knows.
        flip: Answers the opposite: its logits have the other sign.
    """
    weights: dict[str, np.ndarray] = {}
    nodes: list[onnx.NodeProto] = []
    last = name

    def add(op: str, *others: str, **attributes: Any) -> None:
        nonlocal last
        nodes.append(helper.make_node(op, [last, *others], [f"{op}{len(nodes)}"], **attributes))
        last = nodes[-1].output[0]

    def weight(value: Tensor | float) -> str:
        key = f"w{len(weights)}"
        weights[key] = np.asarray(value.detach().numpy() if isinstance(value, Tensor) else value, np.float32)
        return key

    if whole:
        add("Cast", to=TensorProto.FLOAT)
        add("Div", weight(255.0))
    if channels_last:
        add("Transpose", perm=[0, 3, 1, 2])
    add("Sub", weight(0.5))
    add("Div", weight(0.5))
    first, norm, _, second, norm2, *_, head = network
    for conv, bn in ((first, norm), (second, norm2)):
        add("Conv", weight(conv.weight), weight(conv.bias), strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        statistics = (bn.weight, bn.bias, bn.running_mean, bn.running_var)
        add("BatchNormalization", *(weight(value) for value in statistics), epsilon=bn.eps)
        add("Relu")
    add("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    add("Flatten")
    features = last
    if custom:
        nodes.append(helper.make_node("Secret", [last], ["secret"], domain="com.example"))
        last = "secret"
    add("Gemm", weight(head.weight), weight(head.bias), transB=1, alpha=-1.0 if flip else 1.0)
    shape = [batch, SIZE, SIZE, 3] if channels_last else [batch, 3, SIZE, SIZE]
    kind = TensorProto.UINT8 if whole else TensorProto.FLOAT
    outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, [batch, head.out_features])]
    if also:
        nodes.append(helper.make_node("Identity", [features], [also]))
        outputs.append(helper.make_tensor_value_info(also, TensorProto.FLOAT, [batch, head.in_features]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, kind, shape)],
        outputs,
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), *([helper.make_opsetid("com.example", 1)] if custom else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def quantised(source: Path, path: Path, x: Tensor) -> Path:
    """Writes a file of 8-bit numbers, as ONNX Runtime's static quantisation does, calibrated on images (N, 3, 16, 16)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Gives the images once, one by one."""

        def __init__(self) -> None:
            """See the class."""
            self.images = iter(x.split(1))

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Returns the next image."""
            image = next(self.images, None)
            return None if image is None else {"images": image.numpy()}

    quantize_static(
        source, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return path


def fitted(seed: int = 0, steps: int = 60) -> tuple[nn.Module, Tensor, Tensor]:
    """Returns `small_convnet`, fitted for a second to the digits at 16 x 16, with images (N, 3, 16, 16) and labels (N,)."""
    from tests.finished import judging, network

    data = judging({"mine": {"factory": "tests.finished:network"}}).dataset.load()
    split = data.splits["train"]
    x = torch.stack([split[index][0] for index in range(600)])
    y = torch.as_tensor(np.asarray(split.labels)[:600], dtype=torch.long)
    model = network(seed=seed).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(steps):
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(step))[:100]
        optimiser.zero_grad()
        nn.functional.cross_entropy(model((x[rows] - 0.5) / 0.5), y[rows]).backward()
        optimiser.step()
    return model.eval().requires_grad_(False), x, y
