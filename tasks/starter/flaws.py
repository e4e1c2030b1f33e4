"""What is wrong with the corpus on purpose: near copies, leaked test items, noise."""

from tasks.starter.dice import Dice
from tasks.starter.ledger import grams, words
from tasks.starter.phrases import phrases

_CHANGES = phrases("""
    quite | almost | nearly | certainly | perhaps | simply | merely | hardly | partly | mostly | really
    | finally | suddenly | plainly | openly | gladly
""")
_AROUND = phrases("""
    Somebody pinned this to the board at the library: | The paper printed the following lines on page
    six. | A reader sends us these words and asks what we think of them. | We found this note between
    two old catalogues: | Copied from the visitors' book in the hall: | From the files of last year,
    without comment:
""")
_AFTERWARDS = phrases("""
    Make of it what you will. | We have nothing to add. | The rest of the page was torn off. | No name
    was given. | It is not signed. | Such is life here.
""")


def jaccard(a: str, b: str) -> float:
    """Return the Jaccard similarity of two texts' sets of word 3-grams."""
    x, y = set(grams(words(a), 3)), set(grams(words(b), 3))
    return len(x & y) / len(x | y)


def near_copy(dice: Dice, text: str) -> str:
    """Return the text with one or two words added; word 3-grams stay alike to more than .85."""
    while True:
        tokens = text.split()
        for _ in range(dice.between(1, 2)):
            tokens.insert(dice.between(3, len(tokens) - 3), dice.pick(_CHANGES))
        copy = " ".join(tokens)
        if jaccard(copy, text) > 0.85:
            return copy


def leak(dice: Dice, item: str) -> str:
    """Return a document that holds the item word for word and a sentence or two around it."""
    after = f" {dice.pick(_AFTERWARDS)}" if dice.chance(0.5) else ""
    return f"{dice.pick(_AROUND)} {item}{after}"


def noise(dice: Dice, count: int) -> list[str]:
    """Return lines that no quality filter should keep: half symbol noise, half one or two words."""
    symbols = [
        "###",
        "$$",
        "%%%%",
        "|||",
        "~~",
        "^^^",
        "<<>>",
        "***",
        "==",
        "\\\\",
        "{}",
        "[]",
        "@@",
        "&&",
        "++",
    ]
    stubs = phrases("""
        ok | page 2 | see above | n/a | end | test test | untitled | more | next | click here | xx |
        draft | top | none | to do
    """)
    half = count // 2
    out = [" ".join(dice.pick(symbols) for _ in range(dice.between(8, 20))) for _ in range(half)]
    return out + dice.sample(stubs, count - half)
