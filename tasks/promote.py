"""Step 8: decide by the policy, register the version with its lineage, move the alias only on a pass."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import task

from tasks import ledger, registry, tracking
from tasks.announce import announce
from tasks.approval import APPROVAL, WEIGHTS, waits, weigh, word
from tasks.assess import ITEMS, SCORES
from tasks.audit import read_audits
from tasks.base import PATTERNS, registered_base
from tasks.champion import champion_evidence
from tasks.cost import Cost, foundation_share, training_cost
from tasks.decide import Decision, decide
from tasks.evidence import Evidence, gaps
from tasks.example_input import example_input
from tasks.guard import guardrails
from tasks.mitigate import NONE
from tasks.paired import read_items
from tasks.policy import load_policy
from tasks.receipts import RECEIPT, Part, Receipt, Result, run_step
from tasks.recipe import FOUNDATION, Recipe
from tasks.training_profile import PROFILE, learnt_data, make_profile, write_profile
from tasks.versioning import data_digest
from tasks.workspace import file_digest, text_digest

DECISION = "decision.json"
RECIPE = "recipe"
"""Where the recipe is kept that a version came of, as it was resolved: `recipe.json` in a directory of that name."""
NO_PART = {"launcher", "cost", "retraining"}
"""Sections of a recipe that make no difference to what comes of it."""


@task
def promote(recipe: Recipe, model: str, prepared: Receipt, encoded: Receipt, result: Result) -> Receipt:
    """Hold ``model``'s evidence against policy and champion, register it, and set the alias it earned.

    Every candidate becomes a version, refused ones too: an auditor finds what was refused and why. A
    refused version gets no alias, and the champion stays. Where the policy asks for a person, what passed the gate
    waits as challenger; this step finds the answer when it is called again, and a version that was rolled back
    (`tasks.approval`, `tasks.ledger`).
    """
    trained, assessed, audited = result.trained, result.assessed, result.audited
    name = recipe.registered_name(model)
    kind = recipe.kind(model)
    policy = load_policy(Path(recipe.policy))
    weights = trained.part("model").digest
    promotion_key = text_digest(f"{weights} {assessed.digest} {audited.digest}")

    def compute(out: Path, key: str) -> dict[str, Any]:
        # From the look at the champion to the alias: another recipe may decide on the same model, and would be held
        # against one that is champion no more.
        with registry.held(name):
            return decided(out, key)

    def decided(out: Path, key: str) -> dict[str, Any]:
        rules = getattr(policy, kind)
        compared = [rules.target, *(rail.metric for rail in rules.guardrails)]
        items = read_items(assessed.directory / ITEMS)
        ours = items.pop("model")
        scores = json.loads((assessed.directory / SCORES).read_text())["model"]["scores"]
        evidence = Evidence(
            model=name,
            kind=kind,
            test_digest=assessed.metrics["test_digest"],
            metrics=assessed.metrics["scores"] | (guardrails(result.guarded) if result.guarded else {}),
            intervals={metric: (own["low"], own["high"]) for metric, own in scores.items() if own["low"] is not None},
            baselines=assessed.metrics["baselines"],
            to_baselines={baseline: gaps(ours, theirs, compared) for baseline, theirs in items.items()},
            # A tag of the registry holds 100,000 characters: what single items said stays in the audit's own file.
            audits=[found.model_copy(update={"details": {}}) for found in read_audits(audited)],
            mitigation=_mitigation(result),
        )
        own = registry.find(name, promotion_key)
        standing, before = ledger.rival(name, own), None
        if standing is not None:
            before, theirs = champion_evidence(recipe, model, prepared, evidence, standing, result, compared)
            evidence = evidence.model_copy(update={"to_champion": gaps(ours, theirs, compared)})
        passed, said = decide(evidence, before, policy, today=datetime.now(UTC).date()), word(name, own, weights)
        asked = rules.approval == "person" and not ledger.is_champion(name, own)
        decision = weigh(passed, said, asked=asked)
        waiting = waits(passed, decision)
        lineage = _with_base(_lineage(recipe, model, prepared, encoded, result), name, promotion_key)
        (out / RECIPE).mkdir()
        settings = recipe.model_dump(mode="json", exclude=NO_PART)
        (out / RECIPE / "recipe.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        held_out = float(encoded.metrics["held_out_bytes_per_token"]) if model == FOUNDATION else None
        learnt = [prepared.part(data).directory for data in learnt_data(recipe, model)]
        write_profile(make_profile(learnt, held_out), out / PROFILE)
        run_id = _run(recipe, result, lineage, out)
        version = registry.register(
            name,
            trained.part("model").directory,
            kind,
            run_id,
            promotion_key,
            {
                **{f"alma.{field}": str(value) for field, value in lineage.items()},
                registry.DECISION: decision.model_dump_json(),
                registry.EVIDENCE: evidence.model_dump_json(),
                **({APPROVAL: "awaiting"} if waiting else {}),
            },
            example_input(recipe, model, prepared),
            None if decision.promote else decision.alias,
        )
        if decision.promote and ledger.promote(name, version):
            announce(name, version)
        logged = registry.logged_model(name, version)
        if logged is not None:
            tracking.bind_losses(run_id, logged, trained.directory / "history.jsonl", *_learned_last(lineage))
        record = {
            **decision.model_dump(mode="json"),
            "version": version,
            "run_id": run_id,
            "champion_before": standing[0] if standing else None,
            "lineage": lineage,
        }
        (out / DECISION).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        state = "awaiting" if waiting else said.state if said else ""
        return {
            "promote": decision.promote,
            "alias": decision.alias,
            "version": version,
            "run_id": run_id,
            "approval": state,
        }

    def still_true(receipt: Receipt) -> bool:
        version = registry.find(name, promotion_key)
        said = word(name, version, weights)
        return version == receipt.metrics["version"] and (said.state if said else "") == receipt.metrics["approval"]

    return run_step(
        recipe.name,
        f"promote/{model}",
        config={"policy": policy.model_dump(mode="json"), "registered_name": name, "cost": recipe.cost.model_dump()},
        parents=[found.part() for found in (assessed, audited, result.guarded) if found] + [trained.part("model")],
        compute=compute,
        still_true=still_true,
    )


def read_decision(promoted: Receipt) -> tuple[Decision, dict[str, Any]]:
    """Return the decision that a promote step wrote, and its whole record (version, run, lineage)."""
    record = json.loads((promoted.directory / DECISION).read_text())
    return Decision.model_validate({name: record[name] for name in Decision.model_fields}), record


def _lineage(recipe: Recipe, model: str, prepared: Receipt, encoded: Receipt, result: Result) -> dict[str, Any]:
    """Return what leads from the registered version back to its data, weights, code and cost."""
    trained, assessed, audited = result.trained, result.assessed, result.audited
    data: Part = prepared.part("corpus" if model == FOUNDATION else recipe.specialists[model].data)
    lineage: dict[str, Any] = {
        "recipe": recipe.name,
        "recipe_digest": text_digest(recipe.model_dump_json(exclude=NO_PART)),
        "config_digest": text_digest(json.dumps(trained.config, sort_keys=True)),
        "commit": _commit(),
        "data_dvc": data_digest(),
        "corpus_digest": prepared.part("corpus").digest,
        "own_data_digest": data.digest,
        "tokenizer_digest": encoded.part("hf").digest,
        "weights_digest": trained.part("model").digest,
        "assessment_digest": assessed.digest,
        "audit_digest": audited.digest,
        "audit_verdicts": ", ".join(f"{found.audit} {found.verdict.value}" for found in read_audits(audited)),
        "seed": recipe.seed,
        **_base(recipe, result.foundation),
        **_spent(recipe, training_cost(result, recipe.cost)),
    }
    if result.pretrained is not None and recipe.adapt is not None:
        lineage |= {
            "pretrained_weights_digest": result.pretrained.part("model").digest,
            "domain_data_digest": prepared.part(recipe.adapt.data).digest,
        }
    if model == FOUNDATION:
        method = recipe.prepare.mitigation.method
        return lineage if method == "none" else lineage | {"mitigation": method}
    specialist, foundation = recipe.specialists[model], result.foundation
    lineage |= _named(recipe, "foundation", FOUNDATION, foundation)
    share = _spent(recipe, foundation_share(result, len(recipe.specialists), recipe.cost))
    lineage |= {f"foundation_{name}_share": value for name, value in share.items() if name != "currency"}
    if result.start is not None and specialist.start != FOUNDATION:
        lineage |= _named(recipe, "start", specialist.start, result.start)
    if result.reward is not None:
        lineage |= _named(recipe, "reward", specialist.reward, result.reward)
    if _mitigation(result):
        lineage["mitigation"] = _mitigation(result)
    if specialist.adapter is not None:
        lineage["adapter"] = f"rank {specialist.adapter.rank}, alpha {specialist.adapter.alpha:g}, merged"
    return lineage


def _base(recipe: Recipe, foundation: Result) -> dict[str, Any]:
    """Return what the foundation of the recipe started from: nothing, or a base by the digests of its files.

    A base that another recipe made here is named by its weights too, which lead to the version it is registered as; a
    registered one names that itself.
    """
    digest = (foundation.pretrained or foundation.trained).parents.get("base")
    if digest is None:
        return {"base": ""}
    found = {"base": recipe.pretrain.base, "base_digest": digest, "base_trained": recipe.pretrain.train is not None}
    if recipe.pretrain.revision:
        found["base_revision"] = recipe.pretrain.revision
    registered = registered_base(recipe.pretrain.base)
    if registered is not None:
        return found | {"base_weights_digest": (registry.tags_of(*registered) or {}).get(WEIGHTS)}
    directory = Path(recipe.pretrain.base)
    made = made_here(directory, digest)
    weights = made.digest if made else _registered(directory)
    return found | ({"base_weights_digest": weights} if weights else {})


def _with_base(lineage: dict[str, Any], name: str, promotion_key: str) -> dict[str, Any]:
    """Return the lineage of a candidate; of a version that is found again, with the base that it carries already.

    A foundation that is taken as it is has the weights of its own base, and on unchanged data it is that very version,
    which learned what it learned.
    """
    found = registry.find(name, promotion_key)
    carried = registry.carried(name, found) if found else {}
    if "base" not in carried:
        return lineage
    words = {"True": True, "False": False}
    own = {field: words.get(value, value) for field, value in carried.items() if field.startswith("base")}
    return {field: value for field, value in lineage.items() if not field.startswith("base")} | own


def _registered(directory: Path) -> str | None:
    """Return the weights' digest of the registered version whose files are those of a directory; None without one."""
    paths = [path for path in directory.rglob("*") if path.is_file()]
    files = {f"model/{path.relative_to(directory).as_posix()}": file_digest(path) for path in paths}
    digest = text_digest(json.dumps(sorted(files.items())))
    return digest if files and registry.find_weights(digest) else None


def made_here(base: Path, digest: str) -> Part | None:
    """Return the base as a part of the step that made it, where its files still have the base's ``digest``."""
    if not (base.parent / RECEIPT).is_file():
        return None
    receipt = Receipt.model_validate_json((base.parent / RECEIPT).read_bytes())
    files = {
        path.name: found
        for name, found in receipt.files.items()
        if (path := Path(name)).parent == Path(base.name) and any(path.match(pattern) for pattern in PATTERNS)
    }
    same = text_digest(json.dumps(sorted(files.items()))) == digest
    return receipt.part(base.name) if same else None


def _spent(recipe: Recipe, cost: Cost) -> dict[str, Any]:
    """Return the lineage fields of a cost; what is unknown has none."""
    names = ("flops", "seconds", "energy_kwh", "co2_kg", "money")
    found = {name: value for name in names if (value := getattr(cost, name)) is not None}
    return {**found, "currency": recipe.cost.currency} if "money" in found else found


def _mitigation(result: Result) -> str:
    """Return the mitigation of the model that is kept, empty where it has none."""
    kept = result.mitigated.metrics["kept"] if result.mitigated else NONE
    return "" if kept == NONE else str(kept)


def _named(recipe: Recipe, role: str, model: str, result: Result) -> dict[str, Any]:
    """Return the lineage fields that name another model: the registered name, its version and its weights."""
    return {
        role: recipe.registered_name(model),
        f"{role}_version": result.version,
        f"{role}_weights_digest": result.trained.part("model").digest,
    }


def _commit() -> str | None:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _run(recipe: Recipe, result: Result, lineage: dict[str, Any], out: Path) -> str:
    """Return the model's MLflow run with its whole history, scores, audits and data; repeats change nothing."""
    trained, assessed, audited = result.trained, result.assessed, result.audited
    run_id = tracking.run_of(recipe.name, trained.step, trained.key, trained.config, {})
    history = trained.directory / "history.jsonl"
    tracking.deliver(run_id, history)
    # The time of the assessment, not of this call: a second delivery must be the same rows.
    moment = int((assessed.directory / "scores.json").stat().st_mtime * 1000)
    tracking.log_scores(run_id, {"test": assessed.metrics["scores"]}, moment)
    tracking.log_scores(run_id, {"baseline": assessed.metrics["baselines"]}, moment)
    estimates = {name: {"estimate": found["estimate"]} for name, found in audited.metrics.items()}
    tracking.log_scores(run_id, {"audit": estimates}, moment)
    corpus_use = "pretraining" if lineage.get("base_trained", True) else "evaluation"
    tracking.log_data(run_id, "corpus", f"data/{recipe.name}/corpus", lineage["corpus_digest"], corpus_use)
    name, digest = _learned_last(lineage)
    if name != "corpus":
        tracking.log_data(run_id, name, f"data/{recipe.name}", digest, "training")
    if lineage["data_dvc"] is not None:
        tracking.log_data(run_id, "data.dvc", "data", lineage["data_dvc"], "source")
    tracking.log_models(run_id, _parents(lineage))
    # Under their digests: a run whose weights are assessed again, on new data, keeps the evidence of both versions.
    for step, part in (("assess", assessed), ("audit", audited)):
        tracking.keep(run_id, part.directory, registry.evidence_name(step, part.digest))
    tracking.keep(run_id, out / RECIPE, registry.evidence_name(RECIPE, lineage["recipe_digest"]))
    tracking.keep(run_id, out / PROFILE, registry.evidence_name(PROFILE, lineage["own_data_digest"]))
    tracking.finish(run_id, [history, trained.directory / "summary.json"])
    return run_id


def _learned_last(lineage: dict[str, Any]) -> tuple[str, str]:
    """Return the name that MLflow knows a model's last text by, and its digest."""
    if "foundation" in lineage:
        return "specialist", lineage["own_data_digest"]
    if "domain_data_digest" in lineage:
        return "domain", lineage["domain_data_digest"]
    return "corpus", lineage["corpus_digest"]


def _parents(lineage: dict[str, Any]) -> list[str]:
    """Return the logged models that went into a model: what it started from, what scored it, its foundation."""
    named = [(lineage.get(role), lineage.get(f"{role}_version")) for role in ("foundation", "start", "reward")]
    if lineage.get("base_weights_digest") and "foundation" not in lineage:
        registered = registered_base(lineage["base"])
        named.append(registered or registry.find_weights(lineage["base_weights_digest"]) or (None, None))
    found = [registry.logged_model(name, version) for name, version in named if name and version]
    return [model for model in found if model is not None]
