from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from harness.errors import StoreError
from harness.poisoning.manifest import Manifest
from harness.poisoning.poisoned import PoisonedData


def test_manifest_survives_the_file(backdoored: PoisonedData, tmp_path: Path):
    backdoored.manifest.save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path / "manifest.json") == backdoored.manifest


def test_flags_mark_the_listed_examples(backdoored: PoisonedData):
    manifest = backdoored.manifest
    assert np.array_equal(np.flatnonzero(manifest.is_poisoned), manifest.indices)
    assert len(manifest.is_poisoned) == manifest.training_examples


def test_missing_or_damaged_file_is_named(tmp_path: Path):
    with pytest.raises(StoreError, match=r"absent\.json: expected a manifest"):
        Manifest.load(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text('{"schema_version": 2}')
    with pytest.raises(StoreError, match=r"bad\.json: schema_version"):
        Manifest.load(tmp_path / "bad.json")


def test_examples_listed_twice_or_beyond_the_split_are_refused(backdoored: PoisonedData):
    fields = backdoored.manifest.model_dump()
    for change in ({"examples": fields["examples"][:1] * 2}, {"training_examples": 1}):
        with pytest.raises(ValidationError, match="expected rising positions"):
            Manifest.model_validate({**fields, **change})
