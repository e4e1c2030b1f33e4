"""New data beside the champions of a finished run: measured, decided on, and acted on once for real."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workspaces import RECIPE, alma, receipts

from flows.retraining import look
from tasks import registry, tracking
from tasks.assess import assess_again
from tasks.base import find_base
from tasks.budget import _with
from tasks.drift import read_measured, remember
from tasks.lineage import Lineage
from tasks.promote import _with_base
from tasks.readers import read_rows, write_rows
from tasks.receipts import Receipt, verify
from tasks.recipe import FOUNDATION, load_recipe
from tasks.retrain import changes
from tasks.retraining import Decision, Measured
from tasks.training_profile import PROFILE, asked_hash, is_among, kept_profile

MORE = """
extends: tiny.yaml
data:
  datasets:
    corpus: {{train: [{{kind: starter, table: corpus}}{corpus}]}}
    reviews: {{train: [{{kind: starter, table: reviews}}{reviews}]{test}}}
retraining: {{min_new_rows: 50}}
"""
SAID = ("The {} at the bridge was {}", "They brought us a {} soup and it was {}", "A {} evening, and the room was {}")
LAW = """habeas corpus quorum verdict plaintiff defendant affidavit subpoena tort estoppel lien escrow covenant
jurisdiction arbitration liability indemnity statute clause hereinafter notwithstanding pursuant"""


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The workspace of a finished run, entered as the command line enters it."""
    from flows.environment import set_environment

    for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_", "ALMA_"))]:
        monkeypatch.delenv(name)
    before = dict(os.environ)
    monkeypatch.chdir(workspace)
    set_environment()
    for model in ("foundation", "reviews"):  # whatever the gate said of a model that has hardly learned
        tracking.client().set_registered_model_alias(f"tiny-{model}", "champion", "1")
    yield workspace
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def write_recipe(name: str = "more", **given: str) -> str:
    path = Path(f"recipes/{name}.yaml")
    path.write_text(MORE.format(**{"corpus": "", "reviews": "", "test": "", **given}))
    return str(path)


def review(number: int, label: str) -> dict[str, str]:
    words = ("fine", "lovely", "splendid") if label == "positive" else ("sour", "gloomy", "rancid")
    text = f"{SAID[number % 3].format(words[number % 3], words[number % 2])} on day {number}."
    return {"id": f"new-{label}-{number}", "text": text, "label": label}


def files(name: str, rows: list[dict[str, str]]) -> str:
    write_rows(Path(f"{name}.jsonl"), rows)
    return f"{{kind: files, paths: [{name}.jsonl]}}"


def judged(recipe: str) -> tuple[Decision, Measured]:
    decided = look(load_recipe(recipe), lambda step, *given: step.fn(*given))
    drifted = verify(Path("artifacts/tiny/drift"))
    assert drifted is not None
    record = json.loads((decided.directory / "decision.json").read_text())
    return Decision.model_validate({name: record[name] for name in Decision.model_fields}), read_measured(drifted)


def test_the_same_data_calls_for_nothing_and_trains_nothing(here: Path) -> None:
    before = receipts(here)
    decision, measured = judged(RECIPE)
    assert (decision.action, measured.changed, measured.new_rows) == ("nothing", False, 0)
    assert measured.version == measured.learnt == "tiny-foundation/1"
    assert all(standing.new_rows == 0 for standing in measured.specialists.values())
    assert {found.verdict for found in decision.findings if found.signal.startswith("new ")} == {"within"}
    page = Path("artifacts/tiny/retraining/decision.md").read_text()
    assert page.startswith("# tiny: nothing\n")
    assert verify(Path("artifacts/tiny/retraining")) is not None
    after = receipts(here)
    assert {step: after[step] for step in before} == before


def law() -> list[dict[str, str]]:
    """Return documents of which the town's text has no word."""
    random = np.random.default_rng(3)
    return [{"id": f"law-{n}", "text": " ".join(random.choice(LAW.split(), 30)) + "."} for n in range(120)]


def test_text_in_another_register_calls_for_continued_pretraining(here: Path) -> None:
    recipe = write_recipe(corpus=f", {files('law', law())}")
    decision, measured = judged(recipe)
    assert decision.action in ("continue_pretraining", "from_scratch")
    assert measured.new_rows == 120
    assert measured.cost is not None
    assert measured.new_words is not None
    assert measured.cost.low > 0.1
    assert measured.new_words.low > 0.8
    said = "\n".join(decision.reasons)
    assert re.search(r"continue_pretraining: foundation, bits per byte: \d\.\d{3}, before \d\.\d{3}: \+\d+\.\d %", said)
    assert "continue_pretraining: foundation, share of new words" in said
    # In the very words of the measurement: legal text in a town's tokens takes more of them a byte.
    assert measured.bytes_per_token is not None
    assert (decision.action == "from_scratch") == (measured.bytes_per_token.low > 0.25)
    # A new foundation needs no champion; without one there is nothing to compare with.
    tracking.client().delete_registered_model_alias("tiny-foundation", "champion")
    alone, nothing = judged(recipe)
    assert (alone.action, nothing.version) == ("from_scratch", "")
    assert alone.reasons[0] == "from_scratch: the registry holds no champion foundation of this recipe."


def test_a_champion_whose_rows_are_no_longer_kept_is_told_by_its_lineage(here: Path) -> None:
    client = tracking.client()
    for version in registry.versions():
        digest = version.carried["own_data_digest"]
        assert kept_profile(version.run_id, digest) is not None
        # As a version is found that was registered before profiles were kept, and whose rows were replaced since.
        client.set_model_version_tag(version.name, version.version, "alma.own_data_digest", f"0{digest[1:]}")
        client.set_model_version_tag(version.name, version.version, "alma.corpus_digest", "0" * 64)
    decision, measured = judged(RECIPE)
    assert decision.action == "nothing"
    assert measured.new_rows is None
    assert measured.cost is not None, "its recorded bits per byte still stand"
    assert measured.cost.low < 0 < measured.cost.high, "the very same held-out text"
    assert measured.specialists["reviews"].new_rows is None
    assert sum("keeps no digests of" in note for note in decision.reasons) == 4


def test_digests_are_kept_after_the_fact_while_the_rows_are_there(here: Path) -> None:
    client, first = tracking.client(), next(each for each in registry.versions() if each.name == "tiny-reviews")
    run = client.create_run(tracking.experiment_id("tiny"))
    held = client.get_model_version("tiny-reviews", "1")
    later = client.create_model_version("tiny-reviews", held.source, run.info.run_id, tags=held.tags)
    client.set_registered_model_alias("tiny-reviews", "champion", later.version)
    digest = first.carried["own_data_digest"]
    assert kept_profile(run.info.run_id, digest) is None
    remember(load_recipe(RECIPE))
    kept = [
        tracking.fetch(run_id, registry.evidence_name(PROFILE, digest)) for run_id in (first.run_id, run.info.run_id)
    ]
    one, other = ({path.name: path.read_bytes() for path in sorted(each.iterdir())} for each in kept if each)
    assert one == other


def more_of_the_town() -> list[dict[str, str]]:
    """Return documents of the old register: the first sentence of one and the rest of another."""
    texts = [row["text"] for row in read_rows(Path("artifacts/tiny/prepare/corpus/train.jsonl"))]
    longer = [text for text in texts if text.count(". ") >= 2][:160]
    pairs = zip(longer[:80], longer[80:], strict=True)
    return [
        {"id": f"later-{n}", "text": f"{one.split('. ')[0]}. {other.split('. ', 1)[1]}"}
        for n, (one, other) in enumerate(pairs)
    ]


def foundation_score(version: str, prepared: Receipt) -> float:
    """Assess a foundation on the prepared test split."""
    directory, config = registry.model_directory("tiny-foundation", version), load_recipe(RECIPE)
    scores = assess_again(config, FOUNDATION, {"model": directory}, prepared.part("corpus"))
    return scores.scores["bits_per_byte"].value


def weights_of(lineage: Lineage, number: str) -> str:
    return lineage.versions[f"tiny-foundation/{number}"].carried["weights_digest"]


@pytest.mark.slow
def test_shifted_labels_are_tuned_on_and_both_are_asked_the_same_fresh_rows(here: Path) -> None:
    praise, blame = ([review(n, label) for n in range(count)] for label, count in (("positive", 150), ("negative", 10)))
    fresh = [review(number, label) for number in range(200, 230) for label in ("positive", "negative")]
    given = {"reviews": f", {files('mail', praise + blame)}", "test": f", test: [{files('fresh', fresh)}]"}
    recipe = write_recipe(**given, corpus=f", {files('later', more_of_the_town())}")
    before = receipts(here)
    done = alma(here, "retraining", recipe)
    assert done.returncode == 0, done.stdout + done.stderr
    decision = json.loads(Path("artifacts/tiny/retraining/decision.json").read_text())
    assert decision["action"] == "finetune"
    said = "\n".join(decision["reasons"])
    assert "finetune: reviews, new rows: 220, threshold 50." in said
    assert re.search(r"finetune: reviews, label shift: 0\.\d{3}; \w+ 50\.0 % to \d\d\.\d %, ", said)
    assert "finetune: reviews, label shift" in done.stdout
    # The champion's weights are the foundation, and whoever did not get new data stays as it is.
    after = receipts(here)
    weights = "model/model.safetensors"
    pretrained = [each["artifacts/tiny/pretrain"]["files"][weights] for each in (before, after)]
    assert pretrained[0] == pretrained[1]
    assert not after["artifacts/tiny/pretrain"]["metrics"]["trained"]
    started = {line.split()[1] for line in done.stdout.splitlines() if " starts" in line}
    assert "finetune/reviews" in started
    assert not {"finetune/assistant", "finetune/clerk"} & started
    # Both versions stand on the very same rows.
    reviews, foundation = (json.loads(Path(f"artifacts/tiny/promote/{m}/decision.json").read_text()) for m in MODELS)
    assert (reviews["version"], reviews["champion_before"], foundation["version"]) == ("2", "1", "2")
    assert "assesses the champion, version 1, again" in done.stdout
    prepared = Receipt.model_validate_json(Path("artifacts/tiny/prepare/receipt.json").read_bytes())
    config, data = load_recipe(recipe), prepared.part("reviews")
    test = list(read_rows(data.directory / "test.jsonl"))
    assert {row["text"] for row in fresh} <= {row["text"] for row in test}
    assert f"against the champion's {foundation_score('1', prepared):.4f}, a gain of +0.0000" in "".join(
        foundation["reasons"]
    )
    scores = assess_again(config, "reviews", {"model": registry.model_directory("tiny-reviews", "1")}, data)
    evidence = {number: json.loads(registry.carried("tiny-reviews", number)["evidence"]) for number in "12"}
    told = evidence["2"]["to_champion"]["macro_f1"]
    assert told["paired"]
    ours = evidence["2"]["metrics"]["macro_f1"]
    assert ours - told["difference"] == pytest.approx(scores.scores["macro_f1"].value)
    assert evidence["1"]["test_digest"] != evidence["2"]["test_digest"]
    # None of these rows was learned from, by the old champion or by the new one.
    for version in Lineage(registry.versions()).versions.values():
        if version.name in ("tiny-reviews", "tiny-foundation"):
            profile = kept_profile(version.run_id, version.carried["own_data_digest"])
            assert profile is not None
            name = "reviews" if version.name == "tiny-reviews" else "corpus"
            rows = list(read_rows(prepared.directory / name / "test.jsonl"))
            assert not is_among([asked_hash(row) for row in rows], profile.learnt).any()
    # The foundation was assessed on later text, and learned nothing from it.
    lineage = Lineage(registry.versions())
    taken = lineage.versions["tiny-foundation/2"]
    assert (taken.carried["base_trained"], taken.carried["base_weights_digest"]) == ("False", weights_of(lineage, "1"))
    assert [version.version for version in lineage.trainings(taken)] == ["1"]
    # Asked again, what was refused is not new, and what was found out stays as it is.
    again, measured = judged(recipe)
    assert again.action == "finetune"
    assert measured.specialists["reviews"].new_rows == 220, "the champion is still the one that never saw them"
    assert measured.specialists["reviews"].tuned


MODELS = ("reviews", FOUNDATION)


def test_a_test_set_of_what_the_champion_learned_from_is_told(here: Path) -> None:
    from tasks.champion import _seen_rows

    prepared = Receipt.model_validate_json(Path("artifacts/tiny/prepare/receipt.json").read_bytes())
    rows: list[dict[str, Any]] = list(read_rows(prepared.directory / "reviews/train.jsonl"))[:7]
    write_rows(Path("moved.jsonl"), [*rows, review(1, "positive")])
    assert _seen_rows("tiny-reviews", "1", Path("moved.jsonl")) == 7
    assert _seen_rows("tiny-reviews", "1", prepared.directory / "reviews/test.jsonl") == 0


def test_what_an_action_changes_is_a_recipe_that_runs(here: Path) -> None:
    config = load_recipe(RECIPE)
    assert config.pretrain.train is not None
    assert changes(config, "nothing") == changes(config, "from_scratch") == []
    tuned, longer = (load_recipe(RECIPE, changes(config, action)) for action in ("finetune", "continue_pretraining"))
    lower = config.pretrain.train.model_copy(update={"learning_rate": 0.3 * config.pretrain.train.learning_rate})
    assert (tuned.pretrain.train, longer.pretrain.train) == (None, lower)
    champion = registry.model_directory("tiny-foundation", "1") / "model.safetensors"
    for changed in (tuned, longer):
        base = find_base(changed.pretrain)
        assert base is not None
        assert (base.directory / "model.safetensors").read_bytes() == champion.read_bytes()
        assert changed.specialists == config.specialists
        assert changed.pretrain.model == config.pretrain.model, "the twins from scratch are as large as before"
    # Where a budget chose size and training, what it chose is kept.
    Path("recipes/budget.yaml").write_text(
        "extends: tiny.yaml\npretrain: {budget: 1e12 FLOPs, model: null, train: null}\n"
    )
    chosen = {name: getattr(config.pretrain, name).model_dump(exclude_unset=True) for name in ("model", "train")}
    settled = _with(load_recipe("recipes/budget.yaml"), **chosen)
    assert load_recipe("recipes/budget.yaml", changes(settled, "continue_pretraining")).pretrain == longer.pretrain
    tracking.client().delete_registered_model_alias("tiny-foundation", "champion")
    with pytest.raises(ValueError, match="tiny-foundation@champion: is not in the registry"):
        changes(config, "finetune")


def test_a_version_that_is_found_again_was_still_trained(here: Path) -> None:
    """On unchanged text the champion foundation that is taken as it is is that very version, and its own base."""
    key = tracking.client().get_model_version("tiny-foundation", "1").tags[registry.PROMOTION_KEY]
    taken = {"seed": 0, "base": "there", "base_digest": "d", "base_trained": False, "base_weights_digest": "w"}
    assert _with_base(taken, "tiny-foundation", key) == {"seed": 0, "base": ""}
    assert _with_base(taken, "tiny-foundation", "another") == taken


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["drift", RECIPE, "retraining.max_age_days=0"],
            "retraining.max_age_days: input should be greater than or equal to 1",
        ),
        (["retraining", RECIPE, "reviews"], "'reviews': expected dotted.key=value"),
        (["drift", "recipes/none.yaml"], "recipes/none.yaml: there is no such recipe"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    from workspaces import make_workspace

    done = alma(make_workspace(tmp_path / "w"), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ["continue_pretraining", "from_scratch"])
def test_a_foundation_is_trained_on_or_anew_and_everybody_is_derived_from_it(here: Path, action: str) -> None:
    """The same new text; whether it is too much for the old tokenizer is what the threshold says."""
    recipe = write_recipe(corpus=f", {files('law', law())}")
    limit = 0.99 if action == "continue_pretraining" else 0.01
    before = receipts(here)
    done = alma(here, "retraining", recipe, f"retraining.bytes_per_token={limit}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(Path("artifacts/tiny/retraining/decision.json").read_text())["action"] == action
    after, step = receipts(here), "artifacts/tiny/pretrain"
    weights = "model/model.safetensors"
    assert after[step]["files"][weights] != before[step]["files"][weights]
    continued = action == "continue_pretraining"
    # Trained on: the champion's tokenizer at three tenths of the rate. Anew: another tokenizer at the same rate.
    tokenizers = [each["artifacts/tiny/tokenizer"]["files"]["hf/tokenizer.json"] for each in (before, after)]
    assert (tokenizers[0] == tokenizers[1]) == continued
    rates = [each[step]["config"]["train"]["learning_rate"] for each in (before, after)]
    assert rates[1] == pytest.approx(rates[0] * (0.3 if continued else 1.0))
    lineage = Lineage(registry.versions()).versions
    assert bool(lineage["tiny-foundation/2"].carried.get("base")) == continued
    # Whoever is tuned from it is tuned again, and says so.
    for model in ("reviews", "assistant"):
        assert lineage[f"tiny-{model}/2"].carried["foundation_version"] == "2"
