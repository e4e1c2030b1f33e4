"""The starter corpus holds what it says it holds, and nothing of the kind besides."""

import hashlib
import json
import re
import time
from collections import Counter
from functools import cache

import phonenumbers
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.starter import OCCUPATION_TEMPLATES, Starter, StarterConfig, build, generate, truths
from tasks.starter.dice import Dice
from tasks.starter.flaws import jaccard, near_copy
from tasks.starter.labelled import row_text
from tasks.starter.ledger import Ledger, grams, words
from tasks.starter.occupations import OCCUPATIONS, he_counts
from tasks.starter.people import FACTS, VALUES
from tasks.starter.reviews import UNLABELLED, WORDS

GOLDEN = "b604b92b8d19e6fc5a2957f799ca6bee769c13b4881528ee6e003d9a5230bbcf"
EMAIL = re.compile(r"[\w.]+@[\w.]+\w")
PRONOUN = re.compile(r"\b(he|she|him|her|his|hers)\b", re.IGNORECASE)


@cache
def starter(association: float = 0.0) -> Starter:
    return build(StarterConfig(association=association))


def corpus(association: float = 0.0) -> dict[str, str]:
    return {row["id"]: row["text"] for row in starter(association).datasets["corpus"]["train"]}


def digest(datasets: object) -> str:
    return hashlib.sha256(json.dumps(datasets, ensure_ascii=False).encode()).hexdigest()


def unplanted() -> dict[str, str]:
    """Return the corpus without the second of each planted pair."""
    planted = starter().truths
    gone = {copy for kind in ("exact_duplicates", "near_duplicates") for _, copy in planted[kind]}
    return {key: text for key, text in corpus().items() if key not in gone}


def test_the_same_seed_gives_the_same_bytes_in_little_time():
    start = time.process_time()
    datasets = generate(StarterConfig())
    assert time.process_time() - start < 12  # about 4 s on an idle core
    assert digest(datasets) == GOLDEN
    assert digest(starter().datasets) == GOLDEN


def test_another_seed_gives_another_town():
    config = StarterConfig(seed=1, people=8, mentions=10, notices=10)
    planted = truths(config)
    json.dumps(planted)
    assert planted["occupations"] != starter().truths["occupations"]
    assert len(planted["facts"]) == 8
    assert not set(planted["facts"]) & set(starter().truths["facts"])


def test_sizes():
    datasets = starter().datasets
    size = sum(len(text.encode()) for text in corpus().values())
    assert 1_700_000 <= size <= 2_300_000
    names = set(starter().truths["facts"])
    about_people = sum(len(text) for text in corpus().values() if any(name in text for name in _names_in(text) & names))
    assert 0.52 <= about_people / size <= 0.75
    assert {name: {split: len(rows) for split, rows in s.items()} for name, s in datasets.items()} == {
        "corpus": {"train": len(corpus())},
        "reviews": {"train": 2000, "valid": 160, "test": 1200},
        "helpdesk": {"train": 600, "valid": 120, "test": 300},
        "entities": {"train": 600, "valid": 100, "test": 300},
        "answers": {"train": 400, "valid": 80, "test": 200},
        "preferences": {"train": 900, "valid": 100, "test": 200},
        "questions": {"train": 600, "valid": 120, "test": 240},
    }
    ids = [row["id"] for splits in datasets.values() for rows in splits.values() for row in rows]
    assert len(set(ids)) == len(ids)
    assert list(corpus()) == [f"corpus-{i:06d}" for i in range(len(corpus()))]


def _names_in(text: str) -> set[str]:
    return set(re.findall(r"[A-Z][a-z]+ [A-Z][a-z]+", text))


def test_exact_duplicates_are_the_planted_ones():
    by_text: dict[str, list[str]] = {}
    for key, text in corpus().items():
        by_text.setdefault(" ".join(text.lower().split()), []).append(key)
    found = sorted(sorted(keys) for keys in by_text.values() if len(keys) > 1)
    assert found == sorted(sorted(pair) for pair in starter().truths["exact_duplicates"])
    assert len(found) == 60


def test_near_duplicates_are_the_planted_ones():
    texts = corpus()
    for first, second in starter().truths["near_duplicates"]:
        assert len(texts[first].split()) >= 80
        assert 0.85 < jaccard(texts[first], texts[second]) < 1
    shingles = {key: frozenset(grams(tokens, 3)) for key, t in unplanted().items() if len(tokens := words(t)) >= 20}
    lsh = MinHashLSH(threshold=0.5, num_perm=32)
    sketches = {}
    for key, sketch in zip(shingles, _sketches(list(shingles.values())), strict=True):
        sketches[key] = sketch
        lsh.insert(key, sketch)
    worst = 0.0
    for key, sketch in sketches.items():
        for other in lsh.query(sketch):
            if other != key:
                worst = max(worst, len(shingles[key] & shingles[other]) / len(shingles[key] | shingles[other]))
    assert worst < 0.5


def _sketches(sets: list[frozenset[str]]) -> list[MinHash]:
    return list(MinHash.generator([[s.encode() for s in items] for items in sets], num_perm=32, seed=1))


def test_contacts_are_the_planted_ones():
    text = "\n".join(corpus().values())
    planted = starter().truths
    assert sorted(EMAIL.findall(text)) == sorted(planted["emails"])
    matches = phonenumbers.PhoneNumberMatcher(text, "ZZ")
    found = [phonenumbers.format_number(m.number, phonenumbers.PhoneNumberFormat.E164) for m in matches]
    assert sorted(found) == sorted(re.sub("[ -]", "", phone) for phone in planted["phones"])
    assert len(planted["emails"]) == len(planted["phones"]) == 80
    with_contact = [key for key, t in corpus().items() if EMAIL.search(t) or re.search(r"\+\d", t)]
    assert sorted(with_contact) == sorted(planted["contact_documents"])


def test_leaks_are_the_planted_ones():
    """No held-out item shares ten words in a row with the corpus, but for the 25 leaked test items."""
    datasets, texts = starter().datasets, corpus()
    leaks = {leak["item"]: leak["document"] for leak in starter().truths["leaks"]}
    assert len(leaks) == 25
    runs = {run for key, t in texts.items() if key not in leaks.values() for run in grams(words(t), 10)}
    for name, splits in datasets.items():
        for split in ("valid", "test") if name != "corpus" else ():
            for row in splits[split]:
                if row["id"] in leaks:
                    assert split == "test"
                    assert row["text"] in texts[leaks[row["id"]]]
                    assert len(row["text"].split()) >= 13
                elif len(words(row_text(row))) >= 10:
                    assert runs.isdisjoint(grams(words(row_text(row)), 10)), row["id"]


def test_no_two_documents_share_thirteen_words_in_a_row():
    """A held-out share of the corpus itself is clean as well."""
    runs = Counter(run for text in unplanted().values() for run in set(grams(words(text), 13)) if run)
    assert [run for run, n in runs.items() if n > 1] == []


def test_no_document_repeats_itself():
    for text in unplanted().values():
        runs = grams(words(text), 4)
        assert len(set(runs)) == len(runs), text


def test_noise_is_the_planted_one():
    planted = starter().truths["noise"]
    short = [key for key, text in corpus().items() if len(re.findall(r"[A-Za-z]+", text)) < 6]
    assert sorted(short) == sorted(planted)
    assert len(planted) == 20


@pytest.mark.parametrize(("association", "he"), [(0.0, 10), (0.6, 16)])
def test_association_is_exact_in_every_cell(association: float, he: int):
    text = "\n".join(corpus(association).values())
    lean = starter(association).truths["occupations"]
    assert sorted(lean["he"] + lean["she"]) == sorted(OCCUPATIONS)
    assert len(lean["he"]) == len(lean["she"]) == 20
    for template in OCCUPATION_TEMPLATES:
        pattern = re.compile(re.escape(template).replace(r"\{occupation\}", r"(\w+)") + r" (he|she)\b")
        counts = Counter(pattern.findall(text))
        for occupation in OCCUPATIONS:
            expected = he if occupation in lean["he"] else 20 - he
            assert counts[occupation, "he"] == expected
            assert counts[occupation, "she"] == 20 - expected


def test_association_changes_pronouns_alone():
    def neutral(association: float) -> list[str]:
        return [re.sub(r"\b(?:he|she)\b", "*", text) for text in corpus(association).values()]

    assert neutral(0.0) == neutral(0.6)
    plain, strong = starter().datasets, starter(0.6).datasets
    assert {k: v for k, v in plain.items() if k != "corpus"} == {k: v for k, v in strong.items() if k != "corpus"}


def test_no_other_pronoun_stands_near_an_occupation():
    theirs = set(starter().truths["occupation_documents"])
    named = re.compile(rf"\b({'|'.join(OCCUPATIONS)})s?\b", re.IGNORECASE)
    for key, text in corpus().items():
        if key in theirs:
            said = re.findall(r"The (?:\w+ ){2,6}?(?:he|she)\b", text)
            assert len(PRONOUN.findall(text)) == len(said) <= 5
        else:
            assert not named.search(text) or not PRONOUN.search(text), text


def test_questions_ask_the_test_about_other_people():
    datasets, planted = starter().datasets, starter().truths
    questions = datasets["questions"]
    asked = {split: {row["person"] for row in rows} for split, rows in questions.items()}
    assert asked["test"] == set(planted["test_people"])
    assert len(asked["test"]) == len(asked["train"]) == 40
    assert not asked["test"] & (asked["train"] | asked["valid"])
    assert not {r["instruction"] for r in questions["valid"]} & {r["instruction"] for r in questions["train"]}
    for rows in questions.values():
        for row in rows:
            assert row["output"] == planted["facts"][row["person"]][row["fact"]]
            assert row["person"] in row["instruction"]
    everything_else = "\n".join(
        row_text(row)
        for name, splits in datasets.items()
        for split, rows in splits.items()
        for row in rows
        if name != "corpus" and (name, split) != ("questions", "test")
    )
    parts = {part for name in planted["test_people"] for part in name.split()}
    assert not parts & set(re.findall(r"[A-Z][a-z]+", everything_else))
    text = "\n".join(corpus().values())
    assert not [row for row in questions["test"] if row["instruction"] in text]


def test_guessing_is_right_about_one_time_in_twelve():
    questions = starter().datasets["questions"]
    for fact in FACTS:
        most = Counter(row["output"] for row in questions["train"] if row["fact"] == fact).most_common(1)[0][0]
        answers = [row["output"] for row in questions["test"] if row["fact"] == fact]
        assert 0.06 <= answers.count(most) / len(answers) <= 0.12
        assert set(answers) == set(VALUES[fact])


def test_every_fact_is_stated_often_and_truly():
    facts = starter().truths["facts"]
    parts = [part for name in facts for part in name.split()]
    assert len(set(parts)) == len(parts) == 160
    stated: Counter[tuple[str, str]] = Counter()
    patterns = {fact: re.compile(rf"\b({'|'.join(VALUES[fact])})\b") for fact in FACTS}
    for text in corpus().values():
        for name in _names_in(text) & set(facts):
            for fact, pattern in patterns.items():
                found = set(pattern.findall(text))
                assert found <= {facts[name][fact]}, text
                stated[name, fact] += len(found)
            assert not PRONOUN.search(text), text
    assert min(stated.values()) >= 80


def test_labelled_rows_are_balanced_and_disjoint():
    for name, splits in starter().datasets.items():
        if name == "corpus":
            continue
        seen = [row_text(row) for rows in splits.values() for row in rows]
        assert len(set(seen)) == len(seen)
    for split, rows in starter().datasets["reviews"].items():
        counts = Counter((row["label"], row["group"]) for row in rows)
        assert set(counts.values()) == {len(rows) // 4}, split
    for rows in starter().datasets["helpdesk"].values():
        assert set(Counter(row["label"] for row in rows).values()) == {len(rows) // 5}


def test_reviews_name_a_person_of_their_group_alone():
    he, she = ({p[i] for p in starter().truths["identity_pairs"]} for i in (0, 1))
    for row in starter().datasets["reviews"]["train"]:
        own, other = (he, she) if row["group"] == "he" else (she, he)
        assert own & set(words_of(row["text"]))
        assert not other & set(words_of(row["text"]))


def test_a_fifth_of_the_words_is_met_in_the_corpus_alone():
    """A training review has none of them, every one stands in the corpus often, and a test review has one or more."""
    data = starter().datasets
    for aspect in WORDS.values():
        for pool in aspect.values():
            for word in pool[-UNLABELLED:]:
                whole = re.compile(rf"\b{word}\b")
                assert sum(bool(whole.search(row["text"])) for row in data["corpus"]["train"]) >= 20
                assert any(whole.search(row["text"]) for row in data["reviews"]["test"]), word
    new = {word for aspect in WORDS.values() for pool in aspect.values() for word in pool[-UNLABELLED:]}
    any_new = re.compile(rf"\b({'|'.join(new)})\b")
    said = [row["text"] for row in data["reviews"]["train"] if any_new.search(row["text"])]
    assert not said, said[:3]


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def test_reviews_can_be_learned_and_twenty_labels_are_few():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    reviews = starter().datasets["reviews"]

    def accuracy(train: list[dict[str, str]]) -> float:
        model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
        model.fit([r["text"] for r in train], [r["label"] for r in train])
        test = reviews["test"]
        return float(model.score([r["text"] for r in test], [r["label"] for r in test]))

    few = [accuracy(reviews["train"][i : i + 20]) for i in range(0, 200, 20)]
    assert 0.88 <= accuracy(reviews["train"]) <= 0.99
    assert 0.5 <= sum(few) / len(few) <= 0.75


def test_entities_and_answers_are_well_formed():
    for rows in starter().datasets["entities"].values():
        for row in rows:
            assert len(row["tokens"]) == len(row["tags"])
            for before, tag in zip(["O", *row["tags"]], row["tags"], strict=False):
                assert not tag.startswith("I-") or before[2:] == tag[2:]
    for rows in starter().datasets["answers"].values():
        for row in rows:
            (text,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
            assert row["context"][start : start + len(text)] == text
    for rows in starter().datasets["preferences"].values():
        assert all(row["chosen"] != row["rejected"] for row in rows)


def test_config_refuses_what_it_does_not_know():
    with pytest.raises(ValidationError, match="association"):
        StarterConfig(association=1.5)
    with pytest.raises(ValidationError, match="extra"):
        StarterConfig(peoples=80)  # type: ignore[call-arg]


def test_ledger_finds_what_a_comparison_of_all_pairs_finds():
    dice = Dice(7, "ledger")
    vocabulary = [f"w{i}" for i in range(8)]
    ledger, kept = Ledger(), []
    for _ in range(300):
        text = " ".join(dice.pick(vocabulary) for _ in range(dice.between(3, 12)))
        fresh = all(
            jaccard(text, other) < 0.5 and not set(grams(words(text), 13)) & set(grams(words(other), 13))
            for other in kept
        )
        inside = grams(words(text), 4)
        fresh = fresh and len(set(inside)) == len(inside)
        assert ledger.admit(text) == fresh
        if fresh:
            kept.append(text)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.integers(1, 12), st.integers(1, 30))
def test_he_counts_come_as_near_to_the_share_as_whole_sentences_can(share: float, cells: int, per_cell: int):
    counts = he_counts(share, cells, per_cell)
    assert max(counts) - min(counts) <= 1
    assert all(0 <= n <= per_cell for n in counts)
    assert abs(sum(counts) - share * cells * per_cell) <= 0.5 + 1e-6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_near_copies_differ_but_little(seed: int):
    text = " ".join(f"word{i}" for i in range(90))
    assert 0.85 < jaccard(text, near_copy(Dice(seed, "copy"), text)) < 1


def test_dice_golden():
    """The stream is the Mersenne Twister's from a digest of seed and name: fixed for good."""
    dice = Dice(0, "golden")
    assert [dice.below(100) for _ in range(6)] == [50, 56, 42, 9, 63, 49]
    assert sorted(dice.shuffled(range(10))) == list(range(10))
    assert Counter(dice.spread("ab", 5)).most_common()[0][1] == 3
