"""Small changes to a text that should not change what it says: slips of the keyboard, case, white space, punctuation.

As in Y. Belinkov and Y. Bisk, Synthetic and natural noise both break neural machine translation (ICLR 2018), and
in the invariance tests of M. T. Ribeiro et al., Beyond accuracy: behavioral testing of NLP models with CheckList
(ACL 2020). Each change is a pure function of the text and of the random generator that it is given.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.random import Generator

TYPO_SHARE = 0.1
"""Share of a text's words that get a typo; at least one does."""
SPACE_SHARE = 0.2
"""Share of the gaps between words that grow."""
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""The letters of an English keyboard; a row begins half a key right of the one above."""
MARKS = ".,;:!?"

_WORD = re.compile(r"\w*[^\W\d_]\w*")
_MARKS_AT_END = re.compile(rf"[{re.escape(MARKS)}]+(?=\s|$)")

Change = Callable[[str, "Generator"], str]


def neighbours() -> dict[str, str]:
    """Return the letters beside, above and below each letter of the keyboard.

    >>> neighbours()["a"], neighbours()["g"]
    ('sqwz', 'fhtyvb')
    """
    found = {}
    for number, row in enumerate(KEYBOARD):
        for place, letter in enumerate(row):
            near = [row[place - 1 : place], row[place + 1 : place + 2]] if place else [row[1:2]]
            # The key at this place in the row above lies to the left, the next one to the right.
            near += [KEYBOARD[number - 1][place : place + 2]] if number else []
            below = KEYBOARD[number + 1] if number + 1 < len(KEYBOARD) else ""
            near += [below[max(0, place - 1) : place + 1]]
            found[letter] = "".join(near)
    return found


NEIGHBOURS = neighbours()


def misspell(word: str, random: "Generator") -> str:
    """Return a word with one slip: a neighbouring key, two letters swapped, or a letter left out.

    A word without two letters stays. The case of a letter stays with its place.
    """
    places = [place for place, letter in enumerate(word) if letter.isalpha()]
    if len(places) < 2:
        return word
    swaps = [
        p for p in places if p + 1 < len(word) and word[p + 1].isalpha() and word[p].lower() != word[p + 1].lower()
    ]
    keys = [p for p in places if word[p].lower() in NEIGHBOURS]
    kinds = [*(["key"] if keys else []), *(["swap"] if swaps else []), "drop"]
    kind = kinds[int(random.integers(len(kinds)))]
    if kind == "key":
        place = keys[int(random.integers(len(keys)))]
        near = NEIGHBOURS[word[place].lower()]
        return word[:place] + _cased(near[int(random.integers(len(near)))], word[place]) + word[place + 1 :]
    if kind == "swap":
        place = swaps[int(random.integers(len(swaps)))]
        first, second = word[place], word[place + 1]
        return word[:place] + _cased(second, first) + _cased(first, second) + word[place + 2 :]
    place = places[int(random.integers(len(places)))]
    return word[:place] + word[place + 1 :]


def _cased(letter: str, like: str) -> str:
    return letter.upper() if like.isupper() else letter.lower()


def choose_words(count: int, random: "Generator") -> list[int]:
    """Return which of so many words get a typo, in their order."""
    if not count:
        return []
    return sorted(random.choice(count, max(1, round(TYPO_SHARE * count)), replace=False).tolist())


def typos(text: str, random: "Generator") -> str:
    """Misspell `TYPO_SHARE` of the words that have at least two letters."""
    words = [match for match in _WORD.finditer(text) if sum(map(str.isalpha, match.group())) > 1]
    for number in reversed(choose_words(len(words), random)):
        match = words[number]
        text = text[: match.start()] + misspell(match.group(), random) + text[match.end() :]
    return text


def lower(text: str, random: "Generator") -> str:
    """Return the text in small letters."""
    return text.lower()


def upper(text: str, random: "Generator") -> str:
    """Return the text in capitals."""
    return text.upper()


def spaces(text: str, random: "Generator") -> str:
    """Widen `SPACE_SHARE` of the gaps between words to two or three spaces, and put one at either end."""
    pieces = re.split(r"(\s+)", text)
    for place in range(1, len(pieces), 2):
        if random.random() < SPACE_SHARE:
            pieces[place] += " " * int(random.integers(1, 3))
    return f" {''.join(pieces)} "


def punctuation(text: str, random: "Generator") -> str:
    """Leave out the marks at the ends of words; a text that has none gets a full stop."""
    bare = _MARKS_AT_END.sub("", text)
    return f"{text.rstrip()}." if bare == text else bare


CHANGES: dict[str, Change] = {
    "typos": typos,
    "lower": lower,
    "upper": upper,
    "spaces": spaces,
    "punctuation": punctuation,
}
"""Every change by name, in the order in which they are reported."""
