"""The rows of a table as HTML: a page may have ten thousand, which Python makes in a third of a template's time."""

from collections.abc import Iterator

from markupsafe import Markup, escape

from harness.reports.page.tables import PageEntry, PageTable


def rows_html(table: PageTable) -> Markup:
    """Returns the rows of a table; all texts are escaped."""
    return Markup("".join(_rows(table)))  # noqa: S704 - every text in it is escaped


def _rows(table: PageTable) -> Iterator[str]:
    for number, row in enumerate(table.rows):
        yield f'<tr id="{escape(table.anchors[number])}">\n' if table.anchors else "<tr>\n"
        for place, entry in enumerate(row):
            if place == 0:
                yield f'<th scope="row">{_entry(entry)}</th>\n'
                continue
            of_number = ' class="number"' if place in table.numeric else ""
            order = f' data-order="{_order(entry)}"' if table.tools and entry.order != "" else ""
            yield f"<td{of_number}{order}>{_entry(entry)}</td>\n"
        yield "</tr>\n"


def _order(entry: PageEntry) -> str:
    return str(entry.order) if isinstance(entry.order, float) else escape(entry.order)  # a number has nothing to escape


def _entry(entry: PageEntry) -> str:
    text = escape(entry.text)
    if entry.badge:
        shown = f'<span class="badge {escape(entry.badge)}">{text}</span>'
    elif entry.share is not None:
        shown = f'<span class="bar" style="--share: {entry.share:.3f}">{text}</span>'
    elif entry.link:
        shown = f'<a href="#{escape(entry.link)}">{text}</a>'
    else:
        shown = text
    mark = f' <span class="badge invalid">{escape(entry.mark)}</span>' if entry.mark else ""
    detail = f"<small>{escape(entry.detail)}</small>" if entry.detail else ""
    return f"{shown}{mark}{detail}"
