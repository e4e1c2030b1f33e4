"""How contamination stands in the report: by set what was found and removed, and the scores without it."""

from typing import Any

from tasks import report_words as words


def contamination_view(content: dict[str, Any]) -> dict[str, Any] | None:
    """Return the tables of the section; None where the training text was not looked through."""
    found = content.get("contamination")
    if not found:
        return None
    sets = found["sets"]
    return {
        "text": found["text"],
        "ngram": found["ngram"],
        "sets": [
            {
                "name": name,
                **{key: entry[key] for key in ("items", "unchecked", "ingested", "removed", "pretraining")},
                "duplicates": entry.get("duplicates"),
                "clean": entry["clean"],
            }
            for name, entry in sets.items()
        ],
        "scores": [
            {
                **{key: row[key] for key in ("model", "set", "metric", "n", "clean_n")},
                "whole": _interval(row["value"], row["low"], row["high"]),
                "clean": _interval(row["clean_value"], row["clean_low"], row["clean_high"]),
            }
            for row in found["scores"]
        ],
        "examples": [
            {"set": name, **place}
            for name, entry in sets.items()
            for place in [place for place in entry["found"] if place["trained_on"]][:2]
        ],
    }


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return words.NONE
    return f"{value:.4f}" if low is None or high is None else f"{value:.4f} [{low:.4f}, {high:.4f}]"
