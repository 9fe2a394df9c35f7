"""The cross-check of a suite end to end: agreement, planted disagreement, the command line."""

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from harness import crosscheck
from harness.bundle import BundleCondition, BundleWriter
from harness.deployment.crosscheck import COARSER, TRANSFERRED, UNJUDGED, Crosscheck, crosscheck_bundle, crosscheck_file
from harness.deployment.runtimes import INSTALL, OnnxPython, find_program
from harness.errors import HarnessError, ModelError
from harness.export.files import stamp
from harness.reports.tables.write import write_tables
from harness.running.workspace import Workbench
from tests.deployed import Deployed
from tests.deployment.commands import NARROW, call, of_bundle
from tests.reports.planted import grid, record_of

RUNTIMES = ["ONNX Runtime (Python)", *["ONNX Runtime (C++)"] * (find_program() is not None)]


@pytest.fixture(scope="module")
def checked(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Crosscheck:
    suite = deployed.suite("crosscheck.models=[baseline]", "crosscheck.attacks=[pgd]")
    return crosscheck(suite, out=tmp_path_factory.mktemp("out"), store=deployed.store, device="cpu")


def test_exported_models_agree_clean_attacked_and_poisoned(checked: Crosscheck) -> None:
    assert checked.agrees
    assert checked.failures == ()
    assert set(checked.table["model"]) == {"baseline", "baseline, backdoor 10 %"}
    float32 = checked.table[checked.table["precision"] == "float32"]
    assert float32["agrees"].all()
    assert (float32["flips_outside_margin"] == 0).all()
    assert float32["max_difference"].max() < 1e-3


def test_every_condition_is_scored_in_every_runtime_and_precision(checked: Crosscheck) -> None:
    wanted = [("PyTorch", "float32"), *((name, precision) for name in RUNTIMES for precision in ("float32", "int8", "fp16"))]
    found = checked.table.groupby(["model", "images"])[["runtime", "precision"]]
    assert all(sorted(rows.itertuples(index=False, name=None)) == sorted(wanted) for _, rows in found)
    assert set(checked.table["condition"]) == {"clean", "attack", "rounded8bit", "jpeg", "corruption", "trigger"}


def test_table_on_disk_is_the_table(checked: Crosscheck) -> None:
    read = pd.read_csv(checked.path)
    assert len(read) == len(checked.table)
    assert read["agrees"].isna().sum() == (checked.table["precision"] != "float32").sum()
    assert not list(checked.path.parent.glob(".*"))


def test_folder_that_cannot_be_written_is_refused_before_anything_is_scored(
    deployed: Deployed, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Workbench, "finish")
    (tmp_path / "taken").write_text("a file")
    place = {"out": tmp_path / "taken", "store": deployed.store, "device": "cpu"}
    with pytest.raises(HarnessError, match="taken: the results cannot be written"):
        crosscheck(deployed.suite(*NARROW), **place)
    with pytest.raises(HarnessError, match="taken: the results cannot be written"):
        crosscheck_file(deployed.suite(*NARROW), file, **place)


def test_page_of_a_run_gains_the_table(deployed: Deployed, tmp_path: Path) -> None:
    write_tables(record_of(grid()), tmp_path)
    crosscheck(deployed.suite(*NARROW), out=tmp_path, store=deployed.store, device="cpu")
    page = (tmp_path / "report.html").read_text()
    assert "fgsm Linf 16-255 rounded8bit" in page
    assert "ONNX Runtime (Python)" in page


def test_line_says_what_to_install_where_the_program_is_missing(
    deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.deployment.crosscheck.find_program", lambda: None)
    found = crosscheck(deployed.suite(*NARROW), out=tmp_path, store=deployed.store, device="cpu")
    assert found.agrees
    assert found.note == INSTALL
    assert set(found.table["runtime"]) == {"PyTorch", "ONNX Runtime (Python)"}


@pytest.mark.usefixtures("broken_export")
def test_file_that_cannot_be_made_fails_the_check_and_leaves_the_others(deployed: Deployed, tmp_path: Path) -> None:
    found = crosscheck(deployed.suite(*NARROW), out=tmp_path, store=deployed.store, device="cpu")
    assert not found.agrees
    assert found.failures == ("export other as onnx: it computes something else",)
    assert set(found.table["runtime"]) == {"PyTorch"}


def test_model_that_is_not_trained_is_named_with_the_command_that_trains_it(deployed: Deployed, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"baseline: expected a finished training .* `harness run` of the suite deployed"):
        crosscheck(deployed.suite("models.baseline.recipe.epochs=7"), out=tmp_path, store=deployed.store, device="cpu")
    assert not list(tmp_path.iterdir())


def test_file_of_a_user_is_scored_on_the_images_of_its_own_model(deployed: Deployed, file: Path, tmp_path: Path) -> None:
    found = crosscheck_file(deployed.suite(), file, out=tmp_path, store=deployed.store, device="cpu")
    assert found.agrees
    assert found.path == tmp_path / "crossruntime_mine.csv"
    assert set(found.table["model"]) == {"mine"}
    assert set(found.table["made_against"].dropna()) == {"itself"}
    assert found.table["transfer_accuracy"].isna().all()
    assert "transfer" not in found.note
    assert set(found.table["threads"]) == {torch.get_num_threads()}
    assert sorted(set(found.table["runtime"])) == sorted(RUNTIMES)


def test_foreign_file_is_measured_and_judged_only_where_that_is_asked_for(
    deployed: Deployed, foreign: Path, tmp_path: Path
) -> None:
    places = {"out": tmp_path, "store": deployed.store, "device": "cpu"}
    found = crosscheck_file(deployed.suite(*NARROW), foreign, **places)
    assert found.agrees
    assert found.note.splitlines()[0] == UNJUDGED
    assert set(found.table["model"]) == {"theirs"}
    assert found.table["agrees"].isna().all()
    assert (found.table["flips"] > 0).any()
    attacked = found.table[found.table["norm"].notna()]
    assert attacked[["robust_accuracy", "attack_success_rate"]].isna().all(axis=None)
    assert attacked[["transfer_accuracy", "transfer_success_rate"]].notna().all(axis=None)
    assert set(attacked["made_against"]) == {"another network: baseline"}
    assert TRANSFERRED.format("baseline") in found.note
    assert not crosscheck_file(deployed.suite(*NARROW), foreign, model="other", **places).agrees
    assert not crosscheck_file(deployed.suite(*NARROW), foreign, judge="always", **places).agrees
    assert crosscheck_file(deployed.suite(*NARROW), foreign, model="other", judge="never", **places).agrees


def test_file_without_a_name_that_gives_the_stored_logits_is_the_attacked_network(
    deployed: Deployed, file: Path, tmp_path: Path
) -> None:
    stamp(shutil.copy(file, tmp_path / "nameless.onnx"), {})
    places = {"out": tmp_path, "store": deployed.store, "device": "cpu"}
    own = crosscheck_file(deployed.suite(*NARROW), tmp_path / "nameless.onnx", model="other", **places).table
    assert own["robust_accuracy"].notna().any()
    assert own["transfer_accuracy"].isna().all()
    other = crosscheck_file(deployed.suite(), tmp_path / "nameless.onnx", model="baseline", **places).table
    assert other["robust_accuracy"][other["norm"].notna()].isna().all()
    assert other["transfer_accuracy"].notna().any()


def test_smaller_numbers_say_what_their_images_were_made_against(checked: Crosscheck) -> None:
    attacked = checked.table[checked.table["norm"].notna()]
    found = {precision: set(rows["made_against"]) for precision, rows in attacked.groupby("precision")}
    assert found == {"float32": {"itself"}, "int8": {"its float network"}, "fp16": {"its float network"}}
    assert checked.table.loc[checked.table["norm"].isna(), "made_against"].isna().all()
    assert COARSER in checked.note


def test_int8_files_clip_no_pixel_and_float_files_have_no_share(checked: Crosscheck) -> None:
    shares = checked.table.groupby("precision")["clipped_share"]
    assert shares.count().to_dict() == {"float32": 0, "fp16": 0, "int8": (checked.table["precision"] == "int8").sum()}
    assert shares.max()["int8"] == 0
    assert "clips" not in checked.note


def test_clipped_share_of_a_foreign_file_is_that_of_the_very_images(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The file keeps pixels from 0 to 0.5 alone, and numbers are rounded: 0.5 stays, 0.75 and 1 do not.
    model = onnx.load(foreign)
    image = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["kept" if name == image else name for name in node.input]
    quantising = [("QuantizeLinear", [image, "s", "z"], ["whole"]), ("DequantizeLinear", ["whole", "s", "z"], ["kept"])]
    for node in reversed(quantising):
        model.graph.node.insert(0, onnx.helper.make_node(*node))
    for name, value in (("s", np.float32(0.5 / 255)), ("z", np.uint8(0))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    onnx.save(model, tmp_path / "narrow.onnx")
    x = np.repeat(np.array([0.25, 0.5, 0.75, 1], np.float32), 3 * 16 * 16).reshape(4, 3, 16, 16)
    attack = BundleCondition(name="pgd", kind="attack", attack="pgd", norm="Linf", eps="1/2", clean="clean")
    with BundleWriter(tmp_path / "b.h5", class_names=[*"0123456789"], model="m", model_sha256="") as bundle:
        for spec, images, rows in (
            (BundleCondition(name="clean", kind="clean"), x[:2], None),
            (attack, np.concatenate([x[:1], x[2:]]), np.array([0, 0, 1])),
        ):
            with bundle.condition(spec) as condition:
                condition.append(images, np.zeros(len(images), np.int64), rows=rows)
    assert of_bundle("--bundle", tmp_path / "b.h5", "--onnx", tmp_path / "narrow.onnx", "--out", tmp_path) == 0
    rows = pd.read_csv(tmp_path / "crossruntime_narrow.csv").groupby("images")["clipped_share"]
    assert rows.nunique().tolist() == [1, 1]
    assert rows.first().to_dict() == {"clean": 0, "pgd": pytest.approx(2 / 3)}
    assert "narrow, float32: the file clips up to 67 % of the pixel values" in " ".join(capsys.readouterr().out.split())


def test_runtime_that_fails_costs_its_own_rows_only(deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise HarnessError("it crashed")

    monkeypatch.setattr(OnnxPython, "score", failing)
    found = crosscheck(deployed.suite(*NARROW), out=tmp_path, store=deployed.store, device="cpu")
    assert found.failures == ("other, ONNX Runtime (Python), float32: it crashed",)
    assert not found.agrees
    assert "PyTorch" in set(pd.read_csv(found.path)["runtime"])


def test_clipped_share_that_fails_costs_no_scores(deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise HarnessError("operators before the network do not run")

    monkeypatch.setattr("harness.deployment.scoring.clipped_shares", failing)
    found = crosscheck(deployed.suite(*NARROW), out=tmp_path, store=deployed.store, device="cpu")
    assert "other, ONNX Runtime (Python), float32: operators before the network do not run" in found.failures
    rows = found.table[found.table["runtime"] == "ONNX Runtime (Python)"]
    assert rows["accuracy"].count() == len(rows) > 0
    assert rows["clipped_share"].isna().all()


def test_file_is_scored_on_a_bundle_alone(
    deployed: Deployed, file: Path, foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checked = crosscheck(deployed.suite(*NARROW), out=tmp_path, store=deployed.store, device="cpu")
    bundle = checked.bundles["other"]
    assert of_bundle("--bundle", bundle, "--onnx", file, "--out", tmp_path) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line != INSTALL]
    assert lines[-2:] == [f"images of other: {bundle}", str(tmp_path / "crossruntime_mine.csv")]
    own, rows = pd.read_csv(checked.path), pd.read_csv(tmp_path / "crossruntime_mine.csv")
    assert rows["accuracy"].tolist() == own.loc[own["runtime"] != "PyTorch", "accuracy"].tolist()
    assert of_bundle("--bundle", bundle, "--onnx", foreign, "--out", tmp_path) == 1
    assert of_bundle("--bundle", bundle, "--onnx", foreign, "--out", tmp_path, "--judge", "never") == 0


def test_bundle_without_logits_gives_accuracies(tmp_path: Path, foreign: Path) -> None:
    x, y = torch.rand(5, 3, 16, 16).numpy(), np.arange(5)
    with (
        BundleWriter(tmp_path / "b.h5", class_names=[*"0123456789"], model="m", model_sha256="") as bundle,
        bundle.condition(BundleCondition(name="clean", kind="clean")) as condition,
    ):
        condition.append(x, y)
    found = crosscheck_bundle(tmp_path / "b.h5", foreign, out=tmp_path)
    assert found.agrees
    assert found.table["accuracy"].notna().all()
    assert found.table[["agreement", "flips", "max_difference", "agrees"]].isna().all(axis=None)
    assert len(set(found.table["accuracy"])) == 1


def test_command_line_calls_images_of_another_network_transfer(
    deployed: Deployed, foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert call(deployed, tmp_path, "--onnx", str(foreign)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "transfer accuracy, lowest" in printed
    assert "robust accuracy" not in printed
    assert TRANSFERRED.format("baseline") in printed


def test_command_line_agrees_with_zero_and_disagrees_with_one(
    deployed: Deployed, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(deployed, tmp_path) == 0
    assert call(deployed, tmp_path, "--onnx", str(file)) == 0
    capsys.readouterr()
    code, printed = call(deployed, tmp_path, "--onnx", str(file), "--model", "baseline"), capsys.readouterr()
    assert code == 1, printed
    lines = printed.out.splitlines()
    assert any(re.match(r"mine, clean, .*: \d+ flips outside the margin of 0\.001", line) for line in lines)
    assert lines[-1] == str(tmp_path / "crossruntime_mine.csv")
