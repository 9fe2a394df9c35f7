import pytest
import torch

from harness.errors import ModelError
from harness.export.metadata import Metadata, metadata_of, model_sha256


def test_metadata_survives_the_file_s_text_form(classifier):
    metadata = metadata_of(classifier, kind="deploy", resolution=32, resize="crop")
    props = metadata.to_props()
    assert (props["kind"], props["class_names"], props["resolution"]) == ("deploy", '["leek","onion","garlic"]', "32")
    assert Metadata.from_props({**props, "producer": "else"}, "x.onnx") == metadata
    assert metadata.mean == pytest.approx((0.5, 0.4, 0.3))


def test_foreign_file_has_no_metadata():
    assert Metadata.from_props({"author": "someone"}, "x.onnx") is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"schema_version": "2"}, r"x\.onnx: metadata: schema_version: expected a number <= 1, got 2"),
        ({"class_names": "leek"}, "x.onnx: expected JSON in the metadata"),
        ({"kind": "other"}, r"x\.onnx: metadata: kind: expected"),
    ],
)
def test_damaged_metadata_is_explained(entry, message, classifier):
    props = metadata_of(classifier, kind="logits", resolution=32).to_props()
    with pytest.raises(ModelError, match=message):
        Metadata.from_props({**props, **entry}, "x.onnx")


def test_hash_knows_every_bit_and_no_memory_layout(classifier):
    state = classifier.state_dict()
    found = model_sha256(state)
    assert len(found) == 64
    assert model_sha256(dict(reversed(state.items()))) == found
    assert model_sha256(classifier.to(memory_format=torch.channels_last).state_dict()) == found
    assert model_sha256({**state, "std": state["std"].nextafter(torch.ones(()))}) != found


@pytest.mark.parametrize("names", [2_000 * "[", 2_000 * '{"a":', "[" + 5_000 * "1" + "]"])
def test_metadata_that_no_reader_can_hold_is_one_line(names: str) -> None:
    props = {"schema_version": "1", "model_sha256": "0", "class_names": names}
    with pytest.raises(ModelError, match=r"net\.onnx: expected JSON in the metadata"):
        Metadata.from_props(props, "net.onnx")
