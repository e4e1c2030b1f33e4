"""The labelled sets of the town, cut into train, valid and test."""

from collections.abc import Callable, Iterable
from typing import Any

from tasks.starter.answers import answer_row
from tasks.starter.dice import Dice
from tasks.starter.entities import entity_row
from tasks.starter.helpdesk import TOPICS, mail_row
from tasks.starter.ledger import Ledger
from tasks.starter.preferences import preference_row
from tasks.starter.reviews import cells, review_row

Row = dict[str, Any]
Splits = dict[str, list[Row]]

SIZES = {
    "reviews": {"train": 2000, "valid": 160, "test": 400},
    "helpdesk": {"train": 600, "valid": 120, "test": 300},
    "entities": {"train": 600, "valid": 100, "test": 300},
    "answers": {"train": 400, "valid": 80, "test": 200},
    "preferences": {"train": 900, "valid": 100, "test": 200},
}
"""Rows of each split."""
MORE_REVIEWS = 800
"""Rows added to the test of the reviews: with 400 a point of accuracy is too little to be shown."""


def row_text(row: Row) -> str:
    """Return all the words of a row of any set as one text."""
    parts = [row.get(k, "") for k in ("text", "context", "instruction", "question", "prompt", "chosen")]
    return " ".join([part for part in parts if part] + row.get("tokens", []))


def labelled(seed: int) -> dict[str, Splits]:
    """Return the labelled sets; within a set no two rows are alike, classes are equally frequent."""
    return {
        "reviews": _splits(seed, "reviews", cells, _review, Ledger().admit),
        "helpdesk": _splits(seed, "helpdesk", _topics, lambda dice, topic, _: mail_row(dice, topic), Ledger().admit),
        "entities": _splits(seed, "entities", _blanks, lambda dice, *_: entity_row(dice), _New().admit),
        "answers": _splits(seed, "answers", _blanks, lambda dice, *_: answer_row(dice), _New().admit),
        "preferences": _splits(seed, "preferences", _blanks, lambda dice, *_: preference_row(dice), _New().admit),
    }


def more_reviews(seed: int, reviews: Splits, corpus: Iterable[str]) -> list[Row]:
    """Return further test rows, unlike all ``reviews`` and without ten words in a row of the corpus.

    They are written after the corpus, which so does not depend on how many there are.
    """
    ledger = Ledger()
    for split in reviews.values():
        for row in split:
            ledger.admit(row_text(row))
    ledger.hold_out(corpus)
    dice = Dice(seed, "more reviews")
    first = len(reviews["test"])
    rows: list[Row] = []
    for cell in cells(dice, MORE_REVIEWS):
        row = _review(dice, cell, "test")
        while not ledger.admit(row_text(row)):
            row = _review(dice, cell, "test")
        rows.append({"id": f"reviews-test-{first + len(rows):04d}", **row})
    return rows


class _New:
    """Admits a text once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def admit(self, text: str) -> bool:
        new = text.lower() not in self._seen
        self._seen.add(text.lower())
        return new


def _review(dice: Dice, cell: tuple[str, str], split: str) -> Row:
    return review_row(dice, *cell, training=split == "train")


def _topics(dice: Dice, count: int) -> list[str]:
    return dice.spread(TOPICS, count)


def _blanks(dice: Dice, count: int) -> list[str]:
    return [""] * count


def _splits(
    seed: int,
    name: str,
    classes: Callable[[Dice, int], list[Any]],
    make: Callable[[Dice, Any, str], Row],
    admit: Callable[[str], bool],
) -> Splits:
    dice = Dice(seed, name)
    out: Splits = {}
    for split, count in SIZES[name].items():
        rows: list[Row] = []
        for kind in classes(dice, count):
            row = make(dice, kind, split)
            while not admit(row_text(row)):
                row = make(dice, kind, split)
            rows.append({"id": f"{name}-{split}-{len(rows):04d}", **row})
        out[split] = rows
    return out
