"""How much of its score a specialist loses when its inputs are changed a little, and whether "not" reaches it.

Every change of `tasks/perturbations.py` is put to the same rows as the clean inputs, so that the difference of the
scores is paired: the bootstrap draws rows, and takes both scores under one draw. What is asked are the inputs alone;
the context of a question, the true answers and the tags stay. A negation is another matter: its answer is to change.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import ValidationError, model_validator

from models.config import Config
from tasks.loading import TrainedModel
from tasks.paired import Terms, difference, terms
from tasks.perturbations import CHANGES, MARKS, Change, choose_words, misspell
from tasks.yaml_file import read_yaml

if TYPE_CHECKING:
    from numpy.random import Generator

    from tasks.audits.statistics import Interval

Row = dict[str, Any]
Answer = Callable[[list[Row]], list[Any]]
"""Takes rows, gives what the model answers to each: a label, tags, or text."""
Pair = tuple[Terms, Terms]
"""The scores of the same rows as they are and changed."""
Polarity = Literal["positive", "negative"]

TEMPLATES = Path(__file__).with_suffix(".yaml")
NEGATION = "negation"
MOST_ROWS = 200
"""Rows that a change is put to, a seeded choice: where one in ten flips, a loss of 6 points is seen."""
METRICS = {
    "classification": "accuracy",
    "token_classification": "f1",
    "question_answering": "f1",
    "instruction": "rouge_l",
}
"""The score that a change may cost, by kind; other kinds are not asked."""
ASKED = {"classification": ("text",), "question_answering": ("question",), "instruction": ("instruction", "input")}
"""The fields of a row that are changed, by kind."""


class Templates(Config):
    """Sentences with and without a negation, and the words that they are filled with."""

    templates: list[dict[Literal["plain", "negated"], str]] = []
    """Pairs of sentences with {thing} and {word} in them that differ in a negation alone."""

    things: list[str] = []
    """What is spoken of."""

    positive: list[str] = []
    """Words that praise it."""

    negative: list[str] = []
    """Words that blame it."""

    @model_validator(mode="after")
    def _filled(self) -> Self:
        for number, template in enumerate(self.templates):
            for side in ("plain", "negated"):
                if any(slot not in template.get(side, "") for slot in ("{thing}", "{word}")):
                    raise ValueError(f"templates[{number}].{side}: expected a sentence with {{thing}} and {{word}}")
        return self


class RobustnessConfig(Config):
    """What classifiers are asked about negations; the other changes need nothing to be said."""

    polarity: dict[str, dict[Polarity, str]] = {}
    """Specialist -> its label for praise (positive) and for blame (negative); others are not asked about "not"."""

    templates: Path | None = None
    """A YAML file of further templates, things and words, added to the project's (tasks/robustness.yaml)."""

    @model_validator(mode="after")
    def _both_sides(self) -> Self:
        for name, labels in self.polarity.items():
            if set(labels) != {"positive", "negative"} or len(set(labels.values())) < 2:
                raise ValueError(f"polarity.{name}: expected a label for positive and another one for negative")
        return self


def choose(rows: Sequence[Row], seed: int, most: int = MOST_ROWS) -> list[Row]:
    """Return a seeded choice of at most so many rows, in their order."""
    import numpy as np

    if len(rows) <= most:
        return list(rows)
    return [rows[i] for i in sorted(np.random.default_rng(seed).choice(len(rows), most, replace=False))]


def change_row(kind: str, row: Row, name: str, random: "Generator") -> Row | None:
    """Return the row with its input changed, its truth being that of the changed input; None where it cannot be.

    Words of a tagged sentence keep their tags: a typo falls into a word, a mark that is left out goes with its
    tag where it belongs to no entity, and white space does not stand in words at all.
    """
    change: Change = CHANGES[name]
    if kind != "token_classification":
        return {**row, **{field: change(row[field], random) for field in ASKED[kind] if row[field]}}
    tokens, tags = row["tokens"], row["tags"]
    if name == "spaces":
        return None
    if name == "punctuation":
        kept = [i for i, token in enumerate(tokens) if tags[i] != "O" or token.strip(MARKS)]
        return {**row, "tokens": [tokens[i] for i in kept], "tags": [tags[i] for i in kept]} if kept else row
    if name == "typos":
        places = [i for i, token in enumerate(tokens) if sum(map(str.isalpha, token)) > 1]
        chosen = {places[i] for i in choose_words(len(places), random)}
        return {**row, "tokens": [misspell(t, random) if i in chosen else t for i, t in enumerate(tokens)]}
    return {**row, "tokens": [change(token, random) for token in tokens]}


def score(kind: str, answers: list[Any], rows: list[Row]) -> Terms:
    """Score answers to rows, row by row, by the kind's metric of `METRICS`."""
    import numpy as np

    if kind == "classification":
        return terms([float(answer == row["label"]) for answer, row in zip(answers, rows, strict=True)])
    from tasks.metric_classes import Answers, Entities, InstructionText, compute

    if kind == "token_classification":
        found = compute(Entities, predictions=answers, references=[row["tags"] for row in rows])
        correct, predicted, true, *_ = np.array(found["items"], dtype=np.float64).T
        return terms(2 * correct, predicted + true)
    if kind == "question_answering":
        found = compute(Answers, predictions=answers, references=[row["answers"]["text"] for row in rows])
    else:
        found = compute(InstructionText, predictions=answers, references=[row["output"] for row in rows])
    return terms(found["items"][METRICS[kind]])


def lost(clean: Terms, changed: Terms, seed: int) -> "Interval":
    """Return the clean score minus the changed one with its 95 % interval; rows are drawn with both their scores.

    Where no row's score differs the bootstrap has no width: what so many rows leave open is then Wilson's bound for
    0 of them.
    """
    from tasks.audits.statistics import wilson

    if clean == changed:
        bound = wilson(0, len(clean))
        return bound._replace(low=-bound.high)
    return difference(clean, changed, seed=seed).interval


def measure(
    kind: str, answer: Answer, rows: list[Row], clean: list[Any], seed: int
) -> tuple[list[dict[str, Any]], dict[str, Pair]]:
    """Return a line for every change (see `line`), and by change the scores of its rows.

    Args:
        rows: what is asked, with its truth; `clean`: the answers to the rows as they are.
    """
    import numpy as np

    table: list[dict[str, Any]] = []
    items: dict[str, Pair] = {}
    for number, name in enumerate(CHANGES):
        made = [change_row(kind, row, name, np.random.default_rng((seed, number, i))) for i, row in enumerate(rows)]
        changed = [row for row in made if row is not None]
        if len(changed) < len(rows):
            continue
        answers = answer(changed)
        before, after = score(kind, clean, rows), score(kind, answers, changed)
        fields = ("tokens",) if kind == "token_classification" else ASKED[kind]
        touched = [any(a[f] != b[f] for f in fields) for a, b in zip(rows, changed, strict=True)]
        flips = [_differs(kind, *pair) for pair in zip(rows, changed, clean, answers, strict=True)]
        shown = next((i for i in range(len(rows)) if flips[i]), touched.index(True) if any(touched) else 0)
        example = {
            "clean": _shown(rows[shown], fields),
            "changed": _shown(changed[shown], fields),
            "answer": _said(clean[shown]),
            "changed_answer": _said(answers[shown]),
        }
        table.append(line(name, METRICS[kind], before, after, sum(touched), flips, example, seed))
        items[name] = before, after
    return table, items


def line(
    name: str, metric: str, before: Terms, after: Terms, touched: int, flips: list[bool], example: Row, seed: int
) -> dict[str, Any]:
    """Return a line of the table.

    Fields: name, metric, n (rows), changed (rows that the change altered at all), clean and perturbed (scores), lost
    (their difference) with low and high (95 %), lost_share (of the clean score; None where that is 0), flips (share of
    the rows with another answer), example.
    """
    found = lost(before, after, seed)
    if not touched:  # the same inputs have the same answers: that is no estimate
        found = found._replace(low=0.0, high=0.0)
    return {
        "name": name,
        "metric": metric,
        "n": len(flips),
        "changed": touched,
        "clean": before.value,
        "perturbed": after.value,
        "lost": found.estimate,
        "low": found.low,
        "high": found.high,
        "lost_share": found.estimate / before.value if before.value else None,
        "flips": sum(flips) / len(flips),
        "example": example,
    }


def negations(
    model: TrainedModel, labels: dict[Polarity, str], templates: Templates, seed: int
) -> tuple[dict[str, Any], Pair]:
    """Ask a classifier of praise and blame about sentences with and without "not"; return the line and the scores.

    Praise that is negated is blame; blame that is negated is anything but blame (M. T. Ribeiro et al. 2020, table 1).
    So `flips`, the share of the pairs whose answer changes, is good here, and `lost` is what is right of the plain
    sentences and wrong of the negated ones.
    """
    pairs = choose(
        [
            {**{side: template[side].format(thing=thing, word=word) for side in template}, "says": says}
            for template in templates.templates
            for thing in templates.things
            for says, words in (("positive", templates.positive), ("negative", templates.negative))
            for word in words
        ],
        seed,
    )
    plain, negated = (model.classify([pair[side] for pair in pairs])[0] for side in ("plain", "negated"))
    right, still = [], []
    for pair, first, second in zip(pairs, plain, negated, strict=True):
        right.append(float(first == labels[pair["says"]]))
        blamed = second == labels["negative"]
        still.append(float(blamed if pair["says"] == "positive" else not blamed))
    before, after = terms(right), terms(still)
    flips = [first != second for first, second in zip(plain, negated, strict=True)]
    shown = next((i for i in range(len(pairs)) if right[i] and not still[i]), 0)
    example = {
        "clean": pairs[shown]["plain"],
        "changed": pairs[shown]["negated"],
        "answer": plain[shown],
        "changed_answer": negated[shown],
    }
    return line(NEGATION, "accuracy", before, after, len(pairs), flips, example, seed), (before, after)


def load_templates(extra: Path | None = None) -> Templates:
    """Return the project's templates with those of a user's file; ValueError names file and field."""
    own, *more = (_read(path) for path in (TEMPLATES, extra) if path is not None)
    joined = {
        name: [*getattr(own, name), *(v for one in more for v in getattr(one, name))] for name in type(own).model_fields
    }
    return Templates.model_validate(joined)


def _read(path: Path) -> Templates:
    try:
        return Templates.model_validate(read_yaml(path, missing="no such file, expected templates of negations"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{path}: {f'{where}: ' if where else ''}{said}") from None


def _differs(kind: str, row: Row, changed: Row, clean: Any, answer: Any) -> bool:
    """Return whether the answer is another one; tags of words that were left out are not compared."""
    if kind == "token_classification" and len(clean) > len(answer):
        kept = [i for i, token in enumerate(row["tokens"]) if row["tags"][i] != "O" or token.strip(MARKS)]
        clean = [clean[i] for i in kept]
    return bool(clean != answer)


def _shown(row: Row, fields: Sequence[str]) -> str:
    return "\n".join(" ".join(value) if isinstance(value, list) else value for f in fields if (value := row[f]))


def _said(answer: Any) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
