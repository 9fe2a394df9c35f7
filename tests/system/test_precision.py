from collections.abc import Callable, Iterator

import pytest
import torch

from harness.storage.provenance import describe_host
from harness.system.precision import full_float32

BACKENDS = torch.backends
OPERATIONS = (BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn, BACKENDS.cuda.matmul, BACKENDS.mkldnn.matmul)


def precisions() -> list[str]:
    return [operation.fp32_precision for operation in OPERATIONS]


def older_form() -> tuple[bool, bool, str]:
    return BACKENDS.cudnn.allow_tf32, BACKENDS.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()


@pytest.fixture(autouse=True)
def _torch_as_found() -> Iterator[None]:
    cudnn, matmul, chosen = BACKENDS.cudnn.allow_tf32, torch.get_float32_matmul_precision(), precisions()
    yield
    BACKENDS.fp32_precision = "none"
    BACKENDS.cudnn.allow_tf32 = cudnn
    torch.set_float32_matmul_precision(matmul)
    for operation, precision in zip(OPERATIONS, chosen, strict=True):
        operation.fp32_precision = precision


@pytest.mark.parametrize("wanted", ["highest", "high", "medium"])
@pytest.mark.parametrize("cudnn", [True, False])
def test_choices_of_the_older_form_are_overruled_and_put_back(wanted: str, cudnn: bool) -> None:
    torch.set_float32_matmul_precision(wanted)
    BACKENDS.cudnn.allow_tf32 = cudnn
    before = (older_form(), precisions())
    with full_float32():
        assert older_form() == (False, False, "highest")
        assert precisions() == ["ieee"] * len(OPERATIONS)
    assert (older_form(), precisions()) == before


def everywhere() -> None:
    BACKENDS.fp32_precision = "tf32"


def in_products() -> None:
    BACKENDS.cuda.matmul.fp32_precision = "tf32"


def in_convolutions() -> None:
    BACKENDS.cudnn.conv.fp32_precision = "tf32"


@pytest.mark.parametrize("choose", [everywhere, in_products, in_convolutions])
def test_choices_of_the_newer_form_are_overruled_and_put_back(choose: Callable[[], None]) -> None:
    choose()
    before = precisions()
    with full_float32():
        assert precisions() == ["ieee"] * len(OPERATIONS)
    assert precisions() == before


@pytest.mark.parametrize("choose", [everywhere, in_products, in_convolutions])
def test_host_is_described_whatever_was_chosen(choose: Callable[[], None]) -> None:
    choose()
    assert {"tf32", "cudnn_tf32"} <= describe_host(torch.device("cpu")).keys()


def test_host_is_described_with_the_flags_that_networks_are_judged_under() -> None:
    BACKENDS.cudnn.allow_tf32 = True
    found = describe_host(torch.device("cpu"))
    assert found["cudnn_tf32"] is True
    assert found["cudnn_deterministic"] is BACKENDS.cudnn.deterministic
    assert found["evaluation"] == {"tf32": False, "cudnn_tf32": False}


def test_choice_is_put_back_after_an_error() -> None:
    torch.set_float32_matmul_precision("high")
    with pytest.raises(ZeroDivisionError), full_float32():
        _ = 1 // 0
    assert torch.get_float32_matmul_precision() == "high"
