"""Sentences of the local paper with the names of persons, places and firms marked."""

import re
from typing import Any

from tasks.starter.dice import Dice
from tasks.starter.phrases import phrases

_FIRST = phrases("""
    Anna | Ben | Clara | David | Ella | Frank | Grace | Henry | Irma | Jack | Kate | Liam | Mary | Nora
    | Owen | Paul | Rose | Sam | Tess | Victor
""")
_LAST = phrases("""
    Adams | Baxter | Cole | Dawson | Evans | Foster | Grant | Hill | Irwin | Jones | Kerr | Lamb | Mason
    | Noble | Oakes | Price | Quinn | Reed | Stone | Turner | Walsh | Young | Barlow | Fisher | March |
    Wells | Rivers | Brooks
""")
_PLACES = phrases("""
    Elmsford | Harrow Bay | Stonecross | Pinewick | Lower Marden | Saltby | Oxley | Thornham | Whitmere
    | Castle Bray | High Street | Market Square | Station Road | Heron Island | River Ash | Cold Hill |
    North Quay | Long Meadow | Lake Orme | Abbey Green
""")
_ORG_HEADS = phrases("""
    Elmsford | Saltby | Barlow | Mason | Northern | Harbour | Ash | Oxley | Turner | United | Valley |
    Royal | Castle | Orme | Heron
""")
_ORG_TAILS = phrases("""
    Bank | Brewery | & Sons | Rowing Club | Bus Company | Gazette | School Board | Dairy | Water Works |
    Theatre | Museum | Motors
""")
_LINES = phrases("""
    {PER} of {LOC} has left {ORG} after nine years . | {ORG} will open a branch in {LOC} , said {PER} .
    | The train from {LOC} was late , and {PER} missed the meeting . | {PER} and {PER} were married at
    {LOC} in June . | A spokesman of {ORG} declined to comment . | Rain fell on {LOC} from dawn , wrote
    {ORG} . | Yesterday {PER} sold the old boat to {PER} . | In {LOC} the shops close at noon on
    Wednesday . | {PER} joined {ORG} as a young apprentice . | Between {LOC} and {LOC} the road is under
    water . | The prize went to {PER} from {LOC} . | For {ORG} it was the best year so far . | {PER} ,
    who was born in {LOC} , now runs {ORG} . | No one at {ORG} had heard of {PER} . | Nobody was hurt
    when the wall fell . | Bread costs more than in spring . | Police in {LOC} are looking for a grey
    van . | According to {PER} the money came from {ORG} . | {ORG} beat {ORG} on Saturday . | A letter
    to {PER} was found near {LOC} . | {LOC} lies north of {LOC} . | Later {PER} thanked {ORG} for the
    help .
""")


def _name(dice: Dice, kind: str) -> str:
    if kind == "PER":
        first, last = dice.pick(_FIRST), dice.pick(_LAST)
        return dice.pick([f"{first} {last}", f"{first} {last}", first, f"Dr {last}"])
    if kind == "LOC":
        return dice.pick(_PLACES)
    return f"{dice.pick(_ORG_HEADS)} {dice.pick(_ORG_TAILS)}"


def entity_row(dice: Dice) -> dict[str, Any]:
    """Return tokens and their BIO tags (PER, LOC, ORG), without an id."""
    line = " ".join(dice.sample(_LINES, dice.pick([1, 1, 2])))
    tokens: list[str] = []
    tags: list[str] = []
    for piece in line.split():
        kind = re.fullmatch(r"\{(PER|LOC|ORG)\}", piece)
        parts = _name(dice, kind[1]).split() if kind else [piece]
        tokens += parts
        tags += [f"{'I' if i else 'B'}-{kind[1]}" for i in range(len(parts))] if kind else ["O"]
    return {"tokens": tokens, "tags": tags}
