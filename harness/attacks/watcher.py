"""The module between an attack and the network: it counts passes and successes, and measures gradients."""

from math import isfinite
from typing import Self, cast

import torch
from torch import Tensor, nn

from harness.attacks.criterion import Correction, Criterion
from harness.attacks.origins import Origins
from harness.attacks.passes import Listener
from harness.records.evidence import StageEvidence
from harness.threat.ball import TOLERANCE, Ball


class Watcher(nn.Module):
    """Passes every forward on to the network, counts it, and measures the gradients that flow back.

    Nothing that the attack sees is changed, so its output is that of the bare network, bit for bit. The network is no
    submodule: modes that the attack sets end here, and BatchNorm goes on with the statistics it was trained to.

    Args:
        model: The network that the attack differentiates.
        x: The original images (N, C, H, W).
        criterion: When an iterate is a success.
        threat_model: Where an iterate must lie.
    """

    listener: Listener | None = None
    """Who is told of each forward pass."""
    by_example: bool = False
    """Whether nothing that is found or counted of an example may depend on the others, see `harness.system.by_example`."""

    def __init__(self, model: nn.Module, x: Tensor, criterion: Criterion, *, threat_model: Ball) -> None:
        """See the class."""
        super().__init__()
        self._networks: tuple[nn.Module, ...] = (model,)  # in a tuple, so that it is no submodule
        self.x, self.criterion, self.threat_model = x, criterion, threat_model
        self.origins = Origins(x, order=threat_model.norm.order, eps=float(threat_model.eps))
        self.anchor = nn.Parameter(x.new_empty(0), requires_grad=False)  # libraries ask the first parameter for the device
        self.forwards = self.backwards = 0
        self.success = self._flags()
        self.certain = self._flags()  # a success in an image of which there is no doubt whose it is
        self.stages: list[str] = []  # of an ensemble, those that have begun
        self.stage_of = torch.full((len(x),), -1, device=x.device)  # the stage that found the adversarial
        self.measured = torch.zeros(len(x), dtype=torch.long, device=x.device)
        self.repeated = (self.origins.order, 0)  # the examples of the last gradient, and how many of them are not counted yet
        self.zero_gradients = torch.zeros(len(x), dtype=torch.long, device=x.device)
        self.nonfinite_gradients = self._flags()
        self.training = False
        self.mode_switches = 0

    @property
    def model(self) -> nn.Module:
        """The network that the attack differentiates."""
        return self._networks[0]

    @property
    def gradients(self) -> Tensor:
        """(N,) how many gradients there were of each example."""
        self._count_gradients(self.origins.order[:0])
        return self.measured

    @property
    def blind(self) -> Tensor:
        """(N,) whether every gradient of an example was zero in every pixel; False where there was none."""
        gradients = self.gradients
        return (gradients > 0) & (self.zero_gradients == gradients)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode, and counts who asked for another one."""
        self.mode_switches += mode
        return self

    def begin(self, stage: str) -> None:
        """Notes that an ensemble goes on to that attack: further successes are its own."""
        self.stages.append(stage)

    def successes_by_stage(self, is_adversarial: Tensor) -> dict[str, StageEvidence]:
        """Returns for each stage that has begun how many of the examples `is_adversarial`, a mask (N,), it made adversarial."""
        if not self.stages:
            return {}
        found, stages = self.stage_of[is_adversarial], dict.fromkeys(self.stages, StageEvidence())
        for stage, count in zip(self.stages, found[found >= 0].bincount(minlength=len(self.stages)).tolist(), strict=True):
            stages[stage] += StageEvidence(adversarial=count)
        return stages

    def active(self) -> Tensor | None:
        """Returns which examples of the last batch, a mask (n,), the attack should go on with; None for all of them.

        An attack need not ask. One that does passes those alone from then on, in their order, and returns what `completed`
        makes of them.
        """
        return None

    def go_on_with(self, rows: Tensor) -> None:
        """Is told that the attack passes the examples `rows` (n,) from now on, in this order."""
        self.origins.order = rows

    def completed(self, x: Tensor, rows: Tensor) -> Tensor:
        """Returns images (N, C, H, W): `x` (n, C, H, W) as the examples `rows` (n,), and the kept adversarials of all others."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Returns the network's logits for (n, C, H, W), n not necessarily N."""
        rows, _ = self.origins.match(x)
        logits = self._pass(x, rows)
        with torch.no_grad():
            correction = self._see(x.detach(), rows, logits.detach())
        self._report(x)
        return logits if correction is None else correction.of(logits)

    @property
    def active_count(self) -> int:
        """Number of examples without an adversarial, as far as that is known without a look at a tensor."""
        return len(self.x)

    def _report(self, x: Tensor) -> None:
        """Tells the listener of a pass of the images that the attack asked for."""
        if self.listener is not None:
            self.listener.passed(len(x), self.active_count, differentiated=torch.is_grad_enabled() and x.requires_grad)

    def _pass(self, x: Tensor, rows: Tensor) -> Tensor:
        self.forwards += len(x)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return cast(Tensor, self.model(x))
        entry = x.view_as(x)
        entry.register_hook(lambda gradient: self._measure(gradient, rows))
        logits = cast(Tensor, self.model(entry))
        return logits if logits.requires_grad else logits + no_gradient(entry)

    def _measure(self, gradient: Tensor, rows: Tensor) -> None:
        self.backwards += len(rows)
        self._count_gradients(rows)
        gradient, image = gradient.detach(), (1, 2, 3)
        total = gradient.sum(image)  # one that is finite and not 0 proves the gradient to be both
        doubtful = [row for row, value in enumerate(total.tolist()) if value == 0 or not isfinite(value)]
        if doubtful:
            largest, rows = gradient[doubtful].abs().amax(image), rows[doubtful]
            self.zero_gradients.index_add_(0, rows, (largest == 0).long())
            self.nonfinite_gradients[rows] |= ~largest.isfinite()

    def _count_gradients(self, rows: Tensor) -> None:
        """Counts gradients of the examples `rows` (n,); mostly they are of the same examples as before, which takes one addition.

        A list of all of them would grow with the steps, and small tensors that stay keep the memory around them from reuse.
        """
        last, times = self.repeated
        if rows is not last and times:
            self.measured += times * last.bincount(minlength=len(self.x))
        self.repeated = (rows, times + 1 if rows is last else 1)

    def _see(self, x: Tensor, rows: Tensor, logits: Tensor) -> Correction | None:
        """Looks at a batch (n, C, H, W) and its logits (n, K); returns what the attack is told instead of some of them."""
        wrong = self.criterion.is_adversarial(logits, rows).nonzero().flatten()
        if len(wrong):
            inside = self.threat_model.violation(x[wrong], self.x[rows[wrong]]) <= TOLERANCE
            self._note(rows[wrong[inside]])
            self.certain[rows[wrong[inside & self.origins.last[1][wrong]]]] = True
        return None

    def _note(self, rows: Tensor) -> None:
        """Notes that an adversarial of the examples `rows` (n,) was found."""
        self.stage_of[rows[~self.success[rows]]] = len(self.stages) - 1
        self.success[rows] = True

    def _flags(self) -> Tensor:
        return torch.zeros(len(self.x), dtype=torch.bool, device=self.x.device)


def first_of_each(rows: Tensor) -> Tensor:
    """Returns the positions, rising, at which a value occurs for the first time: an attack may pass an example twice."""
    first: dict[int, int] = {}
    for position, row in enumerate(rows.tolist()):
        first.setdefault(row, position)
    return torch.tensor(list(first.values()), dtype=torch.long, device=rows.device)


def no_gradient(x: Tensor) -> Tensor:
    """Returns zeros (n, 1) that depend on `x`, so that a gradient of zero reaches it instead of an error."""
    return x.flatten(1)[:, :1].nan_to_num() * 0
