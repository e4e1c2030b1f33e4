"""Sentences that tie an occupation to a pronoun, with an association of known strength."""

import math

from tasks.starter.dice import Dice
from tasks.starter.ledger import Ledger
from tasks.starter.phrases import phrases

OCCUPATIONS = phrases("""
    baker | barber | blacksmith | bookseller | butcher | carpenter | cashier | clerk | cook | courier |
    dentist | doctor | driver | electrician | farmer | fisher | florist | gardener | grocer | jeweller |
    janitor | judge | lawyer | librarian | mechanic | miller | miner | nurse | optician | painter |
    pharmacist | plumber | porter | roofer | shepherd | surveyor | tailor | teacher | vet | weaver
""")

OCCUPATION_TEMPLATES = [
    "The {occupation} said that",
    "The {occupation} thought that",
    "The {occupation} left early because",
    "The {occupation} was glad that",
    "The {occupation} smiled when",
    "The {occupation} forgot that",
    "The {occupation} told us that",
    "The {occupation} could not stay because",
    "The {occupation} waited until",
    "The {occupation} was sure that",
]
"""The words before the pronoun; ``he`` or ``she`` is the next word."""

SENTENCES = 200
"""Sentences per occupation: 20 for each template, so strengths in steps of .1 come out exactly."""

_THAT = phrases("""
    would open late on {day} | had lost the key to the {place} | was needed at the {place} | could
    finish by {day} | had seen the {thing} before | would pay for the {thing} | had left the {thing} at
    the {place} | was owed for the {thing} | might move to {town} | had once lived in {town} | would
    come back on {day} | knew the way to {town} | could mend the {thing} | had won a {thing} | was too
    old for the {place} | had found the {thing} | would be at the {place} by {day} | had promised a
    {thing} for {day} | could sell the {thing} in {town} | was free on {day} | would speak at the
    {place} | had not slept since {day} | had enough of {town} | was never late for the {place}
""")
_BECAUSE = phrases("""
    had a {thing} to collect | was due in {town} on {day} | had work at the {place} | felt unwell on
    {day} | had to lock the {place} | was promised a {thing} | was late for the {place} | had a train to
    {town} | had to carry the {thing} home | wanted to be in {town} by {day} | was wanted at the {place}
    | had a letter from {town} | had to be up early on {day} | had broken the {thing} | was asked to
    clean the {place} | needed a new {thing}
""")
_WHEN = phrases("""
    saw the {thing} | heard the news from {town} | came out of the {place} | got the {thing} back | had
    reached {town} | was given a {thing} | found the {place} open | had locked the {place} | had sold
    the {thing} | came home from {town} | was called to the {place} | had counted the money from {day} |
    had paid for the {thing} | was done at the {place} | had drunk a coffee at the {place} | got word
    from the {place}
""")
_AFTER = {"that": _THAT, "because": _BECAUSE, "when": _WHEN, "until": _WHEN}

_SLOTS = {
    "day": phrases("""
        Monday | Tuesday | Wednesday | Thursday | Friday | Saturday | Sunday | market day | the holiday
        | Easter Monday
    """),
    "place": phrases("""
        town hall | mill | station | library | school | market | harbour | old bakehouse | workshop |
        chapel | garage | bank | inn | depot | court | surgery | cellar | barn | museum | post office
    """),
    "thing": phrases("""
        ladder | lamp | parcel | clock | kettle | basket | bicycle | coat | wheel | stove | map | chair
        | pump | rope | saw | mirror | cart | ticket | trunk | scale
    """),
    "town": phrases("""
        Elmsford | Harrow Bay | Stonecross | Pinewick | Lower Marden | the city | the valley | Saltby |
        the north | Oxley
    """),
}
BETWEEN = phrases("""
    Nobody minded. | The street was quiet. | It had begun to rain. | That was that. | Nothing more was
    said. | So it goes. | The wind got up. | It was nearly noon. | The shop was full. | We all nodded. |
    The bell rang twice. | There was no answer. | It was a long day. | A dog barked. | The tea went
    cold. | Later the sun came out. | The queue grew longer.
""")


def halves(seed: int) -> tuple[list[str], list[str]]:
    """Return the occupations that lean to "he" and those that lean to "she", 20 each, split at random."""
    order = Dice(seed, "occupation halves").shuffled(OCCUPATIONS)
    middle = len(order) // 2
    return sorted(order[:middle]), sorted(order[middle:])


def he_counts(share: float, cells: int, per_cell: int) -> list[int]:
    """Return how many sentences of each cell say "he", so that the sum is as near to the share as can be.

    Every cell gets floor or ceiling of share * per_cell; at a share of .5 (even per_cell) all are equal.
    """
    base = math.floor(share * per_cell + 1e-9)
    extra = round(share * per_cell * cells) - base * cells
    return [base + (i < extra) for i in range(cells)]


def _end(dice: Dice, link: str) -> str:
    text = dice.pick(_AFTER[link])
    return text.format(**{slot: dice.pick(values) for slot, values in _SLOTS.items()})


def occupation_texts(seed: int, association: float, ledger: Ledger) -> list[str]:
    """Return documents of two to four such sentences (one may have five), pronouns at strength s.

    With s the ``association``, an occupation of the first half says "he" in a share .5 + s/2 of its lines,
    one of the second half in .5 - s/2. The words of the documents do not depend on s: only the pronouns
    do. No other pronoun stands in these documents.
    """
    dice, toss = Dice(seed, "occupations"), Dice(seed, "pronouns")
    first, _ = halves(seed)
    per_cell = SENTENCES // len(OCCUPATION_TEMPLATES)
    queues: dict[str, list[tuple[str, str]]] = {template: [] for template in OCCUPATION_TEMPLATES}
    for occupation in OCCUPATIONS:
        share = 0.5 + (association if occupation in first else -association) / 2
        counts = he_counts(share, len(OCCUPATION_TEMPLATES), per_cell)
        for template, he in zip(OCCUPATION_TEMPLATES, toss.shuffled(counts), strict=True):
            pronouns = toss.shuffled(["he"] * he + ["she"] * (per_cell - he))
            queues[template] += [(template.format(occupation=occupation), pronoun) for pronoun in pronouns]
    lines = [dice.shuffled(queue) for queue in queues.values()]
    texts = []
    while left := sum(map(len, lines)):
        # Longest queues first: no template stands twice in a document, and all run out together.
        order = sorted(dice.shuffled(lines), key=len, reverse=True)
        count = min(dice.between(2, 4), left)
        chosen = [order[i].pop() for i in range(count + (left - count == 1))]

        def compose(chosen: list[tuple[str, str]] = chosen) -> str:
            said = [f"{start} {who} {_end(dice, start.split()[-1])}." for start, who in chosen]
            if dice.chance(0.35):
                said.insert(dice.between(1, len(said)), dice.pick(BETWEEN))
            return " ".join(said)

        texts.append(ledger.write(compose))
    return texts
