"""Small changes of a text: what they touch, what they leave, and that a seed makes them the same again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.perturbations import CHANGES, NEIGHBOURS, lower, misspell, punctuation, spaces, typos

WORDS = st.text(alphabet=st.characters(codec="utf-8", categories=("Lu", "Ll", "Nd")), min_size=1, max_size=12)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_keys_that_touch_are_neighbours_of_each_other() -> None:
    assert (NEIGHBOURS["a"], NEIGHBOURS["g"], NEIGHBOURS["p"]) == ("sqwz", "fhtyvb", "ol")
    assert all(letter in NEIGHBOURS[near] for letter, around in NEIGHBOURS.items() for near in around)


@given(WORDS, st.integers(0, 99))
def test_a_slip_is_one_key_one_swap_or_one_letter_less(word: str, seed: int) -> None:
    made = misspell(word, random(seed))
    if sum(map(str.isalpha, word)) < 2:
        assert made == word
    elif len(made) == len(word):
        changed = [place for place in range(len(word)) if made[place] != word[place]]
        assert 1 <= len(changed) <= 2
        assert len(changed) == 1 or changed[1] == changed[0] + 1
    elif len(made) < len(word):
        assert any(word[:place] + word[place + 1 :] == made for place in range(len(word)))


def test_one_word_in_ten_is_misspelt_and_at_least_one() -> None:
    text = " ".join(["harbour"] * 30) + " , a 7."
    assert sum(word != "harbour" for word in typos(text, random()).split()[:30]) == 3
    assert typos(text, random()).endswith(", a 7.")
    assert typos("Good!", random()) not in ("Good!", "")
    assert typos("7 a 8", random()) == "7 a 8"


def test_marks_white_space_and_case() -> None:
    text = "Well, it is 3.5 miles; isn't it?"
    assert punctuation(text, random()) == "Well it is 3.5 miles isn't it"
    assert punctuation("No mark ", random()) == "No mark."
    assert spaces(text, random()).split() == text.split()
    assert spaces(text, random()) != text
    assert lower("ÀB", random()) == "àb"


@pytest.mark.parametrize("name", CHANGES)
def test_a_seed_makes_the_same_text_again(name: str) -> None:
    text = "The trout, which I ordered at Penny's Pantry, was warm. " * 5
    assert CHANGES[name](text, random(3)) == CHANGES[name](text, random(3)) != text
