"""Model files that get their final name after a check."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from harness.errors import ModelError


@contextmanager
def provisional(path: Path) -> Iterator[Path]:
    """Yields a path to write to, and renames its file to `path` when the block ends without an error.

    Raises:
        ModelError: if the folder cannot be written, or the file is not a valid ONNX model.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ModelError(f"{path}: expected a writable folder, got: {error}") from error
    with folder as name:
        draft = Path(name) / path.name
        yield draft
        _check(draft, path)
        draft.replace(path)


def stamp(path: Path, props: Mapping[str, str]) -> None:
    """Replaces the metadata entries of an ONNX file."""
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(props))
    onnx.save(model, path)


def _check(draft: Path, path: Path) -> None:
    try:
        onnx.checker.check_model(draft, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, OSError) as error:
        raise ModelError(f"{path}: expected a valid ONNX model, got: {str(error).splitlines()[0]}") from error
