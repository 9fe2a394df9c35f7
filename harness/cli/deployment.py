"""The verbs of deployment: export of a trained model, and the cross-check of its runtimes.

They import what they need when they run, as all verbs do.
"""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console
from harness.cli.exit_codes import CHECK_FAILED
from harness.cli.options import DeviceOption, OutOption, SetOption, StoreOption, SuiteArgument
from harness.errors import HarnessError

LONGEST_TIMEOUT = 1_000_000
"""Seconds; the operating system's timers take no number of any size."""


def export(
    suite: SuiteArgument,
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="A model's label; poisoned: label@poison@rate.")],
    file_format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="pth, h5, safetensors, onnx, deploy, int8 or fp16.")
    ],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="[results/<suite>/models/<model>.<ending>]")] = None,
    overrides: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Write one file of a trained model; ONNX files are first compared with PyTorch. Trains nothing.

    A model trained on poisoned data is named label@poison@rate, for example baseline@backdoor@0.05.

    onnx: float images (N, 3, R, R) in [0,1] to logits. deploy: uint8 pixels (N, H, W, 3) of any size to
    probabilities, with resize, normalisation and softmax inside. int8, fp16: onnx in smaller numbers.
    pth: the network's state dict. h5: weights, class names, preprocessing and training summary.
    """
    from harness.deployment.model_files import export as export_file
    from harness.suites.files import load_suite

    loaded = load_suite(suite, overrides or ())
    path = export_file(loaded, model, file_format, out=out, store=store, progress=console.progress_display())
    console.stdout.print(str(path))


def crosscheck(
    suite: Annotated[str | None, typer.Argument(metavar="[SUITE]", help="As elsewhere; left out with --bundle.")] = None,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE", help="Score this file instead of the suite's own models.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="With --onnx: whose images [those of its own model]."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="FILE", help="With --onnx: these stored images; takes the suite's place.")
    ] = None,
    judge: Annotated[
        str, typer.Option("--judge", metavar="WHEN", help="With --onnx: expect the images' own logits: auto, always or never.")
    ] = "auto",
    overrides: SetOption = None,
    store: StoreOption = None,
    out: OutOption = None,
    device: DeviceOption = "auto",
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="What one runtime may take for one file [any time].")
    ] = None,
) -> None:
    """Score the same stored images in PyTorch and in ONNX Runtime, Python and C++; exit 1 where they disagree.

    On a file of another network than the attacked one the images give transfer accuracy, no robust accuracy.
    """
    from harness.deployment.crosscheck import crosscheck as check_suite
    from harness.deployment.crosscheck import crosscheck_bundle, crosscheck_file, expect_judge
    from harness.deployment.table import disagreements_of, summary_columns, summary_of
    from harness.suites.files import load_suite

    if onnx is None and (given := "--model" if model else "--bundle" if bundle else "--judge" if judge != "auto" else ""):
        raise HarnessError(f"{given}: expected together with --onnx FILE, got it alone")
    if timeout is not None and not 0 < timeout <= LONGEST_TIMEOUT:
        raise HarnessError(f"--timeout: expected seconds > 0 and <= {LONGEST_TIMEOUT}, got {timeout:g}")
    when, progress = expect_judge(judge), console.progress_display()
    if suite is None and bundle is not None and onnx is not None and not (model or overrides):
        found, title = crosscheck_bundle(bundle, onnx, judge=when, out=out, timeout=timeout, progress=progress), bundle.name
    elif suite is None or bundle is not None:
        raise HarnessError("crosscheck: expected SUITE, or --bundle FILE without SUITE, --model and --set")
    elif onnx is None:
        loaded = load_suite(suite, overrides or ())
        found, title = check_suite(loaded, out=out, store=store, device=device, timeout=timeout, progress=progress), loaded.name
    else:
        loaded = load_suite(suite, overrides or ())
        title = loaded.name
        found = crosscheck_file(
            loaded, onnx, model=model, judge=when, out=out, store=store, device=device, timeout=timeout, progress=progress
        )
    console.show_table(f"{title}: runtimes", summary_columns(found.table), summary_of(found.table))
    notes = [f"images of {label}: {path}" for label, path in found.bundles.items()] + found.note.splitlines()
    for line in (*found.failures, *disagreements_of(found.table), *notes, str(found.path)):
        console.stdout.print(line, markup=False)
    if not found.agrees:
        raise typer.Exit(CHECK_FAILED)
