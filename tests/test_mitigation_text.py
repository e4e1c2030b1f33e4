"""CDA of the pretraining text: the planted association goes, the documents and the held-out splits stay."""

from pathlib import Path
from typing import Any

import pytest

from tasks.audits import association
from tasks.audits.cooccurrence import AssociationConfig
from tasks.audits.lexicon import load_lexicon
from tasks.audits.occupation_pronoun import Halves
from tasks.contamination import HeldOutIndex
from tasks.corpus import PrepareConfig, prepare_datasets
from tasks.mitigation_text import mitigate_documents
from tasks.readers import ingest_sources, read_rows, write_rows
from tasks.recipe import load_recipe
from tasks.report_view import PREPARED
from tasks.sources import DataConfig, Dataset, Source
from tasks.starter.generate import StarterConfig
from tasks.starter.occupations import halves

CDA = PrepareConfig.model_validate({"mitigation": {"method": "cda"}})
QUICK = {"scrub": False, "near_duplicate_threshold": 0.9}


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The starter's corpus with a planted association of .8, prepared as it is and mitigated."""
    here = tmp_path_factory.mktemp("text")
    table = {"kind": "text", "train": [{"kind": "starter", "table": "corpus"}]}
    data = DataConfig(
        starter=StarterConfig(people=16, mentions=30, notices=20, association=0.8),
        datasets={"corpus": Dataset.model_validate(table)},
    )
    ingest_sources(data, here / "in")
    found = [
        prepare_datasets(config.model_copy(update=QUICK), data, here / "in", here / config.mitigation.method)
        for config in (PrepareConfig(), CDA)
    ]
    return here, *found


def gap(directory: Path) -> Any:
    texts = (row["text"] for row in read_rows(directory / "corpus/train.jsonl"))
    config = AssociationConfig(halves="starter", window=5, min_count=5)
    return association.audit(texts, config, halves=Halves(*halves(0)))


def test_the_planted_association_falls_to_about_0(starter: tuple[Path, dict[str, Any], dict[str, Any]]) -> None:
    here, _, _ = starter
    before, after = gap(here / "none"), gap(here / "cda")
    assert before.estimate > 1
    assert before.low > 0.5
    assert abs(after.estimate) < 0.2
    assert after.low < 0 < after.high


def test_documents_stay_and_held_out_text_as_it_was_written(
    starter: tuple[Path, dict[str, Any], dict[str, Any]],
) -> None:
    here, plain, mitigated = starter
    for split in ("valid", "test"):
        one, other = ((here / name / f"corpus/{split}.jsonl").read_bytes() for name in ("none", "cda"))
        assert one == other
    before, after = (list(read_rows(here / name / "corpus/train.jsonl")) for name in ("none", "cda"))
    assert [row["id"] for row in before] == [row["id"] for row in after]
    swap = load_lexicon().swap
    changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    assert all(other["text"] == swap(one["text"]) for one, other in changed)
    counts = mitigated["datasets"]["corpus"]
    holding = sum(swap(row["text"]) is not None for row in before)
    assert (counts["with_identity_words"], counts["swapped"]) == (holding, len(changed))
    # A fair coin each: 5 standard errors.
    assert abs(len(changed) + counts["swaps_left_out"] - holding / 2) < 2.5 * holding**0.5
    # What was not asked for is not counted, so that a recipe without it keeps its words.
    assert counts.items() >= plain["datasets"]["corpus"].items()
    assert counts.keys() - plain["datasets"]["corpus"].keys() == {"with_identity_words", "swapped", "swaps_left_out"}
    assert counts.keys() - {"rows_out"} <= PREPARED.keys()


def test_another_seed_swaps_another_half() -> None:
    rows = [{"id": str(n), "text": f"He is number {n} of the bakers in the old mill by the sea."} for n in range(200)]
    index = HeldOutIndex(13, 8)
    one, same, other = (mitigate_documents("corpus", rows, index, load_lexicon(), seed)[0] for seed in (0, 0, 1))
    assert one == same != other


def test_a_swap_that_would_repeat_a_held_out_text_is_left_out() -> None:
    index = HeldOutIndex(13, 8)
    index.add("corpus/test", {"id": "t", "text": "She left the old mill by the sea at noon."})
    rows = [{"id": str(n), "text": "He left the old mill by the sea at noon."} for n in range(40)]
    rows += [{"id": str(n), "text": "He came to the new mill by the sea at noon."} for n in range(40, 80)]
    kept, counts = mitigate_documents("corpus", rows, index, load_lexicon(), 0)
    assert kept[:40] == rows[:40]
    assert counts["swapped"] == sum(row["text"].startswith("She") for row in kept[40:]) > 10
    assert counts["swaps_left_out"] > 10
    assert counts["with_identity_words"] == 80


def test_the_recipe_s_own_words_are_swapped_too(tmp_path: Path) -> None:
    extra = tmp_path / "words.yaml"
    extra.write_text("words: [[yarl, yarla]]\n")
    data = DataConfig(datasets={"corpus": Dataset(kind="text", train=[Source(kind="files", paths=["unused.jsonl"])])})
    texts = [
        f"The yarl of the {word} mill came at noon to the sea." for word in ("old", "new", "far", "low", "red", "wet")
    ]
    for split, chosen in (("train", texts[:4]), ("valid", texts[4:5]), ("test", texts[5:])):
        write_rows(
            tmp_path / f"in/corpus/{split}.jsonl",
            [{"id": f"{split}{n}", "text": text} for n, text in enumerate(chosen)],
        )
    metrics = prepare_datasets(CDA, data, tmp_path / "in", tmp_path / "out", extra)
    assert metrics["datasets"]["corpus"]["with_identity_words"] == 4
    with pytest.raises(
        ValueError, match=r"^prepare.mitigation.method: corpus: cda: none of the 4 rows holds an identity"
    ):
        prepare_datasets(CDA, data, tmp_path / "in", tmp_path / "other")


def test_a_misspelt_method_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert load_recipe("recipes/starter.yaml", ["prepare.mitigation.method=cda"]).prepare == CDA.model_copy(
        update={"near_duplicate_threshold": 0.8}
    )
    with pytest.raises(ValueError, match=r"prepare.mitigation.method.*'none' or 'cda', got 'reweighing'"):
        load_recipe("recipes/starter.yaml", ["prepare.mitigation.method=reweighing"])
