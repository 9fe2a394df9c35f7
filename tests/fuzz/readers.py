"""The readers, each with good files to start from."""

import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import yaml
from hypothesis import strategies as st
from PIL import Image

from harness.bundle.attacked import read_attacked
from harness.bundle.reader import read_bundle
from harness.datasets.decoding import read_image
from harness.models.h5 import save_h5
from harness.models.weights import read_weights, save_pth, save_safetensors
from harness.onnxfile.content import content_sha256
from harness.onnxfile.session import Session
from harness.reports.load import load_results, reading_tables
from harness.reports.tables.write import write_tables
from harness.running.watching import state_of
from harness.storage.garbage import garbage
from harness.storage.store import META, Entry, Store
from harness.suites.files import SHIPPED_FOLDERS, load_suite
from tests.fuzz.mutations import changed, other_values
from tests.nets import small_convnet
from tests.onnxfile.files import save_onnx
from tests.reports.planted import grid, record_of
from tests.test_bundle import write as write_bundle
from tests.training.cases import classifier

DIGEST = "0f" * 32
"""Of a stored step."""
BATCH = 64


@dataclass(frozen=True)
class Reader:
    """A reader and what it is fed."""

    name: str
    """The file's name, also that of the reader."""
    files: Callable[[], st.SearchStrategy[bytes]]
    read: Callable[[Path], object]
    """Called with the file."""


@cache
def _bytes_of(write: Callable[[Path], object], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _weights() -> dict[str, Callable[[Path], object]]:
    model = classifier(small_convnet(10))
    return {
        "weights.pth": lambda path: save_pth(model, path),
        "weights.safetensors": lambda path: save_safetensors(model, path),
        "weights.h5": lambda path: save_h5(model, path, arch="resnet18", resolution=16, summary={"a": [1, None]}),
    }


def _of_weights(name: str) -> st.SearchStrategy[bytes]:
    return changed([_bytes_of(_weights()[name], name)])


def _legacy(path: Path) -> None:
    torch.save(small_convnet(10).state_dict(), path, _use_new_zipfile_serialization=False)


def _pth() -> st.SearchStrategy[bytes]:
    return changed([_bytes_of(_weights()["weights.pth"], "weights.pth"), _bytes_of(_legacy, "legacy.pth")])


def _suites() -> st.SearchStrategy[bytes]:
    texts = [path.read_text() for folder in SHIPPED_FOLDERS if folder.is_dir() for path in sorted(folder.glob("*.yaml"))]
    values = [yaml.safe_load(text) for text in texts]
    as_text = other_values(values).map(lambda value: yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass"))
    return st.one_of(as_text, changed([text.encode() for text in texts]))


def _json(good: Sequence[Any]) -> st.SearchStrategy[bytes]:
    texts = [json.dumps(value).encode() for value in good]
    return st.one_of(other_values(good).map(lambda value: json.dumps(value).encode()), changed(texts))


META_JSON = {
    "schema_version": 1, "kind": "clean", "digest": DIGEST, "files": {"outcome.safetensors": "00" * 32}, "title": "score pgd",
    "created": "2026-01-01T00:00:00+00:00", "seconds": 1.0,
    "spec": {"kind": "clean", "version": 1, "identity": {"examples": {"split": "test"}}, "inputs": {"model": "1f" * 32}},
}  # fmt: skip
RUN_JSON = {
    "store": "store", "host": "nowhere", "process": 1, "started": "2026-01-01T00:00:00+00:00", "cached": 0,
    "steps": [{"kind": "clean", "digest": DIGEST, "title": "score pgd"}],
}  # fmt: skip


def _read_meta(path: Path) -> None:
    root = path.parent / "store"
    folder = root / "clean" / DIGEST
    folder.mkdir(parents=True, exist_ok=True)
    (folder / META).write_bytes(path.read_bytes())
    store = Store(root)
    store.damaged_files(Entry("clean", DIGEST, folder))
    garbage(store, [])


def _read_run(path: Path) -> None:
    (path.parent / ".run.json").write_bytes(path.read_bytes())
    state_of(path.parent)


@cache
def _results() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write_tables(record_of(grid()), Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def _read_results(path: Path) -> None:
    for name, content in _results().items():
        if name != path.name:
            (path.parent / name).write_bytes(content)
    results = load_results(path.parent)
    with reading_tables(path.parent):
        getattr(results, path.stem)


def _table(name: str) -> Reader:
    return Reader(name, lambda: changed([_results()[name]]), _read_results)


def _provenance() -> st.SearchStrategy[bytes]:
    return _json([json.loads(_results()["provenance.json"])])


def _read_onnx(path: Path) -> None:
    content_sha256(path)
    session = Session(path)
    _ = session.metadata, session.images


def _read_bundle(path: Path) -> None:
    bundle = read_bundle(path)
    for condition in bundle.conditions:
        for _ in bundle.batches(condition.spec.name, BATCH):
            pass


def _write_attacked(path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"x": rng.random((4, 3, 8, 8), dtype=np.float32), "index": np.arange(4), "label": np.arange(4)}
    head = {"schema_version": 1, "model": "pgd", "norm": "Linf", "eps": "8/255"}
    if path.suffix == ".npz":
        np.savez(path, **arrays, **head)
        return
    with h5py.File(path, "w") as file:
        file.attrs.update(head)
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip" if name == "x" else None)


def _images(*formats: str) -> st.SearchStrategy[bytes]:
    found = []
    for name in formats:
        buffer = io.BytesIO()
        Image.effect_noise((24, 18), 50).convert("RGB").save(buffer, name)
        found.append(buffer.getvalue())
    return changed(found)


def _write_onnx(path: Path) -> None:
    save_onnx(path, classifier(small_convnet(10)).backbone.eval())


READERS = {
    reader.name: reader
    for reader in (
        Reader("suite.yaml", _suites, load_suite),
        Reader("meta.json", lambda: _json([META_JSON]), _read_meta),
        Reader("run.json", lambda: _json([RUN_JSON]), _read_run),
        *map(_table, ("cells.csv", "sweep.csv", "leaderboard.csv", "history.csv", "expectations.csv", "samples.parquet")),
        Reader("provenance.json", _provenance, _read_results),
        Reader("weights.pth", _pth, read_weights),
        Reader("weights.safetensors", lambda: _of_weights("weights.safetensors"), read_weights),
        Reader("weights.h5", lambda: _of_weights("weights.h5"), read_weights),
        Reader("model.onnx", lambda: changed([_bytes_of(_write_onnx, "model.onnx")]), _read_onnx),
        Reader("bundle.h5", lambda: changed([_bytes_of(write_bundle, "bundle.h5")]), _read_bundle),
        Reader("attacked.h5", lambda: changed([_bytes_of(_write_attacked, "attacked.h5")]), read_attacked),
        Reader("attacked.npz", lambda: changed([_bytes_of(_write_attacked, "attacked.npz")]), read_attacked),
        Reader("image.png", lambda: _images("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"), read_image),
    )
}
