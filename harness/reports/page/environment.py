"""The templates of pages."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.reports.page.rows import rows_html


def environment() -> Environment:
    """Returns what renders the templates: texts are escaped, and a name that is not given is an error."""
    found = Environment(
        loader=PackageLoader("harness.reports.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["rows"] = rows_html
    return found
