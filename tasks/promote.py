"""Step 8: decide by the policy, register the version with its lineage, move the alias only on a pass."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import task

from tasks import registry, tracking
from tasks.assess import assess_again
from tasks.audit import read_audits
from tasks.decide import Decision, Evidence, Kind, decide, load_policy
from tasks.readers import read_rows
from tasks.receipts import Part, Receipt, run_step
from tasks.recipe import FOUNDATION, Recipe
from tasks.versioning import data_digest
from tasks.workspace import text_digest

DECISION = "decision.json"


@task
def promote(
    recipe: Recipe,
    model: str,
    prepared: Receipt,
    encoded: Receipt,
    foundation: Receipt,
    trained: Receipt,
    assessed: Receipt,
    audited: Receipt,
) -> Receipt:
    """Hold ``model``'s evidence against policy and champion, register it, and set the alias it earned.

    Every candidate becomes a version, refused ones too: an auditor finds what was refused and why. A
    refused version gets no alias, and the champion stays.
    """
    name = recipe.registered_name(model)
    kind: Kind = "foundation" if model == FOUNDATION else recipe.specialists[model].task
    policy = load_policy(Path(recipe.policy))
    promotion_key = text_digest(f"{trained.part('model').digest} {assessed.digest} {audited.digest}")

    def compute(out: Path, key: str) -> dict[str, Any]:
        evidence = Evidence(
            model=name,
            kind=kind,
            test_digest=assessed.metrics["test_digest"],
            metrics=assessed.metrics["scores"],
            baselines=assessed.metrics["baselines"],
            audits=read_audits(audited),
        )
        standing = registry.champion(name)
        ours = registry.find(name, promotion_key)
        if standing is not None and standing[0] == ours:
            standing = None  # the candidate itself, decided again
        before = _champion_evidence(recipe, model, prepared, evidence, standing) if standing else None
        decision = decide(evidence, before, policy, today=datetime.now(UTC).date())
        lineage = _lineage(recipe, model, prepared, encoded, foundation, trained, assessed, audited)
        run_id = _run(recipe, trained, assessed, audited, lineage)
        version = registry.register(
            name,
            trained.part("model").directory,
            kind,
            run_id,
            promotion_key,
            {
                **{f"alma.{field}": str(value) for field, value in lineage.items()},
                "alma.decision": json.dumps(decision.model_dump(mode="json")),
                registry.EVIDENCE: evidence.model_dump_json(),
            },
            _example(recipe, model, prepared),
            decision.alias,
        )
        record = {
            **decision.model_dump(mode="json"),
            "version": version,
            "run_id": run_id,
            "lineage": lineage,
        }
        (out / DECISION).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return {"promote": decision.promote, "alias": decision.alias, "version": version, "run_id": run_id}

    return run_step(
        recipe.name,
        f"promote/{model}",
        config={"policy": policy.model_dump(mode="json"), "registered_name": name},
        parents=[trained.part("model"), assessed.part(), audited.part()],
        compute=compute,
        still_true=lambda receipt: registry.find(name, promotion_key) == receipt.metrics["version"],
    )


def _champion_evidence(
    recipe: Recipe, model: str, prepared: Receipt, candidate: Evidence, standing: tuple[str, dict[str, Any]]
) -> Evidence:
    """Return the champion's evidence on the candidate's test split, assessed again where it was another."""
    version, recorded = standing
    champion = Evidence.model_validate(recorded)
    if champion.test_digest == candidate.test_digest:
        return champion
    specialist = recipe.specialists.get(model)
    scores = assess_again(
        registry.model_directory(candidate.model, version),
        candidate.kind,
        prepared.part(specialist.data if specialist else "corpus"),
        specialist.max_new_tokens if specialist else 0,
    )
    return champion.model_copy(update={"metrics": scores, "test_digest": candidate.test_digest})


def read_decision(promoted: Receipt) -> tuple[Decision, dict[str, Any]]:
    """Return the decision that a promote step wrote, and its whole record (version, run, lineage)."""
    record = json.loads((promoted.directory / DECISION).read_text())
    return Decision.model_validate({name: record[name] for name in Decision.model_fields}), record


def _lineage(
    recipe: Recipe,
    model: str,
    prepared: Receipt,
    encoded: Receipt,
    foundation: Receipt,
    trained: Receipt,
    assessed: Receipt,
    audited: Receipt,
) -> dict[str, Any]:
    """Return what leads from the registered version back to its data, weights, code and cost."""
    flops = float(trained.cost.get("flops", 0.0))
    data: Part = prepared.part("corpus" if model == FOUNDATION else recipe.specialists[model].data)
    lineage: dict[str, Any] = {
        "recipe": recipe.name,
        "recipe_digest": text_digest(recipe.model_dump_json(exclude={"launcher"})),
        "config_digest": text_digest(json.dumps(trained.config, sort_keys=True)),
        "commit": _commit(),
        "data_dvc": data_digest(),
        "corpus_digest": prepared.part("corpus").digest,
        "own_data_digest": data.digest,
        "tokenizer_digest": encoded.part("hf").digest,
        "weights_digest": trained.part("model").digest,
        "assessment_digest": assessed.digest,
        "audit_digest": audited.digest,
        "audit_verdicts": ", ".join(f"{result.audit} {result.verdict.value}" for result in read_audits(audited)),
        "seed": recipe.seed,
        "flops": flops,
        "seconds": trained.cost["seconds"],
    }
    if model != FOUNDATION:
        shared = len(recipe.specialists)
        lineage |= {
            "foundation": recipe.registered_name(FOUNDATION),
            "foundation_version": _version_of(recipe, FOUNDATION),
            "foundation_weights_digest": foundation.part("model").digest,
            "foundation_flops_share": float(foundation.cost.get("flops", 0.0)) / shared,
            "foundation_seconds_share": foundation.cost["seconds"] / shared,
        }
    return lineage


def _version_of(recipe: Recipe, model: str) -> str | None:
    """Return the version under which a model's promotion step registered it, if it has been promoted."""
    path = Path("artifacts") / recipe.name / "promote" / model / DECISION
    return json.loads(path.read_text())["version"] if path.exists() else None


def _commit() -> str | None:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _run(recipe: Recipe, trained: Receipt, assessed: Receipt, audited: Receipt, lineage: dict[str, Any]) -> str:
    """Return the model's MLflow run with its whole history, scores, audits and data; repeats change nothing."""
    run_id = tracking.run_of(recipe.name, trained.step, trained.key, trained.config, {})
    history = trained.directory / "history.jsonl"
    tracking.deliver(run_id, history)
    # The time of the assessment, not of this call: a second delivery must be the same rows.
    moment = int((assessed.directory / "scores.json").stat().st_mtime * 1000)
    tracking.log_scores(run_id, {"test": assessed.metrics["scores"]}, moment)
    tracking.log_scores(run_id, {"baseline": assessed.metrics["baselines"]}, moment)
    estimates = {name: {"estimate": found["estimate"]} for name, found in audited.metrics.items()}
    tracking.log_scores(run_id, {"audit": estimates}, moment)
    tracking.log_data(run_id, "corpus", f"data/{recipe.name}/corpus", lineage["corpus_digest"], "pretraining")
    if lineage["own_data_digest"] != lineage["corpus_digest"]:
        tracking.log_data(run_id, "specialist", f"data/{recipe.name}", lineage["own_data_digest"], "training")
    files = [history, trained.directory / "summary.json", assessed.directory, audited.directory]
    tracking.finish(run_id, files)
    return run_id


def _example(recipe: Recipe, model: str, prepared: Receipt) -> list[str]:
    """Return one held-out input, kept with the version as its example."""
    if model == FOUNDATION:
        return [" ".join(_first(prepared.part("corpus"))["text"].split()[:8])]
    row = _first(prepared.part(recipe.specialists[model].data))
    return [row["text"] if "text" in row else row["instruction"]]


def _first(part: Part) -> dict[str, Any]:
    return next(iter(read_rows(part.directory / "test.jsonl")))
