"""The stored outcomes that the cells of a results folder were made of, found by the cells' digests."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from harness.conditions import ATTACK, CLEAN, CONDITIONS
from harness.evaluation.sanity import Transferred
from harness.planning.plan import cell_digest, fields_in_digest
from harness.records import Cell, CellResult, Outcome, TransferRow
from harness.reports.tables.transfer import transfer_row
from harness.steps.judgement import OUTCOME
from harness.steps.transfer import WRONG, Transfer
from harness.storage.outcomes import load_outcome
from harness.storage.store import Entry, Store
from harness.threat import ThreatModel

WORD = re.compile("[A-Za-z0-9_-]+")
"""What a label may be."""


class Found(NamedTuple):
    """Where a cell's numbers lie in the store."""

    entry: Entry
    outcome: Outcome
    position: int
    """Of the cell's condition."""


class _Scored(NamedTuple):
    """A model on the adversarial images that were made on another one, or on itself."""

    source: str
    target: str
    attack: str
    threat_model: ThreatModel
    correct: NDArray[np.bool_]
    """(N,) whether the target classifies the clean examples correctly."""
    wrong: NDArray[np.bool_]
    """(N,) whether it misclassifies the images that were made of them."""


@dataclass
class StoredSteps:
    """The steps of a run that are in a store.

    Args:
        store: The store.
        provenance: What the run recorded.
    """

    store: Store
    provenance: Mapping[str, Any]
    damaged: list[tuple[Entry, str]] = field(default_factory=list)
    """Entries with a file that is not what was recorded of it; they are no witnesses."""
    _outcomes: dict[str, Outcome] = field(default_factory=dict)
    _entries: dict[str, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Looks up every step of the run, and compares its files with their hashes."""
        for digest in self.titles:
            for entry in self.store.find(digest):
                if files := self.store.damaged_files(entry):
                    self.damaged += [(entry, name) for name in files]
                else:
                    self._entries[digest] = entry

    @cached_property
    def titles(self) -> dict[str, str]:
        """Digest -> title of every step of the run."""
        return dict(self.provenance.get("steps", {}))

    @property
    def missing(self) -> list[str]:
        """Titles of the steps that are not in the store, or damaged there."""
        return [title for digest, title in self.titles.items() if digest not in self._entries]

    def of_kind(self, kind: str) -> list[Entry]:
        """Returns the entries of one kind."""
        return [entry for entry in self._entries.values() if entry.kind == kind]

    def find(self, cell: Cell, digest: str) -> Found | None:
        """Returns where the numbers of a cell lie, if a stored step together with the cell's fields has this digest."""
        fields = fields_in_digest(cell)
        for entry in self._candidates(cell) if cell.condition in CONDITIONS else ():
            if cell_digest(fields, entry.digest) == digest:
                if entry.digest not in self._outcomes:
                    self._outcomes[entry.digest] = load_outcome(entry.path / OUTCOME)
                outcome = self._outcomes[entry.digest]
                return Found(entry, outcome, _position(cell, outcome, entry))
        return None

    def _candidates(self, cell: Cell) -> Iterator[Entry]:
        """Yields the entries of a cell's kind: first those whose titles name its model and attack, as nearly always one does."""
        of_model = [entry for entry in self._by_word.get(cell.model, ()) if entry.kind == cell.condition]
        yield from sorted(of_model, key=lambda entry: cell.attack not in WORD.findall(self.titles[entry.digest]))
        tried = {entry.digest for entry in of_model}
        yield from (entry for entry in self.of_kind(cell.condition) if entry.digest not in tried)

    @cached_property
    def _by_word(self) -> dict[str, list[Entry]]:
        """Returns the entries by the words of their titles; labels of models are such."""
        found = defaultdict[str, list[Entry]](list)
        for entry in self._entries.values():
            for word in set(WORD.findall(self.titles[entry.digest])):
                found[word].append(entry)
        return found

    def transfers(self, results: list[CellResult]) -> tuple[Transferred, ...]:
        """Returns which examples the adversarials of each other model fool, for the cells under the same attack and budget."""
        found = []
        for it in self._transferred(results):
            own = _cell_of(it.target, ATTACK, it.attack, it.threat_model.eps, results)
            if own is not None and it.target != it.source:
                found.append(Transferred(own.cell, it.source, np.asarray(it.correct & it.wrong)))
        return tuple(found)

    def transfer_rows(self, results: list[CellResult]) -> tuple[TransferRow, ...]:
        """Returns the rows of transfer.csv."""
        return tuple(
            transfer_row(it.source, it.target, it.attack, it.threat_model, correct=it.correct, wrong=it.wrong)
            for it in self._transferred(results)
        )

    def _transferred(self, results: list[CellResult]) -> Iterator[_Scored]:
        """Yields each stored transfer with each model that was scored on it."""
        suite = self.provenance["suite"]
        pairs = [(attack, source) for attack in suite["attacks"] for source in suite["models"]]
        for entry in self.of_kind(Transfer.KIND):
            title, spec = self.titles[entry.digest], entry.meta["spec"]
            attack, source = next(it for it in pairs if title == f"transfer {it[0]} from {it[1]}")
            threat_model = ThreatModel.model_validate(spec["identity"]["threat_models"][0])
            wrong = load_file(entry.path / WRONG)
            for target, model in self.provenance["models"].items():
                digest = model.get("training", model.get("given"))
                roles = [role for role, step in spec["inputs"].items() if role.startswith("target-") and step == digest]
                clean = _cell_of(target, CLEAN, "none", None, results)
                if roles and clean is not None and clean.clean_logits is not None:
                    correct = np.asarray(clean.clean_logits.argmax(axis=1) == clean.labels)
                    flags = wrong[roles[0].removeprefix("target-")].astype(bool)
                    yield _Scored(source, target, attack, threat_model, correct, flags)


def _cell_of(model: str, condition: str, attack: str, eps: Any, results: list[CellResult]) -> CellResult | None:
    wanted = (condition, model, None, attack, eps)
    return next(
        (it for it in results if (it.cell.condition, it.cell.model, it.cell.poison, it.cell.attack, it.cell.eps) == wanted), None
    )


def _position(cell: Cell, outcome: Outcome, entry: Entry) -> int:
    """Returns the place of a cell among the conditions of its step."""
    if cell.eps is not None:
        return next(place for place, condition in enumerate(outcome.conditions) if condition.eps == cell.eps)
    if cell.severity is not None:
        return [int(it) for it in entry.meta["spec"]["identity"]["corruption"]["severities"]].index(cell.severity)
    return 0
