"""Benchmark image classifiers against evasion, poisoning and corruption, and prove the deployed model is the measured one.

The public names below are imported when they are first used, so that `harness --help` answers at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.attacks.base import ATTACKS
    from harness.corruptions.base import CORRUPTIONS
    from harness.datasets.base import DATASETS
    from harness.deployment.crosscheck import crosscheck
    from harness.errors import DataError, HarnessError, ModelError, StepFailed, StoreError, SuiteError
    from harness.models.base import MODELS
    from harness.poisoning.base import POISONS
    from harness.poisoning.detectors.base import DETECTORS
    from harness.reports.load import load_results
    from harness.running.runner import run
    from harness.standalone import evaluate
    from harness.suites.files import load_suite
    from harness.suites.suite import Suite
    from harness.threat import ThreatModel
    from harness.training.recipes.base import RECIPES

__all__ = [
    "ATTACKS",
    "CORRUPTIONS",
    "DATASETS",
    "DETECTORS",
    "MODELS",
    "POISONS",
    "RECIPES",
    "DataError",
    "HarnessError",
    "ModelError",
    "StepFailed",
    "StoreError",
    "Suite",
    "SuiteError",
    "ThreatModel",
    "crosscheck",
    "evaluate",
    "load_results",
    "load_suite",
    "run",
]

_HOMES = {
    "ATTACKS": "harness.attacks.base",
    "CORRUPTIONS": "harness.corruptions.base",
    "DATASETS": "harness.datasets.base",
    "DETECTORS": "harness.poisoning.detectors.base",
    "DataError": "harness.errors",
    "HarnessError": "harness.errors",
    "MODELS": "harness.models.base",
    "ModelError": "harness.errors",
    "POISONS": "harness.poisoning.base",
    "RECIPES": "harness.training.recipes.base",
    "StepFailed": "harness.errors",
    "StoreError": "harness.errors",
    "Suite": "harness.suites.suite",
    "SuiteError": "harness.errors",
    "ThreatModel": "harness.threat",
    "crosscheck": "harness.deployment.crosscheck",
    "evaluate": "harness.standalone",
    "load_results": "harness.reports.load",
    "load_suite": "harness.suites.files",
    "run": "harness.running.runner",
}


def __getattr__(name: str) -> Any:
    """Imports a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
