"""The report's section on cost: what each model's training took, and the ledger of all steps."""

from typing import Any

from tasks import report_words as words
from tasks.console import duration

COMMON = "data and tokenizer"
"""The steps that no model has for itself."""


def cost_view(content: dict[str, Any]) -> dict[str, Any]:
    """Return the trainings, the sums by model, and all steps, with the amounts as text.

    A column that is unknown everywhere (money without a price, energy without constants) is left out.
    """
    cost, models = content["cost"], content["models"]
    names = {"": COMMON} | {name: model["registered_name"] for name, model in models.items()}
    shown = [column for column in COLUMNS if cost["total"][column[0]] is not None]
    return {
        "trainings": [_training(name, models[name], cost) for name in models],
        "columns": [title for _, title, _ in shown],
        "models": [(names[name], _cells(found, shown, cost)) for name, found in cost["models"].items()],
        "total": _cells(cost["total"], shown, cost),
        "steps": [(row["step"], _cells(row, shown, cost)) for row in cost["rows"]],
        "planned": _planned(cost.get("planned")),
        "notes": _notes(cost),
    }


def energy(kwh: float | None) -> str:
    """Write an energy in the unit that fits.

    >>> energy(0.00331), energy(12.5)
    ('3.31 Wh', '12.5 kWh')
    """
    if kwh is None:
        return words.NONE
    return f"{words.figures(kwh)} kWh" if kwh >= 1 else f"{words.figures(1000 * kwh)} Wh"


def mass(kg: float | None) -> str:
    """Write a mass in the unit that fits.

    >>> mass(0.00157), mass(2.0)
    ('1.57 g', '2.00 kg')
    """
    if kg is None:
        return words.NONE
    return f"{words.figures(kg)} kg" if kg >= 1 else f"{words.figures(1000 * kg)} g"


def price(money: float | None, currency: str) -> str:
    """Write a price with two digits after the point, with four where it is small."""
    return words.NONE if money is None else f"{money:,.{2 if money >= 1 else 4}f} {currency}"


COLUMNS = (
    ("device_seconds", "Device time", lambda value, cost: duration(value)),
    ("processor_seconds", "Processor time", lambda value, cost: duration(value)),
    ("flops", "Operations", lambda value, cost: words.flops(value)),
    ("tokens", "Tokens trained", lambda value, cost: f"{value:,.0f}" if value else words.NONE),
    ("energy_kwh", "Energy", lambda value, cost: energy(value)),
    ("co2_kg", "CO2e", lambda value, cost: mass(value)),
    ("money", "Money", lambda value, cost: price(value, cost["currency"])),
)
"""Amount, title, and how it is written."""


def _cells(found: dict[str, Any], shown: list[Any], cost: dict[str, Any]) -> list[str]:
    return [words.NONE if found[name] is None else write(found[name], cost) for name, _, write in shown]


def amounts(found: dict[str, Any], cost: dict[str, Any]) -> list[tuple[str, str]]:
    """Return title and amount of all that is known of a cost."""
    named = [(title if title == "CO2e" else title.lower(), write, found[name]) for name, title, write in COLUMNS]
    return [(title, write(value, cost)) for title, write, value in named if value]


def _training(name: str, model: dict[str, Any], cost: dict[str, Any]) -> dict[str, Any]:
    """Return what a model's own training took, beside its twin and its share of the foundation."""
    steps = [row for row in cost["rows"] if row["model"] == name]
    own = {"foundation": ("pretrain", "adapt")}.get(name, (f"finetune/{name}",))
    trained = [row for row in steps if row["step"].partition("+")[0] in own]
    twin = sum(row["seconds"] for row in steps if row["step"] == f"scratch/{name}")
    share, training = cost["shares"].get(name), model["training"]
    return {
        "name": model["registered_name"],
        "seconds": duration(sum(row["seconds"] for row in trained)),
        "flops": words.flops(sum(row["flops"] for row in trained)),
        "tokens": f"{sum(row['tokens'] for row in trained):,.0f}",
        "speed": words.figures(training.get("tokens_per_second")),
        "twin": duration(twin) if twin else words.NONE,
        "share": words.NONE
        if share is None
        else ", ".join(
            [
                duration(share["seconds"]),
                words.flops(share["flops"]),
                *([energy(share["energy_kwh"])] if share["energy_kwh"] is not None else []),
                *([price(share["money"], cost["currency"])] if share["money"] is not None else []),
            ]
        ),
        "device": ", ".join(str(training[key]) for key in ("device", "precision") if training.get(key)),
    }


def _planned(planned: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the steps that a plan foresaw: expected, true, and the second over the first."""
    if planned is None:
        return None

    def cells(row: dict[str, float]) -> list[str]:
        return [duration(row["expected"]), duration(row["took"]), f"{row['took'] / max(row['expected'], 1e-9):.2f}"]

    rows = [(row["step"], cells(row)) for row in planned["rows"]]
    return {"rows": rows, "total": cells(planned["total"]), "busy": f"{planned['busy']:.1f}"}


def _notes(cost: dict[str, Any]) -> list[str]:
    """Say how the figures were obtained."""
    said = [
        "Operations are counted for trainings alone: 6 N + 12 H Q T for a token, summed over layers (Chowdhery et al. "
        "2022). Processor time is of all threads; steps that ran at the same time count each other's."
    ]
    power = cost["power"]
    if power is None:
        said.append("Energy and emissions are unknown: codecarbon gave no figures for this machine.")
    else:
        cards = (
            "graphics cards by their own energy counter while a model was trained, the rest "
            if cost["graphics_cards_measured"]
            else ""
        )
        where = f"the electricity of {cost['country']}" if cost["country"] else "the world's average electricity"
        said.append(
            f"Energy: {cards}estimated, not measured: {power['processor_watts']:g} W for the {power['threads']} "
            f"threads of {power['processor']} under full load, in proportion to the processor time, and "
            f"{power['memory_watts']:g} W for the memory all the time. Emissions: {power['kg_per_kwh']:.3f} kg of CO2 "
            f"equivalents a kWh, {where}. All constants are those of codecarbon {power['codecarbon']}; cooling and "
            "the making of the machine are not in them."
        )
    if cost["device_hour"] is not None:
        said.append(f"Money: {cost['device_hour']:g} {cost['currency']} for an hour of one device (recipe).")
    said.append("The report itself is not in the sums, nor what a run that was stopped had spent before it.")
    return said
