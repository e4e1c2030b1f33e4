"""Questions to the help desk with an answer that helps and one that does not."""

from typing import Any

from tasks.starter.dice import Dice
from tasks.starter.helpdesk import GOODS, TOPICS
from tasks.starter.phrases import phrases

_ASKED: dict[str, list[str]] = {
    "billing": [
        "Why was I charged twice for the {g}?",
        "The bill for my {g} is too high.",
        "Can I have the invoice for a {g}?",
    ],
    "damaged": [
        "My {g} arrived broken.",
        "The {g} you sent has a crack.",
        "The {g} stopped working after a day.",
    ],
    "delivery": [
        "Where is my {g}?",
        "When will the {g} arrive?",
        "The driver left my {g} at the wrong door.",
    ],
    "password": [
        "I cannot log in to order a {g}.",
        "How do I reset my password? I want a {g}.",
        "My account is locked, no {g} for me.",
    ],
    "refund": [
        "I want my money back for the {g}.",
        "How do I return the {g}?",
        "When do I get the refund for my {g}?",
    ],
}
_HELP: dict[str, list[str]] = {
    "billing": ["we check the invoice and correct it today", "we pay the second charge back at once"],
    "damaged": ["we send a new {g} and collect the old one", "please send a photo and we replace the {g}"],
    "delivery": ["the {g} will reach you on {d}", "we ask the driver today and write to you by {d}"],
    "password": ["we have sent you a new link to reset it", "please open the link in our mail to unlock it"],
    "refund": ["the money will be with you by {d}", "send the {g} back free of charge and we pay by {d}"],
}
_POLITE = [
    "I am sorry about that:",
    "Thank you for writing:",
    "Sorry for the trouble:",
    "Thank you, gladly:",
    "We regret this:",
]
_END = [
    "Kind regards.",
    "Please write again if it does not help.",
    "Have a good day.",
    "Thank you for your patience.",
    "",
]
_RUDE = phrases("""
    That is your own fault. | Not our problem. | Read the rules before you write. | Stop asking. | You
    people always complain. | We have better things to do. | Who cares about a {g}? | Figure it out
    yourself. | Nobody else has trouble with the {g}.
""")
_START = ["", "", "Hello,", "Good morning.", "Hi,", "Dear help desk,", "Hello again."]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]


def preference_row(dice: Dice) -> dict[str, Any]:
    """Return a prompt, the answer to prefer (polite and to the point) and the other, without an id.

    Half of the rejected answers are rude, half are polite but answer another question.
    """
    g, d = dice.pick(GOODS), dice.pick(_DAYS)
    topic = dice.pick(TOPICS)
    polite, end = dice.pick(_POLITE), dice.pick(_END)
    chosen = f"{polite} {dice.pick(_HELP[topic])}. {end}".strip().format(g=g, d=d)
    if dice.chance(0.5):
        rejected = " ".join(dice.sample(_RUDE, 2)).format(g=g)
    else:
        wrong = dice.pick([t for t in TOPICS if t != topic])
        rejected = f"{dice.pick(_POLITE)} {dice.pick(_HELP[wrong])}. {dice.pick(_END)}".strip().format(g=g, d=d)
    prompt = f"{dice.pick(_START)} {dice.pick(_ASKED[topic]).format(g=g)}".strip()
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
