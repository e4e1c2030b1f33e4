"""What lies in the sources now against what the champions were trained on: text, labels, words, tokens.

Everything is held against the version whose training made the weights: a foundation that was registered again as it
is (`pretrain.base`) learned nothing from the text that it was assessed on then. Rows, words and labels come from the
profile that a version keeps (`tasks.training_profile`), so the text that it learned from need not be there any more.
"""

import json
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from prefect import task

from tasks import registry, tracking
from tasks.assess import ITEMS
from tasks.console import log
from tasks.drift_measures import cost_moved, fit_lost, labels_moved, words_moved
from tasks.kinds import Row
from tasks.lineage import Lineage, Version
from tasks.paired import Terms, read_items, terms
from tasks.readers import read_rows
from tasks.receipts import RECEIPT, Part, Receipt, run_step
from tasks.recipe import FOUNDATION, Recipe
from tasks.retraining import Measured, Standing
from tasks.sources import SPLITS
from tasks.training_profile import (
    PROFILE,
    Profile,
    is_among,
    kept_profile,
    learnt_data,
    make_profile,
    row_hash,
    together,
    unknown_words,
    write_profile,
)
from tasks.workspace import step_directory, text_digest

MEASURED = "measured.json"
SCORED = 1000
"""New documents that are scored at most, a seeded choice: their interval is a few per cent wide, and more of them
change no decision."""
COST = {"causal_lm": "bits_per_byte", "masked_lm": "masked_nats"}
"""What a foundation pays for a text, by its objective; less is better."""


@task
def drift(recipe: Recipe, prepared: Receipt) -> Receipt:
    """Measure how far the prepared rows of now moved from those of the champions, into `measured.json`."""
    lineage = Lineage(registry.versions())
    versions = {model: _reference(lineage, recipe, model) for model in recipe.models()}
    config = {
        "objective": recipe.objective(FOUNDATION),
        "data": {model: learnt_data(recipe, model) for model in recipe.models()},
        "own_tokenizer": not recipe.pretrain.base,
        "trained": recipe.pretrain.train is not None,
        "seed": recipe.seed,
    }

    def compute(out: Path, key: str) -> dict[str, Any]:
        measured = _measure(recipe, prepared, lineage, versions)
        (out / MEASURED).write_text(measured.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return {"version": measured.version, "new_rows": measured.new_rows}

    parents = [prepared.part(), *(_part(lineage, recipe, model, version) for model, version in versions.items())]
    return run_step(recipe.name, "drift", config=config, parents=parents, compute=compute)


def read_measured(drifted: Receipt) -> Measured:
    """Return what the step measured."""
    return Measured.model_validate_json((drifted.directory / MEASURED).read_bytes())


def remember(recipe: Recipe) -> None:
    """Keep a profile with the present champions that have none, while the rows that they learned from are there.

    Versions from before profiles were kept have none. Called before new sources are read: the prepared rows are
    replaced then.
    """
    path = step_directory(recipe.name, "prepare") / RECEIPT
    lineage = Lineage(registry.versions())
    for model in recipe.models():
        version = _reference(lineage, recipe, model)
        if version is None or _profile(version) is not None or not path.is_file():
            continue
        prepared = Receipt.model_validate_json(path.read_bytes())
        names, carried = learnt_data(recipe, model), version.carried
        digests = {carried.get("own_data_digest"), carried.get("domain_data_digest")} - {None}
        if {_digest(prepared, name) for name in names} != digests:
            continue
        learnt = [prepared.directory / name for name in names]
        profile = make_profile(learnt, _bytes_per_token(recipe, model, version))
        kept = registry.evidence_name(PROFILE, carried["own_data_digest"])
        with TemporaryDirectory() as directory:
            tracking.keep(version.run_id, write_profile(profile, Path(directory) / PROFILE), kept)
        log.info("%-24s keeps digests of what it learned from", version.reference)


def _digest(prepared: Receipt, data: str) -> str | None:
    there = any(name.startswith(f"{data}/") for name in prepared.files)
    return prepared.part(data).digest if there else None


def _bytes_per_token(recipe: Recipe, model: str, version: Version) -> float | None:
    path = step_directory(recipe.name, "tokenizer") / RECEIPT
    if model != FOUNDATION or not path.is_file():
        return None
    encoded = Receipt.model_validate_json(path.read_bytes())
    same = encoded.part("hf").digest == version.carried.get("tokenizer_digest")
    return float(encoded.metrics["held_out_bytes_per_token"]) if same else None


def _reference(lineage: Lineage, recipe: Recipe, model: str) -> Version | None:
    """Return the champion of a model, of a specialist without one its newest version."""
    own = [version for version in lineage.versions.values() if version.name == recipe.registered_name(model)]
    champion = next((version for version in own if "champion" in version.aliases), None)
    if champion is not None or model == FOUNDATION:
        return champion
    return max(own, key=lambda version: version.created, default=None)


def _profile(version: Version) -> Profile | None:
    return kept_profile(version.run_id, version.carried.get("own_data_digest", ""))


def _part(lineage: Lineage, recipe: Recipe, model: str, version: Version | None) -> Part:
    """Return a version as something to depend on: which it is, what is known of it, what its model was tuned from."""
    own = [one for one in lineage.versions.values() if one.name == recipe.registered_name(model)]
    told: list[Any] = [sorted({one.carried.get("foundation_weights_digest", "") for one in own})]
    if version is not None:
        chain = lineage.trainings(version)
        told += [version.reference, version.aliases, version.carried.get("weights_digest")]
        told += [[one.reference for one in chain], [_profile(one) is not None for one in chain]]
    return Part(name=f"champion/{model}", directory=Path(), digest=text_digest(json.dumps(told)))


def _new_rows(prepared: Receipt, names: list[str], known: Profile) -> tuple[dict[str, list[Row]], int]:
    """Return the prepared rows of data sets that are not among the known ones, and how many known ones are gone."""
    new: dict[str, list[Row]] = {}
    hashes: list[int] = []
    for name in names:
        rows = [row for split in SPLITS for row in read_rows(prepared.directory / name / f"{split}.jsonl")]
        own = [row_hash(row) for row in rows]
        new[name] = [row for row, there in zip(rows, is_among(own, known.rows), strict=True) if not there]
        hashes += own
    return new, int((~np.isin(known.rows, np.array(hashes, np.uint64))).sum())


def _measure(recipe: Recipe, prepared: Receipt, lineage: Lineage, versions: dict[str, Version | None]) -> Measured:
    foundation = versions[FOUNDATION]
    weights = foundation.carried.get("weights_digest") if foundation else None
    tuned = {
        version.name
        for version in lineage.versions.values()
        if weights and version.carried.get("foundation_weights_digest") == weights
    }
    notes: list[str] = []
    specialists = {
        model: _standing(recipe, prepared, model, version, recipe.registered_name(model) in tuned, notes)
        for model, version in versions.items()
        if model != FOUNDATION
    }
    found: dict[str, Any] = {
        "own_tokenizer": not recipe.pretrain.base,
        "trained": recipe.pretrain.train is not None,
        "score": COST[recipe.objective(FOUNDATION)],
        "specialists": specialists,
        "notes": notes,
    }
    if foundation is None:
        return Measured(**found)
    chain = lineage.trainings(foundation)
    known: dict[str, Any] = {"version": foundation.reference, "learnt": chain[0].reference, "created": chain[0].created}
    return Measured(**found, **known, **_text(recipe, prepared, foundation, chain, notes))


def _text(
    recipe: Recipe, prepared: Receipt, foundation: Version, chain: list[Version], notes: list[str]
) -> dict[str, Any]:
    """Measure the text that the foundation never saw, against what its weights were trained on."""
    origin, names = chain[0], learnt_data(recipe, FOUNDATION)
    carried = {origin.carried.get("corpus_digest"), origin.carried.get("domain_data_digest")} - {None}
    if carried == {prepared.part(name).digest for name in names}:
        return {"changed": False, "new_rows": 0, "new_bytes": 0, "gone_rows": 0}
    profiles = [profile for version in chain if (profile := _profile(version)) is not None]
    found: dict[str, Any] = {}
    if len(profiles) == len(chain):
        whole = together(profiles)
        new, gone = _new_rows(prepared, names, whole)
        size = sum(len(row["text"].encode()) for rows in new.values() for row in rows)
        found = {"new_rows": sum(map(len, new.values())), "new_bytes": size, "gone_rows": gone}
        new_text = new["corpus"]
    else:
        whole = None
        new_text = list(read_rows(prepared.directory / "corpus" / "test.jsonl"))
        notes.append(
            f"{origin.reference} keeps no digests of the rows that it learned from, and they are no longer here: its "
            "lineage says that the text is another one. The whole held-out text of now stands for the new one; which "
            "rows are new or gone, and how many words are, is not known."
        )
    sample = _choose(new_text, recipe.seed)
    if len(sample) < 2:
        return found
    directory = registry.model_directory(foundation.name, foundation.version)
    return found | _readings(recipe, sample, directory, origin, whole)


def _choose(rows: list[Row], seed: int) -> list[Row]:
    if len(rows) <= SCORED:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), SCORED, replace=False)
    return [rows[number] for number in sorted(chosen)]


def _readings(
    recipe: Recipe, sample: list[Row], directory: Path, origin: Version, whole: Profile | None
) -> dict[str, Any]:
    from models.bases import load_tokenizer
    from tasks.loading import load

    objective, texts, found = recipe.objective(FOUNDATION), [row["text"] for row in sample], {}
    tokenizer = load_tokenizer(str(directory))
    lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False).input_ids]
    before = _cost_before(origin, COST[objective])
    if before is not None:
        scores = import_module(f"tasks.assessments.{objective}").assess_again(load(directory, objective), sample)
        own = scores.terms()[COST[objective]]
        if objective == "causal_lm":
            tokens = scores.terms()["nats_per_token"].bottom[:, 0]
            own = Terms(own.top, own.bottom, by_document(tokens, [1 + length for length in lengths]))
        found["cost"] = cost_moved(own, before, len(sample), recipe.seed)
    if whole is not None:
        if (held_out := whole.new_words()) is not None:
            new_words = terms(*unknown_words(texts, whole.words).T)
            found["new_words"] = words_moved(new_words, held_out, recipe.seed)
        if whole.bytes_per_token is not None:
            sizes = [len(text.encode()) for text in texts]
            found["bytes_per_token"] = fit_lost(sizes, lengths, whole.bytes_per_token, recipe.seed)
    return found


def by_document(tokens: np.ndarray, lengths: list[int]) -> np.ndarray:
    """Return the number of the document in which each window begins, [windows].

    Args: tokens: predicted by each window, [windows], the very first token of all being given; lengths: tokens of
    each document with its end. Windows of one document are no independent evidence, so they are drawn together.
    """
    starts = np.concatenate([[0], np.cumsum(tokens)[:-1]])
    documents = np.searchsorted(np.cumsum(lengths), starts, side="right")
    return np.unique(documents, return_inverse=True)[1].astype(np.int64)


def _cost_before(origin: Version, score: str) -> Terms | None:
    """Return what the foundation paid for its held-out text, window by window; the sum where no more is kept."""
    items = registry.assessed_file(origin.name, origin.version, ITEMS)
    own = read_items(items)["model"].get(score) if items is not None else None
    if own is not None:
        return own
    evidence = json.loads(registry.carried(origin.name, origin.version).get("evidence", "{}"))
    recorded = evidence.get("metrics", {}).get(score)
    return None if recorded is None else terms([recorded])


def _standing(
    recipe: Recipe, prepared: Receipt, model: str, version: Version | None, tuned: bool, notes: list[str]
) -> Standing:
    """Measure the rows of a specialist that its champion was not made with."""
    if version is None:
        return Standing()
    known: dict[str, Any] = {
        "version": version.reference,
        "created": version.created if "champion" in version.aliases else None,
        "tuned": tuned,
    }
    if version.carried.get("own_data_digest") == prepared.part(recipe.specialists[model].data).digest:
        return Standing(**known, changed=False, new_rows=0, gone_rows=0)
    profile = _profile(version)
    if profile is None:
        notes.append(
            f"{version.reference} keeps no digests of its rows, and they are no longer here: its lineage says that the "
            "data is another one; which rows are new, and whether the labels shifted, is not known."
        )
        return Standing(**known)
    data = recipe.specialists[model].data
    rows, gone = _new_rows(prepared, [data], profile)
    new = rows[data]
    shift = labels_moved(new, profile.labels, recipe.seed) if len(new) > 1 else None
    return Standing(**known, new_rows=len(new), gone_rows=gone, label_shift=shift)
