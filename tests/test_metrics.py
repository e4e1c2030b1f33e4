"""Scores and baselines: golden values by hand, agreement with the libraries, sound intervals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF
from sklearn.metrics import f1_score, matthews_corrcoef
from torchmetrics.functional.text import squad

from tasks.baselines import (
    answer_baselines,
    classification_baselines,
    entity_baselines,
    instruction_baselines,
    most_common,
    unigram_bits,
)
from tasks.metric_classes import normalise_answer
from tasks.metrics import (
    _macro_f1,
    _mcc,
    answer_scores,
    classification_scores,
    entity_scores,
    instruction_scores,
    language_scores,
)

WORDS = ["the", "old", "miller", "sold", "bread", "near", "a", "blue", "river", "in", "spring"]
# Of nothing but articles nothing is left to compare: SQuAD 1.1 gives F1 0, torchmetrics 1 as SQuAD 2.0 does.
ANSWER = st.lists(st.sampled_from([*WORDS, "The", "river,"]), min_size=1, max_size=5).filter(
    lambda words: bool({*words} - {"the", "The", "a"})
)


def test_classification_by_hand():
    #            predicted a  b  c      F1: a 2*2/(2*2+1+1) = 2/3, b 2*1/(2+1+1) = 1/2, c 0 (never there)
    found = classification_scores(["a", "a", "b", "a", "b"], ["a", "a", "b", "b", "a"], ["a", "b", "c"])
    assert found.confusion == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert found.scores["accuracy"].value == pytest.approx(0.6)
    assert found.f1 == pytest.approx({"a": 2 / 3, "b": 0.5, "c": 0})
    # MCC (c s - sum p t) / sqrt(..): (3 * 5 - 13) / sqrt((25 - 13) (25 - 13)), 3 right, 3 and 2 of each on both sides.
    assert found.flat() == pytest.approx({"accuracy": 0.6, "macro_f1": (2 / 3 + 0.5) / 3, "mcc": 2 / 12})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_scores_of_a_confusion_matrix_agree_with_scikit_learn(pairs):
    confusion = np.zeros((4, 4), dtype=np.int64)
    for truth, guess in pairs:
        confusion[truth, guess] += 1
    truths, guesses = zip(*pairs, strict=True)
    expected = f1_score(truths, guesses, labels=range(4), average="macro", zero_division=0.0)
    assert _macro_f1(confusion[None])[0] == pytest.approx(expected)
    assert _mcc(confusion[None])[0] == pytest.approx(matthews_corrcoef(truths, guesses))


def test_classification_interval_matches_resampled_items():
    random = np.random.default_rng(0)
    truth = random.choice(["x", "y", "z"], 300, p=[0.6, 0.3, 0.1])
    guess = np.where(random.random(300) < 0.8, truth, "x")
    found = classification_scores(list(guess), list(truth), resamples=4000).scores["macro_f1"]
    drawn = []
    for _ in range(400):
        index = random.integers(0, 300, 300)
        drawn.append(f1_score(truth[index], guess[index], average="macro", zero_division=0.0))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.02)
    assert found.low < found.value < found.high


def test_instruction_by_hand():
    found = instruction_scores(["the cat  sat", "a dog"], ["the cat sat", "one bird"], resamples=0)
    assert found.scores["exact_match"].value == 0.5
    assert found.scores["rouge_l"].value == pytest.approx(0.5)
    assert found.scores["exact_match"].low is None
    # "the cat sat" against "the cat sat on it": P = 3/3, R = 3/5, F = 2PR/(P+R) = .75; bigrams 2/2, 2/4.
    longer = instruction_scores(["the cat sat"], ["the cat sat on it"]).flat()
    assert longer["rouge_1"] == pytest.approx(0.75)
    assert longer["rouge_2"] == pytest.approx(2 / 3)
    assert longer["exact_match"] == 0


@pytest.mark.parametrize(("name", "metric"), [("bleu", BLEU), ("chrf", CHRF)])
def test_corpus_scores_are_sacrebleu_s_and_their_intervals_hold_them(name, metric):
    random = np.random.default_rng(0)
    truth = [" ".join(random.choice(WORDS, 8)) for _ in range(80)]
    guess = [line if random.random() < 0.4 else " ".join(random.choice(WORDS, 8)) for line in truth]
    found = instruction_scores(guess, truth, resamples=500).scores[name]
    theirs = metric().corpus_score(guess, [truth], n_bootstrap=500)
    assert found.value == pytest.approx(theirs.score)
    assert (found.high - found.low) / 2 == pytest.approx(theirs._ci, rel=0.2)
    assert found.low < found.value < found.high
    assert "sacrebleu" in found.scorer


def test_empty_answers_score_zero():
    found = instruction_scores(["", ""], ["a word", "another"])
    assert set(found.flat().values()) == {0.0}


def test_entity_scores_by_hand():
    # True: A(0-1), B(3), A(4); found: A(0-1), B(3) read from an I- as conlleval does, A(4-5) too long, C(7).
    truth = [["B-A", "I-A", "O", "B-B", "B-A", "O"], ["O", "O"]]
    guess = [["B-A", "I-A", "O", "I-B", "B-A", "I-A"], ["O", "B-C"]]
    found = entity_scores(guess, truth)
    # Two of four found and of three true ones are right: P 1/2, R 2/3, F 4/7; tags: 4 of 6 and 1 of 2.
    assert found.flat() == pytest.approx({"f1": 4 / 7, "precision": 1 / 2, "recall": 2 / 3, "token_accuracy": 5 / 8})
    assert found.labels == ["A", "B", "C"]
    assert found.f1 == pytest.approx({"A": 0.5, "B": 1.0, "C": 0.0})
    assert found.scores["f1"].items == 2
    nothing = entity_scores([["O"], ["O"]], [["O"], ["O"]])
    assert nothing.flat() == {"f1": 0, "precision": 0, "recall": 0, "token_accuracy": 1}
    assert entity_scores([["O", "O"]], [["B-A", "O"]], resamples=0).flat()["f1"] == 0
    many = entity_scores([*guess, *truth] * 20, [*truth, *truth] * 20).scores
    for name in ("f1", "precision", "recall", "token_accuracy"):
        assert many[name].low < many[name].value < many[name].high
    with pytest.raises(ValueError, match="sentence 0 has 1 predicted tags but 2 true ones"):
        entity_scores([["O"]], [["O", "O"]])


def test_answer_scores_by_hand():
    assert normalise_answer(" The  cat's, an A-team! ") == "cats ateam"
    # "the old mill" against "mill by the river": one shared word of 2 and of 3: 2/5; the second answer shares both.
    truth = [["mill by the river"], ["1887", "in 1887"], ["rye"]]
    found = answer_scores(["the old mill", "In 1887.", "bread"], truth)
    assert found.flat() == pytest.approx({"exact_match": 1 / 3, "f1": (0.4 + 1 + 0) / 3})
    alone = answer_scores(["old mill"], [["the mill"]], resamples=0).flat()
    assert alone == pytest.approx({"exact_match": 0, "f1": 2 / 3})
    assert answer_scores([""], [["the"]]).flat() == {"exact_match": 1, "f1": 0}
    with pytest.raises(ValueError, match="no true answer"):
        answer_scores(["x"], [[]])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(ANSWER, ANSWER, ANSWER), min_size=1))
def test_answer_scores_agree_with_torchmetrics(rows):
    texts = [[" ".join(words) for words in row] for row in rows]
    predictions = [{"prediction_text": guess, "id": str(i)} for i, (guess, *_) in enumerate(texts)]
    truths = [{"answers": {"answer_start": [0, 0], "text": true}, "id": str(i)} for i, (_, *true) in enumerate(texts)]
    theirs = squad(predictions, truths)
    found = answer_scores([guess for guess, *_ in texts], [true for _, *true in texts], resamples=0).flat()
    assert 100 * found["exact_match"] == pytest.approx(theirs["exact_match"].item())
    assert 100 * found["f1"] == pytest.approx(theirs["f1"].item())


def test_language_scores_by_hand():
    # 8 tokens at ln 4 nats each over 16 bytes: perplexity 4, 1 bit per byte.
    found = language_scores([8 * math.log(4)], [8], [16])
    expected = {"perplexity": 4, "bits_per_byte": 1.0, "nats_per_token": math.log(4), "bytes_per_token": 2}
    assert found.flat() == pytest.approx(expected)
    assert found.scores["perplexity"].low is None
    many = language_scores([1.0, 4.0, 6.0] * 20, [2, 4, 4] * 20, [8, 16, 20] * 20).scores
    assert many["bits_per_byte"].low < many["bits_per_byte"].value < many["bits_per_byte"].high
    assert language_scores([1e6], [1], [1]).scores["perplexity"].value == math.inf


def test_scores_are_reproducible():
    once = classification_scores(["a", "b"] * 20, ["a", "a"] * 20)
    assert once == classification_scores(["a", "b"] * 20, ["a", "a"] * 20)
    assert once.model_validate_json(once.model_dump_json()).model_dump() == once.model_dump()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="got 1 and 2"):
        classification_scores(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="at least one"):
        instruction_scores([], [])
    with pytest.raises(ValueError, match="label 'c' is not among the declared"):
        classification_scores(["c"], ["a"], ["a", "b"])
    with pytest.raises(ValueError, match="0 bytes"):
        language_scores([1.0], [1], [0])


def test_classification_baselines():
    texts = ["good fine bread", "good mill", "fine good day", "bad cold soup", "bad day"] * 4
    labels = ["yes", "yes", "yes", "no", "no"] * 4
    found = classification_baselines(texts, labels, ["bad soup", "fine mill"])
    assert found == {"majority": ["yes", "yes"], "tfidf_lr": ["no", "yes"]}
    alone = classification_baselines(["a", "b"], ["x", "x"], ["c"])
    assert alone == {"majority": ["x"], "tfidf_lr": ["x"]}
    wordless = classification_baselines(["!", "?"], ["x", "y"], ["c"])
    assert wordless["tfidf_lr"] == ["x"]


def test_instruction_baselines():
    questions = ["Where does Ada live?", "What does Ada eat?", "Where does Bo work?"]
    answers = ["Here", "Bread", "Here"]
    found = instruction_baselines(questions, answers, ["What does Bo eat?", "Where does Ada live now?"])
    assert found == {"majority": ["Here", "Here"], "nearest_neighbour": ["Bread", "Here"]}


def test_entity_baselines():
    found = entity_baselines([["Ada", "Mill"], ["Mill", "is"]], [["B-A", "O"], ["B-B", "O"]], [["Mill", "Ada", "new"]])
    assert found == {"all_o": [["O", "O", "O"]], "unigram": [["B-B", "B-A", "O"]]}


def test_answer_baselines():
    context = "The mill opens at eight. Ada sells bread! It is old."
    found = answer_baselines(["noon", "noon", "eight"], ["What does Ada sell?", "When?"], [context, "!?"])
    assert found == {"majority": ["noon", "noon"], "nearest_sentence": ["Ada sells bread!", "!?"]}
    assert answer_baselines(["x"], ["q"], [""]) == {"majority": ["x"], "nearest_sentence": [""]}


def test_baselines_name_what_is_missing():
    with pytest.raises(ValueError, match="at least one training word"):
        entity_baselines([], [], [["x"]])
    assert most_common(["b", "a"]) == "a"
    with pytest.raises(ValueError, match="at least one training row"):
        classification_baselines([], [], ["x"])
    with pytest.raises(ValueError, match="1 questions but 2 answers"):
        instruction_baselines(["q"], ["a", "b"], [])


def test_unigram_by_hand():
    # Counts 3, 1, 0 with add one: p = 4/7, 2/7, 1/7.
    train = np.array([0, 0, 0, 1], dtype=np.uint16)
    assert unigram_bits(train, 3) == pytest.approx(-np.log2([4 / 7, 2 / 7, 1 / 7]))
    with pytest.raises(ValueError, match="token id 5 is outside the vocabulary of 3"):
        unigram_bits(np.array([5]), 3)
