"""From ingested rows to clean, distinct, split ones, without held-out items in the pretraining text."""

import json
from collections import Counter
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from models.config import Config
from tasks.audits.lexicon import load_lexicon
from tasks.cleaning import cut_document, find_quality_fault, normalise, scrub_emails, scrub_phones
from tasks.contamination import HeldOutIndex, remove_contamination
from tasks.duplicates import find_near_duplicates
from tasks.kinds import Row, Rows, check_labels, clean_row, digest_row
from tasks.mitigation_text import TextMitigationConfig, mitigate_documents
from tasks.readers import read_rows, write_rows
from tasks.sources import SPLITS, DataConfig
from tasks.splits import choose_split

CONTAMINATION = "contamination.json"
DROPPED = {"question_answering": "dropped_span_lost", "preference": "dropped_equal_pair"}
"""What cleaning may cost rows of a kind, counted even where it costs none."""
HELD_OUT_FIRST = ("test", "valid", "train")


class PrepareConfig(Config):
    """How raw rows become training text; quality and near-duplicate rules apply to kind text alone."""

    min_words: int = Field(default=5, ge=1)
    """A shorter document is dropped."""

    max_words: int = Field(default=2000, ge=20)
    """A longer document is cut into pieces at line or sentence ends."""

    min_letter_share: float = Field(default=0.8, ge=0, le=1)
    """The share of a document's words that must hold a letter."""

    max_symbol_share: float = Field(default=0.1, ge=0)
    """At most this many "#" and ellipses a word."""

    max_repetition: float = Field(default=0.3, ge=0, le=1)
    """The share of repeated lines, or of the most common run of 4 words, that a document may have."""

    near_duplicate_threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of word shingles from which two documents count as one; 1 finds equal sets only."""

    shingle_words: int = Field(default=3, ge=1, le=20)
    """Words in a shingle."""

    permutations: int = Field(default=64, ge=16, le=1024)
    """Hash functions of a MinHash sketch."""

    scrub: bool = True
    """Replace e-mail addresses by <email> and phone numbers by <phone>, in every data set."""

    phone_region: str = Field(default="US", pattern="^[A-Z]{2}$")
    """The country whose national phone numbers are known; those with a leading + are found anyway."""

    valid_share: float = Field(default=0.05, ge=0, lt=1)
    """The share of train that becomes valid where no source declares one."""

    test_share: float = Field(default=0.05, ge=0, lt=1)
    """The share of train that becomes test where no source declares one."""

    contamination_ngram: int = Field(default=13, ge=2, le=50)
    """Words in a row that a held-out item and a pretraining document must share to count as overlapping."""

    contamination_min_words: int = Field(default=8, ge=2, le=50)
    """Held-out items shorter than the n-gram are looked up whole from this many words on."""

    mitigation: TextMitigationConfig = TextMitigationConfig()
    """What is done to the text that a foundation learns from (kind text) about who stands beside which words."""

    seed: int = Field(default=0, ge=0)
    """Seed of the split, of the sketches, and of which documents are swapped."""

    @model_validator(mode="after")
    def _shares_leave_a_rest(self) -> Self:
        if self.valid_share + self.test_share >= 1:
            raise ValueError(f"valid_share: {self.valid_share:g} and test_share {self.test_share:g} leave no train")
        return self


def load_splits(source: Path, name: str) -> Rows:
    """Return a data set's ingested rows by declared split; ValueError when there is none."""
    paths = {split: source / name / f"{split}.jsonl" for split in SPLITS}
    rows = {split: list(read_rows(path)) for split, path in paths.items() if path.is_file()}
    if "train" not in rows:
        raise ValueError(f"{source / name / 'train.jsonl'}: no such file; run ingest first")
    return rows


def clean_text(config: PrepareConfig, text: str, counts: Counter[str]) -> str:
    """Return the text normalised and scrubbed; what was scrubbed is counted."""
    text = normalise(text)
    if config.scrub:
        text, emails = scrub_emails(text)
        text, phones = scrub_phones(text, config.phone_region)
        counts["emails"] += emails
        counts["phones"] += phones
    return text


def list_pieces(config: PrepareConfig, row: Row, counts: Counter[str]) -> list[Row]:
    """Return a text row cut to `max_words`, without the pieces that break a quality rule (counted)."""
    texts = cut_document(row["text"], config.max_words)
    counts["cut_documents"] += len(texts) > 1
    pieces = []
    for number, text in enumerate(texts, 1):
        fault = find_quality_fault(
            text, config.min_words, config.min_letter_share, config.max_symbol_share, config.max_repetition
        )
        if fault:
            counts[f"dropped_{fault}"] += 1
        else:
            pieces.append({**row, "id": row["id"] if len(texts) == 1 else f"{row['id']}/{number}", "text": text})
    return pieces


def drop_exact_duplicates(rows: Rows, counts: Counter[str]) -> Rows:
    """Return the rows without repeats: the first of a split stays, and test before valid before train.

    A row repeats another of its split if the whole is equal, one of an earlier split if what is asked is (see
    `tasks.kinds.digest_row`). A repeat with a different label, different tags or different answers is counted as a
    label conflict as well.
    """
    kept: Rows = {}
    held_out: set[str] = set()
    for split in HELD_OUT_FIRST:
        if split not in rows:
            continue
        labels: dict[str, Any] = {}
        asked: set[str] = set()
        kept[split] = []
        for row in rows[split]:
            digests = digest_row(row)
            label = row.get("label", row.get("tags", row.get("answers")))
            if digests.asked in held_out:
                counts["cross_split_duplicates"] += 1
            elif digests.whole in labels:
                counts["exact_duplicates"] += 1
                counts["label_conflicts"] += labels[digests.whole] != label
            else:
                labels[digests.whole] = label
                asked.add(digests.asked)
                kept[split].append(row)
        held_out |= asked
    return kept


def drop_near_duplicates(config: PrepareConfig, rows: Rows, declared: Collection[str], counts: Counter[str]) -> Rows:
    """Return text rows, split already, of which no two, in whatever split, are near duplicates.

    Of a pair that lies across splits the one stays that a source declares as test or valid; else the one in train.
    So a later row that is cut for test never takes the place of one like it that a model has learned from.
    """
    cut = [split for split in ("valid", "test") if split not in declared]
    order = [split for split in HELD_OUT_FIRST if split not in cut] + cut
    flat = [(split, row) for split in order for row in rows[split]]
    dropped = find_near_duplicates(
        [row["text"] for _, row in flat],
        config.near_duplicate_threshold,
        config.shingle_words,
        config.permutations,
        config.seed,
    )
    counts["near_duplicates"] += len(dropped)
    kept = [place for number, place in enumerate(flat) if number not in dropped]
    return {split: [row for place, row in kept if place == split] for split in SPLITS}


def split_rows(config: PrepareConfig, rows: Rows, origins: dict[str, str]) -> Rows:
    """Return all three splits: declared ones as they are, the others cut from train by content digest.

    `origins` holds the digest of the uncut document by row id, so that pieces of one document stay together; of a
    question that of its context, so that no context stands on two sides.
    """
    valid_share = 0.0 if "valid" in rows else config.valid_share
    test_share = 0.0 if "test" in rows else config.test_share
    split: Rows = {name: list(rows.get(name, [])) if name != "train" else [] for name in SPLITS}
    for row in rows["train"]:
        split[choose_split(origins[row["id"]], valid_share, test_share, config.seed)].append(row)
    return split


def prepare_dataset(config: PrepareConfig, name: str, kind: str, rows: Rows) -> tuple[Rows, dict[str, int]]:
    """Return one data set's clean rows in three splits, and the counts of what happened to the others.

    Order: normalise and scrub, cut and filter (kind text), exact duplicates, split, near duplicates (kind
    text). Raises ValueError if no training row is left or a held-out label or tag type never occurs in train.
    """
    counts: Counter[str] = Counter(rows_in=sum(map(len, rows.values())))
    for key in ("emails", "phones", "exact_duplicates", "cross_split_duplicates", "dropped_empty"):
        counts[key] = 0
    if kind in DROPPED:
        counts[DROPPED[kind]] = 0
    clean: Rows = {split: [] for split in rows}
    origins: dict[str, str] = {}
    for split in rows:
        for row in rows[split]:
            whole = clean_row(kind, row, partial(clean_text, config), counts)
            if whole is None:
                continue
            pieces = list_pieces(config, whole, counts) if kind == "text" else [whole]
            origins.update(dict.fromkeys((p["id"] for p in pieces), digest_row(whole).group))
            clean[split] += pieces
    clean = drop_exact_duplicates(clean, counts)
    done = split_rows(config, clean, origins)
    if kind == "text":
        counts["near_duplicates"] = 0
        done = drop_near_duplicates(config, done, clean.keys(), counts)
    if not done["train"]:
        raise ValueError(f"{name}: no row of train is left of {counts['rows_in']}: {dict(counts)}")
    check_labels(name, kind, done)
    return done, dict(counts)


def prepare_datasets(
    config: PrepareConfig, data: DataConfig, source: Path, out: Path, lexicon: Path | None = None
) -> dict[str, Any]:
    """Clean and split every ingested data set of `source` into `out/<data set>/{train,valid,test}.jsonl`.

    Also writes `out/contamination.json`: every document to pretrain on removed for a held-out item, by ids.
    Returns {"datasets": {name: counts}, "contamination": {"<data set>/<split>": counts}}. The corpus' files
    depend on other data sets only through documents that overlap with their held-out items. `lexicon` is a file of
    further identity words for the mitigation. Raises ValueError as `prepare_dataset`, and where it has nothing to swap.
    """
    datasets: dict[str, Rows] = {}
    counts: dict[str, dict[str, Any]] = {}
    for name, dataset in data.datasets.items():
        datasets[name], counts[name] = prepare_dataset(config, name, dataset.kind, load_splits(source, name))
    texts = {name for name, dataset in data.datasets.items() if dataset.kind == "text"}
    before = {name: sum(map(len, datasets[name].values())) for name in texts}
    index = HeldOutIndex(config.contamination_ngram, config.contamination_min_words)
    report = remove_contamination(index, datasets, texts)
    for name in sorted(texts):
        counts[name]["contaminated"] = before[name] - sum(map(len, datasets[name].values()))
        for split, rows_left in datasets[name].items():
            if not rows_left:
                why = f"{counts[name]['contaminated']} documents overlapped with a held-out item"
                raise ValueError(f"{name}: no document of {split} is left; {why}")
    if config.mitigation.method != "none":
        words = load_lexicon(lexicon)
        for name in sorted(texts):
            written = datasets[name]["train"]
            datasets[name]["train"], done = mitigate_documents(name, written, index, words, config.seed)
            counts[name] |= done
    for name, rows in datasets.items():
        for split in SPLITS:
            write_rows(out / name / f"{split}.jsonl", rows[split])
        counts[name]["rows_out"] = {split: len(rows[split]) for split in SPLITS}
    text = json.dumps(report, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    (out / CONTAMINATION).write_text(text, encoding="utf-8")
    for entry in report.values():
        del entry["removed"]
    return {"datasets": counts, "contamination": report}
