"""The command line: every verb parses, calls and prints.

Verbs import what they need when they run, so that `harness --help` answers at once.
"""

import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console
from harness.cli.comparing import compare, leaderboard
from harness.cli.deployment import crosscheck, export
from harness.cli.exit_codes import CHECK_FAILED, exit_code
from harness.cli.garbage import gc
from harness.cli.options import DeviceOption, OutOption, SetOption, StoreOption, SuiteArgument
from harness.cli.outcome import show_run
from harness.cli.verify import verify
from harness.cli.watch import watch
from harness.errors import DataError, ModelError, SuiteError, naming
from harness.system.memory import leave_garbage, without_garbage_collection
from harness.system.messages import printable

JUDGED = "suite.yaml"
"""The suite that `harness judge` writes beside its results; `harness run` of it repeats them."""
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def main_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")] = False,
) -> None:
    """Benchmark image classifiers under attack, and prove that the deployed model is the measured one."""
    console.log_to_console(verbose=debug)


@app.command("list")
def list_plugins(
    family: Annotated[str | None, typer.Argument(help="suites, datasets, models, attacks, ...")] = None,
    name: Annotated[str | None, typer.Argument(help="One of them: its fields, its source and its package.")] = None,
) -> None:
    """List the shipped suites and the plug-ins of every family, or the fields of one plug-in."""
    from harness.cli.catalogue import catalogue, details
    from harness.cli.fields import FieldRow

    if family is None or name is None:
        console.show_table("", ["family", "name", "what it is"], catalogue(family))
        return
    found = details(family, name)
    for line in found.lines:
        console.stdout.print(line, markup=False)
    if found.fields:
        console.show_table("", FieldRow._fields, found.fields)


@app.command()
def validate(suite: SuiteArgument, overrides: SetOption = None) -> None:
    """Check a suite file: fields, names, budgets, references, folders, classes and files.

    A network that the suite names as a `factory` is looked up: the module of that name is imported, so its code runs.
    """
    from harness.planning.data_checks import check_without_images
    from harness.planning.grid import cells_of
    from harness.suites.files import load_suite

    loaded = load_suite(suite, overrides or ())
    with _naming(suite):
        loaded.check_networks()
        check_without_images(loaded)
    cells = cells_of(loaded)
    skipped = sum(cell.skip is not None for cell in cells)
    console.stdout.print(f"{loaded.name}: valid; {len(loaded.models)} models, {len(cells)} cells, {skipped} skipped")


@app.command()
def plan(
    suite: SuiteArgument,
    overrides: SetOption = None,
    store: StoreOption = None,
    estimates: Annotated[
        bool, typer.Option("--estimate", help="Time a batch of each network; tell hours, passes and disk of what is missing.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Show the cells and steps of a suite, and which steps are finished.

    --estimate says instead what the missing steps take at most: an example on which an attack succeeds leaves it early.

    A network that the suite names as a `factory` is looked up: the module of that name is imported, so its code runs.
    """
    from harness.cli.inspection import kept_rows, open_store, plan_rows, step_rows
    from harness.planning.plan import plan_of
    from harness.suites.files import load_suite

    loaded = load_suite(suite, overrides or ())
    with _naming(suite):
        data = loaded.dataset.load()
        planned = plan_of(loaded, data)
    if estimates:
        from harness.running.estimate import estimate, estimate_rows
        from harness.running.workspace import resolve_device

        rows = estimate_rows(estimate(planned, data, open_store(store), resolve_device(device)))
        console.show_table("Estimate", ["kind", "title", "forward passes", "backward passes", "hours", "MB"], rows)
        return
    console.show_table("Cells", ["model", "condition", "attack", "norm", "eps", "step", "note"], plan_rows(planned))
    if planned.kept:
        console.show_table("Kept images", ["model", "attack", "eps", "images", "MB at most"], kept_rows(planned, data))
    console.show_table("Steps", ["kind", "title", "digest", "state"], step_rows(planned, open_store(store)))


@app.command()
def run(
    suite: SuiteArgument,
    overrides: SetOption = None,
    out: OutOption = None,
    store: StoreOption = None,
    device: DeviceOption = "auto",
    devices: Annotated[
        int | None, typer.Option("--devices", metavar="N", help="GPUs or CPU processes that share a training; --set devices=N.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that load images.")] = 0,
    executor: Annotated[str, typer.Option("--executor", metavar="NAME", help="local, ray, or an installed one.")] = "local",
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Steps computed at once, each in a process of its own.")] = 1,
) -> None:
    """Train what is missing, attack, score, and write tables, curves and the report. Stops and resumes."""
    with without_garbage_collection():  # what these modules and their libraries define stays
        from harness.running.runner import run as run_suite
        from harness.suites.files import load_suite

    shared = () if devices is None else (f"devices={devices}",)
    loaded = load_suite(suite, (*(overrides or ()), *shared))
    with _naming(suite):
        summary = run_suite(
            loaded,
            out=out,
            store=store,
            device=device,
            workers=workers,
            executor=executor,
            jobs=jobs,
            progress=console.progress_display(),
        )
    show_run(summary)


@app.command()
def report(
    suite: SuiteArgument,
    out: OutOption = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="RESULTS", help="An earlier run; the page gets a section that compares.")
    ] = None,
) -> None:
    """Write the curves and the report of a run anew, from its tables."""
    from harness.reports.load import load_results
    from harness.reports.page.html import write_report
    from harness.system.remembered import STATISTICS, remembering

    results = load_results(_results_of(suite, out))
    earlier = None if against is None else load_results(against)
    with remembering(results.folder / STATISTICS, "scipy"):
        path = write_report(results, against=earlier)
    console.stdout.print(str(path))


app.command()(leaderboard)
app.command()(export)  # here, as `harness --help` lists verbs in this order
app.command()(crosscheck)
app.command()(watch)
app.command()(gc)


@app.command()
def judge(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="State dict (.pth, .safetensors), .h5, TorchScript, ONNX.")],
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Photographs, a folder a class, with splits or not.")],
    arch: Annotated[str | None, typer.Option("--arch", metavar="NAME", help="timm name, or package.module:callable.")] = None,
    classes: Annotated[Path | None, typer.Option("--classes", metavar="FILE", help="A class a line, in logits' order.")] = None,
    eps: Annotated[list[str] | None, typer.Option("--eps", help="Linf budget; repeatable [2/255, 4/255, 8/255].")] = None,
    resolution: Annotated[int | None, typer.Option("--resolution", help="Pixels a side [the file's, else 224].")] = None,
    against: Annotated[Path | None, typer.Option("--against", metavar="TWIN", help="What an ONNX file was made from.")] = None,
    overrides: SetOption = None,
    out: OutOption = None,
    store: StoreOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Attack a finished model as it is, and write tables, curves, the report and the suite that repeats this.

    A folder with splits is judged on test, else on validation; of one without splits all images are judged.
    An ONNX file is run by ONNX Runtime, and differentiated as --against, of architecture --arch, which is judged beside it.
    """
    from harness.running.judging import lacks_gradients
    from harness.running.runner import run as run_suite
    from harness.running.workspace import DEFAULT_RESULTS
    from harness.spec import parse_spec
    from harness.suites.files import overridden, write_suite
    from harness.suites.judged import attacks_without_gradients, judged_suite
    from harness.suites.suite import Suite

    try:
        fields = judged_suite(file, data, arch=arch, classes=classes, eps=eps or (), resolution=resolution, against=against)
    except ValueError as error:
        raise SuiteError(f"--eps: {error}") from error
    suite = parse_spec(Suite, overridden(fields, overrides or ()), where=str(file))
    folder = out or DEFAULT_RESULTS / suite.name
    with _naming(str(file)):
        chosen = any(override.startswith("attacks") for override in overrides or ())
        if not chosen and lacks_gradients(suite):
            fields["attacks"] = attacks_without_gradients()
            suite = parse_spec(Suite, overridden(fields, overrides or ()), where=str(file))
        summary = run_suite(suite, out=folder, store=store, device=device, progress=console.progress_display())
    if summary.written:
        write_suite(fields, folder / JUDGED)
        console.stdout.print(f"suite: {folder / JUDGED}; `harness run` of it repeats this")
    show_run(summary)


@app.command()
def decide(results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder of results.")]) -> None:
    """Say of each model whether it may ship, and why; exit 1 unless every requirement is met.

    Judges the suite's requirements anew by the tables, and writes requirements.csv, decision.json, decision.md, junit.xml.
    """
    from harness.reports.decision.files import decision_lines, write_decision
    from harness.reports.load import load_results

    decision = write_decision(load_results(results))
    for line in decision_lines(decision):
        console.stdout.print(printable(line), markup=False)
    if not decision.all_met:
        raise typer.Exit(CHECK_FAILED)


app.command()(compare)


app.command()(verify)


@app.command()
def show(
    digest: Annotated[str, typer.Argument(help="Digest of a step or of a cell, or its first digits.")],
    store: StoreOption = None,
) -> None:
    """Show what is recorded of one step: specification, inputs, versions, host, seconds, file hashes."""
    from harness.cli.inspection import describe_digest, open_store

    console.stdout.print_json(data=describe_digest(digest, open_store(store)), default=str)


@app.command()
def doctor() -> None:
    """Check the installation: versions, devices, optional parts; exit 1 if something needed is missing."""
    from harness.cli.doctor import examine

    rows = examine()
    console.show_table("", ["check", "state", "found"], rows)
    if any(state == "missing" for _, state, _ in rows):
        raise typer.Exit(CHECK_FAILED)


def _naming(suite: str) -> AbstractContextManager[None]:
    """Puts the suite's name before an error about one of its fields that planning finds, as `load_suite` does."""
    return naming(f"{suite}: ", SuiteError, DataError, ModelError)


def _results_of(suite: str, out: Path | None) -> Path:
    """Returns the folder of a suite's results: the named one, a folder itself, or results/<suite>."""
    from harness.reports.load import check_own_results
    from harness.suites.files import suite_name

    if Path(suite).is_dir():
        return out or Path(suite)
    if out is not None:
        check_own_results(out, suite_name(suite))
        return out
    return Path("results") / suite_name(suite)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; errors of the harness become one or two lines and exit code 2."""
    signal.signal(signal.SIGTERM, _stop)
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    code = exit_code(lambda: app(["--debug", *[word for word in given if word != "--debug"]] if debug else given), debug=debug)
    if arguments is None:
        leave_garbage()
    sys.exit(code)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
