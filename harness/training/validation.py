"""How good a network is on the validation split, clean and under the recipe's threat model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.models.network import Network
from harness.threat import ThreatModel
from harness.training.processes import Processes
from harness.training.recipes.adversarial import REACH
from harness.training.recipes.inner import random_start, steepest, summed_cross_entropy


@dataclass(frozen=True)
class Validation:
    """What one epoch's network does on the validation split."""

    accuracy: float
    """Share of the clean images that is classified correctly."""
    loss: float
    """Mean cross-entropy of the clean images."""
    predicted_classes: int
    """Number of classes that are predicted at least once; a collapsed network predicts one."""
    robust_accuracy: float | None = None
    """Share that is correct when clean and at every iterate of the probe."""
    robust_loss: float | None = None
    """Mean cross-entropy of the image that broke an example first, else of the last iterate."""

    def rank(self, keep_by: Literal["accuracy", "loss"]) -> tuple[float, float]:
        """Returns what epochs are compared by, under attack where there is one: accuracy, then loss; or the other way round.

        A small validation split often gives two epochs the same accuracy; the loss tells them apart.
        """
        accuracy, loss = self.accuracy, self.loss
        if self.robust_accuracy is not None and self.robust_loss is not None:
            accuracy, loss = self.robust_accuracy, self.robust_loss
        return (accuracy, -loss) if keep_by == "accuracy" else (-loss, accuracy)

    def columns(self) -> dict[str, float]:
        """Returns the columns of the history."""
        found = {
            "validation_accuracy": self.accuracy,
            "validation_loss": self.loss,
            "predicted_classes": float(self.predicted_classes),
        }
        if self.robust_accuracy is not None and self.robust_loss is not None:
            found |= {"validation_robust_accuracy": self.robust_accuracy, "validation_robust_loss": self.robust_loss}
        return found


@dataclass(frozen=True)
class Probe:
    """The attack that validates: PGD from a random start, the same start in every epoch."""

    threat_model: ThreatModel
    steps: int

    @torch.enable_grad()
    def attack(self, network: Network, x: Tensor, y: Tensor, *, start: Tensor) -> tuple[Tensor, Tensor]:
        """Attacks images; one is broken as soon as an iterate fools the network, and is left alone from then on.

        Args:
            network: The network in eval mode, its parameters frozen.
            x: Images (N, 3, H, W) in [0,1].
            y: Labels (N,).
            start: Where to start (N, 3, H, W), in the ball around `x`.

        Returns:
            Which examples stand (N,), and the cross-entropy (N,) of what broke them, else of the last iterate.
        """
        alpha = REACH / self.steps * float(self.threat_model.eps)
        standing = torch.arange(len(x), device=x.device)
        losses = torch.zeros(len(x), device=x.device)
        x_adv = start
        for step in range(self.steps + 1):
            x_adv = x_adv.detach().requires_grad_()
            logits = network(x_adv)
            losses[standing] = cross_entropy(logits.detach(), y[standing], reduction="none")
            stands = logits.argmax(1) == y[standing]
            standing = standing[stands]
            if step == self.steps or not len(standing):
                break
            (gradient,) = torch.autograd.grad(summed_cross_entropy(logits[stands], y[standing]), x_adv)
            ahead = x_adv[stands] + alpha * steepest(gradient[stands], self.threat_model.norm)
            x_adv = self.threat_model.project(ahead, x[standing])
        return torch.zeros(len(x), dtype=torch.bool, device=x.device).index_fill(0, standing, value=True), losses


@torch.no_grad()
def validate(
    network: Network,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    num_classes: int,
    probe: Probe | None,
    processes: Processes,
    generator: torch.Generator,
) -> Validation:
    """Scores a network.

    Args:
        network: The network in eval mode, its parameters frozen.
        batches: This process's share of the split: images (B, 3, H, W) and labels (B,) on its device.
        num_classes: The number of classes K.
        probe: The attack, or None to score clean images only.
        processes: The processes that share the split.
        generator: Source of the attack's random starts.
    """
    sums = torch.zeros(5, dtype=torch.float64, device=processes.device)
    predicted = torch.zeros(num_classes, dtype=torch.int64, device=processes.device)
    for x, y in batches:
        logits = network(x)
        losses = cross_entropy(logits, y, reduction="none")
        correct = logits.argmax(1) == y
        predicted += logits.argmax(1).bincount(minlength=num_classes)
        standing, robust_losses = correct.clone(), losses.clone()
        if probe is not None:
            # Drawn for the wrong examples too, or an example's start would depend on which others this epoch gets right.
            start = random_start(x, probe.threat_model, generator)
            if correct.any():
                standing[correct], robust_losses[correct] = probe.attack(network, x[correct], y[correct], start=start[correct])
        found = (torch.ones_like(losses), correct, losses, standing, robust_losses)
        sums += torch.stack([values.double().sum() for values in found])
    count, correct_sum, loss, standing_sum, robust_loss = processes.total(sums).tolist()
    return Validation(
        accuracy=correct_sum / count,
        loss=loss / count,
        predicted_classes=int((processes.total(predicted) > 0).sum()),
        robust_accuracy=None if probe is None else standing_sum / count,
        robust_loss=None if probe is None else robust_loss / count,
    )
