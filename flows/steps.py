"""A step by its name, after what it needs: what `dvc repro`, the command line and the partial flows call."""

from collections.abc import Callable
from typing import Any

from flows.failures import Failures, ModelsFailed, tell
from flows.mitigation import mitigated
from flows.trials import compared
from tasks.adapt import adapt
from tasks.assess import assess
from tasks.audit import audit, reads_start
from tasks.cards import cards
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


class Steps:
    """The steps of a recipe by name, each computed once: the same functions that the pipeline flow calls.

    Inside a flow they run as Prefect tasks; else as plain functions, without a server.
    """

    def __init__(self, recipe: Recipe, *, as_tasks: bool = False) -> None:
        self.recipe = recipe
        self.as_tasks = as_tasks
        self._chosen: dict[str, Result] = {}
        self._receipts: dict[tuple[str, str, Method | None], Receipt] = {}

    def receipt(self, step: str, model: str = "", method: Method | None = None) -> Receipt:
        """Return the receipt of ``step`` (of ``model``), computing it and what it needs where not done.

        With a ``method``, of the model that it mitigated.
        """
        if (step, model, method) not in self._receipts:
            self._receipts[step, model, method] = self._run(step, model, method)
        return self._receipts[step, model, method]

    def again(self, step: str, model: str) -> Receipt:
        """Return the receipt of a step that has to look once more: what it found done may not be true any longer."""
        del self._receipts[step, model, None]
        return self.receipt(step, model)

    def receipts(self, step: str, models: list[str]) -> list[Receipt]:
        """Return the receipts of ``step`` for each of ``models``.

        Raises:
            ModelsFailed: some failed; the others are done.
        """
        done, failures = self._each(models, lambda model: self.receipt(step, model))
        if failures.errors:
            raise ModelsFailed(failures)
        return list(done.values())

    def _each(self, models: list[str], make: Callable[[str], Any]) -> tuple[dict[str, Any], Failures]:
        """Return what ``make`` gives for each model, and the failures of the others."""
        done, failures = {}, Failures()
        for model in models:
            if failures.blocked(model, self.recipe.needs(model)):
                continue
            try:
                done[model] = make(model)
            except Exception as error:
                tell(model, error)
                failures.errors[model] = error
        return done, failures

    def _call(self, task: Any, *arguments: Any) -> Receipt:
        function: Callable[..., Receipt] = task if self.as_tasks else task.fn
        return function(*arguments)

    def _run(self, step: str, model: str, method: Method | None) -> Receipt:
        of, recipe, call = self.receipt, self.recipe, self._call
        match step:
            case "ingest":
                return call(ingest, recipe)
            case "prepare":
                return call(prepare, recipe, of("ingest"))
            case "tokenizer":
                return call(tokenizer, recipe, of("prepare"))
            case "pretrain":
                return call(pretrain, recipe, of("tokenizer"))
            case "adapt":
                return call(adapt, recipe, of("prepare"), of("tokenizer"), of("pretrain"))
            case "finetune":
                origin = self._trained(recipe.specialists[model].start), self._reward(model), method
                return call(finetune, recipe, model, of("prepare"), of("tokenizer"), *origin)
            case "scratch":
                return call(scratch, recipe, model, of("prepare"), of("tokenizer"))
            case "assess":
                models = self._made(model, method), self._beside(model), self._reward(model)
                return call(assess, recipe, model, of("prepare"), of("tokenizer"), *models, method)
            case "audit":
                made = self._made(model, method), of("assess", model, method)
                started = self._kept(recipe.specialists[model].start).audited if reads_start(recipe, model) else None
                return call(audit, recipe, model, of("prepare"), *made, started, method)
            case "mitigate":
                mitigation = self._kept(model).mitigated
                assert mitigation is not None, f"{model}: the recipe asks for no mitigation"
                return mitigation
            case "guard":
                return call(
                    guard, recipe, model, of("prepare"), of("tokenizer"), self._trained(model), self._earlier(model)
                )
            case "in_context":
                before = None if model == FOUNDATION else of("in_context", recipe.specialists[model].start)
                return call(in_context, recipe, model, self._trained(model), before)
            case "transfer":
                start = self._trained(recipe.specialists[model].start)
                return compared(recipe, model, of("prepare"), of("tokenizer"), start, call)
            case "promote":
                return call(promote, recipe, model, of("prepare"), of("tokenizer"), self._undecided(model))
            case "overlap":
                return call(overlap, recipe, of("ingest"), of("prepare"))
            case "report" | "cards":
                of("promote", FOUNDATION)  # without a foundation there is nothing to report
                results, failures = self._each(recipe.models(), self._result)
                judged = [model for model in recipe.compared() if model in results]
                gains, more = self._each(judged, lambda model: of("transfer", model))
                data = [of(step) for step in ("ingest", "prepare", "tokenizer", "overlap")]
                written = call(report, recipe, *data, results, failures.reasons(), gains)
                failures.errors |= {f"transfer/{model}": error for model, error in more.errors.items()}
                if step == "cards":
                    carded = call(cards, recipe, of("prepare"), results, written)
                if failures.errors:
                    raise ModelsFailed(failures, written)
                return carded if step == "cards" else written
        raise ValueError(f"{step!r}: there is no such step")

    def _made(self, model: str, method: Method | None = None) -> Receipt:
        """Return the receipt of the model's training, with a method or without."""
        if model != FOUNDATION:
            return self.receipt("finetune", model, method)
        return self.receipt("adapt" if self.recipe.adapt else "pretrain")

    def _judged(self, model: str, method: Method | None = None) -> Result:
        """Return what was made and found of a model, with a method or without."""
        of = self.receipt
        found = {step: of(step, model, method) for step in ("assess", "audit")}
        made, beside = self._made(model, method), self._beside(model)
        return Result(trained=made, beside=beside, assessed=found["assess"], audited=found["audit"])

    def _kept(self, model: str) -> Result:
        """Return the same of the model that is kept, where mitigations are tried."""
        if not self.recipe.mitigations(model):
            return self._judged(model)
        if model not in self._chosen:
            self._chosen[model] = mitigated(
                self.recipe,
                model,
                self._judged(model),
                lambda method: self._judged(model, method),
                lambda tried: self._call(mitigate, self.recipe, model, self.receipt("prepare"), tried),
            )
        return self._chosen[model]

    def _trained(self, model: str) -> Receipt:
        """Return the receipt that holds the model's weights: of the one that is kept."""
        return self._kept(model).trained if self.recipe.mitigations(model) else self._made(model)

    def _beside(self, model: str) -> Receipt | None:
        """Return the model's twin from scratch, or the model that it was before; a foundation has neither."""
        if model == FOUNDATION:
            return None
        if self.recipe.has_control(model):
            return self.receipt("scratch", model)
        return self._trained(self.recipe.specialists[model].start)

    def _reward(self, model: str) -> Receipt | None:
        """Return the receipt of the model that scores its answers (rlhf)."""
        specialist = self.recipe.specialists.get(model)
        return self._trained(specialist.reward) if specialist and specialist.reward else None

    def _earlier(self, model: str) -> dict[str, Receipt]:
        """Return the weights of the models that a model was, the foundation's first."""
        if model == FOUNDATION:
            return {UNADAPTED: self.receipt("pretrain")} if self.recipe.adapt else {}
        return {name: self._trained(name) for name in (FOUNDATION, self.recipe.specialists[model].start)}

    def _undecided(self, model: str) -> Result:
        """Return all receipts of the model but that of its own decision."""
        of, specialist = self.receipt, self.recipe.specialists.get(model)
        more = {
            "start": self._result(specialist.start) if specialist else None,
            "reward": self._result(specialist.reward) if specialist and specialist.reward else None,
            "pretrained": of("pretrain") if model == FOUNDATION and self.recipe.adapt else None,
            "guarded": of("guard", model),
            "in_context": of("in_context", model) if asks(self.recipe, model) else None,
        }
        return self._kept(model).model_copy(update=more)

    def _result(self, model: str) -> Result:
        return self._undecided(model).model_copy(update={"promoted": self.receipt("promote", model)})
