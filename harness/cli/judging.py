"""The verb that judges a finished model."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console
from harness.cli.options import DeviceOption, OutOption, SetOption, StoreOption
from harness.cli.outcome import show_run
from harness.errors import DataError, ModelError, SuiteError, naming

SUITE = "suite.yaml"
"""The suite beside the results; `harness run` of it repeats them."""


def judge(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="State dict (.pth, .safetensors), .h5 of export, TorchScript.")],
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Photographs, a folder a class, with splits or not.")],
    arch: Annotated[str | None, typer.Option("--arch", metavar="NAME", help="timm name, or package.module:callable.")] = None,
    classes: Annotated[Path | None, typer.Option("--classes", metavar="FILE", help="A class a line, in logits' order.")] = None,
    eps: Annotated[list[str] | None, typer.Option("--eps", help="Linf budget; repeatable [2/255, 4/255, 8/255].")] = None,
    resolution: Annotated[int | None, typer.Option("--resolution", help="Pixels a side [the file's, else 224].")] = None,
    overrides: SetOption = None,
    out: OutOption = None,
    store: StoreOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Attack a finished model as it is, and write tables, curves, the report and the suite that repeats this.

    A folder with splits is judged on test, else on validation; of one without splits all images are judged.
    """
    from harness.running.runner import run as run_suite
    from harness.running.workspace import DEFAULT_RESULTS
    from harness.spec import parse_spec
    from harness.suites.files import overridden, write_suite
    from harness.suites.judged import judged_suite
    from harness.suites.suite import Suite

    try:
        fields = judged_suite(file, data, arch=arch, classes=classes, eps=eps or (), resolution=resolution)
    except ValueError as error:
        raise SuiteError(f"--eps: {error}") from error
    suite = parse_spec(Suite, overridden(fields, overrides or ()), where=str(file))
    folder = out or DEFAULT_RESULTS / suite.name
    with naming(f"{file}: ", SuiteError, DataError, ModelError):
        summary = run_suite(suite, out=folder, store=store, device=device, progress=console.progress_display())
    if summary.written:
        write_suite(fields, folder / SUITE)
        console.stdout.print(f"suite: {folder / SUITE}; `harness run` of it repeats this")
    show_run(summary)
