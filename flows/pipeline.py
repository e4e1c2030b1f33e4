"""The whole way: raw text to a foundation, the foundation to its specialists, each through its gate."""

from collections.abc import Callable
from functools import partial
from typing import Any

from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner

from flows.approve import asked
from flows.check import opened
from flows.failures import Failures, ModelsFailed, tell
from flows.mitigation import mitigated
from flows.parameters import Overrides, RecipeFile
from flows.trials import compared
from flows.watching import watched
from tasks.adapt import adapt
from tasks.assess import assess
from tasks.audit import audit
from tasks.cards import cards
from tasks.devices import machine
from tasks.finetune import finetune
from tasks.guard import UNADAPTED, guard
from tasks.in_context import asks, in_context
from tasks.ingest import ingest
from tasks.mitigate import mitigate
from tasks.mitigation import Method
from tasks.overlap import overlap
from tasks.prepare import prepare
from tasks.pretrain import pretrain
from tasks.promote import promote
from tasks.receipts import Receipt, Result
from tasks.recipe import FOUNDATION, Recipe
from tasks.report import report
from tasks.scratch import scratch
from tasks.tokenizer import tokenizer

RUNNER: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=len(machine().names))


@flow(task_runner=RUNNER)  # type: ignore[arg-type]  # its own type of future is not taken for one
@watched
def pipeline(recipe: RecipeFile = "recipes/starter.yaml", overrides: Overrides = []) -> Receipt:  # noqa: B006
    """Take a recipe from its sources to registered models and a report.

    A specialist that fails leaves the others standing: the run does all it can, reports, and then fails.

    Args:
        recipe: A recipe of the workspace: the whole pipeline in one file.
        overrides: Fields of the recipe to change, as dotted.key=value: pretrain.train.steps=300 for example.
    """
    config = opened("pipeline", recipe, overrides)
    ingested = ingest(config)
    prepared = prepare(config, ingested)
    encoded = tokenizer(config, prepared)
    pretrained = pretrain(config, encoded)
    adapted = adapt(config, prepared, encoded, pretrained) if config.adapt else None
    models: dict[str, Any] = {FOUNDATION: judge_foundation(config, prepared, encoded, pretrained, adapted)}
    for model, specialist in config.specialists.items():
        start, reward = models[specialist.start], models.get(specialist.reward)
        models[model] = _beside_others(specialise)(config, model, prepared, encoded, start, reward)
    results, failures = _collected(config, models)
    for model, result in results.items():
        # Once all are made: no machine waits for a person.
        assert result.promoted is not None, "every model that was made is decided on"
        promoted = asked(result.promoted, partial(promote, config, model, prepared, encoded, result))
        results[model] = result.model_copy(update={"promoted": promoted})
    gains, more = _weighed(config, prepared, encoded, results)
    overlapping = overlap(config, ingested, prepared)
    written = report(config, ingested, prepared, encoded, overlapping, results, failures.reasons(), gains)
    failures.errors |= more
    cards(config, prepared, results, written)
    if failures.errors:
        raise ModelsFailed(failures, written)
    return written


def judge_foundation(
    config: Recipe, prepared: Receipt, encoded: Receipt, pretrained: Receipt, adapted: Receipt | None
) -> Result:
    """Assess, audit and decide on the foundation: the adapted one, where there is a domain."""
    trained = adapted or pretrained
    assessed = assess(config, FOUNDATION, prepared, encoded, trained, None)
    audited = audit(config, FOUNDATION, prepared, trained, assessed)
    prompted = in_context(config, FOUNDATION, trained, None) if asks(config, FOUNDATION) else None
    before = pretrained if adapted else None
    guarded = guard(config, FOUNDATION, prepared, encoded, trained, {UNADAPTED: before} if before else {})
    result = Result(pretrained=before, trained=trained, assessed=assessed, audited=audited)
    result = result.model_copy(update={"guarded": guarded, "in_context": prompted})
    promoted = promote(config, FOUNDATION, prepared, encoded, result)
    return result.model_copy(update={"promoted": promoted})


@task
def specialise(
    config: Recipe, model: str, prepared: Receipt, encoded: Receipt, start: Result, reward: Result | None
) -> Result:
    """Train, assess and audit a specialist, and decide on it."""
    try:
        judge = reward.trained if reward else None
        beside = scratch(config, model, prepared, encoded) if config.has_control(model) else start.trained

        def make(method: Method | None = None) -> Result:
            trained = finetune(config, model, prepared, encoded, start.trained, judge, method)
            assessed = assess(config, model, prepared, encoded, trained, beside, judge, method)
            audited = audit(config, model, prepared, trained, assessed, start.audited, method)
            found = {"trained": trained, "beside": beside, "assessed": assessed, "audited": audited}
            return Result(start=start, reward=reward, **found)

        result = make()
        if config.mitigations(model):
            result = mitigated(config, model, result, make, lambda tried: mitigate(config, model, prepared, tried))
        earlier = {FOUNDATION: start.foundation.trained, config.specialists[model].start: start.trained}
        guarded = guard(config, model, prepared, encoded, result.trained, earlier)
        result = result.model_copy(update={"guarded": guarded})
        if asks(config, model):
            prompted = in_context(config, model, result.trained, start.in_context)
            result = result.model_copy(update={"in_context": prompted})
        promoted = promote(config, model, prepared, encoded, result)
    except Exception as error:
        tell(model, error)
        raise
    return result.model_copy(update={"promoted": promoted})


@task
def weigh(config: Recipe, model: str, prepared: Receipt, encoded: Receipt, start: Result) -> Receipt:
    """Compare a specialist with training from scratch, over seeds and shares of its labels."""
    try:
        return compared(config, model, prepared, encoded, start.trained, lambda step, *given: step(*given))
    except Exception as error:
        tell(f"transfer/{model}", error)
        raise


def _beside_others(work: Any) -> Callable[..., Any]:
    """Return how models that wait for nothing of each other run: in threads where there are several devices.

    Either way the answer is not the result but what becomes of it, and a task that is given a failed one does not
    run: so says Prefect.
    """
    return work.submit if len(machine().names) > 1 else partial(work, return_state=True)


def _collected(config: Recipe, models: dict[str, Any]) -> tuple[dict[str, Result], Failures]:
    """Wait for the models and return the results of those that were made, and the failures of the others."""
    results, failures = {FOUNDATION: models[FOUNDATION]}, Failures()
    try:
        for model in config.specialists:
            found = _waited(models[model])
            if failures.blocked(model, config.needs(model)):
                continue
            result = _outcome(found)
            if isinstance(result, Exception):
                failures.errors[model] = result
            else:
                results[model] = result
    except BaseException:
        machine().stopping.set()  # Ctrl-C reaches this thread alone
        raise
    return results, failures


def _weighed(
    config: Recipe, prepared: Receipt, encoded: Receipt, results: dict[str, Result]
) -> tuple[dict[str, Receipt], dict[str, Exception]]:
    """Return what the foundation is worth to each specialist that was made and is compared, and what failed there."""
    work = {
        model: _beside_others(weigh)(config, model, prepared, encoded, results[config.specialists[model].start])
        for model in config.compared()
        if model in results
    }
    try:
        found = {model: _outcome(_waited(waiting)) for model, waiting in work.items()}
    except BaseException:
        machine().stopping.set()
        raise
    gains = {model: receipt for model, receipt in found.items() if not isinstance(receipt, Exception)}
    return gains, {f"transfer/{model}": error for model, error in found.items() if isinstance(error, Exception)}


def _waited(found: Any) -> Any:
    """Return what `_beside_others` started, when it has ended."""
    if hasattr(found, "wait"):
        found.wait()
    return found


def _outcome(ended: Any) -> Any:
    """Return the result of what has ended, or the exception that it ended with."""
    return getattr(ended, "state", ended).result(raise_on_failure=False)
