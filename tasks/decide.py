"""The promotion decision: a pure function of the evidence, the champion's evidence and the policy.

Gates, in order: evidence complete -> absolute minimum -> baselines -> guardrails measured -> audits -> the champion.
Every gate is looked at and leaves one sentence with its numbers, so that a refusal names all that is missing.

A comparison is decided by the 95 % interval of the difference, never by the difference: "better" is an interval
wholly above the margin (superiority), "not worse" one whose lower end is above minus the margin (non-inferiority).
So two equal models change places in at most 2.5 % of the cases (`benchmarks/gate.py`).

    any gate before the champion fails             no promotion, no alias
    no champion                                    champion
    champion measured on another test set          challenger: the scores cannot be compared; assess the
                                                   champion again on the candidate's test set and pass that
    a guardrail worse by more than its margin      no promotion, no alias
    a guardrail not shown to be no worse           challenger, the champion stays
    better than the champion on the target         champion
    not worse by the non-inferiority margin, and   champion
      a required audit that the candidate passes
      is not passed by the champion, or its
      estimate is nearer to 0 by > audit_gain
    worse than the champion on the target          no promotion, no alias
    neither is shown                               challenger, the champion stays (a move without a gain is
                                                   a risk)
"""

import math
from datetime import date
from typing import Literal

from models.config import Config
from tasks.audits.verdict import AuditResult, Verdict
from tasks.evidence import Evidence, Gap
from tasks.policy import Floor, Guardrail, KindPolicy, Policy, Waiver

Alias = Literal["champion", "challenger"] | None

OF_DATA = ("label_association",)
"""Audits of the training rows: what they find may stand where the training was mitigated."""


class Decision(Config):
    """Whether to promote, to which alias, and one sentence per gate."""

    model: str
    """Registered name of the model."""
    promote: bool
    """Whether the alias `champion` moves to the candidate."""
    alias: Alias
    """The alias that the candidate gets; none when a gate failed."""
    reasons: list[str]
    """One sentence per gate, beginning with pass, fail or note."""


def decide(candidate: Evidence, champion: Evidence | None, policy: Policy, *, today: date) -> Decision:
    """Decide on a candidate; the same arguments always give the same decision.

    Args: champion: the present champion's evidence, best assessed again on the candidate's test set; None
    where there is none. today: the date against which waivers are held (passed in: the function is pure).
    Raises ValueError if champion and candidate differ in kind. Better scores never turn a promotion down.
    """
    if champion is not None and champion.kind != candidate.kind:
        raise ValueError(f"champion: expected kind {candidate.kind!r}, got {champion.kind!r}")
    rules: KindPolicy = getattr(policy, candidate.kind)
    gates = [*_score_gates(candidate, rules), *_audit_gates(candidate, rules, policy.waivers, today)]
    reasons = [sentence for _, sentence in gates]
    passed = all(ok for ok, _ in gates)
    if not passed:
        return Decision(model=candidate.model, promote=False, alias=None, reasons=reasons)
    alias, sentences = _against_champion(candidate, champion, rules)
    promote = alias == "champion"
    return Decision(model=candidate.model, promote=promote, alias=alias, reasons=[*reasons, *sentences])


def _score_gates(candidate: Evidence, rules: KindPolicy) -> list[tuple[bool, str]]:
    """Hold the target against the absolute bar and the baselines, and ask for the guardrails."""
    target = rules.target
    if not _measured(candidate, target):
        return [(False, f"fail: {target} was not measured (got {candidate.metrics.get(target)}).")]
    gates = []
    if rules.minimum is not None:
        gates.append(_minimum_gate(candidate, rules, rules.minimum))
    gates += [_floor_gate(candidate, rules, floor) for floor in rules.floors]
    for rail in rules.guardrails:
        if not _measured(candidate, rail.metric):
            mark = "fail" if rail.required else "note"
            gates.append((not rail.required, f"{mark}: the guardrail {rail.metric} was not measured."))
    return gates


def _minimum_gate(candidate: Evidence, rules: KindPolicy, minimum: float) -> tuple[bool, str]:
    value = candidate.metrics[rules.target]
    low, high = candidate.intervals.get(rules.target, (value, value))
    ok = low >= minimum if rules.higher_is_better else high <= minimum
    asked = "at least" if rules.higher_is_better else "at most"
    shown = f"{rules.target} {value:.4f} [{low:.4f}, {high:.4f}]"
    return ok, f"{_mark(ok)}: {shown}; the whole interval is to be {asked} {minimum:g}."


def _floor_gate(candidate: Evidence, rules: KindPolicy, floor: Floor) -> tuple[bool, str]:
    """Ask for superiority over the baseline by a margin, or, with one below 0, for non-inferiority."""
    target, name = rules.target, floor.baseline
    base = candidate.baselines.get(name, {}).get(target)
    gap = _oriented(candidate.to_baselines.get(name, {}).get(target), rules.higher_is_better)
    if base is None or not math.isfinite(base):
        ok, sentence = False, f"{target} of the baseline {name} was not measured."
    elif gap is None:
        ok, sentence = False, f"{target} of the baseline {name} was not measured item by item: no interval."
    else:
        ok = gap.low > floor.margin
        aim = "beats" if floor.margin >= 0 else "is not worse than"
        unmet = "does not beat" if floor.margin >= 0 else "is not shown to be no worse than"
        shown = _comparison(target, candidate.metrics[target], base, gap, floor.margin)
        sentence = f"{aim if ok else unmet} the baseline {name}: {shown}."
    mark = _mark(ok) if floor.required else "note"
    return ok or not floor.required, f"{mark}: {sentence}"


def _audit_gates(candidate: Evidence, rules: KindPolicy, waivers: list[Waiver], today: date) -> list[tuple[bool, str]]:
    """Ask every required audit for PASS, or for INCONCLUSIVE with a waiver in force."""
    found = {audit.audit: audit for audit in candidate.audits}
    gates = []
    for name in rules.audits:
        audit = found.get(name)
        if audit is None:
            gates.append((False, f"fail: the audit {name} was not made."))
            continue
        ok = audit.verdict is Verdict.PASS
        sentence = f"the audit {name} says {audit.verdict.value}: {audit.reason}"
        if audit.verdict is Verdict.INCONCLUSIVE:
            ok, waiver = _waived(candidate.model, name, waivers, today)
            sentence = f"{sentence} {waiver}"
        if not ok and name in OF_DATA and candidate.mitigation and audit.verdict is not Verdict.REFUSED:
            ok, sentence = True, f"{sentence} The training was mitigated: {candidate.mitigation}."
        gates.append((ok, f"{_mark(ok)}: {sentence}"))
    return gates


def _waived(model: str, audit: str, waivers: list[Waiver], today: date) -> tuple[bool, str]:
    mine = [waiver for waiver in waivers if (waiver.model, waiver.audit) == (model, audit)]
    if not mine:
        return False, "No waiver is given."
    last = max(mine, key=lambda waiver: waiver.expires)
    if last.expires < today:
        return False, f"The waiver of {last.author} expired on {last.expires}."
    return True, f"Waived by {last.author} until {last.expires}: {last.reason}"


def _against_champion(candidate: Evidence, champion: Evidence | None, rules: KindPolicy) -> tuple[Alias, list[str]]:
    """Compare with the champion, by the table at the top of this file."""
    if champion is None:
        return "champion", ["pass: there is no champion yet."]
    if champion.test_digest != candidate.test_digest:
        return "challenger", [
            f"fail: the champion was measured on another test set ({champion.test_digest[:12]}, not "
            f"{candidate.test_digest[:12]}), so the scores cannot be compared; assess it on this one."
        ]
    target = rules.target
    if not _measured(champion, target):
        return "challenger", [f"fail: the champion's {target} was not measured; assess it again."]
    gap = _oriented(candidate.to_champion.get(target), rules.higher_is_better)
    if gap is None:
        return "challenger", [f"fail: the champion's {target} was not measured item by item; assess it again."]
    rails = [_guarded(candidate, champion, rail) for rail in rules.guardrails]
    worst = min((state for state, _ in rails), default=1)
    sentences = [sentence for _, sentence in rails if sentence]
    if champion.seen_rows:
        told = f"{champion.seen_rows} rows of this test set, which speaks for it and not for the candidate"
        sentences.insert(0, f"note: the champion learned from {told}.")
    alias, sentence = _on_target(candidate, champion, rules, gap)
    if worst < 0:
        alias = None
    elif worst == 0 and alias == "champion":
        alias = "challenger"
    return alias, [*sentences, sentence]


def _on_target(candidate: Evidence, champion: Evidence, rules: KindPolicy, gap: Gap) -> tuple[Alias, str]:
    """Compare the target, and the audits where neither is ahead."""
    target = rules.target
    ours, theirs = candidate.metrics[target], champion.metrics[target]

    def shown(margin: float) -> str:
        return _comparison(target, ours, theirs, gap, margin, "the champion's ")

    if gap.low > rules.superiority_margin:
        return "champion", f"pass: better than the champion: {shown(rules.superiority_margin)}."
    allowed = -rules.non_inferiority_margin
    fairer = _fairer(candidate, champion, rules) if gap.low > allowed else None
    if fairer is not None:
        return "champion", f"pass: not worse than the champion, and fairer: {shown(allowed)}; {fairer}."
    if gap.high < 0:
        return None, f"fail: worse than the champion: {shown(rules.superiority_margin)}."
    asked = shown(rules.superiority_margin)
    return "challenger", f"fail: not shown to be better than the champion, who stays: {asked}."


def _guarded(candidate: Evidence, champion: Evidence, rail: Guardrail) -> tuple[int, str]:
    """Return 1 where a guardrail is held, 0 where that is not shown, -1 where it is broken, and a sentence.

    A score without items (a latency) is compared by its value alone, and the sentence says so.
    """
    if not _measured(candidate, rail.metric):
        return 1, ""  # said before, and not required
    if not _measured(champion, rail.metric):
        sentence = f"the champion's guardrail {rail.metric} was not measured; assess it again."
        return (0, f"fail: {sentence}") if rail.required else (1, f"note: {sentence}")
    ours, theirs = candidate.metrics[rail.metric], champion.metrics[rail.metric]
    plain = Gap(difference=ours - theirs, low=ours - theirs, high=ours - theirs, paired=True)
    measured = candidate.to_champion.get(rail.metric)
    gap = _oriented(measured or plain, rail.higher_is_better)
    assert gap is not None, "a measured guardrail has a gap"
    state = 1 if gap.low > -rail.margin else -1 if gap.high < -rail.margin else 0
    told = {1: "is held", 0: "is not shown to be held", -1: "is broken"}[state]
    shown = _comparison(rail.metric, ours, theirs, gap, -rail.margin, "the champion's ", bare=measured is None)
    if not rail.required:
        return 1, f"note: the guardrail {rail.metric} {told}: {shown}."
    return state, f"{_mark(state == 1)}: the guardrail {rail.metric} {told}: {shown}."


def _comparison(
    metric: str, ours: float, theirs: float, gap: Gap, margin: float, whose: str = "", *, bare: bool = False
) -> str:
    """Say both scores, the gain with its interval, and what is asked of its lower end."""
    both = f"{metric} {ours:.4f} against {whose}{theirs:.4f}, a gain of {_signed(gap.difference)}"
    asked = f"to be above {margin:+g}" if margin else "to be above 0"
    if bare:
        return f"{both} without an interval; it is {asked}"
    apart = "" if gap.paired else " (not on the same items, so drawn apart)"
    return f"{both} [{_signed(gap.low)}, {_signed(gap.high)}]{apart}; its lower end is {asked}"


def _oriented(gap: Gap | None, higher_is_better: bool) -> Gap | None:
    """Return the gap as a gain: above 0 where the model is better."""
    if gap is None or higher_is_better:
        return gap
    return Gap(difference=-gap.difference, low=-gap.high, high=-gap.low, paired=gap.paired)


def _fairer(candidate: Evidence, champion: Evidence, rules: KindPolicy) -> str | None:
    """Say in which required audit the candidate is ahead, if it is behind in none."""
    ours = {audit.audit: audit for audit in candidate.audits}
    theirs = {audit.audit: audit for audit in champion.audits}
    ahead: str | None = None
    for name in rules.audits:
        mine, other = ours[name], theirs.get(name)
        if mine.verdict is not Verdict.PASS:
            return None
        if other is None or other.verdict is not Verdict.PASS:
            ahead = ahead or f"only the candidate passes the audit {name}"
            continue
        nearer = _size(other) - _size(mine)
        if nearer < -rules.audit_gain:
            return None
        if nearer > rules.audit_gain:
            ahead = ahead or f"the audit {name} reads {mine.estimate:+.4f} against {other.estimate:+.4f}"
    return ahead


def _size(audit: AuditResult) -> float:
    """Return how much bias a passed audit found; an amplification is the better the further it is below 0."""
    assert audit.estimate is not None, "a passed audit has an estimate"
    return audit.estimate if audit.metric.endswith("_amplification") else abs(audit.estimate)


def _measured(evidence: Evidence, metric: str) -> bool:
    value = evidence.metrics.get(metric)
    return value is not None and math.isfinite(value)


def _signed(value: float) -> str:
    """Write a gain with its sign; what rounds to nothing is +0."""
    return f"{round(value, 4) + 0.0:+.4f}"


def _mark(ok: bool) -> str:
    return "pass" if ok else "fail"
