"""The deployed model, in one run: throughput of `harness_eval` beside bare loops, its memory, and JPEG files end to end."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from harness.bundle import BundleCondition, BundleWriter, read_bundle
from harness.cli.console import show_table, stderr
from harness.deployment.agreement import Rule
from harness.deployment.runtimes import INSTALL, OnnxPython, find_program
from harness.deployment.scores import BATCH, scores_of
from harness.export.onnx import export_deploy, export_model
from harness.export.runtime import OnnxModel
from harness.models.classifier import Classifier
from harness.models.timm import Timm
from harness.threat import Norm
from tests.bench.workload import PHOTOGRAPHS

SIDE, CLASSES = 224, 10
MODEL, BUNDLE = "model.onnx", "bundle.h5"
BARE_CPP, SCORE_CPP, BARE_PYTHON, SCORE_PYTHON = PROGRAMS = (
    "bare loop, C++",
    "harness_eval score",
    "bare loop, Python",
    "the cross-check's score, Python",
)
PACKED = "its 8-bit images, which are packed"
YARDSTICKS = {
    BARE_CPP: "of the bare loop in C++",
    BARE_PYTHON: "of that in Python",
    SCORE_PYTHON: "of the score in Python",
}
"""What the others are compared with, and how the column is called."""
NAMES = [f"class {k}" for k in range(CLASSES)]
JPEG_SIZE, JPEG_QUALITY = (640, 480), 90
CLEAN = BundleCondition(name="clean", kind="clean")
NOISE = BundleCondition(name="noise", kind="attack", attack="noise", norm=Norm.LINF, eps=Fraction(8, 255), clean="clean")
EIGHT_BIT = NOISE.model_copy(update={"name": "noise rounded8bit", "kind": "rounded8bit"})
PEAK = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)
"""Runs a command and prints its peak memory in KiB. A child inherits the peak of its parent: a bare interpreter's is small."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the counts of this part."""
    group = parser.add_argument_group("deployed")
    group.add_argument(
        "--images", type=int, default=192, help=f"images of {SIDE}x{SIDE}, a multiple of {BATCH}; clean and attacked"
    )
    group.add_argument("--rounds", type=int, default=7, help="measurements of each contender, in turns")
    group.add_argument("--programs", nargs="*", default=list(PROGRAMS), choices=PROGRAMS, help="whose throughput is measured")
    group.add_argument("--memory", type=int, nargs="*", default=[200, 5000], help="images to weigh the memory at")
    group.add_argument("--jpegs", type=int, default=100, help="JPEG files to classify, 2 or more")
    group.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads inside an operator")


def show_deployed(options: argparse.Namespace) -> None:
    """Measures and prints; one line where the C++ programs are missing."""
    program = find_program()
    if program is None:
        stderr.print(f"deployed: {INSTALL}")
        return
    bare_loop = program.with_name("bare_loop")
    if not bare_loop.is_file():
        stderr.print(f"deployed: expected bare_loop beside {program}, found none; `make cpp` builds both")
        return
    torch.manual_seed(0)
    with TemporaryDirectory() as name:
        folder = Path(name)
        network = Timm(arch="efficientnet_b0").build(NAMES, resolution=SIDE, seed=0)
        title = f"EfficientNet-B0 at {SIDE}x{SIDE}, {options.threads} threads, {program.parent.name} build"
        if options.images:
            show_table(f"Throughput: {title}", *throughput(network, folder, (program, bare_loop), options))
        if options.images and {BARE_CPP, SCORE_CPP} <= set(options.programs):
            show_table(f"Throughput, batch by batch: {title}", *in_turns(folder, bare_loop, options))
        if options.memory:
            show_table(f"Peak memory of score on images of {SIDE}x{SIDE}", *memory(program, folder, options))
        if options.jpegs:
            files = jpeg_files(folder, options.jpegs)
            show_table(f"classify, JPEG files of {JPEG_SIZE}: {title}", *end_to_end(network, folder, program, files, options))


def throughput(
    network: Classifier, folder: Path, programs: tuple[Path, Path], options: argparse.Namespace
) -> tuple[list[str], list[list[str]]]:
    """Compares images per second: from the bundle to scores in C++ and in Python, from memory to logits in the bare loops."""
    program, bare_loop = programs
    model, bundle = folder / MODEL, folder / BUNDLE
    x = smooth_images(options.images)
    export_model(network, model, resolution=SIDE, samples={"clean": torch.from_numpy(x[:2])})
    write_attacked(bundle, network, x)
    os.sync()  # or the system would write the bundle to disk while it is read
    common = _common(folder, options)
    reports: list[dict[str, Any]] = []

    def score() -> float:
        reports.append(report_of(program, "score", "--quiet", *common))
        return rate_of(reports[-1]["conditions"], CLEAN, NOISE)

    measures = {
        BARE_CPP: lambda: report_of(bare_loop, "--images", len(x), "--repeats", 2, *common)["images_per_second"],
        SCORE_CPP: score,
        BARE_PYTHON: lambda: python_loop(model, x, options.threads),
        SCORE_PYTHON: lambda: python_score(model, bundle, options.threads),
    }
    rates = alternate({name: measures[name] for name in options.programs}, options.rounds)
    if reports:
        rates[PACKED] = [rate_of(report["conditions"], EIGHT_BIT) for report in reports]
    yardsticks = [name for name in YARDSTICKS if name in rates]
    columns = ["contender", "images/s", *(YARDSTICKS[name] for name in yardsticks)]
    rows = [[name, f"{median(found):.1f}", *(percent(found, rates[it]) for it in yardsticks)] for name, found in rates.items()]
    if reports:
        rows.append(["parity with PyTorch", parity(reports[-1]), *[""] * len(yardsticks)])
    return columns, rows


def parity(report: Mapping[str, Any]) -> str:
    """Returns what the logits of a report say of PyTorch's."""
    worst = max(row["logit_diff"]["p99"] for row in report["conditions"])
    flips = sum(row["flips_outside_margin"] for row in report["conditions"])
    return f"{flips} flips outside the margin, 99th percentile of the difference {worst:.1e}"


def _common(folder: Path, options: argparse.Namespace) -> list[object]:
    return ["--model", folder / MODEL, "--bundle", folder / BUNDLE, "--batch", BATCH, "--threads", options.threads]


class Turn(NamedTuple):
    """What each contender made of one batch, in images per second."""

    condition: str
    score: float
    bare: float
    python: float


def in_turns(folder: Path, bare_loop: Path, options: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Compares a batch of `score` with the same batch in Python and one of the bare loop, over the files of `throughput`.

    What other work does to a shared machine lasts longer than a batch: ratios vary less than those of whole programs.
    """
    turns = [turn for _ in range(options.rounds) for turn in take_turns(folder, bare_loop, options)]
    rows = []
    for label, conditions in (
        ("clean and attacked", (CLEAN, NOISE)),
        ("clean", (CLEAN,)),
        ("attacked", (NOISE,)),
        ("8 bits", (EIGHT_BIT,)),
    ):
        names = {condition.name for condition in conditions}
        _, score, bare, python = zip(*(turn for turn in turns if turn.condition in names), strict=True)
        rates = (f"{median(found):.1f}" for found in (score, bare, python))
        rows.append([label, str(len(score)), *rates, percent(score, bare), percent(score, python)])
    contenders = ["score, images/s", "bare loop in C++", "cross-check's score, Python"]
    return ["images", "turns", *contenders, "score of the bare loop", "score of that in Python"], rows


def take_turns(folder: Path, bare_loop: Path, options: argparse.Namespace) -> list[Turn]:
    """Scores the bundle in Python; before each batch the C++ program takes its turn with the same one.

    A batch's time in Python ends where the next one has been read: reading and judging are in it, as they are in C++.
    """
    command = [bare_loop, *_common(folder, options), "--images", options.images, "--in-turns"]
    model, found, seconds = OnnxModel(folder / MODEL, threads=options.threads), [], []
    with subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None

        def logits(x: NDArray[np.float32]) -> NDArray[np.float32]:
            nonlocal began
            seconds.append(time.perf_counter() - began)
            if len(seconds) > 1:  # the first call warms up
                print(file=program.stdin, flush=True)
                found.append(json.loads(program.stdout.readline()))
                model.logits(x)  # is not timed: the program's turn has emptied the caches, and it begins in this way too
            began = time.perf_counter()
            return model.logits(x)

        began = time.perf_counter()
        for _ in scores_of(read_bundle(folder / BUNDLE), logits, Rule()):
            pass
        seconds.append(time.perf_counter() - began)
    return [Turn(**turn, python=BATCH / taken) for turn, taken in zip(found, seconds[2:], strict=True)]


def alternate(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measures each contender once a round, forwards and backwards in turns, so that a drifting machine favours none."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in list(contenders)[:: 1 if turn % 2 == 0 else -1]:
            found[name].append(contenders[name]())
    return found


def percent(rates: Sequence[float], others: Sequence[float]) -> str:
    """Returns the median of the ratios within a round, and their quartiles: what the machine's other work does to it."""
    ratios = [100 * rate / other for rate, other in zip(rates, others, strict=True)]
    if len(ratios) == 1 or rates is others:
        return f"{median(ratios):.1f} %"
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.1f} % ({low:.1f} to {high:.1f})"


def python_loop(path: Path, x: NDArray[np.float32], threads: int) -> float:
    """Returns the images per second of onnxruntime in Python on images in memory, twice over, after a pass to warm up."""
    model = OnnxModel(path, threads=threads)
    batches = [x[start : start + BATCH] for start in range(0, len(x), BATCH)]
    model.logits(batches[0])
    started = time.perf_counter()
    for batch in [*batches, *batches]:
        model.logits(batch)
    return 2 * len(x) / (time.perf_counter() - started)


def python_score(path: Path, bundle: Path, threads: int) -> float:
    """Returns the images per second of the cross-check in Python, from the bundle to scores."""
    scores = OnnxPython(path, threads).score(read_bundle(bundle), Rule())
    timed = ((score.condition.name, score.n_examples, score.n_examples / score.images_per_second) for score in scores)
    return rate_of([dict(zip(("name", "n", "seconds"), row, strict=True)) for row in timed], CLEAN, NOISE)


def rate_of(rows: Sequence[Mapping[str, Any]], *conditions: BundleCondition) -> float:
    """Returns the images per second over some conditions of a report."""
    chosen = [row for row in rows if row["name"] in {condition.name for condition in conditions}]
    return sum(row["n"] for row in chosen) / sum(row["seconds"] for row in chosen)


def memory(program: Path, folder: Path, options: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Weighs `score` on bundles that differ in length only, with a network that is nothing to compute."""
    model, rows = folder / "means.onnx", []
    means = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    network = Classifier(means, mean=[0.5] * 3, std=[0.5] * 3, class_names=NAMES).eval()
    export_model(network, model, resolution=SIDE, samples={"grey": torch.full((2, 3, SIDE, SIDE), 0.5)})
    for count in options.memory:
        bundle = folder / f"{count}.h5"
        write_plain(bundle, count)
        command = [program, "score", "--quiet", "--model", model, "--bundle", bundle, "--threads", options.threads]
        peak = int(subprocess.check_output([sys.executable, "-c", PEAK, *map(str, command)]))
        stored, images = bundle.stat().st_size, count * 3 * SIDE * SIDE * 4
        rows.append([str(count), f"{images / 2**20:.0f}", f"{stored / 2**20:.0f}", f"{peak / 2**10:.1f}"])
        bundle.unlink()
    return ["images", "MiB as float32", "MiB on disk", "peak MiB"], rows


def end_to_end(
    network: Classifier, folder: Path, program: Path, files: Sequence[Path], options: argparse.Namespace
) -> tuple[list[str], list[list[str]]]:
    """Measures `classify` from JPEG files to JSON lines; the time for one file is that to start and load the model."""
    model = folder / "deploy.onnx"
    pixels = torch.from_numpy(np.asarray(Image.open(files[0])).copy())
    export_deploy(network, model, resolution=SIDE, samples={"photograph": pixels[None]})

    def seconds(some: Sequence[Path]) -> float:
        command = map(str, [program, "classify", "--quiet", "--model", model, "--threads", options.threads, *some])
        started = time.perf_counter()
        subprocess.run([*command], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    found = alternate({"first": lambda: seconds(files[:1]), "all": lambda: seconds(files)}, options.rounds)
    first, whole = (median(values) for values in found.values())
    rate = (len(files) - 1) / (whole - first)
    return ["files", "seconds", "seconds of the first", "images/s after it"], [
        [str(len(files)), f"{whole:.2f}", f"{first:.2f}", f"{rate:.1f}"]
    ]


def jpeg_files(folder: Path, count: int) -> list[Path]:
    """Writes JPEG files of one size: photographs where they are at hand, else smooth noise."""
    photographs = sorted(Path(os.environ.get("HARNESS_DATA", PHOTOGRAPHS)).rglob("*.jpg"))[:count]
    if photographs:
        images = [Image.open(path).convert("RGB") for path in photographs]
    else:
        images = [Image.fromarray((255 * x).astype(np.uint8).transpose(1, 2, 0)) for x in smooth_images(16)]
    files = [folder / f"{index}.jpg" for index in range(count)]
    for index, file in enumerate(files):
        images[index % len(images)].resize(JPEG_SIZE).save(file, quality=JPEG_QUALITY)
    return files


def smooth_images(count: int) -> NDArray[np.float32]:
    """Returns noise (N, 3, SIDE, SIDE) that is enlarged from a coarse grid, in [0,1]."""
    return nn.functional.interpolate(torch.rand(count, 3, 14, 14), size=SIDE, mode="bilinear").numpy()


@torch.inference_mode()
def write_attacked(path: Path, network: nn.Module, x: NDArray[np.float32]) -> None:
    """Writes a clean and an attacked condition with PyTorch's logits, and the latter in 8 bits, which LZF makes smaller."""
    y = np.zeros(len(x), np.int64)
    noise = np.random.default_rng(0).uniform(-8 / 255, 8 / 255, x.shape).astype(np.float32)
    x_adv = (x + 0.99 * noise).clip(0, 1)
    with BundleWriter(path, class_names=NAMES, model="efficientnet_b0", model_sha256="") as bundle:
        for spec, images in {CLEAN: x, NOISE: x_adv, EIGHT_BIT: (255 * x_adv).round() / np.float32(255)}.items():
            with bundle.condition(spec) as condition:
                for start in range(0, len(x), BATCH):
                    rows = slice(start, start + BATCH)
                    condition.append(images[rows], y[rows], network(torch.from_numpy(images[rows])).numpy())


def write_plain(path: Path, count: int) -> None:
    """Writes images of one colour each, which take a hundredth of their size on disk."""
    colours = np.random.default_rng(0).random((count, 3, 1, 1), dtype=np.float32)
    with BundleWriter(path, class_names=NAMES, model="means", model_sha256="") as bundle, bundle.condition(CLEAN) as condition:
        for some in np.array_split(colours, max(1, count // BATCH)):
            condition.append(np.broadcast_to(some, (len(some), 3, SIDE, SIDE)), np.zeros(len(some), np.int64))


def report_of(program: Path, *arguments: object) -> dict[str, Any]:
    """Runs a program that prints a JSON object."""
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"bench: {done.stderr.strip()}")
    return json.loads(done.stdout)
