"""Step 10: a card for every model and for every data set that it learnt from, beside the registered versions."""

import json
from pathlib import Path
from typing import Any

from prefect import task

from tasks import registry
from tasks.card_words import KINDS
from tasks.data_card import data_card
from tasks.model_card import model_card, roles, short
from tasks.receipts import Receipt, Result, run_step
from tasks.recipe import Recipe

CARD = "README.md"
FACTS = "alma.json"


@task
def cards(recipe: Recipe, prepared: Receipt, results: dict[str, Result], reported: Receipt) -> Receipt:
    """Write each model's cards from what the report gathered, and keep them with its registered version.

    Of each model ``<model>/README.md``, the card; ``<model>/data/<data set>/README.md``, one for each data set that it
    learnt from; ``<model>/alma.json``, the same facts for programs. They lie beside the weights and are none of their
    digest.
    """

    def compute(out: Path, key: str) -> dict[str, Any]:
        content = json.loads((reported.directory / "report.json").read_text(encoding="utf-8"))
        for name, result in results.items():
            model, directory = content["models"][name], out / name
            used = list(dict.fromkeys(data for _, data in roles(recipe, name)))
            for data in used:
                (directory / "data" / data).mkdir(parents=True)
                data_card(recipe, data, prepared.part(data).digest, content).save(directory / "data" / data / CARD)
            directory.mkdir(exist_ok=True)
            model_card(recipe, name, result.trained, content).save(directory / CARD)
            digests = {data: prepared.part(data).digest for data in used}
            facts = json.dumps(_facts(model, content["cost"]["models"][name], digests), indent=1, ensure_ascii=False)
            (directory / FACTS).write_text(facts + "\n", encoding="utf-8")
            of = f"{KINDS[model['kind']].what} From the recipe {recipe.name}."
            registry.describe(model["registered_name"], model["version"], directory, of, short(model))
        return {"cards": list(results)}

    return run_step(
        recipe.name,
        "cards",
        config={"data": recipe.data.model_dump(mode="json", exclude={"root"})},
        parents=[reported.part()],
        compute=compute,
    )


def _facts(model: dict[str, Any], cost: dict[str, Any], data: dict[str, str]) -> dict[str, Any]:
    return {
        **{key: model[key] for key in ("registered_name", "version", "kind", "decision", "lineage")},
        "data": data,
        "scores": {who: found["scores"] for who, found in model["scores"].items()},
        "baselines": model["baselines"],
        "audits": [{key: value for key, value in audit.items() if key != "details"} for audit in model["audits"]],
        "guardrails": model.get("guard"),
        "cost": cost,
    }
