"""Reviews of inns and shops: a sentiment that is said in many words, and a person who does not matter."""

import re
from typing import Any

from tasks.starter.dice import Dice
from tasks.starter.phrases import phrases

PLACES = phrases("""
    the Blue Kettle | the Copper Pan | the Old Anchor | the Heron Inn | Marlow's Cafe | the Green Door |
    the Lamb and Flag | the Corner Bakery | the Station Buffet | the Plough | the Salt Cellar | Dora's
    Kitchen | the Silver Spoon | the Rose Tearoom | the Mill House | the Fox and Hound | the Harbour
    Grill | Penny's Pantry | the White Hart | the Garden Room
""")

WORDS: dict[str, dict[str, list[str]]] = {
    "food": {
        "positive": phrases("""
            crisp | tender | fragrant | fresh | delicious | hearty | juicy | buttery | velvety | golden
            | flaky | luscious | succulent | tasty | exquisite
        """),
        "negative": phrases("""
            soggy | stale | greasy | burnt | bland | rubbery | watery | sour | lukewarm | undercooked |
            gristly | tasteless | rancid | mushy | tough
        """),
    },
    "person": {
        "positive": phrases("""
            cheerful | attentive | gracious | patient | kind | courteous | thoughtful | welcoming |
            helpful | charming | obliging | friendly | prompt | tactful | warm
        """),
        "negative": phrases("""
            surly | careless | rude | impatient | sullen | curt | dismissive | snooty | grumpy |
            forgetful | brusque | slovenly | bored | insolent | sluggish
        """),
    },
    "room": {
        "positive": phrases("""
            spotless | cosy | bright | airy | elegant | peaceful | snug | tidy | inviting | sunny |
            restful | immaculate | pretty | comfortable | gleaming
        """),
        "negative": phrases("""
            grubby | draughty | dingy | cramped | sticky | noisy | gloomy | smelly | shabby | damp |
            dusty | chilly | filthy | dismal | stuffy
        """),
    },
    "close": {
        "positive": phrases("""
            a delight | a treasure | worth every penny | a real pleasure | a joy | a gem | the best in
            town | superb | splendid | wonderful | a treat | a triumph | first class | marvellous |
            perfect
        """),
        "negative": phrases("""
            a disgrace | a swindle | a waste of money | a disappointment | a misery | a shambles | the
            worst in town | awful | dreadful | horrid | an ordeal | a disaster | third rate | appalling
            | hopeless
        """),
    },
}
"""Sixty words or phrases for each label, fifteen for each aspect."""
UNLABELLED = 3
"""Words at the end of each fifteen that stand in the corpus and in the test, but in no labelled review for training:
whoever knows them has read unlabelled text."""

ROLES = [
    ("waiter", "waitress"),
    ("man at the till", "woman at the till"),
    ("young man who served us", "young woman who served us"),
    ("landlord", "landlady"),
    ("boy behind the counter", "girl behind the counter"),
    ("gentleman at the door", "lady at the door"),
]
IDENTITY_PAIRS = [
    ("he", "she"),
    ("waiter", "waitress"),
    ("man", "woman"),
    ("landlord", "landlady"),
    ("boy", "girl"),
    ("gentleman", "lady"),
]
"""Word pairs whose exchange turns a review of group "he" into one of group "she" and back."""

DISHES = phrases("""
    soup | pie | loaf | stew | fish | roast | pudding | omelette | cake | chicken | salad | tart |
    porridge | trout | curry
""")
ROOMS = phrases("""
    room | dining room | garden | parlour | corner table | back room | terrace | bedroom upstairs | bar
    | hall
""")
WHEN = phrases("""
    last Friday | on a wet Tuesday | for lunch | with my cousin | after the market | on our anniversary
    | before the train | on Sunday | with four friends | late at night | in the holidays | for breakfast
    | after a long walk | with two children
""")

_START = phrases("""
    We went to {place} {when}. | I tried {place} {when}. | {Place}, {when}. | We stopped at {place}
    {when}. | My third visit to {place}. | I had heard of {place}. | {When} we sat down at {place}. | A
    table at {place}, {when}. | Our party came to {place} {when}. | |
""")
_FOOD = phrases("""
    The {dish} was {w}. | The {dish} came {w}. | I had the {dish}, which was {w}. | They brought us a
    {w} {dish}. | I found the {dish} {w} and the tea {x}. | A {w} {dish}, and {x} vegetables. | Our
    {dish} was {w}, even {x}.
""")
_PERSON = phrases("""
    The {role} was {w}, and {he} brought the bill at once. | The {role} was {w} and {x}. | The {role}
    seemed {w} when {he} took our order. | I found the {role} {w}. | We asked the {role}, and {he} was
    {w}. | What a {w} {role}! | The {role} could not have been more {w}, though {he} was busy.
""")
_ROOM = phrases("""
    The {room} was {w}. | We sat in a {w} {room}. | The {room} is {w} and {x}. | They gave us a {w}
    {room}. | As for the {room}, it was {w}. | The {room} looked {w}.
""")
_CLOSE = phrases("""
    All in all {w}. | In short, {w}. | It was {w}. | For us it was {w}. | I call it {w}. | The whole
    evening was {w}. | Taken together, {w}. | My verdict: {w}.
""")
_FORMS = {"food": _FOOD, "person": _PERSON, "room": _ROOM}
_TURN = ["But", "Even so,", "Still,", "And yet", "However,"]
_NEUTRAL = phrases("""
    We paid in cash. | It rained all the while. | There were six of us. | The clock struck eight. | We
    came by bus. | It is near the bridge. | They close at ten. | The menu is short. | We left at nine. |
    It was market day.
""")


SHORTEST, LONGEST = 13, 28
"""Words of a review; a longer one would lose its end, which decides, in the starter's context of 64 tokens."""


def _words(aspect: str, label: str, training: bool) -> list[str]:
    words = WORDS[aspect][label]
    return words[:-UNLABELLED] if training else words


def _aspect(dice: Dice, aspect: str, label: str, group: str, training: bool) -> str:
    pool = _words(aspect, label, training)
    w, x = dice.sample(pool, 2)
    role = dice.pick(ROLES)[group == "she"]
    text = dice.pick(_FORMS[aspect]).format(
        w=w, x=x, role=role, he=group, dish=dice.pick(DISHES), room=dice.pick(ROOMS)
    )
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def review(dice: Dice, label: str, group: str, mixed: float = 0.4, training: bool = False) -> str:
    """Return a review of 13 to 28 words with the given label about a person of the given group.

    A share ``mixed`` of them praises or blames one aspect against the label; what comes last, and most
    of the words, decide. One for ``training`` has none of the `UNLABELLED` words.
    """
    other = "negative" if label == "positive" else "positive"
    place, when = dice.pick(PLACES), dice.pick(WHEN)
    start = dice.pick(_START).format(
        place=place, when=when, Place=place[0].upper() + place[1:], When=when[0].upper() + when[1:]
    )
    aspects = dice.shuffled(["food", "person", "room"])
    if dice.chance(0.7):
        aspects.remove(dice.pick([a for a in aspects if a != "person"]))
    parts = [_aspect(dice, a, label, group, training) for a in aspects]
    turns = dice.chance(mixed)
    if turns:
        parts[0] = _aspect(dice, aspects[0], other, group, training)
        turned = parts[1] if parts[1].startswith("I ") else parts[1][0].lower() + parts[1][1:]
        parts[1] = f"{dice.pick(_TURN)} {turned}"
    elif dice.chance(0.25):
        parts.insert(dice.below(2) * len(parts), dice.pick(_NEUTRAL))
    if dice.chance(0.4) or (turns and len(aspects) == 2):
        parts.append(dice.pick(_CLOSE).format(w=dice.pick(_words("close", label, training))))
    text = " ".join(([start] if start and dice.chance(0.75) else []) + parts)
    if SHORTEST <= len(text.split()) <= LONGEST:
        return text
    return review(dice, label, group, mixed, training)


_LAST = {"positive": ["Gladly again.", "Well worth it."], "negative": ["Never again.", "Best avoided."]}


def unlabelled_review(dice: Dice, label: str, group: str, mixed: float) -> str:
    """Return a review as the pretraining text has them: with a last word that sums it up.

    Whoever learns to expect that last word has learned to weigh a whole review, without a label; the labelled
    reviews stop short of it.
    """
    return f"{review(dice, label, group, mixed)} {dice.pick(_LAST[label])}"


def cells(dice: Dice, count: int) -> list[tuple[str, str]]:
    """Return count pairs (label, group) in random order, the four combinations equally often."""
    kinds = [(label, group) for label in ("negative", "positive") for group in ("he", "she")]
    return dice.spread(kinds, count)


def review_row(dice: Dice, label: str, group: str, training: bool) -> dict[str, Any]:
    """Return a review with its label and group, without an id."""
    return {"text": review(dice, label, group, training=training), "label": label, "group": group}
