"""Bundles: one model's stored inputs, labels and PyTorch logits in one HDF5 file that any other runtime can score."""

from harness.bundle.reader import Batch, Bundle, StoredCondition, read_bundle
from harness.bundle.schema import SCHEMA_VERSION, BundleCondition, Compression, Kind
from harness.bundle.writer import BundleWriter, ConditionWriter

__all__ = [
    "SCHEMA_VERSION",
    "Batch",
    "Bundle",
    "BundleCondition",
    "BundleWriter",
    "Compression",
    "ConditionWriter",
    "Kind",
    "StoredCondition",
    "read_bundle",
]
