"""torchattacks' PGD with less memory traffic."""

import torch
import torchattacks
from torch import Tensor
from torch.nn.functional import cross_entropy

CACHED = 2**18
"""Numbers that a step's arithmetic works on at a time on a CPU: three tensors of so many float32 fit a core's cache."""


class InPlacePGD(torchattacks.PGD):  # type: ignore[misc]  # the library has no types
    """torchattacks' PGD in Linf, its arithmetic done in place: the same images bit for bit.

    Between two passes of the network the library fills seven fresh tensors of the size of the batch, which a CPU must
    read and write once more each; here it goes a few images at a time, which stay in its cache. The loss is the library's
    mean: a sum would save gradients from underflow at margins of up to the logarithm of the batch's size more, of about
    100; examples without any gradient are counted.
    """

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Returns perturbed images; see `torchattacks.PGD.forward`."""
        wanted = self.get_target_label(images, labels) if self.targeted else labels
        x_adv = images.clone().detach()
        part = max(1, CACHED // images[0].numel()) if images.device.type == "cpu" else len(images)
        if self.random_start:
            x_adv.add_(torch.empty_like(x_adv).uniform_(-self.eps, self.eps)).clamp_(0, 1)
        for _ in range(self.steps):
            x_adv.requires_grad_()
            loss = cross_entropy(self.get_logits(x_adv), wanted)
            (gradient,) = torch.autograd.grad(-loss if self.targeted else loss, x_adv)
            x_adv = x_adv.detach()
            for moved, slope, image in zip(x_adv.split(part), gradient.split(part), images.split(part), strict=True):
                moved.add_(slope.sign_(), alpha=self.alpha).sub_(image).clamp_(-self.eps, self.eps).add_(image).clamp_(0, 1)
        return x_adv
