"""Accuracy and loss of a network on the validation split, clean and under the recipe's threat model."""

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
    """The scores of one epoch's network on the validation split."""

    accuracy: float
    """Share of the clean images that are classified correctly."""
    loss: float
    """Mean cross-entropy of the clean images."""
    predicted_classes: int
    """Number of classes that are predicted at least once; a collapsed network predicts one."""
    robust_accuracy: float | None = None
    """Share of the images that are classified correctly clean and at every iterate of the probe."""
    robust_loss: float | None = None
    """Mean cross-entropy of the first adversarial iterate, else of the last iterate."""

    def rank(self, keep_by: Literal["accuracy", "loss"]) -> tuple[float, float]:
        """Returns the values that rank epochs, under attack where there is one: accuracy then loss, or loss then accuracy.

        A small validation split often gives two epochs the same accuracy; then the loss decides.
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
    """The attack of the validation: PGD from a random start, the same start in every epoch."""

    threat_model: ThreatModel
    steps: int

    @torch.enable_grad()
    def attack(self, network: Network, x: Tensor, y: Tensor, *, start: Tensor) -> tuple[Tensor, Tensor]:
        """Returns which images the attack leaves correct, and their losses; an image is attacked until an iterate succeeds.

        Args:
            network: The network in eval mode, its parameters frozen.
            x: Images (N, 3, H, W) in [0,1].
            y: Labels (N,).
            start: Where to start (N, 3, H, W), in the ball around `x`.

        Returns:
            Which examples are robust (N,), and the cross-entropy (N,) of the first adversarial iterate, else of the last one.
        """
        alpha = REACH / self.steps * float(self.threat_model.eps)
        active = torch.arange(len(x), device=x.device)
        losses = torch.zeros(len(x), device=x.device)
        x_adv = start
        for step in range(self.steps + 1):
            x_adv = x_adv.detach().requires_grad_()
            logits = network(x_adv)
            losses[active] = cross_entropy(logits.detach(), y[active], reduction="none")
            is_correct = logits.argmax(1) == y[active]
            active = active[is_correct]
            if step == self.steps or not len(active):
                break
            (gradient,) = torch.autograd.grad(summed_cross_entropy(logits[is_correct], y[active]), x_adv)
            ahead = x_adv[is_correct] + alpha * steepest(gradient[is_correct], self.threat_model.norm)
            x_adv = self.threat_model.project(ahead, x[active])
        return torch.zeros(len(x), dtype=torch.bool, device=x.device).index_fill(0, active, value=True), losses


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
    """Returns the scores of a network.

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
        robust, robust_losses = correct.clone(), losses.clone()
        if probe is not None:
            # Drawn for misclassified examples too: else an example's start would depend on how many others are correct.
            start = random_start(x, probe.threat_model, generator)
            if correct.any():
                robust[correct], robust_losses[correct] = probe.attack(network, x[correct], y[correct], start=start[correct])
        found = (torch.ones_like(losses), correct, losses, robust, robust_losses)
        sums += torch.stack([values.double().sum() for values in found])
    count, correct_sum, loss, robust_sum, robust_loss = processes.total(sums).tolist()
    return Validation(
        accuracy=correct_sum / count,
        loss=loss / count,
        predicted_classes=int((processes.total(predicted) > 0).sum()),
        robust_accuracy=None if probe is None else robust_sum / count,
        robust_loss=None if probe is None else robust_loss / count,
    )
