"""`python -m flows plan <recipe>`: what a run will take, measured in about ten seconds, as a table."""

from typing import Any

from rich.console import Console
from rich.table import Table

from flows.table import WIDTH
from tasks.console import duration
from tasks.report_cost import energy, price
from tasks.report_words import NONE, flops, size


def run_plan(recipe: str, overrides: list[str]) -> int:
    """Make the plan of a recipe, print it, and return the exit code."""
    from tasks.budget import open_recipe
    from tasks.plan import make_plan

    print_plan(make_plan(open_recipe(recipe, overrides)))
    return 0


def print_plan(plan: dict[str, Any]) -> None:
    """Print the trainings, the steps around them and the sums."""
    console = Console(width=None if Console().is_terminal else WIDTH, highlight=False)
    trainings = Table(title=f"{plan['recipe']}: trainings", title_justify="left")
    for column in ("step", "weights", "tokens", "steps", "operations", "memory", "time", "energy"):
        trainings.add_column(column, justify="left" if column == "step" else "right", overflow="fold")
    for row in plan["rows"]:
        if row["training"]:
            trainings.add_row(
                row["step"],
                _count(row["parameters"]),
                _count(row["tokens"]),
                f"{row['steps']:,}",
                flops(row["flops"]),
                size(round(row["memory"]["total"])),
                duration(row["seconds"]),
                energy(row["energy_kwh"]),
            )
    console.print(trainings)
    others = Table(title="The steps around them", title_justify="left")
    for column in ("step", "time", "from"):
        others.add_column(column, justify="right" if column == "time" else "left", overflow="fold")
    for row in plan["rows"]:
        if not row["training"]:
            others.add_row(row["step"], duration(row["seconds"]), row["how"])
    console.print(others)
    total = plan["total"]
    known = ", ".join(f"{name} {data['known']}" for name, data in plan["data"].items())
    console.print(
        f"In all    {duration(total['seconds'])} where this machine does nothing else; {flops(total['flops'])} of "
        f"training, {_count(total['tokens'])} tokens\n"
        + (f"Now       other work makes it {plan['busy']:.1f} times as long\n" if plan["busy"] > BUSY else "")
        + f"Energy    {energy(total['energy_kwh'])}"
        + (f", {price(total['money'], plan['currency'])}" if total["money"] is not None else "")
        + f"\nMemory    of a training by formula, beside {MEMORY_BESIDE} for the libraries; each training has its own "
        f"process\nRows      {known}" + "".join(f"\nWithout   {said}" for said in plan["left_out"]),
        soft_wrap=True,
        markup=False,
    )


MEMORY_BESIDE = "about 500 MB"
BUSY = 1.25
"""How many times longer something takes before the table says so."""


def _count(value: float | None) -> str:
    """Write a count with three significant digits and a unit.

    >>> _count(984192), _count(4915200)
    ('984 k', '4.92 M')
    """
    if not value:
        return NONE
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:#.3g} {name}".replace(". ", " ")
    return f"{value:g}"
