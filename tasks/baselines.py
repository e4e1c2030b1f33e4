"""The baselines that every score stands beside: cheap, deterministic and hard to be ashamed of.

Classification: the majority class; TF-IDF with logistic regression (S. Wang and C. Manning, Baselines and
Bigrams, ACL 2012, show how strong such a model is on short text). Instruction: the commonest training
answer; the answer of the nearest training question by TF-IDF cosine, which is that model's analogue for
generation. Entities: no entity at all; the commonest tag of each word. Answers: the commonest training answer;
the sentence nearest to the question by TF-IDF cosine. Foundation: the unigram distribution of the training tokens.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 24
"""Tokens counted at once: a memory-mapped array is never read whole."""


def most_common(values: Sequence[str]) -> str:
    """Give the commonest value, the alphabetically first on a tie; ValueError on none."""
    if not values:
        raise ValueError("majority baseline: expected at least one training row, got none")
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def classification_baselines(
    train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str], seed: int = 0
) -> dict[str, list[str]]:
    """Predict the test texts' labels with the majority class and with TF-IDF + logistic regression.

    TF-IDF over words and word pairs with sublinear term frequency (1 + log tf); logistic regression with
    scikit-learn's default C = 1. Returns {"majority": [...], "tfidf_lr": [...]}, one label per test text.
    Raises ValueError when there is no training row or as many texts as labels are not given.
    """
    if len(train_texts) != len(train_labels):
        raise ValueError(f"baselines: {len(train_texts)} training texts but {len(train_labels)} labels")
    majority = most_common(train_labels)
    predictions = {"majority": [majority] * len(test_texts)}
    if len(set(train_labels)) == 1 or not _has_words(train_texts) or not test_texts:
        # Nothing to learn from: the regression's best constant is the majority.
        return predictions | {"tfidf_lr": [majority] * len(test_texts)}
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+"),
        LogisticRegression(max_iter=1000, random_state=seed),
    )
    model.fit(list(train_texts), list(train_labels))
    return predictions | {"tfidf_lr": [str(label) for label in model.predict(list(test_texts))]}


def instruction_baselines(
    train_questions: Sequence[str], train_answers: Sequence[str], test_questions: Sequence[str]
) -> dict[str, list[str]]:
    """Answer the test questions with the commonest training answer and with the nearest question's answer.

    Nearest by cosine of TF-IDF over words and word pairs, the first in training order on a tie.
    Returns {"majority": [...], "nearest_neighbour": [...]}, one answer per test question.
    Raises ValueError when there is no training row or as many questions as answers are not given.
    """
    if len(train_questions) != len(train_answers):
        raise ValueError(f"baselines: {len(train_questions)} questions but {len(train_answers)} answers")
    majority = most_common(train_answers)
    answers = {"majority": [majority] * len(test_questions)}
    if not _has_words(train_questions) or not test_questions:
        return answers | {"nearest_neighbour": [majority] * len(test_questions)}
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
    known = vectorizer.fit_transform(list(train_questions))
    nearest: list[str] = []
    for start in range(0, len(test_questions), 512):
        asked = vectorizer.transform(list(test_questions[start : start + 512]))
        # Rows have unit length, so the product is the cosine; a block bounds the dense matrix.
        best = np.asarray((asked @ known.T).todense()).argmax(axis=1)
        nearest += [train_answers[int(row)] for row in best]
    return answers | {"nearest_neighbour": nearest}


def entity_baselines(
    train_tokens: Sequence[Sequence[str]], train_tags: Sequence[Sequence[str]], test_tokens: Sequence[Sequence[str]]
) -> dict[str, list[list[str]]]:
    """Tag the test sentences with O throughout and with the commonest training tag of each word.

    A word that training did not have is O; on a tie the alphabetically first tag. Returns {"all_o": ...,
    "unigram": ...}, one list of tags a sentence. Raises ValueError when there is no training row.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for words, tags in zip(train_tokens, train_tags, strict=True):
        for word, tag in zip(words, tags, strict=True):
            counts[word][tag] += 1
    if not counts:
        raise ValueError("baselines: expected at least one training word, got none")
    usual = {word: most_common(list(found.elements())) for word, found in counts.items()}
    return {
        "all_o": [["O"] * len(words) for words in test_tokens],
        "unigram": [[usual.get(word, "O") for word in words] for words in test_tokens],
    }


def answer_baselines(
    train_answers: Sequence[str], questions: Sequence[str], contexts: Sequence[str]
) -> dict[str, list[str]]:
    """Answer with the commonest training answer and with the sentence of the context nearest to the question.

    Nearest by cosine of TF-IDF over words, fitted on the sentences of the test contexts, the first on a tie.
    Returns {"majority": ..., "nearest_sentence": ...}. Raises ValueError when there is no training row.
    """
    majority = most_common(train_answers)
    answers = {"majority": [majority] * len(questions)}
    parts = [re.split(r"(?<=[.!?])\s+", context.strip()) for context in contexts]
    sentences = sorted({sentence for own in parts for sentence in own})
    if not _has_words(sentences):
        return answers | {"nearest_sentence": [own[0] for own in parts]}
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
    number = {sentence: i for i, sentence in enumerate(sentences)}
    known = vectorizer.fit_transform(sentences)
    nearest = []
    for own, asked in zip(parts, vectorizer.transform(list(questions)), strict=True):
        near = known[[number[sentence] for sentence in own]] @ asked.T
        nearest.append(own[int(near.toarray().argmax())])
    return answers | {"nearest_sentence": nearest}


def unigram_bits(train_tokens: NDArray[np.integer], vocab_size: int) -> NDArray[np.float64]:
    """Give -log2 p of each token under the add-one smoothed unigram model, shape (vocab,): the capability floor.

    p(t) = (count(t) + 1) / (N + V). Args: token ids, shape (tokens,), memory-mapped arrays welcome. Raises ValueError
    on an id outside the vocabulary.
    """
    counts = _count(train_tokens, vocab_size)
    return math.log2(float(counts.sum()) + vocab_size) - np.log2(counts + 1.0)


def _count(tokens: NDArray[np.integer], vocab_size: int) -> NDArray[np.int64]:
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(tokens), CHUNK):
        part = np.bincount(tokens[start : start + CHUNK], minlength=vocab_size)
        if len(part) > vocab_size:
            raise ValueError(f"unigram: token id {len(part) - 1} is outside the vocabulary of {vocab_size}")
        counts += part
    return counts


def _has_words(texts: Sequence[str]) -> bool:
    return any(character.isalnum() for text in texts for character in text)
