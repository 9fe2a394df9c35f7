"""What changes during a training: network, inference form, optimiser, average; and one update with a batch."""

import copy
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_

from harness.models.classifier import Classifier
from harness.models.compiling import compiled
from harness.models.network import Network
from harness.models.padding import in_few_sizes
from harness.training.activation_checkpointing import checkpointed
from harness.training.averaging import Average
from harness.training.awp import adversarial_weights
from harness.training.inference_form import LiveInferenceForm
from harness.training.optimising import learning_rate, make_optimiser, optimiser_tensors, restore_optimiser
from harness.training.processes import Processes
from harness.training.recipes.adversarial import AdversarialRecipe
from harness.training.recipes.base import Recipe, TrainingBatch
from harness.training.totals import Update


class Learner:
    """A network that learns by a recipe.

    Args:
        model: The network, trained in place.
        recipe: The recipe.
        total: Number of updates of the whole training.
        processes: The processes that share each batch.
        example: Images (N, 3, H, W) of the shape that it will see.
        micro_batch: Largest number of images in memory at a time.
    """

    def __init__(
        self, model: Classifier, recipe: Recipe, total: int, *, processes: Processes, example: Tensor, micro_batch: int
    ) -> None:
        """See the class."""
        self.model, self.recipe, self.total, self.processes = model, recipe, total, processes
        self.micro_batch = micro_batch
        self.optimiser = make_optimiser(recipe.optimiser, model)
        self.average = None if recipe.ema is None else Average(model, recipe.ema)
        self.steps = 0
        self.begin_epoch()
        self._inference_form = LiveInferenceForm(model, example)
        self._validated = self._inference_form if self.average is None else LiveInferenceForm(self.average.network, example)
        validated = in_few_sizes(self._validated.network, example[:1], len(example))
        self._to_validate = self._precise(self._differentiable(validated, self._validated.network))
        live = compiled(model, example) if recipe.compile else model
        self._live = self._attacked = self._precise(self._differentiable(live, model))
        if isinstance(recipe, AdversarialRecipe):
            attacked: Network = self._inference_form.network
            if live is not model:  # if compiling fails for one, it fails for both, and one warning is enough
                attacked = compiled(self._inference_form.network, example)
            self._attacked = self._precise(self._differentiable(attacked, self._inference_form.network))
        distils = isinstance(recipe, AdversarialRecipe) and recipe.distil > 0
        self._teacher = self._precise(LiveInferenceForm(copy.deepcopy(model), example).network) if distils else None

    @property
    def validated_network(self) -> nn.Module:
        """The network that is validated and kept: the averaged one where there is an average."""
        return self.model if self.average is None else self.average.network

    @property
    def learning_rate(self) -> float:
        """The learning rate of the last update."""
        return float(self.optimiser.param_groups[0]["lr"])

    def begin_epoch(self) -> None:
        """Sets the network to train mode, and its batch norms to eval mode where the recipe freezes them."""
        self.model.train()
        if self.recipe.freeze_batchnorm:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def end_epoch(self) -> None:
        """Averages the batch-norm statistics over all processes, and refreshes the inference form as a resumed training does."""
        self.processes.average_buffers(self.model)
        if self.average is not None:
            self.processes.average_buffers(self.average.network)
        self._inference_form.refresh()

    def update(self, x: Tensor, y: Tensor, *, epoch: int, generator: torch.Generator) -> Update:
        """Returns the sums of one update: attacks this process's share of a batch and runs one step of the optimiser.

        Args:
            x: Images (N, 3, H, W) in [0,1].
            y: Labels (N,).
            epoch: The epoch, counted from 1; it decides the budget.
            generator: Source of the attack's random choices.
        """
        examples = int(self.processes.total(torch.tensor(len(y), device=y.device)))
        started = self._now()
        batches = [self._attack(*part, epoch=epoch, generator=generator) for part in self._parts(x, y)]
        attack_seconds = self._now() - started
        batches = [batch._replace(taught=self._taught(batch.x)) for batch in batches]
        sums = torch.zeros(2, dtype=torch.float64, device=y.device)
        with self._moved_weights(batches, examples):
            for batch in batches:
                loss, logits = self.recipe.loss(self._live, batch)
                (loss * (len(batch.y) / examples)).backward()
                sums += torch.stack([loss.detach() * len(batch.y), (logits.argmax(1) == batch.y).sum()]).double()
        self._step()
        loss_sum, correct = self.processes.total(sums).tolist()
        return Update(examples, loss_sum, int(correct), attack_seconds)

    @torch.no_grad()
    def clean_correct(self, x: Tensor, y: Tensor) -> int:
        """Returns how many images the attacked network classifies correctly."""
        return sum(int((self._attacked(x_part).argmax(1) == y_part).sum()) for x_part, y_part in self._parts(x, y))

    def network_to_validate(self) -> Network:
        """Returns the inference form of `validated_network`, refreshed."""
        self._validated.refresh()
        return self._to_validate

    def tensors(self) -> dict[str, Tensor]:
        """Returns all tensors that a resumed training needs."""
        found = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.average is not None:
            found |= {f"average.{name}": tensor for name, tensor in self.average.network.state_dict().items()}
        return found | {f"optimiser.{name}": tensor for name, tensor in optimiser_tensors(self.optimiser).items()}

    def restore(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Restores what `tensors` returned after `steps` updates."""
        self.steps = steps
        self.model.load_state_dict(below("model.", tensors))
        if self.average is not None:
            self.average.network.load_state_dict(below("average.", tensors))
            self.average.steps = steps
        restore_optimiser(self.optimiser, below("optimiser.", tensors))
        self._inference_form.refresh()

    def _attack(self, x: Tensor, y: Tensor, *, epoch: int, generator: torch.Generator) -> TrainingBatch:
        if not isinstance(self.recipe, AdversarialRecipe):
            return TrainingBatch(x, x, y)
        threat_model = self.recipe.threat_model_at(epoch)
        x_adv = self.recipe.perturb(self._attacked, x, y, threat_model=threat_model, generator=generator)
        return TrainingBatch(x, x_adv.detach(), y)

    @torch.no_grad()
    def _taught(self, x: Tensor) -> Tensor | None:
        """Returns the teacher's predictions for images (N, 3, H, W): probabilities (N, K); None without a teacher."""
        return None if self._teacher is None else self._teacher(x).softmax(dim=1)

    def _moved_weights(self, batches: Sequence[TrainingBatch], examples: int) -> AbstractContextManager[None]:
        """Returns a context that moves the weights to where the recipe takes the gradient."""

        def ascent(weights: list[nn.Parameter]) -> list[Tensor]:
            sums = [torch.zeros_like(weight) for weight in weights]
            for batch in batches:
                loss = self.recipe.loss(self._live, batch).loss * (len(batch.y) / examples)
                gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
                sums = [known + new for known, new in zip(sums, gradients, strict=True)]
            return [self.processes.total(gradient) for gradient in sums]

        return nullcontext() if self.recipe.awp is None else adversarial_weights(self.model, ascent, self.recipe.awp)

    def _step(self) -> None:
        """Runs one step of the optimiser, then updates inference form and average."""
        self.processes.add_gradients(self.model)
        if self.recipe.optimiser.clip_norm is not None:
            clip_grad_norm_(self.model.parameters(), self.recipe.optimiser.clip_norm)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe.optimiser, self.steps, self.total)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.steps += 1
        if isinstance(self.recipe, AdversarialRecipe):
            self._inference_form.refresh()
        if self.average is not None:
            self.average.update(self.model)

    def _parts(self, x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
        return list(zip(x.split(self.micro_batch), y.split(self.micro_batch), strict=True))

    def _differentiable(self, network: Network, model: nn.Module) -> Network:
        """Returns a network, of the modules of `model`, with as little memory for its backward pass as the recipe says."""
        return checkpointed(network, model) if self.recipe.activation_checkpointing else network

    def _precise(self, network: Network) -> Network:
        """Returns a network that computes in the recipe's precision and gives float32 logits."""

        def forward(x: Tensor) -> Tensor:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
                return network(x).float()

        return forward

    def _now(self) -> float:
        """Returns the time in seconds, after the device has finished its work."""
        if self.processes.device.type == "cuda":
            torch.cuda.synchronize(self.processes.device)
        return time.perf_counter()


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors whose name begins with a prefix, under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
