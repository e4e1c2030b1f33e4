"""How the guardrails stand in the report: what a score may have cost, by model, with a picture of the robustness."""

from typing import Any

from tasks import report_words as words
from tasks.report_plots import FAINT, INK, MODEL, TWIN, WIDTH, Picture, picture, plain_axes

CHANGES = {
    "typos": "typing slips",
    "lower": "small letters",
    "upper": "capitals",
    "spaces": "more white space",
    "punctuation": "other punctuation",
    "negation": "“not”",
}
"""Changes of the inputs -> words."""


def guard_view(model: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the page shows of a model's guardrails; None where none were measured."""
    rows = guard_rows(model)
    return rows and {**rows, "picture": robustness(model["registered_name"], model["guard"]["robustness"])}


def guard_rows(model: dict[str, Any]) -> dict[str, Any] | None:
    """Return the same without the picture."""
    found = model.get("guard")
    if not found:
        return None
    latency, lengths = found["latency"], found["lengths"]
    return {
        "name": model["registered_name"],
        "metric": found["robustness"][0]["metric"] if found["robustness"] else "",
        "robustness": [_row(row) for row in found["robustness"]],
        "examples": [
            {"change": CHANGES[row["name"]], **row["example"]}
            for row in found["robustness"]
            if row["flips"] or row["lost"]
        ],
        "forgetting": [
            {
                "since": row["since"],
                "n": row["n"],
                "before": f"{row['before']:.4f}",
                "after": f"{row['after']:.4f}",
                "change": f"{row['forgetting']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]",
            }
            for row in found["forgetting"]
        ],
        "lengths": lengths
        and {
            **{name: f"{lengths[name]:.1f}" for name in ("mean", "p95", "reference_mean", "reference_p95")},
            "n": lengths["n"],
            "limit": lengths["limit"],
            "cut": words.percent(lengths["cut_share"]),
        },
        "latency": {
            **{name: words.figures(latency[f"latency_{name}"]) for name in ("ms", "p95_ms", "noise_ms")},
            "speed": words.figures(latency["inputs_per_second"]),
            "machine": latency["machine"],
        },
        "not_asked": list(found["not_asked"].items()),
    }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    metric = row["metric"]
    return {
        "change": CHANGES[row["name"]],
        "n": row["n"],
        "changed": row["changed"],
        "clean": words.score(metric, row["clean"]),
        "perturbed": words.score(metric, row["perturbed"]),
        "lost": _lost(row),
        "share": words.percent(row["lost_share"]),
        "flips": words.percent(row["flips"]),
    }


def _lost(row: dict[str, Any]) -> str:
    return f"{row['lost']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def robustness(name: str, rows: list[dict[str, Any]]) -> Picture | None:
    """Draw the score under each change with the clean one, and what is lost with its interval; None without changes."""
    if not rows:
        return None

    def draw(figure: Any) -> None:
        axes = plain_axes(figure)
        places = list(range(len(rows)))[::-1]
        axes.axvline(0, color=FAINT, linewidth=0.8)
        for place, row in zip(places, rows, strict=True):
            color, marker = (TWIN, "s") if row["low"] > 0 else (MODEL, "o")
            axes.plot([row["low"], row["high"]], [place, place], color=color, linewidth=1.4)
            axes.plot([row["lost"]], [place], color=color, marker=marker, markersize=5)
        axes.set_yticks(places, [CHANGES[row["name"]] for row in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        unit = f"{words.named(rows[0]['metric'])} lost (of 1), 95 % interval"
        axes.set_xlabel(unit)

    lost = [f"{CHANGES[row['name']]} {_lost(row)}" for row in rows]
    title = f"What changed inputs cost {name}"
    return picture(title, f"{title}, score lost: {'; '.join(lost)}.", (WIDTH, 0.7 + 0.27 * len(rows)), draw)
