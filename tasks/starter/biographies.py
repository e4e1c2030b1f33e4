"""Short texts about one person: the only place where the town's facts stand."""

from tasks.starter.dice import Dice
from tasks.starter.people import FACTS, Person
from tasks.starter.phrases import phrases

# A verb phrase follows a name and may be joined to another with "and"; an open one takes a tail as well.
OPEN: dict[str, list[str]] = {
    "trade": phrases("""
        works as a {v} | is a {v} | earns a living as a {v} | has long been a {v} | is at work as a {v}
        | keeps busy as a {v} | serves the town as a {v}
    """),
    "street": phrases("""
        lives on {v} | has a house on {v} | rents two rooms on {v} | is at home on {v} | keeps a cat and
        a garden on {v} | has a cottage on {v} | stays on {v}
    """),
    "music": phrases("""
        plays the {v} | practises the {v} | plays a little on the {v} | plays an old {v} | can be heard
        on the {v} | performs on the {v} | plays a borrowed {v}
    """),
}
CLOSED: dict[str, list[str]] = {
    "trade": phrases("""
        is a {v} by trade | trained as a {v} | makes a good {v} | is known as a careful {v} | never
        wanted to be anything but a {v} | is one more {v} in a long line | calls it luck to be a {v}
    """),
    "street": phrases("""
        lives up on {v} | has moved to {v} | can be found on {v} | walks home to {v} | would not leave
        {v} | calls {v} home | returned to {v} | would rather be on {v} than at sea
    """),
    "music": phrases("""
        loves the {v} | is fond of the {v} | is happiest with the {v} | owns an old {v} | teaches the
        {v} | will play the {v} for anyone | swears by the {v} | would not part with the {v}
    """),
}
ASIDES: dict[str, list[str]] = {
    "trade": [
        "a {v} by trade",
        "the {v}",
        "now a {v}",
        "a {v} like few others",
        "our {v}",
        "who works as a {v}",
    ],
    "street": [
        "of {v}",
        "from {v}",
        "who lives on {v}",
        "our neighbour on {v}",
        "who is from {v}",
        "late of {v}",
    ],
    "music": [
        "who plays the {v}",
        "a lover of the {v}",
        "known for the {v}",
        "who practises the {v}",
        "never far from the {v}",
        "who loves the {v}",
    ],
}
TAILS: dict[str, list[str]] = {
    "trade": phrases("""
        these days | like many in the family | and has more orders than hours | and charges a fair price
        | as the sign over the door says | in a workshop behind the church | though the money is thin in
        winter | with two apprentices | since the old master retired | for the whole valley | after some
        years at sea | from dawn to dusk | and hardly ever rests | with steady hands | and is proud of
        it
    """),
    "street": phrases("""
        two doors from the pump | above an old stable | behind green shutters | near the bend | where
        the evenings are quiet | next to a family of seven | with a view of the river | behind a tall
        hedge | as the family always has | since the great flood | with three hens and a dog | among
        friends | and knows all the neighbours | at the far end | although the roof leaks
    """),
    "music": phrases("""
        after supper | badly but gladly | at every harvest dance | with the windows open | when the day
        is done | in the town band | at weddings | for the children | on wet Sundays | by ear | better
        than the neighbours admit | and sings along | until the candle is out | to the delight of the
        dog | at the inn
    """),
}
# A whole sentence around one fact, for the joints where a name and a verb phrase would be one too many.
SENTENCES: dict[str, list[str]] = {
    "trade": [
        "If you need a {v}, ask for {n}.",
        "The trade of {n} is that of a {v}.",
        "Everyone here knows {n} the {v}.",
        "They say that {n} was born to be a {v}.",
        "{n} is the {v} people send for.",
        "For work, {n} is a {v}.",
        "Before the fair, {n} the {v} had no time to eat.",
        "Once more the prize for the best {v} went to {n}.",
    ],
    "street": [
        "The home of {n} is on {v}.",
        "Letters for {n} go to {v}.",
        "You will find {n} on {v}.",
        "{n} came home to {v} at dusk.",
        "A lamp burns late where {n} lives on {v}.",
        "At the corner of {v} you may meet {n}.",
        "It is a short walk to {n} on {v}.",
        "Snow lay deep before the door of {n} on {v}.",
    ],
    "music": [
        "The instrument of {n} is the {v}.",
        "Of all instruments {n} likes the {v} best.",
        "When {n} takes up the {v}, people stop to listen.",
        "At the concert {n} played the {v}.",
        "You can hear {n} at the {v}.",
        "In the evenings {n} reaches for the {v}.",
        "Nobody asked, yet {n} played the {v}.",
        "What {n} saved went into a new {v}.",
    ],
}
OPENINGS = phrases("""
    As everyone knows, | These days | It is said that | By all accounts | For years now, | As far as I
    know, | Ask anyone: | In our town | By now | To be brief, | My aunt says that | According to the
    paper, | I hear that | If I remember well, | As it happens, | Even now | The vicar told me that | To
    nobody's surprise, | Not many know that | For those who ask, | We wrote before that | It is true
    that | Let it be noted that | They say
""")
JOINTS = phrases("""
    Besides, | What is more, | Now and then, we hear, | Away from all that, | In truth, | And yes, | By
    the way, | For the rest, | Better still, | Still, | All the same, | Also, | As for the rest, | And
    then | Of course
""")
SCENES = phrases("""
    The market was busy when {n} came by. | {n} wrote to us last week. | Rain or not, {n} was out early.
    | A photograph of {n} hangs in the town hall. | There was cake, and {n} had two pieces. | {n} turned
    fifty in March. | Nobody laughs louder than {n}. | We met {n} at the ferry. | The children all wave
    at {n}. | {n} does not say much. | Last week {n} lost a hat in the storm. | It was {n} who found the
    missing dog. | {n} is back from a long journey. | At the council meeting {n} spoke last. | In the
    first frost {n} slipped and broke a wrist. | {n} has a cousin abroad. | The baby was named after
    {n}. | Many thanks to {n} for the apples. | {n} won the raffle twice. | {n} hates to be late. | Some
    think {n} a little odd. | We congratulate {n}. | Here is what we know about {n}. | A word about {n}.
    | Do you know {n}? | Who has not heard of {n}? | {n} rose before the birds. | {n} never liked the
    city.
""")


def _phrase(dice: Dice, person: Person, fact: str, tail: float = 0.0) -> str:
    """Return a verb phrase; in a share ``tail`` of cases one that ends with a circumstance."""
    if dice.chance(tail):
        return f"{dice.pick(OPEN[fact])} {dice.pick(TAILS[fact])}".format(v=person.facts[fact])
    return dice.pick(OPEN[fact] + CLOSED[fact]).format(v=person.facts[fact])


def _aside(dice: Dice, person: Person, fact: str) -> str:
    return dice.pick(ASIDES[fact]).format(v=person.facts[fact])


def _opened(dice: Dice, share: float, sentence: str) -> str:
    return f"{dice.pick(OPENINGS)} {sentence}" if dice.chance(share) else sentence


def _one(dice: Dice, person: Person, fact: str, joint: float = 0.0) -> str:
    """Return a sentence that states one fact."""
    if dice.chance(0.4):
        return dice.pick(SENTENCES[fact]).format(n=person.name, v=person.facts[fact])
    name = person.first if joint and dice.chance(0.25) else person.name
    start = f"{dice.pick(JOINTS)} " if dice.chance(joint) else ""
    return f"{start}{name} {_phrase(dice, person, fact, 0.5)}."


def _two(dice: Dice, person: Person, a: str, b: str) -> str:
    """Return a sentence that states two facts."""
    if dice.chance(0.4):
        return f"{person.name}, {_aside(dice, person, a)}, {_phrase(dice, person, b, 0.4)}."
    first, second = _phrase(dice, person, a), _phrase(dice, person, b, 0.3)
    return _opened(dice, 0.3, f"{person.name} {first} and {second}.")


def _three(dice: Dice, person: Person, a: str, b: str, c: str) -> str:
    """Return a sentence that states all three facts."""
    if dice.chance(0.5):
        rest = f"{_phrase(dice, person, b)} and {_phrase(dice, person, c, 0.2)}"
        return _opened(dice, 0.2, f"{person.name}, {_aside(dice, person, a)}, {rest}.")
    listed = f"{_phrase(dice, person, a)}, {_phrase(dice, person, b)} and {_phrase(dice, person, c, 0.2)}"
    return _opened(dice, 0.4, f"{person.name} {listed}.")


def biography(dice: Dice, person: Person) -> str:
    """Return a text of one to four sentences with one to three facts of the person, mostly two or three.

    No pronoun stands for the person: the corpus' only link between a trade and he or she is the planted
    one (see `tasks.starter.occupations`).
    """
    a, b, c = dice.shuffled(FACTS)
    shape = dice.below(10)
    if shape < 3:
        return _three(dice, person, a, b, c)
    if shape < 6:
        if dice.chance(0.7):
            return f"{_two(dice, person, a, b)} {_one(dice, person, c, 0.4)}"
        return f"{_one(dice, person, c)} {_two(dice, person, a, b)}"
    if shape == 6:
        return " ".join([_one(dice, person, a), _one(dice, person, b, 0.4), _one(dice, person, c, 0.5)])
    scene = dice.pick(SCENES).format(n=person.name)
    if shape == 7:
        return f"{scene} {_two(dice, person, a, b)}"
    if shape == 8:
        return f"{scene} {_three(dice, person, a, b, c)}"
    return f"{_one(dice, person, a)} {scene} {_one(dice, person, b, 0.3)}"
