"""PyTorch and other libraries, imported when they are first used: that takes seconds, and most verbs compute and draw nothing.

A module that describes work, such as a plug-in, writes `from harness.system.lazy import torch`; the types of its annotations it
imports under `TYPE_CHECKING`. A module that cannot be without PyTorch, such as one with a subclass of `nn.Module`, imports it
as usual, and is itself imported where it is needed.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any


class LazyModule(ModuleType):
    """Stands for a module, and imports it when one of its attributes is asked for. Nothing is cached beside `sys.modules`."""

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the module."""
        return getattr(importlib.import_module(self.__name__), name)


transforms: Any = LazyModule("torchvision.transforms.v2")
"""torchvision's transforms; the library has no types."""
matplotlib: Any = LazyModule("matplotlib")
figures: Any = LazyModule("matplotlib.figure")
agg: Any = LazyModule("matplotlib.backends.backend_agg")
"""Draws figures as pixels."""
stats: Any = LazyModule("scipy.stats")
"""scipy's statistics; the library has no types."""
ray: Any = LazyModule("ray")
"""Optional, and so without types here."""
if TYPE_CHECKING:
    import torch as torch  # noqa: PLC0414 - as a name of this module
else:
    torch = LazyModule("torch")
