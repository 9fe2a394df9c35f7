"""Results of examples whose attack goes on at smaller budgets: each is noted once, when it is known to be the smallest."""

import torch
from torch import Tensor

from harness.attacks.faults import GradientFaults
from harness.attacks.results import AttackResult
from harness.records.evidence import Evidence


class HeldResults:
    """The results of some examples, without their evidence; they have memory of their own."""

    def __init__(self) -> None:
        """See the class."""
        self._indices: list[int] = []
        self._result: AttackResult | None = None

    def put(self, indices: Tensor, result: AttackResult) -> None:
        """Keeps the results of the examples (n,), of which none is kept yet."""
        self._indices += indices.tolist()
        self._result = result if self._result is None else _joined(self._result, result)

    def take(self, indices: Tensor) -> tuple[Tensor, AttackResult] | None:
        """Returns the kept ones of the examples (n,) with their results, which it forgets; None where none is kept."""
        places = {index: place for place, index in enumerate(self._indices)}
        taken = {index: places.pop(index) for index in indices.tolist() if index in places}
        if self._result is None or not taken:
            return None
        found = self._result.at(torch.tensor([*taken.values()]))
        self._result = self._result.at(torch.tensor([*places.values()])) if places else None
        self._indices = [*places]
        return torch.tensor([*taken]), found


def _joined(left: AttackResult, right: AttackResult) -> AttackResult:
    return AttackResult(
        x_adv=torch.cat([left.x_adv, right.x_adv]),
        logits=torch.cat([left.logits, right.logits]),
        is_adversarial=torch.cat([left.is_adversarial, right.is_adversarial]),
        distance=torch.cat([left.distance, right.distance]),
        evidence=Evidence(),
        faults=GradientFaults.joined([left.faults, right.faults]),
    )
