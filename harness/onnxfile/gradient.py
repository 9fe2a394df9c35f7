"""Where the gradient of an ONNX file comes from: a twin of PyTorch, its graph converted to PyTorch, or nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import ModelError, first_line
from harness.onnxfile.parity import LARGEST, difference
from harness.system.lazy import torch
from harness.system.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from harness.models.classifier import Classifier
    from harness.models.reference import ReferenceClassifier
    from harness.onnxfile.content import Precision
    from harness.onnxfile.twin import Twin

PROBES, SEED = 8, 0
"""Random images in place of those of the data, where these are not loaded."""


@dataclass(frozen=True)
class Gradient:
    """Where a file's gradient comes from."""

    source: Literal["twin", "graph", "none"]
    twin: Twin | None = None
    obstacle: str = ""
    """Why there is none."""

    @property
    def title(self) -> str:
        """Its source in words."""
        if self.source == "twin" and self.twin is not None:
            return f"the gradient of its twin {self.twin.name}"
        if self.source == "graph":
            return "the gradient of its graph, converted to PyTorch"
        return f"no gradient, black-box attacks only: {self.obstacle}"

    def identity(self) -> dict[str, Any]:
        """Returns what changes the gradient, in plain JSON values."""
        if self.source == "twin" and self.twin is not None:
            return {"source": "twin", **self.twin.identity()}
        if self.source == "graph":
            from importlib.metadata import version

            from harness.onnxfile.conversion import VERSION

            return {"source": "graph", "version": VERSION, "onnx2torch": version("onnx2torch")}
        return {"source": "none"}

    def around(self, reference: Classifier, class_names: Sequence[str], *, resolution: int) -> ReferenceClassifier:
        """Returns the file as a network that ONNX Runtime computes, with this gradient.

        Args:
            reference: The file in ONNX Runtime.
            class_names: The classes of the data.
            resolution: Side length of its images in pixels.

        Raises:
            ModelError: if the twin does not fit, or the graph is not converted.
        """
        from harness.models.reference import ReferenceClassifier

        network: nn.Module | None = None
        if self.source == "twin" and self.twin is not None:
            network = self.twin.built(class_names, resolution=resolution)
        elif self.source == "graph":
            network = in_pytorch(reference)
        return ReferenceClassifier(reference, network, obstacle=self.obstacle)


def gradient_of(
    reference: Classifier,
    twin: Twin | None,
    class_names: Sequence[str],
    x: Tensor | None,
    *,
    precision: Precision,
    resolution: int,
) -> Gradient:
    """Returns where the gradient of a file comes from, after a comparison on images.

    Args:
        reference: The file in ONNX Runtime.
        twin: The network that it was made from, where it is named.
        class_names: The classes of the data.
        x: Images (N, 3, H, W) of the data; None where they are not loaded: then random ones are taken, on which a file of 8-bit
            numbers is not compared with its twin, as they may lie outside of what it was calibrated on.
        precision: The file's number format.
        resolution: Side length of its images in pixels.

    Raises:
        ModelError: if the twin does not fit, or is another network.
    """
    images = _random(resolution) if x is None else x
    most = LARGEST[precision]
    if twin is not None:
        network = twin.built(class_names, resolution=resolution)
        share = difference(network, reference, images)
        if share > most and not (x is None and precision == "int8"):
            raise ModelError(
                f"twin: expected the network that the file was made from, got another one in {twin.name}: on {len(images)} "
                f"images its logits differ by {share:.0%} of their size, where {most:.0%} is the most for {precision}; "
                "without twin the gradient is that of the file's own graph"
            )
        return Gradient("twin", twin)
    try:
        graph = in_pytorch(reference)
        share = difference(graph, reference, images)
        if share > most:
            return Gradient("none", obstacle=f"its graph in PyTorch gives logits that differ by {share:.0%} of their size")
        return Gradient("none", obstacle=found) if (found := _obstacle(graph, images[:2])) else Gradient("graph")
    except ModelError as error:
        return Gradient("none", obstacle=str(error))
    except Exception as error:  # a converted graph may fail on a batch in any way
        if is_out_of_memory(error):
            raise
        return Gradient("none", obstacle=f"its graph in PyTorch fails ({first_line(error)})")


def in_pytorch(reference: Classifier) -> nn.Module:
    """Returns a file's classifier with its graph in PyTorch.

    Raises:
        ModelError: if the graph is not converted.
    """
    from harness.models.copying import deep_copy
    from harness.onnxfile.conversion import converted
    from harness.onnxfile.network import OnnxNetwork

    graphs = [module for module in reference.modules() if isinstance(module, OnnxNetwork)]
    return deep_copy(reference, {id(graph): converted(graph.session) for graph in graphs}).requires_grad_(False)


def _obstacle(network: nn.Module, x: Tensor) -> str:
    """Returns why no gradient reaches images; empty where one does."""
    leaf = x.clone().requires_grad_()
    with torch.enable_grad():
        logits = network(leaf)
        if not logits.requires_grad:
            return "no gradient passes through its graph in PyTorch"
        (gradient,) = torch.autograd.grad(logits.square().sum(), leaf, allow_unused=True)
    usable = gradient is not None and bool(gradient.isfinite().all()) and bool((gradient != 0).any())
    return "" if usable else "the gradient of its graph in PyTorch is zero or not finite"


def _random(resolution: int) -> Tensor:
    """Returns smooth random images (N, 3, R, R)."""
    coarse = torch.rand(PROBES, 3, 4, 4, generator=torch.Generator().manual_seed(SEED))
    return torch.nn.functional.interpolate(coarse, size=(resolution, resolution), mode="bilinear")
