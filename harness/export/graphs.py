"""The deployment graph: from the pixels of a decoded image to class probabilities."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from harness.export.metadata import Resize


class DeployGraph(nn.Module):
    """Resize, scaling, normalisation, network and softmax in one module.

    It resizes as the data sets do (`harness.datasets.decoding.resized`): antialiased bilinear in floating point, so that the
    deployed network gets the pixels that were measured.

    Args:
        classifier: Images (N, 3, resolution, resolution) in [0,1] to logits (N, K).
        resolution: Side length in pixels.
        resize: How an image that is not square becomes square.
    """

    def __init__(self, classifier: nn.Module, *, resolution: int, resize: Resize) -> None:
        """See the class."""
        super().__init__()
        self.classifier = classifier
        self.size = (resolution, resolution)
        self.resize = resize

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns probabilities (N, K) for uint8 RGB pixels (N, H, W, 3), 0 to 255."""
        x = pixels.permute(0, 3, 1, 2)
        if self.resize == "crop":
            x = _centre_square(x)
        x = interpolate(x.float(), self.size, mode="bilinear", antialias=True)
        return self.classifier((x / 255).clamp(0, 1)).softmax(dim=1)


def _centre_square(x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    side = torch.sym_min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = x[:, :, top : top + side, left : left + side]
    # Tells the exporter, for which sizes are symbols, that the square is not empty.
    torch._check(square.shape[2] > 0)
    torch._check(square.shape[3] > 0)
    return square
