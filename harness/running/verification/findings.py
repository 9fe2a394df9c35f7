"""What a verification found: entries of tables that are not what they should be, and what could not be checked."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Difference(NamedTuple):
    """One entry that is not what its witnesses say."""

    file: str
    """The file in the results folder."""
    row: str
    """The row in words."""
    column: str
    written: str
    """What the file says; empty where it says nothing."""
    expected: str
    """What the witnesses say."""

    @property
    def line(self) -> str:
        """The difference in one line."""
        return (
            f"{self.file}: {self.row}: {self.column}: written {self.written or 'nothing'}, expected {self.expected or 'nothing'}"
        )


@dataclass
class Findings:
    """What was compared, and what came of it."""

    differences: list[Difference] = field(default_factory=list)
    compared: dict[str, int] = field(default_factory=dict)
    """What was compared -> number of entries."""
    unchecked: list[str] = field(default_factory=list)
    """What could not be checked, and why, a line each."""
    notes: list[str] = field(default_factory=list)
    """What else there is to say, a line each."""
    conclusive: bool = True
    """Whether what was checked suffices to call the results verified."""

    def add(self, other: "Findings") -> None:
        """Takes over what another check found."""
        self.differences += other.differences
        self.unchecked += [line for line in other.unchecked if line not in self.unchecked]
        self.notes += other.notes
        self.conclusive &= other.conclusive
        for what, count in other.compared.items():
            self.compared[what] = self.compared.get(what, 0) + count
