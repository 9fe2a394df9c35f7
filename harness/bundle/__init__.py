"""Bundles: one model's stored inputs, labels and PyTorch logits in one HDF5 file, to be scored in any other runtime."""

from harness.bundle.reader import Bundle, StoredBatch, StoredCondition, read_bundle
from harness.bundle.schema import SCHEMA_VERSION, BundleCondition, Compression, Kind
from harness.bundle.writer import BundleWriter, ConditionWriter

__all__ = [
    "SCHEMA_VERSION",
    "Bundle",
    "BundleCondition",
    "BundleWriter",
    "Compression",
    "ConditionWriter",
    "Kind",
    "StoredBatch",
    "StoredCondition",
    "read_bundle",
]
