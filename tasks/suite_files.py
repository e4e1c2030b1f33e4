"""A user's own task file of lm-eval: one YAML file, its rows from local files beside it, and no code."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from tasks.formats import Fault
from tasks.in_context_tasks import InContextTask
from tasks.readers import detect_format, find_files, read_file
from tasks.sources import Source
from tasks.yaml_file import Loader, read_yaml

Row = dict[str, Any]

SHOTS = "shots"
"""The split that the examples are drawn from, as lm-eval is told."""
SET_ASIDE = 64
"""Rows that examples are drawn from where a task file names no split for them; at most a third of its rows."""
BUILDERS = ("json", "csv", "parquet")
"""What `dataset_path` may say: the readers of local files."""
RUNS_CODE = ("class", "custom_dataset", "process_docs", "process_results", "use_prompt", "unsafe_code")
OTHER = ("group", "task_list", "doc_to_image", "doc_to_audio")
KINDS = ("multiple_choice", "loglikelihood", "generate_until")
"""Types of output that give every row a score of its own."""


class Suite(NamedTuple):
    """A task file, read: what lm-eval is told, and the rows of it."""

    config: dict[str, Any]
    scored: list[Row]
    """A seeded choice of the split that is assessed."""
    shots: list[Row]
    repeated: int
    """Examples that were left out because they are scored as well."""


def read_suite(task: InContextTask, root: str) -> Suite:
    """Return the task file's settings and rows.

    Raises ValueError naming the file and the field: where the file cannot be read, names code to run (`!function`) or
    a data set that lies elsewhere, gives rows no score of their own, or has too few rows.
    """
    shown, path = _file(task, root)
    config = _load(path, shown)
    _check(config, shown)
    splits = {name: _rows(config, name, shown, root) for name in _splits(config)}
    assessed = config.get("test_split") or config["validation_split"]
    drawn = config.get("fewshot_split") or config.get("training_split") or assessed
    rows = [splits[assessed][i] for i in np.random.default_rng(task.seed).permutation(len(splits[assessed]))]
    pool = [] if drawn == assessed else splits[drawn]
    if not pool and max(task.shots):
        kept = min(SET_ASIDE, len(rows) // 3)
        rows, pool = rows[kept:], rows[:kept]
    scored = rows[: task.limit]
    fresh = [row for row in pool if row not in scored]
    if len(scored) < 2 or len(fresh) < max(task.shots):
        raise ValueError(
            f"{shown}: {len(scored)} rows to score and {len(fresh)} for examples, "
            f"expected at least 2 and {max(task.shots)}"
        )
    return Suite(config, scored, fresh, len(pool) - len(fresh))


def suite_files(task: InContextTask, root: str) -> list[tuple[str, Path]]:
    """Return (name, path) of every file that a task file's scores depend on: itself, what it includes, its rows."""
    shown, path = _file(task, root)
    read: list[tuple[str, Path]] = []
    config = _load(path, shown, read)
    _check(config, shown)
    return [*read, *(file for name in _splits(config) for file in _data(config, name, shown, root))]


def _file(task: InContextTask, root: str) -> tuple[str, Path]:
    found = find_files(Source(kind="files", paths=task.paths), root)
    if len(found) != 1:
        raise ValueError(f"{task.paths[0]}: expected one task file of lm-eval, found {len(found)}")
    return found[0]


def _load(path: Path, shown: str, read: list[tuple[str, Path]] | None = None) -> dict[str, Any]:
    """Return the file's content over that of the files that it includes, as lm-eval does."""
    read = [] if read is None else read
    if path.resolve() in [known.resolve() for _, known in read]:
        raise ValueError(f"{shown}: include: the files include each other")
    read.append((shown, path))
    content = read_yaml(path, shown, loader=_Loader)
    if not isinstance(content, dict):
        raise ValueError(f"{shown}: expected the fields of a task of lm-eval, got {content!r:.40}")
    included = content.pop("include", [])
    base: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else included:
        base |= _load(path.parent / name, f"{Path(shown).parent / name}", read)
    return base | content


class _Loader(Loader):
    """YAML without objects; lm-eval's own tag for Python functions is refused by name."""


def _no_function(loader: yaml.SafeLoader, node: yaml.Node) -> None:
    raise yaml.constructor.ConstructorError(
        problem=f"!function {node.value} would run Python out of a data folder; put the words into templates instead",
        problem_mark=node.start_mark,
    )


_Loader.add_constructor("!function", _no_function)


def _check(config: dict[str, Any], shown: str) -> None:
    """Refuse what runs code, what lies elsewhere, and what scores no single row."""
    for field in (*RUNS_CODE, *OTHER):
        if config.get(field):
            why = "names code to run" if field in RUNS_CODE else "is not for one task on text"
            raise ValueError(f"{shown}: {field}: {why}, which is not taken here")
    if config.get("dataset_path") not in BUILDERS:
        raise ValueError(
            f"{shown}: dataset_path: expected {', '.join(BUILDERS)} with dataset_kwargs.data_files, "
            f"got {config.get('dataset_path')!r}; nothing is fetched from a hub for a task file"
        )
    if config.get("output_type", "generate_until") not in KINDS:
        raise ValueError(f"{shown}: output_type: expected {', '.join(KINDS)}, got {config['output_type']!r}")
    if (config.get("generation_kwargs") or {}).get("do_sample"):
        raise ValueError(f"{shown}: generation_kwargs.do_sample: expected false, answers are greedy here")
    for metric in config.get("metric_list") or []:
        if not isinstance(metric, dict) or "metric" not in metric or metric.get("hf_evaluate"):
            raise ValueError(f"{shown}: metric_list: expected metrics of lm-eval itself by name, got {metric!r:.60}")
    if not (config.get("test_split") or config.get("validation_split")):
        raise ValueError(f"{shown}: test_split: missing, so there is nothing to assess")


def _splits(config: dict[str, Any]) -> list[str]:
    """Return the splits that are read: the one that is assessed and the one that examples come from."""
    assessed = config.get("test_split") or config["validation_split"]
    return list(dict.fromkeys([assessed, config.get("fewshot_split") or config.get("training_split") or assessed]))


def _data(config: dict[str, Any], split: str, shown: str, root: str) -> list[tuple[str, Path]]:
    """Return the files of a split; they are named from where the task file lies."""
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    found = files.get(split) if isinstance(files, dict) else files if split in ("train", "test") else None
    names = [found] if isinstance(found, str) else found
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{shown}: dataset_kwargs.data_files: expected files for the split {split!r}, got {found!r}")
    folder = Path(shown).parent
    try:
        return find_files(Source(kind="files", paths=[str(folder / name) for name in names]), root)
    except ValueError as error:
        raise ValueError(f"{shown}: dataset_kwargs.data_files: {error}") from None


def _rows(config: dict[str, Any], split: str, shown: str, root: str) -> list[Row]:
    rows = []
    for name, file in _data(config, split, shown, root):
        for record in read_file(file, name, detect_format(name), Source(kind="files", paths=[name])):
            if isinstance(record, Fault):
                raise ValueError(f"{name}: line {record.line}: {record.reason}")
            rows.append(record.fields)
    return rows
