"""Compares every table of a results folder that follows from its cells with what the witnesses give."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from harness.records import AUDIT_COLUMNS, FINISHED, CellResult, RunRecord
from harness.reports.load import Results, load_results
from harness.reports.names import unique_cell_names
from harness.reports.tables.best_known import best_known_table
from harness.reports.tables.leaderboard import leaderboard_of
from harness.reports.tables.ranking import DIFFERENCE
from harness.reports.tables.scores import ScoredCell, scored_cells
from harness.reports.tables.stages import stages_table
from harness.reports.tables.transfer import transfer_table
from harness.reports.tables.write import confusion_table, roc_table, tables_of_cells, write_csv
from harness.running.verification.best_known import TABLE, current_images
from harness.running.verification.comparison import Row, as_text, compare, read_text_table
from harness.running.verification.examples import compare_samples
from harness.running.verification.findings import Difference, Findings
from harness.running.verification.forms import FORMS
from harness.running.verification.witnesses import COUNTS, Source, Witnessed, cell_fields_of

ONLY_STORED = frozenset({*COUNTS, "conclusive", *AUDIT_COLUMNS[1:], "verdict", "verdict_reasons", "roc_auc_macro", "roc_auc"})
"""Columns that do not follow from samples.parquet; ROC curves need logits."""
ONLY_EXAMPLES = frozenset({*ONLY_STORED, *AUDIT_COLUMNS, "clean_accuracy", "robust_accuracy", "attack_success_rate"})
"""Columns that do not follow from a confusion matrix."""
NUMBERS = frozenset({*ONLY_EXAMPLES, "n_examples", "accuracy", "accuracy_low", "accuracy_high"}) | {
    f"{score}_macro" for score in ("precision", "recall", "f1")
}
"""Columns of cells.csv that need a witness."""
BOARD_OF_EXAMPLES = ("rank_range", "rank_note", "data_digest", *DIFFERENCE[1:])
"""Columns of leaderboard.csv that need all examples."""
SAMPLES = "samples.parquet"
CONCLUSIONS = ("expectations.csv", "requirements.csv", "decision.json", "decision.md", "junit.xml")
"""What a run concludes from its tables, see `conclusions`."""
MATRIX_FOLDERS = ("confusion", "roc")
"""Folders with a table for each cell."""
BEFORE = ("_before", "_difference")


@dataclass(frozen=True)
class TableCheck:
    """A results folder beside the record of its run as the witnesses have it.

    Args:
        results: The results folder.
        record: The record that the witnesses give.
        known: The rows of cells.csv with their witnesses, in the record's order.
        judged: Whether the attack checks are derived, not taken over from the rows.
        tolerance: Largest relative difference of two numbers that counts as none.
    """

    results: Results
    record: RunRecord
    known: Sequence[Witnessed]
    judged: bool
    tolerance: float

    def findings(self) -> Findings:
        """Returns all entries that differ.

        Raises:
            HarnessError: if a table cannot be read, or arrays of a witness do not fit each other.
        """
        found, source = Findings(), {it.result.digest: it.source for it in self.known}
        scored, samples, tables = self._scored, self._derived[0], dict(self._derived[1])
        lacking = self._lacking
        if lacking:
            tables.pop("sweep")
            tables["leaderboard"] = leaderboard_of(self.results).drop(columns=list(BOARD_OF_EXAMPLES))
        elif not self.results.has_samples:  # which has the contents of the examples
            tables["leaderboard"] = tables["leaderboard"].drop(columns="data_digest")
        elif (self.results.folder / TABLE).is_file():
            tables["best_known"] = best_known_table(tables["cells"], samples, current_images(self.results))
        if self.results.has_old_leaderboard:  # its ranks went by another rule
            tables["leaderboard"] = tables["leaderboard"].drop(columns="rank")
            found.unchecked.append("leaderboard.csv: column rank: an older version ranked by another rule")
        tables |= self._of_stored(scored)
        for name, table in tables.items():
            found.add(self._of_table(name, table, source))
        with_numbers = [cell for _, cell in scored if cell is not None]
        for subfolder in MATRIX_FOLDERS:
            found.add(self._of_folder(subfolder, with_numbers, source))
        found.add(compare_samples(self.results, samples[~samples["digest"].isin(lacking)], skipped=lacking))
        found.add(self._unchecked(source, lacking))
        found.unchecked += self._beside({*tables, "sweep"})
        return found

    @cached_property
    def _scored(self) -> list[tuple[CellResult, ScoredCell | None]]:
        return scored_cells(self.record)

    @cached_property
    def _derived(self) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
        return tables_of_cells(self.record, self._scored)

    @cached_property
    def _lacking(self) -> set[str]:
        """Digests of the cells with numbers that neither the store nor the examples witness."""
        return {it.result.digest for it in self.known if it.result.status in FINISHED and it.source in ("confusion", "nothing")}

    @contextmanager
    def witnessed(self) -> Iterator[Results]:
        """Gives the results folder with the tables of the witnesses inside the block; as it is where they do not give all."""
        if self._lacking:
            yield self.results
            return
        samples, tables = self._derived
        with TemporaryDirectory() as place:
            folder = Path(place)
            for path in self.results.folder.iterdir():
                (folder / path.name).symlink_to(path.resolve())
            for name, table in tables.items():
                (folder / f"{name}.csv").unlink(missing_ok=True)
                write_csv(table, folder / f"{name}.csv")
            (folder / SAMPLES).unlink(missing_ok=True)
            samples.to_parquet(folder / SAMPLES, index=False)
            yield load_results(folder)

    def _of_stored(self, scored: Sequence[tuple[CellResult, ScoredCell | None]]) -> dict[str, pd.DataFrame]:
        """Returns the tables that only stored outcomes tell, those without rows left out."""
        whole = all(it.source == "store" for it in self.known if it.result.status in FINISHED)
        tables = {"transfer": transfer_table(self.record), "stages": stages_table(scored if whole else ())}
        return {name: table for name, table in tables.items() if len(table)}

    def _beside(self, tables: Collection[str]) -> list[str]:
        """Returns in a line which files and folders of the results hold what does not follow from the cells."""
        compared = {f"{name}.csv" for name in tables} | {SAMPLES, *MATRIX_FOLDERS, *CONCLUSIONS}
        names = sorted(path.name + "/" * path.is_dir() for path in self.results.folder.iterdir() if path.name not in compared)
        left = [name for name in names if not name.startswith(".")]
        return [f"{', '.join(left)}: they do not follow from the cells alone"] if left else []

    def _of_table(self, name: str, table: pd.DataFrame, source: Mapping[str, Source]) -> Findings:
        path = self.results.folder / f"{name}.csv"
        if not path.is_file():
            return Findings(unchecked=[f"{name}.csv: the folder has none"])
        written = read_text_table(path)
        if name != "cells" and "digest" in table and "digest" in written:  # no witness has these rows
            written = written[[source.get(digest) != "nothing" for digest in written["digest"]]].reset_index(drop=True)
        ignore = Unknown(source, judged=self.judged)
        return compare(path.name, written, as_text(table), FORMS[name], ignore=ignore.entry, tolerance=self.tolerance)

    def _of_folder(self, subfolder: str, cells: Sequence[ScoredCell], source: Mapping[str, Source]) -> Findings:
        """Compares the tables of confusion/ or roc/, where the folder has them."""
        found, folder = Findings(), self.results.folder / subfolder
        if not folder.is_dir():
            return Findings(unchecked=[f"{subfolder}/: the folder has none"])
        names = unique_cell_names([cell_fields_of(cell.result) for cell in cells])
        wanted = ("store",) if subfolder == "roc" else ("store", "samples")
        for cell in cells:
            if source[cell.result.digest] not in wanted:
                continue
            make = roc_table if subfolder == "roc" else confusion_table
            path = folder / f"{names[cell.result.digest]}.csv"
            if not path.is_file():
                found.differences.append(Difference(f"{subfolder}/{path.name}", "file", "all", "", "a table"))
                continue
            table, form = as_text(make(cell, self.record.class_names)), FORMS[subfolder]
            of_file = compare(
                f"{subfolder}/{path.name}", read_text_table(path), table, form, ignore=_nothing, tolerance=self.tolerance
            )
            of_file.compared = {f"{subfolder}/": sum(of_file.compared.values())}
            found.add(of_file)
        return found

    def _unchecked(self, source: Mapping[str, Source], lacking: set[str]) -> Findings:
        """Returns what no witness says anything of."""
        found = Findings(conclusive=not lacking)
        if lacking:
            where = "samples.parquet lacks them" if self.results.has_samples else "there is no samples.parquet"
            columns = ", ".join(sorted(ONLY_EXAMPLES))
            found.unchecked.append(f"sweep.csv, and {columns}: {len(lacking)} cells have no stored outcome, and {where}")
            found.notes.append("leaderboard.csv was compared with cells.csv and sweep.csv as they are")
        if any(kind == "samples" for kind in source.values()):
            found.unchecked.append(f"columns that only stored outcomes tell: {', '.join(sorted(ONLY_STORED))}; and roc/")
        elif not self.judged and not lacking:
            found.unchecked.append("verdict, verdict_reasons: a step that they need is not in the store")
        return found


class Unknown:
    """Which entries of a derived table the witnesses say nothing of.

    Args:
        source: Digest of a cell -> its witness.
        judged: Whether attack checks are derived.
    """

    def __init__(self, source: Mapping[str, Source], *, judged: bool) -> None:
        """See the class."""
        self.source, self.judged = source, judged

    def entry(self, row: Row, column: str, written: str) -> bool:
        """Returns whether the witnesses say nothing of an entry."""
        source = self.source.get(row.get("digest", ""), "store")
        if column == "status":
            return row[column] in FINISHED and written in FINISHED  # computed or found: the run's own
        if column in ("verdict", "verdict_reasons"):
            return not self.judged
        base = column
        for ending in ("_before", "_after", "_difference"):
            base = base.removesuffix(ending)
        if source == "confusion" and column.endswith(BEFORE):
            return True
        if source == "nothing":  # a row without numbers needs no witness that it has none
            return base in NUMBERS and row.get("status") in FINISHED
        return base in {"store": frozenset(), "samples": ONLY_STORED, "confusion": ONLY_EXAMPLES}[source]


def _nothing(_: Row, __: str, ___: str) -> bool:
    return False
