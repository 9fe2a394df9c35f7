"""Texts and tables in Markdown."""

from collections.abc import Iterable, Sequence


def escaped(text: str) -> str:
    r"""Returns a text of a table's cell: on one line, and without what Markdown would take for markup.

    >>> print(escaped("a|b *c*"))
    a\|b \*c\*
    """
    marked = "".join(f"\\{character}" if character in "\\|<>*`[]" else character for character in text)
    return " ".join(marked.split())


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of texts, one line a row.

    >>> print(markdown_table(["model", "rank"], [["pgd", "1"]]))
    | model | rank |
    |---|---|
    | pgd | 1 |
    """
    lines = [_line(escaped(name) for name in columns), "|" + "---|" * len(columns)]
    return "\n".join([*lines, *(_line(escaped(text) for text in row) for row in rows)])


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"
