"""What a budget is written as: a time, operations, or money."""

import re
from typing import Literal, NamedTuple

from tasks.cost import CostConfig

SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?) *([A-Za-z]+)")


class Budget(NamedTuple):
    """An amount of seconds of one device, of floating-point operations, or of money."""

    amount: float
    unit: Literal["seconds", "flops", "money"]
    currency: str = ""

    def check(self, cost: CostConfig) -> None:
        """Raise ValueError for money without a price, or in another currency."""
        if self.unit == "money" and self.currency != cost.currency:
            there = f"is in {cost.currency}" if cost.currency else "is missing"
            raise ValueError(f"pretrain.budget: is in {self.currency}, but the price (cost.device_hour) {there}")

    def seconds(self, cost: CostConfig) -> float | None:
        """Return the seconds of one device that it pays for; None where it counts operations."""
        if self.unit == "money":
            assert cost.device_hour is not None
            return 3600 * self.amount / cost.device_hour
        return self.amount if self.unit == "seconds" else None


def parse_budget(text: str) -> Budget:
    """Return the budget; ValueError in one line for anything else.

    >>> parse_budget("15 minutes").amount, parse_budget("1e15 FLOPs").unit, parse_budget("2 EUR").currency
    (900.0, 'flops', 'EUR')
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is not None and float(found[1]) > 0:
        amount, unit = float(found[1]), found[2]
        if unit.lower().removesuffix("s") in SECONDS:
            return Budget(amount * SECONDS[unit.lower().removesuffix("s")], "seconds")
        if unit.lower() in ("flop", "flops"):
            return Budget(amount, "flops")
        if re.fullmatch("[A-Z]{3}", unit):
            return Budget(amount, "money", unit)
    raise ValueError(f"budget is {text!r}, expected 15 minutes, 1e15 FLOPs or 2 EUR")
