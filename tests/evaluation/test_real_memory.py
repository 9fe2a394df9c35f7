"""A process whose memory is really short: what PyTorch then raises is caught, and the sweep goes on."""

import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux's limit of the address space", allow_module_level=True)

PROGRAM = """
import logging, resource, sys
from pathlib import Path

import torch
from torch import nn

import harness

logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
torch.set_num_threads(1)
network = nn.Sequential(
    nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 8, 3, padding=1),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
)
data = torch.rand(64, 3, 64, 64), torch.randint(0, 3, (64,))
small = harness.evaluate(network, (data[0][:4], data[1][:4]), attacks=["fgsm"])  # all libraries are loaded
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + 130 * 2**20, resource.RLIM_INFINITY))
rows = harness.evaluate(network, data, attacks=["fgsm"], batch_size=64)
print("statuses", *rows["status"])
"""
"""Passing 64 images forward and back takes 64 x 64 x 64 x 64 float32 a layer: 64 MiB, several times."""


def test_sweep_goes_on_where_the_system_gives_no_more_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        cwd=Path(__file__).parents[2],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "statuses done done" in done.stdout, done.stdout + done.stderr[-2000:]
    assert "fgsm: out of memory with batches of 64 images" in done.stdout
