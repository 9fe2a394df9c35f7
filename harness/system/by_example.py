"""Random draws of an attack keyed by the example: what one gets does not depend on those beside it, nor on its place.

Attacks draw for a whole batch at once, in tensors (n, C, H, W). Here each row of such a draw comes from a stream of its own.
Other draws (a seed, the place of a patch) are of the whole batch: they come from the generator that the attack was given, or from
the global ones, which are seeded alike for every batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode

from harness.errors import HarnessError
from harness.system.seeds import seed_of

BATCH_DIMENSIONS = 4
"""A draw of so many dimensions is one of images (n, C, H, W), or of a number for each of them."""


class _Running(threading.local):
    """The modes that are entered in this thread; the last one counts."""

    def __init__(self) -> None:
        self.modes: list[DrawsByExample] = []


_RUNNING = _Running()


class DrawsByExample(TorchFunctionMode):
    """Makes the draws of an attack by example while it is entered, and two sorts of sums independent of the batch too.

    The mean of a loss over a batch becomes a sum: it would divide each example's gradient by the number of examples beside it,
    which changes its last digits. And sums over the pixels of a single image are taken as those of several: with several threads
    PyTorch adds up a single one in another order.

    Args:
        keys: The seed of each example of the batch (N,).
        x: Their images (N, C, H, W).
        rows: Returns the examples (n,) that the attack goes on with, in its order.
        announce: Is told when they are others.
    """

    def __init__(self, keys: Sequence[int], x: Tensor, *, rows: Callable[[], Tensor], announce: Callable[[Tensor], None]) -> None:
        """See the class."""
        super().__init__()
        self.streams = [np.random.Generator(np.random.Philox(key=key)) for key in keys]
        self.x, self.rows, self.announce = x, rows, announce

    def __enter__(self) -> DrawsByExample:
        """Begins to make draws by example."""
        _RUNNING.modes.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]  # torch has no types here
        return self

    def __exit__(self, *error: Any) -> None:
        """Puts the usual draws back."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _RUNNING.modes.remove(self)

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """See `TorchFunctionMode`."""
        kwargs = dict(kwargs or {})
        if func is cross_entropy and kwargs.get("reduction", "mean") == "mean":
            kwargs["reduction"] = "sum"
        if func in _SUMS and _sums_up_one(*args, **kwargs):
            return func(torch.cat([args[0], args[0]]), *args[1:], **kwargs)[:1]
        drawn = _DRAWS[func](self, *args, **kwargs) if func in _DRAWS else None
        return func(*args, **kwargs) if drawn is None else drawn

    def uniform(self, shape: Sequence[int]) -> Tensor | None:
        """Returns numbers in [0,1), float32 on the CPU, where this is a draw for each example; None for any other."""
        return self._drawn(shape, lambda stream, each: stream.random(each, dtype=np.float32))

    def normal(self, shape: Sequence[int]) -> Tensor | None:
        """Returns Gaussian numbers where this is a draw for each example, see `uniform`."""
        return self._drawn(shape, lambda stream, each: stream.standard_normal(each, dtype=np.float32))

    def refuse(self, shape: Sequence[int], what: str) -> None:
        """Does nothing if a draw is none for each example.

        Raises:
            HarnessError: if it is: there is no stream for it.
        """
        if len(shape) == BATCH_DIMENSIONS:
            raise HarnessError(f"by_example: expected an attack that draws images by rand or randn, got {what} {tuple(shape)}")

    def _drawn(
        self, shape: Sequence[int], draw: Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float32]]
    ) -> Tensor | None:
        if len(shape) != BATCH_DIMENSIONS:
            return None
        rows = self.rows().tolist()
        if len(rows) != shape[0]:
            raise HarnessError(f"by_example: expected a draw for each of {len(rows)} examples, got one of shape {tuple(shape)}")
        each = tuple(shape[1:])
        parts = [draw(self.streams[row], each) for row in rows]
        return torch.from_numpy(np.stack(parts) if parts else np.zeros(tuple(shape), dtype=np.float32))


def keys_of(seed: int, hashes: Sequence[str]) -> tuple[int, ...]:
    """Returns the seed of each example for one restart of an attack.

    Args:
        seed: That of the restart.
        hashes: Content hashes (N,).
    """
    return tuple(seed_of(seed, "example", it) for it in hashes)


def is_by_example() -> bool:
    """Returns whether an attack runs whose draws are made by example."""
    return bool(_RUNNING.modes)


def go_on_with_copies(x: Tensor) -> None:
    """Tells that a library goes on with these images (n, C, H, W), copies of some that are attacked; of equal ones the next.

    Does nothing where draws are not made by example.

    Raises:
        HarnessError: if an image is none of them.
    """
    if not is_by_example():
        return
    mode = _RUNNING.modes[-1]
    left, found = list(range(len(mode.x))), []
    for image in x:
        place = next((place for place in left if torch.equal(image, mode.x[place])), None)
        if place is None:
            raise HarnessError("by_example: expected copies of the images that are attacked, got another image")
        left.remove(place)
        found.append(place)
    mode.announce(torch.tensor(found, dtype=torch.long, device=x.device))


@contextmanager
def usual_draws() -> Iterator[None]:
    """Lets a network draw as it always does: what it does is no part of the attack."""
    if not is_by_example():
        yield
        return
    mode = _RUNNING.modes[-1]
    mode.__exit__(None, None, None)
    try:
        yield
    finally:
        mode.__enter__()


def _sums_up_one(*args: Any, dim: int | Sequence[int] | None = None, **_: Any) -> bool:
    """Returns whether a sum is one over the numbers of the only row of a tensor."""
    tensor, dim = args[0] if args else None, args[1] if len(args) > 1 else dim
    if not isinstance(tensor, Tensor) or tensor.dim() < 2 or len(tensor) != 1 or isinstance(dim, bool):
        return False
    dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
    return bool(dims) and all(isinstance(it, int) and it % tensor.dim() for it in dims)


def _size_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    """Returns the shape that a factory is asked for: numbers, or one sequence of them."""
    size = kwargs.get("size", args)
    return tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else tuple(size)


def _placed(drawn: Tensor | None, kwargs: Mapping[str, Any], like: Tensor | None = None) -> Tensor | None:
    """Returns a draw on the device and of the type that were asked for."""
    if drawn is None:
        return None
    device = kwargs.get("device") or (None if like is None else like.device)
    return drawn.to(device=device, dtype=kwargs.get("dtype") or (None if like is None else like.dtype))


def _rand(mode: DrawsByExample, *args: Any, **kwargs: Any) -> Tensor | None:
    return _placed(mode.uniform(_size_of(args, kwargs)), kwargs)


def _randn(mode: DrawsByExample, *args: Any, **kwargs: Any) -> Tensor | None:
    return _placed(mode.normal(_size_of(args, kwargs)), kwargs)


def _rand_like(mode: DrawsByExample, like: Tensor, **kwargs: Any) -> Tensor | None:
    return _placed(mode.uniform(like.shape), kwargs, like)


def _randn_like(mode: DrawsByExample, like: Tensor, **kwargs: Any) -> Tensor | None:
    return _placed(mode.normal(like.shape), kwargs, like)


def _uniform_(mode: DrawsByExample, tensor: Tensor, low: float = 0.0, high: float = 1.0, **kwargs: Any) -> Tensor | None:
    low, high = kwargs.get("from", low), kwargs.get("to", high)
    drawn = mode.uniform(tensor.shape)
    return None if drawn is None else tensor.copy_(drawn.mul_(high - low).add_(low))


def _normal_(mode: DrawsByExample, tensor: Tensor, mean: float = 0.0, std: float = 1.0, **_: Any) -> Tensor | None:
    drawn = mode.normal(tensor.shape)
    return None if drawn is None else tensor.copy_(drawn.mul_(std).add_(mean))


def _refused_in_place(name: str) -> Callable[..., None]:
    return lambda mode, tensor, *_, **__: mode.refuse(tensor.shape, name)


def _refused_randint(mode: DrawsByExample, *args: Any, **kwargs: Any) -> None:
    size = kwargs.get("size") or next((it for it in args if not isinstance(it, int)), ())
    mode.refuse(tuple(size), "randint")


_SUMS = frozenset({torch.sum, Tensor.sum, torch.mean, Tensor.mean})

_DRAWS: dict[Any, Callable[..., Tensor | None]] = {
    torch.rand: _rand,
    torch.randn: _randn,
    torch.rand_like: _rand_like,
    torch.randn_like: _randn_like,
    Tensor.uniform_: _uniform_,
    Tensor.normal_: _normal_,
    torch.randint: _refused_randint,
    **{getattr(torch, name): _refused_in_place(name) for name in ("bernoulli", "randint_like", "poisson")},
    **{
        getattr(Tensor, name): _refused_in_place(name)
        for name in ("bernoulli_", "exponential_", "cauchy_", "log_normal_", "geometric_", "random_")
    },
}
"""What makes a draw by example; a function that returns None leaves it as it is."""
