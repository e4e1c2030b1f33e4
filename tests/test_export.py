"""An exported directory: others' programs load it and answer what the project answers."""

import contextlib
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_served_model import TAGS, make
from transformers import AutoTokenizer
from workspaces import RECIPE

from flows.chat import Conversation
from flows.export import main
from models.chat import render
from models.objectives import OBJECTIVES
from tasks.card_words import KINDS, snippet
from tasks.decide import Evidence
from tasks.loading import load

REQUESTS = ("What is asked?", "  And who\nbakes? ", "")
OBJECTIVE = {"foundation": "causal_lm", "masked_foundation": "masked_lm"}


@pytest.fixture
def exported(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Exports a model of the run's registry, and returns its directory."""
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace}/var/mlflow/mlflow.db")

    def export(model: str) -> Path:
        out = tmp_path / "exported" / model.partition("/")[0]
        assert main([model, str(out)]) == 0
        return out

    return export


def test_an_assistant_answers_as_in_the_chat(exported: Any, workspace: Path) -> None:
    from transformers import AutoModelForCausalLM

    out = exported("tiny-assistant/1")
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out).eval()
    chat = Conversation(load(workspace / "artifacts/tiny/finetune/assistant/model", "instruction"), 12, None, False)
    turns: list[dict[str, str]] = []
    for request in ("Who bakes?", "And where?"):
        turns.append({"role": "user", "content": request})
        inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        answer = tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert answer == "".join(chat.answer(request, lambda words: None))
        turns.append({"role": "assistant", "content": answer})
    known = json.loads((out / "generation_config.json").read_text())
    ends = {tokenizer.convert_ids_to_tokens(number) for number in known["eos_token_id"]}
    assert {"<|end|>", "<|endoftext|>"} <= ends
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, check=False)
    assert done.returncode == 0
    listed = {line.split("  ")[1] for line in (out / "SHA256SUMS").read_text().splitlines()}
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert listed == files - {"SHA256SUMS"} >= {"README.md", "alma.json", "data/questions/README.md"}


def test_the_chat_template_is_our_format_token_for_token(exported: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(exported("tiny-clerk/1"))
    said, turns = "", []
    for request in REQUESTS:
        turns.append({"role": "user", "content": request})
        asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
        assert asked == tokenizer(said + render(request), add_special_tokens=False)["input_ids"]
        turns.append({"role": "assistant", "content": f" Ada, {len(turns)}. "})
        said += render(request, output=turns[-1]["content"])
        whole = tokenizer.apply_chat_template(turns)["input_ids"]
        assert whole == tokenizer(said, add_special_tokens=False)["input_ids"]


def test_a_classifier_gives_the_same_probabilities(exported: Any, workspace: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    out = exported("tiny-reviews/1")
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForSequenceClassification.from_pretrained(out)
    assert tokenizer.chat_template is None, "it never saw a turn"
    texts = ["The inn was good.", "Never again."]
    _, ours = load(workspace / "artifacts/tiny/finetune/reviews/model", "classification").classify(texts)
    with torch.inference_mode():
        theirs = [model.eval()(**tokenizer(text, return_tensors="pt")).logits[0].softmax(-1).numpy() for text in texts]
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_lm_eval_measures_our_likelihood(exported: Any, workspace: Path, tmp_path: Path) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    rows = [("The baker of the town is", " Ada Cole."), ("Ben works", " at the mill, as does his brother.")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"q": q, "a": a}) + "\n" for q, a in rows))
    (tmp_path / "town.yaml").write_text(
        "task: town\ndataset_path: json\ndataset_kwargs: {data_files: {test: ROWS}}\ntest_split: test\n"
        "output_type: loglikelihood\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\ntarget_delimiter: ''\n"
        "metric_list: [{metric: perplexity, aggregation: perplexity, higher_is_better: false}]\n".replace(
            "ROWS", str(tmp_path / "rows.jsonl")
        )
    )
    lm = HFLM(pretrained=str(exported("tiny-foundation/1")), device="cpu", batch_size=1)
    found = simple_evaluate(
        lm,
        tasks=["town"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    samples = sorted(found["samples"]["town"], key=lambda sample: sample["doc_id"])
    theirs = [float(sample["filtered_resps"][0][0]) for sample in samples]
    ours = load(workspace / "artifacts/tiny/pretrain/model", "causal_lm").score(rows)
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


def test_what_vllm_reads_of_a_directory_is_there(exported: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    out = exported("tiny-assistant/1")
    config, tokenizer = (json.loads((out / name).read_text()) for name in ("config.json", "tokenizer_config.json"))
    assert config["architectures"] == [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config["model_type"]]]
    assert (config["torch_dtype"], config["dtype"]) == ("float32", "float32")
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer["model_max_length"] == config["max_position_embeddings"]
    assert "extra_special_tokens" not in tokenizer, "a list there stops transformers 4"
    assert (out / "chat_template.jinja").is_file()


def test_what_cannot_be_exported_is_said_in_one_line(
    exported: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(model: str, directory: Path) -> str:
        assert main([model, str(directory)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    new = tmp_path / "new"
    assert "there is tiny-assistant, tiny-clerk, tiny-foundation and tiny-reviews" in refused("tiny-assistent", new)
    assert "no such registered version; there is tiny-assistant/1" in refused("tiny-assistant", new)
    assert "no such registered version; there is tiny-assistant/1" in refused("tiny-assistant/9", new)
    assert "version 1 has no alias: no gate let it through" in refused(f"{RECIPE}:assistant", new)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert "expected a new or an empty directory" in refused("tiny-assistant/1", tmp_path / "full")
    assert "expected a new or an empty directory" in refused("tiny-assistant/1", tmp_path / "full" / "mine.txt")
    assert not new.exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_failed_audit_asks_for_the_number_of_the_version(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a registry of its own: a champion whose audit fails, and then one without cards."""
    from tasks import registry, tracking

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("ALMA_MLFLOW_ARTIFACTS", (tmp_path / "artifacts").as_uri())
    model = workspace / "artifacts/tiny/finetune/reviews/model"
    run = tracking.run_of("town", "finetune/reviews", "a" * 64, {}, {})
    evidence = Evidence(model="town-reviews", kind="classification", test_digest="c" * 64, metrics={})
    tags = {registry.EVIDENCE: evidence.model_dump_json()}
    version = registry.register("town-reviews", model, "classification", run, "b" * 64, tags, ["Good."], "champion")
    assert main(["town-reviews", str(tmp_path / "out")]) == 2
    assert "has no card" in capsys.readouterr().err
    cards = workspace / "artifacts/tiny/cards/reviews"
    facts = json.loads((cards / "alma.json").read_text())
    facts["audits"][0]["verdict"] = "FAIL"
    (cards / "alma.json").write_text(json.dumps(facts))
    registry.describe("town-reviews", version, cards, "A classifier.", "Refused.")
    for name in ("town-reviews", "town-reviews@champion"):
        assert main([name, str(tmp_path / "out")]) == 2
        assert f"version 1 fails the audit {facts['audits'][0]['audit']}; export it as town-reviews/1" in (
            capsys.readouterr().err
        )
    assert main(["town-reviews/1", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        *((kind, "llama") for kind in KINDS if kind != "masked_foundation"),
        *((kind, "bert") for kind in ("masked_foundation", "classification", "token_classification")),
        ("question_answering", "bert"),
    ],
)
def test_the_lines_that_a_card_gives_answer_as_the_project_does(
    kind: str, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = OBJECTIVE.get(kind, kind)
    changes: dict[str, Any] = {"num_labels": 1} if kind == "reward" else {}
    if kind == "token_classification":
        changes = {"id2label": TAGS}
    elif kind == "classification":
        changes = {"id2label": {0: "bad", 1: "fine", 2: "good"}}
    directory = make(tmp_path, family, objective, **changes)
    assert KINDS[kind].auto in (OBJECTIVES[objective].auto, "AutoModelForMaskedLM")
    monkeypatch.chdir(directory)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(snippet(kind, encoder=family == "bert"), {})
    said, ours = printed.getvalue().removesuffix("\n"), load(directory, objective)
    match kind:
        case "foundation":
            from models.generation import generate

            words = "The first words of a text"
            assert said == generate(ours.network, ours.tokenizer, [words], 16)[0]
        case "masked_foundation":
            tokens = {
                token: text
                for token, number in ours.tokenizer.get_vocab().items()
                if number not in ours.tokenizer.all_special_ids
                and ours.tokenizer.encode(
                    text := ours.tokenizer.convert_tokens_to_string([token]), add_special_tokens=False
                )
                == [number]
            }
            scores = ours.fill([("The first words", text, " a text") for text in tokens.values()])
            likeliest = [token for _, token in sorted(zip(scores, tokens, strict=True), reverse=True)]
            shown = [token for token in eval(said) if token in tokens]
            assert shown == likeliest[: len(shown)] != []
        case "classification":
            labels, probabilities = ours.classify(["The text to label"])
            assert said.split()[0] == labels[0]
            assert float(said.split()[1]) == pytest.approx(probabilities.max(), abs=1e-5)
        case "token_classification":
            words = ["The", "words", "to", "tag", "."]
            assert eval(said) == list(zip(words, ours.tag([{"tokens": words}])[0], strict=True))
        case "question_answering":
            row = {"question": "What is asked?", "context": "The text that holds the answer."}
            assert said == ours.find_answers([row])[0]
        case "reward":
            from models.reward import score

            ids = ours.tokenizer(render("What is asked?", output="An answer."), add_special_tokens=False)["input_ids"]
            rewards = score(ours.network, ours.tokenizer, [np.array(ids)])
            assert float(said) == pytest.approx(float(rewards[0]), abs=1e-5)
        case _:
            assert said == ours.answer([{"instruction": "What is asked?", "input": ""}], 16)[0].strip()
