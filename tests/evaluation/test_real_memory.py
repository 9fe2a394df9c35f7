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


class Repeated(nn.Module):
    def __init__(self, times):
        super().__init__()
        self.times = times

    def forward(self, x):
        return x.repeat(1, self.times, 1, 1)


logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
torch.set_num_threads(1)
head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(192, 3)
network = nn.Sequential(Repeated(64), *(nn.Sigmoid() for _ in range(24)), *head)
data = torch.rand(64, 3, 32, 32), torch.randint(0, 3, (64,))
small = harness.evaluate(network, (data[0][:4], data[1][:4]), attacks=["fgsm"])  # all libraries are loaded
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + 256 * 2**20, resource.RLIM_INFINITY))
rows = harness.evaluate(network, data, attacks=["fgsm"], batch_size=64)
print("statuses", *rows["status"])
"""
"""Passing an image forward keeps 24 tensors of 3/4 MiB: 256 MiB do not do for 16 images. No convolution, as which
buffers that takes depends on the processor."""


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
    assert "fgsm: out of memory with batches of " in done.stdout
