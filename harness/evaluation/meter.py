"""Progress from inside an attack: a single batch of a strong one may take minutes."""

import math
import time
from dataclasses import dataclass

from harness.attacks.passes import BACKWARD, Passes
from harness.system.progress import Advance

INTERVAL = 0.5
"""Seconds between two reports; in between a pass costs a look at the clock."""
GRAIN = 1024
"""Progress inside an attack goes in parts of 1/GRAIN of an example: a power of 2, so that they add up to whole ones exactly."""


@dataclass
class _Run:
    """One run of an attack on one batch."""

    title: str
    examples: int
    worth: float
    """Units of progress that each example is certain to give."""
    gain: float
    """Units of progress that an example gives once it has an adversarial."""
    most: Passes | None
    """The most passes of an example, over all restarts, where that is known."""
    begun: float
    forwards: float = 0.0
    """Forward passes of an active example so far."""
    cost: float = 0.0
    """What they cost, in forward passes."""
    spent: float = 0.0
    """What all passes of all examples cost, in forward passes."""
    active: int = 0
    ahead: float = 0.0
    """Units that were told before the run, and not counted yet."""

    def units(self, share: float) -> float:
        """Returns the units of progress once the examples without an adversarial have had that share of their passes."""
        return self.ahead + self.active * self.worth * share + (self.examples - self.active) * self.gain

    @property
    def share(self) -> float:
        """The part of its time that the run has taken, if no further example becomes adversarial; 0 where that is not known."""
        if self.most is None or not self.spent:
            return 0.0
        rest = self.active * max(self.most.cost - self.cost, 0)
        return self.spent / (self.spent + rest)

    def words(self, now: float) -> str:
        """Returns what can be said of the run at that time; an ETA only where it gives no units of progress."""
        limit = "" if self.most is None else f" of at most {self.most.forwards}"
        done = self.examples - self.active
        found = f", {done} adversarial" if done else ""
        eta = f", eta {(now - self.begun) * (1 / self.share - 1):.0f} s" if self.share and not self.worth else ""
        return f"{self.title}, batch of {self.examples} images: {self.forwards:.0f}{limit} passes{found}{eta}"


@dataclass
class Meter:
    """Tells a progress display of whole results, and of the time that the attack on the present batch has taken."""

    advance: Advance
    _run: _Run | None = None
    _ahead: float = 0.0
    """Units that were told before the results were there."""
    _told: float = 0.0
    """When a report was last made, or when the attack on the present batch began."""

    def begin(self, title: str, examples: int, *, most: Passes | None, worth: float = 1, gain: float = 1) -> None:
        """Notes that an attack begins on a batch.

        Args:
            title: A few words for the display.
            examples: Number of images in the batch.
            most: The most passes of an example, where that is known.
            worth: Units of progress that each of them is certain to give; 0 where the task's total leaves them out, and less than
                1 for one of several stages.
            gain: Units that an example gives once it has an adversarial.
        """
        self._told = time.monotonic()
        self._run = _Run(title, examples, worth, gain, most, begun=self._told, active=examples, ahead=self._ahead)

    def passed(self, asked: int, active: int, *, differentiated: bool) -> None:
        """See `harness.attacks.passes.Listener`.

        Attacks pass all active examples at once, or one after the other: either way an example's share of its passes grows.
        """
        run = self._run
        if run is None:
            return
        cost = 1 + BACKWARD * differentiated
        part = min(1.0, asked / active) if active else 0.0
        run.forwards += part
        run.cost += cost * part
        run.spent += cost * min(asked, active)
        run.active = active
        now = time.monotonic()
        if now - self._told >= INTERVAL:
            self._told = now
            self._tell(run, now)

    def end(self, active: int) -> None:
        """Notes that the stage is through, with so many examples left: what they had of it counts until they are."""
        if self._run is not None:
            self._run.active = active
            self._reach(self._run.units(1.0), self._run.words(time.monotonic()))

    def settle(self, count: int) -> None:
        """Notes that so many examples x budgets got their result."""
        paid = min(self._ahead, count)
        self._ahead -= paid
        self.advance(count - paid, "")

    def _tell(self, run: _Run, now: float) -> None:
        self._reach(run.units(run.share), run.words(now))

    def _reach(self, units: float, note: str) -> None:
        """Tells of units before they are counted, a part less than all: the run, or the last stage, has not ended yet."""
        more = max((math.floor(units * GRAIN) - 1) / GRAIN - self._ahead, 0.0)
        self._ahead += more
        self.advance(more, note)
