"""Sums over the updates of an epoch."""

from dataclasses import dataclass

import torch

from harness.training.processes import Processes


@dataclass(frozen=True)
class Update:
    """The numbers of one update, summed over the examples of all processes."""

    examples: int
    """Number of examples."""
    loss: float
    """Sum of the losses."""
    correct: int
    """Number of examples classified correctly, under the recipe's attack if it has one."""
    attack_seconds: float
    """Seconds of the attack in this process."""


class Totals:
    """Sums over the updates of an epoch."""

    def __init__(self, processes: Processes) -> None:
        """See the class."""
        self.processes = processes
        self.examples, self.loss, self.correct, self.attack_seconds = 0, 0.0, 0.0, 0.0
        self.clean_examples, self.clean_correct = 0, 0

    def add(self, update: Update) -> None:
        """Adds an update."""
        self.examples += update.examples
        self.loss += update.loss
        self.correct += update.correct
        self.attack_seconds += update.attack_seconds

    def add_clean(self, correct: int, examples: int) -> None:
        """Adds clean images of this process."""
        self.clean_examples += examples
        self.clean_correct += correct

    def columns(self) -> dict[str, float]:
        """Returns the means, as columns of the history."""
        found = {"train_loss": self.loss / self.examples, "train_accuracy": self.correct / self.examples}
        if self.clean_examples:
            correct, examples = self.processes.total(
                torch.tensor([self.clean_correct, self.clean_examples], dtype=torch.float64, device=self.processes.device)
            ).tolist()
            found["train_clean_accuracy"] = correct / examples
        return found
