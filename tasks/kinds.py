"""What a row of each kind means to `prepare`: which texts are cleaned, what makes rows equal, what must not leak."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from tasks.duplicates import digest_content
from tasks.sources import FIELDS, LABELLED
from tasks.spans import move_answers

Row = dict[str, Any]
Rows = dict[str, list[Row]]
Clean = Callable[[str, Counter[str]], str]
"""Text and the counts that its cleaning adds to, to clean text."""


class Digests(NamedTuple):
    """Contents of a row by which it is compared with others; equal contents have equal digests."""

    whole: str
    """Rows of one split with the same are repeats."""
    asked: str
    """A row with the same in an earlier split is a leak: what the model is given, without what it is to give."""
    group: str
    """Rows with the same stay in one split where splits are cut."""


def digest_row(row: Row) -> Digests:
    """Return a row's digests.

    What is asked is the text, the tokens, the question with its context, the instruction with its input, or the
    prompt; the whole adds the output, or both answers of a preference. Questions on one context are one group,
    and so are dialogues (HH-RLHF) that begin with the same turn, since the answers of one stand in the next.
    """
    asked = whole = group = ask_of(row)
    if "answers" in row:
        group = row["context"]
    elif "instruction" in row:
        whole = f"{asked}\n{row['output']}"
    elif "prompt" in row:
        whole = f"{asked}\n{row['chosen']}\n{row['rejected']}"
        group = asked.partition("\n\nAssistant:")[0]
    return Digests(digest_content(whole), digest_content(asked), digest_content(group))


def ask_of(row: Row) -> str:
    """Return what the model is given of a row, without what it is to give."""
    if "tokens" in row:
        return " ".join(row["tokens"])
    if "answers" in row:
        return f"{row['question']}\n{row['context']}"
    if "instruction" in row:
        return f"{row['instruction']}\n{row['input']}"
    return str(row["prompt"] if "prompt" in row else row["text"])


def list_passages(row: Row) -> list[str]:
    """Return the texts of a held-out row that must not stand in pretraining text.

    A text or a sentence of tokens counts as it is. An instruction row counts by its question and by its question
    with the answer; an answer alone may stand in the pretraining text, since that is where knowledge comes from.
    A question with a context counts by either, for to have read the context before is an advantage; a preference
    by its prompt and by its prompt with each of the answers.
    """
    if "tokens" in row:
        return [" ".join(row["tokens"])]
    if "answers" in row:
        return [row["context"], row["question"]]
    if "instruction" in row:
        question = f"{row['instruction']} {row['input']}"
        return [question, f"{question} {row['output']}"]
    if "prompt" in row:
        return [row["prompt"], f"{row['prompt']} {row['chosen']}", f"{row['prompt']} {row['rejected']}"]
    return [row["text"]]


def clean_row(kind: str, row: Row, clean: Clean, counts: Counter[str]) -> Row | None:
    """Return the row with its texts cleaned, or None, and why counted, if what is left is no row of its kind.

    Tokens are cleaned one by one and stay as many: one that would vanish is kept as it was, and an address or a
    number that was cut into several tokens is not found. Answers are looked up again in the cleaned context
    (`tasks.spans.move_answers`); a question that loses an answer goes. So does a pair whose answers are now equal.
    """
    done = dict(row)
    for field, holds in FIELDS[kind].items():
        if field == "tokens":
            done[field] = [clean(token, counts) or token for token in row[field]]
        elif holds in ("text", "optional") and field != "label":
            done[field] = clean(row[field], counts)
            if holds == "text" and not done[field]:
                counts["dropped_empty"] += 1
                return None
    if kind == "question_answering":
        answers = move_answers(row["context"], done["context"], row["answers"], lambda text: clean(text, Counter()))
        if answers is None:
            counts["dropped_span_lost"] += 1
            return None
        done["answers"] = answers
    if kind == "preference" and done["chosen"] == done["rejected"]:
        counts["dropped_equal_pair"] += 1
        return None
    return done


def check_labels(name: str, kind: str, rows: Rows) -> None:
    """Raise ValueError if a label, or a type of tag, of valid or test never occurs in train, or train has too few.

    Train needs two labels (kind classification), or one type of tag beside O (kind token_classification).
    """
    if kind not in LABELLED:
        return
    what, least, expected = (
        ("label", 2, "at least two labels")
        if kind == "classification"
        else ("tag type", 1, "at least one type of tag beside O")
    )
    known = sorted(set().union(*(_labels(row) for row in rows["train"])))
    if len(known) < least:
        raise ValueError(f"{name}: {what}: expected {expected} in train, got {', '.join(known) or 'none'}")
    for split in ("valid", "test"):
        for row in rows[split]:
            for label in sorted(_labels(row) - set(known)):
                raise ValueError(
                    f"{name}: {split} row {row['id']}: {what} {label!r} does not occur in train; "
                    f"expected one of {', '.join(known)}"
                )


def _labels(row: Row) -> set[str]:
    """Return a row's label, or the types of its tags."""
    return {tag[2:] for tag in row["tags"] if tag != "O"} if "tags" in row else {row["label"]}
