"""Which model files and which images of a suite other runtimes score."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from harness.bundle import BundleCondition
from harness.export.metadata import Resize
from harness.planning.plan import Plan, PlannedCell
from harness.reports.names import eps_text
from harness.steps.base import Examples
from harness.steps.bundle import ENCODINGS, ROUNDED, Attacked, BundleSource, Bundling, Damaged, Evaluated, Photographed, Triggered
from harness.steps.conditions import Corrupted, FromFolder, Trigger
from harness.steps.evaluate import Evaluate, Sweep
from harness.steps.export import Deploy, Fp16, Int8, ModelFile, Onnx, ParitySamples
from harness.suites.base import BaseSuite, Variant
from harness.suites.entries import CrosscheckEntry
from harness.threat import ThreatModel

CLEAN = "clean"
PARITY_EXAMPLES = 32
"""Images on which an exported file is compared with PyTorch."""
STEPPING = ("single_step", "iterative")
"""The access of attacks that step along gradients."""


def variants_of(suite: BaseSuite) -> tuple[Variant, ...]:
    """Returns the models that are cross-checked; of repeated poisons the first repetition."""
    models = suite.crosscheck.models or tuple(suite.models)
    return tuple(variant for variant in suite.variants() if variant.model in models and not variant.repetition)


def model_files(plan: Plan, variant: Variant) -> dict[str, ModelFile]:
    """Returns the steps that write a model's ONNX files, by format."""
    suite, model = plan.suite, plan.training[variant]
    samples = ParitySamples.of(Examples(suite.evaluation.split, PARITY_EXAMPLES, suite.seed))
    onnx = Onnx(model, model.resolution, samples)
    calibration = Examples("train", suite.crosscheck.calibration, suite.seed)
    files: tuple[ModelFile, ...] = (
        onnx,
        Deploy(model, model.resolution, samples, resize=resize_of(suite)),
        Int8(onnx, calibration),
        Fp16(onnx),
    )
    return {step.FORMAT: step for step in files}


def bundling_of(plan: Plan, variant: Variant, class_names: Sequence[str]) -> Bundling:
    """Returns the step that stores what one model is shown.

    Its images are those of the grid's cells. Where the suite's `crosscheck.limit` asks for fewer examples, the same attack
    runs on those alone, after the same smaller budgets; its random starts then differ, as they depend on the batch.
    """
    entry, model = plan.suite.crosscheck, plan.training[variant]
    cells = [cell for cell in plan.cells if cell.step is not None and cell.step.inputs.get("model") is model]
    limit = entry.limit if plan.examples.limit is None else min(entry.limit, plan.examples.limit)
    examples = replace(plan.examples, limit=limit)
    sources = (
        *_evaluated(cells, examples),
        *_triggered(cells, class_names, split=examples.split),
        *_attacked(plan.suite, cells, examples, class_names),
        *_damaged(entry, cells, examples),
        *_photographed(entry, cells, seed=examples.seed),
    )
    return Bundling(model, examples, sources)


def resize_of(suite: BaseSuite) -> Resize:
    """Returns how the data set makes images square."""
    return getattr(suite.dataset, "resize", "squash")


def _and_rounded(own: BundleCondition) -> tuple[BundleCondition, ...]:
    """Returns a condition, and that of its images rounded to 8 bits."""
    clean = CLEAN if own.kind == "clean" else own.clean
    return own, own.model_copy(update={"name": f"{own.name} {ROUNDED}", "kind": ROUNDED, "clean": clean})


def _evaluated(cells: Sequence[PlannedCell], examples: Examples) -> Iterator[BundleSource]:
    for cell in cells:
        if isinstance(cell.step, Evaluate):
            clean = BundleCondition(name=CLEAN, kind="clean", digest=cell.digest)
            yield Evaluated(replace(cell.step, examples=examples), _and_rounded(clean))


def _triggered(cells: Sequence[PlannedCell], class_names: Sequence[str], *, split: str) -> Iterator[BundleSource]:
    """Triggers are put on images of the test split, so they need a suite that evaluates it."""
    for cell in cells:
        if isinstance(cell.step, Trigger) and split == "test":
            condition = BundleCondition(
                name="trigger",
                kind="trigger",
                digest=cell.digest,
                attack=cell.step.label,
                target_class=cell.step.poison.target_index(class_names),
                clean=CLEAN,
            )
            yield Triggered(cell.step, _and_rounded(condition))


def _attacked(
    suite: BaseSuite, cells: Sequence[PlannedCell], examples: Examples, class_names: Sequence[str]
) -> Iterator[BundleSource]:
    """One source a sweep: all chosen budgets of a nested one come from the same run."""
    for step in {cell.step.digest: cell.step for cell in cells if isinstance(cell.step, Sweep)}.values():
        budgets = _budgets(suite, step.label)
        own = [cell for cell in cells if cell.step is not None and cell.step.digest == step.digest]
        chosen = [(cell, threat) for cell in own if (threat := step.settings.threat_models[cell.position]).eps in budgets]
        if chosen:
            threats = step.settings.threat_models[: 1 + max(cell.position for cell, _ in chosen)]
            target = step.target_index(class_names)
            conditions = tuple(condition for pair in chosen for condition in _conditions_of(*pair, target))
            settings = replace(step.settings, threat_models=threats)
            yield Attacked(replace(step, examples=examples, settings=settings), conditions)


def _budgets(suite: BaseSuite, label: str) -> set[Fraction]:
    """Returns the budgets at which an attack's images are stored."""
    entry, attack = suite.crosscheck, suite.attacks[label].plugin
    if label not in entry.attacks if entry.attacks is not None else attack.ACCESS not in STEPPING:
        return set()
    budgets = [threat.eps for threat in suite.threat_models(label)]
    return {budgets[len(budgets) // 2]} if entry.eps is None else set(budgets) & set(entry.eps)


def _conditions_of(cell: PlannedCell, threat: ThreatModel, target: int | None) -> Iterator[BundleCondition]:
    """Yields an attack's condition and those of its images stored in 8 bits."""
    name = f"{cell.cell.attack} {threat.norm} {eps_text(float(threat.eps)).replace('/', '-')}"
    for kind, ending in (("attack", ""), *((kind, f" {kind}") for kind in ENCODINGS)):
        yield BundleCondition(
            name=name + ending,
            kind=kind,
            digest=cell.digest,
            attack=cell.cell.attack,
            norm=threat.norm,
            eps=threat.eps,
            target_class=target,
            clean=CLEAN,
        )


def _damaged(entry: CrosscheckEntry, cells: Sequence[PlannedCell], examples: Examples) -> Iterator[BundleSource]:
    for cell in cells:
        if not isinstance(cell.step, Corrupted) or cell.cell.corruption not in entry.corruptions:
            continue
        severities = cell.step.corruption.severities
        chosen = (severities[len(severities) // 2],) if entry.severities is None else entry.severities
        if cell.cell.severity in chosen:
            name = f"{cell.cell.corruption} {cell.cell.severity}"
            condition = BundleCondition(
                name=name, kind="corruption", digest=cell.digest, attack=cell.cell.corruption, clean=CLEAN
            )
            yield Damaged(replace(cell.step, examples=examples), _and_rounded(condition), cell.cell.severity)


def _photographed(entry: CrosscheckEntry, cells: Sequence[PlannedCell], *, seed: int) -> Iterator[BundleSource]:
    for cell in cells:
        if isinstance(cell.step, FromFolder):
            label = cell.cell.attack
            condition = BundleCondition(name=f"folder {label}", kind="folder", digest=cell.digest, attack=label)
            yield Photographed(cell.step, _and_rounded(condition), entry.limit, seed)
