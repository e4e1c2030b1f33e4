"""The closing table of a pipeline run, in the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from tasks.receipts import Receipt
from tasks.report_words import named, score

WIDTH = 118


def print_table(receipt: Receipt, recipe: str) -> None:
    """Print what a report's receipt holds: models, scores beside baselines, verdicts, decisions, and what next."""
    console = Console(width=None if Console().is_terminal else WIDTH, highlight=False)
    rows = receipt.metrics["table"]
    table = Table(title=f"{receipt.recipe}: what came out", title_justify="left", show_lines=True)
    for column in ("model", "score", "baselines", "audit", "decision", "version"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            f"{row['model']}\n({named(row['kind'])})",
            f"{named(row['metric'])}\n{score(row['metric'], row['score'])}\n{named(row['also'])}\n"
            f"{score(row['also'], row['also_score'])}",
            _baselines(row),
            "\n".join(f"{name}\n{verdict}" for name, verdict in row["audits"].items()),
            _decision(row),
            f"{row['version']}" + (f" @{row['alias']}" if row["alias"] else ""),
        )
    for row in receipt.metrics["failed"]:
        table.add_row(f"{row['model']}\n({named(row['kind'])})", "", "", "", "not made, below", "")
    console.print(table)
    for row in receipt.metrics["failed"]:
        console.print(f"{row['model']}: not made\n  {row['reason']}", soft_wrap=True, markup=False)
    for row in rows:
        console.print(f"{row['model']}: {_headline(row)}", soft_wrap=True)
        for reason in row["reasons"]:
            console.print(f"  {reason}", soft_wrap=True, markup=False)
    champions = [row["model"] for row in rows if row["alias"] == "champion"]
    served = champions[-1] if champions else "<a model with a champion>"
    console.print(
        f"\nReport   {receipt.directory}/report.html (and report.md, report.json)\n"
        f"Pages    make up, then the addresses that it prints\n"
        f"Serve    make serve, every champion; or one: MLFLOW_TRACKING_URI=sqlite:///var/mlflow/mlflow.db "
        f".venv/bin/mlflow models serve -m models:/{served}@champion --env-manager local\n"
        f"Again    .venv/bin/python -m flows pipeline {recipe}   (what is done is found done)",
        soft_wrap=True,
        markup=False,
    )


def _baselines(row: dict[str, Any]) -> str:
    lines = []
    for name, value in row["baselines"].items():
        also = row["also_baselines"].get(name)
        more = f", {score(row['also'], also)}" if also is not None else ""
        lines.append(f"{named(name)} {score(row['metric'], value)}{more}")
    return "\n".join(lines)


def _decision(row: dict[str, Any]) -> str:
    failed = sum(reason.startswith("fail") for reason in row["reasons"])
    return _headline(row) + (f"\n{failed} reason{'s' * (failed > 1)} against, below" if failed else "")


def _headline(row: dict[str, Any]) -> str:
    if row["promoted"]:
        return "promoted"
    return "kept as challenger" if row["alias"] == "challenger" else "refused"
