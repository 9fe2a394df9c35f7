"""`harness crosscheck` run in this process, on the tiny suite and on a bundle alone; each returns the exit code."""

from pathlib import Path

import pytest

from harness.cli.main import main
from tests.deployed import Deployed

NARROW = ("crosscheck.models=[other]", "crosscheck.attacks=[fgsm]", "crosscheck.formats=[float32]", "crosscheck.corruptions=[]")


def call(deployed: Deployed, out: Path, *arguments: str) -> int:
    place = ["--store", str(deployed.store), "--out", str(out), "--device", "cpu"]
    overrides = [word for override in NARROW for word in ("--set", override)]
    with pytest.raises(SystemExit) as stop:
        main(["crosscheck", str(deployed.file), *place, *overrides, *arguments])
    return int(stop.value.code or 0)


def of_bundle(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["crosscheck", *map(str, arguments)])
    return int(stop.value.code or 0)
