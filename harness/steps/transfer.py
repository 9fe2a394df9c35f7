"""The step that scores the adversarials of one model on the other models of the grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from harness.models.layout import Inference
from harness.steps.base import Context, ModelStep, Step
from harness.steps.evaluate import Sweep
from harness.system.lazy import torch
from harness.system.modes import evaluating

if TYPE_CHECKING:
    from torch import Tensor


WRONG = "fooled.safetensors"


@dataclass(frozen=True)
class Transfer(Step):
    """Attacks a source model at one budget and predicts with every target model on the images that come out.

    Every example is attacked, also one that the source gets wrong. The frame stops no attack at its first success, as the first
    image beyond the source's boundary is adversarial for few other models. Where an attack has no success and does not return
    its last iterate, its best iterate is used, see `harness.attacks.keeper.Keeper`.

    Source: Papernot et al. 2016, "Transferability in machine learning", https://arxiv.org/abs/1605.07277.
    """

    KIND: ClassVar[str] = "transfer"
    VERSION: ClassVar[int] = 2
    FULL_FLOAT32: ClassVar[bool] = True

    sweep: Sweep
    """The attack on the source, at one budget; its protocol, best-of-iterates and form of the network are not used."""
    targets: Mapping[str, ModelStep]
    """Label -> model that is scored on the source's adversarials."""

    @property
    def crafting(self) -> Sweep:
        """The attack on the source as it is run for other models."""
        settings = replace(
            self.sweep.settings, protocol="independent", best_of_iterates=False, inference=Inference(), by_example=False
        )
        return replace(self.sweep, settings=settings)

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"transfer {self.sweep.label} from {self.sweep.model.label}"

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The source and the targets, the latter in the order of the grid."""
        targets: dict[str, Step] = {f"target-{number}": step for number, step in enumerate(self.targets.values())}
        return {"source": self.sweep.model, **targets}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return self.crafting.identity()

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        networks = [step.classifier(context) for step in self.targets.values()]
        labels = self.sweep.judged(context).labels
        wrong = [np.zeros(len(labels), dtype=bool) for _ in networks]

        def score(_: Fraction, indices: NDArray[np.int64], x_adv: Tensor) -> None:
            for network, found in zip(networks, wrong, strict=True):
                with evaluating(network), torch.no_grad():
                    predicted = network(x_adv.to(context.device)).argmax(dim=1).cpu().numpy()
                found[indices] = predicted != labels[indices]

        self.crafting.attacked(context, keep=score)
        save_file({f"{number}": found.astype(np.uint8) for number, found in enumerate(wrong)}, folder / WRONG)

    def wrong(self, context: Context) -> dict[str, NDArray[np.bool_]]:
        """Returns, for each target of the finished step, which examples (N,) it misclassifies on the source's images."""
        tensors = load_file(context.folder(self) / WRONG)
        return {label: tensors[f"{number}"].astype(bool) for number, label in enumerate(self.targets)}
