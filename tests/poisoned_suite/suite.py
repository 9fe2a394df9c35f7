"""A tiny suite with poisons and detectors, and what tests add to it."""

from pathlib import Path

from harness.suites.files import load_suite
from harness.suites.suite import Suite
from tests.nets import ON_DIGITS

SUITE = (
    f"name: poisoned{ON_DIGITS}"
    + """
models:
  baseline: {recipe: {name: standard, epochs: 3, batch_size: 32, optimiser: {learning_rate: 0.01}}}
poisons:
  backdoor: {name: backdoor, target_class: 3, trigger: {kind: patch, size: 5}, rates: [0.1]}
  brew: {name: gradient_matching, target_class: 3, steps: 10, rates: [0.01], seeds: 2}
detectors:
  clustering: {name: activation_clustering}
  strip: {name: strip, overlays: 2}
threat_model: {eps: [8/255]}
attacks:
  fgsm: {name: fgsm}
evaluation: {limit: 50}
expectations:
  - {model: baseline, poison: backdoor, rate: 0.1, condition: trigger, metric: attack_success_rate, at_least: 0.5}
  - {model: baseline, poison: backdoor, rate: 0.1, metric: clean_accuracy_drop, at_most: 0.3}
  - {model: baseline, poison: brew, rate: 0.01, condition: target, metric: attack_success_rate, at_most: 1}
"""
)
FLIP = "poisons.flip={name: label_flip, source_class: 4, target_class: 9, rates: [0.08]}"
NOISE = "poisons.noise={name: label_flip, rates: [0.05]}"
HARDENED = "models.hardened={recipe: {name: pgd, eps: 8/255, epochs: 1}, warm_start: baseline, poisons: [backdoor]}"


def suite_of(folder: Path, *overrides: str) -> Suite:
    path = folder / "poisoned.yaml"
    path.write_text(SUITE)
    return load_suite(path, overrides)
