from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.errors import HarnessError
from harness.spec import digest_of
from harness.system import memory
from harness.threat import Norm, ThreatModel, largest_change

NORMS = st.sampled_from(list(Norm))
ROUNDING = 2e-6
"""float32 rounding of images in [0,1]; times the number of pixels for L1."""


@st.composite
def problems(draw: st.DrawFn) -> tuple[ThreatModel, Tensor, Tensor]:
    """A threat model, originals in [0,1], and perturbed images that may lie anywhere."""
    norm = draw(NORMS)
    eps = draw(st.fractions(0, 1 if norm is Norm.LINF else 20, max_denominator=255))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 3)), draw(st.sampled_from([1, 3])), draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    x = torch.rand(shape, generator=generator)
    scale = draw(st.sampled_from([1e-4, 0.1, 3.0]))
    return ThreatModel(norm=norm, eps=eps), x, x + scale * torch.randn(shape, generator=generator)


def _tolerance(threat_model: ThreatModel, x: Tensor) -> float:
    return ROUNDING * (
        x[0].numel() if threat_model.norm is Norm.L1 else x[0].numel() ** 0.5 if threat_model.norm is Norm.L2 else 1
    )


@settings(max_examples=60, deadline=None)
@given(problems())
def test_projection_lies_inside_ball_and_bounds(problem: tuple[ThreatModel, Tensor, Tensor]) -> None:
    threat_model, x, x_adv = problem
    assert threat_model.violation(threat_model.project(x_adv, x), x).max() <= _tolerance(threat_model, x)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_projection_leaves_what_is_inside_where_it_is(problem: tuple[ThreatModel, Tensor, Tensor]) -> None:
    threat_model, x, x_adv = problem
    inside = threat_model.project(x_adv, x)
    assert torch.allclose(threat_model.project(inside, x), inside, atol=ROUNDING)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_projection_onto_the_ball_is_the_nearest_point(problem: tuple[ThreatModel, Tensor, Tensor]) -> None:
    """No point of the ball on the way to another one of the ball is nearer: the obtuse-angle criterion."""
    threat_model, _, _ = problem
    x = torch.full_like(problem[1], 0.5)
    x_adv = x + 0.4 * (problem[2] - problem[1]).clamp(-1, 1)
    projected = threat_model.project(x_adv, x)
    if ((projected <= 0) | (projected >= 1)).any():
        return
    other = threat_model.project(x + 0.4 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), x)
    angle = ((x_adv - projected) * (other - projected)).flatten(1).sum(dim=1)
    assert (angle <= 1e-4).all()


@settings(max_examples=60, deadline=None)
@given(problems())
def test_violation_is_zero_exactly_inside(problem: tuple[ThreatModel, Tensor, Tensor]) -> None:
    threat_model, x, x_adv = problem
    inside = (threat_model.distance(x_adv, x) <= float(threat_model.eps)) & ((x_adv >= 0) & (x_adv <= 1)).flatten(1).all(dim=1)
    assert torch.equal(threat_model.violation(x_adv, x) == 0, inside)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_linf_projection_is_a_clamp_of_every_pixel(problem: tuple[ThreatModel, Tensor, Tensor]) -> None:
    _, x, x_adv = problem
    threat_model = ThreatModel(norm=Norm.LINF, eps="8/255")
    expected = torch.minimum(torch.maximum(x_adv, x - 8 / 255), x + 8 / 255).clamp(0, 1)
    assert torch.allclose(threat_model.project(x_adv, x), expected, atol=ROUNDING)


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_pixels_are_violations_and_are_replaced(norm: Norm, value: float) -> None:
    threat_model, x = ThreatModel(norm=norm, eps="1/2"), torch.full((2, 3, 4, 4), 0.5)
    x_adv = x.clone()
    x_adv[0, 1, 2, 3] = value
    assert threat_model.violation(x_adv, x).tolist() == [torch.inf, 0.0]
    assert torch.equal(threat_model.project(x_adv, x), x)


@pytest.mark.parametrize(("norm", "expected"), [("Linf", 0.4), ("L2", 0.5), ("L1", 0.7)])
def test_distances_of_a_known_perturbation(norm: str, expected: float) -> None:
    x = torch.zeros(1, 1, 2, 2)
    x_adv = x.clone()
    x_adv[0, 0, 0, 0], x_adv[0, 0, 1, 1] = 0.3, 0.4
    assert ThreatModel(norm=norm, eps="1").distance(x_adv, x).item() == pytest.approx(expected)


def test_distance_is_the_same_in_whatever_parts_images_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    x, x_adv = torch.rand(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = (x_adv - x).abs().flatten(1).amax(dim=1)
    for rows in (1, 2, 5):
        monkeypatch.setattr(memory, "CACHED", rows * x[0].numel())
        assert torch.equal(ThreatModel(eps="1").distance(x_adv, x), whole)
    assert largest_change(x_adv * torch.nan, x).isnan().all()


@given(st.fractions(0, 1, max_denominator=10**6), NORMS, st.booleans())
def test_threat_model_survives_json_exactly_and_digests_tell_budgets_apart(eps: Fraction, norm: Norm, targeted: bool) -> None:
    threat_model = ThreatModel(norm=norm, eps=eps, targeted=targeted)
    plain = threat_model.model_dump(mode="json")
    assert ThreatModel.model_validate(plain) == threat_model
    assert digest_of(plain) == digest_of(ThreatModel.model_validate(plain).model_dump(mode="json"))
    larger = ThreatModel(norm="L2", eps=eps + Fraction(1, 10**9), targeted=targeted)
    assert digest_of(larger.model_dump(mode="json")) != digest_of(larger.with_eps(eps).model_dump(mode="json"))


def test_digest_is_pinned() -> None:
    digest = digest_of(ThreatModel(eps="8/255").model_dump(mode="json"))
    assert digest == digest_of({"norm": "Linf", "eps": "8/255", "targeted": False})


@pytest.mark.parametrize(
    ("eps", "message"), [("8", 'write "8/255", not 8'), (-1, "expected a budget >= 0"), ("x", "expected a budget like")]
)
def test_impossible_budgets_are_refused(eps: object, message: str) -> None:
    with pytest.raises(HarnessError, match=message) as said:
        ThreatModel(eps=eps)
    assert str(said.value).startswith("ThreatModel.eps: expected")
    assert "\n" not in str(said.value)


def test_unknown_field_of_a_threat_model_is_one_line() -> None:
    with pytest.raises(HarnessError, match=r"^ThreatModel\.epz: unknown field; did you mean 'eps'\?$"):
        ThreatModel(epz="8/255")


def test_equal_budgets_in_other_words_are_equal() -> None:
    assert ThreatModel(eps="2/255") == ThreatModel(eps="4/510") == ThreatModel(eps=Fraction(2, 255))
