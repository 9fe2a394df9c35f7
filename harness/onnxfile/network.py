"""The graph of an ONNX file as a module: images in the file's own units to what it gives, computed by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from harness.errors import ModelError

if TYPE_CHECKING:
    from harness.onnxfile.form import ImageForm
    from harness.onnxfile.session import Session

WHITE = 255.0
"""The value of white where pixels are whole numbers."""
DEPLOYED = "deploy"
"""`Metadata.kind` of a graph that ends in a softmax."""


class Outputs(dict[str, Tensor]):
    """Several outputs by name, in their order; a whole number is the place of one."""

    def __missing__(self, place: object) -> Tensor:
        """Returns the output at that place."""
        if not isinstance(place, int):
            raise KeyError(place)
        return list(self.values())[place]


class Rounded(torch.autograd.Function):
    """Rounds pixels to whole numbers from 0 to 255; its gradient is that of no rounding, also where 255 is missed by rounding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Returns whole numbers of the shape of `x`."""
        return x.round().clamp(0, WHITE)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Returns the gradient as it comes."""
        return gradients[0]


class Graph(nn.Module):
    """What all forms of a file's graph share: its layout, its whole numbers, its batches, and how outputs are named.

    Args:
        session: The file.
    """

    content: Tensor

    def __init__(self, session: Session) -> None:
        """See the class."""
        super().__init__()
        self.session, self.form, self.names = session, session.images(), session.outputs
        metadata = session.metadata
        self.ends_in_softmax = metadata is not None and metadata.kind == DEPLOYED

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """Returns the output for images (N, C, H, W) in the file's units, or all of them; in place of probabilities their logs.

        Raises:
            ModelError: if the images do not fit the file, or it fails on them.
        """
        self.form.check(x.shape, self.session.path)
        found = self._in_batches(_in_form(x, self.form))
        if self.ends_in_softmax:
            found = [logs(output) for output in found]
        return found[0] if len(self.names) == 1 else Outputs(zip(self.names, found, strict=True))

    def computed(self, x: Tensor) -> list[Tensor]:
        """Returns all outputs for one batch in the file's layout."""
        raise NotImplementedError

    def _in_batches(self, x: Tensor) -> list[Tensor]:
        """Returns all outputs; where the file fixes the size of a batch, copies of the last image fill up the last one."""
        size = self.form.batch
        if size is None or len(x) == size:
            return self._checked(x)
        found = []
        for part in x.split(size) if len(x) else ():
            filling = part[-1:].expand(size - len(part), *part.shape[1:])
            found.append([output[: len(part)] for output in self._checked(torch.cat([part, filling]))])
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    def _checked(self, x: Tensor) -> list[Tensor]:
        found = self.computed(x)
        if short := [output for output in found if output.dim() and len(output) != len(x) and self.form.batch is not None]:
            raise ModelError(f"{self.session.path}: expected an output for each of {len(x)} images, got {tuple(short[0].shape)}")
        return found


class OnnxNetwork(Graph):
    """The graph in ONNX Runtime; no gradient passes through it.

    Args:
        session: The file.
        content: sha256 of its content; a buffer, so that it is part of the network's state.
    """

    def __init__(self, session: Session, *, content: str) -> None:
        """See the class."""
        super().__init__(session)
        self.register_buffer("content", torch.tensor(list(bytes.fromhex(content)), dtype=torch.uint8))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor | Outputs:
        """See `Graph.forward`."""
        return super().forward(x.detach())

    def computed(self, x: Tensor) -> list[Tensor]:
        """See `Graph.computed`."""
        found = self.session.run(x.float().cpu().numpy(), self.form)
        return [_as_tensor(output, x) for output in found]


def logs(probabilities: Tensor) -> Tensor:
    """Returns the logs of probabilities, whose softmax they are; a probability of 0 counts as the smallest number."""
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


def applied(network: Callable[[Tensor], object], x: Tensor) -> list[Tensor]:
    """Returns the outputs of a converted graph as a list."""
    found = network(x)
    return list(cast(Sequence[Tensor], found)) if isinstance(found, list | tuple) else [cast(Tensor, found)]


def _in_form(x: Tensor, form: ImageForm) -> Tensor:
    whole = cast(Tensor, Rounded.apply(x)) if form.is_whole else x
    return whole.permute(0, 2, 3, 1) if form.channels_last else whole


def _as_tensor(output: Any, x: Tensor) -> Tensor:
    """Returns an output with floating-point numbers in the format of the images, on their device."""
    tensor = torch.from_numpy(output)
    return tensor.to(x.device, x.dtype) if tensor.is_floating_point() else tensor.to(x.device)
