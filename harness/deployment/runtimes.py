"""The runtimes that score a bundle: PyTorch, ONNX Runtime in Python, ONNX Runtime in C++."""

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from harness.bundle import Bundle, BundleCondition
from harness.deployment.agreement import Rule
from harness.deployment.scores import BATCH, Score, scores_of
from harness.errors import HarnessError, ModelError
from harness.export.runtime import OnnxModel
from harness.storage.provenance import package_versions
from harness.system.memory import reused_memory

PACKAGE = "robustness-harness"
PROGRAM = "harness_eval"
VARIABLE = "HARNESS_EVAL"
"""Environment variable that names the program."""
SOURCES = Path(__file__).parents[2] / "cpp_eval"
"""Folder of the program's sources in a checkout; an installed package has none."""
BUILDS = SOURCES / "build"
"""Folder of the builds of `make cpp`, one for each preset."""
INSTALL = f"no C++ rows: {PROGRAM} is not built; `make cpp` builds it, or {VARIABLE} names it"
BUILD_ELSEWHERE = (
    f"no C++ rows: {PROGRAM} is not built, and an installed package has no C++ sources: in a checkout, or the unpacked source"
    " archive (.tar.gz) of {package}, run `cpp_eval/setup.sh {python} && cpp_eval/configure.sh release && cmake --build"
    f" cpp_eval/build/release`; then {VARIABLE}=FOLDER/cpp_eval/build/release/{PROGRAM} names it"
)
BAD_INPUT = 2


class Runtime(ABC):
    """A runtime that computes logits."""

    NAME: ClassVar[str]

    @property
    def file(self) -> Path | None:
        """The ONNX file that it runs; None where it runs none."""
        return None

    @abstractmethod
    def score(self, bundle: Bundle, rule: Rule) -> Sequence[Score]:
        """Returns the scores of every condition of a bundle.

        Raises:
            HarnessError: if the model or the bundle cannot be read, or one does not fit the other.
        """


@dataclass(frozen=True)
class PyTorch(Runtime):
    """The network itself, run again on the CPU: it must reproduce its stored logits."""

    NAME: ClassVar[str] = "PyTorch"

    network: nn.Module

    @reused_memory()
    def score(self, bundle: Bundle, rule: Rule) -> Sequence[Score]:
        """See `Runtime.score`."""
        threads, version = torch.get_num_threads(), str(torch.__version__)
        return [replace(score, threads=threads, version=version) for score in scores_of(bundle, self._logits, rule)]

    @torch.inference_mode()
    def _logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.network(torch.from_numpy(x)).numpy()


@dataclass(frozen=True)
class OnnxPython(Runtime):
    """ONNX Runtime, called from Python."""

    NAME: ClassVar[str] = "ONNX Runtime (Python)"

    path: Path
    threads: int | None = None
    """Threads inside an operator, or None for the runtime's choice."""
    timeout: float | None = None
    """Seconds that scoring may take, or None for any time."""

    @property
    def file(self) -> Path:
        """See `Runtime.file`."""
        return self.path

    def score(self, bundle: Bundle, rule: Rule) -> Sequence[Score]:
        """See `Runtime.score`."""
        model = open_logits_model(self.path, bundle.class_names, threads=self.threads, timeout=self.timeout)
        version = str(onnxruntime.__version__)
        return [replace(score, threads=self.threads, version=version) for score in scores_of(bundle, model.logits, rule)]


@dataclass(frozen=True)
class OnnxCpp(Runtime):
    """ONNX Runtime, called from C++ by `harness_eval`."""

    NAME: ClassVar[str] = "ONNX Runtime (C++)"

    path: Path
    program: Path
    threads: int | None = None
    """Threads inside an operator, or None for the program's choice."""
    timeout: float | None = None
    """Seconds that the program may take, or None for any time."""

    @property
    def file(self) -> Path:
        """See `Runtime.file`."""
        return self.path

    def score(self, bundle: Bundle, rule: Rule) -> Sequence[Score]:
        """See `Runtime.score`."""
        report = self._report(bundle, rule)
        found = {condition["name"]: condition for condition in report["conditions"]}
        threads, version = report["runtime"]["threads"], report["versions"]["onnxruntime"]
        judged = bool(report["judged"])
        scores = (_score_of(found[stored.spec.name], stored.spec, judged=judged) for stored in bundle.conditions)
        return [replace(score, threads=threads, version=version) for score in scores]

    def _report(self, bundle: Bundle, rule: Rule) -> dict[str, Any]:
        with TemporaryDirectory() as folder:
            out = Path(folder) / "report.json"
            files = ["--model", str(self.path), "--bundle", str(bundle.path), "--out", str(out), "--batch", str(BATCH), "--quiet"]
            bounds = ["--margin", str(rule.margin), "--quantile-bound", str(rule.quantile_bound)]
            judge = ["--judge", "always" if rule.expects_reference else "never"]
            done = self._run("score", *files, *bounds, *judge, "--threads", str(self.threads or 0))
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix(f"{PROGRAM}: ")
            if done.returncode == BAD_INPUT:
                raise ModelError(said)
            if done.returncode not in (0, 1):
                raise HarnessError(f"{self.program}: expected exit code 0, 1 or 2, got {done.returncode}: {said}")
            return json.loads(out.read_text())

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 - the program that the user built or named
                [self.program, *arguments], capture_output=True, text=True, check=False, timeout=self.timeout
            )
        except subprocess.TimeoutExpired as error:  # it is killed, and what it started ends with it
            raise ModelError(f"{self.path}: expected an end within {self.timeout:g} s, got none from {PROGRAM}") from error
        except OSError as error:
            raise HarnessError(f"{self.program}: expected a program that starts, got: {error.strerror or error}") from error


def open_logits_model(
    path: Path, class_names: Sequence[str], *, threads: int | None = None, timeout: float | None = None
) -> OnnxModel:
    """Opens an ONNX file that maps images in [0,1] to logits.

    Raises:
        ModelError: if it is missing or damaged, is a deployment graph, or has other classes.
    """
    model = OnnxModel(path, threads=threads, class_names=class_names, timeout=timeout)
    if model.takes_pixels:
        raise ModelError(f"{path}: expected float images (N, 3, H, W) to logits, got a deployment graph of uint8 pixels")
    return model


def find_program() -> Path | None:
    """Returns the C++ evaluator: the one that HARNESS_EVAL names, else of a checkout's builds, else on the PATH.

    Raises:
        HarnessError: if HARNESS_EVAL names no program.
    """
    if named := os.environ.get(VARIABLE):
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            raise HarnessError(f"{VARIABLE}: expected a program, found none at {named}")
        return Path(named)
    built = sorted(BUILDS.glob(f"*/{PROGRAM}"), key=lambda path: (path.parent.name != "release", path))
    on_path = shutil.which(PROGRAM)
    return built[0] if built else Path(on_path) if on_path else None


def how_to_install() -> str:
    """Returns in one line how to get the C++ evaluator, in a checkout or where the package was installed without sources."""
    if (SOURCES / "setup.sh").is_file():
        return INSTALL
    return BUILD_ELSEWHERE.format(
        package=f"{PACKAGE} {package_versions()[PACKAGE] or ''}".strip(), python=shlex.quote(sys.executable)
    )


def _score_of(row: Mapping[str, Any], condition: BundleCondition, *, judged: bool) -> Score:
    difference = row["logit_diff"] or {}
    return Score(
        condition=condition,
        n_examples=row["n"],
        accuracy=_number(row["accuracy"]),
        robust_accuracy=_number(_of_attack(row, "robust_accuracy", "transfer_accuracy")),
        attack_success_rate=_number(_of_attack(row, "attack_success_rate", "transfer_success_rate")),
        agreement=_number(row["top1_agreement"]),
        flips=None if row["flips"] is None else len(row["flips"]),
        flips_outside_margin=row["flips_outside_margin"],
        max_difference=_number(difference.get("max")),
        p99_difference=_number(difference.get("p99")),
        p99_relative=_number(difference.get("p99_relative")),
        images_per_second=row["images_per_second"],
        reasons=tuple(row["reasons"]),
        judged=judged and row["logit_diff"] is not None,
        matches=row["matches"],
    )


def _of_attack(row: Mapping[str, Any], own: str, transferred: str) -> float | None:
    """Returns a number of attacked images, which has another name in the report on another network."""
    return row[transferred] if row[own] is None else row[own]


def _number(value: float | str | None) -> float:
    """Returns a number of the report: NaN for null, infinity for the text "inf"."""
    return math.nan if value is None else float(value)
