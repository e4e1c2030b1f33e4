"""Documents that carry an e-mail address or a phone number, for the scrubbing to find."""

from tasks.starter.dice import Dice
from tasks.starter.helpdesk import TOPICS, mail
from tasks.starter.ledger import Ledger
from tasks.starter.phrases import phrases

EMAIL_ONLY, PHONE_ONLY, BOTH = 40, 40, 40

_USERS = phrases("""
    post | office | hello | info | sales | shop | orders | desk | clerk | garden | choir | news | team |
    lost | found | band | rooms
""")
_HOSTS = phrases("""
    example.com | example.org | mail.example.com | shop.example.org | example.net
""")
_NOTICES = phrases("""
    The choir meets {day} in the hall and new voices are welcome. | Found near the pump: a brown glove
    with a red button. | For sale: a {good}, hardly used, and a {other} that needs some care. | The
    reading group starts again {day} with a long novel. | Wanted: somebody who can mend a {good} and
    knows about a {other}. | Two rooms to let above the shop, with a view of the harbour. | Lost {day}
    between the station and the mill: one small grey cat. | The swimming club gives lessons for children
    and grown-ups. | The allotment by the railway is free, with a shed and some old tools. | We collect
    coats for the winter, and a {good} is welcome too. | Lessons in drawing {day}, paper and pencils are
    there. | The walking club goes over the hill {day} and takes the bus back.
""")
_EMAIL = [
    "Write to {e}.",
    "Answers to {e} please.",
    "You reach me at {e}.",
    "My address is {e}, I read it daily.",
]
_PHONE = [
    "Call {p}.",
    "The number is {p}.",
    "Please ring {p} after six.",
    "My phone is {p}, mornings are best.",
]
_BOTH = ["Write to {e} or call {p}.", "My number is {p} and my mail {e}.", "Ring {p}, or else write to {e}."]
# Ranges that the British regulator keeps free for fiction.
_AREAS = ["20 7946 0", "161 496 0", "113 496 0", "117 496 0", "131 496 0", "141 496 0"]


def contact_texts(seed: int, ledger: Ledger) -> tuple[list[str], list[str], list[str]]:
    """Return the documents, the e-mail addresses and the phone numbers in them; each stands once."""
    dice = Dice(seed, "contacts")
    emails = [f"{u}{n}@{h}" for u in _USERS for n in range(2, 30) for h in _HOSTS]
    emails = dice.sample(emails, EMAIL_ONLY + BOTH)
    numbers = dice.sample([f"+44 {area}{n:03d}" for area in _AREAS for n in range(100, 1000)], PHONE_ONLY + BOTH)
    phones = [n if dice.chance(0.7) else n.replace(" ", "-").replace("-", " ", 1) for n in numbers]
    texts = []
    for i in range(EMAIL_ONLY + PHONE_ONLY + BOTH):
        e = emails[i] if i < EMAIL_ONLY + BOTH else None
        p = phones[i - EMAIL_ONLY] if i >= EMAIL_ONLY else None
        ways = _BOTH if e and p else _EMAIL if e else _PHONE

        def compose(ways: list[str] = ways, e: str | None = e, p: str | None = p) -> str:
            if dice.chance(0.6):
                body = mail(dice, dice.pick(TOPICS))
            else:
                body = " ".join(dice.sample(_NOTICES, 2)).format(
                    day=dice.pick(["on Monday", "on Friday", "next week", "in the evening", "on Sunday"]),
                    good=dice.pick(["kettle", "clock", "lamp", "rug", "chair", "pram"]),
                    other=dice.pick(["tent", "mirror", "radio", "desk", "bench", "sledge"]),
                )
            return f"{body} {dice.pick(ways).format(e=e, p=p)}"

        texts.append(ledger.write(compose))
    return texts, emails, phones
