"""What `harness gc` takes for garbage, and what it leaves alone."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import StoreError
from harness.reports.files import staged
from harness.storage.garbage import garbage, named_by, remove
from harness.storage.store import Store


def digest_of(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def stored(
    store: Store, kind: str, name: str, inputs: Mapping[str, str] | None = None, *, created: str = "2026-01-01", title: str = ""
) -> str:
    """Writes an entry made of others, all named by words, and returns its digest."""
    digest, made_of = digest_of(name), {role: digest_of(of) for role, of in (inputs or {}).items()}
    meta = {"title": title or f"{kind} of {name}", "created": created, "spec": {"inputs": made_of}}
    with store.locked(digest, name), store.writing(kind, digest, meta) as folder:
        (folder / "payload").write_bytes(b"x" * 100)
    return digest


def called(*arguments: str) -> object:
    """Returns the exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two trained models with an attack each, and exports of the first one."""
    store = Store(tmp_path / ".store")
    for name in ("kept", "gone"):
        stored(store, "train", name)
        stored(store, "attack", f"{name} attack", {"model": name})
    stored(store, "export", "old", {"model": "kept"}, created="2026-01-01")
    stored(store, "export", "new", {"model": "kept"}, created="2026-02-01")
    stored(store, "export", "smaller", {"model": "kept", "graph": "new"})
    stored(store, "export", "of gone", {"model": "gone"})
    return store


def test_named_steps_keep_what_they_were_computed_from(store: Store) -> None:
    found = {it.digest for it in garbage(store, [digest_of("kept attack")])}
    assert {digest_of("gone"), digest_of("gone attack"), digest_of("of gone")} <= found
    assert digest_of("kept") not in found


def test_exports_of_a_kept_model_stay(store: Store) -> None:
    found = {it.digest for it in garbage(store, [digest_of("kept")])}
    assert not found & {digest_of("new"), digest_of("smaller")}
    assert digest_of("kept attack") in found, "an attack that no results folder names is garbage, though its model is not"


@pytest.mark.parametrize(
    ("years", "stays"), [(("2025", "2026", "2999"), "2026"), (("2998", "2999"), "2999"), (("2025", "2026"), "2026")]
)
def test_newest_of_several_exports_stays_and_one_that_a_clock_ahead_dated_counts_as_old(
    tmp_path: Path, years: tuple[str, ...], stays: str
) -> None:
    store = Store(tmp_path / "exports")
    stored(store, "train", "kept")
    made = {
        year: stored(store, "export", f"of {year}", {"model": "kept"}, created=f"{year}-01-01", title="net") for year in years
    }
    found = {it.digest for it in garbage(store, [digest_of("kept")])}
    assert found == {digest for year, digest in made.items() if year != stays}


def test_locks_of_killed_processes_go_and_those_of_processes_at_work_stay(store: Store) -> None:
    (left := store.lock_file("run-killed")).write_text('{"process": 1, "host": "gone"}')
    with store.locked(digest_of("kept"), "kept"):
        remove(store, [])
        assert list(left.parent.iterdir()) == [store.lock_file(digest_of("kept"))]
    assert list(left.parent.iterdir()) == []


def test_removal_takes_garbage_and_leaves_the_rest_whole(store: Store) -> None:
    (store.root / ".damaged" / "attack.x").mkdir(parents=True)
    (store.partial(digest_of("nobody's")) / "checkpoint").write_bytes(b"x")
    (store.partial(digest_of("kept training")) / "checkpoint").write_bytes(b"x")
    named = [digest_of("kept attack"), digest_of("kept training")]
    assert remove(store, garbage(store, named)) == []
    assert [it.digest for it in garbage(store, named)] == []
    left = {path.parent.name for path in store.root.glob("*/*/meta.json")}
    assert {digest_of("kept"), digest_of("kept attack"), digest_of("new")} <= left
    assert not left & {digest_of("gone"), digest_of("gone attack"), digest_of("of gone")}
    assert not any((store.root / ".damaged").iterdir())
    assert [path.name for path in (store.root / ".partial").iterdir()] == [digest_of("kept training")]


def test_steps_that_a_process_works_on_stay(store: Store) -> None:
    found = garbage(store, [digest_of("kept attack")])
    with store.locked(digest_of("gone"), "gone"):
        assert [it.digest for it in remove(store, found)] == [digest_of("gone")]
    assert store.get("train", digest_of("gone")) is not None


def test_damaged_record_keeps_its_place_only_if_it_is_named(store: Store) -> None:
    (store.root / "train" / digest_of("kept") / "meta.json").write_text("{")
    assert digest_of("kept") not in {it.digest for it in garbage(store, [digest_of("kept")])}
    assert digest_of("kept") in {it.digest for it in garbage(store, [])}


@pytest.mark.parametrize("text", ["{", '{"steps": 3}', "[" * 100_000])
def test_damaged_results_folder_is_an_error_and_not_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "provenance.json").write_text(text)
    with pytest.raises(StoreError, match=r"provenance\.json"):
        named_by([tmp_path])


def test_folders_of_other_programs_are_no_entries(store: Store) -> None:
    (foreign := store.root / "project" / "data").mkdir(parents=True)
    (foreign / "meta.json").write_text("{}")
    assert foreign not in {it.path for it in garbage(store, [])}


def test_verb_shows_first_and_removes_on_request(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    results = store.root.parent / "run"
    results.mkdir()
    (results / "cells.csv").write_text("")
    (results / "provenance.json").write_text(json.dumps({"steps": {digest_of("kept attack"): "attack"}}))
    call = ("gc", "--store", str(store.root))
    assert called(*call) == 0
    shown = capsys.readouterr().out
    assert "train of gone" in shown
    assert "--delete removes them" in shown
    assert store.get("train", digest_of("gone")) is not None
    assert called(*call, "--delete") == 0
    assert "removed" in capsys.readouterr().out
    assert store.get("train", digest_of("gone")) is None
    assert store.get("train", digest_of("kept")) is not None


def test_without_results_folders_nothing_is_taken_for_garbage(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert called("gc", "--store", str(store.root), "--delete") == 2
    assert "expected results folders" in capsys.readouterr().err
    assert store.get("train", digest_of("gone")) is not None


@pytest.mark.parametrize("named", [True, False])
def test_steps_of_a_run_that_has_not_written_its_tables_stay(store: Store, *, named: bool) -> None:
    finished, first = store.root.parent / "finished", store.root.parent / "first"
    for folder in (finished, first):
        folder.mkdir()
    (finished / "cells.csv").write_text("")
    (finished / "provenance.json").write_text(json.dumps({"steps": {digest_of("kept attack"): "attack"}}))
    (first / ".run.json").write_text(json.dumps({"steps": [{"kind": "attack", "digest": digest_of("gone attack")}]}))
    assert called("gc", *([str(finished)] if named else []), "--store", str(store.root), "--delete") == 0
    assert store.get("attack", digest_of("gone attack")) is not None, "another terminal runs the suite that made it"
    assert store.get("train", digest_of("gone")) is not None


def test_damaged_record_of_a_run_removes_nothing(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    results = store.root.parent / "run"
    results.mkdir()
    (results / "cells.csv").write_text("")
    (results / "provenance.json").write_text(json.dumps({"steps": {digest_of("kept attack"): "attack"}}))
    (results / ".run.json").write_text('{"steps": [3]}')
    assert called("gc", "--store", str(store.root), "--delete") == 2
    assert ".run.json: expected the record of a run" in capsys.readouterr().err
    assert store.get("train", digest_of("gone")) is not None


def test_results_folder_elsewhere_keeps_its_steps(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = tmp_path / "far" / "away"
    elsewhere.mkdir(parents=True)
    (elsewhere / "cells.csv").write_text("")
    (elsewhere / "provenance.json").write_text(json.dumps({"steps": {digest_of("kept attack"): "attack"}}))
    store.note_results(elsewhere)
    store.note_results(tmp_path / "gone since")
    assert set(store.noted_results()) == {elsewhere, tmp_path / "gone since"}
    assert called("gc", "--store", str(store.root)) == 0
    assert "nothing refers to in 1 results folders" in capsys.readouterr().out
    assert called("gc", "--store", str(store.root), "--delete") == 0
    assert store.get("attack", digest_of("kept attack")) is not None
    assert store.get("train", digest_of("gone")) is None


def test_verb_removes_half_written_results_of_killed_runs(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results := tmp_path / "elsewhere" / "killed").mkdir(parents=True)
    store.note_results(results)
    (left := results / ".staging-01234567").mkdir()
    (left / "cells.csv").write_text("half")
    (results / ".staging-01234567.claim").write_text("")
    (results / "mine").write_text("")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "provenance.json").write_text(json.dumps({"steps": {}}))
    (tmp_path / "whole" / "cells.csv").write_text("model")
    with staged(results, owned={}) as at_work:
        left.mkdir(exist_ok=True)
        assert not called("gc", str(tmp_path / "whole"), "--delete", "--store", str(store.root))
        assert sorted(path.name for path in results.iterdir()) == [at_work.name, f"{at_work.name}.claim", "mine"]
    assert "removed" in capsys.readouterr().out
