"""Tasks to be solved from a prompt alone, made from the town's own people, facts and sentences."""

import re
from functools import cache
from typing import Any

from tasks.starter.biographies import SENTENCES, biography
from tasks.starter.dice import Dice
from tasks.starter.labelled import labelled
from tasks.starter.people import FACTS, VALUES, Person, townspeople
from tasks.starter.questions import ASKED

Row = dict[str, Any]

SAID = {"trade": "{n} works as a", "street": "{n} lives on", "music": "{n} plays the"}
"""The words before a fact, as the pretraining text often says it."""

AGREEMENT = {
    "is": "are",
    "was": "were",
    "has": "have",
    "works": "work",
    "lives": "live",
    "plays": "play",
    "keeps": "keep",
    "loves": "love",
    "owns": "own",
    "makes": "make",
    "teaches": "teach",
    "practises": "practise",
}
"""A verb of one person, and the form that no name agrees with."""

PAIRS = 4
"""Pairs of sentences about each person."""

_NOUNS = {
    "die": {"lamp": "Lampe", "door": "Tür", "clock": "Uhr", "map": "Karte", "bridge": "Brücke"},
    "der": {"table": "Tisch", "chair": "Stuhl", "coat": "Mantel", "key": "Schlüssel", "garden": "Garten"},
    "das": {"house": "Haus", "book": "Buch", "boat": "Boot", "bread": "Brot", "bicycle": "Fahrrad"},
}
_ADJECTIVES = {"old": "alte", "new": "neue", "red": "rote", "small": "kleine"}


@cache
def tables(seed: int, count: int) -> dict[str, dict[str, list[Row]]]:
    """Return table -> "scored" and "shots" -> rows, for a town of `count` people; no row stands in both.

    facts (completion): what is known about a person, asked in the words of the pretraining text; the second
    half of the people, of whom no instruction speaks. questions (choice): the same, with one right answer and
    three others. sentiment (classification): the labelled reviews. acceptability (minimal_pairs): sentences
    whose verb agrees, and the same with one that does not. translation and summaries (generation): phrases
    into German, which the town does not speak; and what a text says about a person in one line.
    """
    people = townspeople(seed, count)
    half = len(people) - len(people) // 2
    reviews = labelled(seed)["reviews"]
    made: dict[str, dict[str, list[Row]]] = {
        "sentiment": {"scored": reviews["test"], "shots": reviews["train"]},
        "translation": _translation(Dice(seed, "translation")),
    }
    for part, some in (("shots", people[:half]), ("scored", people[half:])):
        dice = Dice(seed, f"in-context {part}")
        made.setdefault("facts", {})[part] = [_fact(person, fact) for person in some for fact in FACTS]
        made.setdefault("questions", {})[part] = [_question(dice, person, fact) for person in some for fact in FACTS]
        made.setdefault("acceptability", {})[part] = _pairs(dice, some)
        made.setdefault("summaries", {})[part] = [_summary(dice, person) for person in some]
    return made


def _fact(person: Person, fact: str) -> Row:
    return {"text": SAID[fact].format(n=person.name), "answer": person.facts[fact]}


def _question(dice: Dice, person: Person, fact: str) -> Row:
    right = person.facts[fact]
    choices = dice.shuffled([right, *dice.sample([value for value in VALUES[fact] if value != right], 3)])
    return {
        "question": dice.pick(ASKED[fact]).format(n=person.name),
        "choices": choices,
        "label": choices.index(right),
    }


def _pairs(dice: Dice, people: list[Person]) -> list[Row]:
    """Return pairs about each person that differ in one verb."""
    verb = re.compile(rf"\b({'|'.join(AGREEMENT)})\b")
    rows: list[Row] = []
    for person in people:
        wanted = len(rows) + PAIRS
        while len(rows) < wanted:
            good = biography(dice, person)
            bad = verb.sub(lambda found: AGREEMENT[found[0]], good, count=1)
            if bad != good:
                rows.append({"good": good, "bad": bad})
    return rows


def _summary(dice: Dice, person: Person) -> Row:
    facts = dice.shuffled(FACTS)
    told = [dice.pick(SENTENCES[fact]).format(n=person.name, v=person.facts[fact]) for fact in facts]
    return {"source": " ".join(told), "target": f"{person.name}: " + ", ".join(person.facts[fact] for fact in FACTS)}


def _translation(dice: Dice) -> dict[str, list[Row]]:
    pairs = [
        {"source": f"the {adjective} {noun}", "target": f"{article} {_ADJECTIVES[adjective]} {german}"}
        for article, nouns in _NOUNS.items()
        for noun, german in nouns.items()
        for adjective in _ADJECTIVES
    ]
    pairs = dice.shuffled(pairs)
    return {"scored": pairs[len(pairs) // 2 :], "shots": pairs[: len(pairs) // 2]}
