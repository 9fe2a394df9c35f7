"""YAML from unknown hands to plain values: in bounded time and memory, and with one kind of error."""

from collections.abc import Hashable
from typing import Any

import yaml

from harness.system.messages import shown

MOST_CHARACTERS = 1_000_000
"""Characters of a text; the largest shipped suite has a fiftieth."""
MOST_VALUES = 100_000
"""Values of a text with every alias written out; the largest shipped suite has 419."""
MOST_LEVELS = 50
"""Levels of nesting; pydantic and YAML recurse into each."""
LARGEST_INTEGER = 2**63 - 1


def parse_yaml(text: str) -> Any:
    """Returns the value of a YAML text.

    Raises:
        yaml.YAMLError: if it is no YAML, a value is not of the type that its tag names, a key stands twice, or the text
            is longer, deeper or larger than any suite; nothing is built then.
    """
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"a text of {len(text)} characters, more than {MOST_CHARACTERS}")
    _check_size(text)
    return yaml.load(text, Loader=StrictLoader)  # noqa: S506 - a SafeLoader


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, where YAML keeps the last, and values that are none of their tag."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See `yaml.SafeLoader`."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _refusal("a key that is a list or a mapping", key_node)
            if key in seen and key != "<<":
                raise _refusal(f"the key {shown(key)} stands twice", node)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """See `yaml.SafeLoader`, whose constructors raise what they meet: `!!bool x` a KeyError, `!!int _` an IndexError."""
        try:
            value = super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            said = f"{error} in " if isinstance(error, ValueError) else ""
            raise _refusal(f"{said}{shown(node.value)}, which is no {node.tag.rpartition(':')[2]}", node) from error
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise _refusal("a whole number of more than 64 bits", node)
        return value


def _check_size(text: str) -> None:
    """Looks at a text without building its values; an alias counts as what it stands for."""
    sizes: dict[str, int | None] = {}
    opened: list[tuple[str | None, int]] = []
    values = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            values += _size_of(event, sizes)
        elif isinstance(event, yaml.CollectionStartEvent):
            if event.anchor is not None:
                sizes[event.anchor] = None
            opened.append((event.anchor, values))
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = values - before
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if len(opened) > MOST_LEVELS:
            raise _refusal(f"more than {MOST_LEVELS} levels of nesting", event)
        if values > MOST_VALUES:
            raise _refusal(f"more than {MOST_VALUES} values, aliases written out", event)


def _size_of(alias: yaml.AliasEvent, sizes: dict[str, int | None]) -> int:
    """Returns the number of values that an alias stands for; that of an unknown one is named when values are built."""
    size = sizes.get(str(alias.anchor), 0)
    if size is None:
        raise _refusal(f"the anchor {shown(alias.anchor)} inside itself", alias)
    return size


def _refusal(found: str, at: yaml.Node | yaml.Event) -> yaml.YAMLError:
    mark = at.start_mark
    return yaml.constructor.ConstructorError(None, None, found, mark if isinstance(mark, yaml.Mark) else None)
