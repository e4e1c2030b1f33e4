"""Marked parts of texts, entity tags and answer spans: checked, repaired, and found again after cleaning."""

import re
from collections.abc import Callable
from typing import Any

_TAG = re.compile(r"O|[BI]-\S+")

Answers = dict[str, list[Any]]
"""{"text": [str], "answer_start": [int]}, starts in characters of the context, as in SQuAD."""


def check_tags(tokens: list[str], tags: list[str]) -> None:
    """Raise ValueError unless there is one tag a token and each is O, B-<type> or I-<type> (BIO)."""
    if len(tokens) != len(tags):
        raise ValueError(f"tokens has {len(tokens)} entries, tags {len(tags)}")
    for number, tag in enumerate(tags, 1):
        if not _TAG.fullmatch(tag):
            raise ValueError(f"tag {number} of {len(tags)} is {tag!r:.40}, expected O, B-<type> or I-<type>")


def repair_tags(tags: list[str]) -> tuple[list[str], int]:
    """Return tags of which every entity begins with B-, and how many were changed for that.

    An I-X that follows neither B-X nor I-X begins an entity, as conlleval and seqeval read it and as files in the
    older form IOB1 mean it; it becomes B-X.

    >>> repair_tags(["I-PER", "I-PER", "O", "B-LOC", "I-PER"])
    (['B-PER', 'I-PER', 'O', 'B-LOC', 'B-PER'], 2)
    """
    before = ["O", *tags]
    repaired = [
        f"B-{tag[2:]}" if tag.startswith("I-") and previous[2:] != tag[2:] else tag
        for previous, tag in zip(before, tags, strict=False)
    ]
    return repaired, sum(one != other for one, other in zip(repaired, tags, strict=True))


def check_answers(context: str, answers: Answers) -> None:
    """Raise ValueError unless every answer's text is the slice of the context that begins at its start."""
    for text, start in zip(answers["text"], answers["answer_start"], strict=True):
        if start < 0 or context[start : start + len(text)] != text:
            raise ValueError(f"answer {text!r:.80} is not at character {start} of the context")


def find_nearest(text: str, part: str, place: int) -> int:
    """Return where the occurrence of `part` nearest to `place` begins, the earlier of two; -1 if there is none."""
    before = text.rfind(part, 0, max(0, place) + len(part))
    after = text.find(part, max(0, place))
    if -1 in (before, after):
        return max(before, after)
    return before if place - before <= after - place else after


def move_answers(old: str, new: str, answers: Answers, clean: Callable[[str], str]) -> Answers | None:
    """Return the answers, cleaned, at their places in the cleaned context; None if one does not stand there.

    `new` is the context `old` as `clean` left it. Where an answer is expected follows from the length of the
    context up to its end, cleaned alone; the nearest occurrence is taken.
    """
    moved: Answers = {"text": [], "answer_start": []}
    for text, start in zip(answers["text"], answers["answer_start"], strict=True):
        cleaned = clean(text)
        place = start
        if new != old or cleaned != text:
            place = find_nearest(new, cleaned, len(clean(old[: start + len(text)])) - len(cleaned))
        if not cleaned or place < 0:
            return None
        moved["text"].append(cleaned)
        moved["answer_start"].append(place)
    return moved
