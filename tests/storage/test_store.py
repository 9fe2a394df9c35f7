import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.storage.store import META, Store, sha256_of_file

DIGEST = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(store: Store, text: str = "payload") -> None:
    with store.writing("train", DIGEST, {"spec": {"a": 1}}) as folder:
        (folder / "file.txt").write_text(text)


def test_entry_is_found_with_its_record_and_file_hashes(store: Store) -> None:
    write(store)
    entry = store.get("train", DIGEST)
    assert entry is not None
    assert entry.meta["spec"] == {"a": 1}
    assert entry.meta["files"] == {"file.txt": sha256_of_file(entry.path / "file.txt")}


def test_entry_is_absent_after_an_error_inside_the_block(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.writing("train", DIGEST, {}) as folder:
        (folder / "half.txt").write_text(str(1 // 0))
    assert store.get("train", DIGEST) is None
    assert list((store.root / "train").iterdir()) == []


def test_entry_without_record_is_absent_and_replaced(store: Store) -> None:
    half = store.root / "train" / DIGEST
    half.mkdir(parents=True)
    (half / "half.txt").write_text("left by a killed process")
    assert store.get("train", DIGEST) is None
    write(store)
    assert [path.name for path in sorted((store.root / "train" / DIGEST).iterdir())] == ["file.txt", META]


def test_existing_entry_is_never_overwritten(store: Store) -> None:
    write(store, "first")
    write(store, "second")
    entry = store.get("train", DIGEST)
    assert entry is not None
    assert (entry.path / "file.txt").read_text() == "first"


def test_damage_is_named(store: Store) -> None:
    write(store)
    entry = store.get("train", DIGEST)
    assert entry is not None
    assert store.damaged_files(entry) == []
    (entry.path / "file.txt").write_text("changed")
    assert store.damaged_files(entry) == ["file.txt"]


def test_prefix_finds_an_entry_and_must_not_be_too_short(store: Store) -> None:
    write(store)
    assert [entry.digest for entry in store.find(DIGEST[:6])] == [DIGEST]
    assert store.find("ffff") == []
    with pytest.raises(StoreError, match="at least 4"):
        store.find("ab")


def test_unwritable_store_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="cannot be written"), Store(tmp_path / "file").writing("train", DIGEST, {}):
        pass


def test_damaged_record_is_one_clear_error(store: Store) -> None:
    write(store)
    (store.root / "train" / DIGEST / META).write_text("{")
    entry = store.get("train", DIGEST)
    assert entry is not None
    with pytest.raises(StoreError, match="expected a JSON file"):
        _ = entry.meta


def test_full_disk_leaves_no_entry_and_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dumps", no_space)
    with pytest.raises(StoreError, match="No space left"):
        write(store)
    monkeypatch.undo()
    assert store.get("train", DIGEST) is None


WRITER = """
import sys
from pathlib import Path
from harness.storage.store import Store
store, digest = Store(Path(sys.argv[1])), sys.argv[2]
with store.locked(digest, "train"), store.writing("train", digest, {}) as folder:
    (folder / "half.txt").write_text("half")
    print(folder, flush=True)
    sys.stdin.readline()
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_kept(store: Store) -> None:
    command = [sys.executable, "-c", WRITER, str(store.root), DIGEST]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        folder = Path(writer.stdout.readline().strip())
        with store.locked("cd" * 32, "another step"):
            assert (folder / "half.txt").is_file()
        writer.kill()
        writer.wait()
    assert folder.is_dir()
    with store.locked("cd" * 32, "another step"):
        assert not folder.exists()
    write(store)
    assert store.get("train", DIGEST) is not None


def test_checkpoints_of_an_unfinished_step_outlive_the_locks_of_others(store: Store) -> None:
    (store.partial(DIGEST) / "epoch.safetensors").write_text("weights")
    with store.locked("cd" * 32, "another step"):
        assert (store.partial(DIGEST) / "epoch.safetensors").is_file()


def test_unwritable_store_refuses_a_lock_in_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="cannot be written"), Store(tmp_path / "file").locked(DIGEST, "train"):
        pass


def test_the_store_is_searched_for_what_killed_processes_left_once_not_before_each_step(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[Store] = []

    def note(searched: Store) -> None:
        searches.append(searched)

    monkeypatch.setattr(Store, "remove_left_behind", note)
    for number in range(3):
        with store.locked(f"{number:064x}", "a step"):
            pass
    assert searches == [store]
