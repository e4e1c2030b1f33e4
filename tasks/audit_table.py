"""Which audits a kind of model has, and how each of them asks a trained model.

The audits know no model, only a callable that scores (`tasks/audits`); here a model becomes that callable.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from models.config import Config
from tasks import audit_classifiers
from tasks.audit_config import AuditConfig
from tasks.audits import amplification as growth
from tasks.audits import (
    association,
    bbq,
    bbq_questions,
    crows_pairs,
    generated_answers,
    name_recall,
    occupation_pronoun,
    representation,
    selection_gap,
    stereoset,
    weat,
    winobias,
    winobias_sentences,
)
from tasks.audits.lexicon import Lexicon
from tasks.audits.verdict import AuditResult, Capability
from tasks.loading import TrainedModel, Unscorable, random_twin
from tasks.readers import read_rows

NULL_MODELS = 5
"""Random twins that CrowS-Pairs is held against: so few are needed to know their spread."""


@dataclass(frozen=True)
class Subject:
    """A model under audit, and what its audits may look at."""

    model: TrainedModel
    config: AuditConfig
    capability: Capability | None
    masked: bool
    """Whether it reads both sides."""
    root: str
    """Where relative paths of published sets are looked up."""
    lexicon: Lexicon
    """The identity words, the project's with those that the recipe adds."""
    halves: occupation_pronoun.Halves | None
    """The starter's planted halves, where the recipe asks for them."""
    rows: Path
    """The prepared data set that it learnt from: the corpus, or the specialist's."""
    parent: list[AuditResult]
    """The audits of the model that it starts from; empty for a foundation."""
    talks: bool = False
    """Whether it speaks inside an answer of the chat format."""
    parent_talks: bool = False
    max_new_tokens: int = 48

    def split(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a split of its data."""
        return read_rows(self.rows / f"{name}.jsonl")


Run = Callable[[Subject], list[AuditResult]]


class Audit(NamedTuple):
    """One audit: its section in a recipe, its code, and how a model is put to it."""

    section: str
    module: str
    run: Run
    rows: str = ""
    """The split of the model's data that it reads: train, test, or none."""
    name: str = ""
    """What a result of it is called that was not made; empty: as the section."""


def _within(prefix: str) -> str:
    """Put a text into an answer: where an assistant is asked to go on."""
    from models.chat import render, turn

    return render("Go on.") + turn(prefix)


def _occupations(subject: Subject, talks: bool) -> AuditResult:
    config, model = subject.config.occupation_pronoun, subject.model
    halves = subject.halves if config.halves == "starter" else occupation_pronoun.lexicon_halves(subject.lexicon)
    ask = partial(occupation_pronoun.audit, config=config, capability=subject.capability, halves=halves)
    if talks:
        return ask(model.score, wrap=_within, scorer="causal log-likelihood inside an answer")
    if not subject.masked:
        return ask(model.score)

    def score(pairs: list[tuple[str, str]]) -> list[float]:
        return model.fill([(prefix, word, config.after) for prefix, word in pairs])

    return ask(score, scorer=f"masked token probability before {config.after.strip()!r}")


def occupations(subject: Subject) -> list[AuditResult]:
    """Audit a language model, and hold it against the one that it starts from by the same words and scorer."""
    found = _occupations(subject, subject.talks)
    parent = next((result for result in subject.parent if result.audit == occupation_pronoun.AUDIT), None)
    if parent is None:
        return [found]
    # A foundation does not know the chat format: beside it, the child is asked for running text too.
    child = found if subject.parent_talks else _occupations(subject, talks=False)
    return [found, growth.amplification(child, parent, subject.config.amplification_margin)]


def represented(subject: Subject) -> list[AuditResult]:
    """Audit the pretraining text for who is named."""
    texts = (row["text"] for row in subject.split("train"))
    config, words = subject.config.representation, subject.lexicon
    return [representation.audit(texts, config, lexicon=words, where="train.jsonl")]


def associations(subject: Subject) -> list[AuditResult]:
    """Audit the pretraining text for the company that identity words keep."""
    texts, config = (row["text"] for row in subject.split("train")), subject.config.association
    halves = subject.halves if config.halves == "starter" else None
    return [association.audit(texts, config, halves=halves, lexicon=subject.lexicon, where="train.jsonl")]


def vectors(subject: Subject) -> list[AuditResult]:
    """Audit a foundation's vectors: the mean of the last hidden states over a text's tokens."""
    scorer = "mean of the last hidden states"
    return weat.audit(subject.model.embed, subject.config.weat, subject.capability, scorer=scorer)


def pairs(subject: Subject) -> list[AuditResult]:
    """Audit a foundation by CrowS-Pairs, beside models of its shape that learnt nothing."""
    asked = crows_pairs.read(subject.config.crows_pairs, subject.root)
    null = [random_twin(subject.model, seed).score_pairs for seed in range(NULL_MODELS)]
    scorer = f"{'masked' if subject.masked else 'causal'} log-likelihood of the shared tokens"
    score, config = subject.model.score_pairs, subject.config.crows_pairs
    return [crows_pairs.audit(score, asked, config, subject.capability, null, scorer=scorer)]


def sentences(subject: Subject) -> list[AuditResult]:
    """Audit a foundation by StereoSet."""
    model = subject.model
    asked = stereoset.read(subject.config.stereoset, subject.root)

    def score(texts: list[stereoset.Sentence]) -> list[float]:
        if subject.masked:
            return model.pseudo_score([f"{one.context} {one.text}".strip() for one in texts])
        return model.score([(one.context, f" {one.text}" if one.context else one.text) for one in texts])

    scorer = "pseudo-log-likelihood of the whole" if subject.masked else "causal log-likelihood of the sentence"
    return [stereoset.audit(score, asked, subject.config.stereoset, subject.capability, scorer=scorer)]


def pronouns(subject: Subject) -> list[AuditResult]:
    """Audit a foundation by WinoBias."""
    asked, model = winobias_sentences.read(subject.config.winobias, subject.root), subject.model

    config, capability = subject.config.winobias, subject.capability
    if subject.masked:
        return [winobias.audit(model.fill, asked, config, capability, scorer="masked token probability")]

    def whole(places: list[tuple[str, str, str]]) -> list[float]:
        return model.score([(before, word + after) for before, word, after in places])

    def prefix(places: list[tuple[str, str, str]]) -> list[float]:
        return model.score([(before, word) for before, word, _ in places])

    scorer = "causal log-likelihood of the pronoun and the rest"
    return [winobias.audit(whole, asked, config, capability, scorer=scorer, score_prefix=prefix)]


def questions(subject: Subject) -> list[AuditResult]:
    """Audit a causal model by BBQ: the answer of three that it finds likeliest a character."""
    asked, model = bbq_questions.read(subject.config.bbq, subject.root), subject.model

    def choose(items: list[tuple[str, str, list[str]]]) -> list[int]:
        import numpy as np

        from models.chat import render

        prompts = [
            render(f"{context} {question}") if subject.talks else f"{context}\n{question}\n"
            for context, question, _ in items
        ]
        options = [(prompt, f" {answer}") for prompt, item in zip(prompts, items, strict=True) for answer in item[2]]
        each = np.array(model.score(options)) / [len(answer) for _, answer in options]
        return [int(row.argmax()) if np.isfinite(row).all() else -1 for row in each.reshape(-1, 3)]

    scorer = "likeliest answer a character"
    return list(bbq.audit(choose, asked, subject.config.bbq, subject.capability, scorer=scorer))


def spans(subject: Subject) -> list[AuditResult]:
    """Audit a finder of answer spans by BBQ."""
    asked, model = bbq_questions.read(subject.config.bbq, subject.root), subject.model

    def find(items: list[tuple[str, str]]) -> list[str]:
        return model.find_answers([{"context": context, "question": question} for context, question in items])

    scorer = "answer that the span overlaps most"
    return list(bbq.audit_spans(find, asked, subject.config.bbq, subject.capability, scorer=scorer))


def names(subject: Subject) -> list[AuditResult]:
    """Audit an entity recogniser by the names of its own test rows or of a published set, swapped."""
    config = subject.config.name_recall
    if config.sources:
        asked = name_recall.read(config, subject.root)
    else:
        asked = [name_recall.Sentence(row["tokens"], row["tags"]) for row in subject.split("test")]
    if not {tag[2:] for sentence in asked for tag in sentence.tags} & set(config.person_types):
        raise Unscorable(f"its entities have no type for persons (person_types: {', '.join(config.person_types)})")
    known = subject.lexicon.name_groups
    if config.axis not in known:
        raise ValueError(f"audit.name_recall.axis: no names of {config.axis!r}; there are {', '.join(known)}")

    def tag(tokens: list[list[str]]) -> list[list[str]]:
        return subject.model.tag([{"tokens": words} for words in tokens])

    return [name_recall.audit(tag, asked, known[config.axis], config, subject.capability)]


def answers(subject: Subject) -> list[AuditResult]:
    """Audit a model that answers by what it says of him and of her."""
    from models.chat import render

    length = subject.max_new_tokens

    def generate(prompts: list[str], samples: int, seed: int) -> list[list[str]]:
        return subject.model.draw([render(prompt) for prompt in prompts], samples, length, seed)

    scorer = f"answers drawn at temperature 1, of at most {length} tokens"
    config, words = subject.config.generated_answers, subject.lexicon
    return generated_answers.audit(generate, config, subject.capability, scorer=scorer, lexicon=words)


LANGUAGE = (
    Audit("occupation_pronoun", "occupation_pronoun", occupations),
    Audit("weat", "weat", vectors),
    Audit("crows_pairs", "crows_pairs", pairs),
    Audit("stereoset", "stereoset", sentences),
    Audit("winobias", "winobias", pronouns),
)
TEXT = (
    Audit("representation", "representation", represented, "train"),
    Audit("association", "association", associations, "train"),
)
TALK = (
    Audit("occupation_pronoun", "occupation_pronoun", occupations),
    Audit("bbq", "bbq", questions),
    Audit("generated_answers", "generated_answers", answers),
)
AUDITS: dict[str, tuple[Audit, ...]] = {
    "foundation": (*LANGUAGE, Audit("bbq", "bbq", questions), *TEXT),
    "masked_foundation": (*LANGUAGE, *TEXT),
    "classification": (
        Audit("counterfactual", "counterfactual", audit_classifiers.counterfactuals, "test"),
        Audit("group_fairness", "group_fairness", audit_classifiers.groups, "test"),
        Audit("group_fairness", "selection_gap", audit_classifiers.growth_over_data, "train", selection_gap.AUDIT),
        Audit("subgroup_auc", "subgroup_auc", audit_classifiers.rankings, "test"),
        Audit("label_association", "label_association", audit_classifiers.labels, "train"),
    ),
    "token_classification": (Audit("name_recall", "name_recall", names, "test"),),
    "question_answering": (Audit("bbq", "bbq", spans),),
    "instruction": TALK,
    "preference": TALK,
    "rlhf": TALK,
    # A reward model speaks no sentence and labels no text; what it teaches is audited in the model that learns of it.
    "reward": (),
}
"""Kind of model -> its audits."""


def asked(kind: str, config: AuditConfig) -> list[Audit]:
    """Return the audits that a recipe has for a kind of model: those without a published set, or with it at hand."""
    return [audit for audit in AUDITS[kind] if _at_hand(getattr(config, audit.section))]


def not_asked(kind: str, config: AuditConfig) -> list[str]:
    """Return the audits that a kind of model could have and the recipe gives no published set for."""
    return [audit.section for audit in AUDITS[kind] if audit not in asked(kind, config)]


def _at_hand(section: Config) -> bool:
    if isinstance(section, crows_pairs.CrowsPairsConfig | winobias_sentences.WinoBiasConfig | bbq_questions.BBQConfig):
        return bool(section.sources)
    return not isinstance(section, stereoset.StereoSetConfig) or bool(section.paths)


def self_test(audit: Audit) -> str:
    """Return what is wrong with an audit's own code, by planted fixtures whose answer is known; empty: nothing."""
    found: str = import_module(f"tasks.audits.{audit.module}").self_test()
    return found
