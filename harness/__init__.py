"""Benchmark image classifiers against evasion, poisoning and corruption, and prove the deployed model is the measured one.

The public names below are imported when they are first used, so that `harness --help` answers at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.crossruntime.run import crosscheck
    from harness.reports.load import load_results
    from harness.runner import run
    from harness.standalone import evaluate
    from harness.suite import Suite
    from harness.suite_files import load_suite
    from harness.threat import ThreatModel

__all__ = ["Suite", "ThreatModel", "crosscheck", "evaluate", "load_results", "load_suite", "run"]

_HOMES = {
    "Suite": "harness.suite",
    "ThreatModel": "harness.threat",
    "crosscheck": "harness.crossruntime.run",
    "evaluate": "harness.standalone",
    "load_results": "harness.reports.load",
    "load_suite": "harness.suite_files",
    "run": "harness.runner",
}


def __getattr__(name: str) -> Any:
    """Imports a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
