"""The base of the training recipes: a specification, and the loss of one batch. `harness.training.loop` does the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from harness.datasets.augment import Augment
from harness.models.network import Network
from harness.registry import Plugin, Registry
from harness.spec import LATER, Spec
from harness.system.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class Optimiser(Spec):
    """The optimiser and its learning-rate schedule, stepped once a batch."""

    name: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with Nesterov momentum."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """The largest learning rate of the schedule."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Weight decay, decoupled in AdamW; not applied to biases and normalisation layers. The default is 0.05 for AdamW and
    0.0005 for SGD."""
    momentum: float = Field(default=0.9, gt=0, lt=1)
    """Momentum of SGD."""
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    """How the learning rate changes over the whole training."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest gradient norm of a step; None does not clip."""


class Progressive(Spec):
    """Progressive resizing: the first epochs use smaller images, on which a pass costs less.

    Source: Tan and Le 2021, https://arxiv.org/abs/2104.00298, section 4; for adversarial training Wong et al. 2020,
    https://arxiv.org/abs/2001.03994, section 5.2.
    """

    epochs: int = Field(ge=1)
    """Epochs on the smaller images; later epochs use the full size."""
    resolution: int = Field(ge=4)
    """Height and width of the smaller images in pixels. Budgets and steps of attacks do not change."""

    def resize(self, x: Tensor, epoch: int) -> Tensor:
        """Returns the images of an epoch: shrunk by an antialiased filter in the first epochs, else `x` itself.

        Args:
            x: Images (N, 3, H, W) in [0,1].
            epoch: The epoch, counted from 1.
        """
        if epoch > self.epochs:
            return x
        return torch.nn.functional.interpolate(x, size=self.resolution, mode="bilinear", antialias=True).clamp(0, 1)


class TrainingBatch(NamedTuple):
    """Examples of one update."""

    x: Tensor
    """Images (N, 3, H, W) in [0,1]."""
    x_adv: Tensor
    """What the recipe's attack returned for them; `x` itself where the recipe has none."""
    y: Tensor
    """Labels (N,)."""
    taught: Tensor | None = None
    """The teacher's predictions for `x`: probabilities (N, K); None without a teacher."""


class Objective(NamedTuple):
    """The loss of a batch, and the logits that it was computed from."""

    loss: Tensor
    """The mean over the batch, a scalar."""
    logits: Tensor
    """Logits (N, K) on `TrainingBatch.x_adv`, from which the training accuracy is computed."""


class Recipe(Plugin, ABC):
    """Base of the training recipes."""

    epochs: int = Field(default=10, ge=1)
    """Passes over the training split."""
    batch_size: int = Field(default=32, ge=1)
    """Examples of one update, over all devices."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Largest number of examples in memory at a time; gradients are accumulated to `batch_size`. Batch norm then
    computes its statistics on the smaller batches."""
    optimiser: Optimiser = Optimiser()
    """Optimiser and schedule."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the label's probability that is spread over all classes."""
    augment: Augment = Augment()
    """Random changes of the training images."""
    class_balance: float = Field(default=0.0, ge=0, le=1, json_schema_extra=LATER)
    """How much more often images of rare classes are drawn: in a class of n images, each in proportion to n to the power of
    minus this. 0 draws every image once an epoch, 1 every class equally often; an epoch has as many images in any case."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay, a step, of an exponential moving average of the weights; the averaged weights are validated and kept. None has
    no average."""
    awp: float | None = Field(default=None, gt=0, le=0.1)
    """Size gamma of an adversarial weight perturbation, relative to each weight tensor's norm; 0.005 in the paper."""
    freeze_batchnorm: bool = False
    """Keep the running statistics of every batch norm unchanged; its scale and shift are trained."""
    keep_by: Literal["accuracy", "loss"] = Field(default="accuracy", json_schema_extra=LATER)
    """The measure on the validation split that chooses the epoch to keep, under attack where the recipe is adversarial:
    accuracy, as in Rice et al. 2020, or cross-entropy, which is more precise on a small split."""
    validation: Literal["held_out", "learned"] = Field(default="held_out", json_schema_extra=LATER)
    """Whether the validation split only chooses the epoch, or is trained on as well. Then it cannot choose: the last epoch is
    kept, and the validation columns of the history are about images that were trained on. For a final training, after
    trainings that held the split out have chosen its fields; not for poisoned data."""
    validate_every: int = Field(default=1, ge=1, json_schema_extra=LATER)
    """Epochs from one validation to the next; the last epoch is always validated. Only validated epochs are kept. The weights
    of an epoch do not depend on this field."""
    progressive: Progressive | None = Field(default=None, json_schema_extra=LATER)
    """Smaller images in the first epochs; None has the full size in all."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after that many epochs without a better one; None never does."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 computes the network in mixed precision: faster on a GPU, slower on most CPUs."""
    compile: bool = False
    """Compile the network with torch.compile, which takes minutes at the start."""
    activation_checkpointing: bool = Field(default=False, json_schema_extra=LATER)
    """Compute activations again in the backward pass, which are else kept from the forward pass: less memory, more time, the same
    updates. Not with `compile`."""

    @model_validator(mode="after")
    def _epochs_fit(self) -> Self:
        if self.progressive is not None and self.progressive.epochs >= self.epochs:
            raise ValueError(f"progressive.epochs: expected fewer than the {self.epochs} epochs, got {self.progressive.epochs}")
        if self.validation == "learned" and self.patience is not None:
            raise ValueError("patience: expected none with validation: learned, which keeps the last epoch")
        if self.compile and self.activation_checkpointing:
            raise ValueError("activation_checkpointing: expected false with compile: true, got true")
        if self.patience is not None and self.patience < self.validate_every:
            raise ValueError(f"patience: expected at least validate_every, {self.validate_every} epochs, got {self.patience}")
        return self

    @abstractmethod
    def loss(self, network: Network, batch: TrainingBatch) -> Objective:
        """Returns the loss that training minimises, with the logits.

        Args:
            network: The network in train mode.
            batch: The examples.
        """

    def cross_entropy(self, logits: Tensor, y: Tensor) -> Tensor:
        """Returns the mean cross-entropy with the recipe's label smoothing."""
        return torch.nn.functional.cross_entropy(logits, y, label_smoothing=self.label_smoothing)


RECIPES: Registry[Recipe] = Registry(
    "recipes",
    {
        "standard": "harness.training.recipes.standard:Standard",
        "pgd": "harness.training.recipes.pgd:PGDTraining",
        "trades": "harness.training.recipes.trades:Trades",
        "fast": "harness.training.recipes.fast:Fast",
    },
)
