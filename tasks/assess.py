"""Step 7: every model on held-out data it never saw, each score beside its baselines."""

import json
from pathlib import Path
from typing import Any

from prefect import task

from tasks.baselines import classification_baselines, instruction_baselines, unigram_bits_per_byte
from tasks.encoding import token_bytes
from tasks.loading import TrainedModel, load
from tasks.metrics import Scores, classification_scores, instruction_scores, language_scores
from tasks.readers import read_rows, write_rows
from tasks.receipts import Part, Receipt, run_step
from tasks.recipe import FOUNDATION, Recipe

SCORES = "scores.json"
PREDICTIONS = "predictions.jsonl"


@task
def assess(
    recipe: Recipe, model: str, prepared: Receipt, encoded: Receipt, trained: Receipt, control: Receipt | None
) -> Receipt:
    """Score ``model`` on its test split.

    A foundation stands beside the unigram distribution; a specialist beside the majority, a TF-IDF model
    and ``control``, its twin trained from random weights. Writes ``scores.json`` (every score with its
    interval) and, for specialists, ``predictions.jsonl``.
    """
    weights = trained.part("model")
    parents = [weights]
    if model == FOUNDATION:
        held_out = encoded.part("tokens")
        parents += [held_out]
        task_name, config = FOUNDATION, {}
    else:
        assert control is not None, "a specialist is assessed beside its twin from scratch"
        specialist = recipe.specialists[model]
        held_out = prepared.part(specialist.data)
        parents += [held_out, control.part("model")]
        task_name, config = specialist.task, {"max_new_tokens": specialist.max_new_tokens}

    def compute(out: Path, key: str) -> dict[str, Any]:
        if task_name == FOUNDATION:
            scores = {"model": _assess_foundation(load(weights.directory, FOUNDATION), held_out)}
            tokens = _tokens(held_out)
            unigram = unigram_bits_per_byte(
                tokens["train"], tokens["test"], tokens["meta"]["test"]["bytes"], tokens["meta"]["vocab_size"]
            )
            baselines = {"unigram": {"bits_per_byte": unigram}}
        else:
            assert control is not None
            predictions, scores = _assess_specialist(
                task_name,
                weights,
                control.part("model"),
                held_out,
                config.get("max_new_tokens", 0),
                recipe.seed,
            )
            write_rows(out / PREDICTIONS, predictions)
            baselines = {name: _values(found) for name, found in scores.items() if name != "model"}
        whole = {name: found.model_dump(mode="json") for name, found in scores.items()}
        (out / SCORES).write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return {
            "scores": _values(scores["model"]),
            "baselines": baselines,
            "test_digest": _test_digest(held_out),
        }

    return run_step(
        recipe.name,
        f"assess/{model}",
        config={"task": task_name, **config, "seed": recipe.seed},
        parents=parents,
        compute=compute,
        code=("models.scoring", "models.generation"),
    )


def assess_again(directory: Path, task_name: str, held_out: Part, max_new_tokens: int) -> dict[str, float]:
    """Score a model directory, with its own tokenizer, on another test split than it was assessed on.

    Args:
        held_out: the prepared data set whose ``test.jsonl`` is asked.
    """
    model, test = load(directory, task_name), list(read_rows(held_out.directory / "test.jsonl"))
    if task_name == "classification":
        labels = sorted({*model.label_names, *(row["label"] for row in test)})
        answers = model.classify([row["text"] for row in test])[0]
        return _values(classification_scores(answers, [row["label"] for row in test], labels, resamples=0))
    if task_name == "instruction":
        answers = model.answer(test, max_new_tokens)
        return _values(instruction_scores(answers, [row["output"] for row in test], resamples=0))
    return _values(_assess_texts(model, [row["text"] for row in test]))


def _assess_texts(model: TrainedModel, texts: list[str]) -> Scores:
    import tempfile

    import numpy as np

    end = model.tokenizer.eos_token_id
    ids = [token for text in texts for token in (*model.tokenizer(text, add_special_tokens=False).input_ids, end)]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "test.bin"
        np.asarray(ids, dtype=np.uint32).tofile(path)
        return _score_tokens(model, path, "uint32", resamples=0)


def _values(found: Scores) -> dict[str, float]:
    return {name: score.value for name, score in found.scores.items()}


def _test_digest(held_out: Part) -> str:
    """Return the digest of the test split alone: scores of unequal digests are never compared."""
    from tasks.workspace import file_digest

    return file_digest(next(path for path in sorted(held_out.directory.glob("test.*"))))


def _tokens(part: Part) -> dict[str, Any]:
    import numpy as np

    meta = json.loads((part.directory / "meta.json").read_text())
    arrays = {
        split: np.memmap(part.directory / f"{split}.bin", dtype=meta["dtype"], mode="r") for split in ("train", "test")
    }
    return {"meta": meta, **arrays}


def _assess_foundation(model: TrainedModel, tokens: Part) -> Scores:
    meta = json.loads((tokens.directory / "meta.json").read_text())
    return _score_tokens(model, tokens.directory / "test.bin", meta["dtype"])


def _score_tokens(model: TrainedModel, path: Path, dtype: str, resamples: int = 1000) -> Scores:
    """Score a flat token file; the windows that the model sees are what the interval resamples."""
    import numpy as np

    from models.scoring import token_array_losses

    nats, counts = token_array_losses(model.network, path, dtype)
    sizes = token_bytes(model.tokenizer)
    ids = np.fromfile(path, dtype=dtype)[1:]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return language_scores(nats.tolist(), counts.tolist(), np.add.reduceat(sizes[ids], starts).tolist(), resamples)


def _assess_specialist(
    task_name: str, weights: Part, control: Part, rows: Part, max_new_tokens: int, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Scores]]:
    """Return the predictions on the test split, row by row, and the scores of the model and its baselines."""
    train = list(read_rows(rows.directory / "train.jsonl"))
    test = list(read_rows(rows.directory / "test.jsonl"))
    contenders = {
        "model": load(weights.directory, task_name),
        "from_scratch": load(control.directory, task_name),
    }
    if task_name == "classification":
        truth = [row["label"] for row in test]
        answers = {
            name: contender.classify([row["text"] for row in test])[0] for name, contender in contenders.items()
        } | classification_baselines(
            [row["text"] for row in train],
            [row["label"] for row in train],
            [row["text"] for row in test],
            seed,
        )
        labels = sorted({row["label"] for row in train})
        scores = {name: classification_scores(given, truth, labels, seed=seed) for name, given in answers.items()}
    else:
        from models.chat import question

        truth = [row["output"] for row in test]
        answers = {name: contender.answer(test, max_new_tokens) for name, contender in contenders.items()}
        answers |= instruction_baselines(
            [question(row["instruction"], row["input"]) for row in train],
            [row["output"] for row in train],
            [question(row["instruction"], row["input"]) for row in test],
        )
        scores = {name: instruction_scores(given, truth, seed=seed) for name, given in answers.items()}
    predictions = [
        {"id": row["id"], "truth": right, **{name: given[number] for name, given in answers.items()}}
        for number, (row, right) in enumerate(zip(test, truth, strict=True))
    ]
    return predictions, scores
