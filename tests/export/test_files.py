import pytest

from harness.errors import ModelError
from harness.export.files import provisional


def test_failure_leaves_the_former_file_and_nothing_else(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"former")
    with pytest.raises(ModelError), provisional(path) as draft:
        draft.write_bytes(b"half")
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"no model", b""])
def test_invalid_model_never_gets_the_name(content, tmp_path):
    path = tmp_path / "new" / "model.onnx"
    with pytest.raises(ModelError, match=r"model\.onnx: expected a valid ONNX model"), provisional(path) as draft:
        draft.write_bytes(content)
    assert not path.exists()


def test_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ModelError, match="expected a writable folder"), provisional(tmp_path / "out" / "model.onnx"):
        pass


def test_checked_model_replaces_the_former(tmp_path, model_file):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"former")
    with provisional(path) as draft:
        draft.write_bytes(model_file.read_bytes())
    assert path.read_bytes() == model_file.read_bytes()
