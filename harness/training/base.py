"""What a training recipe writes: a specification, the loss of one batch, and how a checkpoint is chosen."""

from typing import Literal

from pydantic import Field

from harness.datasets.augment import Augment
from harness.registry import Plugin, Registry
from harness.spec import Spec


class Optimiser(Spec):
    """The optimiser and its learning-rate schedule, stepped once a batch."""

    name: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with Nesterov momentum."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """The largest learning rate of the schedule."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Decoupled weight decay; not applied to biases and normalisation layers."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD."""
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    """How the learning rate moves over the whole training."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest gradient norm of a step, or none."""


RECIPES: Registry["Recipe"] = Registry(
    "recipes",
    {
        "standard": "harness.training.standard:Standard",
        "pgd": "harness.training.pgd:PGDTraining",
    },
)


class Recipe(Plugin):
    """Base of the training recipes."""

    epochs: int = Field(default=10, ge=1)
    """Passes over the training split."""
    batch_size: int = Field(default=32, ge=1)
    """Examples of one update."""
    optimiser: Optimiser = Optimiser()
    """Optimiser and schedule."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the label's probability that is spread over all classes."""
    augment: Augment = Augment()
    """Random changes of the training images."""
