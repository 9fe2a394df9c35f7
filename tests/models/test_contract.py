"""One contract for every registered kind of model."""

from typing import Any

import pytest
import torch

from harness.cli.fields import said_below
from harness.models.base import MODELS, Architecture
from tests.training.cases import same_state

NAMES = ("a", "b", "c")
SPECS: dict[str, dict[str, Any]] = {"timm": {"arch": "test_resnet"}, "factory": {"factory": "tests.nets:small_convnet"}}


@pytest.fixture(params=sorted(SPECS))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return MODELS.parse({"name": request.param, **SPECS[request.param]})


def test_every_registered_model_is_under_contract() -> None:
    assert MODELS.names() == sorted(SPECS)


def test_model_keeps_the_contract(architecture: Architecture) -> None:
    random_state = torch.get_rng_state()
    first, second, other = (architecture.build(NAMES, resolution=32, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert same_state(first, second)
    assert not same_state(first, other)
    assert not any(module.training for module in first.modules())
    assert first.class_names == NAMES
    x = torch.rand(2, 3, 32, 32)
    logits = first(x)
    assert (logits.shape, logits.dtype) == ((2, 3), torch.float32)
    assert torch.equal(logits, first(x))


def test_model_describes_its_fields_and_its_parameters_are_in_its_identity(architecture: Architecture) -> None:
    fields = type(architecture).model_fields
    assert not [
        field
        for field, info in fields.items()
        if field != "name" and not (info.description or said_below(type(architecture), field))
    ]
    assert set(fields) - architecture.PATH_FIELDS <= set(architecture.identity())
