"""Small corpora for the tests of the audits of text: the starter's occupations with a planted association."""

from tasks.audits.occupation_pronoun import Halves
from tasks.starter.ledger import Ledger
from tasks.starter.occupations import halves as planted_halves
from tasks.starter.occupations import occupation_texts

TINY = ["The nurse said she slept.", "The judge said HE slept", "The nurse left."]


class Admitting(Ledger):
    """Admits every document: here a near duplicate does no harm, and looking for one takes seconds."""

    def write(self, compose):
        return compose()


def planted(s, seed=0):
    return occupation_texts(seed, s, Admitting()), Halves(*planted_halves(seed))
