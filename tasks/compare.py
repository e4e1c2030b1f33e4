"""Two registered models of one kind side by side: scores, items, slices, what they were made with, and audits.

Differences are the first minus the second, on the same draws of the same items wherever both were asked the same.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import compare_items as items
from tasks.audits.lexicon import load_lexicon
from tasks.paired import Terms, difference, interval
from tasks.readers import read_rows
from tasks.recipe import FOUNDATION
from tasks.registered import Assessed, Registered
from tasks.report_examples import LEFT_OUT, asked, example
from tasks.same_test import Both, Pair, agree, on_one_test, same_items

Row = dict[str, Any]

EXAMPLES = 10
SMALLER = ("nats_per_token", "perplexity", "bits_per_byte", "masked_nats", "masked_perplexity", "kl_per_token", "ece")
"""Scores of which less is better."""
NEITHER = ("answer_tokens", "bytes_per_token", "scored_share")
"""Scores that are better neither large nor small."""
ACROSS_TOKENIZERS = ("bits_per_byte",)
"""Scores that mean the same whatever the text was cut into."""
BY_ITEM = {
    "foundation": "bits_per_byte",
    "masked_foundation": "masked_accuracy",
    "classification": "accuracy",
    "token_classification": "token_accuracy",
    "question_answering": "f1",
    "instruction": "rouge_l",
    "preference": "preference_accuracy",
    "reward": "preference_accuracy",
    "rlhf": "mean_reward",
}
"""Kind -> the score that every single item has, by which examples are chosen and slices compared."""


def compare(first: Registered, second: Registered, examples: int = EXAMPLES, again: bool = True) -> Row:
    """Return everything that can be said of two versions of one kind, as plain values; `a` is the first.

    Args:
        examples: so many rows of either side, the most different first.
        again: assess the second on the first's test set where the two were asked different ones, and either where its
            items were not kept, if the data is at hand.

    Raises ValueError in one line for two versions that cannot be compared.
    """
    _check(first, second)
    both, notes, comparable = on_one_test((first, second), again)
    metric = BY_ITEM[first.evidence.kind]
    found: Row = {
        "a": _described(first, both[0]),
        "b": _described(second, both[1]),
        "kind": first.evidence.kind,
        "by_item": metric,
        "notes": notes,
        "scores": _scores((first, second), both, comparable),
        "outcomes": None,
        "examples": {"wins": [], "losses": []},
        "confusions": None,
        "slices": [],
        "configuration": _configuration(first, second),
        "audits": _audits(first, second),
    }
    found["outcomes"] = next((row["items"] for row in found["scores"] if row["metric"] == metric), None)
    joined = _joined((first, second), both, metric) if comparable else None
    if joined is not None:
        found |= _items((first, second), both, metric, joined, examples)
        if both[0].answers and not _rows((first, second)):
            notes.append("The prepared data is not at hand: rows are shown by their ids, and not parted by their text.")
    return found


def write(found: Row, directory: Path) -> None:
    """Write ``compare.json`` and ``compare.html`` into a directory."""
    from tasks.compare_view import write_page

    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    (directory / "compare.json").write_text(text, encoding="utf-8")
    write_page(found, directory / "compare.html")


def better(metric: str) -> int:
    """Return 1 for a score of which more is better, -1 where less is, 0 where neither."""
    return 0 if metric in NEITHER else -1 if metric in SMALLER else 1


def _check(first: Registered, second: Registered) -> None:
    names = [f"{one.name}/{one.version}" for one in (first, second)]
    if names[0] == names[1]:
        raise ValueError(f"{names[0]}: expected two versions, got one twice")
    kinds = [one.evidence.kind for one in (first, second)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{names[0]} is of kind {kinds[0]} and {names[1]} of kind {kinds[1]}: they cannot be compared")


def _described(version: Registered, own: Assessed) -> Row:
    return {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "run_id": version.run_id,
        "test_digest": version.evidence.test_digest,
        "assessed_again": own.again,
    }


def _scores(pair: Pair, both: Both, comparable: bool) -> list[Row]:
    same = same_items(pair, both)
    rows = []
    for metric in (name for name in both[0].scores if name in both[1].scores):
        one, other = (own.terms.get(metric) for own in both)
        said = metric in ACROSS_TOKENIZERS or pair[0].model != FOUNDATION or agree(pair, "tokenizer_digest")
        gap = counts = None
        if comparable and said and one is not None and other is not None:
            drawn = difference(one, other, apart=not same)
            gap = {
                "value": drawn.interval.estimate,
                "low": drawn.interval.low,
                "high": drawn.interval.high,
                "paired": drawn.paired,
            }
            values = [items.item_values(own) for own in (one, other)]
            if drawn.paired and better(metric) and values[0] is not None and values[1] is not None:
                counts = items.outcomes(*(better(metric) * each for each in values if each is not None))
        rows.append(
            {
                "metric": metric,
                "better": better(metric),
                "a": _score(both[0], metric),
                "b": _score(both[1], metric),
                "difference": gap,
                "items": counts,
            }
        )
    return rows


def _score(own: Assessed, metric: str) -> Row:
    """Return a score with its interval: the one that was reported, else that of its items."""
    found = own.scores[metric]
    low, high = found.get("low"), found.get("high")
    if low is None and metric in own.terms and len(own.terms[metric].units()[0]) > 1:
        low, high = interval(own.terms[metric])[1:3]
    return {"value": found["value"], "low": low, "high": high}


Joined = tuple[list[str], Terms, Terms]


def _joined(pair: Pair, both: Both, metric: str) -> Joined | None:
    """Return the ids of the rows that both were asked, and the terms of each on them; None where none can be joined."""
    one, other = (own.terms.get(metric) for own in both)
    known = [list(own.answers) for own in both]
    if one is None or other is None or not all(known) or (len(one), len(other)) != (len(known[0]), len(known[1])):
        return None
    place = {name: number for number, name in enumerate(known[1])}
    numbers = [(number, place[name]) for number, name in enumerate(known[0]) if name in place]
    if not numbers:
        return None
    mine, theirs = (np.array(column) for column in zip(*numbers, strict=True))
    return [known[0][number] for number in mine], items.take(one, mine), items.take(other, theirs)


def _items(pair: Pair, both: Both, metric: str, joined: Joined, examples: int) -> Row:
    """Return what single rows say: counts, examples, changed confusions, slices."""
    ids, one, other = joined
    kind, sign = pair[0].evidence.kind, better(metric)
    values = [sign * each for each in (items.item_values(own) for own in (one, other)) if each is not None]
    rows, lines = _rows(pair), [[own.answers[name] for name in ids] for own in both]
    gaps: NDArray[np.float64] = values[0] - values[1]
    shown = {
        side: [
            _example(kind, rows.get(ids[n]), lines[0][n], lines[1][n]) | {"gap": float(gaps[n])}
            for n in items.farthest(gaps, toward, examples)
        ]
        for side, toward in (("wins", 1), ("losses", -1))
    }
    groupings: list[items.Grouping] = []
    answered: Row | None = None
    if kind == "classification":
        truth = [line["truth"] for line in lines[0]]
        groupings.append(items.by_class(truth))
        answered = items.confusions(truth, *([line["model"] for line in own] for own in lines))
    if all(name in rows for name in ids):
        texts = [_text(kind, rows[name]) for name in ids]
        extra = (pair[0].recipe or {}).get("audit", {}).get("lexicon")
        lexicon = load_lexicon(Path(extra) if extra else None)
        groupings += [items.by_length(texts), items.by_identity(texts, lexicon)]
    return {
        "outcomes": items.outcomes(*values),
        "examples": shown,
        "confusions": answered,
        "slices": items.slices(one, other, sign, groupings),
    }


def _rows(pair: Pair) -> dict[str, Row]:
    """Return the rows that the first was asked by their ids, where its prepared data is at hand, or that of the other.

    The second's own test set is that of the first, unless it was assessed again on the first's.
    """
    if pair[0].model == FOUNDATION:
        return {}
    data = pair[0].held_out()
    if data is None and pair[0].evidence.test_digest == pair[1].evidence.test_digest:
        data = pair[1].held_out()
    return {row["id"]: row for row in read_rows(data.directory / "test.jsonl")} if data else {}


def _text(kind: str, row: Row) -> str:
    return " ".join(row["tokens"]) if kind == "token_classification" else asked(kind, row)


def _example(kind: str, row: Row | None, first: Row, second: Row) -> Row:
    """Return a row as the report shows it, answered by `a` and `b`."""
    told = {name: first[name] for name in (*LEFT_OUT, "truth") if name in first}
    return example(kind, row, {**told, "a": _answer(kind, first), "b": _answer(kind, second)})


def _answer(kind: str, line: Row) -> Any:
    """Return what the model made of a row, from its line of the predictions."""
    match kind:
        case "preference":
            # What decides is what each answer gained on the model before, and the two may have had different ones.
            gains = (line[f"model_{side}"] - line[f"before_{side}"] for side in ("chosen", "rejected"))
            return dict(zip(("gain of the chosen", "of the rejected"), gains, strict=True))
        case "reward":
            return {"chosen": line["chosen"], "rejected": line["rejected"]}
        case "rlhf":
            return f"{line['model']} (reward {line['model_reward']:+.3f})"
    return line["model"]


def _configuration(first: Registered, second: Registered) -> Row:
    """Return what the two were made of and with: every fact of the lineage, and the settings that differ."""
    settings: Sequence[Row | None] = [first.settings(), second.settings()]
    if None in settings:
        settings = [first.parameters(), second.parameters()]
    one, other = (found or {} for found in settings)
    return {
        "lineage": {
            name: [first.lineage.get(name), second.lineage.get(name)]
            for name in dict.fromkeys((*first.lineage, *second.lineage))
            if name not in ("promotion_key", "decision")
        },
        "settings": {
            name: [one.get(name), other.get(name)]
            for name in dict.fromkeys((*one, *other))
            if one.get(name) != other.get(name)
        },
    }


def _audits(first: Registered, second: Registered) -> list[Row]:
    """Return each audit that either had, as its evidence holds it."""
    found = [
        {audit.audit: audit.model_dump(mode="json", exclude={"details"}) for audit in one.evidence.audits}
        for one in (first, second)
    ]
    return [
        {"audit": name, "a": found[0].get(name), "b": found[1].get(name)}
        for name in dict.fromkeys((*found[0], *found[1]))
    ]
