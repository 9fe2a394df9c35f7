import gc
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
import torch
import torchattacks
from torch import Tensor, nn

from harness.attacks.base import Attack
from harness.attacks.frame import restart_seed
from harness.datasets.tensors import TensorSplit
from harness.errors import HarnessError
from harness.evaluation.clean import evaluate_clean
from harness.evaluation.run import batch_seed
from harness.evaluation.settings import SweepSettings
from harness.evaluation.sweep import sweep
from harness.models.layout import AS_GIVEN, Inference
from harness.records.evidence import Evidence
from harness.storage.outcomes import load_outcome, save_outcome
from harness.system.seeds import global_seed
from harness.threat import ThreatModel
from tests.attacks.nets import attack_of, threat

WRONG = [3, 17, 30]
BUDGETS = tuple(threat(eps) for eps in ("1/255", "4/255", "16/255"))


class Idle(Attack):
    """Finds nothing."""

    name: Literal["idle"] = "idle"

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        model(x)
        return x.clone()


class Recording(Idle):
    """Notes the sizes of the batches that it gets."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        SEEN[threat_model.eps].append(len(x))
        return x.clone()


class Empty:
    labels = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return 0


SEEN: dict[Fraction, list[int]] = defaultdict(list)


def test_number_of_batches_does_not_count_for_how_often_a_network_is_walked(net: nn.Module, split: TensorSplit) -> None:
    class Walkable(nn.Sequential):
        def named_modules(self, *args: object, **kwargs: object) -> Iterator[tuple[str, nn.Module]]:
            walks.append(self)
            return super().named_modules(*args, **kwargs)

    walks: list[nn.Module] = []
    counts = []
    for batch_size in (5, 40):
        walks.clear()
        sweep(Walkable(net), split, SweepSettings(Idle(), BUDGETS), batch_size=batch_size)
        counts.append(len(walks))
    assert counts[0] == counts[1] > 0


def test_clean_outcome_holds_the_nets_logits(net: nn.Module, split: TensorSplit) -> None:
    outcome = evaluate_clean(net.train(), split, batch_size=16)
    assert net.training
    assert np.allclose(outcome.clean_logits, net.eval()(split.images).detach().numpy(), atol=1e-5)
    assert (outcome.clean_logits.argmax(1) != outcome.labels).nonzero()[0].tolist() == WRONG
    assert not outcome.conditions[0].is_adversarial.any()
    assert outcome.conditions[0].forwards == len(split)


def test_without_probes_nothing_is_found_out_about_the_network(net: nn.Module, split: TensorSplit) -> None:
    assert evaluate_clean(net, split, batch_size=16).conditions[0].evidence.network.probed > 1
    assert evaluate_clean(net, split, batch_size=16, probes=0).conditions[0].evidence == Evidence(
        batch_size=16, forwards=len(split)
    )


def test_network_without_gradients_is_scored_and_probed(net: nn.Module, split: TensorSplit) -> None:
    class Stepped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return net(x).detach().round()

    condition = evaluate_clean(Stepped(), split, batch_size=16).conditions[0]
    assert condition.logits.shape == (40, 4)
    assert condition.evidence.network.unbounded_failures == condition.evidence.network.probed > 0


def test_nested_curve_never_rises_and_every_success_is_real(net: nn.Module, split: TensorSplit) -> None:
    images_at: dict[Fraction, Tensor] = {threat.eps: torch.full_like(split.images, torch.nan) for threat in BUDGETS}

    def keep(eps: Fraction, indices: np.ndarray, x: Tensor) -> None:
        assert images_at[eps][indices].isnan().all()
        images_at[eps][indices] = x

    outcome = sweep(net, split, SweepSettings(attack_of("pgd"), BUDGETS), batch_size=16, keep=keep)
    assert sum(condition.is_adversarial.sum() for condition in outcome.conditions) > 0
    for smaller, larger in zip(outcome.conditions, outcome.conditions[1:], strict=False):
        assert (smaller.is_adversarial <= larger.is_adversarial).all()
    for threat_model, condition in zip(BUDGETS, outcome.conditions, strict=True):
        x = images_at[threat_model.eps]
        logits = net(x).detach()
        assert threat_model.violation(x, split.images).max() <= 1e-6
        assert np.allclose(logits.numpy(), condition.logits, atol=1e-4)
        assert (logits.argmax(1).numpy()[condition.is_adversarial] != outcome.labels[condition.is_adversarial]).all()
        assert np.allclose(condition.distance, threat_model.distance(x, split.images).numpy(), atol=1e-6)
        assert not condition.is_adversarial[WRONG].any()
        assert torch.equal(x[WRONG], split.images[WRONG])


def test_smallest_eps_is_the_first_budget_that_fools(net: nn.Module, split: TensorSplit) -> None:
    outcome = sweep(net, split, SweepSettings(attack_of("pgd"), BUDGETS), batch_size=16)
    eps = np.array([float(threat_model.eps) for threat_model in BUDGETS], dtype=np.float32)
    is_adversarial = np.stack([condition.is_adversarial for condition in outcome.conditions])
    expected = np.where(is_adversarial.any(axis=0), eps[is_adversarial.argmax(axis=0)], np.inf)
    assert np.array_equal(outcome.smallest_eps, expected.astype(np.float32))


def test_active_examples_are_packed_into_full_batches_and_wrong_examples_never_attacked(
    net: nn.Module, split: TensorSplit
) -> None:
    SEEN.clear()
    sweep(net, split, SweepSettings(Recording(), BUDGETS[:2]), batch_size=16)
    assert [SEEN[threat_model.eps] for threat_model in BUDGETS[:2]] == [[16, 16, 5], [16, 16, 5]]


class Generated:
    """Images that exist only while they are used, and a count of how often each was asked for."""

    def __init__(self, count: int) -> None:
        self.labels = np.zeros(count, dtype=np.int64)
        self.asked = np.zeros(count, dtype=int)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.asked[index] += 1
        return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(index)), int(self.labels[index])


class Weighing(Idle):
    """Notes the largest number of pixels in memory at any time."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, *, threat_model: ThreatModel, generator: torch.Generator) -> Tensor:
        pixels = {t.data_ptr(): t.numel() for t in gc.get_objects() if isinstance(t, Tensor) and t.shape[1:] == (3, 8, 8)}
        PIXELS.append(sum(pixels.values()))
        return x.clone()


PIXELS: list[int] = []


class Certain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.sum(dim=(1, 2, 3)) + 1, 0 * x.sum(dim=(1, 2, 3))], dim=1)


def test_images_are_read_once_and_memory_does_not_grow_with_their_number() -> None:
    largest = []
    gc.collect()
    gc.freeze()  # what exists already need not be looked through
    try:
        for count in (64, 320):
            PIXELS.clear()
            split = Generated(count)
            sweep(Certain(), split, SweepSettings(Weighing(), BUDGETS, inference=AS_GIVEN), batch_size=16)
            assert split.asked[2:].max() == 1
            largest.append(max(PIXELS))
    finally:
        gc.unfreeze()
    assert largest[0] == largest[1]


def test_nested_equals_independent_where_nothing_is_pruned(net: nn.Module, split: TensorSplit) -> None:
    nested, independent = (
        sweep(net, split, SweepSettings(Idle(), BUDGETS, protocol=protocol), batch_size=8)
        for protocol in ("nested", "independent")
    )
    for left, other in zip(nested.conditions, independent.conditions, strict=True):
        assert np.array_equal(left.is_adversarial, other.is_adversarial)
        assert np.allclose(left.logits, other.logits, atol=1e-5)


def test_first_budget_of_nested_equals_independent(net: nn.Module, split: TensorSplit) -> None:
    everything = evaluate_clean(net, split, batch_size=8).clean_logits.argmax(1)
    correct = TensorSplit(split.images, everything)
    nested, independent = (
        sweep(net, correct, SweepSettings(attack_of("pgd"), BUDGETS[:1], protocol=protocol), batch_size=8)
        for protocol in ("nested", "independent")
    )
    assert np.array_equal(nested.conditions[0].logits, independent.conditions[0].logits)
    assert np.array_equal(nested.conditions[0].is_adversarial, independent.conditions[0].is_adversarial)


def test_independent_without_watching_is_a_plain_library_loop_bit_for_bit(net: nn.Module, split: TensorSplit) -> None:
    attack, kept = attack_of("pgd", steps=4), {threat.eps: torch.zeros_like(split.images) for threat in BUDGETS}

    def keep(eps: Fraction, indices: np.ndarray, x: Tensor) -> None:
        kept[eps][indices] = x

    outcome = sweep(
        net,
        split,
        SweepSettings(attack, BUDGETS, protocol="independent", best_of_iterates=False, seed=7),
        batch_size=16,
        keep=keep,
    )
    for threat_model, condition in zip(BUDGETS, outcome.conditions, strict=True):
        eps, plain = float(threat_model.eps), []
        for number, start in enumerate(range(0, len(split), 16)):
            x, y = split.images[start : start + 16], torch.from_numpy(split.labels[start : start + 16])
            with global_seed(restart_seed(batch_seed(7, attack, threat_model, number), 0)):
                plain.append(torchattacks.PGD(net, eps=eps, alpha=eps / 4, steps=4)(x, y))
        assert torch.equal(kept[threat_model.eps], torch.cat(plain))
        assert np.array_equal(condition.is_adversarial[WRONG], [False] * 3)


def test_same_seed_gives_the_same_outcome_and_another_seed_another(net: nn.Module, split: TensorSplit) -> None:
    def logits(seed: int) -> np.ndarray:
        return sweep(net, split, SweepSettings(attack_of("random_noise"), BUDGETS[:1], seed=seed)).conditions[0].logits

    assert np.array_equal(logits(1), logits(1))
    assert not np.array_equal(logits(1), logits(2))


def test_faster_form_finds_the_same_robust_accuracy(net: nn.Module, split: TensorSplit) -> None:
    fast, plain = (
        sweep(net, split, SweepSettings(attack_of("pgd"), BUDGETS, inference=inference), batch_size=16).conditions
        for inference in (Inference(), AS_GIVEN)
    )
    for left, right in zip(fast, plain, strict=True):
        assert abs(int(left.is_adversarial.sum()) - int(right.is_adversarial.sum())) <= 1


def test_known_clean_logits_spare_the_clean_pass(net: nn.Module, split: TensorSplit) -> None:
    clean = evaluate_clean(net, split, batch_size=16).clean_logits
    given = sweep(net, split, SweepSettings(attack_of("fgsm"), BUDGETS), batch_size=16, clean_logits=clean)
    own = sweep(net, split, SweepSettings(attack_of("fgsm"), BUDGETS), batch_size=16)
    assert np.array_equal(given.clean_logits, clean)
    assert all(np.array_equal(a.is_adversarial, b.is_adversarial) for a, b in zip(given.conditions, own.conditions, strict=True))


def test_targeted_sweep_spares_the_target_class_and_counts_only_the_target(net: nn.Module, split: TensorSplit) -> None:
    budgets = (threat("0.3", targeted=True),)
    outcome = sweep(net, split, SweepSettings(attack_of("pgd"), budgets, target_class=1), batch_size=16)
    condition = outcome.conditions[0]
    assert not condition.is_adversarial[outcome.labels == 1].any()
    assert condition.is_adversarial.any()
    assert (condition.logits[condition.is_adversarial].argmax(1) == 1).all()


def test_outcome_survives_the_store(net: nn.Module, split: TensorSplit, tmp_path) -> None:
    outcome = sweep(net, split, SweepSettings(attack_of("fgsm"), BUDGETS))
    save_outcome(outcome, tmp_path / "outcome.safetensors")
    loaded = load_outcome(tmp_path / "outcome.safetensors")
    assert loaded.conditions[1].evidence == outcome.conditions[1].evidence
    assert np.array_equal(loaded.conditions[2].logits, outcome.conditions[2].logits)


def test_progress_reaches_its_total(net: nn.Module, split: TensorSplit) -> None:
    class Counting:
        total = done = 0.0

        def task(self, title: str, total: float, unit: str = ""):
            Counting.total, Counting.done = total, 0.0
            return nullcontext(lambda amount, note: setattr(Counting, "done", Counting.done + amount))

    for protocol in ("nested", "independent"):
        sweep(net, split, SweepSettings(attack_of("pgd", steps=2), BUDGETS, protocol=protocol), progress=Counting())
        assert Counting.done == Counting.total == 120


@pytest.mark.parametrize(
    ("threats", "target_class", "message"),
    [
        ([threat("4/255"), threat("1/255")], None, "expected rising budgets, got 4/255, 1/255"),
        ([threat("4/255"), threat("1", "L2")], None, "of the same norm"),
        ([threat("4/255", targeted=True)], None, "target_class: expected one where"),
        ([threat("1", "L1")], None, r"attacks\.pgd: pgd has no L1 form"),
        ([], None, "expected one or more budgets"),
    ],
)
def test_impossible_sweeps_are_refused(net, split, threats, target_class, message) -> None:
    with pytest.raises(HarnessError, match=message):
        sweep(net, split, SweepSettings(attack_of("pgd"), threats, target_class=target_class))


def test_empty_split_and_wrong_batch_size_are_refused(net: nn.Module, split: TensorSplit) -> None:
    with pytest.raises(HarnessError, match="at least one example"):
        evaluate_clean(net, Empty())
    with pytest.raises(HarnessError, match="batch_size: expected a whole number >= 1, got 0"):
        evaluate_clean(net, split, batch_size=0)


class Noting(nn.Module):
    """Notes how convolutions and products are computed at every forward pass."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: set[tuple[str, str]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add((torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision))
        return self.network(x)


def test_evaluation_and_its_probes_run_in_full_float32_whatever_is_chosen_outside(net: nn.Module, split: TensorSplit) -> None:
    torch.set_float32_matmul_precision("high")
    try:
        model = Noting(net)
        evaluate_clean(model, split)
        sweep(model, split, SweepSettings(attack_of("pgd", steps=2), BUDGETS[:1], inference=AS_GIVEN))
        assert model.seen == {("ieee", "ieee")}
        model(split.images[:1])
        assert model.seen == {("ieee", "ieee"), ("tf32", "tf32")}
    finally:
        torch.set_float32_matmul_precision("highest")
