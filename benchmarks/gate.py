"""How often the gate lets two models change places: `python benchmarks/gate.py [draws]`, 1,000 draws, two minutes.

A champion and a candidate answer the same drawn test items. Where they are equal, each item is as hard for the one as
for the other, and a promotion is noise; where the candidate is better, by the stated amount on average, it is due. Each
draw is decided by `tasks.decide.decide` under the project's policy, and beside it by the rule that a point difference
above a fixed margin would be (a gain of .01; of .01 bits per byte). Guardrails and audits are left out: what they ask
for comes on top.
"""

import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.decide import decide
from tasks.evidence import Evidence, gaps
from tasks.paired import Terms, terms
from tasks.policy import Kind, Policy, load_policy

POLICY = Path(__file__).resolve().parent.parent / "mlflow" / "promotion.yaml"
OLD_MARGIN = 0.01
SIZES = (100, 400, 1600)
ALPHA = 0.025

Pair = tuple[Terms, Terms]
"""The candidate's terms and the champion's."""
Draw = Callable[[np.random.Generator, int, float], Pair]
"""Takes the random numbers, the number of items and how much better the candidate is on average."""


class Case(NamedTuple):
    """A kind of score, and how the answers of two models to it are drawn."""

    kind: Kind
    draw: Draw
    better: float
    """By how much a better candidate is better, in the unit of the score."""


def labels(accuracy: float, shares: tuple[float, ...]) -> Draw:
    """Return how two classifiers answer: macro F1 of classes with these shares.

    An item's chance to be answered rightly is drawn from a Beta distribution with that mean and a sum of 2, so that
    most items are easy or hard for both; a wrong answer is any other class.
    """

    def draw(random: np.random.Generator, items: int, better: float) -> Pair:
        truth = random.choice(len(shares), size=items, p=shares)
        chance = random.beta(2 * accuracy, 2 * (1 - accuracy), size=items)
        # Mistakes turned into right answers, so that the gain is the stated one on average.
        easier = 1 - (1 - chance) * (1 - better / (1 - accuracy))

        def answers(right: NDArray[np.float64]) -> Terms:
            wrong = (truth + random.integers(1, len(shares), size=items)) % len(shares)
            guess = np.where(random.random(items) < right, truth, wrong)
            chosen, true = (column[:, None] == np.arange(len(shares)) for column in (guess, truth))
            return terms(2.0 * (chosen & true), 1.0 * chosen + true)

        return answers(easier), answers(chance)

    return draw


def overlap(random: np.random.Generator, items: int, better: float) -> Pair:
    """Draw ROUGE-like values: a quarter of all answers share nothing with the truth, the rest is spread over 0 to 1."""
    hard = random.beta(2, 2, size=items)

    def values(gain: float) -> Terms:
        own = np.clip(hard + random.normal(gain / 0.75, 0.2, size=items), 0, 1)
        return terms(own * (random.random(items) > 0.25))

    return values(better), values(0.0)


def bits(random: np.random.Generator, items: int, better: float) -> Pair:
    """Draw documents of log-normal length, of which each costs both about the same bits per byte."""
    length = np.ceil(random.lognormal(6, 1, size=items))
    cost = random.normal(1.2, 0.25, size=items)

    def values(gain: float) -> Terms:
        return terms(length * (cost - gain + random.normal(0, 0.05, size=items)), length)

    return values(better), values(0.0)


CASES = {
    "macro F1, two classes, 80 % right": Case("classification", labels(0.8, (0.5, 0.5)), 0.05),
    "macro F1, two classes, 99 % right": Case("classification", labels(0.99, (0.5, 0.5)), 0.008),
    "macro F1, one class of three rare (5 %)": Case("classification", labels(0.85, (0.5, 0.45, 0.05)), 0.05),
    "ROUGE-L": Case("instruction", overlap, 0.05),
    "bits per byte": Case("foundation", bits, 0.01),
}


def promotions(case: Case, items: int, better: float, draws: int, seed: int = 0) -> tuple[float, float]:
    """Return the share of draws in which the candidate is promoted: by the gate, and by the point difference."""
    random, policy = np.random.default_rng(seed), bare(load_policy(POLICY), case.kind)
    rules = getattr(policy, case.kind)
    sign = 1 if rules.higher_is_better else -1
    by_interval = by_point = 0
    for _ in range(draws):
        ours, theirs = case.draw(random, items, better)
        candidate, champion = (
            Evidence(model="m", kind=case.kind, test_digest="t", metrics={rules.target: own.value})
            for own in (ours, theirs)
        )
        compared = gaps({rules.target: ours}, {rules.target: theirs}, [rules.target])
        candidate = candidate.model_copy(update={"to_champion": compared})
        by_interval += decide(candidate, champion, policy, today=date(2030, 1, 1)).promote
        by_point += sign * (ours.value - theirs.value) > OLD_MARGIN
    return by_interval / draws, by_point / draws


def bare(policy: Policy, kind: Kind) -> Policy:
    """Return the policy with the comparison of the target alone."""
    rules = getattr(policy, kind)
    nothing = {"floors": [], "audits": [], "guardrails": [], "minimum": None}
    return policy.model_copy(update={kind: rules.model_copy(update=nothing)})


def main(draws: int) -> None:
    """Print a Markdown table of promotions, and fail where equal models change places too often."""
    print("| score | items | equal: gate | equal: point > .01 | better by | better: gate | better: point > .01 |")
    print("|---|---|---|---|---|---|---|")
    worst = 0.0
    for name, case in CASES.items():
        for items in SIZES:
            equal, old_equal = promotions(case, items, 0.0, draws)
            better, old_better = promotions(case, items, case.better, draws, seed=1)
            worst = max(worst, equal)
            cells = [f"{100 * share:.1f} %" for share in (equal, old_equal, better, old_better)]
            print(
                f"| {name} | {items} | {cells[0]} | {cells[1]} | {case.better:g} | {cells[2]} | {cells[3]} |",
                flush=True,
            )
    # Three standard errors of a share of ALPHA over so many draws.
    allowed = ALPHA + 3 * (ALPHA * (1 - ALPHA) / draws) ** 0.5
    print(f"\nEqual models: at most {100 * worst:.1f} % promoted, {100 * allowed:.1f} % are {100 * ALPHA} % and noise.")
    sys.exit(worst > allowed)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
