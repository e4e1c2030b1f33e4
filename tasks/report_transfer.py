"""What the foundation is worth, as the report tells it: learning curves over seeds, or the one pair there is."""

from typing import Any

from tasks import report_words as words
from tasks.report_plots import FAINT, INK, MARGIN, MODEL, TWIN, WIDTH, Picture, dress, picture

LOOKS = {"model": (MODEL, "o", "-"), "from_scratch": (TWIN, "s", "-")}
BASELINES = ((INK, ":"), (MARGIN, "-."), (FAINT, "--"))
STARTS = {"model": "from the foundation", "from_scratch": "from scratch"}


def arrange_worth(worth: dict[str, Any]) -> dict[str, Any] | None:
    """Return the section's content, None where no specialist has a twin from scratch.

    Args: worth: specialist -> its registered name, its curve over seeds where there is one, and the pipeline's pair.
    """
    curves = [_curve_view(found["model"], found["curve"]) for found in worth.values() if found["curve"]]
    single = [found for found in worth.values() if not found["curve"]]
    if not worth:
        return None
    return {
        "curves": curves,
        "pictures": [view["picture"] for view in curves],
        "seed": single[0]["pair"]["seed"] if single else None,
        "pairs": [row for found in single for row in _pair_rows(_named(found), found["pair"])],
    }


def worth_sentences(found: dict[str, Any]) -> list[str]:
    """Say in words what the foundation is worth to one specialist: over seeds where that was measured, or of one."""
    if found["curve"]:
        points, metric = found["curve"]["points"], found["curve"]["metrics"][0]
        said = [_verdict(point, metric, len(found["curve"]["seeds"])) for point in points]
        return [*said, _saved(found["curve"]["saved"], metric, found["curve"]["margin"])]
    return [
        f"{words.named(row['metric'])}: from the foundation {row['scores'][0]}, from scratch {row['scores'][1]}, "
        f"difference {row['gain']} (one seed, {found['pair']['seed']})."
        for row in _pair_rows(found["model"], found["pair"])
    ]


def _named(found: dict[str, Any]) -> str:
    """Name a specialist, and its mitigation, which its twin from scratch does not have."""
    method = found["mitigation"]
    return str(found["model"]) if method == "none" else f"{found['model']}, mitigated ({words.named(method)})"


def _pair_rows(name: str, pair: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "model": name,
            "metric": metric,
            "scores": [words.score(metric, pair["scores"][who][metric]) for who in STARTS],
            "gain": gained(metric, pair["gain"][metric]),
        }
        for metric in pair["metrics"]
    ]


def _curve_view(name: str, curve: dict[str, Any]) -> dict[str, Any]:
    points, metrics = curve["points"], curve["metrics"]
    baselines = [who for who in points[0]["scores"] if who not in STARTS]
    seeds = len(curve["seeds"])
    return {
        "model": name,
        "sentences": [_verdict(point, metrics[0], seeds) for point in points],
        "saved": _saved(curve["saved"], metrics[0], curve["margin"]),
        "note": f"{_note(seeds, curve['seeds'])} {_losses(points)}",
        "picture": learning_curves(name, curve),
        "columns": [*STARTS.values(), *map(words.named, baselines)],
        "tables": [
            {
                "metric": metric,
                "rows": [
                    {
                        **_share(point),
                        "scores": [
                            *(_bounded(metric, point["scores"][who][metric]) for who in STARTS),
                            *(words.score(metric, point["scores"][who][metric]["value"]) for who in baselines),
                        ],
                        "gain": gained(metric, point["gains"]["from_scratch"][metric]),
                    }
                    for point in points
                ],
            }
            for metric in metrics
        ],
        "metric": metrics[0],
        "by_seed": [
            {
                **_share(point),
                "seed": own["seed"],
                "scores": [words.score(metrics[0], own["scores"][who][metrics[0]]) for who in (*STARTS, *baselines)],
                "gain": gained(metrics[0], own["gain"][metrics[0]]),
                "losses": " and ".join(words.figures(own["losses"][who]) for who in STARTS),
            }
            for point in points
            for own in point["by_seed"]
        ],
    }


def _share(point: dict[str, Any]) -> dict[str, Any]:
    return {"labels": point["labels"], "share": f"{100 * point['share']:g} %", "steps": point["steps"]}


def gained(metric: str, gain: dict[str, Any]) -> str:
    """Write a difference with its interval; that of a score read in percent is in points.

    >>> gained("accuracy", {"value": 0.291, "low": 0.2, "high": 0.382})
    '+29.1 points [+20.0, +38.2]'
    """
    scale, digits, unit = (100, 1, " points") if metric in words.PERCENT else (1, 3, "")
    value, low, high = (f"{_unsigned_zero(scale * gain[key], digits):+.{digits}f}" for key in ("value", "low", "high"))
    return f"{value}{unit} [{low}, {high}]"


def _unsigned_zero(value: float, digits: int) -> float:
    """Round, and take the sign off a zero: -0.0 would read as a loss."""
    return round(value, digits) + 0.0


def _bounded(metric: str, found: dict[str, Any]) -> str:
    """Write a score with its interval, cut where the score itself ends."""
    return words.scored(
        metric, {"value": found["value"], **dict(zip(("low", "high"), _ends(metric, found), strict=True))}
    )


def _ends(metric: str, found: dict[str, Any]) -> tuple[float, float]:
    """Return the ends of an interval; a share ends at 0 and 1, whatever a normal interval says."""
    if metric in words.PERCENT or metric.startswith("rouge"):
        return max(found["low"], 0.0), min(found["high"], 1.0)
    return found["low"], found["high"]


def _verdict(point: dict[str, Any], metric: str, seeds: int) -> str:
    """Say whether the specialist beats training from scratch and each baseline at one share."""
    by: dict[str, list[str]] = {"beats": [], "falls short of": [], "": []}
    for who, gains in point["gains"].items():
        gain = gains[metric]
        verb = "beats" if gain["low"] > 0 else "falls short of" if gain["high"] < 0 else ""
        name = "training from scratch" if who == "from_scratch" else words.named(who)
        by[verb].append(f"{name} ({gained(metric, gain)})")
    shown = _bounded(metric, point["scores"]["model"][metric])
    said = [f"it {verb} {words.listed(names)}" for verb, names in by.items() if verb and names]
    if by[""]:
        said.append(f"no difference is shown to {words.listed(by[''])}")
    of = "" if seeds > 1 else " (one seed)"
    return (
        f"With {point['labels']:,} labels ({100 * point['share']:g} %) and {point['steps']:,} steps it reaches "
        f"{shown} {words.named(metric)}{of}: {'; '.join(said)}."
    )


def _saved(saved: dict[str, Any], metric: str, margin: float) -> str:
    """Say how many labels the foundation saves, or why that cannot be said."""
    points = 100 * margin
    tie = f"{points:g} point{'s' * (points != 1)}" if metric in words.PERCENT else f"{margin:g}"
    if "labels" in saved:
        return (
            f"Labels saved: with {saved['labels']:,} of {saved['of']:,} labels ({100 * saved['share']:g} %) the "
            f"foundation is where training from scratch is with all of them (difference "
            f"{gained(metric, saved['gain'])}, and no larger share is worse by the policy's tie of {tie})."
        )
    reasons = {
        "no share is all labels": "no figure, since no training on all labels was compared.",
        "not learnt": "no figure, since training from scratch does not get beyond "
        f"{words.named(saved.get('baseline', ''))} even with all labels"
        + (f" ({gained(metric, saved['gain'])})." if "gain" in saved else "."),
        "not with fewer": "none shown; only with all of them is the foundation sure to be where training from "
        f"scratch is with all (within the policy's tie of {tie}).",
        "not reached": "none; even with all of them it is not shown to be where training from scratch is "
        f"(within the policy's tie of {tie}).",
    }
    return f"Labels saved: {reasons[saved['why']]}"


def _note(seeds: int, which: list[int]) -> str:
    """Say what the intervals hold."""
    if seeds == 1:
        return f"Of one seed ({which[0]}): the intervals hold the items' variation, not that of another training."
    few = (
        f" {seeds} seeds tell their own spread roughly (on {seeds - 1} degrees of freedom), so where they differ the "
        "intervals are wide: t of Student in place of 1.96."
        if seeds < 6
        else ""
    )
    return (
        f"Means over the seeds {words.listed([str(seed) for seed in which])}, which draw the rows, fresh weights and "
        "the order of batches anew; the foundation is one. 95 % intervals hold the seeds' and the items' variation "
        f"(variances added, degrees of freedom by Satterthwaite); differences are paired by item within a seed.{few}"
    )


def _losses(points: list[dict[str, Any]]) -> str:
    """Say how far each start had come with its training rows: a curve of half-trained models tells nothing."""
    ends = "; ".join(
        f"with {point['labels']:,} labels {' and '.join(words.figures(point['losses'][who]) for who in STARTS)}"
        for point in points
    )
    return f"Mean training loss of the last step in nats, from the foundation and from scratch: {ends}."


def learning_curves(name: str, curve: dict[str, Any]) -> Picture:
    """Draw each score over the number of labels: both starts with intervals, the baselines as lines."""
    points, metrics = curve["points"], curve["metrics"]
    labels = [point["labels"] for point in points]
    baselines = [who for who in points[0]["scores"] if who not in LOOKS]

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            dress(axes)
            scale = 100 if metric in words.PERCENT else 1
            for number, who in enumerate(baselines):
                color, line = BASELINES[number % len(BASELINES)]
                values = [scale * point["scores"][who][metric]["value"] for point in points]
                axes.plot(labels, values, color=color, linestyle=line, linewidth=1.3, label=words.named(who))
            for side, (who, (color, marker, line)) in enumerate(LOOKS.items()):
                found = [point["scores"][who][metric] for point in points]
                values = [scale * own["value"] for own in found]
                ends = [[scale * end for end in _ends(metric, own)] for own in found]
                # A little apart, so that intervals at the same number of labels can be told.
                places = [count * (0.97, 1.03)[side] for count in labels]
                axes.vlines(places, [low for low, _ in ends], [high for _, high in ends], color=color, linewidth=1.6)
                axes.plot(places, values, color=color, marker=marker, linestyle=line, markersize=5, label=STARTS[who])
            axes.set_xscale("log")
            axes.set_xticks(labels, [f"{count:,}" for count in labels])
            axes.minorticks_off()
            axes.set_xlabel("labels (rows, log scale)")
            axes.set_ylabel(f"{words.named(metric)}{' (%)' if scale == 100 else ''}")
        handles, names = panels[0].get_legend_handles_labels()
        order = [*range(len(baselines), len(names)), *range(len(baselines))]
        figure.legend(
            [handles[i] for i in order],
            [names[i] for i in order],
            loc="outside upper left",
            ncols=4,
            frameon=False,
            fontsize=9,
            labelcolor=INK,
        )

    said = "; ".join(
        f"{point['labels']} labels: "
        + ", ".join(f"{STARTS[who]} {_bounded(metrics[0], point['scores'][who][metrics[0]])}" for who in LOOKS)
        for point in points
    )
    alt = f"Learning curves of {name}, {words.named(metrics[0])} by the number of labels: {said}."
    return picture(f"Learning curves of {name}", alt, (WIDTH, 3.0), draw)
