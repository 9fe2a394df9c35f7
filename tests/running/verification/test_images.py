"""Attacked images from elsewhere: refused where they are none, and otherwise they only lower what is best known."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from harness.planning.plan import Plan
from harness.reports.load import load_results
from harness.running.verification.identities import suite_of
from harness.running.workspace import Workbench, open_workbench
from tests.running.verification.conftest import Copied
from tests.running.verification.test_rederive import call, edit_a_digit_of_each_column

EPS = 16 / 255
Arrays = dict[str, Any]


@pytest.fixture(scope="session")
def bench(finished: Path) -> Workbench:
    results = load_results(finished / "results" / "audited_run")
    return open_workbench(suite_of(results), store=finished / "results" / ".store")


def network(bench: Workbench, model: str) -> torch.nn.Module:
    return bench.training(bench.plan.suite.variant(model)).classifier(bench.context)


def noise(bench: Workbench, plan: Plan, *, model: str = "first", eps: float = EPS) -> Arrays:
    """Images that are each example at a corner of the ball, where the model's gradient leads."""
    examples = plan.examples.of(bench.context.data)
    x = torch.stack([examples[place][0] for place in range(len(examples))]).requires_grad_()
    labels = torch.from_numpy(examples.labels)
    torch.nn.functional.cross_entropy(network(bench, model)(x), labels, reduction="sum").backward()
    moved = (x + eps * x.grad.sign()).clamp(0, 1).detach()
    fields = {"model": model, "norm": "Linf", "eps": "16/255", "label": examples.labels}
    return {"x": moved.numpy(), "example_id": list(examples.ids), "content_hash": list(examples.hashes), **fields}


@pytest.fixture
def arrays(bench: Workbench) -> Arrays:
    return noise(bench, bench.plan)


def written(folder: Path, arrays: Arrays, name: str = "images.h5") -> Path:
    path = folder / name
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return path
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            if isinstance(value, str | float):
                file.attrs[key] = value
            else:
                texts = isinstance(value, list)
                file[key] = np.array([text.encode() for text in value]) if texts else value
    return path


def known(results: Path) -> pd.DataFrame:
    return pd.read_csv(results / "best_known.csv").set_index(["model", "eps"])


def files_but_best_known(results: Path) -> dict[str, bytes]:
    return {str(it): it.read_bytes() for it in results.rglob("*") if it.is_file() and not it.name.startswith("best_known")}


@pytest.mark.parametrize("name", ["images.h5", "images.npz"])
def test_images_that_succeed_lower_the_best_known_column_and_nothing_else(
    copied: Copied, bench: Workbench, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    results = copied()
    before = files_but_best_known(results)
    arrays = noise(bench, bench.plan, eps=40 / 255) | {"eps": 40 / 255}
    assert call("verify", str(results), "--images", str(written(tmp_path, arrays, name))) == 0
    assert files_but_best_known(results) == before
    assert known(results)["from_elsewhere"].eq(0).all()  # no budget is as large as their distance
    near = noise(bench, bench.plan)
    samples = pd.read_parquet(results / "samples.parquet").query("model == 'first' and poison.isna() and condition == 'attack'")
    measured = ~samples.assign(robust=samples["clean_correct"] & ~samples["fooled"]).groupby("example_id")["robust"].all()
    with torch.no_grad():
        fooled = network(bench, "first")(torch.from_numpy(near["x"])).argmax(dim=1).numpy() != near["label"]
    fresh = [name for name, flag in zip(near["example_id"], fooled, strict=True) if flag and not measured[name]]
    assert call("verify", str(results), "--images", str(written(tmp_path, near, f"near_{name}"))) == 0
    said, table = capsys.readouterr().out, known(results)
    row = table.loc[("first", EPS)]
    assert row["from_elsewhere"] == len(fresh)
    assert row["best_known_robust_accuracy"] == pytest.approx(row["robust_accuracy"] - len(fresh) / 40)
    assert table.drop(index=("first", EPS))["from_elsewhere"].eq(0).all()
    assert "best known" in said
    assert call("verify", str(results)) == 0


def test_planted_successes_count_and_failures_do_not(
    copied: Copied, bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = copied()
    samples = pd.read_parquet(results / "samples.parquet").query("model == 'first' and condition == 'attack'")
    broken = set(samples.loc[samples["fooled"], "example_id"])
    examples = bench.plan.examples.of(bench.context.data)
    arrays = noise(bench, bench.plan, eps=0.0)
    robust = [place for place, name in enumerate(examples.ids) if name not in broken][:5]
    wrong = (examples.labels + 1) % 10

    class Planted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            predicted = torch.from_numpy(np.where(np.isin(np.arange(40), robust), wrong, examples.labels))
            return torch.nn.functional.one_hot(predicted[self.start : self.start + len(x)], 10).float() + self.move(len(x))

        start = 0

        def move(self, count: int) -> float:
            self.start += count
            return 0.0

    monkeypatch.setattr("harness.steps.train.Train.classifier", lambda *_: Planted())
    assert call("verify", str(results), "--images", str(written(tmp_path, arrays))) == 0
    correct = samples.loc[samples["clean_correct"], "example_id"]
    fresh = len({examples.ids[place] for place in robust} & set(correct))
    assert fresh > 0
    table = known(results).loc["first"]
    assert table["from_elsewhere"].tolist() == [fresh] * len(table)
    assert len(pd.read_csv(results / "best_known_images.csv")) == fresh


def far(arrays: Arrays) -> Arrays:
    arrays["x"][3, 0, 0, 0] += 0.2 if arrays["x"][3, 0, 0, 0] < 0.5 else -0.2
    return arrays


def brighter(arrays: Arrays) -> Arrays:
    arrays["x"][3] = np.where(arrays["x"][3] == 1, 1.01, arrays["x"][3])
    arrays["x"][3, 0, 0, 0] = -0.02
    return arrays


def nan(arrays: Arrays) -> Arrays:
    arrays["x"][3, 1, 2, 2] = np.nan
    return arrays


def other_label(arrays: Arrays) -> Arrays:
    return arrays | {"label": (arrays["label"] + 1) % 10}


def unknown_id(arrays: Arrays) -> Arrays:
    return arrays | {"example_id": [*arrays["example_id"][:-1], "nobody"]}


def two_examples(arrays: Arrays) -> Arrays:
    return arrays | {"content_hash": arrays["content_hash"][::-1]}


def twice(arrays: Arrays) -> Arrays:
    return {**arrays, "example_id": [arrays["example_id"][0]] * 40, "content_hash": [arrays["content_hash"][0]] * 40}


BAD = {
    "far": (far, "x[3]: expected an image within Linf 16/255 of its original, got a distance of 0."),
    "bounds": (brighter, "x[3]: expected values from 0 to 1, got -0.02"),
    "nan": (nan, "x[3]: expected finite values, got NaN or infinity"),
    "label": (other_label, "label[0]: expected "),
    "id": (unknown_id, "example_id[39]: expected one of the 40 evaluated examples, got 'nobody'"),
    "hash": (two_examples, "expected the example of "),
    "twice": (twice, "expected each example once, got "),
    "shape": (
        lambda it: it | {"x": it["x"][:, :, :8]},
        "x: expected images of (3, 16, 16), as the model gets them, got (3, 8, 16)",
    ),
    "flat": (lambda it: it | {"x": it["x"][0]}, "x: expected float32 of shape (N, C, H, W)"),
    "bytes": (lambda it: it | {"x": (255 * it["x"]).astype(np.uint8)}, "x: expected float32 of shape (N, C, H, W)"),
    "fewer": (lambda it: it | {"label": it["label"][:3]}, "label: expected a whole number for each of 40 images"),
    "model": (lambda it: it | {"model": "third"}, "model: expected one of second, second@backdoor@0.1, first, got 'third'"),
    "norm": (lambda it: it | {"norm": "L2"}, "norm: expected one that first was attacked in (Linf), got L2"),
    "no norm": (lambda it: {name: value for name, value in it.items() if name != "norm"}, "norm: required field is missing"),
    "eps": (lambda it: it | {"eps": "16"}, "expected a budget <= 1 in pixel units"),
    "nobody": (
        lambda it: {name: value for name, value in it.items() if name not in ("example_id", "content_hash")},
        "expected content_hash, example_id or index, which say whose images they are, got none",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_images_are_one_clear_line_and_change_nothing(
    finished: Path, arrays: Arrays, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = BAD[kind]
    results = finished / "results" / "audited_run"
    path = written(tmp_path, change(arrays), f"images.{'npz' if len(kind) % 2 else 'h5'}")
    assert call("verify", str(results), "--images", str(path)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (results / "best_known.csv").exists()


def test_no_file_a_pickle_and_damage_are_one_line(
    finished: Path, tmp_path: Path, arrays: Arrays, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "pickled.npz", **(arrays | {"x": np.array([{"a": 1}] * 40, dtype=object)}))
    (tmp_path / "text.h5").write_text("no images")
    (tmp_path / "text.npz").write_text("no images")
    np.savez_compressed(tmp_path / "bits.npz", **arrays)
    whole = bytearray((tmp_path / "bits.npz").read_bytes())
    whole[60:200] = bytes(255 - byte for byte in whole[60:200])
    (tmp_path / "bits.npz").write_bytes(whole)
    for name in ("bits.npz", "pickled.npz", "text.h5", "text.npz", "absent.h5", "absent.npz"):
        assert call("verify", str(finished / "results" / "audited_run"), "--images", str(tmp_path / name)) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert f"{name}: expected an HDF5 or .npz file of attacked images" in lines[0]


def test_predictions_that_the_model_does_not_make_are_differences(
    copied: Copied, bench: Workbench, arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = copied()
    with torch.no_grad():
        predicted = network(bench, "first")(torch.from_numpy(arrays["x"])).argmax(dim=1).numpy()
    right = written(tmp_path, arrays | {"prediction": predicted}, "right.h5")
    assert call("verify", str(results), "--images", str(right)) == 0
    predicted[7] = (predicted[7] + 1) % 10
    wrong = written(tmp_path, arrays | {"prediction": predicted}, "wrong.h5")
    assert call("verify", str(results), "--images", str(wrong)) == 1
    assert f"wrong.h5: {arrays['example_id'][7]}: prediction: written {predicted[7]}" in capsys.readouterr().out


def test_edited_best_known_number_is_named_and_images_of_another_model_do_not_count(
    copied: Copied, arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = copied()
    assert call("verify", str(results), "--images", str(written(tmp_path, arrays))) == 0
    table = (results / "best_known.csv").read_text()
    edits = edit_a_digit_of_each_column(results / "best_known.csv")
    capsys.readouterr()
    assert call("verify", str(results)) == 1
    said = capsys.readouterr().out
    assert all(f": {column}: written " in said for column in edits)
    (results / "best_known.csv").write_text(table)
    images = (results / "best_known_images.csv").read_text()
    digest = pd.read_csv(results / "best_known_images.csv")["model_digest"].iloc[0]
    (results / "best_known_images.csv").write_text(images.replace(digest, "0" * 64))
    assert call("verify", str(results)) == (1 if known(results)["from_elsewhere"].any() else 0)


def test_images_are_not_judged_where_the_tables_differ(copied: Copied, arrays: Arrays, tmp_path: Path) -> None:
    results = copied()
    edit_a_digit_of_each_column(results / "sweep.csv")
    assert call("verify", str(results), "--images", str(written(tmp_path, arrays))) == 1
    assert not (results / "best_known.csv").exists()
