"""The steps that turn a trained model into files for other runtimes; a file is kept only if it agrees with PyTorch."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from harness.attacks.base import ATTACKS, Attack
from harness.attacks.frame import run_attack
from harness.attacks.results import AttackInput
from harness.errors import StepFailed
from harness.evaluation.batches import load
from harness.export.metadata import Resize
from harness.export.onnx import export_deploy, export_model
from harness.export.parity import Parity
from harness.export.quantise import convert_fp16, quantise_int8
from harness.models.classifier import Classifier
from harness.models.reference import reference_parts
from harness.steps.base import Context, Examples, ModelStep, Step
from harness.storage.store import write_json
from harness.system.precision import full_float32
from harness.system.seeds import seed_of
from harness.threat import ThreatModel

PARITY = "parity.json"
WEIGHT_BITS: Final = 7
"""Of the INT8 weights: sums of 8-bit products overflow on processors without VNNI, so 8 would depend on the machine."""


@dataclass(frozen=True)
class ParitySamples:
    """The images on which an exported file must agree with PyTorch: clean ones, and the same ones attacked."""

    examples: Examples
    attack: Attack
    threat_model: ThreatModel

    @classmethod
    def of(cls, examples: Examples) -> "ParitySamples":
        """Returns some examples, attacked by PGD of 10 steps at 8/255."""
        return cls(examples, ATTACKS.parse({"name": "pgd", "steps": 10}), ThreatModel())

    def json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {
            "examples": self.examples.json(),
            "attack": self.attack.identity(),
            "threat_model": self.threat_model.model_dump(mode="json"),
        }

    @full_float32()
    def images(self, classifier: Classifier, context: Context) -> dict[str, Tensor]:
        """Returns the images (N, 3, R, R) by what they are."""
        split = self.examples.of(context.data)
        batch = load(split, range(len(split)), context.device)
        inputs, seed = AttackInput(classifier, batch.x, batch.y), seed_of(self.examples.seed, "parity")
        attacked = run_attack(self.attack, inputs, threat_model=self.threat_model, seed=seed)
        return {"clean": batch.x, f"{self.attack.name} {self.threat_model.eps}": attacked.x_adv}


class ModelFile(Step):
    """A step that leaves one ONNX file."""

    KIND: ClassVar[str] = "export"
    FULL_FLOAT32: ClassVar[bool] = True
    FORMAT: ClassVar[str]
    """Name of the format on the command line."""
    FILE: ClassVar[str]

    @property
    @abstractmethod
    def label(self) -> str:
        """Name of the model in titles."""

    @property
    def title(self) -> str:
        """See `Step.title`."""
        return f"export {self.label} as {self.FORMAT}"

    def file(self, context: Context) -> Path:
        """Returns the path of the finished file in the store."""
        return context.folder(self) / self.FILE


@dataclass(frozen=True)
class FromModel(ModelFile):
    """A file that is made from the PyTorch model and compared with it."""

    model: ModelStep
    resolution: int
    samples: ParitySamples

    @property
    def label(self) -> str:
        """See `ModelFile.label`."""
        return self.model.label

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The model's training."""
        return {"model": self.model}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {"format": self.FORMAT, "resolution": self.resolution, "samples": self.samples.json()}

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        classifier = self.model.classifier(context)
        if reference_parts(classifier):
            hint = "`harness crosscheck SUITE --onnx FILE` scores it"
            raise StepFailed(f"{self.label}: expected a model of PyTorch to export, got an ONNX file; {hint}")
        parities = self.export(classifier, folder / self.FILE, self.samples.images(classifier, context))
        write_json(folder / PARITY, {name: asdict(parity) for name, parity in parities.items()})

    @abstractmethod
    def export(self, classifier: Classifier, path: Path, images: Mapping[str, Tensor]) -> dict[str, Parity]:
        """Writes the file and returns its comparison with PyTorch on some images (N, 3, R, R)."""


@dataclass(frozen=True)
class Onnx(FromModel):
    """Writes `model.onnx`: float images to logits."""

    VERSION: ClassVar[int] = 1
    FORMAT: ClassVar[str] = "onnx"
    FILE: ClassVar[str] = "model.onnx"

    def export(self, classifier: Classifier, path: Path, images: Mapping[str, Tensor]) -> dict[str, Parity]:
        """See `FromModel.export`."""
        return export_model(classifier, path, resolution=self.resolution, samples=images)


@dataclass(frozen=True)
class Deploy(FromModel):
    """Writes `deploy.onnx`: the pixels of a decoded image of any size to class probabilities."""

    VERSION: ClassVar[int] = 1
    FORMAT: ClassVar[str] = "deploy"
    FILE: ClassVar[str] = "deploy.onnx"

    resize: Resize
    """How an image that is not square is resized, as by the data set."""

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {**super().identity(), "resize": self.resize}

    def export(self, classifier: Classifier, path: Path, images: Mapping[str, Tensor]) -> dict[str, Parity]:
        """See `FromModel.export`."""
        return export_deploy(classifier, path, resolution=self.resolution, samples=_pixels(images), resize=self.resize)


@dataclass(frozen=True)
class FromOnnx(ModelFile):
    """A file that is converted from `model.onnx` to smaller numbers."""

    source: Onnx

    @property
    def label(self) -> str:
        """See `ModelFile.label`."""
        return self.source.label

    @property
    def inputs(self) -> Mapping[str, Step]:
        """The float file, and the training that its images are attacked on."""
        return {"source": self.source, "model": self.source.model}

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {"format": self.FORMAT}

    def run(self, context: Context, folder: Path) -> None:
        """See `Step.run`."""
        images = self.source.samples.images(self.source.model.classifier(context), context)
        parities = self.convert(context, folder / self.FILE, images)
        write_json(folder / PARITY, {name: asdict(parity) for name, parity in parities.items()})

    @abstractmethod
    def convert(self, context: Context, path: Path, images: Mapping[str, Tensor]) -> dict[str, Parity]:
        """Writes the file and returns its comparison with the float file on some images (N, 3, R, R)."""


@dataclass(frozen=True)
class Fp16(FromOnnx):
    """Writes `fp16.onnx`: weights of 16 bits."""

    VERSION: ClassVar[int] = 2
    FORMAT: ClassVar[str] = "fp16"
    FILE: ClassVar[str] = "fp16.onnx"

    def convert(self, context: Context, path: Path, images: Mapping[str, Tensor]) -> dict[str, Parity]:
        """See `FromOnnx.convert`."""
        return convert_fp16(self.source.file(context), path, samples=images)


@dataclass(frozen=True)
class Int8(FromOnnx):
    """Writes `int8.onnx`: whole numbers of 8 bits, their ranges taken from training images."""

    VERSION: ClassVar[int] = 3
    FORMAT: ClassVar[str] = "int8"
    FILE: ClassVar[str] = "int8.onnx"

    calibration: Examples

    def identity(self) -> Mapping[str, Any]:
        """See `Step.identity`."""
        return {**super().identity(), "calibration": self.calibration.json(), "weight_bits": WEIGHT_BITS}

    def convert(self, context: Context, path: Path, images: Mapping[str, Tensor]) -> dict[str, Parity]:
        """See `FromOnnx.convert`."""
        seen = self.calibration.of(context.data)
        return quantise_int8(self.source.file(context), path, images=seen, samples=images, weight_bits=WEIGHT_BITS)


def _pixels(images: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns images as decoded files give them, uint8 (N, H, W, 3): of the network's own size, and larger oblong ones."""
    decoded = {name: _as_bytes(x) for name, x in images.items()}
    height, width = (3 * images["clean"].shape[2] // 2, 2 * images["clean"].shape[3] + 1)
    return decoded | {f"clean, {width} x {height}": _as_bytes(interpolate(images["clean"][:4], (height, width), mode="bilinear"))}


def _as_bytes(x: Tensor) -> Tensor:
    return (255 * x).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
