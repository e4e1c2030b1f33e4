"""Cleaning, duplicates, contamination and splits, on values worked out by hand and on planted truths."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cleaning import (
    cut_document,
    find_quality_fault,
    measure_repetition,
    normalise,
    scrub_emails,
    scrub_phones,
)
from tasks.contamination import HeldOutIndex
from tasks.corpus import PrepareConfig, prepare_dataset, prepare_datasets
from tasks.duplicates import choose_bands, find_near_duplicates, list_words
from tasks.readers import ingest_sources, read_rows, write_rows
from tasks.sources import DataConfig, Dataset, Source
from tasks.splits import choose_split
from tasks.starter.generate import StarterConfig, build

WORDS = [f"{a}{b}" for a in ("ba", "ko", "lu", "mi", "ne", "ra", "so", "ti") for b in ("del", "fon", "gar", "hus")]


def sentence(seed: int, length: int) -> str:
    return " ".join(random.Random(seed).choices([*WORDS, *(word[::-1] for word in WORDS)], k=length))


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("GrÃ¼ÃŸe", "Grüße"),
        ("“curly” stay", "“curly” stay"),
        (" a  b \r\n\r\n\r\n\r\nc\t\n", "a  b\n\nc"),
        ("bell\x07 rings", "bell rings"),
        ("salt &amp; pepper", "salt & pepper"),
    ],
)
def test_normalise(raw: str, clean: str) -> None:
    assert normalise(raw) == clean


@settings(deadline=None)
@given(st.text())
def test_normalise_twice_changes_no_plain_text(text: str) -> None:
    once = normalise(text)
    assert once == once.strip()
    assert "\n\n\n" not in once


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("the mill stands by the river", None),
        ("see page two", "too_short"),
        ("a b c d e f", "word_length"),  # mean length 1
        ("one two 333 444 555", "few_letters"),  # 2 of 5
        ("one# two# four five seven", "symbols"),  # 2 of 5
        ("- the wooden table by the window\n- the copper kettle on the stove", "bullets"),
        ("one two…\nthree four…\nfive six", "symbols"),
        ("Lorem ipsum dolor sit amet", "placeholder"),
        ("same line here\n" * 3 + "other words", "repetition"),  # 2 of 4 lines
    ],
)
def test_quality_rules(text: str, fault: str | None) -> None:
    assert find_quality_fault(text, 5, 0.8, 0.1, 0.3) == fault


def test_ellipses_at_line_ends() -> None:
    text = "\n".join([sentence(n, 12) + ("…" if n < 2 else "") for n in range(4)])
    assert find_quality_fault(text, 5, 0.8, 0.1, 0.3) == "ellipses"


def test_repetition_is_the_share_of_the_commonest_run() -> None:
    words = ["a", "b", "c", "d", "x", "a", "b", "c", "d", "y"]
    assert measure_repetition(" ".join(words), words) == 0.8  # "a b c d" twice: 8 of 10 words
    assert measure_repetition("a b c d e", ["a", "b", "c", "d", "e"]) == 0.0


def test_long_document_is_cut_at_lines_then_sentences_then_words() -> None:
    assert cut_document("a b c\nd e f g", 4) == ["a b c", "d e f g"]
    assert cut_document("a b. c d e f", 3) == ["a b.", "c d e", "f"]
    assert cut_document("a b c d e", 2) == ["a b", "c d", "e"]
    assert cut_document("a b", 2) == ["a b"]


@given(st.text(alphabet="ab .\n"), st.integers(2, 9))
def test_cutting_keeps_every_word(text: str, most: int) -> None:
    pieces = cut_document(text, most)
    assert " ".join(pieces).split() == text.split()
    assert all(0 < len(piece.split()) <= most for piece in pieces)


def test_scrubbing() -> None:
    assert scrub_emails("Write to j.o+x@mail.example.org. Or @home, a@b.") == (
        "Write to <email>. Or @home, a@b.",
        1,
    )
    assert scrub_phones("Ring +44 20 7946 0123 or (212) 736-5000 in 1839-1930.", "US") == (
        "Ring <phone> or <phone> in 1839-1930.",
        2,
    )


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["a" * 500_000 + "@", "a@" * 250_000, "a@" + "b." * 250_000, "1 " * 20_000])
def test_scrubbing_takes_linear_time(text: str) -> None:
    assert scrub_emails(text)[1] == 0
    assert scrub_phones(text, "US")[1] == 0


def test_bands_miss_one_pair_in_a_thousand() -> None:
    bands, rows = choose_bands(0.8, 64)
    assert (bands, rows) == (16, 4)  # (1 - .8**4)**16 = 2.2e-4, and 12 bands of 5 rows miss 8.5e-3
    assert choose_bands(1.0, 64) == (2, 32), "equal sets meet in every band, and one band alone is no index"


def test_near_duplicates_are_found_and_the_first_stays() -> None:
    base = sentence(0, 40).split()  # 38 shingles
    changed = [*base[:39], "changed"]  # 37 of 39: .949
    twice = ["changed", *base[1:39], "changed"]  # 36 of 39 with `changed`: .923
    half = base[:20] + sentence(1, 20).split()  # 18 of 58
    texts = [" ".join(words) for words in (base, half, changed, twice)]
    assert find_near_duplicates(texts, 0.8, 3, 64, 0) == {2: 0, 3: 0}
    assert find_near_duplicates(texts, 0.95, 3, 64, 0) == {}


def test_cluster_hangs_together_through_a_later_text() -> None:
    words = sentence(3, 30).split()
    texts = [" ".join(words[start : start + 26]) for start in (0, 4, 2)]  # neighbours: 22 of 26, ends: 20 of 28
    assert find_near_duplicates(texts, 0.8, 3, 64, 0) == {1: 0, 2: 0}
    assert find_near_duplicates(texts[:2], 0.8, 3, 64, 0) == {}


def test_contamination_finds_the_planted_overlap_alone() -> None:
    long, short, tiny = sentence(10, 20), sentence(11, 9), sentence(12, 7)
    index = HeldOutIndex(13, 8)
    index.add("task/test", {"id": "long", "text": long})
    index.add("task/test", {"id": "short", "text": short})
    index.add("task/test", {"id": "tiny", "text": tiny})
    index.add(
        "qa/test",
        {
            "id": "q",
            "instruction": "Who bakes bread in the little town of Alma?",
            "input": "",
            "output": "Ada",
        },
    )
    around = sentence(13, 10)
    words = long.split()

    def items(text: str) -> list[str]:
        return [overlap.item for overlap in index.find(text)]

    assert items(f"{around} {' '.join(words[4:17])} {around}") == ["long"]  # 13 words
    assert items(f"{around} {' '.join(words[4:16])} {around}") == []  # 12 words
    assert items(f"{around}, {short.upper()}! {around}") == ["short"]
    assert items(f"{' '.join(short.split()[:8])} {around}") == []
    assert items(tiny) == []
    assert items("Well: who bakes bread in the little town of Alma, pray?") == ["q"]
    assert items("Ada bakes bread in the little town of Alma.") == []
    assert index.unchecked == {"task/test": 1, "qa/test": 0}


def test_adding_rows_moves_no_other_row() -> None:
    def prepare(count: int) -> dict[str, str]:
        rows = [{"id": str(n), "text": sentence(n, 12)} for n in range(count)]
        done, _ = prepare_dataset(PrepareConfig(valid_share=0.2, test_share=0.2), "corpus", "text", {"train": rows})
        return {row["id"]: split for split, part in done.items() for row in part}

    few, many = prepare(150), prepare(300)
    assert few.items() <= many.items()
    assert set(few.values()) == {"train", "valid", "test"}


def test_split_shares_hold() -> None:
    places = [choose_split(str(n), 0.1, 0.2, 0) for n in range(5000)]
    assert abs(places.count("test") / 5000 - 0.2) < 0.02
    assert abs(places.count("valid") / 5000 - 0.1) < 0.015


def test_specialist_rows_are_deduplicated_across_splits() -> None:
    def row(number: int, text: str, label: str) -> dict[str, str]:
        return {"id": str(number), "text": text, "label": label}

    rows = {
        "train": [
            row(1, "A  b", "x"),
            row(2, "a b", "x"),
            row(3, "c", "x"),
            row(4, "d", "y"),
            row(5, "d", "x"),
        ],
        "test": [row(6, "C ", "x")],
    }
    done, counts = prepare_dataset(PrepareConfig(valid_share=0, test_share=0), "t", "classification", rows)
    assert [[row["id"] for row in done[split]] for split in ("train", "valid", "test")] == [
        ["1", "4"],
        [],
        ["6"],
    ]
    assert counts["exact_duplicates"] == 2
    assert counts["cross_split_duplicates"] == 1
    assert counts["label_conflicts"] == 1


def test_unknown_label_in_test_is_named() -> None:
    rows = {
        "train": [{"id": "1", "text": "a", "label": "x"}, {"id": "2", "text": "b", "label": "y"}],
        "test": [{"id": "3", "text": "c", "label": "z"}],
    }
    with pytest.raises(ValueError, match="t: test row 3: label 'z' does not occur in train; expected one of x, y"):
        prepare_dataset(PrepareConfig(valid_share=0), "t", "classification", rows)


def test_corpus_bytes_do_not_depend_on_a_specialist_without_overlap(tmp_path: Path) -> None:
    source = Source(kind="files", paths=["unused.jsonl"])
    write_rows(tmp_path / "in/corpus/train.jsonl", [{"id": str(n), "text": sentence(n, 15)} for n in range(60)])
    items = [{"id": f"t{n}", "text": sentence(1000 + n, 15), "label": "xy"[n % 2]} for n in range(40)]
    items[0]["text"] = f"Copied: {sentence(3, 15)}"
    write_rows(tmp_path / "in/clean/train.jsonl", items[1:])
    write_rows(tmp_path / "in/leaky/test.jsonl", items[:1])
    write_rows(tmp_path / "in/leaky/train.jsonl", items[1:])
    sets = {"corpus": Dataset(kind="text", train=[source])}

    def run(name: str, **more: Dataset) -> tuple[bytes, dict[str, Any]]:
        metrics = prepare_datasets(
            PrepareConfig(), DataConfig(datasets={**sets, **more}), tmp_path / "in", tmp_path / name
        )
        return (tmp_path / name / "corpus/train.jsonl").read_bytes(), metrics

    task = Dataset(kind="classification", train=[source])
    alone, _ = run("alone")
    assert run("clean", clean=task)[0] == alone
    leaky, metrics = run("leaky", leaky=task)
    assert len(leaky.splitlines()) == len(alone.splitlines()) - 1
    assert metrics["contamination"]["leaky/test"] == {
        "items": 1,
        "unchecked": 0,
        "overlapping": 1,
        "documents_removed": 1,
    }
    report = json.loads((tmp_path / "leaky/contamination.json").read_text())
    assert report["leaky/test"]["removed"] == [
        {"dataset": "corpus", "document": "3", "item": "t0", "ngram": " ".join(list_words(sentence(3, 15))[:13])}
    ]


def test_the_text_of_a_domain_is_kept_clear_of_held_out_items_too(tmp_path: Path) -> None:
    source = Source(kind="files", paths=["unused.jsonl"])
    kinds = {"corpus": "text", "mail": "text", "task": "classification"}
    rows = {
        ("corpus", "train"): [{"id": "c1", "text": sentence(1, 15)}, {"id": "c2", "text": sentence(2, 15)}],
        ("mail", "train"): [{"id": f"m{n}", "text": sentence(n, 15)} for n in (2, 3, 4, 5)],
        ("task", "train"): [{"id": "a", "text": sentence(20, 15), "label": "x"}],
    }
    for number, split in ((4, "valid"), (5, "test")):
        rows["corpus", split] = rows["mail", split] = [{"id": f"h{number}", "text": sentence(number + 20, 15)}]
        rows["task", split] = [{"id": f"t{number}", "text": f"Said: {sentence(number, 15)}", "label": "x"}]
    rows["task", "train"].append({"id": "b", "text": sentence(21, 15), "label": "y"})
    rows["mail", "train"].append({"id": "own", "text": f"{sentence(40, 15)} {sentence(24, 15)}"})
    for (name, split), found in rows.items():
        write_rows(tmp_path / f"in/{name}/{split}.jsonl", found)
    data = DataConfig(datasets={name: Dataset(kind=kind, train=[source]) for name, kind in kinds.items()})
    metrics = prepare_datasets(PrepareConfig(), data, tmp_path / "in", tmp_path / "out")
    left = {
        name: [[row["id"] for row in read_rows(tmp_path / f"out/{name}/{split}.jsonl")] for split in rows_of]
        for name, rows_of in (("corpus", ("train", "valid", "test")), ("mail", ("train", "valid", "test")))
    }
    # The same valid and test stand in both texts, and remain.
    assert left == {"corpus": [["c1", "c2"], ["h4"], ["h5"]], "mail": [["m2", "m3"], ["h4"], ["h5"]]}
    assert metrics["datasets"]["mail"]["contaminated"] == 3
    assert metrics["contamination"]["task/test"]["documents_removed"] == 1

    write_rows(tmp_path / "in/task/test.jsonl", [{"id": "t", "text": sentence(24, 15), "label": "x"}])
    with pytest.raises(ValueError, match=r"corpus: no document of valid is left; 1 documents overlapped"):
        prepare_datasets(PrepareConfig(), data, tmp_path / "in", tmp_path / "out")
    # A domain's held-out text may be the specialist's own: no weights learn from it.
    write_rows(tmp_path / "in/corpus/valid.jsonl", [{"id": "h6", "text": sentence(50, 15)}])
    prepare_datasets(PrepareConfig(), data, tmp_path / "in", tmp_path / "out")
    assert [row["id"] for row in read_rows(tmp_path / "out/mail/valid.jsonl")] == ["h4"]


def test_counts_on_the_starter_equal_what_was_planted(tmp_path: Path) -> None:
    starter = StarterConfig(people=16, mentions=20, notices=50)
    truths = build(starter).truths
    tables = {
        "corpus": "text",
        "reviews": "classification",
        "helpdesk": "classification",
        "questions": "instruction",
        "entities": "token_classification",
        "answers": "question_answering",
        "preferences": "preference",
    }
    data = DataConfig(
        starter=starter,
        datasets={
            name: Dataset.model_validate({"kind": kind, "train": [{"kind": "starter", "table": name}]})
            for name, kind in tables.items()
        },
    )
    ingested = ingest_sources(data, tmp_path / "data")
    assert all(split["bad"] == 0 for splits in ingested.values() for split in splits.values())
    assert all(split["repaired_tags"] == 0 for split in ingested["entities"].values())
    metrics = prepare_datasets(PrepareConfig(), data, tmp_path / "data", tmp_path / "out")
    counts = metrics["datasets"]["corpus"]
    assert counts["exact_duplicates"] == len(truths["exact_duplicates"])
    assert counts["near_duplicates"] == len(truths["near_duplicates"])
    assert counts["emails"] == len(truths["emails"])
    assert counts["phones"] == len(truths["phones"])
    assert counts["contaminated"] == len(truths["leaks"])
    assert sum(count for name, count in counts.items() if name.startswith("dropped_")) == len(truths["noise"])
    held_out = {f"{split}" for split in ("valid", "test")}
    assert all(metrics["contamination"][f"corpus/{split}"]["overlapping"] == 0 for split in held_out)
    assert len(list(read_rows(tmp_path / "out/corpus/test.jsonl"))) > 0
    kept = {name: counts["rows_out"] for name, counts in metrics["datasets"].items()}
    assert kept["entities"] == {"train": 600, "valid": 100, "test": 300}
    assert kept["answers"] == {"train": 400, "valid": 80, "test": 200}
    assert kept["preferences"] == {"train": 763, "valid": 89, "test": 200}
    assert metrics["datasets"]["preferences"]["cross_split_duplicates"] == 148
    for name in ("entities", "answers", "preferences"):
        assert all(metrics["contamination"][f"{name}/{split}"]["overlapping"] == 0 for split in held_out)
