"""Plug-in families: a lazy table of built-in classes, a decorator, and entry points.

A plug-in is a frozen `Plugin` whose `name` field is a one-value Literal. It is found, in this order, in the
family's built-in table (imported only when asked for), among the classes registered by decorator, and through
the entry-point group of the family's name.
"""

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar, Generic, TypeVar, cast

from pydantic import ValidationError

from harness.errors import SuiteError
from harness.spec import Spec, digest_fields, explain, suggestion


class Plugin(Spec):
    """Base of every plug-in specification."""

    PATH_FIELDS: ClassVar[frozenset[str]] = frozenset()
    """Fields that say where files lie: out of digests, the hash of the files' content stands for them."""

    VERSION: ClassVar[int] = 1
    """Raised by the author whenever the plug-in's code changes its numbers, so that stored results are not reused."""

    name: str
    """The plug-in's name in its family."""

    def identity(self) -> dict[str, Any]:
        """Returns, as plain JSON values, what digests are taken over: the fields, and the version once it was raised."""
        fields = digest_fields(self, exclude=self.PATH_FIELDS)
        return fields if self.VERSION == 1 else {**fields, "version": self.VERSION}


PluginT = TypeVar("PluginT", bound=Plugin)


class Registry(Generic[PluginT]):
    """The named plug-ins of one family.

    Args:
        family: The family's name, for messages and `harness list`.
        builtin: Plug-in name -> "package.module:Class".
    """

    def __init__(self, family: str, builtin: Mapping[str, str]) -> None:
        """See the class."""
        self.family = family
        self._builtin = dict(builtin)
        self._registered: dict[str, type[PluginT]] = {}

    def register(self, cls: type[PluginT]) -> type[PluginT]:
        """Registers a class under the default of its `name` field; a class decorator.

        Raises:
            SuiteError: if the class has no default name, or another class has that name.
        """
        name = cls.model_fields["name"].default
        if not isinstance(name, str):
            raise SuiteError(f'{cls.__qualname__}: expected a field name: Literal["..."] = "...", got no default')
        target = f"{cls.__module__}:{cls.__qualname__}"
        holder = self._registered.get(name, cls)
        if self._builtin.get(name, target) != target or f"{holder.__module__}:{holder.__qualname__}" != target:
            raise SuiteError(f"{self.family}: the name {name!r} is taken twice, now by {target}")
        self._registered[name] = cls
        return cls

    def names(self) -> list[str]:
        """Returns every known name, sorted, without importing a plug-in."""
        return sorted({*self._builtin, *self._registered, *self._entry_points()})

    def get(self, name: str) -> type[PluginT]:
        """Returns the class of that name.

        Raises:
            SuiteError: if there is none; the message suggests the nearest names.
        """
        if name in self._registered:
            return self._registered[name]
        if name in self._builtin:
            return cast(type[PluginT], _load(self._builtin[name]))
        if name in (found := self._entry_points()):
            return cast(type[PluginT], _load(found[name]))
        raise SuiteError(f"{self.family}: unknown name {name!r}{suggestion(name, self.names())}")

    def parse(self, value: object) -> PluginT:
        """Builds a plug-in from `{"name": ..., **fields}`, a bare name, or an instance.

        Raises:
            ValueError: if the value has another form or the name is unknown.
        """
        if isinstance(value, Plugin):
            return cast(PluginT, value)
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise ValueError(
                f"expected a name from {', '.join(self.names())}, or a mapping with the key 'name', got {value!r:.80}"
            )
        try:
            return self.get(value["name"]).model_validate(dict(value))
        except SuiteError as error:
            raise ValueError(str(error)) from error

    def parse_argument(self, value: object, *, name: str) -> PluginT:
        """Returns the plug-in that a name or mapping stands for, as a function's argument.

        Raises:
            SuiteError: see `parse`; the message begins with the argument's name.
        """
        try:
            return self.parse(value)
        except ValidationError as problem:
            raise SuiteError("\n".join(f"{name}: {line}" for line in explain(problem))) from problem
        except ValueError as problem:
            raise SuiteError(f"{name}: {problem}") from problem

    def _entry_points(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for point in entry_points(group=f"harness.{self.family}"):
            taken = found.get(point.name, self._builtin.get(point.name, point.value))
            if taken != point.value:
                raise SuiteError(f"{self.family}: the name {point.name!r} is taken twice, by {taken} and {point.value}")
            found[point.name] = point.value
        return found


def _load(target: str) -> object:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
