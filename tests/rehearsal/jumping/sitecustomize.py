"""A wall clock that jumps by hours, days and years: for processes that find this folder on PYTHONPATH.

Only what says the time of day jumps, as on a machine whose clock is set; time.monotonic and time.perf_counter go on.
"""

import datetime
import importlib.abc
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

EVERY = 0.05
"""Seconds between two jumps."""
HOUR = 3600.0
DAY = 24 * HOUR
AHEAD = (0.0, 3 * HOUR, -2 * HOUR, 5 * DAY, -400 * DAY, 20 * 365 * DAY, -46 * 365 * DAY, -HOUR / 60)
"""Seconds that the clock is ahead, one after the other."""

_time, _localtime, _gmtime, _strftime, _ctime = time.time, time.localtime, time.gmtime, time.strftime, time.ctime


def now() -> float:
    """Returns the time of the jumping clock, in seconds since 1970; all processes of a machine see the same jumps."""
    return _time() + AHEAD[int(time.monotonic() / EVERY) % len(AHEAD)]


class Datetime(datetime.datetime):
    """A datetime whose present jumps."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "Datetime":
        """See `datetime.datetime.now`."""
        return cls.fromtimestamp(now(), tz)


class _Jumping(importlib.abc.Loader):
    """Loads a module as another loader does, and gives it the jumping datetime."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if getattr(module, "datetime", None) is datetime.datetime:
            module.datetime = Datetime

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the harness's modules; compiled libraries crash when the type itself is replaced in its module."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name.partition(".")[0] == "harness" else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Jumping(spec.loader)
        return spec


def _install() -> None:
    time.time = now
    time.time_ns = lambda: int(now() * 1e9)
    time.localtime = lambda seconds=None: _localtime(now() if seconds is None else seconds)
    time.gmtime = lambda seconds=None: _gmtime(now() if seconds is None else seconds)
    time.ctime = lambda seconds=None: _ctime(now() if seconds is None else seconds)
    time.strftime = lambda form, when=None: _strftime(form, _localtime(now()) if when is None else when)
    sys.meta_path.insert(0, _Finder())


_install()
