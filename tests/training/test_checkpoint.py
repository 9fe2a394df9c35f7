import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.errors import HarnessError
from harness.training.checkpoint import DAMAGED, FILE, DamagedCheckpoint, Snapshot, load_snapshot, save_snapshot, usable_snapshot

SNAPSHOT = Snapshot({"model.weight": torch.tensor([0.1, 1 / 3])}, {"history": [{"loss": 1 / 3}], "steps": 4})


def test_snapshot_comes_back_exactly(tmp_path: Path) -> None:
    save_snapshot(SNAPSHOT, tmp_path / "new", fingerprint="a")
    found = load_snapshot(tmp_path / "new", fingerprint="a")
    assert found is not None
    assert found.notes == SNAPSHOT.notes
    assert torch.equal(found.tensors["model.weight"], SNAPSHOT.tensors["model.weight"])


def test_folder_without_a_checkpoint_gives_none(tmp_path: Path) -> None:
    assert load_snapshot(tmp_path, fingerprint="a") is None
    assert load_snapshot(tmp_path / "absent", fingerprint="a") is None


def test_pickled_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(pickle.dumps({"model": [1, 2, 3]}))
    with pytest.raises(DamagedCheckpoint, match="expected a training checkpoint in safetensors"):
        load_snapshot(tmp_path, fingerprint="a")
    torch.save(dict(SNAPSHOT.tensors), tmp_path / FILE)
    with pytest.raises(DamagedCheckpoint, match="expected a training checkpoint in safetensors"):
        load_snapshot(tmp_path, fingerprint="a")


def test_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    save_snapshot(SNAPSHOT, tmp_path, fingerprint="a")
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:-3])
    with pytest.raises(DamagedCheckpoint, match="expected a training checkpoint"):
        load_snapshot(tmp_path, fingerprint="a")
    save_file({"weight": torch.zeros(1)}, tmp_path / FILE)
    with pytest.raises(DamagedCheckpoint, match="expected a checkpoint of schema version 1, found None"):
        load_snapshot(tmp_path, fingerprint="a")


def test_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    save_snapshot(SNAPSHOT, tmp_path, fingerprint="a")
    with pytest.raises(HarnessError, match="found one of another; delete it"):
        load_snapshot(tmp_path, fingerprint="b")


def test_changed_tensor_or_note_is_noticed(tmp_path: Path) -> None:
    save_snapshot(SNAPSHOT, tmp_path, fingerprint="a")
    whole = (tmp_path / FILE).read_bytes()
    for at in (len(whole) - 1, whole.index(b"steps") + 1, whole.index(b'"a"') + 1):  # a tensor, a note, the fingerprint
        (tmp_path / FILE).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DamagedCheckpoint, match="found another"):
            load_snapshot(tmp_path, fingerprint="a")


def test_damaged_checkpoint_is_set_aside_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_bytes(b"half")
    assert usable_snapshot(tmp_path, fingerprint="a") is None
    assert [path.name for path in tmp_path.iterdir()] == [DAMAGED]
    assert "set aside as checkpoint.damaged, and the training begins anew" in caplog.text
    assert usable_snapshot(tmp_path, fingerprint="a") is None


def test_killed_write_leaves_the_snapshot_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_snapshot(SNAPSHOT, tmp_path, fingerprint="a")

    def dies(_: object, path: Path, **__: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.training.checkpoint.save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        save_snapshot(Snapshot({}, {"steps": 5}), tmp_path, fingerprint="a")
    found = load_snapshot(tmp_path, fingerprint="a")
    assert found is not None
    assert found.notes["steps"] == 4
