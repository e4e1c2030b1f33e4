"""A small report's content, written by hand, with every kind of model and text that must be escaped."""

from pathlib import Path
from typing import Any

from worth_examples import curve, pair

from tasks.report_pages import write_pages

EVIL = "<script>alert(1)</script>|`*x*`"
BEATEN = (
    "fail: does not beat the baseline tfidf_lr: macro_f1 0.9654 against 0.9700, a gain of -0.0046 [-0.0150, +0.0060]; "
    "its lower end is to be above 0."
)
NOT_SHOWN = (
    "fail: not shown to be better than the champion, who stays: rouge_l 0.9375 against the champion's 0.9250, a gain "
    "of +0.0125 [-0.0040, +0.0290]; its lower end is to be above 0."
)


def score(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "items": 200, "scorer": "by hand"}


def scores(labels: list[str] | None = None, **found: dict[str, Any]) -> dict[str, Any]:
    confusion = [[90, 10], [20, 80]] if labels else []
    f1 = dict.fromkeys(labels or [], 0.857)
    return {"scores": found, "labels": labels or [], "f1": f1, "confusion": confusion}


def gap(difference: float, low: float, high: float) -> dict[str, Any]:
    return {"difference": difference, "low": low, "high": high, "paired": True}


def audit(name: str, metric: str, estimate: float | None, **changes: Any) -> dict[str, Any]:
    low, high = (None, None) if estimate is None else (estimate - 0.01, estimate + 0.01)
    found = {
        "audit": name,
        "scorer": "by hand",
        "metric": metric,
        "estimate": estimate,
        "low": low,
        "high": high,
        "confidence": 0.95,
        "margin": 0.05,
        "items": 4,
        "clusters": 4,
        "mde": None if estimate is None else 0.0123,
        "verdict": "REFUSED" if estimate is None else "PASS",
        "reason": "Because it was measured so.",
        "capability": {"name": "accuracy", "value": 0.51, "floor": 0.55, "higher_is_better": True},
        "details": {},
        "caveat": "evidence of bias, never of its absence",
    }
    return found | changes


def model(name: str, kind: str, **changes: Any) -> dict[str, Any]:
    lineage = {"recipe_digest": "a" * 64, "commit": "b" * 40, "weights_digest": "c" * 64, "seed": 0}
    if kind != "foundation":
        lineage |= {"foundation": "town-foundation", "foundation_version": "3"}
    found = {
        "model": name,
        "registered_name": f"town-{name}",
        "kind": kind,
        "sources": ["starter"],
        "version": "3",
        "run_id": "d" * 32,
        "decision": {"promote": True, "alias": "champion", "reasons": []},
        "lineage": lineage,
        "scores": {},
        "baselines": {},
        "gaps": {},
        "audits": [],
        "training": {
            "tokens": 1_234_567,
            "tokens_per_second": 4321.0,
            "flops": 2.5e12,
            "device": "cpu",
            "precision": "bf16",
            "train_loss": {"first": 6.9661, "final": 1.23456},
            "valid_loss": {"final": 1.34567, "best": 1.34567, "best_step": 20},
        },
        "curve": {"train/loss": [[1, 6.9661], [20, 1.23456]], "valid/loss": [[20, 1.34567]]},
        "control_curve": {},
        "pretrained_curve": {},
        "examples": [],
        "in_context": [],
    }
    return found | changes


def row(found: dict[str, Any], metric: str, alias: str | None, reasons: list[str]) -> dict[str, Any]:
    return {
        "model": found["registered_name"],
        "kind": found["kind"],
        "metric": metric,
        "score": found["scores"]["model"]["scores"][metric]["value"],
        "baselines": {name: value[metric] for name, value in found["baselines"].items()},
        "audits": {one["audit"]: one["verdict"] for one in found["audits"]},
        "promoted": alias == "champion",
        "reasons": reasons,
        "version": found["version"],
        "alias": alias,
    }


def make_content() -> dict[str, Any]:
    pronoun = audit("occupation_pronoun", "probability_gap", 0.0125)
    pronoun["details"] = {
        "by_occupation": [
            {"occupation": EVIL, "half": "he", "p_he": 0.61},
            {"occupation": "potter", "half": "she", "p_he": 0.48},
        ]
    }
    foundation = model(
        "foundation",
        "foundation",
        scores={"model": scores(bits_per_byte=score(0.81234), perplexity=score(12.345))},
        baselines={"unigram": {"bits_per_byte": 2.71205}},
        audits=[pronoun],
        gates=["occupation_pronoun"],
        not_made=["crows_pairs"],
    )
    labels = [EVIL, "positive"]
    reviews = model(
        "reviews",
        "classification",
        scores={
            "model": scores(labels, macro_f1=score(0.9654, 0.95, 0.98)),
            "from_scratch": scores(labels, macro_f1=score(0.9102, 0.88, 0.94)),
        },
        baselines={"from_scratch": {"macro_f1": 0.9102}},
        audits=[audit("counterfactual", "flip_rate", None)],
        gates=["counterfactual"],
        control_curve={"train/loss": [[1, 7.0], [20, 3.0]]},
        examples=[
            {
                "id": "r1",
                "asked": f"Is it {EVIL}?",
                "answers": {"truth": EVIL, "model": EVIL, "from_scratch": ""},
                "agree": ["model"],
            }
        ],
    )
    assistant = model(
        "assistant",
        "instruction",
        gaps={"exact_match": gap(0.8167, 0.77, 0.86)},
        scores={
            "model": scores(exact_match=score(0.9375, 0.91, 0.96)),
            "from_scratch": scores(exact_match=score(0.1208, 0.09, 0.15)),
        },
        baselines={"from_scratch": {"exact_match": 0.1208}},
    )
    assistant["training"]["loss_mask_example"] = [["<|user|>", False], [EVIL, False], ["Ada", True], ["<|end|>", True]]
    return {
        "recipe": "town",
        "seed": 7,
        "data": {
            "ingested": {"corpus": {"train": {"rows": 15892, "bad": 3, "bytes": 2_835_142}}},
            "prepared": {
                "datasets": {
                    "corpus": {"rows_in": 15892, "emails": 81, "own_rule": 5, "rows_out": {"train": 14115, "test": 781}}
                },
                "contamination": {
                    "reviews/test": {"items": 400, "unchecked": 54, "overlapping": 13, "documents_removed": 12}
                },
            },
            "tokenizer": {
                "vocab_size": 1024,
                "train": {"tokens": 639301, "bytes": 1_980_282, "documents": 14115},
                "held_out_bytes_per_token": 3.15583,
            },
            "data_dvc": "e" * 32,
        },
        "models": {"foundation": foundation, "reviews": reviews, "assistant": assistant},
        "failed": [],
        "cost": make_costs(["foundation", "reviews", "assistant"]),
        "table": [
            row(foundation, "bits_per_byte", "champion", ["pass: there is no champion yet."]),
            row(reviews, "macro_f1", None, [BEATEN, f"fail: the audit counterfactual says REFUSED: {EVIL}", "odd"]),
            row(assistant, "exact_match", "challenger", ["pass: well.", NOT_SHOWN]),
        ],
    }


def make_all_kinds() -> dict[str, Any]:
    """Return the content with the other kinds of models: adapted, adapters, entities, answers, pairs, and a failure."""
    content = make_content()
    foundation = content["models"]["foundation"]
    foundation["pretrained_curve"] = {"train/loss": [[1, 7.0], [30, 4.0]]}
    foundation["curve"] = {
        "train/loss": [[1, 4.0], [20, 2.0]],
        "valid/loss": [[20, 2.1]],
        "valid/general_loss": [[0, 3.0], [20, 3.5]],
    }
    foundation["training"] |= {
        "domain_loss_before": 4.01,
        "domain_loss_after": 2.1,
        "general_loss_before": 3.0,
        "general_loss_after": 3.5,
        "forgetting": 0.5,
    }
    foundation["in_context"] = [prompted("capitals", 0), prompted("capitals", 4)]
    entities = model(
        "entities",
        "token_classification",
        scores={
            "model": scores(f1=score(0.91, 0.88, 0.93), precision=score(0.9), recall=score(0.92))
            | {"labels": ["ORG", "PER"], "f1": {"ORG": 0.8765, "PER": 0.93}},
            "from_scratch": scores(f1=score(0.71, 0.66, 0.75)),
        },
        gaps={"f1": gap(0.2, 0.16, 0.2449)},
        baselines={"from_scratch": {"f1": 0.71}, "unigram": {"f1": 0.55}},
        examples=[
            {
                "id": "e1",
                "asked": "",
                "answers": {
                    "truth": [["Ada Cole", "PER"], ["left", None], [EVIL, "ORG"]],
                    "model": [["Ada Cole left", None], [EVIL, "ORG"]],
                },
                "agree": [],
            }
        ],
    )
    entities["guard"] = {
        "robustness": [changed("typos", "f1", 0.1), changed("upper", "f1", 0.0)],
        "forgetting": [],
        "lengths": None,
        "latency": {
            "latency_ms": 1.5,
            "latency_p95_ms": 2.0,
            "latency_noise_ms": 0.1,
            "inputs_per_second": 1234.5,
            "machine": f"a processor {EVIL}",
        },
        "not_asked": {"spaces": "its words come one by one"},
    }
    entities["training"] |= {"trainable_parameters": 12_000, "parameters": 1_200_000}
    answers = model(
        "answers",
        "question_answering",
        scores={
            "model": scores(f1=score(0.8, 0.75, 0.85), exact_match=score(0.7, 0.6, 0.8)),
            "from_scratch": scores(f1=score(0.78, 0.72, 0.84)),
        },
        gaps={"f1": gap(0.02, -0.01, 0.05)},
        examples=[
            {
                "id": "a1",
                "asked": f"Who owns it?\nIt belongs to {EVIL}.",
                "answers": {"truth": f"{EVIL} / Cole", "model": "Cole"},
                "agree": ["model"],
            }
        ],
    )
    clerk = model(
        "clerk",
        "preference",
        scores={
            "model": scores(preference_accuracy=score(0.91), likelihood_accuracy=score(0.87, 0.81, 0.91)),
            "before": scores(preference_accuracy=score(0.5), likelihood_accuracy=score(0.51, 0.43, 0.59)),
        },
        baselines={"before": {"preference_accuracy": 0.5, "likelihood_accuracy": 0.51}},
        gaps={"likelihood_accuracy": gap(0.36, 0.26, 0.46)},
        in_context=[prompted("capitals", 0) | {"before": 0.4, "change": -0.1, "change_low": -0.2, "change_high": 0.0}],
    )
    clerk["lineage"] |= {"start": "town-assistant", "start_version": "3", "start_weights_digest": "f" * 64}
    for found, metric in ((entities, "f1"), (answers, "f1"), (clerk, "preference_accuracy")):
        content["models"][found["model"]] = found
        content["table"].append(row(found, metric, "champion", ["pass: well."]))
    place = {"item": EVIL, "trained_on": True, "dataset": "corpus", "document": EVIL, "ngram": f"some words {EVIL}"}
    counts = {"kind": "test split", "items": 200, "unchecked": 3, "ingested": 9, "removed": 7, "pretraining": 2}
    score_row = {"model": "town-clerk", "set": "pairs", "metric": "preference_accuracy", "n": 200, "value": 0.91}
    clean = {"clean_n": 193, "clean_value": 0.5, "clean_low": None, "clean_high": None}
    content["contamination"] = {
        "text": f"What {EVIL} learnt from before is unknown.",
        "ngram": 13,
        "sets": {"pairs": {**counts, "duplicates": 5, "clean": 193, "found": [place]}},
        "scores": [{**score_row, "low": 0.9, "high": 0.92, **clean}],
    }
    content["cost"] = make_costs(list(content["models"]))
    content["failed"] = [
        {"model": "town-broken", "kind": "rlhf", "reason": f"finetune/broken: the loss is nan at step 3 {EVIL}"}
    ]
    content["worth"] = {
        "answers": {"model": "town-answers", "curve": curve(), "pair": pair(), "mitigation": "none"},
        "entities": {"model": "town-entities", "curve": None, "pair": pair(), "mitigation": "cda"},
    }
    return content


def changed(name: str, metric: str, lost: float) -> dict[str, Any]:
    """Return a line of the robustness table, as `tasks.robustness.line` makes it."""
    return {
        "name": name,
        "metric": metric,
        "n": 200,
        "changed": 150,
        "clean": 0.9,
        "perturbed": 0.9 - lost,
        "lost": lost,
        "low": lost - 0.02,
        "high": lost + 0.02,
        "lost_share": lost / 0.9,
        "flips": lost,
        "example": {"clean": EVIL, "changed": EVIL, "answer": "[]", "changed_answer": EVIL},
    }


def make_costs(models: list[str], **config: Any) -> dict[str, Any]:
    """Return the ledger of a minute of training a model, with the constants of a round machine."""
    config = {"country": "", "device_hour": None, "currency": "", **config}
    one = {"seconds": 62.0, "device_seconds": 62.0, "processor_seconds": 100.0, "flops": 2.5e12, "tokens": 123_456.0}
    amounts = one | {"energy_kwh": 0.00075, "co2_kg": 0.000375, "money": config["device_hour"]}
    steps = [("foundation", "pretrain"), *((model, f"finetune/{model}") for model in models[1:])]
    power = {"processor": "Test 1", "processor_watts": 9.0, "threads": 2, "memory_watts": 36.0, "kg_per_kwh": 0.5}
    half = {name: None if value is None else value / 2 for name, value in amounts.items()}
    return {
        "rows": [{"model": model, "step": step, **amounts} for model, step in steps],
        "models": {"": half, **dict.fromkeys(models, amounts)},
        "total": amounts,
        "shares": dict.fromkeys(models[1:], half),
        "power": power | {"codecarbon": "1.2.3"},
        "graphics_cards_measured": False,
        "planned": None,
        **config,
    }


def prompted(task: str, shots: int) -> dict[str, Any]:
    return {
        "task": task,
        "kind": "completion",
        "shots": shots,
        "metric": "exact_match",
        "n": 50,
        "score": 0.3,
        "low": 0.2,
        "high": 0.4,
        "chance": 0.0,
        "also": {},
        "fewer_shots": 0,
        "cut": 0,
        "repeated": 0,
        **dict.fromkeys(("before", "change", "change_low", "change_high")),
    }


def write(content: dict[str, Any], out: Path) -> tuple[str, str]:
    out.mkdir(parents=True, exist_ok=True)
    write_pages(content, out)
    return (out / "report.md").read_text(encoding="utf-8"), (out / "report.html").read_text(encoding="utf-8")
