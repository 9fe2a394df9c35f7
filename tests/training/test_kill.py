import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from harness.training.checkpoint import FILE
from tests.training.cases import classifier, recipe, same_state, trained

pytestmark = pytest.mark.slow

ENDLESS = """
import sys, time
from contextlib import contextmanager
from pathlib import Path

import torch

from tests.training.cases import classifier, recipe, trained

torch.set_num_threads(int(sys.argv[2]))  # their number decides the order of sums

class Dawdles:
    @contextmanager
    def task(self, title, total, unit=""):
        yield lambda amount, note: time.sleep(0.3)

trained(classifier(), recipe("pgd"), checkpoint=Path(sys.argv[1]), progress=Dawdles())
"""


def test_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDLESS, str(tmp_path), str(torch.get_num_threads())]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    while not (tmp_path / FILE).exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    straight, resumed = classifier(), classifier()
    expected = trained(straight, recipe("pgd"))
    found = trained(resumed, recipe("pgd"), checkpoint=tmp_path)
    assert same_state(straight, resumed)
    assert found.best_epoch == expected.best_epoch
