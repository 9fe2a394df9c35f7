"""Which architectures timm has, read from its source: its import, with PyTorch's, takes seconds."""

import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

ENTRY_POINT = re.compile(rb"^@register_model\ndef (\w+)\(", re.MULTILINE)
"""How timm's modules define an architecture that is built by its name."""


def is_known(name: str) -> bool:
    """Returns whether timm's source defines the architecture of a name, with or without the tag of its weights.

    False does not mean that timm has no such model: it knows old names too, and models that others register.
    """
    return name.partition(".")[0] in defined_names()


@lru_cache(maxsize=1)
def defined_names() -> frozenset[str]:
    """Returns the names of the architectures that timm's own modules define; none where timm has no source files."""
    package = find_spec("timm")
    folders = [] if package is None else [Path(folder) / "models" for folder in package.submodule_search_locations or ()]
    sources = (path.read_bytes() for folder in folders for path in folder.glob("*.py"))
    return frozenset(name.decode() for source in sources for name in ENTRY_POINT.findall(source))
