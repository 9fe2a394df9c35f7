import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.crossruntime.runtimes import VARIABLE, find_program
from tests.deployed import broken_export, deployed

__all__ = ["broken_export", "deployed"]


@pytest.fixture(scope="session", autouse=True)
def own_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs a copy of the built evaluator, if there is one, which a build beside the tests cannot replace under them."""
    program = find_program()
    with pytest.MonkeyPatch.context() as patch:
        if program is not None:
            program = Path(shutil.copy2(program, tmp_path_factory.mktemp("program")))
            patch.setenv(VARIABLE, str(program))
        yield program or Path()
