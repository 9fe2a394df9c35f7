"""The suite's data and its plan."""

from pathlib import Path

import pytest

from harness.images import ImageData
from harness.planning.plan import Plan, plan_of
from tests.poisoned_suite.suite import HARDENED, suite_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("poisoned")


@pytest.fixture(scope="module")
def digits(folder: Path) -> ImageData:
    return suite_of(folder).dataset.load()


@pytest.fixture(scope="module")
def plan(folder: Path, digits: ImageData) -> Plan:
    return plan_of(suite_of(folder, HARDENED), digits)
