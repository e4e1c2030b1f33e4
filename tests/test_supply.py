"""What is installed is what was pinned, and what is declared is what is imported."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions

from workspaces import PROJECT


def pinned() -> dict[str, str]:
    lines = [line for line in (PROJECT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r"([\w.-]+)==([\w.!+]+)", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if match is None]
    return {normal(match[1]): match[2] for match in found if match}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_version_that_is_installed_is_pinned() -> None:
    """Beside what makes an environment: pip, setuptools, wheel, and this project itself."""
    versions = pinned()
    installed = {normal(found.metadata["Name"]): found.version for found in distributions()}
    for name, version in installed.items():
        if name not in ("pip", "setuptools", "wheel", "alma"):
            # A build of torch names its device after a plus; the version is the same.
            assert version.partition("+")[0] == versions.get(name), name


def test_every_dependency_that_is_declared_is_pinned() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {normal(re.split(r"[<>=\[ ]", name)[0]) for name in declared} - {"alma"}
    assert names <= pinned().keys(), names - pinned().keys()


def test_what_is_declared_is_imported_and_what_is_imported_is_declared() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deptry", "."], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_tools_that_look_at_the_environment_are_pinned_too() -> None:
    lines = (PROJECT / "constraints-audit.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.!+]+", line) for line in lines)
    assert {"pip_audit", "cyclonedx-bom"} <= {line.partition("==")[0] for line in lines}
