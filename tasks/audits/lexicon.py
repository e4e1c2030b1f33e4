"""The identity lexicon: the two-sided swap of a text's gendered words, and the groups that a text names.

The swap replaces whole words and keeps their case. Every word has one partner and no two names share one, so
who is who in a text stays apart. `her` and `his` are ambiguous and are decided by the next token (see
`Lexicon.swap`); the rule is simple on purpose, needs no tagger and errs on verbs after an object ("saw her
leave" reads as a possessor).

`Lexicon.mentions` finds terms, not meanings: it misses who is named in other words, and a term may stand for
something else. `other_senses` takes the common such phrases out; what an audit makes of it stays an estimate.
"""

import re
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from models.config import Config
from tasks.yaml_file import read_yaml

DEFAULT_PATH = Path(__file__).with_name("lexicon.yaml")
WORD = re.compile(r"ma'am(?![^\W_])|[^\W_]+", re.IGNORECASE)
OPENING = "\"'(*_\u201c\u2018"
PRONOUNS: dict[str, Literal["he", "she"]] = {"his": "he", "him": "he", "her": "she", "hers": "she"}

Pair = Annotated[list[str], Field(min_length=2, max_length=2)]
Terms = Annotated[list[str], Field(min_length=1)]
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
    groups: dict[str, dict[str, Terms]] = Field(default_factory=dict)
    """Axis -> group -> words and phrases that name it; one listed with a capital is found with a capital only."""
    other_senses: dict[str, Terms] = Field(default_factory=dict)
    """Axis -> phrases that hold a term of the axis and name none of its groups ("french fries")."""
    name_groups: dict[str, dict[str, Terms]] = Field(default_factory=dict)
    """Axis -> group -> first names that are common in it, each beginning with a capital letter."""

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
        for word, target in self.one_way.items():
            if target.lower() in self._names:
                raise ValueError(f"one_way[{word}]: {target!r} is a name, and no two names may share a partner")
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

    @model_validator(mode="after")
    def _terms(self) -> "Lexicon":
        """Refuse a term that stands in two groups of an axis, or that no text could be matched with."""
        for axis in {**self.groups, **self.other_senses}:
            listed = [(f"groups.{axis}.{group}", terms) for group, terms in self.groups.get(axis, {}).items()]
            seen: dict[str, str] = {}
            for where, terms in [*listed, (f"other_senses.{axis}", self.other_senses.get(axis, []))]:
                for number, term in enumerate(terms):
                    key = " ".join(WORD.findall(term)).lower()
                    if not key or key != term.replace("-", " ").lower():
                        raise ValueError(f"{where}[{number}]: expected words joined by a space or hyphen, got {term!r}")
                    _claim_once(seen, key, term, f"{where}[{number}]")
        for axis, groups in self.name_groups.items():
            seen = {}
            for group, names in groups.items():
                for number, name in enumerate(names):
                    where = f"name_groups.{axis}.{group}[{number}]"
                    if not WORD.fullmatch(name) or not name[0].isupper():
                        raise ValueError(f"{where}: expected one word with a capital letter, got {name!r}")
                    _claim_once(seen, name.lower(), name, where)
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

    def mentions(self, text: str, axis: str) -> set[str]:
        """Return the groups of an axis that a text names: whole words, the longest phrase first.

        A term listed in small letters is found in any case, one listed with a capital ("Polish") with a
        capital first letter only. Raises ValueError on an axis that the lexicon does not have.
        """
        if axis not in self._matchers:
            raise ValueError(f"axis: expected one of {', '.join(self.groups)}, got {axis!r}")
        pattern, names = self._matchers[axis]
        found = {names[match.lastindex - 1] for match in pattern.finditer(text) if match.lastindex}
        return {group for group in found if group is not None}

    @cached_property
    def _matchers(self) -> dict[str, tuple[re.Pattern[str], list[str | None]]]:
        return {axis: _matcher(groups, self.other_senses.get(axis, [])) for axis, groups in self.groups.items()}

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
    _claim_once(seen, key, word, where)


def _claim_once(seen: dict[str, str], key: str, word: str, where: str) -> None:
    if key in seen:
        raise ValueError(f"{where}: {word!r} already stands in {seen[key]}")
    seen[key] = where


def _matcher(groups: dict[str, list[str]], other_senses: list[str]) -> tuple[re.Pattern[str], list[str | None]]:
    """Compile an axis; the number of the capture that matched, from 1, tells the group in the list beside it.

    Terms are gathered by first letter, and a position without such a letter is left at once: a flat
    alternation took 22 times as long.
    """
    terms: list[tuple[str, str | None]] = [(term, group) for group, words in groups.items() for term in words]
    terms += [(term, None) for term in other_senses]
    by_initial: dict[str, list[tuple[str, str | None]]] = {}
    for term, group in sorted(terms, key=lambda entry: -len(entry[0])):
        by_initial.setdefault(_both_cases(term[0]), []).append((term, group))
    branches, names = [], []
    for initial, starting in by_initial.items():
        rests = []
        for term, group in starting:
            rest = r"(?:\s+|-)".join(WORD.findall(term))[1:]
            rests.append(rf"({f'(?<={term[0]})' if term[0].isupper() else ''}(?i:{rest}))")
            names.append(group)
        branches.append(f"[{initial}](?:{'|'.join(rests)})")
    return re.compile(rf"(?=[{''.join(by_initial)}])(?<![^\W_])(?:{'|'.join(branches)})(?![^\W_])"), names


def _both_cases(letter: str) -> str:
    return "".join(sorted({letter, *(case for case in (letter.lower(), letter.upper()) if len(case) == 1)}))


def _like(model: str, word: str) -> str:
    """Give a word the case of another: all capitals, first capital, or small."""
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word.lower()


def load_lexicon(extra: Path | None = None) -> Lexicon:
    """Load the project's lexicon, with the entries of a user's file of the same keys appended.

    Raises ValueError in one line that names the file, the entry, its value and what was expected.
    """
    if extra is None:
        return _default()
    added = _read(extra)
    _validate(added, extra)
    merged = _validate(_appended(_read(DEFAULT_PATH), added), extra)
    for axis in added.get("other_senses", {}):
        if axis not in merged.groups:
            known = ", ".join(merged.groups)
            raise ValueError(f"{extra}: other_senses: expected an axis of groups ({known}), got {axis!r}")
    return merged


def _appended(base: Any, added: Any) -> Any:
    """Append lists and join mappings at any depth; anything else is replaced."""
    if isinstance(base, list) and isinstance(added, list):
        return [*base, *added]
    if isinstance(base, dict) and isinstance(added, dict):
        return base | {key: _appended(base.get(key), value) for key, value in added.items()}
    return added


@lru_cache(maxsize=1)
def _default() -> Lexicon:
    return _validate(_read(DEFAULT_PATH), DEFAULT_PATH)


def swap(text: str, lexicon: Lexicon | None = None) -> str | None:
    """Swap a text's identity words by the given or the project's lexicon; None when there are none."""
    return (lexicon or _default()).swap(text)


def _read(path: Path) -> dict:
    values = read_yaml(path)
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
