"""What steps and models cost: time, floating-point operations, energy, emissions and money, from their receipts.

Operations are counted by one formula, `models.architecture.training_flops_per_token`: 6 N + 12 H Q sum over layers
of T for a token (Chowdhery et al. 2022, PaLM, appendix B; Kaplan et al. 2020): forward and backward through N
weights, and attention of H heads of width Q over T tokens. A forward pass alone is a third of it, 2 N + 4 H Q sum of
T. Trainings write their operations and tokens into their receipts; what a step asks of a finished model is counted
in seconds and energy and not in operations.

Energy is derived from what receipts always had, seconds and processor seconds, and `tasks.energy`'s constants: no
thread samples anything while a step runs, and results that are there already have their figures too.
"""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from models.config import Config
from tasks.energy import Power, countries, power
from tasks.receipts import RECEIPT, Receipt, Result
from tasks.workspace import step_directory

AMOUNTS = (
    "seconds",
    "device_seconds",
    "processor_seconds",
    "flops",
    "tokens",
    "energy_kwh",
    "co2_kg",
    "money",
)
"""What is counted, in the order of the report."""


class CostConfig(Config):
    """What turns time and energy into emissions and money."""

    country: str = Field(default="", pattern="^([A-Z]{3})?$")
    """Whose electricity is used, three letters by ISO 3166 (DEU); empty: the world's average."""

    device_hour: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Price of an hour of one device: a graphics card, or the machine where it has none; empty: no money is counted."""

    currency: str = Field(default="", pattern="^([A-Z]{3})?$")
    """Of that price, three letters (EUR)."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if (self.device_hour is None) != (not self.currency):
            raise ValueError(
                f"device_hour is {self.device_hour} and currency {self.currency!r}, expected both or neither"
            )
        if self.country and self.country not in countries():
            raise ValueError(f"country is {self.country}: codecarbon has no figure for its electricity")
        return self

    def money(self, device_seconds: float) -> float | None:
        """Return the price of so many seconds of one device; None without a price."""
        return None if self.device_hour is None else self.device_hour * device_seconds / 3600


class Cost(Config):
    """The cost of a step, or the sum over several; None is unknown, or not counted."""

    seconds: float = 0.0
    device_seconds: float = 0.0
    """Seconds times the devices that worked: graphics cards, or one machine."""
    processor_seconds: float = 0.0
    flops: float = 0.0
    tokens: float = 0.0
    energy_kwh: float | None = 0.0
    co2_kg: float | None = 0.0
    money: float | None = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in AMOUNTS}
        return Cost.model_validate({name: None if None in pair else sum(pair) for name, pair in pairs.items()})

    def shared(self, among: int) -> "Cost":
        """Return an equal share of it."""
        found = {name: getattr(self, name) for name in AMOUNTS}
        return Cost.model_validate({name: None if value is None else value / among for name, value in found.items()})


def cost_of(receipt: Receipt, config: CostConfig, constants: Power | None) -> Cost:
    """Return what a step cost.

    A graphics card's energy is what its own counter measured while a model was trained; the processor's and the
    memory's is estimated. Of a training on several machines only this one's is known.
    """
    spent = receipt.cost
    seconds, processor = spent["seconds"], spent["processor_seconds"]
    device_seconds = seconds * int(receipt.metrics.get("processes", 1))
    energy = None if constants is None else constants.kwh(seconds, processor) + spent.get("gpu_kwh", 0.0)
    return Cost(
        seconds=seconds,
        device_seconds=device_seconds,
        processor_seconds=processor,
        flops=spent.get("flops", 0.0),
        tokens=spent.get("tokens", 0.0),
        energy_kwh=energy,
        co2_kg=None if energy is None or constants is None else energy * constants.kg_per_kwh,
        money=config.money(device_seconds),
    )


def training_cost(result: Result, config: CostConfig) -> Cost:
    """Return the cost of a model's own training; of an adapted foundation both of its trainings."""
    constants = power(config.country)
    parts = [part for part in (result.pretrained, result.trained) if part is not None]
    return sum((cost_of(part, config, constants) for part in parts), zero(config))


def foundation_share(result: Result, specialists: int, config: CostConfig) -> Cost:
    """Return the part of the foundation's training that one specialist carries: all of them carry the same."""
    return training_cost(result.foundation, config).shared(specialists)


def zero(config: CostConfig) -> Cost:
    """Return no cost, with money only where there is a price."""
    return Cost(money=None if config.device_hour is None else 0.0)


def steps_of(
    recipe: str, model: str, result: Result, twin: Receipt | None, gain: Receipt | None = None
) -> list[Receipt]:
    """Return the receipts of all steps that were done for a model alone.

    Mitigations that were not kept are among them, and with a ``gain`` (`tasks.transfer`) all trainings that it took.
    """
    own = [result.pretrained, twin, result.trained, result.assessed, result.audited]
    own += [result.mitigated, result.guarded, result.in_context, gain, result.promoted]
    receipts = {receipt.step: receipt for receipt in own if receipt is not None}
    more = [name.removesuffix("/model") for name in gain.parents] if gain is not None else []
    if result.mitigated is not None:
        methods = ["", *(f"+{method}" for method in result.mitigated.metrics["tried"])]
        more += [f"{step}/{model}{ending}" for ending in methods for step in ("finetune", "assess", "audit")]
    for name in more:
        if name not in receipts and (found := read_receipt(recipe, name)) is not None:
            receipts[name] = found
    return list(receipts.values())


def read_receipt(recipe: str, step: str) -> Receipt | None:
    """Return the receipt that a step left, without looking at its files; None where there is none."""
    path: Path = step_directory(recipe, step) / RECEIPT
    try:
        return Receipt.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def ledger(
    config: CostConfig,
    common: list[Receipt],
    steps: dict[str, list[Receipt]],
    results: dict[str, Result],
    specialists: int,
) -> dict[str, Any]:
    """Return the costs of all steps and models as plain values.

    Args:
        common: the steps that no model has for itself: data, tokenizer, overlaps.
        steps: each model's own steps (`steps_of`).
        results: the same models' results.
        specialists: among how many the foundation's training is shared.
    """
    constants = power(config.country)
    groups = {"": common, **steps}
    rows = [
        {"model": model, "step": receipt.step, **cost_of(receipt, config, constants).model_dump()}
        for model, receipts in groups.items()
        for receipt in receipts
    ]
    totals = {
        model: sum((cost_of(receipt, config, constants) for receipt in receipts), zero(config))
        for model, receipts in groups.items()
    }
    tuned = [model for model in steps if results[model].start is not None]
    shares = {model: foundation_share(results[model], specialists, config) for model in tuned}
    measured = any("gpu_kwh" in receipt.cost for receipts in groups.values() for receipt in receipts)
    return {
        "rows": rows,
        "models": {model: total.model_dump() for model, total in totals.items()},
        "total": sum(totals.values(), zero(config)).model_dump(),
        "shares": {model: share.model_dump() for model, share in shares.items()},
        "power": constants and constants.model_dump(),
        "graphics_cards_measured": measured,
        **config.model_dump(),
    }
