"""What stands in a model's card beside its scores: what they may have cost, what the foundation gave, what is clean."""

from typing import Any

from tasks import report_words as words
from tasks.report_contamination import contamination_view
from tasks.report_guard import guard_rows
from tasks.report_transfer import worth_sentences


def evidence_view(data: str, name: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return the guardrails, the gain over training from scratch and the contamination of a model's evaluation sets.

    Args:
        data: the data set whose test split the model was assessed on.
        content: what ``tasks.report.gather`` returns.
    """
    model = content["models"][name]
    prompted = {f"in_context/{row['task']}" for row in model.get("in_context") or []}
    audited = {f"audit/{audit['audit']}" for audit in model["audits"]}
    found = contamination_view(content)
    sets = [row for row in found["sets"] if row["name"] in {data, *prompted, *audited}] if found else []
    worth = content.get("worth", {}).get(name)
    return {
        "guard": guard_rows(model),
        "overlaps": sets,
        "clean_scores": [row for row in found["scores"] if row["model"] == model["registered_name"]] if found else [],
        "overlap_words": found["ngram"] if found else None,
        "worth": worth_sentences(worth) if worth else [],
        "ece": words.calibration(model["scores"]),
    }
