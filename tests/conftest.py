"""Two test processes share two cores, and one run of the pipeline."""

import os
import random
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from workspaces import RECIPE, alma, make_workspace

# Before torch is imported: threads of two processes that wait for each other cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")


LONG = (
    *("torture_kills", "pipeline", "recovery", "outages", "docs", "fleet", "drift", "audits_proof", "servers"),
    *("stack", "bad_input", "compare", "transfer", "budget", "hub"),
)
"""Files of tests that take longest; the first makes the run that others take up."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `make torture`."""
    parser.addoption("--torture", action="store_true", help="do all of what test_torture_*.py else does in part")


@pytest.fixture
def torture(request: pytest.FixtureRequest) -> bool:
    """Whether all is to be done, not a part."""
    return bool(request.config.getoption("--torture"))


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Random choices of a test, the same each time."""
    return random.Random(request.node.nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first, so that no process is left with one of them when the others have ended."""
    order = {f"test_{name}.py": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session")
def _ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline's result on the recipe tiny, made by the process that asks first."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ran"
    with FileLock(f"{directory}.lock"):
        if not (directory / "first.txt").exists():
            make_workspace(directory)
            done = alma(directory, "pipeline", RECIPE)
            assert done.returncode == 0, done.stdout + done.stderr
            (directory / "first.txt").write_text(done.stdout)
    return directory


@pytest.fixture
def workspace(_ran: Path, tmp_path: Path) -> Path:
    """A copy of a workspace in which the pipeline has run once."""
    return Path(shutil.copytree(_ran, tmp_path / "ran"))
