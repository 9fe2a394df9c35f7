"""One contract for every registered recipe, shipped or not."""

import math

import pytest
import torch

from harness.cli.fields import said_below
from harness.training.recipes.adversarial import AdversarialRecipe
from harness.training.recipes.base import RECIPES, Recipe, TrainingBatch
from tests.training.cases import CPU, STILL, classifier, digits, same_state, trained

FEW = {"epochs": 1, "steps": 2, "validation_steps": 1, "eps": "16/255", "augment": STILL}
"""Little to compute, for those recipes that have such a field."""


@pytest.fixture(params=RECIPES.names())
def recipe(request: pytest.FixtureRequest) -> Recipe:
    fields = RECIPES.get(request.param).model_fields
    return RECIPES.parse({"name": request.param, **{field: value for field, value in FEW.items() if field in fields}})


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6)


def test_training_changes_the_weights_repeats_and_ends_in_eval_mode(recipe: Recipe) -> None:
    first, second = classifier(), classifier()
    random_state = torch.get_rng_state()
    result = trained(first, recipe, data=digits(64, 20))
    trained(second, recipe, data=digits(64, 20))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert same_state(first, second)
    assert not same_state(first, classifier())
    assert not any(module.training for module in first.modules())
    assert [row["epoch"] for row in result.history] == [1]
    assert all(math.isfinite(value) for value in result.history[0].values())


def test_loss_is_one_number_whose_gradient_reaches_every_weight(recipe: Recipe) -> None:
    network, (x, y) = classifier(), _batch()
    objective = recipe.loss(network.train(), TrainingBatch(x, x.clone(), y))
    objective.loss.backward()
    assert (objective.loss.shape, objective.logits.shape) == ((), (6, 10))
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


def test_recipe_describes_its_fields_and_its_identity_is_made_of_them(recipe: Recipe) -> None:
    fields = type(recipe).model_fields
    assert not [
        field for field, info in fields.items() if field != "name" and not (info.description or said_below(type(recipe), field))
    ]
    assert set(recipe.identity()) - {"version"} <= set(fields)


@pytest.mark.parametrize("name", [name for name in RECIPES.names() if issubclass(RECIPES.get(name), AdversarialRecipe)])
def test_attack_of_a_recipe_stays_in_the_ball_and_leaves_images_and_network_as_they_were(name: str) -> None:
    recipe = RECIPES.parse({"name": name, "eps": "16/255"})
    assert isinstance(recipe, AdversarialRecipe)
    network, (x, y) = classifier().requires_grad_(False), _batch()
    given = x.clone()
    first, second = (
        recipe.perturb(network, x, y, threat_model=recipe.threat_model, generator=torch.Generator(CPU).manual_seed(0))
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert (first.shape, first.dtype) == (x.shape, x.dtype)
    assert recipe.threat_model.violation(first, x).max() < 1e-6
    assert torch.equal(x, given)
    assert same_state(network, classifier())
