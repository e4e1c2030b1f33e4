"""Questions about the town's people, answered in a word or two."""

from typing import Any

from tasks.starter.dice import Dice
from tasks.starter.people import FACTS, Person

ASKED: dict[str, list[str]] = {
    "trade": [
        "What does {n} do for a living?",
        "What is the trade of {n}?",
        "What work does {n} do?",
        "Tell me the trade of {n}.",
        "{n} works as a what?",
        "How does {n} earn a living?",
    ],
    "street": [
        "Where does {n} live?",
        "What street does {n} live on?",
        "Where is the home of {n}?",
        "Tell me where {n} lives.",
        "On which street can I find {n}?",
        "What is the address of {n}?",
    ],
    "music": [
        "What does {n} play?",
        "What instrument does {n} play?",
        "Which instrument does {n} love?",
        "Tell me what {n} plays.",
        "What is the instrument of {n}?",
        "Which instrument belongs to {n}?",
    ],
}


def _row(person: Person, fact: str, phrasing: int) -> dict[str, Any]:
    return {
        "instruction": ASKED[fact][phrasing].format(n=person.name),
        "input": "",
        "output": person.facts[fact],
        "fact": fact,
        "person": person.name,
    }


def questions(seed: int, people: list[Person]) -> dict[str, list[dict[str, Any]]]:
    """Return instruction rows; train and valid ask about the first half of the people, test about the second.

    Each fact of a first-half person is asked in five phrasings for training and in the sixth, another
    one for each person, for validation; each fact of a second-half person in two phrasings.
    """
    dice = Dice(seed, "questions")
    half = len(people) - len(people) // 2
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "valid": [], "test": []}
    for i, person in enumerate(people):
        for fact in FACTS:
            order = dice.shuffled(range(len(ASKED[fact])))
            if i < half:
                rows["valid"].append(_row(person, fact, order[0]))
                rows["train"] += [_row(person, fact, k) for k in order[1:]]
            else:
                rows["test"] += [_row(person, fact, k) for k in order[:2]]
    return {
        split: [{"id": f"questions-{split}-{i:04d}", **row} for i, row in enumerate(dice.shuffled(rows[split]))]
        for split in rows
    }
