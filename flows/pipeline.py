"""The whole way: raw text to a foundation, the foundation to its specialists, each through its gate."""

from prefect import flow

from tasks.assess import assess
from tasks.audit import audit
from tasks.finetune import finetune
from tasks.ingest import ingest
from tasks.prepare import prepare
from tasks.pretrain import pretrain
from tasks.promote import promote
from tasks.receipts import Receipt
from tasks.recipe import FOUNDATION, load_recipe
from tasks.report import Result, report
from tasks.scratch import scratch
from tasks.tokenizer import tokenizer


@flow
def pipeline(recipe: str = "recipes/starter.yaml", overrides: list[str] = []) -> Receipt:  # noqa: B006
    """Take a recipe from its sources to registered models and a report.

    Args:
        recipe: The recipe's file, relative to the workspace.
        overrides: Fields to change, as dotted.key=value.
    """
    config = load_recipe(recipe, overrides)
    ingested = ingest(config)
    prepared = prepare(config, ingested)
    encoded = tokenizer(config, prepared)
    foundation = pretrain(config, encoded)
    results = {}
    for model in config.models():
        if model == FOUNDATION:
            trained, control = foundation, None
        else:
            trained = finetune(config, model, prepared, encoded, foundation)
            control = scratch(config, model, prepared, encoded)
        assessed = assess(config, model, prepared, encoded, trained, control)
        audited = audit(config, model, prepared, trained, assessed)
        promoted = promote(config, model, prepared, encoded, foundation, trained, assessed, audited)
        results[model] = Result(trained, control, assessed, audited, promoted)
    return report(config, ingested, prepared, encoded, results)
