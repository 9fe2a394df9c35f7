"""Which examples had no gradients to go by, over restarts and stages."""

import torch

from harness.attacks.faults import GradientFaults

X = torch.zeros(3, 3, 2, 2)
ALL = torch.arange(3)


def flags(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)


def faults(asked: torch.Tensor, zero: torch.Tensor, nonfinite: torch.Tensor | None = None) -> GradientFaults:
    found = GradientFaults.before(X)
    found.note(ALL, asked=asked, zero=zero & asked, nonfinite=flags(0, 0, 0) if nonfinite is None else nonfinite)
    return found


def test_attack_that_asks_for_no_gradient_has_no_zero_gradients() -> None:
    assert GradientFaults.before(X).evidence.zero_gradients == 0
    assert faults(flags(0, 0, 0), flags(0, 0, 0)).evidence.zero_gradients == 0
    assert GradientFaults.before(X).then(GradientFaults.before(X)).evidence.zero_gradients == 0


def test_an_example_counts_where_all_stages_with_gradients_had_zeros() -> None:
    first, second = faults(flags(1, 1, 1), flags(1, 1, 0)), faults(flags(1, 1, 1), flags(1, 0, 1))
    black_box = faults(flags(0, 0, 0), flags(0, 0, 0))
    for joined in (first.then(second), black_box.then(first).then(second), first.then(black_box).then(second)):
        assert joined.evidence.zero_gradients == 1
        assert joined.zero.tolist()[0]


def test_one_gradient_that_is_not_finite_is_enough() -> None:
    first = faults(flags(1, 1, 1), flags(0, 0, 0), flags(0, 1, 0))
    assert first.then(faults(flags(1, 1, 1), flags(0, 0, 0))).evidence.nonfinite_gradients == 1


def test_batches_join_and_split_again() -> None:
    first, second = faults(flags(1, 1, 1), flags(1, 1, 0)), faults(flags(1, 1, 1), flags(1, 0, 0))
    joined = GradientFaults.joined([first, second])
    assert joined.evidence.zero_gradients == 3
    assert joined.at(torch.arange(3, 6)).zero.tolist() == second.zero.tolist()
