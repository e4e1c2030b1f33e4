"""The digest of the code that a step uses, found by reading imports instead of running them."""

import ast
import hashlib
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("models", "tasks")
DATA_SUFFIXES = (".yaml", ".yml", ".jinja")

# What carries results about without making them: a change here must not retrain a model.
CARRIERS = frozenset(
    [
        "models.spool",
        "tasks.code",
        "tasks.console",
        "tasks.progress",
        "tasks.receipts",
        "tasks.recipe",
        "tasks.recipe_file",
        "tasks.registry",
        "tasks.tracking",
        "tasks.training",
        "tasks.versioning",
        "tasks.workspace",
    ]
)


def code_digest(*roots: str) -> str:
    """Return the sha256 of every project module that ``roots`` import, directly or not.

    Comments, docstrings and formatting do not count: the digest is over the syntax tree without
    docstrings. Data files (YAML, templates) beside an
    imported module, of its name, count as they are. Modules in ``CARRIERS``
    are left out, with what only they import.

    Raises:
        ModuleNotFoundError: a root is no module of this project.
    """
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module in seen or module in CARRIERS:
            continue
        seen.add(module)
        waiting.extend(_imports(module))
    digest = hashlib.sha256()
    for module in sorted(seen):
        digest.update(f"{module}\0{_source_digest(module)}\n".encode())
    return digest.hexdigest()


def module_path(module: str) -> Path | None:
    """Return the file of a project module, or None for a module that is not the project's."""
    if module.partition(".")[0] not in PACKAGES:
        return None
    base = PROJECT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _file(module: str) -> Path:
    path = module_path(module)
    if path is None:
        raise ModuleNotFoundError(f"{module} is no module of this project")
    return path


@cache
def _tree(module: str) -> ast.Module:
    path = _file(module)
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Return the project modules that ``module`` names in an import, at any depth of its code."""
    path = _file(module)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            found += [str(base), *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(name for name in found if module_path(name) is not None)


@cache
def _source_digest(module: str) -> str:
    path = _file(module)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)] or [ast.Pass()]
    digest = hashlib.sha256(ast.unparse(tree).encode())
    for data in sorted(path.parent.iterdir()):
        if data.suffix in DATA_SUFFIXES and data.name.partition(".")[0] == path.stem:
            digest.update(data.read_bytes())
    return digest.hexdigest()


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
