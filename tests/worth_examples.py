"""What the foundation is worth in a report's content, written by hand."""

from typing import Any


def pair() -> dict[str, Any]:
    return {
        "seed": 7,
        "metrics": ["f1"],
        "scores": {"model": {"f1": 0.91}, "from_scratch": {"f1": 0.71}},
        "gain": {"f1": {"value": 0.2, "low": 0.1234, "high": 0.2761}},
    }


def curve() -> dict[str, Any]:
    def mean(value: float) -> dict[str, Any]:
        return {"f1": {"value": value, "low": value - 0.03, "high": value + 0.03}}

    def point(share: float, labels: int, *values: float) -> dict[str, Any]:
        scores = dict(zip(("model", "from_scratch", "majority"), map(mean, values), strict=True))
        single = {"seed": 0, "scores": {who: {"f1": found["f1"]["value"]} for who, found in scores.items()}}
        gains = {who: mean(values[0] - found["f1"]["value"]) for who, found in scores.items() if who != "model"}
        losses = {"model": 0.01, "from_scratch": 0.5}
        return {
            "share": share,
            "labels": labels,
            "steps": 80,
            "scores": scores,
            "gains": gains,
            "losses": losses,
            "by_seed": [{**single, "gain": gains["from_scratch"], "losses": losses}],
        }

    return {
        "metrics": ["f1"],
        "seeds": [0, 1, 2],
        "margin": 0.01,
        "points": [point(0.05, 50, 0.8, 0.3, 0.1), point(1.0, 1000, 0.8123, 0.78, 0.1)],
        "saved": {"share": 0.05, "labels": 50, "of": 1000, "gain": mean(0.021)["f1"]},
    }
