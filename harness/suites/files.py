"""Reading suite files: shipped ones by name, others by path; overrides first, then environment variables."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.errors import SuiteError
from harness.spec import parse_spec, suggestion
from harness.suites.models import architecture_fields
from harness.suites.suite import Suite
from harness.suites.yaml_text import MOST_CHARACTERS, MOST_LEVELS, parse_yaml
from harness.system.messages import LONGEST_VALUE, cut, shown

VARIABLE = re.compile(r"\$\{(\w+)\}")
SUFFIXES = (".yaml", ".yml")
PACKAGE = Path(__file__).parents[1]
LABELLED = ("models", "poisons", "detectors", "attacks", "corruptions", "folders")
"""Fields of a suite that map labels to entries."""
SHIPPED_FOLDERS = (PACKAGE / "shipped_suites", PACKAGE.parent / "suites")
"""Where shipped suites lie: inside the installed wheel, or beside the package in a checkout."""


def load_suite(source: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """Reads a suite.

    Args:
        source: A shipped suite's name, or the path of a YAML file.
        overrides: "a.b=c" texts; the value is read as YAML, a list's item is named by its index.

    Raises:
        SuiteError: if the file is missing or no YAML, an override does not fit, or the suite is invalid; one line a
            problem, each with the file and the field path.
    """
    path = find_suite(source)
    values = overridden(_read_yaml(path), overrides)
    return parse_spec(Suite, expand_variables(values, where=str(path)), where=str(source))


def overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the fields of a suite file with overrides, see `load_suite`; the given ones are changed.

    Raises:
        SuiteError: if an override does not fit.
    """
    for override in overrides:
        _apply(values, override)
    return values


def write_suite(values: Mapping[str, Any], path: Path) -> None:
    """Writes the fields of a suite as a file that `load_suite` reads."""
    path.write_text(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")


def shipped_suites() -> dict[str, Path]:
    """Returns the suites that travel with the package: name -> file."""
    folder = next(folder for folder in SHIPPED_FOLDERS if folder.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_suite(source: str | Path) -> Path:
    """Returns the file of a suite named by path or by shipped name.

    Raises:
        SuiteError: if there is no such file.
    """
    try:
        path = Path(source).expanduser()
        found = "a file" if path.is_file() else "a folder" if path.is_dir() else "nothing there"
    except (OSError, RuntimeError) as error:  # a folder that may not be entered, a name too long, a "~name" of nobody
        raise SuiteError(f"{source}: expected a suite file, found {getattr(error, 'strerror', None) or error}") from error
    if path.suffix in SUFFIXES or path.parent != Path():
        if found == "a file":
            return path
        raise SuiteError(f"{source}: expected a suite file, found {found}")
    shipped = shipped_suites()
    if str(source) not in shipped:
        raise SuiteError(f"suite {str(source)!r}: expected one of {', '.join(shipped)}, or the path of a .yaml file")
    return shipped[str(source)]


def suite_title(path: Path) -> str:
    """Returns the title in a suite file, without validating the rest."""
    return str(_read_yaml(path).get("title", ""))


def suite_name(source: str | Path) -> str:
    """Returns the name in a suite file, without validating the rest.

    Raises:
        SuiteError: if the file is missing, is no YAML, or has no name.
    """
    path = find_suite(source)
    name = _read_yaml(path).get("name")
    if not isinstance(name, str):
        raise SuiteError(f"{path}: name: expected a text, found {shown(name)}")
    return name


def expand_variables(value: Any, *, where: str) -> Any:
    """Replaces ${NAME} in every text of a nested value by the environment variable.

    Raises:
        SuiteError: if a variable is not set.
    """
    if isinstance(value, Mapping):
        return {key: expand_variables(found, where=f"{where}: {key}") for key, found in value.items()}
    if isinstance(value, list):
        return [expand_variables(found, where=where) for found in value]
    if not isinstance(value, str):
        return value
    missing = [name for name in VARIABLE.findall(value) if name not in os.environ]
    if missing:
        raise SuiteError(f"{where}: expected the environment variable {missing[0]} to be set, found it unset in {shown(value)}")
    return VARIABLE.sub(lambda match: os.environ[match.group(1)], value)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            values = parse_yaml(file.read(MOST_CHARACTERS + 1))
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: expected a readable text file, found {error}") from error
    except yaml.YAMLError as error:
        raise SuiteError(f"{path}: expected YAML, found {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise SuiteError(f"{path}: expected a mapping of fields, found {type(values).__name__}")
    return values


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    where = f"--set {cut(override, LONGEST_VALUE)}"
    if not equals or not key:
        raise SuiteError(f"{where}: expected the form a.b=c")
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        raise SuiteError(f"{where}: expected a YAML value after '=', got {shown(text)}") from error
    place: Any = values
    *parents, last = key.split(".")
    if len(parents) > MOST_LEVELS:
        raise SuiteError(f"{where}: expected at most {MOST_LEVELS} levels, got {len(parents) + 1}")
    _expect_known_label(values, parents, where)
    for part in parents:
        place = _step_into(place, part, where)
    if isinstance(place, list):
        place[_index(place, last, where)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise SuiteError(f"{where}: expected a mapping before {last!r}, found {shown(place)}")


def _expect_known_label(values: dict[str, Any], parents: Sequence[str], where: str) -> None:
    """Refuses a field of an entry that the suite has not: a slip of the pen would add one."""
    family, label, *_ = (*parents, None, None)
    if family not in LABELLED or label is None or not isinstance(entries := values.get(family, {}), dict):
        return
    if label not in entries:
        near, whole = suggestion(label, list(map(str, entries))), f"a new one is written whole: --set {family}.{label}='{{...}}'"
        raise SuiteError(f"{where}: expected a label of {family}, got {label!r}{near}; {whole}")


def _step_into(place: Any, part: str, where: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, where)]
    if not isinstance(place, dict):
        raise SuiteError(f"{where}: expected a mapping before {part!r}, found {shown(place)}")
    inner = place.setdefault(part, {})
    if isinstance(inner, str):
        place[part] = inner = architecture_fields(inner) if part == "architecture" else {"name": inner}
    return inner


def _index(place: list[Any], part: str, where: str) -> int:
    if not part.isdecimal() or len(part) > len(str(len(place))) or int(part) >= len(place):
        raise SuiteError(f"{where}: expected an index below {len(place)}, got {part!r}")
    return int(part)
