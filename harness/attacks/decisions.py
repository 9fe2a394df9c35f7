"""What a decision-based attack sees of a network: which class an image gets, and how often it may ask."""

from typing import cast

import torch
from torch import Tensor, nn

from harness.attacks.watcher import Watcher
from harness.system.out_of_memory import give_back, is_out_of_memory
from harness.threat import ThreatModel


class Spent(Exception):
    """Ends an attack that has used up its queries."""


class Decisions(nn.Module):
    """The class of each image as a row with a 1, no logits; all images are of one example.

    Args:
        model: Images (n, C, H, W) to logits (n, K).
        batch: The originals (N, C, H, W) of the attack's batch.
        row: The position of the example in the batch.
        label: Its class.
        threat_model: The norm in which the nearest adversarial is kept.
        queries: Images that may be shown.
        most: Largest number of images of a pass, lowered where memory is short.
    """

    def __init__(
        self, model: nn.Module, batch: Tensor, row: int, *, label: int, threat_model: ThreatModel, queries: int, most: int
    ) -> None:
        """See the class."""
        super().__init__()
        self._asked = (model,)  # in a tuple, so that it is no submodule
        self.x, self.row, self.label = batch[row : row + 1], row, label
        self.threat_model, self.left, self.most = threat_model, queries, most
        self.nearest, self.distance = self.x[0], float("inf")
        self.eval()

    @property
    def found(self) -> bool:
        """Whether any image had another class."""
        return self.distance < float("inf")

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Returns (n, K), in each row a 1 at the predicted class.

        Raises:
            Spent: if the queries are used up.
        """
        images = images.to(self.x)[: max(self.left, 0)]
        if not len(images):
            raise Spent
        self.left -= len(images)
        logits = self._logits(images)
        classes = logits.argmax(dim=1)
        self._keep(images, classes)
        if not self.left:
            raise Spent
        return nn.functional.one_hot(classes, logits.shape[1]).to(images.dtype)

    def _logits(self, images: Tensor) -> Tensor:
        """Returns logits (n, K) of images (n, C, H, W), as many as the attack likes; from parts where memory is short."""
        return torch.cat([self._part(part) for part in images.split(self.most)])

    def _part(self, images: Tensor) -> Tensor:
        (model,) = self._asked
        if isinstance(model, Watcher):
            model.go_on_with(torch.full((len(images),), self.row, device=self.x.device))
        try:
            return cast(Tensor, model(images))
        except Exception as error:  # memory may be short in any library
            if len(images) == 1 or not is_out_of_memory(error):
                raise
        give_back()
        self.most = len(images) // 2
        return self._logits(images)

    def _keep(self, images: Tensor, classes: Tensor) -> None:
        """Keeps the nearest of the images (n, C, H, W) that has another class."""
        others = (classes != self.label).nonzero().flatten()
        if not len(others):
            return
        distance = self.threat_model.distance(images[others], self.x.expand(len(others), -1, -1, -1))
        place = int(distance.argmin())
        if float(distance[place]) < self.distance:
            self.nearest, self.distance = images[others[place]].clone(), float(distance[place])
