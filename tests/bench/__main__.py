"""`make bench`: the same work by several programs, side by side in one run; ratios are what to quote."""

import argparse
import time
from fractions import Fraction
from statistics import median

import torch

from harness.cli.console import show_table
from harness.running.workspace import resolve_device
from harness.spec import parse_eps
from tests.bench import deployed, grid, jobs, memory, onnx_subject, passes, report, start_up, strong, training, user_scale
from tests.bench.contenders import CONTENDERS
from tests.bench.overhead import shares
from tests.bench.workload import EPS, MODELS, Workload, workload

SHARES = 3
"""Sweeps over which the shares of time outside passes are taken."""


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda; deployed models are always run on the CPU")
    parser.add_argument("--count", type=int, default=196, help="test images")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS), help="parts to run")
    parser.add_argument("--contenders", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS), help="of the sweep")
    parser.add_argument("--networks", nargs="*", default=list(MODELS), choices=MODELS, help="that the sweep attacks")
    parser.add_argument("--suite", help="one whose models baseline and pgd are attacked, instead of networks of its own")
    strong.add_options(parser)
    passes.add_options(parser)
    training.add_options(parser)
    deployed.add_options(parser)
    onnx_subject.add_options(parser)
    report.add_options(parser)
    user_scale.add_options(parser)
    grid.add_options(parser)
    jobs.add_options(parser)
    options = parser.parse_args()
    options.device = resolve_device(options.device)
    for name in options.only:
        PARTS[name](options)


def _show_sweep(options: argparse.Namespace) -> None:
    found, budgets = workload(options.count, options.device, options.suite), [parse_eps(eps) for eps in EPS]
    for label in options.networks:
        show_table(f"{label}: {found.title}", *_sweeps(found, label, budgets, options.contenders))
    if options.device.type == "cpu":  # elsewhere a pass returns before it is computed
        _show_shares(found, budgets, options.networks)


def _show_shares(found: Workload, budgets: list[Fraction], labels: list[str]) -> None:
    rows = []
    for label in labels:
        turns = [shares(found.networks[label], found, budgets) for _ in range(SHARES)]
        percents = [[100 * turn[kind] for turn in turns] for kind in ("attack", "own")]
        rows.append((label, *(f"{median(of_each):.1f} % ({min(of_each):.1f} to {max(of_each):.1f})" for of_each in percents)))
    title = "Time outside model passes, of the sweep's wall time"
    show_table(title, ["network", "the attack's arithmetic", "the harness's own share"], rows)


def _sweeps(found: Workload, label: str, budgets: list[Fraction], names: list[str]) -> tuple[list[str], list[list[str]]]:
    network, rows, first = found.networks[label], [], 0.0
    on_cpu = found.device.type == "cpu"  # where other work slows a wall clock down
    clock = time.process_time if on_cpu else time.perf_counter
    for name in names if found.device.type == "cuda" else ():
        CONTENDERS[name](network, found, budgets[:1])  # plans every convolution, which the first one would pay for
    for name in names:
        torch.manual_seed(0)
        started = clock()
        robust = CONTENDERS[name](network, found, budgets)
        seconds = clock() - started
        first = first or seconds
        rows.append([name, f"{seconds:.1f}", f"{first / seconds:.2f}", *(f"{100 * value:.1f}" for value in robust)])
    unit = "processor seconds" if on_cpu else "seconds"
    return ["PGD-10 sweep", unit, f"times faster than {names[0]}", *(f"robust % at {eps}" for eps in EPS)], rows


PARTS = {
    "sweep": _show_sweep,
    "strong": strong.show_strong,
    "start-up": lambda options: start_up.show_start_up(),
    "passes": passes.show_passes,
    "training": training.show_training,
    "deployed": deployed.show_deployed,
    "onnx-subject": onnx_subject.show_onnx_subject,
    "report": report.show_report,
    "user-scale": user_scale.show_user_scale,
    "grid": grid.show_grid,
    "jobs": jobs.show_jobs,
    "memory": memory.show_memory,
}

if __name__ == "__main__":
    main()
