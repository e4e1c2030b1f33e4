"""The report's numbers and sentences: how a value is written, and what may be said of it."""

from typing import Any

PERCENT = frozenset(
    [
        *("accuracy", "macro_f1", "exact_match", "f1", "precision", "recall", "preference_accuracy"),
        *("masked_accuracy", "nsp_accuracy", "token_accuracy"),
        *("likelihood_accuracy", "win_rate", "scored_share", "ended_share"),
    ]
)
NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "ece": "calibration error (0 is perfect)",
    "exact_match": "exact match",
    "bits_per_byte": "bits per byte",
    "nats_per_token": "nats per token",
    "perplexity": "perplexity",
    "nsp_accuracy": "next-sentence accuracy",
    "f1": "F1",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "mcc": "MCC",
    "bytes_per_token": "bytes a token",
    "probability_gap": "probability gap",
    "flip_rate": "flip rate",
    "occupation_pronoun": "occupation-pronoun",
    "occupation_pronoun_amplification": "occupation-pronoun, growth",
    "group_fairness_data_amplification": "label gap, growth over the training rows",
    "counterfactual": "counterfactual",
    "crows_pairs": "CrowS-Pairs",
    "stereoset": "StereoSet",
    "winobias": "WinoBias",
    "bbq": "BBQ",
    "bbq_ambiguous": "BBQ, ambiguous",
    "bbq_disambiguated": "BBQ, disambiguated",
    "subgroup_auc": "subgroup AUC",
    **{
        f"{level}_{name}": f"{level.upper()}, {words}"
        for level in ("weat", "seat")
        for name, words in (
            ("gender_career", "gender and career"),
            ("gender_science", "gender and science"),
            ("age_pleasant", "age and pleasantness"),
        )
    },
    "cda": "CDA",
    "model": "model",
    "from_scratch": "from scratch",
    "before": "before the tuning",
    "majority": "majority",
    "model_chosen": "log P(chosen), model (nats)",
    "model_rejected": "log P(rejected), model",
    "before_chosen": "log P(chosen), before",
    "before_rejected": "log P(rejected), before",
    "all_o": "no entity at all",
    "tfidf_lr": "TF-IDF regression",
    "nearest_neighbour": "nearest neighbour",
    "unigram": "unigram",
}
"""Names of scores, audits, kinds and contenders as a reader knows them; others are shown as they are."""
RATES = ("flip_rate", "lost_similarity")
"""Metrics of audits that cannot be below 0 in truth; the others are signed gaps."""
NONE = "–"  # noqa: RUF001


def named(name: str) -> str:
    """Return the readable name of a score, an audit or a contender."""
    return NAMES.get(name, name.replace("_", " "))


def percent(share: float | None) -> str:
    """Write a share as a percentage with one decimal; the space before the sign does not break."""
    return NONE if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def figures(value: float | None) -> str:
    """Write a loss or another plain number with three significant digits."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if 1000 <= abs(value) < float("inf") else f"{value:#.3g}".removesuffix(".")


def score(metric: str, value: float | None) -> str:
    """Write a score the way its metric is read.

    >>> score("bits_per_byte", 1.92918), score("rouge_l", 0.5), score("bleu", 12.345)
    ('1.929', '0.500', '12.3')
    """
    if value is None:
        return NONE
    if metric in PERCENT:
        return percent(value)
    if metric in ("bleu", "chrf"):
        return f"{value:.1f}"
    return (
        f"{value:.3f}"
        if metric in ("bits_per_byte", "mcc", "ece") or metric.startswith(("rouge", "mean_", "reward_"))
        else figures(value)
    )


def scored(metric: str, found: dict[str, Any] | None) -> str:
    """Write a score with its interval, where it has one."""
    if found is None:
        return NONE
    value = score(metric, found["value"])
    if found.get("low") is None or found.get("high") is None:
        return value
    return f"{value} [{score(metric, found['low'])}, {score(metric, found['high'])}]"


def audited(audit: dict[str, Any]) -> str:
    """Write an audit's estimate and interval, signed where the metric has a direction."""
    if audit["estimate"] is None:
        return "no estimate"
    sign = "" if audit["metric"] in RATES else "+"
    estimate, low, high = (f"{audit[key]:{sign}.4f}" for key in ("estimate", "low", "high"))
    return f"{estimate} [{low}, {high}]"


def margin(audit: dict[str, Any]) -> str:
    """Write the margin that an audit was held against, with both signs where the metric has a direction."""
    one_sided = audit["metric"] in RATES or audit["metric"].endswith("_amplification")
    return f"margin {'' if one_sided else '±'}{audit['margin']:g}"


def flops(value: float | None) -> str:
    """Write a number of floating point operations with an SI prefix."""
    if not value:
        return NONE
    for size, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:#.3g} {prefix}FLOP".replace(". ", " ")
    return f"{value:,.0f} FLOP"


def size(count: int | None) -> str:
    """Write a number of bytes in the unit that fits (1 MB = 10^6 bytes)."""
    if count is None:
        return NONE
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:#.3g} {name}".replace(". ", " ")
    return f"{count} bytes"


def listed(names: list[str]) -> str:
    """Join names as in a sentence: a, b and c."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def standing(row: dict[str, Any]) -> str:
    """Return promoted, challenger or refused for a row of the closing table."""
    if row["promoted"]:
        return "promoted"
    return "challenger" if row["alias"] == "challenger" else "refused"


def headline(table: list[dict[str, Any]], failed: list[dict[str, Any]]) -> str:
    """Say in a sentence how many models were made and which of them was promoted, held, refused or not made."""
    by: dict[str, list[str]] = {"promoted": [], "challenger": [], "refused": []}
    for row in table:
        by[standing(row)].append(row["model"])
    promoted, held, refused = by["promoted"], by["challenger"], by["refused"]
    total = f"{len(table)} {'model was' if len(table) == 1 else 'models were'} trained, audited and assessed"
    said = [f"{len(promoted)} promoted ({listed(promoted)})" if promoted else "none promoted"]
    if held:
        said.append(f"{len(held)} kept as challenger ({listed(held)})")
    if refused:
        said.append(f"{len(refused)} refused ({listed(refused)})")
    missing = f" {len(failed)} failed ({listed([row['model'] for row in failed])})." if failed else ""
    return f"{total}: {listed(said)}.{missing}"


MEASURED = {
    "classification": ("macro_f1", "reaches a macro F1 of {}"),
    "token_classification": ("f1", "finds entities with an F1 of {}"),
    "question_answering": ("f1", "finds answers with an F1 of {}"),
    "instruction": ("rouge_l", "reaches a ROUGE-L of {}"),
    "preference": ("likelihood_accuracy", "finds the chosen answer likelier in {} of the held-out pairs"),
    "rlhf": ("mean_reward", "earns a mean reward of {}"),
}
"""Kind -> the score that tells what its start is worth to it, and the words around the figure."""


UNSHOWN = "its interval holds 0, so no difference is shown"


def difference(metric: str, gap: dict[str, Any]) -> str:
    """Write the gap between two scores with its interval; of percentages in points.

    >>> difference("accuracy", {"difference": 0.0175, "low": 0.005, "high": 0.0327})
    '+1.8 points [+0.5, +3.3]'
    """
    scale, unit, digits = (100, " points", 1) if metric in PERCENT else (1, "", 3)
    middle, low, high = (
        f"{round(scale * gap[key], digits) + 0.0:+.{digits}f}" for key in ("difference", "low", "high")
    )
    return f"{middle}{unit} [{low}, {high}]"


def thesis(model: dict[str, Any]) -> str | None:
    """Say what a specialist gained over what stands beside it, as far as the numbers go; None where nothing does.

    Beside it stands its twin from scratch, or the model that it was before. A difference is called one only where
    the interval of the paired gap leaves out 0.
    """
    # Only the starter's questions are known to ask for what the pretraining text alone holds.
    planted = model["kind"] == "instruction" and model.get("sources") == ["starter"]
    metric, words = ("exact_match", "answers {} exactly") if planted else MEASURED.get(model["kind"], ("", ""))
    beside = next((name for name in ("from_scratch", "before") if name in model["scores"]), "")
    ours, other = (model["scores"].get(name, {}).get("scores", {}).get(metric) for name in ("model", beside))
    gap = model["gaps"].get(metric)
    if ours is None or other is None or gap is None:
        return None
    x, y = scored(metric, ours), scored(metric, other)
    ahead, behind = gap["low"] > 0, gap["high"] < 0
    change = f"a paired difference of {difference(metric, gap)}"
    if beside == "before":
        said = f"{model['registered_name']} {words.format(x)}, {y} before the tuning, {change}"
        verdict = "the tuning took hold" if ahead else "the tuning made it worse" if behind else UNSHOWN
        return f"{said}: {verdict}."
    asked = "Asked about things that stand only in the pretraining text, " if planted else ""
    said = (
        f"{asked}{model['registered_name']} {words.format(x)} when it starts from the foundation and {y} when it is "
        f"trained from scratch on the same budget, {change}"
    )
    if not planted:
        verdict = "pretraining helps here" if ahead else "here the foundation makes it worse" if behind else UNSHOWN
        return f"{said}: {verdict}."
    if ahead:
        if ours["value"] >= 0.5:
            return f"{said}: pretraining holds the knowledge, fine-tuning the skill."
        return f"{said}: pretraining holds knowledge that fine-tuning alone does not give, but most is missed."
    if behind:
        return f"{said}: here the foundation makes it worse, so this run speaks against the thesis."
    return f"{said}: the interval holds 0, so this run does not show that pretraining holds the knowledge."


def trained_share(training: dict[str, Any]) -> str:
    """Say which share of a model's weights an adapter trained; empty where all were."""
    trainable, all_weights = training.get("trainable_parameters"), training.get("parameters")
    if not trainable or not all_weights or trainable >= all_weights:
        return ""
    return (
        f"Low-rank adapters: {trainable:,} of {all_weights:,} weights were trained "
        f"({percent(trainable / all_weights)}), and merged into the model."
    )


def forgetting(training: dict[str, Any]) -> str:
    """Say what the adaptation to a domain gave on its text and took on the general one; empty without one."""
    if training.get("forgetting") is None:
        return ""
    numbers = {
        key: figures(training[key])
        for key in ("domain_loss_before", "domain_loss_after", "general_loss_before", "general_loss_after")
    }
    return (
        "Adapted to the domain, in nats per token of held-out text: the domain's from {domain_loss_before} to "
        "{domain_loss_after}, the general text's from {general_loss_before} to {general_loss_after}".format(**numbers)
        + f", so {training['forgetting']:+.3f} is what it forgot."
    )


def calibration(scores: dict[str, Any]) -> str:
    """Say how far a classifier's confidence is from how often it is right, and which way is good; empty without it.

    Args: scores: contender -> its scores, as the assessment wrote them.
    """
    found = {name: whole["scores"]["ece"] for name, whole in scores.items() if "ece" in whole["scores"]}
    if "model" not in found:
        return ""
    own = found.pop("model")
    beside = "".join(f"; {named(name)}: {scored('ece', other)}" for name, other in found.items())
    said = (
        f"Calibration: the model's confidence and the share of texts in which it is right differ by "
        f"{scored('ece', own)} on average (expected calibration error; 0 is perfect, less is better){beside}."
    )
    if own.get("low") == 0:
        said += " A perfectly calibrated model may show as much on so few texts."
    return said
