"""The templates of pages."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """Returns what renders the templates: texts are escaped, and a name that is not given is an error."""
    return Environment(
        loader=PackageLoader("harness.reports.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
