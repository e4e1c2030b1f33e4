"""What the present champion shows on a candidate's test set: as recorded, or assessed again."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks import registry
from tasks.assess import ITEMS, assess_again
from tasks.console import log
from tasks.evidence import Evidence
from tasks.lineage import Lineage
from tasks.paired import Terms, read_items
from tasks.readers import read_rows
from tasks.receipts import Receipt, Result
from tasks.recipe import FOUNDATION, Recipe
from tasks.training_profile import asked_hash, is_among, kept_profile, together


def champion_evidence(
    recipe: Recipe,
    model: str,
    prepared: Receipt,
    candidate: Evidence,
    standing: tuple[str, dict[str, Any]],
    result: Result,
    compared: Iterable[str],
) -> tuple[Evidence, Mapping[str, Terms]]:
    """Return the champion's evidence on the candidate's test split, and its scores item by item.

    It is assessed again where it was measured on another test split, where its items were not kept (a version from
    before they were), or where a score that is to be compared was not measured. The champion of a model tuned on pairs
    stands against the version that it itself started from; the candidate's reward model judges both.

    Args:
        standing: the champion's version and the evidence it was promoted on.
        compared: names of the scores that are to be compared.
    """
    version, recorded = standing
    champion = Evidence.model_validate(recorded)
    if champion.test_digest == candidate.test_digest and all(
        score in champion.metrics for score in compared if score in candidate.metrics
    ):
        items = registry.assessed_file(candidate.model, version, ITEMS)
        if items is not None:
            return champion, read_items(items)["model"]
    log.info("%-24s assesses the champion, version %s, again", f"promote/{model}", version)
    data = "corpus" if model == FOUNDATION else recipe.specialists[model].data
    contenders = {"model": registry.model_directory(candidate.model, version)}
    start = None if model == FOUNDATION or recipe.has_control(model) else registry.start_of(candidate.model, version)
    if start is not None:
        contenders["before"] = start
    if result.reward is not None:
        contenders["reward"] = result.reward.trained.part("model").directory
    scores = assess_again(recipe, model, contenders, prepared.part(data))
    # What the guard step measured was of the recorded split.
    kept = champion.metrics if champion.test_digest == candidate.test_digest else {}
    seen = _seen_rows(candidate.model, version, prepared.part(data).directory / "test.jsonl")
    update = {"metrics": {**kept, **scores.flat()}, "test_digest": candidate.test_digest, "seen_rows": seen}
    return champion.model_copy(update=update), scores.terms()


def _seen_rows(name: str, version: str, test: Path) -> int:
    """Return how many rows of a test split a version learned from, as far as it kept what it learned from.

    `prepare` never moves a row from train to test while the sources grow; a source that declares another test split,
    or another seed of the split, does.
    """
    lineage = Lineage(registry.versions())
    chain = lineage.trainings(lineage.versions[f"{name}/{version}"])
    known = [kept_profile(each.run_id, each.carried.get("own_data_digest", "")) for each in chain]
    profiles = [profile for profile in known if profile is not None]
    hashes = [asked_hash(row) for row in read_rows(test)]
    return int(is_among(hashes, together(profiles).learnt).sum()) if profiles else 0
