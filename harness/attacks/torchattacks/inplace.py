"""torchattacks' PGD with less memory traffic."""

import torch
import torchattacks
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.attacks.gradients import bounded_margins
from harness.attacks.watcher import Watcher
from harness.system.memory import cached_parts


class InPlacePGD(torchattacks.PGD):  # type: ignore[misc]  # the library has no types
    """torchattacks' PGD in Linf, its arithmetic done in place: the same images bit for bit.

    Between two passes of the network the library fills seven fresh tensors of the size of the batch, which a CPU must
    read and write once more each; here it goes a few images at a time, which stay in its cache. An
    example with an adversarial takes no more steps, and no more time: the image that the watcher kept is returned. The loss
    is the library's mean, of logits with `bounded_margins`; the sum where no example's result may depend on the others.
    """

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Returns perturbed images; see `torchattacks.PGD.forward`."""
        wanted = self.get_target_label(images, labels) if self.targeted else labels
        x_adv, rows = self._start(images), torch.arange(len(images), device=images.device)
        count = len(images)
        share = 1 if isinstance(self.model, Watcher) and self.model.by_example else count
        for _ in range(self.steps):
            self._step(x_adv, self._gradient(x_adv, wanted, count=share), images)
            active = self.model.active() if isinstance(self.model, Watcher) else None
            if active is not None:
                x_adv, images, wanted, rows = _only(active, x_adv, images, wanted, rows)
        return x_adv if len(rows) == count else self.model.completed(x_adv, rows)

    def _start(self, images: Tensor) -> Tensor:
        """Returns where the steps begin: random points of the balls, or the images themselves."""
        if not self.random_start:
            return images.clone()
        x_adv = torch.empty_like(images).uniform_(-self.eps, self.eps)
        for moved, image in cached_parts(x_adv, images):
            moved.add_(image).clamp_(0, 1)
        return x_adv

    def _gradient(self, x_adv: Tensor, wanted: Tensor, *, count: int) -> Tensor:
        """Returns the gradient of the mean loss of a batch of `count` examples with respect to those in `x_adv`."""
        x_adv = x_adv.detach().requires_grad_()
        logits = self.get_logits(x_adv) if self.targeted else bounded_margins(self.get_logits(x_adv))
        loss = cross_entropy(logits, wanted, reduction="sum") / count
        (gradient,) = torch.autograd.grad(-loss if self.targeted else loss, x_adv)
        return gradient

    def _step(self, x_adv: Tensor, gradient: Tensor, images: Tensor) -> None:
        """Moves the images `x_adv` in place up the gradient, and back into the balls around `images`."""
        for moved, slope, image in cached_parts(x_adv, gradient, images):
            moved.add_(slope.sign_(), alpha=self.alpha).sub_(image).clamp_(-self.eps, self.eps).add_(image).clamp_(0, 1)


def _only(rows: Tensor, *batches: Tensor) -> tuple[Tensor, ...]:
    """Returns the examples `rows`, a mask (n,), of several batches (n, ...)."""
    positions = rows.nonzero().flatten()
    return tuple(batch[positions] for batch in batches)
