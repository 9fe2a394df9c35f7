import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from harness.threat import Norm, ThreatModel
from harness.training.recipes.adversarial import AdversarialRecipe
from harness.training.recipes.base import RECIPES, TrainingBatch
from harness.training.recipes.fast import Fast
from harness.training.recipes.pgd import PGDTraining
from harness.training.recipes.standard import Standard
from harness.training.recipes.trades import Trades

X = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 3
ADVERSARIAL = [PGDTraining, Trades, Fast]


class Counting(nn.Module):
    """A network that counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(108, 16), nn.Tanh(), nn.Linear(16, 3)).requires_grad_(False)
        self.forwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        return self.layers(x)


def perturbed(recipe: AdversarialRecipe, network: Counting | None = None, epoch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return recipe.perturb(network or Counting(), X, Y, threat_model=recipe.threat_model_at(epoch), generator=generator)


def test_recipes_are_found_by_name() -> None:
    assert {"fast", "pgd", "standard", "trades"} <= set(RECIPES.names())
    assert [RECIPES.get(name) for name in ("standard", "pgd", "trades", "fast")] == [Standard, *ADVERSARIAL]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"eps": 8}, 'write "8/255", not 8'),
        ({"eps": 0}, "expected a budget > 0"),
        ({"eps": "4/255", "alpha": 0}, "expected a step size > 0"),
        ({"norm": "L1"}, "norm"),
        ({"steps": 0}, "steps"),
        ({"clean_share": 1}, "clean_share"),
        ({"distil": 1.5}, "distil"),
        ({"ema": 1}, "ema"),
        ({"awp": 0.5}, "awp"),
        ({"epochs": 0}, "epochs"),
        ({"precision": "float16"}, "precision"),
        ({"epsilon": "8/255"}, "epsilon"),
        ({"optimiser": {"learning_rate": -1}}, "optimiser.learning_rate"),
    ],
)
def test_impossible_fields_are_errors(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        PGDTraining(**fields)


def test_large_budget_is_fine_in_l2() -> None:
    assert PGDTraining(norm="L2", eps=8).threat_model == ThreatModel(norm=Norm.L2, eps=8)


@pytest.mark.parametrize("kind", ADVERSARIAL)
@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
def test_attack_stays_in_the_ball_and_repeats(kind: type[AdversarialRecipe], norm: Norm) -> None:
    recipe = kind(norm=norm, eps="16/255")
    x_adv = perturbed(recipe)
    assert recipe.threat_model.violation(x_adv, X).max() < 1e-6
    assert torch.equal(x_adv, perturbed(recipe))
    assert not torch.equal(x_adv, X)


@pytest.mark.parametrize(("recipe", "forwards"), [(PGDTraining(steps=5), 5), (Fast(), 1), (Trades(steps=5), 6)])
def test_attack_costs_no_needless_pass(recipe: AdversarialRecipe, forwards: int) -> None:
    network = Counting()
    perturbed(recipe, network)
    assert network.forwards == forwards


def test_step_size_is_relative_to_eps_unless_given() -> None:
    budget = ThreatModel(eps="8/255")
    assert PGDTraining(eps="8/255").step_size(budget, 0.5) == pytest.approx(4 / 255)
    assert PGDTraining(eps="8/255", alpha="2/255").step_size(budget, 0.5) == pytest.approx(2 / 255)
    assert PGDTraining(eps="8/255", alpha="2/255").step_size(ThreatModel(eps="4/255"), 0.5) == pytest.approx(1 / 255)


def test_fast_steps_by_five_quarters_of_eps() -> None:
    recipe = Fast(eps="8/255")
    inside = X * 0.5 + 0.25
    start_and_step = recipe.perturb(
        Counting(), inside, Y, threat_model=recipe.threat_model, generator=torch.Generator().manual_seed(0)
    )
    distance = (start_and_step - inside).abs()
    assert distance.max() <= 8 / 255 + 1e-6
    assert (distance > 7.9 / 255).float().mean() > 0.6  # 5/8 of the starts reach the border, the others fall short of it


def test_budget_grows_linearly_in_warm_up() -> None:
    recipe = PGDTraining(eps="8/255", warmup_epochs=3)
    assert [str(recipe.threat_model_at(epoch).eps) for epoch in (1, 2, 3, 4, 9)] == ["2/255", "4/255", "2/85", "8/255", "8/255"]


def test_share_of_clean_examples_is_not_attacked() -> None:
    x_adv = perturbed(PGDTraining(clean_share=0.25))
    assert torch.equal(x_adv[:2], X[:2])
    assert all(not torch.equal(attacked, x) for attacked, x in zip(x_adv[2:], X[2:], strict=True))


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
def test_single_image_may_stay_clean(norm: Norm) -> None:
    recipe, generator = PGDTraining(norm=norm, eps="1/2", steps=1, clean_share=0.5), torch.Generator().manual_seed(0)
    found = [recipe.perturb(Counting(), X[:1], Y[:1], threat_model=recipe.threat_model, generator=generator) for _ in range(20)]
    assert {torch.equal(x_adv, X[:1]) for x_adv in found} == {True, False}


def test_share_of_clean_examples_holds_over_micro_batches_too_small_for_it() -> None:
    recipe, generator = PGDTraining(eps="8/255", steps=1, clean_share=0.25), torch.Generator().manual_seed(0)
    inside = X[:3] * 0.5 + 0.25
    clean = 0
    for _ in range(400):
        x_adv = recipe.perturb(Counting(), inside, Y[:3], threat_model=recipe.threat_model, generator=generator)
        clean += sum(torch.equal(attacked, x) for attacked, x in zip(x_adv, inside, strict=True))
    assert clean / 1200 == pytest.approx(0.25, abs=0.03)


def test_attack_without_random_start_starts_at_the_image() -> None:
    recipe = PGDTraining(eps="8/255", steps=1, alpha="8/255", random_start=False)
    inside = X * 0.5 + 0.25
    x_adv = recipe.perturb(Counting(), inside, Y, threat_model=recipe.threat_model, generator=torch.Generator())
    torch.testing.assert_close((x_adv - inside).abs(), torch.full_like(X, 8 / 255))


def test_losses_are_those_of_the_papers() -> None:
    network, x_adv = Counting(), (X + 0.1).clamp(0, 1)
    batch = TrainingBatch(X, x_adv, Y)
    clean, attacked = network(X), network(x_adv)
    cross_entropy = nn.functional.cross_entropy
    p, q = clean.softmax(1), attacked.softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(Standard().loss(network, batch).loss, cross_entropy(clean, Y))
    torch.testing.assert_close(PGDTraining().loss(network, batch).loss, cross_entropy(attacked, Y))
    torch.testing.assert_close(Fast().loss(network, batch).loss, cross_entropy(attacked, Y))
    torch.testing.assert_close(Trades(beta=3).loss(network, batch).loss, cross_entropy(clean, Y) + 3 * divergence)


def test_distilling_replaces_a_share_of_the_label_by_the_teachers_prediction() -> None:
    network, x_adv = Counting(), (X + 0.1).clamp(0, 1)
    taught = torch.rand(8, 3, generator=torch.Generator().manual_seed(2)).softmax(1)
    clean, attacked, cross_entropy = network(X), network(x_adv), nn.functional.cross_entropy
    mixed = 0.75 * cross_entropy(attacked, Y, label_smoothing=0.1) - 0.25 * (taught * attacked.log_softmax(1)).sum(1).mean()
    recipe = PGDTraining(distil=0.25, label_smoothing=0.1)
    torch.testing.assert_close(recipe.loss(network, TrainingBatch(X, x_adv, Y, taught)).loss, mixed)
    weighed = [Trades(distil=1, beta=beta).loss(network, TrainingBatch(X, x_adv, Y, taught)).loss for beta in (1, 3)]
    torch.testing.assert_close((3 * weighed[0] - weighed[1]) / 2, cross_entropy(clean, taught))


def test_training_accuracy_is_counted_under_attack() -> None:
    network, x_adv = Counting(), (X + 0.1).clamp(0, 1)
    for kind in ADVERSARIAL:
        torch.testing.assert_close(kind().loss(network, TrainingBatch(X, x_adv, Y)).logits, network(x_adv))


def test_label_smoothing_enters_the_loss() -> None:
    network, batch = Counting(), TrainingBatch(X, X, Y)
    smoothed = nn.functional.cross_entropy(network(X), Y, label_smoothing=0.1)
    torch.testing.assert_close(Standard(label_smoothing=0.1).loss(network, batch).loss, smoothed)


def test_trades_divergence_is_maximised() -> None:
    recipe = Trades(eps="16/255")
    network = Counting()
    start = recipe.loss(network, TrainingBatch(X, X, Y)).loss
    assert recipe.loss(network, TrainingBatch(X, perturbed(recipe, network), Y)).loss > start


def test_mixup_blends_images_and_losses_of_the_same_pairs() -> None:
    shown: list[Tensor] = []

    def network(x: Tensor) -> Tensor:
        shown.append(x)
        return x.flatten(1)[:, :3] * 10

    torch.manual_seed(0)
    recipe = Standard(mixup=0.4)
    loss = recipe.loss(network, TrainingBatch(X, X, Y)).loss
    torch.manual_seed(0)
    weight = float(torch.distributions.Beta(0.4, 0.4).sample())
    others = torch.randperm(len(X))
    assert 0 < weight < 1
    assert torch.allclose(shown[0], weight * X + (1 - weight) * X[others])
    targets = weight * torch.eye(3)[Y] + (1 - weight) * torch.eye(3)[Y[others]]
    assert torch.allclose(loss, torch.nn.functional.cross_entropy(shown[0].flatten(1)[:, :3] * 10, targets))


def test_no_mixup_leaves_images_alone() -> None:
    shown: list[Tensor] = []

    def network(x: Tensor) -> Tensor:
        shown.append(x)
        return x.flatten(1)[:, :3]

    Standard().loss(network, TrainingBatch(X, X, Y))
    assert shown[0] is X
