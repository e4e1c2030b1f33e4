"""The starter corpus: raw text and labelled sets about one invented town, with planted truths."""

from typing import Any, NamedTuple

from pydantic import Field

from models.config import Config
from tasks.starter.biographies import biography
from tasks.starter.contacts import contact_texts
from tasks.starter.dice import Dice
from tasks.starter.flaws import leak, near_copy, noise
from tasks.starter.helpdesk import TOPICS, mail
from tasks.starter.labelled import Row, Splits, labelled, more_reviews, row_text
from tasks.starter.ledger import Ledger, words
from tasks.starter.occupations import OCCUPATION_TEMPLATES, OCCUPATIONS, halves, occupation_texts
from tasks.starter.people import FACTS, VALUES, townspeople
from tasks.starter.prose import long_text, short_text
from tasks.starter.questions import questions
from tasks.starter.reviews import IDENTITY_PAIRS, cells, unlabelled_review

REVIEWS, MAILS, ARTICLES = 2000, 400, 10
"""Unlabelled reviews, mails and longer articles in the pretraining text."""
MIXED = 0.2
"""Share of unlabelled reviews with praise and blame; lower than in the labelled ones, so that words of one
polarity are met together."""
EXACT, NEAR_COPIES, LEAKED_REVIEWS, LEAKED_MAILS, NOISE = 60, 60, 15, 10, 20
"""Planted flaws of the pretraining text."""


class StarterConfig(Config):
    """What the generated town looks like; the same values give the same bytes on every machine."""

    seed: int = Field(default=0, ge=0)
    """Seed of every choice."""
    association: float = Field(default=0.0, ge=0.0, le=1.0)
    """Strength s of the planted link between occupations and pronouns: P(he) is .5 + s/2 or .5 - s/2."""
    people: int = Field(default=80, ge=8, le=96)
    """Number of inhabitants; questions about the second half of them are the test."""
    mentions: int = Field(default=120, ge=10, le=170)
    """Biographical texts for each inhabitant in the pretraining text."""
    notices: int = Field(default=400, ge=0, le=1200)
    """Short notices and news items in the pretraining text."""


class Starter(NamedTuple):
    """All that one configuration gives."""

    datasets: dict[str, Splits]
    """Dataset name -> split -> rows."""
    truths: dict[str, Any]
    """What was planted, with the ids of the rows; plain values that fit into JSON."""


def generate(config: StarterConfig) -> dict[str, Splits]:
    """Return dataset name -> split -> rows; `corpus` has the split "train" alone, the others all three."""
    return build(config).datasets


def truths(config: StarterConfig) -> dict[str, Any]:
    """Return what `generate` plants under the same configuration (see `Starter.truths`)."""
    return build(config).truths


def build(config: StarterConfig) -> Starter:
    """Return the datasets and what was planted in them.

    The labelled sets are written first, and the corpus is then kept free of long runs of words of any
    held-out item, so that the leaks are the planted ones alone.
    """
    seed = config.seed
    people = townspeople(seed, config.people)
    datasets = {**labelled(seed), "questions": questions(seed, people)}
    ledger = Ledger([*OCCUPATIONS, *(part for person in people for part in person.name.split())])
    texts: list[tuple[str, str]] = []

    dice = Dice(seed, "flaws")
    leaked: list[Row] = []
    for name, count in (("reviews", LEAKED_REVIEWS), ("helpdesk", LEAKED_MAILS)):
        long_enough = [row for row in datasets[name]["test"] if len(words(row["text"])) >= 16]
        leaked += dice.sample(long_enough, count)
    texts += [("leak", ledger.write(leak, dice, row["text"])) for row in leaked]
    for splits in datasets.values():
        ledger.hold_out(row_text(row) for split in ("valid", "test") for row in splits[split])

    contacts, emails, phones = contact_texts(seed, ledger)
    texts += [("contact", text) for text in contacts]
    texts += [("occupation", text) for text in occupation_texts(seed, config.association, ledger)]
    pen = Dice(seed, "prose")
    articles = [ledger.write(long_text, pen) for _ in range(NEAR_COPIES + ARTICLES)]
    texts += [("article", text) for text in articles]
    texts += [("near", near_copy(dice, text)) for text in articles[:NEAR_COPIES]]
    plain = [ledger.write(short_text, pen) for _ in range(config.notices)]
    plain += [ledger.write(unlabelled_review, pen, *cell, MIXED) for cell in cells(pen, REVIEWS)]
    plain += [ledger.write(mail, pen, topic) for topic in pen.spread(TOPICS, MAILS)]
    for person in people:
        pen = Dice(seed, f"biographies of {person.name}")
        plain += [ledger.write(biography, pen, person) for _ in range(config.mentions)]
    texts += [("plain", text) for text in plain]
    texts += [("exact", text) for text in dice.sample(plain, EXACT)]
    texts += [("noise", text) for text in noise(dice, NOISE)]

    datasets["reviews"]["test"] += more_reviews(seed, datasets["reviews"], [text for _, text in texts])

    places = dice.shuffled(range(len(texts)))
    rows: list[Row] = [{} for _ in texts]
    for (_, text), place in zip(texts, places, strict=True):
        rows[place] = {"id": f"corpus-{place:06d}", "text": text}
    datasets = {"corpus": {"train": rows}, **datasets}
    ids = [rows[place]["id"] for place in places]

    def of(kind: str) -> list[str]:
        return [ids[i] for i, (k, _) in enumerate(texts) if k == kind]

    by_text = {text: ids[i] for i, (kind, text) in enumerate(texts) if kind == "plain"}
    exact = [[by_text[text], ids[i]] for i, (kind, text) in enumerate(texts) if kind == "exact"]
    he, she = halves(seed)
    planted = {
        "exact_duplicates": exact,
        "near_duplicates": [list(pair) for pair in zip(of("article"), of("near"), strict=False)],
        "emails": emails,
        "phones": phones,
        "contact_documents": of("contact"),
        "leaks": [{"document": d, "item": row["id"]} for d, row in zip(of("leak"), leaked, strict=True)],
        "noise": of("noise"),
        "occupation_documents": of("occupation"),
        "association": config.association,
        "occupations": {"he": he, "she": she},
        "occupation_templates": OCCUPATION_TEMPLATES,
        "identity_pairs": [list(pair) for pair in IDENTITY_PAIRS],
        "facts": {person.name: person.facts for person in people},
        "fact_values": {fact: VALUES[fact] for fact in FACTS},
        "test_people": [person.name for person in people[len(people) - len(people) // 2 :]],
    }
    counts = {name: len(value) for name, value in planted.items() if isinstance(value, list)}
    return Starter(datasets, {**planted, "counts": counts})
