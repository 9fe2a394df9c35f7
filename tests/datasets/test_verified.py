"""Images that change from one reading to the next are refused, however they are given and whenever they change."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from harness import HarnessError, evaluate, load_suite, run
from harness.datasets.base import DATASETS
from harness.datasets.base import Dataset as PluginData
from harness.datasets.digits import Digits
from harness.datasets.pixels import fingerprint
from harness.datasets.tensors import TensorSplit, split_of
from harness.datasets.verified import VerifiedSplit, verified, verified_for_evaluation
from harness.errors import DataError
from harness.images import ImageData
from tests.conftest import MakeFolder
from tests.nets import ON_DIGITS

COUNT = 24
SEEDS = range(12)
X = torch.rand(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(COUNT) % 3
CHANGED = "expected the same image whenever an example is read, got another: .*; turn augmentation off"


class Read(Dataset[Any]):
    """A data set of which a function gives the examples."""

    def __init__(self, read: Callable[[int], Any]) -> None:
        self.read = read

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return self.read(index)


class Streamed(IterableDataset[Any]):
    """A stream of which a function gives the examples."""

    def __init__(self, read: Callable[[int], Any], order: Callable[[int], Tensor] = torch.arange) -> None:
        self.read, self.order = read, order

    def __iter__(self) -> Iterator[Any]:
        return iter(self.read(int(index)) for index in self.order(COUNT))


def _flipped(index: int) -> tuple[Tensor, int]:
    return (X[index].flip(-1) if torch.rand(()) < 0.5 else X[index]), int(Y[index])


def _dimmed(batch: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([image for image, _ in batch]) * torch.rand(()), torch.stack([label for _, label in batch])


def _network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()


@pytest.mark.parametrize(
    "give",
    [
        lambda: Read(_flipped),
        lambda: DataLoader(Read(_flipped), batch_size=5, shuffle=True),
        lambda: DataLoader(TensorDataset(X, Y), batch_size=5, collate_fn=_dimmed),
        lambda: Read(lambda index: ((X[index] + 1e-6 * torch.rand(())).clamp(0, 1), int(Y[index]))),
        lambda: Streamed(_flipped),
        lambda: DataLoader(Streamed(_flipped), batch_size=5),
    ],
    ids=["data set", "loader", "collate function", "tiny noise", "stream", "loader of a stream"],
)
@pytest.mark.parametrize("attacks", ["fgsm", []], ids=["fgsm", "clean"])
def test_random_images_are_refused_whatever_the_seed(give: Callable[[], object], attacks: Any) -> None:
    for seed in SEEDS:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            with pytest.raises(DataError, match=r"expected the same images? whenever .*turn augmentation off"):
                evaluate(_network(), give(), attacks=attacks)


def test_folder_of_images_with_a_random_transform_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Leek").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (10, 10, 3), dtype=np.uint8)).save(tmp_path / "Leek" / f"{number}.png")
    for seed in SEEDS:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            folder = ImageFolder(tmp_path, transforms.Compose([transforms.RandomCrop(8), transforms.ToTensor()]))
            with pytest.raises(DataError, match=CHANGED):
                evaluate(_network(), folder, attacks="fgsm")


@pytest.mark.parametrize("readings", [2, 3, 5])
def test_example_that_changes_late_ends_the_run_and_not_just_an_attack(readings: int) -> None:
    read_so_far = [0] * COUNT

    def read(index: int) -> tuple[Tensor, int]:
        read_so_far[index] += 1
        return X[index] * (0.5 if index == COUNT - 2 and read_so_far[index] > readings else 1), int(Y[index])

    with pytest.raises(DataError, match=rf"data\[{COUNT - 2}\]: {CHANGED}"):
        evaluate(_network(), Read(read), attacks=["fgsm", "pgd", "random_noise"] * 2)


def test_label_that_changes_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\[\d+\]: expected its label to be \d whenever it is read, got \d"):
        evaluate(_network(), Read(lambda index: (X[index], int(torch.randint(3, ())))), attacks=[])


def test_data_that_stay_the_same_give_the_numbers_of_their_tensors() -> None:
    generator = torch.Generator().manual_seed(0)
    shuffled = Streamed(lambda index: (X[index], Y[index]), lambda count: torch.randperm(count, generator=generator))
    wanted = evaluate(_network(), (X, Y), attacks="fgsm")["accuracy"].tolist()
    for data in (Read(lambda index: (X[index], int(Y[index]))), shuffled, VerifiedSplit(TensorSplit(X, Y))):
        assert evaluate(_network(), data, attacks="fgsm")["accuracy"].tolist() == wanted


def test_stream_that_can_be_iterated_once_is_taken() -> None:
    once = iter([(X[:12], Y[:12]), (X[12:], Y[12:])])

    class Once(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return once

    assert len(split_of(DataLoader(Once(), batch_size=None))) == COUNT


class Own:
    """A split of a caller's own making."""

    labels, ids, hashes = Y.numpy(), [f"{index}.png" for index in range(COUNT)], ["0" * 64] * COUNT

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return _flipped(index)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, rf"data\[\d+\] \(\d+.png\): {CHANGED}"),
        ({"hashes": ["0" * 64]}, "data: expected 24 ids and hashes for 24 images, got 24 and 1"),
        ({"labels": [0, 1]}, "labels: expected one class index for each of 24 images"),
        ({"__len__": lambda _: 0}, "data: expected at least one example, got none"),
        ({"__getitem__": lambda _, index: (X[index] * 2, int(Y[index]))}, r"expected values in \[0,1\]"),
        ({"__getitem__": lambda _, index: (None, 0)}, r"data\[0\] \(0.png\): reading it failed: AttributeError"),
        ({"__getitem__": lambda _, index: (X[index], 7)}, r"expected its label to be 0 whenever it is read, got 7"),
    ],
)
def test_split_of_a_callers_own_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(_network(), type("Changed", (Own,), changes)(), attacks=[])


def test_file_that_changes_during_a_run_is_seen(make_folder: MakeFolder) -> None:
    root = make_folder()
    data = DATASETS.parse({"name": "image_folder", "root": str(root), "resolution": 16}).load()
    checked = verified_for_evaluation(data)
    split: Any = checked.splits["test"]
    assert checked.splits["train"] is data.splits["train"]
    assert torch.equal(split[0][0], data.splits["test"][0][0])
    Image.new("RGB", (20, 20)).save(root / split.ids[0])
    with pytest.raises(DataError, match=rf"test\[0\] \({split.ids[0]}\): {CHANGED}"):
        split[0]


class Plugged(PluginData):
    """A data-set plug-in of which the tests choose the test split."""

    name: Literal["plugged"] = "plugged"
    resolution: int = 8

    def load(self) -> ImageData:
        return ImageData("plugged", ("a", "b", "c"), {"train": TensorSplit(X, Y), "test": Own()}, "0" * 64, 0)


def test_plug_in_whose_images_change_is_refused() -> None:
    for seed in SEEDS:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            with pytest.raises(DataError, match=rf"plugged\[\d+\] \(\d+.png\): {CHANGED}"):
                evaluate(_network(), Plugged(), attacks="fgsm")


def test_plug_in_that_raises_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plugged, "load", lambda _: {}["train"])
    with pytest.raises(DataError, match="data: loading plugged failed: KeyError: 'train'"):
        evaluate(_network(), Plugged(), attacks="fgsm")


def test_suite_is_not_run_on_data_that_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rest = (
        "models: {baseline: {recipe: {name: standard, epochs: 1}}}\nthreat_model: {eps: [4/255]}\nattacks: {fgsm: {name: fgsm}}\n"
    )
    (tmp_path / "suite.yaml").write_text(f"name: changing{ON_DIGITS}{rest}")
    suite = load_suite(tmp_path / "suite.yaml")
    monkeypatch.setattr(Digits, "load", lambda _: Plugged().load())
    for seed in SEEDS:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            with pytest.raises(DataError, match=rf"test\[\d+\] \(\d+.png\): {CHANGED}"):
                run(suite, out=tmp_path / "out", store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_more_detail_comes_from_the_split_itself() -> None:
    class Detailed(TensorSplit):
        def read_detailed(self, index: int, side: int) -> Tensor:
            return torch.zeros(3, side, side)

    assert verified(Detailed(X, Y)).read_detailed(0, 32).shape == (3, 32, 32)
    assert torch.equal(verified(TensorSplit(X, Y)).read_detailed(3, 32), X[3])


def test_evaluation_splits_alone_are_compared() -> None:
    split = TensorSplit(X, Y)
    data = ImageData("own", ("a", "b", "c"), {"train": split, "validation": split, "test": split}, "0" * 64, 0)
    assert [type(found) for found in verified_for_evaluation(data).splits.values()] == [TensorSplit, VerifiedSplit, VerifiedSplit]


def test_fingerprint_tells_any_changed_value_and_no_layout() -> None:
    image = X[0]
    known = fingerprint(image)
    assert fingerprint(image[None].contiguous(memory_format=torch.channels_last)[0]) == known
    for position in range(0, image.numel(), 17):
        changed = image.clone()
        changed.view(-1)[position] += 2**-24
        changed.view(-1)[position].clamp_(0, 1)
        assert torch.equal(changed, image) == (fingerprint(changed) == known)
    assert len({fingerprint(image), fingerprint(image.flip(-1)), fingerprint(image.flip(-2)), fingerprint(image.flip(0))}) == 4
    assert fingerprint(image.bfloat16()) != fingerprint(image.half())


@pytest.mark.parametrize("give", [lambda data: data, DataLoader, lambda data: Streamed(data.read)])
def test_images_of_several_sizes_are_refused_in_one_line(give: Callable[[Read], object]) -> None:
    data = Read(lambda index: (torch.full((3, 8, 8 + index // 9), 0.5), int(Y[index])))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(8), _network())
    with pytest.raises(DataError, match=r"expected images of one size.*3 x 8 x 8.* 3 x 8 x 9") as caught:
        evaluate(network, give(data), attacks="fgsm")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "give", [lambda data: data, lambda data: DataLoader(data, batch_size=4), lambda data: Streamed(data.read)]
)
def test_data_that_raise_in_the_middle_are_refused_with_the_reason(give: Callable[[Read], object]) -> None:
    def read(index: int) -> tuple[Tensor, int]:
        if index == 17:
            raise KeyError("no such image")
        return X[index], int(Y[index])

    with pytest.raises(DataError, match=r"data.*: reading it failed: KeyError: 'no such image'"):
        evaluate(_network(), give(Read(read)), attacks="fgsm")


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (lambda index: (X[index], "leek"), r"data\[0\]: expected images and labels as tensors or arrays"),
        (lambda index: (X[index], 0.5), r"data\[0\]: labels: expected whole numbers >= 0, got float64"),
        (lambda index: (X[index], Y[index : index + 1]), r"data\[0\]: labels: expected one class index for each of 1 images"),
        (lambda index: (X[index], -1), r"data\[0\]: labels: expected whole numbers >= 0"),
        (lambda index: (X[index].where(X[index] < 0.5, torch.nan), 0), r"data\[0\]: images: expected values in \[0,1\], got nan"),
        (lambda index: (X[index].to(torch.complex64), 0), r"data\[0\]: images: expected uint8, or floating point"),
        (lambda index: None, r"data\[0\]: expected an image tensor and a label"),
        (lambda index: {"image": X[index]}, r"data\[0\]: expected a pair"),
        (lambda index: (X[index, :1], 0), "model: a forward pass of 2 float32 images of 1 x 8 x 8 failed"),
        (lambda index: (X[index], 3), "data: expected labels from 0 to 2, as the model gives 3 logits, got 3"),
    ],
)
def test_example_of_another_kind_is_refused(example: Callable[[int], Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        evaluate(_network(), Read(example), attacks="fgsm")


@pytest.mark.parametrize("images", [X.clone().requires_grad_(), X.half(), X.bfloat16(), X.double(), (X * 255).byte()])
def test_images_of_every_number_format_are_judged(images: Tensor) -> None:
    for data in ((images, Y), TensorDataset(images, Y)):
        assert evaluate(_network(), data, attacks=["fgsm", "pgd"])["status"].eq("done").all()  # type: ignore[arg-type]
