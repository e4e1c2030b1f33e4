"""The rows of a task as prompts: which are scored, which are shown as examples, and the words around them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.formats import Fault
from tasks.in_context_tasks import KINDS, InContextTask
from tasks.readers import detect_format, find_files, read_file
from tasks.sources import DataConfig, Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Row = dict[str, Any]

SET_ASIDE = 64
"""Rows that examples are drawn from where a task has no file of its own for them; at most a third of its rows."""
BETWEEN = "\n\n"
"""What parts examples from each other and from the row that is asked."""


@dataclass(frozen=True)
class Item:
    """One row in words: what the model is given, and what it should make of it."""

    prompt: str
    """The examples and the question."""
    target: str
    """The right continuation, as it follows the prompt."""
    choices: list[str]
    """All continuations that are compared, none where the model is to find the words itself."""
    gold: int
    """The number of the right choice."""
    shots: int
    """Examples that the prompt holds."""
    cut: bool
    """Whether the question alone was longer than the model's context, so that its start is not read."""


@dataclass(frozen=True)
class Rows:
    """What a task asks, and what it may show."""

    scored: dict[int, Row]
    """Row by its number in the seeded choice."""
    pool: list[Row]
    repeated: int
    """Examples that were left out because they are scored as well."""
    too_long: int = 0
    """Rows that were left out because an answer alone fills the model's context."""


def choose_rows(task: InContextTask, data: DataConfig) -> Rows:
    """Return the scored rows, a seeded choice, and the examples, none of which is scored.

    Raises ValueError naming file and line of a row that lacks a field, or when there are too few rows.
    """
    if task.starter:
        from tasks.starter.in_context import tables

        made = tables(data.starter.seed, data.starter.people)
        if task.starter not in made:
            raise ValueError(f"starter: there is no table {task.starter!r} for prompts; there are {', '.join(made)}")
        rows, pool = (
            [_fields(task, row, f"starter {task.starter}") for row in made[task.starter][part]]
            for part in ("scored", "shots")
        )
    else:
        rows, pool = (_read(task, paths, data.root) for paths in (task.paths, task.shot_paths))
    rows = [rows[i] for i in np.random.default_rng(task.seed).permutation(len(rows))]
    if not pool and max(task.shots):
        kept = min(SET_ASIDE, len(rows) // 3)
        rows, pool = rows[kept:], rows[:kept]
    scored = dict(enumerate(rows[: task.limit]))
    known = {_asked(task, row) for row in scored.values()}
    fresh = [row for row in pool if _asked(task, row) not in known]
    if len(scored) < 2 or len(fresh) < max(task.shots):
        raise ValueError(
            f"{task.starter or ', '.join(task.paths)}: {len(scored)} rows to score and {len(fresh)} for examples, "
            f"expected at least 2 and {max(task.shots)}"
        )
    return Rows(scored, fresh, len(pool) - len(fresh))


def fitting(task: InContextTask, rows: Rows, tokenizer: "PreTrainedTokenizerFast", context: int) -> Rows:
    """Return the rows without those of which a continuation alone fills a context of `context` tokens.

    Raises ValueError when fewer than two are left.
    """
    if task.kind == "generation":
        return rows
    words = _labels(task, rows)
    scored = {}
    for number, row in rows.scored.items():
        encoded = tokenizer.backend_tokenizer.encode_batch_fast(
            _question(task, row, words)[1], add_special_tokens=False
        )
        if max(len(one.ids) for one in encoded) < context:
            scored[number] = row
    if len(scored) < 2:
        raise ValueError(f"{len(scored)} rows have answers that fit into a context of {context} tokens, expected 2")
    return replace(rows, scored=scored, too_long=len(rows.scored) - len(scored))


def items(
    task: InContextTask, rows: Rows, shots: int, tokenizer: "PreTrainedTokenizerFast", context: int
) -> list[Item]:
    """Return the prompts with up to `shots` examples each, drawn for every row anew from the seed and its number.

    A prompt that is longer than `context` tokens (with the longest continuation that may follow) loses examples
    from the front, those farthest from the question.
    """
    words = _labels(task, rows)
    made = []
    for number, row in rows.scored.items():
        random = np.random.default_rng((task.seed, number))
        drawn = [rows.pool[i] for i in random.permutation(len(rows.pool))[:shots]]
        examples = [_solved(task, example, words) for example in drawn]
        made.append(_fitting(task, row, examples, words, tokenizer, context))
    return made


def chance(found: list[Item]) -> float:
    """Return the score of a model that guesses: one in the number of choices, 0 where words are to be found."""
    return sum(1 / len(item.choices) for item in found if item.choices) / len(found)


def _fitting(
    task: InContextTask,
    row: Row,
    examples: list[str],
    words: dict[str, str],
    tokenizer: "PreTrainedTokenizerFast",
    context: int,
) -> Item:
    prompt, choices, gold = _question(task, row, words)
    target = choices[gold]
    longest = "" if task.kind == "generation" else max(choices, key=len)
    room = context - (task.max_new_tokens if task.kind == "generation" else 0)

    def length(start: int) -> int:
        whole = BETWEEN.join([*examples[start:], prompt]) + longest
        return len(tokenizer.backend_tokenizer.encode(whole, add_special_tokens=False).ids)

    start = next((start for start in range(len(examples) + 1) if length(start) <= room), None)
    cut = start is None
    kept = [] if start is None else examples[start:]
    return Item(
        prompt=BETWEEN.join([*kept, prompt]),
        target=target,
        choices=choices if task.kind in ("choice", "classification", "minimal_pairs") else [],
        gold=gold,
        shots=len(kept),
        cut=cut,
    )


def _question(task: InContextTask, row: Row, words: dict[str, str]) -> tuple[str, list[str], int]:
    """Return a row's prompt, the continuations that are compared, and the number of the right one."""
    if task.kind == "minimal_pairs":
        return "", [row["good"], row["bad"]], 0
    asked, gold = row[KINDS[task.kind].asked], 0
    match task.kind:
        case "completion":
            asked, answer = _split(row)
            answers = [answer]
        case "choice":
            answers, gold = row["choices"], row["label"]
        case "classification":
            answers, gold = list(words.values()), list(words).index(row["label"])
        case "generation":
            answers = [row["target"]]
    prompt = task.prompt(asked)
    joint = "" if prompt[-1].isspace() else " "
    return prompt, [joint + answer for answer in answers], gold


def _solved(task: InContextTask, row: Row, words: dict[str, str]) -> str:
    """Return an example: a row's prompt with the right continuation."""
    prompt, choices, gold = _question(task, row, words)
    return prompt + choices[gold]


def _split(row: Row) -> tuple[str, str]:
    """Return the text and its answer: the row's own, or its last word with the text before it (Paperno et al. 2016)."""
    if "answer" in row:
        return row["text"].rstrip(), row["answer"].strip()
    text, answer = row["text"].strip().rsplit(maxsplit=1)
    return text, answer


def _labels(task: InContextTask, rows: Rows) -> dict[str, str]:
    """Return each label and its word, in a fixed order; nothing for a kind without labels."""
    if task.kind != "classification":
        return {}
    return task.labels or {
        label: label for label in sorted({row["label"] for row in (*rows.scored.values(), *rows.pool)})
    }


def _asked(task: InContextTask, row: Row) -> str:
    return " ".join(str(row[KINDS[task.kind].asked]).split())


def _read(task: InContextTask, paths: list[str], root: str) -> list[Row]:
    if not paths:
        return []
    source = Source(kind="files", paths=paths)
    rows = []
    for shown, path in find_files(source, root):
        for record in read_file(path, shown, detect_format(shown), source):
            if isinstance(record, Fault):
                raise ValueError(f"{shown}: line {record.line}: {record.reason}")
            rows.append(_fields(task, record.fields, f"{shown}: line {record.line}"))
    return rows


def _fields(task: InContextTask, given: Row, where: str) -> Row:
    """Return a row's fields under our names; ValueError says where one is missing or of the wrong type."""
    row = {}
    optional = ("answer",) if task.kind == "completion" else ()
    for field in (*KINDS[task.kind].fields, *optional):
        column = task.columns.get(field, field)
        if column not in given:
            if field in optional and field not in task.columns:
                continue
            raise ValueError(f"{where}: column {column!r} is missing; there are {', '.join(given) or 'none'}")
        row[field] = given[column]
    if task.kind == "choice":
        choices, label = row["choices"], row["label"]
        if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(one, str) for one in choices):
            raise ValueError(f"{where}: choices: expected a list of at least two texts, got {choices!r:.80}")
        row["label"] = int(label) if str(label).isdecimal() else -1
        if not 0 <= row["label"] < len(choices):
            raise ValueError(f"{where}: label: expected the number of a choice, 0 to {len(choices) - 1}, got {label!r}")
    if task.kind == "classification":
        row["label"] = str(row["label"]).strip()
        if task.labels and row["label"] not in task.labels:
            raise ValueError(f"{where}: label {row['label']!r} is not among {', '.join(task.labels)}")
    for field, value in row.items():
        if field not in ("choices", "label") and not (isinstance(value, str) and value.strip()):
            raise ValueError(f"{where}: {field}: expected text, got {value!r:.40}")
    if task.kind == "completion" and "answer" not in row and len(row["text"].split()) < 2:
        raise ValueError(f"{where}: text: expected at least two words, the last of which is asked for")
    return row
