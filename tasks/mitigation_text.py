"""Mitigation of the text that a foundation learns from: two-sided counterfactual data augmentation of its documents.

As `tasks.mitigation` does it with rows: a seeded half of the training documents that hold identity words is replaced
by its swap, whole documents, none added, so that an occupation stands beside him as often as beside her. Held-out
splits stay as they were written: they say how well the model knows the text that there is. What it costs: half of the
mentions of a person are told of another name and sex, so a foundation knows less of who is who.
"""

from typing import Any, Literal

from models.config import Config
from tasks.audits.lexicon import Lexicon
from tasks.contamination import HeldOutIndex
from tasks.kinds import Row
from tasks.mitigation import NothingToMitigateError, mitigate_rows


class TextMitigationConfig(Config):
    """How the text is kept from what identity words have to do with the words around them."""

    method: Literal["none", "cda"] = "none"
    """cda: half of the training documents that hold identity words have them swapped; held-out text stays as it is."""


def mitigate_documents(
    name: str, rows: list[Row], held_out: HeldOutIndex, lexicon: Lexicon, seed: int
) -> tuple[list[Row], dict[str, int]]:
    """Return as many documents {id, text} in the same order, and counts: with_identity_words, swapped, swaps_left_out.

    A swap that overlaps with a held-out item, which the document as written does not, is left out: the document stays
    as written. Each document's draw depends on its id and the seed alone.

    Raises NothingToMitigateError where no document of the data set `name` holds an identity word.
    """
    try:
        mitigated, counts = mitigate_rows("cda", rows, lexicon, seed)
    except NothingToMitigateError as error:
        raise NothingToMitigateError(f"prepare.mitigation.method: {name}: {error}") from None
    leaks = [swap is not row and bool(held_out.find(swap["text"])) for row, swap in zip(rows, mitigated, strict=True)]
    kept = [row if leak else swap for row, swap, leak in zip(rows, mitigated, leaks, strict=True)]
    done: dict[str, Any] = {
        "with_identity_words": counts["with_identity_words"],
        "swapped": counts["swapped"] - sum(leaks),
        "swaps_left_out": sum(leaks),
    }
    return kept, done
