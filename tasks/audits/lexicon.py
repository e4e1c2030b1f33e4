"""The identity lexicon and the two-sided swap of a text's gendered words.

The swap replaces whole words, keeps their case and is consistent within a text. `her` and `his` are
ambiguous and are decided by the next token (see `Lexicon.swap`); the rule is simple on purpose, needs no
tagger and errs on verbs after an object ("saw her leave" reads as a possessor).
"""

import re
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from models.config import Config

DEFAULT_PATH = Path(__file__).with_name("lexicon.yaml")
WORD = re.compile(r"ma'am(?![^\W_])|[^\W_]+", re.IGNORECASE)
OPENING = "\"'(*_\u201c\u2018"
PRONOUNS: dict[str, Literal["he", "she"]] = {"his": "he", "him": "he", "her": "she", "hers": "she"}

Pair = Annotated[list[str], Field(min_length=2, max_length=2)]
Side = Literal["he", "she"]


class Occupations(Config):
    """Occupations by the pronoun that a stereotype gives them."""

    he: list[str] = Field(default_factory=list)
    """Occupations stereotyped as men's."""
    she: list[str] = Field(default_factory=list)
    """Occupations stereotyped as women's."""


class Lexicon(Config):
    """Validated identity words, each pair as [he side, she side]."""

    words: list[Pair] = Field(default_factory=list)
    """Swapped in any case."""
    titles: list[Pair] = Field(default_factory=list)
    """Swapped before a capitalised word only."""
    one_way: dict[str, str] = Field(default_factory=dict)
    """She-side variants that are swapped to a he-side word which does not come back to them."""
    names: list[Pair] = Field(default_factory=list)
    """First names, swapped where they begin with a capital letter."""
    function_words: list[str] = Field(default_factory=list)
    """Words after which `her` is an object and `his` a pronoun of its own."""
    occupations: Occupations = Field(default_factory=Occupations)
    """Occupations by stereotyped side."""

    @model_validator(mode="after")
    def _unique(self) -> "Lexicon":
        """Refuse a word in two pairs: the swap would not know its partner, nor the way back."""
        seen: dict[str, str] = {}
        for section in ("words", "titles", "names"):
            for number, pair in enumerate(getattr(self, section)):
                for word in pair:
                    _claim(seen, word, f"{section}[{number}] {pair}")
        for word in self.one_way:
            _claim(seen, word, f"one_way[{word}]")
        jobs: dict[str, str] = {}
        for side in ("he", "she"):
            for number, job in enumerate(getattr(self.occupations, side)):
                where = f"occupations.{side}[{number}]"
                if not job.strip():
                    raise ValueError(f"{where}: expected a word, got {job!r}")
                if job in jobs:
                    raise ValueError(f"{where}: {job!r} already stands in {jobs[job]}")
                jobs[job] = where
        return self

    @cached_property
    def _partners(self) -> dict[str, tuple[str, Side]]:
        """Lower-case word -> (partner, side of the word)."""
        table: dict[str, tuple[str, Side]] = {}
        for first, second in [*self.words, *self.titles, *self.names]:
            table[first.lower()] = (second, "he")
            table[second.lower()] = (first, "she")
        table |= {word.lower(): (target, "she") for word, target in self.one_way.items()}
        return table

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(word.lower() for pair in self.names for word in pair)

    @cached_property
    def _titles(self) -> frozenset[str]:
        one_way = [word for word in self.one_way if word[:1].isupper()]
        return frozenset(word.lower() for word in [*one_way, *(w for pair in self.titles for w in pair)])

    @cached_property
    def _function_words(self) -> frozenset[str]:
        return frozenset(word.lower() for word in self.function_words)

    def swap(self, text: str) -> str | None:
        """Swap every identity word of a text to the other side; None when it holds none.

        `her` becomes `him` at the end, before punctuation or before a function word, else `his`; `his`
        becomes `hers` there, else `her`; "his or her house" counts as two possessors. `him` -> `her`,
        `hers` -> `his`. Swapping twice gives the text back unless a one-way word or a `him` before a
        content word stands in it.
        """
        found = list(WORD.finditer(text))
        pieces: list[str] = []
        end = 0
        changed = False
        for position, match in enumerate(found):
            swapped = self._swap_word(text, found, position)
            if swapped is None:
                continue
            pieces += [text[end : match.start()], swapped]
            end = match.end()
            changed = True
        return "".join([*pieces, text[end:]]) if changed else None

    def group(self, text: str) -> Literal["he", "she", "both"] | None:
        """Tell which side's identity words a text holds, None when it holds none."""
        found = list(WORD.finditer(text))
        sides = {
            PRONOUNS.get(match.group().lower()) or self._partners[match.group().lower()][1]
            for position, match in enumerate(found)
            if self._swap_word(text, found, position) is not None
        }
        if len(sides) == 2:
            return "both"
        return next(iter(sides), None)

    def _swap_word(self, text: str, found: list[re.Match[str]], position: int) -> str | None:
        word = found[position].group()
        key = word.lower()
        if key in PRONOUNS:
            return _like(word, self._swap_pronoun(text, found, position))
        if key not in self._partners:
            return None
        if key in self._names and not word[0].isupper():
            return None
        if key in self._titles:
            following = found[position + 1].group() if position + 1 < len(found) else ""
            if not (word[0].isupper() and following[:1].isupper()):
                return None
        return _like(word, self._partners[key][0])

    def _swap_pronoun(self, text: str, found: list[re.Match[str]], position: int) -> str:
        key = found[position].group().lower()
        if key == "him":
            return "her"
        if key == "hers":
            return "his"
        possessor = self._possesses(text, found, position)
        if key == "her":
            return "his" if possessor else "him"
        return "her" if possessor else "hers"

    def _possesses(self, text: str, found: list[re.Match[str]], position: int) -> bool:
        """Whether the `her` or `his` at a position owns the word after it."""
        if position + 1 == len(found):
            return False
        here, following = found[position], found[position + 1]
        between = text[here.end() : following.start()]
        # Only an opening quote or bracket may stand between an owner and what is owned, after a space.
        if not between[:1].isspace() or "\n\n" in between or between.strip().strip(OPENING):
            return False
        word = following.group().lower()
        if word in ("and", "or") and position + 2 < len(found):
            other = {"his": "her", "her": "his"}[here.group().lower()]
            if found[position + 2].group().lower() == other:
                return self._possesses(text, found, position + 2)
        # "her up-turned face": the hyphen makes a function word part of an adjective.
        return word not in self._function_words or text[following.end() :].startswith("-")


def _claim(seen: dict[str, str], word: str, where: str) -> None:
    key = word.lower()
    if not WORD.fullmatch(word):
        raise ValueError(f"{where}: expected one word of letters or digits, got {word!r}")
    if key in PRONOUNS:
        raise ValueError(f"{where}: {word!r} is decided by the word after it and may not be listed")
    if key in seen:
        raise ValueError(f"{where}: {word!r} already stands in {seen[key]}")
    seen[key] = where


def _like(model: str, word: str) -> str:
    """Give a word the case of another: all capitals, first capital, or small."""
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word.lower()


def load_lexicon(extra: Path | None = None) -> Lexicon:
    """Load the project's lexicon, with the entries of a user's file of the same keys appended.

    Raises ValueError in one line that names the file, the entry, its value and what was expected.
    """
    base = _read(DEFAULT_PATH)
    if extra is None:
        return _default()
    added = _read(extra)
    _validate(added, extra)
    for key, value in added.items():
        if isinstance(value, list):
            base[key] = [*base.get(key, []), *value]
        elif key == "occupations":
            for side, jobs in value.items():
                base[key][side] = [*base[key][side], *jobs]
        else:
            base[key] = {**base[key], **value}
    return _validate(base, extra)


@lru_cache(maxsize=1)
def _default() -> Lexicon:
    return _validate(_read(DEFAULT_PATH), DEFAULT_PATH)


def swap(text: str, lexicon: Lexicon | None = None) -> str | None:
    """Swap a text's identity words by the given or the project's lexicon; None when there are none."""
    return (lexicon or _default()).swap(text)


def _read(path: Path) -> dict:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of sections, got {type(values).__name__}")
    return values


def _validate(values: dict, path: Path) -> Lexicon:
    try:
        return Lexicon.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        shown = "" if not where else f"{where}: "
        value = f", got {first['input']!r}" if where else ""
        raise ValueError(f"{path}: {shown}{message}{value}") from error
