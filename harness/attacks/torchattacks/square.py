"""torchattacks' Square with the frame's notion of success, its arithmetic done on the active examples only."""

import math
from dataclasses import dataclass

import torch
import torchattacks
from torch import Tensor

from harness.attacks.torchattacks.active import still_active
from harness.system.by_example import go_on_with_copies

SMALLEST = torch.finfo(torch.float32).tiny
"""Margin of an example that is not adversarial, where its logits tie."""
LARGEST = torch.finfo(torch.float32).max
"""Bound of margins: the library multiplies them by 0, which makes NaN of infinity."""


class TieAwareSquare(torchattacks.Square):  # type: ignore[misc]  # the library has no types
    """torchattacks' Square that goes on with an example until its prediction is another one.

    The library takes a margin of 0 for success and leaves the example alone from then on. At an exact tie of logits the
    prediction is that of the lower index, which may be the true one: coarse logits (INT8, bfloat16) tie often.

    In Linf the images are the library's bit for bit, but it gathers the active examples, adds the patch to the whole images,
    clips these to the balls and scatters the result anew for each query. Here a query changes the window of its patch alone,
    and examples leave the tensors when they become adversarial.
    """

    def attack_single_run(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (n,) the queries of each example, and images (n, C, H, W); see `torchattacks.Square.attack_single_run`."""
        if self.norm != "Linf":
            found: tuple[Tensor, Tensor] = super().attack_single_run(x, y)
            return found
        go_on_with_copies(x)
        with torch.no_grad():
            return self._search_linf(x, y)

    def margin_and_loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Returns margin and loss (n,); the margin is positive exactly where the attack has not succeeded.

        See `torchattacks.Square.margin_and_loss`; here the network's output is not written to.

        Args:
            x: Images (n, C, H, W).
            y: Labels (n,), the wanted classes where the attack is targeted.
        """
        logits = self.get_logits(x)
        succeeded = (logits.argmax(dim=1) == y) == bool(self.targeted)
        logits = logits.float()
        own, others = logits.gather(1, y[:, None])[:, 0], logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
        margin = (others - own if self.targeted else own - others).nan_to_num(LARGEST, LARGEST, -LARGEST)
        judged = torch.where(succeeded, margin.clamp(max=0), margin.clamp(min=SMALLEST))
        if self.loss == "margin":
            return judged, margin
        entropy = torch.nn.functional.cross_entropy(logits, y, reduction="none")
        return judged, entropy if self.targeted else -entropy

    def _search_linf(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Source: Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049, algorithm 2."""
        stripes = self.random_choice([len(x), x.shape[1], 1, x.shape[3]])
        best, queries = (x + self.eps * stripes).clamp(0, 1), torch.ones(len(x), device=x.device)
        margin, loss = self.margin_and_loss(best, y)
        search = _Search(
            rows=torch.arange(len(x), device=x.device),
            low=(x - self.eps).clamp(min=0),
            high=(x + self.eps).clamp(max=1),
            best=best.clone(),
            y=y,
            loss=loss,
        ).at(still_active(self.model, margin > 0))
        for query in range(self.n_queries):
            if not len(search.rows):
                break
            candidate = self._patched(search, query)
            margin, loss = self.margin_and_loss(candidate, search.y)
            queries[search.rows] += 1
            search.improve(candidate, loss, adversarial=margin <= 0)
            active = still_active(self.model, margin > 0)
            if not active.all():
                best[search.rows] = search.best
                search = search.at(active)
        best[search.rows] = search.best
        return queries, best

    def _patched(self, search: "_Search", query: int) -> Tensor:
        """Returns the best images (n, C, H, W) of a search, each with the same square patch, inside the balls."""
        channels, height, width = search.best.shape[1:]
        side = max(round(math.sqrt(self.p_selection(query) * channels * height * width / channels)), 1)
        top, left = int(self.random_int(0, height - side)), int(self.random_int(0, width - side))
        change = 2.0 * self.eps * self.random_choice([channels, 1, 1])
        window = (..., slice(top, top + side), slice(left, left + side))
        candidate = search.best.clone()
        candidate[window] = torch.clamp(search.best[window] + change, search.low[window], search.high[window])
        return candidate


@dataclass
class _Search:
    """Where the random search is, for n examples."""

    rows: Tensor
    """(n,) their positions in the batch that the search began with."""
    low: Tensor
    """The smallest value (n, C, H, W) of each pixel inside the balls."""
    high: Tensor
    """The largest."""
    best: Tensor
    """The images (n, C, H, W) with the smallest loss."""
    y: Tensor
    """(n,) the labels."""
    loss: Tensor
    """(n,) the smallest loss."""

    def at(self, active: Tensor) -> "_Search":
        """Returns the search on the examples `active`, a mask (n,)."""
        if active.all():
            return self
        rows = active.nonzero().flatten()
        parts = (self.rows, self.low, self.high, self.best, self.y, self.loss)
        return _Search(*(part[rows] for part in parts))

    def improve(self, candidate: Tensor, loss: Tensor, *, adversarial: Tensor) -> None:
        """Keeps the candidates (n, C, H, W) with a smaller loss (n,), and those that are `adversarial` (n,)."""
        lower = loss < self.loss
        self.loss = torch.where(lower, loss, self.loss)
        rows = (lower | adversarial).nonzero().flatten()
        if len(rows):
            self.best[rows] = candidate[rows]
