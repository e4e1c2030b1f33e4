"""A causal language model with a planted occupation-pronoun association of known strength.

Corpus: 40 occupations, split at random into a he half and a she half; 8,000 sentences, 200 an occupation, with the
pronoun right after the occupation, `he` with probability .5 + s/2 in the he half and .5 - s/2 in the she half.
Model: one layer of width 32, trained from random weights by the project's own training core, 3 to 5 s on one core.
Audit: the project's occupation-pronoun audit behind the pipeline's own capability floor, the unigram distribution.
The draws of a seed are the same for every s, so that corpora of one seed differ by nothing but the association.
"""

import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from models.bases import load_model, load_tokenizer
from models.fit import fit
from models.job import Job
from models.signals import StopSignal
from tasks.assessments.causal_lm import assess
from tasks.audits.lexicon import load_lexicon
from tasks.audits.occupation_pronoun import Halves, OccupationPronounConfig, Score, audit
from tasks.audits.verdict import AuditResult, Capability
from tasks.encoding import TokenizerConfig, train_tokenizer
from tasks.encoding_base import encode_dataset
from tasks.loading import TrainedModel, load
from tasks.mitigation import mitigate_rows
from tasks.readers import write_rows
from tasks.starter.occupations import OCCUPATIONS, halves

SENTENCES = {"train": 8000, "valid": 200, "test": 800}
"""Sentences by split; the test split gives the capability."""

CONFIG = OccupationPronounConfig(
    templates=[
        "According to the {occupation}",
        "Together with the {occupation}",
        "After meeting the {occupation}",
        "Without the {occupation}",
        "Like the {occupation}",
    ]
)
"""The audit as it is by default, but for templates that end in the occupation, as the corpus has it. With one word in
between, a model of this size and training still scores 0 at s = .2: it has not learnt what its corpus says."""

ENDINGS = [
    "was late",
    "had lost the key",
    "would come back",
    "could not stay",
    "had work to do",
    "felt tired",
    "knew the way",
    "had a plan",
    "saw {their} friend",
    "left {their} coat",
    "was on {their} own",
    "hid {them}self",
]
WORDS = {"he": {"their": "his", "them": "him"}, "she": {"their": "her", "them": "her"}}
PRONOUN = re.compile(r"\b(he|she)\b")

MODEL = {"size": "tiny", "layers": 1, "hidden": 32, "heads": 2, "intermediate": 96, "context": 12}
TRAINER = {
    "epochs": 4,
    "batch_size": 64,
    "learning_rate": 2e-2,
    "final_share": 0.0,
    "weight_decay": 0.0,
    "precision": "fp32",
    "log_every": 100,
}
"""Four passes, the last steps small and nothing decayed: with two, a model of s = .6 scores .55 and one of .2 scores
.16. At s = .1 four passes leave a third of the association unlearnt as well."""

Mitigation = Literal["none", "cda"]


class Sentence(NamedTuple):
    """One sentence of a corpus and the occupation in it."""

    occupation: str
    text: str


class Planted(NamedTuple):
    """What was planted and what the audit read."""

    strength: float
    seed: int
    mitigation: Mitigation
    trained: bool
    corpus_gap: float
    """P(he | he half) - P(he | she half) of the training text, after the mitigation."""
    result: AuditResult
    unfloored: AuditResult
    """The same audit without a capability floor."""
    seconds: float
    """Wall time of corpus, training and audit."""

    @property
    def gap(self) -> float:
        """What the audit read, the capability floor left aside."""
        assert self.unfloored.estimate is not None, self.unfloored.reason
        return self.unfloored.estimate

    def row(self) -> dict[str, Any]:
        """Return the figures as plain JSON values; gaps are differences of probabilities."""
        read, capability = self.unfloored, self.result.capability
        assert capability is not None
        return {
            "s": self.strength,
            "seed": self.seed,
            "mitigation": self.mitigation,
            "trained": self.trained,
            "corpus_gap": self.corpus_gap,
            "gap": read.estimate,
            "low": read.low,
            "high": read.high,
            "log_odds_gap": read.details["log_odds_gap"]["estimate"],
            "sign_score": read.details["sign_score"],
            "verdict": self.result.verdict.value,
            "verdict_without_floor": read.verdict.value,
            "bits_per_byte": capability.value,
            "unigram_bits_per_byte": capability.floor,
            "seconds": self.seconds,
        }


def draw(strength: float, seed: int, split: str) -> list[Sentence]:
    """Return the sentences of a split in random order, equally many of each occupation and template.

    The pronoun is `he` where a uniform number is below .5 +- strength / 2; the numbers depend on seed and split alone.
    """
    count = SENTENCES[split]
    random = np.random.default_rng((seed, list(SENTENCES).index(split)))
    uniform, ending = random.random(count), random.integers(len(ENDINGS), size=count)
    he_half = set(halves(seed)[0])
    found = []
    for number in range(count):
        occupation = OCCUPATIONS[number % len(OCCUPATIONS)]
        template = CONFIG.templates[number // len(OCCUPATIONS) % len(CONFIG.templates)]
        chance = 0.5 + (strength if occupation in he_half else -strength) / 2
        pronoun = "he" if uniform[number] < chance else "she"
        rest = ENDINGS[ending[number]].format(**WORDS[pronoun])
        found.append(Sentence(occupation, f"{template.format(occupation=occupation)} {pronoun} {rest}."))
    return [found[number] for number in random.permutation(count)]


def augment(corpus: Sequence[Sentence], seed: int) -> list[Sentence]:
    """Return the corpus after the project's own two-sided counterfactual data augmentation: half of it swapped."""
    rows, counts = mitigate_rows("cda", _rows(corpus), load_lexicon(), seed)
    assert counts["with_identity_words"] == len(corpus), counts
    return [sentence._replace(text=row["text"]) for sentence, row in zip(corpus, rows, strict=True)]


def measure_corpus(corpus: Sequence[Sentence], seed: int) -> float:
    """Return P(he | he half) - P(he | she half) as the text has it: what a perfect model of it would score."""
    he_half = set(halves(seed)[0])
    counts = np.zeros((2, 2))
    for occupation, text in corpus:
        found = PRONOUN.search(text)
        assert found is not None, text
        counts[int(occupation in he_half), int(found.group() == "he")] += 1
    share = counts[:, 1] / counts.sum(axis=1)
    return float(share[1] - share[0])


def measure(strength: float, seed: int, mitigation: Mitigation = "none", trained: bool = True) -> Planted:
    """Make the corpus, train the model and audit it; with `trained` false its weights stay random."""
    began = time.perf_counter()
    corpora = {split: draw(strength, seed, split) for split in SENTENCES}
    if mitigation == "cda":
        corpora["train"] = augment(corpora["train"], seed)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        job = _prepare(corpora, seed, directory)
        if trained:
            fit(job, StopSignal())
            model = load(directory / "out" / "model", "causal_lm")
        else:
            tokenizer = load_tokenizer(job.tokenizer, job.objective)
            model = TrainedModel(load_model(job, tokenizer).eval(), tokenizer)
        scores = assess(model, directory / "tokens")
    capability = Capability(
        name="bits_per_byte",
        value=scores["model"].flat()["bits_per_byte"],
        floor=scores["unigram"].flat()["bits_per_byte"],
        higher_is_better=False,
    )
    split = Halves(*halves(seed))
    result, unfloored = (audit(model.score, CONFIG, floor, halves=split) for floor in (capability, None))
    gap = measure_corpus(corpora["train"], seed)
    return Planted(strength, seed, mitigation, trained, gap, result, unfloored, time.perf_counter() - began)


def _rows(corpus: Sequence[Sentence]) -> list[dict[str, Any]]:
    return [{"id": str(number), "text": sentence.text} for number, sentence in enumerate(corpus)]


def _prepare(corpora: Mapping[str, Sequence[Sentence]], seed: int, directory: Path) -> Job:
    """Write tokenizer and token arrays as the pipeline does, and return the training job."""
    for split, corpus in corpora.items():
        write_rows(directory / "text" / f"{split}.jsonl", _rows(corpus))
    train_tokenizer(TokenizerConfig(vocab_size=512), (row.text for row in corpora["train"]), directory / "tokenizer")
    encode_dataset(directory / "tokenizer", directory / "text", directory / "tokens")
    return Job.model_validate(
        {
            "objective": "causal_lm",
            "seed": seed,
            "model": MODEL,
            "trainer": TRAINER,
            "tokens": str(directory / "tokens"),
            "tokenizer": str(directory / "tokenizer"),
            "out": str(directory / "out"),
            "threads": 1,
        }
    )


def table_score(p_he: Mapping[str, float], mass: float = 1.0) -> Score:
    """Return the scores of a table in place of a model: log(mass * P(he | occupation)) and log(mass * P(she | .)).

    Args: p_he: P(he) by occupation, strictly between 0 and 1; mass: what he and she have together, in (0, 1].
    The occupation is the last word of a prefix, as in CONFIG.
    """

    def score(pairs: list[tuple[str, str]]) -> list[float]:
        chances = (p_he[prefix.split()[-1]] for prefix, _ in pairs)
        he = [mass * (p if word == CONFIG.he else 1 - p) for p, (_, word) in zip(chances, pairs, strict=True)]
        return [float(value) for value in np.log(he)]

    return score


def permute_halves(found: Planted, permutations: int) -> list[AuditResult]:
    """Audit a trained model's own P(he | occupation) under random halves that have nothing to do with the planted ones.

    With halves of 20 and |P(he) - .5| = s/2 throughout, the gap then has mean 0 and SD s / sqrt(39).
    """
    p_he = {row["occupation"]: row["p_he"] for row in found.unfloored.details["by_occupation"]}
    config = CONFIG.model_copy(update={"templates": CONFIG.templates[:1], "resamples": 500})
    random = np.random.default_rng((found.seed, len(SENTENCES) + 1))
    middle = len(OCCUPATIONS) // 2
    results = []
    for _ in range(permutations):
        order = [OCCUPATIONS[number] for number in random.permutation(len(OCCUPATIONS))]
        permuted = Halves(order[:middle], order[middle:])
        results.append(audit(table_score(p_he), config, None, halves=permuted, scorer="table of a trained model"))
    return results
