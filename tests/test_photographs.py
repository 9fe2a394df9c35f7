"""End to end on real photographs, small: the Kaggle layout, through the `vegetables` data set, to a report."""

from pathlib import Path

from harness import load_results
from harness.running.runner import run
from harness.suites.files import load_suite


def test_photographs_run_to_a_report(photographs: Path, tmp_path: Path) -> None:
    recipe = "{name: standard, epochs: 1, batch_size: 64}"
    suite = load_suite(
        "vegetables",
        [
            f"dataset.root={photographs}",
            "dataset.resolution=32",
            "architecture={name: factory, factory: 'tests.nets:small_convnet'}",
            f"models.baseline.recipe={recipe}",
            "models.pgd.recipe={name: pgd, eps: 4/255, steps: 1, epochs: 1, batch_size: 64}",
            "attacks.pgd.steps=2",
            "attacks.audited.audit=2",
            "evaluation.limit=45",
            "expectations=[]",
            "requirements=[]",
        ],
    )
    summary = run(suite, out=tmp_path / "out", store=tmp_path / "store", device="cpu")
    assert summary.ok
    results = load_results(summary.folder)
    assert len(results.cells) == 2 * (1 + len(suite.attacks) * 5)
    assert set(results.cells["n_examples"]) == {45}
    assert results.provenance["split_sizes"] == {"train": 630, "validation": 89, "test": 587}
    assert "Tomato" in set(results.per_class["class"])
    assert (summary.folder / "report.html").stat().st_size > 10_000
