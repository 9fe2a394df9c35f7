"""torchattacks' PGD with less memory traffic."""

import torch
import torchattacks
from torch import Tensor
from torch.nn.functional import cross_entropy


class InPlacePGD(torchattacks.PGD):  # type: ignore[misc]  # the library has no types
    """torchattacks' PGD in Linf, its arithmetic done in place: the same images bit for bit.

    Between two passes of the network the library fills seven fresh tensors of the size of the batch, which a CPU must
    read and write once more each.
    """

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Returns perturbed images; see `torchattacks.PGD.forward`."""
        wanted = self.get_target_label(images, labels) if self.targeted else labels
        x_adv = images.clone().detach()
        if self.random_start:
            x_adv.add_(torch.empty_like(x_adv).uniform_(-self.eps, self.eps)).clamp_(0, 1)
        for _ in range(self.steps):
            x_adv.requires_grad_()
            loss = cross_entropy(self.get_logits(x_adv), wanted)
            (gradient,) = torch.autograd.grad(-loss if self.targeted else loss, x_adv)
            x_adv = x_adv.detach()
            x_adv.add_(gradient.sign_(), alpha=self.alpha)
            x_adv.sub_(images).clamp_(-self.eps, self.eps).add_(images).clamp_(0, 1)
        return x_adv
