"""A step by its name, after what it needs: what `dvc repro`, the command line and the partial flows call."""

from collections.abc import Callable
from typing import Any

from tasks.assess import assess
from tasks.audit import audit
from tasks.finetune import finetune
from tasks.ingest import ingest
from tasks.prepare import prepare
from tasks.pretrain import pretrain
from tasks.promote import promote
from tasks.receipts import Receipt
from tasks.recipe import FOUNDATION, Recipe
from tasks.report import Result, report
from tasks.scratch import scratch
from tasks.tokenizer import tokenizer


class Steps:
    """The steps of a recipe by name, each computed once: the same functions that the pipeline flow calls.

    Inside a flow they run as Prefect tasks; else as plain functions, without a server.
    """

    def __init__(self, recipe: Recipe, *, as_tasks: bool = False) -> None:
        self.recipe = recipe
        self.as_tasks = as_tasks
        self._receipts: dict[tuple[str, str], Receipt] = {}

    def receipt(self, step: str, model: str = "") -> Receipt:
        """Return the receipt of ``step`` (of ``model``), computing it and what it needs where not done."""
        if (step, model) not in self._receipts:
            self._receipts[step, model] = self._run(step, model)
        return self._receipts[step, model]

    def receipts(self, step: str, models: list[str]) -> list[Receipt]:
        """Return the receipts of ``step`` for each of ``models``."""
        return [self.receipt(step, model) for model in models]

    def _run(self, step: str, model: str) -> Receipt:
        of, recipe = self.receipt, self.recipe

        def call(task: Any, *arguments: Any) -> Receipt:
            function: Callable[..., Receipt] = task if self.as_tasks else task.fn
            return function(*arguments)

        match step:
            case "ingest":
                return call(ingest, recipe)
            case "prepare":
                return call(prepare, recipe, of("ingest"))
            case "tokenizer":
                return call(tokenizer, recipe, of("prepare"))
            case "pretrain":
                return call(pretrain, recipe, of("tokenizer"))
            case "finetune":
                return call(finetune, recipe, model, of("prepare"), of("tokenizer"), of("pretrain"))
            case "scratch":
                return call(scratch, recipe, model, of("prepare"), of("tokenizer"))
            case "assess":
                trained, control = self._trained(model), self._control(model)
                return call(assess, recipe, model, of("prepare"), of("tokenizer"), trained, control)
            case "audit":
                return call(audit, recipe, model, of("prepare"), self._trained(model), of("assess", model))
            case "promote":
                data = of("prepare"), of("tokenizer"), of("pretrain")
                evidence = self._trained(model), of("assess", model), of("audit", model)
                return call(promote, recipe, model, *data, *evidence)
            case "report":
                results = {model: self._result(model) for model in recipe.models()}
                return call(report, recipe, of("ingest"), of("prepare"), of("tokenizer"), results)
        raise ValueError(f"{step!r}: there is no such step")

    def _trained(self, model: str) -> Receipt:
        """Return the receipt that holds the model's weights."""
        return self.receipt("pretrain") if model == FOUNDATION else self.receipt("finetune", model)

    def _control(self, model: str) -> Receipt | None:
        """Return the receipt of the model's twin from scratch; a foundation has none."""
        return None if model == FOUNDATION else self.receipt("scratch", model)

    def _result(self, model: str) -> Result:
        of = self.receipt
        evidence = of("assess", model), of("audit", model), of("promote", model)
        return Result(self._trained(model), self._control(model), *evidence)
