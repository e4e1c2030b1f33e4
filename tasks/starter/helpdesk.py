"""Mail to the help desk of the town's mail-order house: five topics, many voices."""

import re
from typing import Any

from tasks.starter.dice import Dice
from tasks.starter.phrases import phrases

TOPICS = ["billing", "damaged", "delivery", "password", "refund"]

GOODS = phrases("""
    kettle | lamp | clock | coat | basket | radio | toaster | rug | mirror | chair | bicycle | teapot |
    blanket | ladder | mattress | fan | bookcase | heater | tent | suitcase | umbrella | saucepan | desk
    | printer
""")
DAYS = phrases("""
    on Monday | on Tuesday | on Wednesday | on Thursday | on Friday | on Saturday | last week | two
    weeks ago | in May | before the holidays | in early June | at the weekend | on the third | last
    autumn
""")
DUE = phrases("Monday | Tuesday | Wednesday | Thursday | Friday | the weekend | the end of May | the tenth")
GREETINGS = phrases("""
    Hello, | Good morning, | Dear help desk, | Hi there, | To whom it may concern: | Dear all, | Good
    day. | Hello again. | | Sorry to write so late. | First, thank you for your catalogue. | I have been
    a customer for years. |
""")
CLOSINGS = phrases("""
    Thanks. | Please help. | Kind regards. | I look forward to your answer. | What can be done? | Please
    write soon. | | Thank you for looking into it. | I hope to hear from you. | I would be grateful for
    a word. | | I am at a loss.
""")
CHAT = phrases("""
    I bought a {good} from you {day}. | My order was a {good} and a {other}. | About the {good}: | This
    concerns my order of a {good}. | You sent me a {good} {day}. | I write about the {other} again. | My
    mother ordered a {good} {day}. | We are a small shop and sell your {good}.
""")
SETTLED = phrases("""
    Last month I wrote: {old} That is settled. | You have solved my last question. ({old}) Now another
    one. | My other mail can be closed. {old} That was it. Today this: | {old} So I wrote before, and
    you helped at once. Here is something else. | {old} No, that is done with. What remains:
""")

SAID: dict[str, list[str]] = {
    "billing": phrases("""
        The invoice shows the {good} twice. | My card was charged two times {day}. | I do not understand
        the fee on my statement. | The bill for the {good} is too high. | You took the money before I
        had agreed. | The tax on the invoice looks wrong to me. | I need a receipt for the {good}. | I
        cannot explain one sum on my account. | Why did I pay for the {other} that I never ordered? |
        The discount is missing from the bill. | Please send the invoice once more by {due}. | My bank
        says that you charged me {day} and once more the day after.
    """),
    "damaged": phrases("""
        The {good} came with a crack along the side. | One leg of the {other} is broken. | The box was
        crushed and the {good} bent. | The glass lay in pieces. | There is a deep scratch on the {good}.
        | It stopped working after one day. | A screw is loose and the lid does not close. | The {good}
        leaks. | It smells of smoke and will not switch on. | The cloth is torn at the seam. | The paint
        has come off the {other}. | It arrived dented on both sides.
    """),
    "delivery": phrases("""
        The parcel has not arrived. | I was promised the {good} by {due}. | The driver rang at the wrong
        house. | The tracking page has said nothing since {due}. | Nobody knows where my parcel is. |
        Could you bring the {good} to my work instead? | Half of the order came, the {other} did not. |
        It was left in the rain by the gate. | How long does shipping to the islands take? | The courier
        came while I was out. | Please change the address of the shipment. | The van drove past again
        {day}.
    """),
    "password": phrases("""
        I cannot log in since {due}. | The page says that my password is wrong. | The link to reset it
        has expired. | I never get the code that you send. | My account is locked after three tries. | I
        forgot what I chose as a user name. | Someone has changed my login. | The site does not accept
        the new password. | How do I reset it without my old phone? | I need a new password by {due}. |
        I tried to log in {day}, in vain. | It asks for a secret word I never chose. | I logged in {day}
        and then never again. | The sign in button does nothing. | It logs me out every hour.
    """),
    "refund": phrases("""
        I would like my money back for the {good}. | You promised to pay me back by {due}. | I sent the
        {other} back and have heard nothing. | How long does a refund take? | I return the {good}
        because it is too small. | The money for the returned {good} is not here yet. | I cancelled
        {day} and want the amount returned. | Only half of the sum was paid back. | A voucher is no use
        to me, I want cash. | I changed my mind about the {other} and returned it. | Please take the
        {good} back. | Where do I send the {good} that I do not want?
    """),
}


def _fill(dice: Dice, text: str) -> str:
    good, other = dice.sample(GOODS, 2)
    out = text.format(good=good, other=other, day=dice.pick(DAYS), due=dice.pick(DUE))
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", out)


def mail(dice: Dice, topic: str) -> str:
    """Return a mail of about 15 to 38 words on the topic; its neutral parts occur with every topic.

    Four in ten also recall a settled matter of another topic, so that single words do not decide.
    """
    said = dice.sample(SAID[topic], dice.between(1, 2))
    parts = [dice.pick(GREETINGS)]
    if dice.chance(0.4):
        old = dice.pick(SAID[dice.pick([t for t in TOPICS if t != topic])])
        parts.append(dice.pick(SETTLED).format(old=old))
    elif len(said) == 1 or dice.chance(0.3):
        parts.append(dice.pick(CHAT))
    parts += [*said, dice.pick(CLOSINGS)]
    text = _fill(dice, " ".join(part for part in parts if part))
    return text if len(text.split()) >= 12 else mail(dice, topic)


def mail_row(dice: Dice, topic: str) -> dict[str, Any]:
    """Return a mail with its topic as label, without an id."""
    return {"text": mail(dice, topic), "label": topic}
