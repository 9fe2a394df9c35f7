"""The command line: every verb parses, calls and prints.

Verbs import what they need when they run, so that `harness --help` answers at once.
"""

import errno
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from harness import console
from harness.errors import DataError, HarnessError, ModelError, SuiteError, naming

BAD_INPUT = 2
CHECK_FAILED = 1
UNEXPECTED = 70
"""An error that is no HarnessError: EX_SOFTWARE of sysexits.h."""
USERS_TO_SOLVE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR})
"""Errors of the operating system that are no defect: a file that may not be read, a name that is too long."""
NOTHING_FINISHED = "nothing finished, so the earlier results in {} stay as they are"
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

SuiteArgument = Annotated[str, typer.Argument(metavar="SUITE", help="Name of a shipped suite, or the path of a .yaml file.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a field of the suite; repeatable.")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the results [results/<suite>].")]
StoreOption = Annotated[Path | None, typer.Option("--store", metavar="DIR", help="Finished steps [results/.store].")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")]


@app.callback()
def main_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")] = False,
) -> None:
    """Benchmark image classifiers under attack, and prove that the deployed model is the measured one."""
    console.log_to_console(verbose=debug)


@app.command("list")
def list_plugins(family: Annotated[str | None, typer.Argument(help="suites, datasets, models, attacks, ...")] = None) -> None:
    """List the shipped suites and the plug-ins of every family."""
    from harness.catalogue import catalogue

    console.show_table("", ["family", "name", "what it is"], catalogue(family))


@app.command()
def validate(suite: SuiteArgument, overrides: SetOption = None) -> None:
    """Check a suite file: fields, names, budgets, references."""
    from harness.grid import cells_of
    from harness.suite_files import load_suite

    loaded = load_suite(suite, overrides or ())
    with _naming(suite):
        loaded.check_networks()
    cells = cells_of(loaded)
    skipped = sum(cell.skip is not None for cell in cells)
    console.stdout.print(f"{loaded.name}: valid; {len(loaded.models)} models, {len(cells)} cells, {skipped} skipped")


@app.command()
def plan(suite: SuiteArgument, overrides: SetOption = None, store: StoreOption = None) -> None:
    """Show the cells and steps of a suite, and which steps are finished."""
    from harness.inspection import open_store, plan_rows, plan_suite, step_rows
    from harness.suite_files import load_suite

    loaded = load_suite(suite, overrides or ())
    with _naming(suite):
        planned = plan_suite(loaded)
    console.show_table("Cells", ["model", "condition", "attack", "norm", "eps", "step", "note"], plan_rows(planned))
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
    executor: Annotated[str, typer.Option("--executor", metavar="NAME", help="local, or an installed one.")] = "local",
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Steps computed at once, each in a process of its own.")] = 1,
) -> None:
    """Train what is missing, attack, score, and write tables, curves and the report. Stops and resumes."""
    from harness.reports.load import load_results
    from harness.reports.summary import expectations_table, leaderboard_table, trouble_table
    from harness.runner import run as run_suite
    from harness.suite_files import load_suite

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
    if summary.written:
        results = load_results(summary.folder)
        for table in (leaderboard_table(results), expectations_table(results), trouble_table(results)):
            if table.rows:
                console.show_table(*table)
    for failure in summary.failures:
        console.stderr.print(failure, markup=False)
    outcome = f"report: {summary.folder / 'report.html'}" if summary.written else NOTHING_FINISHED.format(summary.folder)
    console.stdout.print(f"{summary.seconds:.1f} s; {outcome}")
    if summary.interrupted:
        raise typer.Exit(130)
    if not summary.ok:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def report(suite: SuiteArgument, out: OutOption = None) -> None:
    """Write the curves and the report of a run anew, from its tables."""
    from harness.reports.html import write_report

    console.stdout.print(str(write_report(_results_of(suite, out))))


@app.command()
def leaderboard(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Folders of results.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The CSV file to write.")],
) -> None:
    """Merge the leaderboards of several runs into one CSV file."""
    from harness.reports.leaderboard import merge
    from harness.reports.tables import write_csv

    write_csv(merge(results), out)
    console.stdout.print(str(out))


@app.command()
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
    from harness.deployment import export as export_file
    from harness.suite_files import load_suite

    loaded = load_suite(suite, overrides or ())
    path = export_file(loaded, model, file_format, out=out, store=store, progress=console.progress_display())
    console.stdout.print(str(path))


@app.command()
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
) -> None:
    """Score the same stored images in PyTorch and in ONNX Runtime, Python and C++; exit 1 where they disagree."""
    from harness.crossruntime.run import crosscheck as check_suite
    from harness.crossruntime.run import crosscheck_bundle, crosscheck_file, expect_judge
    from harness.crossruntime.table import SUMMARY_COLUMNS, disagreements_of, summary_of
    from harness.suite_files import load_suite

    if onnx is None and (given := "--model" if model else "--bundle" if bundle else "--judge" if judge != "auto" else ""):
        raise HarnessError(f"{given}: expected together with --onnx FILE, got it alone")
    when, progress = expect_judge(judge), console.progress_display()
    if suite is None and bundle is not None and onnx is not None and not (model or overrides):
        found, title = crosscheck_bundle(bundle, onnx, judge=when, out=out, progress=progress), bundle.name
    elif suite is None or bundle is not None:
        raise HarnessError("crosscheck: expected SUITE, or --bundle FILE without SUITE, --model and --set")
    elif onnx is None:
        loaded = load_suite(suite, overrides or ())
        found, title = check_suite(loaded, out=out, store=store, device=device, progress=progress), loaded.name
    else:
        loaded = load_suite(suite, overrides or ())
        title = loaded.name
        found = crosscheck_file(loaded, onnx, model=model, judge=when, out=out, store=store, device=device, progress=progress)
    console.show_table(f"{title}: runtimes", SUMMARY_COLUMNS, summary_of(found.table))
    notes = [f"images of {label}: {path}" for label, path in found.bundles.items()] + found.note.splitlines()
    for line in (*found.failures, *disagreements_of(found.table), *notes, str(found.path)):
        console.stdout.print(line, markup=False)
    if not found.agrees:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="RESULTS_A")],
    second: Annotated[Path, typer.Argument(metavar="RESULTS_B")],
) -> None:
    """Compare the cells of two runs; exit 1 where intervals do not overlap."""
    from harness.reports.load import compare as compare_results

    table = compare_results(first, second)
    console.show_table("", list(table.columns), table.itertuples(index=False))
    if (table["overlap"] == False).any():  # noqa: E712 - a missing number is no disagreement
        raise typer.Exit(CHECK_FAILED)


@app.command()
def verify(suite: SuiteArgument, overrides: SetOption = None, store: StoreOption = None) -> None:
    """Check the stored results of a suite's steps against their recorded hashes; exit 1 on damage, or if there are none."""
    from harness.inspection import damaged_rows, open_store, plan_suite, step_rows
    from harness.suite_files import load_suite

    loaded, opened = load_suite(suite, overrides or ()), open_store(store)
    with _naming(suite):
        planned = plan_suite(loaded)
    damaged = damaged_rows(planned, opened)
    for row in damaged:
        console.stdout.print("\t".join(row), markup=False)
    finished = sum(row[-1] == "finished" for row in step_rows(planned, opened))
    console.stdout.print(f"{finished} of {len(planned.steps)} steps finished, {len(damaged)} damaged files")
    if damaged or not finished:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def show(
    digest: Annotated[str, typer.Argument(help="Digest of a step or of a cell, or its first digits.")],
    store: StoreOption = None,
) -> None:
    """Show what is recorded of one step: specification, inputs, versions, host, seconds, file hashes."""
    from harness.inspection import describe_digest, open_store

    console.stdout.print_json(data=describe_digest(digest, open_store(store)), default=str)


@app.command()
def doctor() -> None:
    """Check the installation: versions, devices, optional parts; exit 1 if something needed is missing."""
    from harness.doctor import examine

    rows = examine()
    console.show_table("", ["check", "state", "found"], rows)
    if any(state == "missing" for _, state, _ in rows):
        raise typer.Exit(CHECK_FAILED)


def _naming(suite: str) -> AbstractContextManager[None]:
    """Puts the suite before an error about one of its fields that shows only when it is planned, as `load_suite` does."""
    return naming(f"{suite}: ", SuiteError, DataError, ModelError)


def _results_of(suite: str, out: Path | None) -> Path:
    """Returns the folder of a suite's results: the named one, a folder itself, or results/<suite>."""
    from harness.suite_files import suite_name

    if out is not None or Path(suite).is_dir():
        return out or Path(suite)
    return Path("results") / suite_name(suite)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; errors of the harness become one or two lines and exit code 2."""
    signal.signal(signal.SIGTERM, _stop)
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    code = _exit_code(lambda: app(["--debug", *[word for word in given if word != "--debug"]] if debug else given), debug=debug)
    sys.exit(code)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _exit_code(call: Callable[[], Any], *, debug: bool) -> int:
    try:
        call()
    except HarnessError as error:
        if debug:
            traceback.print_exc()
        console.stderr.print(f"harness: {error}", markup=False)
        return BAD_INPUT
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    except Exception as error:  # the last boundary: a defect of the harness or of a plug-in
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in USERS_TO_SOLVE:
            console.stderr.print(f"harness: {error.filename}: expected a usable path, found {error.strerror}", markup=False)
            return BAD_INPUT
        console.stderr.print(f"harness: unexpected {type(error).__name__}: {error}; --debug shows where", markup=False)
        return UNEXPECTED
    except KeyboardInterrupt:
        console.stderr.print("harness: stopped")
        return 130
    return 0
