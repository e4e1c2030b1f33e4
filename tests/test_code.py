"""The digest of a step's code, and the direction of imports."""

import ast
from pathlib import Path

import pytest

from tasks.code import CARRIERS, PROJECT, code_digest, module_path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of three modules, of which the code digest is taken."""
    import tasks.code as code

    monkeypatch.setattr(code, "PROJECT", tmp_path)
    for cached in (code._tree, code._imports, code._source_digest):
        cached.cache_clear()
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("")
    (tmp_path / "tasks" / "a.py").write_text("from tasks.b import f\n\n\ndef g():\n    return f()\n")
    (tmp_path / "tasks" / "b.py").write_text('"""B."""\nimport os\n\n\ndef f():\n    """F."""\n    return 1\n')
    (tmp_path / "tasks" / "c.py").write_text("x = 1\n")
    yield tmp_path
    for cached in (code._tree, code._imports, code._source_digest):
        cached.cache_clear()


def digest_after(project: Path, module: str, text: str) -> str:
    import tasks.code as code

    (project / "tasks" / f"{module}.py").write_text(text)
    for cached in (code._tree, code._imports, code._source_digest):
        cached.cache_clear()
    return code_digest("tasks.a")


def test_only_a_change_of_meaning_changes_the_digest(project: Path) -> None:
    before = code_digest("tasks.a")
    assert digest_after(project, "b", '"""Other."""\nimport os\n\ndef f():\n    # why\n    return 1\n') == before
    assert digest_after(project, "c", "x = 2\n") == before
    assert digest_after(project, "b", "import os\n\ndef f():\n    return 2\n") != before


def test_imports_inside_functions_and_data_files_count(project: Path) -> None:
    before = digest_after(project, "b", "def f():\n    from tasks import c\n    return c.x\n")
    assert digest_after(project, "c", "x = 3\n") != before
    before = code_digest("tasks.a")
    (project / "tasks" / "b.yaml").write_text("a: 1\n")
    assert digest_after(project, "c", "x = 3\n") != before


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"tasks\.nowhere"):
        code_digest("tasks.nowhere")


def test_carriers_exist() -> None:
    assert [name for name in CARRIERS if module_path(name) is None] == []


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


FILES = [path for package in ("flows", "tasks", "models") for path in sorted((PROJECT / package).rglob("*.py"))]
BELOW = {"flows": (), "tasks": ("flows",), "models": ("flows", "tasks")}
LIBRARIES = {
    "prefect": lambda path: path.parts[0] in ("flows", "tasks"),
    "mlflow": lambda path: path.as_posix() in ("tasks/tracking.py", "tasks/registry.py"),
    "dvc": lambda path: path.as_posix() == "tasks/versioning.py",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_imports_run_downwards_and_each_library_has_its_place(path: Path) -> None:
    relative = path.relative_to(PROJECT)
    for name in imports_of(path):
        top = name.partition(".")[0]
        assert top not in BELOW[relative.parts[0]], f"{relative} imports {name}"
        assert top not in LIBRARIES or LIBRARIES[top](relative), f"{relative} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350
