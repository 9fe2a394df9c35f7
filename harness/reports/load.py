"""Reads the tables of a results folder."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, wraps
from itertools import chain
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pandas as pd

from harness.errors import HarnessError, StoreError, first_line, only_harness_errors
from harness.records import AUDIT_COLUMNS, CELL_COLUMNS, SCHEMA_VERSION
from harness.reports.matrices import read_matrix
from harness.reports.names import TEXT_COLUMNS, TRUTH_VALUES, with_column_types
from harness.storage.store import read_json
from harness.system.messages import LONGEST_VALUE, cut, shown

LATER = ("corruption_group", "targeted", "conclusive", *AUDIT_COLUMNS)
"""Columns of cells.csv that older runs did not write; they are read as empty."""
NUMBERS = frozenset(CELL_COLUMNS) - {*TEXT_COLUMNS, *TRUTH_VALUES}
"""Columns of cells.csv, and of other tables with the same, that hold numbers."""
LATER_OF_SWEEP = ("targeted", "target_class", *AUDIT_COLUMNS)
"""The same of sweep.csv."""
LATER_OF_LEADERBOARD = (
    *("rank_range", "contest", "badge", "protocol", "attack_settings", "data_digest", "schema_version", "attacks_not_met"),
    *("worst_class", "worst_class_recall", "worst_class_recall_low", "worst_class_recall_high", "worst_class_n", "rank_note"),
    *("difference_to_next", "difference_to_next_low", "difference_to_next_high"),
)
"""The same of leaderboard.csv; `harness report` makes the table anew where it lacks one."""


P = ParamSpec("P")
Made = TypeVar("Made")


def once(make: "Callable[Concatenate[Results, P], Made]") -> "Callable[Concatenate[Results, P], Made]":
    """Makes a function of tables compute once for the same `Results`: figures, page and decision show the same things.

    Its other arguments are hashable; what it returns is not changed by who gets it.
    """

    @wraps(make)
    def kept(results: "Results", /, *args: P.args, **kwargs: P.kwargs) -> Made:
        key = (make, args, tuple(kwargs.items()))
        if key not in results.derived:
            results.derived[key] = make(results, *args, **kwargs)
        made: Made = results.derived[key]
        return made

    return kept


@dataclass(frozen=True)
class Results:
    """The tables of a results folder; each is read when it is first asked for."""

    folder: Path
    derived: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `once` keeps."""

    @property
    def whole(self) -> "Results":
        """The results of all models, of which these are some; see `harness.reports.leading`."""
        return self

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row a cell of the grid."""
        return _with(LATER, self._table("cells.csv", tuple(name for name in CELL_COLUMNS if name not in LATER)))

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row for each example and cell."""
        path = self.folder / "samples.parquet"
        try:
            _check_rows(path)
            return pd.read_parquet(path)
        except Exception as error:  # pyarrow has classes of its own for each kind of damage
            raise HarnessError(f"{path}: expected a parquet file of a run, found {first_line(error)}") from error

    @cached_property
    def _rows_of_samples(self) -> dict[Any, Any]:
        return self.samples.groupby("digest", sort=False).indices

    def samples_of(self, digest: str) -> pd.DataFrame:
        """Returns the examples of one cell, in their order."""
        return self.samples.take(self._rows_of_samples.get(digest, ()))

    @property
    def has_samples(self) -> bool:
        """Whether the folder has the table of examples; a copy for reading may lack it."""
        return (self.folder / "samples.parquet").is_file()

    @cached_property
    def per_class(self) -> pd.DataFrame:
        """One row for each cell and class."""
        return self._table("per_class.csv", ("digest", "class", "recall"))

    @cached_property
    def _rows_of_classes(self) -> dict[Any, Any]:
        return self.per_class.groupby("digest", sort=False).indices

    def classes_of(self, digests: Iterable[str]) -> pd.DataFrame:
        """Returns the rows of per_class.csv of some cells, in its order."""
        places = [self._rows_of_classes.get(digest, ()) for digest in digests]
        return self.per_class.take(sorted(chain.from_iterable(places)))

    @cached_property
    def sweep(self) -> pd.DataFrame:
        """One row for each model, attack and budget, the worst case over attacks among them."""
        return _with(LATER_OF_SWEEP, self._table("sweep.csv", ("model", "attack", "eps", "robust_accuracy")))

    @cached_property
    def before_after(self) -> pd.DataFrame:
        """One row for each condition that changes images or model: the scores before and after."""
        return self._table("before_after.csv", ("digest", "accuracy_before", "accuracy_after"))

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """One row a model, contest by contest, best first."""
        return _with(LATER_OF_LEADERBOARD, self._table("leaderboard.csv", ("rank", "model", "clean_accuracy")))

    @property
    def has_old_leaderboard(self) -> bool:
        """Whether an older run wrote leaderboard.csv, which lacks columns of today."""
        return bool(set(LATER_OF_LEADERBOARD) - set(self._table("leaderboard.csv", ())))

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row for each trained model and epoch."""
        return self._table("history.csv", ("model", "epoch"))

    @cached_property
    def training(self) -> pd.DataFrame:
        """One row for each trained model: the epoch kept, and the warnings of its training; empty where nothing was trained."""
        return self._optional("training.csv")

    @cached_property
    def expectations(self) -> pd.DataFrame:
        """One row for each assertion of the suite; `holds` is missing where a number is missing."""
        return self._table("expectations.csv", ("text", "holds", "found")).astype({"holds": "boolean"})

    @cached_property
    def requirements(self) -> pd.DataFrame:
        """One row for each requirement, bound and model; empty where the suite has none."""
        table = self._optional("requirements.csv")
        return table if table.empty else table.assign(found=pd.to_numeric(table["found"]))

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Versions, git commit, host, device, seeds, the suite and the class names."""
        return _provenance(self.folder)

    @cached_property
    def crossruntime(self) -> pd.DataFrame:
        """One row for each model, condition and runtime; empty where no cross-check was made."""
        return self._optional("crossruntime.csv")

    @cached_property
    def transfer(self) -> pd.DataFrame:
        """One row for each source, target, attack and budget; empty where transfer was not measured."""
        return self._optional("transfer.csv")

    @cached_property
    def stages(self) -> pd.DataFrame:
        """One row for each attack, budget and stage of an ensemble; empty where none ran."""
        return self._optional("stages.csv")

    @cached_property
    def poisons(self) -> pd.DataFrame:
        """One row for each poisoned model; empty where nothing was poisoned."""
        return self._optional("poisons.csv")

    @cached_property
    def detectors(self) -> pd.DataFrame:
        """One row for each detector and poisoned model; empty where no detector ran."""
        return self._optional("detectors.csv")

    @cached_property
    def detectors_roc(self) -> pd.DataFrame:
        """The points of the detectors' ROC curves; empty where no detector ran."""
        return self._optional("detectors_roc.csv")

    @property
    def suite_name(self) -> str:
        """The suite's name."""
        return str(self.provenance["suite"].get("name", self.folder.name))

    @once
    def matrix(self, subfolder: str, cell: str) -> pd.DataFrame:
        """Returns confusion/<cell>.csv or roc/<cell>.csv."""
        return read_matrix(self.folder / subfolder / f"{cell}.csv")

    def _optional(self, name: str) -> pd.DataFrame:
        return self._table(name, ()) if (self.folder / name).is_file() else pd.DataFrame()

    def _table(self, name: str, required: tuple[str, ...]) -> pd.DataFrame:
        path = self.folder / name
        try:
            table = pd.read_csv(
                path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False, na_values=[""], float_precision="round_trip"
            )
        except (OSError, ValueError) as error:
            raise HarnessError(f"{path}: expected a table of a run, found {error}") from error
        except Exception as error:  # what the parser meets in damaged bytes
            raise HarnessError(f"{path}: expected a table of a run, found {first_line(error)}") from error
        if absent := [column for column in required if column not in table]:
            raise HarnessError(f"{path}: expected the columns {', '.join(absent)}, found none of that name")
        _check_numbers(table, _numbers_of(table), path)
        try:
            return with_column_types(table)
        except (ValueError, TypeError) as error:
            raise HarnessError(f"{path}: expected whole numbers where a run writes them, found {first_line(error)}") from error


def _check_rows(path: Path) -> None:
    """Refuses a parquet file that declares more rows than it has bytes: equal values in a row take no room, however many."""
    from pyarrow import parquet  # here, as few of those who open results read examples

    rows = parquet.read_metadata(path).num_rows
    if rows > (size := path.stat().st_size):
        raise ValueError(f"{rows:,} rows in {size:,} bytes")


def _check_numbers(table: pd.DataFrame, names: Iterable[str], path: Path) -> None:
    """Refuses text in columns of numbers."""
    for name in names:
        if table[name].dtype.kind not in "iufb" and pd.api.types.is_string_dtype(column := table[name].dropna()):
            wrong = column[pd.to_numeric(column, errors="coerce").isna()]
            if len(wrong):
                raise HarnessError(f"{path}: column {cut(name, LONGEST_VALUE)}: expected numbers, found {shown(wrong.iloc[0])}")


def _numbers_of(table: pd.DataFrame) -> list[str]:
    """Returns the columns of a table that hold numbers, as far as cells.csv has them, before and after something or not."""
    return [
        name
        for name in map(str, table)
        if name.removesuffix("_before").removesuffix("_after").removesuffix("_difference") in NUMBERS
    ]


@contextmanager
def reading_tables(folder: Path) -> Iterator[None]:
    """Turns what a damaged table leads to, far from where it is read, into one line that names the folder."""
    with only_harness_errors(HarnessError, f"{folder}: reading the tables of a run"):
        yield


def _with(columns: tuple[str, ...], table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table with some columns added, empty, where it lacks them."""
    return with_column_types(table.reindex(columns=[*table, *(name for name in columns if name not in table)]))


def load_results(folder: Path | str) -> Results:
    """Opens a results folder.

    Args:
        folder: What `harness run` wrote, for example results/quickstart.

    Raises:
        HarnessError: if it is no results folder, or one of another schema version.
    """
    folder = Path(folder)
    if not is_results_folder(folder):
        raise HarnessError(f"{folder}: expected a results folder with a cells.csv, found none; `harness run` writes one")
    _provenance(folder)
    return Results(folder)


def is_results_folder(folder: Path) -> bool:
    """Returns whether a folder holds the tables of a run."""
    return (folder / "cells.csv").is_file()


def check_own_results(folder: Path, suite: str) -> None:
    """Checks that a folder has no results of another suite: they would pass for this one's, or be overwritten.

    Args:
        folder: A results folder, or one that is to be made.
        suite: The suite's name.

    Raises:
        HarnessError: if it has.
    """
    try:
        record = read_json(folder / "provenance.json").get("suite")
    except StoreError:  # none yet, or a damaged one, which says nothing
        return
    found = record.get("name", suite) if isinstance(record, dict) else suite
    if found != suite:
        raise HarnessError(f"{folder}: expected the results of the suite {suite}, found those of {found}; name another folder")


def _provenance(folder: Path) -> dict[str, Any]:
    path = folder / "provenance.json"
    try:
        provenance = read_json(path)
    except StoreError as error:
        raise HarnessError(str(error)) from error
    if provenance.get("schema_version") != SCHEMA_VERSION:
        found = provenance.get("schema_version")
        raise HarnessError(f"{path}: expected schema_version {SCHEMA_VERSION}, found {found}; run the suite again")
    return provenance
