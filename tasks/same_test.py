"""Two registered versions on one test set: as they were assessed, or assessed again where that is needed."""

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from tasks import registry
from tasks.assess import assess_again
from tasks.readers import read_rows
from tasks.receipts import Part
from tasks.recipe import FOUNDATION, PretrainConfig, Recipe, SpecialistConfig
from tasks.registered import Assessed, Registered

Row = dict[str, Any]
Pair = tuple[Registered, Registered]
Both = tuple[Assessed, Assessed]

TRUTH: dict[str, Callable[[Row], Any]] = {
    "classification": lambda row: row["label"],
    "token_classification": lambda row: row["tags"],
    "question_answering": lambda row: row["answers"]["text"],
    "instruction": lambda row: row["output"],
}
"""Kind -> the true answer of a row."""


def on_one_test(pair: Pair, again: bool) -> tuple[Both, list[str], bool]:
    """Return both assessments on one test set, what is to be said of it, and whether they can be compared."""
    first, second = pair
    one, other = first.assessed(), second.assessed()
    if one.labels and other.labels and not {*one.labels} & {*other.labels}:
        raise ValueError(
            f"{first.name}/{first.version} answers with {', '.join(one.labels[:4])}, {second.name}/{second.version} "
            f"with {', '.join(other.labels[:4])}: they cannot be compared"
        )
    same = first.evidence.test_digest == second.evidence.test_digest or (
        first.model == second.model == FOUNDATION and agree(pair, "corpus_digest")
    )
    notes: list[str] = []
    homes = (first, second) if same else (first,)
    home, data = next(((one, data) for one in homes if again and (data := one.held_out())), (first, None))
    done = []
    for version, own, letter in ((first, one, "A"), (second, other, "B")):
        wanted = not own.terms or (version is second and not same)
        new = _again(version, home, data) if wanted and data is not None else None
        if new is not None:
            why = "no items were kept of its assessment" if same or letter == "A" else "it was asked another test set"
            notes.append(f"{letter} was assessed again on the test set of A, since {why}.")
        done.append(new or own)
    same = same or done[1].again
    if not same:
        where = "" if again else ", and nothing is assessed again here"
        notes.append(
            "The scores were measured on different test sets"
            f"{where or ', and the data or the recipe of that of A is not at hand'}: no difference is given."
        )
    elif not all(own.terms for own in done):
        bare = " and ".join(letter for letter, own in zip("AB", done, strict=True) if not own.terms)
        why = "the test set or the recipe is not at hand" if again else "nothing is assessed again here"
        notes.append(f"No items were kept of the assessment of {bare}, and {why}: no difference is given.")
    elif not same_items(pair, (done[0], done[1])):
        cut = "They read the text in other windows" if first.model == FOUNDATION else "Not every row fits into both"
        notes.append(f"{cut}: the items were drawn apart for each, which is wider than in pairs.")
    return (done[0], done[1]), notes, same and all(own.terms for own in done)


def agree(pair: Pair, field: str) -> bool:
    return pair[0].lineage.get(field) == pair[1].lineage.get(field)


def _again(version: Registered, asked: Registered, data: Part) -> Assessed | None:
    """Assess a version on the test set of another by the code of its kind; None without a recipe that is still read."""
    recipe = _asked_by(asked)
    if recipe is None:
        return None
    contenders = {"model": registry.model_directory(version.name, version.version)}
    if asked.model != FOUNDATION and not recipe.has_control(asked.model):
        start = registry.start_of(version.name, version.version)
        contenders |= {"before": start} if start else {}
    if "reward" in asked.lineage:
        contenders["reward"] = registry.model_directory(asked.lineage["reward"], asked.lineage["reward_version"])
    found = assess_again(recipe, asked.model, contenders, data)
    rows = list(read_rows(data.directory / "test.jsonl")) if found.answers else []
    return Assessed(
        scores={name: score.model_dump(mode="json") for name, score in found.scores.items()},
        terms=found.terms(),
        answers={
            row["id"]: {**row, "truth": TRUTH[version.evidence.kind](row), "model": answer}
            for row, answer in zip(rows, found.answers, strict=True)
        },
        labels=found.labels,
        again=True,
    )


def _asked_by(version: Registered) -> Recipe | None:
    """Return what of a version's recipe says how it was asked; None where that was not kept, or is no longer read.

    Its data section is left out: a source is checked for what its user wrote, which a resolved one no longer tells.
    """
    kept = version.recipe or {}
    try:
        return Recipe.model_construct(
            pretrain=PretrainConfig.model_validate(kept["pretrain"]),
            specialists={name: SpecialistConfig.model_validate(own) for name, own in kept["specialists"].items()},
        )
    except (KeyError, ValidationError):
        return None


def same_items(pair: Pair, both: Both) -> bool:
    """Return whether both were asked the very same items, in one order."""
    one, other = both
    if pair[0].model == FOUNDATION:
        counts = [{name: len(own.units()[0]) for name, own in assessed.terms.items()} for assessed in both]
        return agree(pair, "tokenizer_digest") and counts[0] == counts[1]
    if one.answers and other.answers:
        return list(one.answers) == list(other.answers)
    # Which rows did not fit into a context is not known here, so there may be none.
    return all(own.scores.get("scored_share", {"value": 1.0})["value"] == 1.0 for own in both)
