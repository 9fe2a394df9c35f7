"""Run by `make reference`: puts the variables of a suite's paths back in place of the folders they stood for.

python tests/references.py results/reference/quickstart/provenance.json HARNESS_DATA HARNESS_WEIGHTS
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path


def with_variables(value: object, folders: Mapping[str, str]) -> object:
    """Returns a JSON value in which no text begins with one of the folders.

    Args:
        value: The value.
        folders: Variable -> folder; of two that fit, the longer one is taken.
    """
    if isinstance(value, dict):
        return {key: with_variables(part, folders) for key, part in value.items()}
    if isinstance(value, list):
        return [with_variables(part, folders) for part in value]
    if isinstance(value, str):
        for name, folder in sorted(folders.items(), key=lambda pair: -len(pair[1])):
            if value == folder or value.startswith(f"{folder}/"):
                return f"${{{name}}}{value.removeprefix(folder)}"
    return value


def main(path: Path, *names: str) -> None:
    """Rewrites the file."""
    folders = {name: os.environ[name].rstrip("/") for name in names if os.environ.get(name, "").rstrip("/")}
    changed = with_variables(json.loads(path.read_text()), folders)
    path.write_text(json.dumps(changed, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
