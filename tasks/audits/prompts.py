"""Prompts in pairs that differ in the named person alone, and answers with the identity words on one side.

A prompt is a template ("What does {person} read on a train?") with one side of an identity pair in it (a man, a
woman). Before the two sides' answers are compared, every identity word is written as that of side a, so that
"She met her brother" and "He met his sister" are the same answer and only what differs beside them counts.
The templates, pairs and refusal patterns are Alma's own (prompts.yaml) and may be extended.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, ValidationError, model_validator

from models.config import Config
from tasks.audits.lexicon import PRONOUNS, WORD, Lexicon, Pair, load_lexicon
from tasks.yaml_file import read_yaml

DEFAULT_PATH = Path(__file__).with_name("prompts.yaml")
PERSON = "{person}"
LONGEST = 16
"""Words that a template may have: a prompt has to leave a small model's context to the answer."""


class IdentityPair(Config):
    """Two ways to name the person of a prompt."""

    a: str = Field(min_length=1)
    """The person of side a, with its article: a man."""
    b: str = Field(min_length=1)
    """The person of side b: a woman."""
    words: list[Pair] = Field(default_factory=list)
    """Words that differ, [side a, side b]; none where the lexicon's gendered words are meant."""

    @model_validator(mode="after")
    def _words(self) -> "IdentityPair":
        try:
            Lexicon(words=self.words)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
        return self

    def one_side(self, lexicon: Lexicon) -> "OneSide":
        """Give what brings this pair's identity words to side a; `lexicon` serves where the pair lists no words.

        Raises ValueError if the people themselves still differ then: they would be counted as a difference
        between the answers.
        """
        found = OneSide(Lexicon(words=self.words), pronouns=False) if self.words else OneSide(lexicon)
        a, b = found(self.a), found(self.b)
        if a.lower() != b.lower():
            raise ValueError(f"{a!r} and {b!r} still differ on one side, expected the words that differ under words")
        return found


class Prompts(Config):
    """Validated templates, identity pairs and refusal patterns."""

    templates: dict[str, list[str]] = Field(default_factory=dict)
    """Domain -> templates with {person} once."""
    pairs: dict[str, list[IdentityPair]] = Field(default_factory=dict)
    """Axis -> pairs; side a is the same group in all pairs of an axis."""
    refusals: list[str] = Field(default_factory=list)
    """Regular expressions that an answer opens with when it refuses; case does not count."""

    @model_validator(mode="after")
    def _sound(self) -> "Prompts":
        seen: dict[str, str] = {}
        for domain, templates in self.templates.items():
            for number, template in enumerate(templates):
                where = f"templates.{domain}[{number}]"
                if template.count(PERSON) != 1:
                    raise ValueError(f"{where}: expected {PERSON} once, got {template!r}")
                if len(template.split()) > LONGEST:
                    raise ValueError(f"{where}: expected at most {LONGEST} words, got {template!r}")
                if load_lexicon().group(template) is not None:
                    raise ValueError(f"{where}: expected no gendered word beside {PERSON}, got {template!r}")
                if template in seen:
                    raise ValueError(f"{where}: {template!r} already stands in {seen[template]}")
                seen[template] = where
        for axis, pairs in self.pairs.items():
            names = [(pair.a, pair.b) for pair in pairs]
            for number, pair in enumerate(pairs):
                if pair.a == pair.b or names.index(names[number]) != number:
                    raise ValueError(f"pairs.{axis}[{number}]: expected two new names, got {pair.a!r} and {pair.b!r}")
        for number, pattern in enumerate(self.refusals):
            try:
                found = re.compile(pattern).search("")
            except re.error as error:
                raise ValueError(f"refusals[{number}]: expected a regular expression, got {pattern!r}") from error
            if found:
                raise ValueError(f"refusals[{number}]: expected a pattern that needs some text, got {pattern!r}")
        return self


class PromptPair(NamedTuple):
    """One item: the same question about two people."""

    axis: str
    domain: str
    template: str
    """The cluster of the item."""
    people: str
    """Both people: a man / a woman."""
    one_side: "OneSide"
    """Brings the identity words of an answer to side a."""
    a: str
    """The prompt about the person of side a."""
    b: str
    """The prompt about the person of side b."""

    @property
    def id(self) -> str:
        """The item's name, which is the same for every model."""
        return f"{self.axis}: {self.people}: {self.template}"


class AnsweredPair(NamedTuple):
    """One item with the answers drawn for both sides, stripped."""

    prompts: PromptPair
    a: list[str]
    b: list[str]
    one_sided_a: list[str]
    """Side a's answers with every identity word on side a."""
    one_sided_b: list[str]
    """Side b's answers with every identity word on side a."""


class OneSide:
    """Writes every identity word of a text as that of side a.

    A lexicon's swap says which words these are and what stands for them. him, his, her and hers all become his,
    because which of two English words "her" stands for is a guess that would make equal answers differ.
    """

    def __init__(self, lexicon: Lexicon, pronouns: bool = True) -> None:
        self._lexicon = lexicon
        self._pronouns = pronouns

    @cached_property
    def _kept(self) -> frozenset[str]:
        lexicon = self._lexicon
        return frozenset(pair[0].lower() for pair in [*lexicon.words, *lexicon.titles, *lexicon.names])

    def __call__(self, text: str) -> str:
        """Return the text with its identity words on side a; every other character stays."""
        swapped = self._lexicon.swap(text)
        if swapped is None:
            return text
        pieces, end = [], 0
        for match, other in zip(WORD.finditer(text), WORD.finditer(swapped), strict=True):
            pieces += [text[end : match.start()], self._written(match.group(), other.group())]
            end = match.end()
        return "".join([*pieces, text[end:]])

    def _written(self, word: str, swapped: str) -> str:
        if word.lower() in PRONOUNS:
            if not self._pronouns:
                return word
            return "HIS" if word.isupper() else "His" if word[0].isupper() else "his"
        return word if word.lower() in self._kept else swapped


def build(prompts: Prompts, axes: Sequence[str], most: int, lexicon: Lexicon) -> list[PromptPair]:
    """Pair templates with identities, at most `most` prompts (two a pair) shared equally by the axes.

    Every template comes once before any comes twice, by turns from each domain, and the pairs of an axis take
    turns, so that a small `most` still asks about all domains and people. The order is the same for every model.

    Raises ValueError on no template, an unknown axis, an axis given twice, a budget of less than one pair per axis,
    or a pair whose `words` (`lexicon` where it has none) do not hold all that its people differ in.
    """
    for axis in axes:
        if not prompts.pairs.get(axis):
            known = ", ".join(name for name, pairs in prompts.pairs.items() if pairs) or "none"
            raise ValueError(f"axes: {axis!r} has no identity pairs, expected one of {known}")
    if len(set(axes)) != len(axes):
        raise ValueError(f"axes: expected each axis once, got {', '.join(axes)}")
    each = most // 2 // max(1, len(axes))
    if each < 1:
        raise ValueError(f"max_prompts: expected at least 2 for each of {len(axes)} axes, got {most}")
    rounds = zip_longest(*([(domain, text) for text in texts] for domain, texts in prompts.templates.items()))
    templates = [entry for row in rounds for entry in row if entry is not None]
    if not templates:
        raise ValueError("templates: expected at least one, got none")
    found = []
    for axis in axes:
        people = []
        for number, pair in enumerate(prompts.pairs[axis]):
            try:
                people.append((pair, pair.one_side(lexicon)))
            except ValueError as error:
                raise ValueError(f"pairs.{axis}[{number}]: {error}") from error
        turns = [(place, turn) for turn in range(len(people)) for place in range(len(templates))]
        for place, turn in turns[:each]:
            (domain, template), (pair, one_side) = templates[place], people[(place + turn) % len(people)]
            asked = [_capital(template.replace(PERSON, person)) for person in (pair.a, pair.b)]
            found.append(PromptPair(axis, domain, template, f"{pair.a} / {pair.b}", one_side, *asked))
    return found


def pair_answers(asked: Sequence[PromptPair], answers: Sequence[Sequence[str]]) -> list[AnsweredPair]:
    """Join items with their answers, of which there are two rows (side a, side b) for each item in turn."""
    found = []
    for number, item in enumerate(asked):
        a, b = ([text.strip() for text in row] for row in answers[2 * number : 2 * number + 2])
        one_sided = ([item.one_side(text) for text in row] for row in (a, b))
        found.append(AnsweredPair(item, a, b, *one_sided))
    return found


def load_prompts(extra: Path | None = None) -> Prompts:
    """Load the project's prompts, with the entries of a user's file of the same keys appended.

    Raises ValueError in one line that names the file, the entry, its value and what was expected.
    """
    base = _read(DEFAULT_PATH)
    if extra is None:
        return _validate(base, DEFAULT_PATH)
    added = _validate(_read(extra), extra).model_dump()
    for section in ("templates", "pairs"):
        for name, entries in added[section].items():
            base[section][name] = [*base[section].get(name, []), *entries]
    base["refusals"] = [*base["refusals"], *added["refusals"]]
    return _validate(base, extra)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _read(path: Path) -> dict:
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of sections, got {type(values).__name__}")
    return values


def _validate(values: dict, path: Path) -> Prompts:
    try:
        return Prompts.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        got = f", got {first['input']!r:.80}" if where else ""
        raise ValueError(f"{path}: {f'{where}: ' if where else ''}{message}{got}") from error
