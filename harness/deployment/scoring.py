"""Scores a bundle in several runtimes, each on its own: one that fails leaves the others their scores."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from harness.bundle import Bundle, read_bundle
from harness.deployment.agreement import Rule
from harness.deployment.runtimes import OnnxCpp, OnnxPython, Runtime
from harness.deployment.scores import BATCH, Score
from harness.deployment.table import Scored
from harness.errors import HarnessError
from harness.export.input_range import InputRange
from harness.export.runtime import OnnxModel
from harness.suites.entries import Precision
from harness.system.progress import Progress


@dataclass(frozen=True)
class Scores:
    """Collects scores, and one line for each runtime that gave none: the others count all the same."""

    rule: Rule
    progress: Progress
    scored: list[Scored] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _clipped: dict[tuple[Path, Path], dict[str, float]] = field(default_factory=dict)
    """What `clipped_shares` returned, by bundle and file: runtimes share it."""

    def add(self, label: str, path: Path, runtimes: Iterable[tuple[Precision, Runtime]]) -> None:
        """Scores a bundle in some runtimes."""
        wanted = list(runtimes)
        with self.progress.task(f"score {label} in {len(wanted)} ways", len(wanted), unit="runtimes") as advance:
            for precision, runtime in wanted:
                try:
                    bundle = read_bundle(path)
                    scores = list(runtime.score(bundle, self.rule))
                    self.scored.append(Scored(label, runtime.NAME, precision, scores))
                    scores[:] = self._with_clipped(scores, bundle, runtime.file)
                except HarnessError as error:
                    self.failures.append(f"{label}, {runtime.NAME}, {precision}: {error}")
                advance(1, f"{runtime.NAME}, {precision}")

    def _with_clipped(self, scores: Sequence[Score], bundle: Bundle, file: Path | None) -> list[Score]:
        """Returns scores with the share of pixel values that the file clips."""
        if file is None:
            return list(scores)
        if (bundle.path, file) not in self._clipped:
            self._clipped[bundle.path, file] = clipped_shares(file, bundle)
        found = self._clipped[bundle.path, file]
        return [replace(score, clipped_share=found.get(score.condition.name, math.nan)) for score in scores]


def clipped_shares(path: Path, bundle: Bundle) -> dict[str, float]:
    """Returns the share of the pixel values of each condition that an ONNX file clips, by the condition's name.

    It is empty for a file that keeps its pixels in floating point.

    Raises:
        HarnessError: if the bundle is damaged, or the file's operators before the network do not run.
    """
    pixels = InputRange(path)
    if not pixels.is_known:
        return {}
    names = [stored.spec.name for stored in bundle.conditions]
    return {name: pixels.clipped_share(batch.x for batch in bundle.batches(name, BATCH)) for name in names}


def onnx_runtimes(
    path: Path, precision: Precision, *, program: Path | None, timeout: float | None
) -> Iterator[tuple[Precision, Runtime]]:
    """Yields the runtimes with as many threads as PyTorch uses, so that their speeds can be compared."""
    yield precision, OnnxPython(path, torch.get_num_threads(), timeout)
    if program is not None:
        yield precision, OnnxCpp(path, program, torch.get_num_threads(), timeout)


def is_attacked_network(onnx: OnnxModel, bundle: Bundle, found: Sequence[Scored]) -> bool:
    """Returns whether the attacked images were made against this network.

    They were if the file has the hash of the bundle's weights, or gives the bundle's logits in some runtime. Any other file may
    be another network.
    """
    named = onnx.model_sha256 == bundle.model_sha256 != ""
    compared = [[score.matches for score in scored.scores if score.matches is not None] for scored in found]
    return named or any(matches and all(matches) for matches in compared)
