"""What an attack is given, and what the frame found: values, which no other module of the frame is needed for."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from harness.attacks.faults import GradientFaults
from harness.attacks.passes import Listener
from harness.errors import HarnessError
from harness.records.evidence import Evidence
from harness.system.modes import ModuleLists


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack achieved on one batch, as judged by the reference model in float32."""

    x_adv: Tensor
    """Images (N, C, H, W) inside ball and bounds: the adversarial where there is one, else the attack's last image."""
    logits: Tensor
    """Logits (N, K) of the reference model on `x_adv`."""
    is_adversarial: Tensor
    """(N,) whether `x_adv` is misclassified, or classified as the target."""
    distance: Tensor
    """(N,) size of the perturbation in the threat model's norm."""
    evidence: Evidence
    """Passes, gradients and violations, for counts and sanity checks."""
    faults: GradientFaults
    """Which examples had no gradients to go by; the evidence counts them already."""

    def at(self, rows: Tensor) -> "AttackResult":
        """Returns the result of the examples `rows`, a mask or positions; the evidence stays that of the whole batch."""
        return AttackResult(
            self.x_adv[rows],
            self.logits[rows],
            self.is_adversarial[rows],
            self.distance[rows],
            self.evidence,
            self.faults.at(rows),
        )


@dataclass(frozen=True, eq=False)
class NearestResult:
    """The smallest perturbations that a minimum-norm attack found on one batch."""

    x_adv: Tensor
    """Images (N, C, H, W): the nearest adversarial, else the image that the attack returned."""
    distance: Tensor
    """(N,) distance of the nearest adversarial; inf where none was found."""
    evidence: Evidence
    faults: GradientFaults

    def at(self, rows: Tensor) -> "NearestResult":
        """Returns the result of the examples `rows`, a mask or positions; the evidence stays that of the whole batch."""
        return NearestResult(self.x_adv[rows], self.distance[rows], self.evidence, self.faults.at(rows))


@dataclass(frozen=True, eq=False)
class AttackInput:
    """A network, and the examples of one batch to attack.

    Raises:
        HarnessError: if `x` are no images in [0,1], or the labels do not fit them.
    """

    model: nn.Module
    """The reference model, images (N, C, H, W) in [0,1] to logits (N, K); it alone decides what counts."""
    x: Tensor
    """Images (N, C, H, W), float32 in [0,1]."""
    y: Tensor
    """True labels (N,), int64, or the wanted classes where the threat model is targeted."""
    form: nn.Module | None = None
    """The inference form, which attacks differentiate; the reference model if not given."""
    held: ModuleLists | None = None
    """What `guarded` gives out for both, where the caller guards them for all batches of a sweep."""
    listener: Listener | None = None
    """Who is told of each forward pass of an attack; nobody by default."""
    hashes: tuple[str, ...] | None = None
    """Content hashes (N,) of the images where every random choice is keyed by the example, see `harness.system.by_example`."""

    def __post_init__(self) -> None:
        """Checks the examples."""
        if self.x.dim() != 4 or self.x.dtype != torch.float32:
            raise HarnessError(f"attack: expected float32 images (N, C, H, W), got {self.x.dtype} of shape {tuple(self.x.shape)}")
        if len(self.x):
            low, high = map(float, self.x.aminmax())
            if not (low >= 0 and high <= 1):
                raise HarnessError(f"attack: expected images in [0,1], got values from {low:.4g} to {high:.4g}")
        if self.y.shape != self.x.shape[:1] or self.y.dtype != torch.int64:
            raise HarnessError(f"attack: expected int64 labels ({len(self.x)},), got {self.y.dtype} {tuple(self.y.shape)}")
        if self.hashes is not None and len(self.hashes) != len(self.x):
            raise HarnessError(f"attack: expected {len(self.x)} content hashes, got {len(self.hashes)}")

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of images that the network computes in; that of `x` where it says nothing."""
        return getattr(self.form, "memory_format", torch.preserve_format)

    def at(self, rows: Tensor) -> "AttackInput":
        """Returns the same network with the examples `rows` (n,) only, a mask or positions."""
        hashes = self.hashes
        if hashes is not None:
            places = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
            hashes = tuple(hashes[place] for place in places.tolist())
        return replace(self, x=self.x[rows], y=self.y[rows], hashes=hashes)
