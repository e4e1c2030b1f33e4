"""Short texts about shops and outings with a question whose answer stands in the text."""

from typing import Any

from tasks.starter.dice import Dice
from tasks.starter.phrases import phrases

_SLOTS: dict[str, list[str]] = {
    "shop": phrases("""
        Barlow's Bakery | the Tin Whistle | Oakes and Daughter | the Paper Boat | Quayside Books | the
        Bell Cafe | Reed's Garage | the Button Box | the Cheese Loft | Cole Brothers | the Lamp Room |
        Ash Valley Bikes | the Wool Barn | Noble Teas | the Yellow Cart
    """),
    "hour": phrases("""
        seven | eight | half past eight | nine | ten | noon | one o'clock | half past two
    """),
    "late": phrases("""
        four | five | half past five | six | seven in the evening | eight in the evening | midnight |
        dusk
    """),
    "goods": phrases("""
        rye bread | wool socks | second-hand novels | fishing rods | garden seeds | goat cheese | brass
        lamps | rain coats | clay pots | green tea | bicycle tyres | picture frames | candles | honey
    """),
    "street": phrases("""
        High Street | Station Road | Market Square | North Quay | Abbey Green | Cold Hill | Long Meadow
        | River Lane
    """),
    "owner": phrases("""
        Anna Cole | Ben Walsh | Clara Reed | David Noble | Ella Oakes | Frank Lamb | Grace Turner |
        Henry Barlow | Irma Quinn | Jack Stone | Kate Irwin | Liam Foster | Nora Hill | Owen Price
    """),
    "price": phrases("""
        two pounds | three pounds | five pounds | ten pounds | forty pence | eighty pence | a pound |
        twelve pounds
    """),
    "year": phrases("""
        1887 | 1902 | 1921 | 1934 | 1948 | 1956 | 1963 | 1979 | 1985 | 1998 | 2004 | 2011
    """),
}
_LINES: dict[str, list[str]] = {
    "hour": [
        "It opens at {hour}.",
        "In the morning the door opens at {hour}.",
        "From {hour} on there is somebody in.",
    ],
    "late": ["The last guest leaves at {late}.", "It closes at {late}.", "At {late} the shutters come down."],
    "goods": ["People come for the {goods}.", "It is known for {goods}.", "The shelves are full of {goods}."],
    "street": ["It stands on {street}.", "You find it on {street}.", "The windows look out on {street}."],
    "owner": ["It belongs to {owner}.", "The owner is {owner}.", "{owner} runs it."],
    "price": ["A small bag costs {price}.", "Delivery costs {price}.", "For {price} they wrap it too."],
    "year": [
        "It was founded in {year}.",
        "The sign says {year}, when it all began.",
        "Since {year} little has changed.",
    ],
}
_ASKED: dict[str, list[str]] = {
    "hour": ["When does {shop} open?", "At what time does {shop} open?"],
    "late": ["When does {shop} close?", "Until when is {shop} open?"],
    "goods": ["What is sold at {shop}?", "What does {shop} sell?"],
    "street": ["Where is {shop}?", "On which street is {shop}?"],
    "owner": ["Who owns {shop}?", "Whose shop is {shop}?"],
    "price": ["How much does it cost at {shop}?", "What is the price at {shop}?"],
    "year": ["When was {shop} founded?", "How old is {shop}, since which year?"],
}
_FIRST = [
    "I like {shop}.",
    "This week we visit {shop}.",
    "Do you know {shop}?",
    "A word on {shop}.",
    "Here is {shop}.",
]


def answer_row(dice: Dice) -> dict[str, Any]:
    """Return a context, a question and its answer's text and start (in characters), without an id."""
    values = {slot: dice.pick(options) for slot, options in _SLOTS.items()}
    kinds = dice.sample(list(_LINES), 3)
    asked = dice.pick(kinds)
    lines = [dice.pick(_FIRST).format(**values)]
    start = -1
    for kind in kinds:
        before, after = dice.pick(_LINES[kind]).split("{" + kind + "}")
        if kind == asked:
            start = len(" ".join(lines)) + 1 + len(before)
        lines.append(f"{before}{values[kind]}{after}")
    context = " ".join(lines)
    assert context[start : start + len(values[asked])] == values[asked]
    question = dice.pick(_ASKED[asked]).format(shop=values["shop"])
    return {
        "context": context,
        "question": question,
        "answers": {"text": [values[asked]], "answer_start": [start]},
    }
