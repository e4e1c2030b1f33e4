"""A model card: what a registered model is, what it is for, and the evidence for and against it, in the hub's format.

M. Mitchell et al., Model Cards for Model Reporting, 2019; the front matter is that of a README.md of a Hugging Face
model, scores as its model-index.
"""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tasks import report_words as words
from tasks.audits.verdict import CAVEAT, Verdict
from tasks.card_evidence import evidence_view
from tasks.card_words import KINDS, LIMITS, snippet
from tasks.data_card import changes, learnt_from, sources
from tasks.receipts import Receipt
from tasks.recipe import FOUNDATION, Recipe
from tasks.report_cost import amounts
from tasks.report_lineage import lineage_view
from tasks.report_pages import templates
from tasks.report_view import prompted_view
from tasks.tracking import flatten

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

SHAPE = {
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "attention heads",
    "intermediate_size": "width of the inner layers",
    "vocab_size": "tokens in the vocabulary",
    "max_position_embeddings": "tokens of context",
}
"""Fields of a config.json -> words."""
RHYTHM = ("validate_every", "validate_batches", "checkpoint_every", "log_every")
"""Settings of a training that change no weight."""


def model_card(recipe: Recipe, name: str, trained: Receipt, content: dict[str, Any]) -> "ModelCard":
    """Return the card of a model of the recipe; what is not known is left out.

    Args:
        trained: the step that made its weights.
        content: what ``tasks.report.gather`` returns.
    """
    from huggingface_hub import ModelCard, ModelCardData

    model = content["models"][name]
    used = [recipe.data.datasets[data] for _, data in roles(recipe, name)]
    hub = sorted({source.dataset for dataset in used for source in dataset.train if source.kind == "hub"})
    data = ModelCardData(
        model_name=model["registered_name"],
        eval_results=evaluated(recipe, name, model) or None,
        pipeline_tag=KINDS[model["kind"]].pipeline,
        library_name="transformers",
        # A commit of the hub tells a model of the hub from somebody's directory.
        base_model=recipe.pretrain.base if recipe.pretrain.revision else None,
        datasets=hub or None,
        language=sorted({language for dataset in used for language in dataset.languages}) or None,
        tags=["alma", model["kind"].replace("_", "-")],
    )
    if not data.eval_results:
        del data.eval_results
    body = templates("md").get_template("model_card.md.jinja").render(_view(recipe, name, trained, content))
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body.strip()}\n")


def evaluated(recipe: Recipe, name: str, model: dict[str, Any]) -> "list[EvalResult]":
    """Return the model's own scores on its test split as the hub lists them; one that is no number is left out."""
    from huggingface_hub import EvalResult

    data = "corpus" if name == FOUNDATION else recipe.specialists[name].data
    test = recipe.data.datasets[data].test
    return [
        EvalResult(
            task_type=KINDS[model["kind"]].pipeline,
            dataset_type=test[0].dataset if len(test) == 1 and test[0].kind == "hub" else f"{recipe.name}/{data}",
            dataset_name=f"{recipe.name} {data}",
            dataset_split="test",
            dataset_args={"digest": model["lineage"]["own_data_digest"]},
            metric_type=metric,
            metric_name=words.named(metric),
            metric_value=found["value"],
        )
        for metric, found in model["scores"]["model"]["scores"].items()
        if found["value"] is not None and math.isfinite(found["value"])
    ]


def roles(recipe: Recipe, name: str) -> list[tuple[str, str]]:
    """Return (what for, data set) of all that a model learnt from, from the foundation on."""
    if name == FOUNDATION:
        said = {"corpus": "pretraining"}
        return [(said.get(data, "training on with a domain's text"), data) for data in learnt_from(recipe, name)]
    specialist = recipe.specialists[name]
    before = roles(recipe, specialist.start)
    if specialist.reward:
        before += [(f"its reward model, {specialist.reward}", recipe.specialists[specialist.reward].data)]
    return [*before, (f"tuning of {name}", specialist.data)]


def short(model: dict[str, Any]) -> str:
    """Return a model's card in a paragraph, for a list of versions."""
    kind = KINDS[model["kind"]]
    audits = ", ".join(f"{audit['audit']} {audit['verdict']}" for audit in model["audits"]) or "none"
    scores = ", ".join(
        f"{words.named(metric)} {words.scored(metric, found)}"
        for metric, found in model["scores"]["model"]["scores"].items()
    )
    return f"{kind.what} {_standing(model).capitalize()}. On held-out data: {scores}. Audits: {audits} ({CAVEAT})."


def _standing(model: dict[str, Any]) -> str:
    decision = model["decision"]
    return words.standing({"promoted": decision["promote"], "alias": decision["alias"]})


def _warnings(model: dict[str, Any]) -> list[str]:
    """Return what a reader must know before anything else."""
    said = []
    if _standing(model) == "refused":
        said.append("The gate refused this version.")
    failed = [words.named(audit["audit"]) for audit in model["audits"] if audit["verdict"] == Verdict.FAIL]
    if failed:
        said.append(f"It failed {'an audit' if len(failed) == 1 else 'audits'} of bias: {words.listed(failed)}.")
    return said


def _costs(name: str, cost: dict[str, Any], training: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what was spent on a model -> how much, by the ledger of its run."""
    spent = [("all its steps", cost["models"][name])]
    if share := cost["shares"].get(name):
        spent.append(("its share of the foundation's training", share))
    said = [
        (what, ", ".join(f"{title.lower()} {cell}" for title, cell in amounts(found, cost))) for what, found in spent
    ]
    own = f"{words.flops(training['flops'])} over {training['tokens']:,} tokens" if training.get("flops") else ""
    return [*([("its training", own)] if own else []), *said]


def _view(recipe: Recipe, name: str, trained: Receipt, content: dict[str, Any]) -> dict[str, Any]:
    model = content["models"][name]
    training = model["training"]
    metrics = list(model["scores"]["model"]["scores"])
    gates = model.get("gates") or ()
    return {
        "name": model["registered_name"],
        "version": model["version"],
        "kind": KINDS[model["kind"]],
        "recipe": recipe.name,
        "warnings": _warnings(model),
        "shape": _shape(trained.part("model").directory),
        "base": recipe.pretrain.base,
        "revision": recipe.pretrain.revision,
        **{key: lineage_view(model)[key] for key in ("parent", "parent_version")},
        "data": [_data(recipe, data, role, content) for role, data in roles(recipe, name)],
        "settings": _settings(trained.config),
        "training": training,
        "notes": [said for said in (words.trained_share(training), words.forgetting(training)) if said],
        "costs": _costs(name, content["cost"], training),
        "metrics": metrics,
        "scores": [
            (who, [words.scored(metric, found["scores"].get(metric)) for metric in metrics])
            for who, found in model["scores"].items()
        ],
        "plain": [
            (who, [words.score(metric, found.get(metric)) for metric in metrics])
            for who, found in model["baselines"].items()
            if who not in model["scores"]
        ],
        "items": max((found["items"] for found in model["scores"]["model"]["scores"].values()), default=0),
        "evidence": evidence_view("corpus" if name == FOUNDATION else recipe.specialists[name].data, name, content),
        "in_context": [prompted_view(row) for row in model.get("in_context") or []],
        "audits": [
            {
                **{key: audit[key] for key in ("audit", "verdict", "reason", "items")},
                "numbers": words.audited(audit),
                "margin": words.margin(audit),
                "gates": audit["audit"] in gates,
            }
            for audit in model["audits"]
        ],
        "caveat": CAVEAT,
        "not_made": model.get("not_made") or [],
        "mitigation": model.get("mitigation"),
        "standing": _standing(model),
        "reasons": model["decision"]["reasons"],
        "lineage": lineage_view(model)["rows"],
        "command": f"python -m flows export {model['registered_name']}/{model['version']} <directory>",
        "snippet": Markup(snippet(model["kind"], encoder=recipe.pretrain.family == "masked")),
        "limits": LIMITS,
    }


def _shape(directory: Path) -> list[tuple[str, str]]:
    """Return what a model directory says of its architecture, its weights counted from the files themselves."""
    from safetensors import safe_open

    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    weights = 0
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            weights += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    found = [("architecture", ", ".join(config.get("architectures") or [config["model_type"]]))]
    found += [("weights", f"{weights:,}"), ("stored as", str(config.get("dtype") or config.get("torch_dtype")))]
    return found + [(said, f"{config[key]:,}") for key, said in SHAPE.items() if isinstance(config.get(key), int)]


def _data(recipe: Recipe, name: str, role: str, content: dict[str, Any]) -> dict[str, Any]:
    dataset = recipe.data.datasets[name]
    return {
        "name": name,
        "role": role,
        "sources": [f"{split}: {said}" for split, said in sources(recipe, name)],
        "rows": content["data"]["prepared"]["datasets"][name]["rows_out"],
        "changes": [(said, n) for said, n in changes(name, content) if said != "rows read"],
        "licence": dataset.licence,
        "languages": dataset.languages,
    }


def _settings(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the hyper-parameters of a training step: those of its own objective, where they were set."""
    objective = str(config.get("task") or config.get("objective"))
    own = {key: config.get(key) for key in ("max_examples", "adapter", "mitigation", objective) if config.get(key)}
    found = flatten({**(config.get("train") or {}), **own})
    return [
        (name.replace("_", " "), str(value))
        for name, value in found.items()
        if name not in RHYTHM and value not in (None, "", [])
    ]
