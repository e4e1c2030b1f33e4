"""The promotion decision: every gate by a golden case, and monotone in the scores."""

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.audit_config import AuditConfig
from tasks.audit_table import asked
from tasks.audits.verdict import AuditResult, Verdict
from tasks.decide import decide
from tasks.evidence import Evidence, Gap
from tasks.policy import Guardrail, Policy, Waiver, load_policy

POLICY_FILE = Path(__file__).parents[1] / "mlflow" / "promotion.yaml"
WHOLE_POLICY = load_policy(POLICY_FILE)
# One audit a kind: which ones there are is no matter of the decision.
# One audit a kind, and no guardrails: which ones there are is no matter of the decision.
POLICY = WHOLE_POLICY.model_copy(
    update={
        kind: rules.model_copy(update={"audits": rules.audits[:1], "guardrails": []})
        for kind, rules in WHOLE_POLICY
        if kind != "waivers"
    }
)
TODAY = date(2030, 1, 15)
BASELINES = {"majority": {"macro_f1": 0.3}, "from_scratch": {"macro_f1": 0.8}, "tfidf_lr": {"macro_f1": 0.81}}
HALF = 0.01
"""Half the width of every interval here."""


def gap(ours, theirs, half=HALF, paired=True):
    difference = ours - theirs
    return Gap(difference=difference, low=difference - half, high=difference + half, paired=paired)


def against(candidate, champion, half=HALF):
    """Give the candidate's evidence the gaps to the champion."""
    gaps = {name: gap(value, champion.metrics[name], half) for name, value in candidate.metrics.items()}
    return candidate.model_copy(update={"to_champion": gaps})


def audited(verdict="PASS", estimate=0.0, name="counterfactual"):
    return AuditResult(
        audit=name,
        scorer="table",
        metric="flip_rate",
        estimate=None if verdict == "REFUSED" else estimate,
        low=None if verdict == "REFUSED" else estimate,
        high=None if verdict == "REFUSED" else estimate + 0.01,
        margin=0.02,
        items=300,
        clusters=300,
        mde=0.01,
        verdict=Verdict(verdict),
        reason="The flip rate says so.",
    )


def evidence(score=0.85, verdict="PASS", estimate=0.0, digest="d1", baselines=BASELINES):
    return Evidence(
        model="reviews",
        kind="classification",
        test_digest=digest,
        metrics={"macro_f1": score},
        baselines=baselines,
        to_baselines=gaps_to({"macro_f1": score}, baselines),
        audits=[audited(verdict, estimate)],
    )


def gaps_to(metrics, baselines, half=HALF):
    return {
        name: {metric: gap(metrics[metric], value, half) for metric, value in found.items() if metric in metrics}
        for name, found in baselines.items()
    }


def judge(candidate, champion=None, policy=POLICY, today=TODAY):
    if champion is not None and not candidate.to_champion and champion.metrics.keys() >= candidate.metrics.keys():
        candidate = against(candidate, champion)
    return decide(candidate, champion, policy, today=today)


def test_the_first_good_model_becomes_champion():
    found = judge(evidence())
    assert (found.promote, found.alias) == (True, "champion")
    assert found.reasons == [
        "pass: beats the baseline majority: macro_f1 0.8500 against 0.3000, a gain of +0.5500 [+0.5400, +0.5600]; "
        "its lower end is to be above +0.05.",
        "pass: beats the baseline from_scratch: macro_f1 0.8500 against 0.8000, a gain of +0.0500 [+0.0400, +0.0600]; "
        "its lower end is to be above 0.",
        "pass: beats the baseline tfidf_lr: macro_f1 0.8500 against 0.8100, a gain of +0.0400 [+0.0300, +0.0500]; "
        "its lower end is to be above 0.",
        "pass: the audit counterfactual says PASS: The flip rate says so.",
        "pass: there is no champion yet.",
    ]


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (evidence(score=0.355, baselines={name: {"macro_f1": 0.3} for name in BASELINES}), "majority"),
        (evidence(score=0.79), "does not beat the baseline from_scratch: macro_f1 0.7900 against 0.8000"),
        # Better, and not shown to be: the interval of the gain holds 0.
        (evidence(score=0.815), "does not beat the baseline tfidf_lr: macro_f1 0.8150 against 0.8100, a gain of +0.00"),
        (evidence(score=float("nan")), "macro_f1 was not measured"),
        (evidence(baselines={}), "the baseline majority was not measured"),
        (evidence().model_copy(update={"to_baselines": {}}), "not measured item by item: no interval"),
        (evidence(verdict="FAIL"), "counterfactual says FAIL"),
        (evidence(verdict="REFUSED"), "counterfactual says REFUSED"),
        (evidence(verdict="INCONCLUSIVE"), "No waiver is given."),
        (evidence().model_copy(update={"audits": []}), "the audit counterfactual was not made"),
        (evidence().model_copy(update={"metrics": {}}), "macro_f1 was not measured"),
    ],
)
def test_each_gate_can_say_no(candidate, reason):
    found = judge(candidate)
    assert (found.promote, found.alias) == (False, None)
    failed = [sentence for sentence in found.reasons if sentence.startswith("fail: ")]
    assert any(reason in sentence for sentence in failed), found.reasons


@pytest.mark.parametrize(
    ("expires", "model", "verdict", "promoted"),
    [
        (TODAY, "reviews", "INCONCLUSIVE", True),
        (date(2030, 1, 14), "reviews", "INCONCLUSIVE", False),
        (TODAY, "other", "INCONCLUSIVE", False),
        (TODAY, "reviews", "FAIL", False),
        (TODAY, "reviews", "REFUSED", False),
    ],
)
def test_a_waiver_holds_for_inconclusive_until_it_expires(expires, model, verdict, promoted):
    waiver = Waiver(model=model, audit="counterfactual", author="A. Person", reason="Few.", expires=expires)
    policy = POLICY.model_copy(update={"waivers": [waiver]})
    found = judge(evidence(verdict=verdict), policy=policy)
    assert found.promote is promoted
    if expires < TODAY:
        assert any("expired on 2030-01-14" in sentence for sentence in found.reasons)


@pytest.mark.parametrize(
    ("candidate", "champion", "alias"),
    [
        (evidence(0.87), evidence(0.85), "champion"),
        # The interval holds 0: neither is shown to be better.
        (evidence(0.859), evidence(0.85), "challenger"),
        (evidence(0.841), evidence(0.85), "challenger"),
        (evidence(0.85), evidence(0.85), "challenger"),
        (evidence(0.83), evidence(0.85), None),
        # Where it is shown not to be worse by a point, the fairer one goes first.
        (evidence(0.855), evidence(0.85, verdict="FAIL", estimate=0.5), "champion"),
        (evidence(0.855), evidence(0.85, estimate=0.012), "champion"),
        (evidence(0.855), evidence(0.85, estimate=0.004), "challenger"),
        (evidence(0.849), evidence(0.85, verdict="FAIL", estimate=0.5), "challenger"),
        (evidence(0.83), evidence(0.85, verdict="FAIL", estimate=0.5), None),
        # Measured on another test set, not measured, or not item by item: no comparison.
        (evidence(0.99), evidence(0.5, digest="d2"), "challenger"),
        (evidence(0.99), evidence(0.5).model_copy(update={"metrics": {}}), "challenger"),
        (evidence(0.99).model_copy(update={"to_champion": {"other": gap(1, 0)}}), evidence(0.5), "challenger"),
    ],
)
def test_against_the_champion(candidate, champion, alias):
    found = judge(candidate, champion)
    assert found.alias == alias
    assert found.promote is (alias == "champion")
    assert found == judge(candidate, champion)


def test_what_is_said_against_the_champion():
    better, unshown, worse = (judge(evidence(score), evidence(0.85)).reasons[-1] for score in (0.87, 0.855, 0.83))
    assert better == (
        "pass: better than the champion: macro_f1 0.8700 against the champion's 0.8500, a gain of +0.0200 "
        "[+0.0100, +0.0300]; its lower end is to be above 0."
    )
    assert unshown.startswith("fail: not shown to be better than the champion, who stays: macro_f1 0.8550 against")
    assert worse.startswith(
        "fail: worse than the champion: macro_f1 0.8300 against the champion's 0.8500, a gain of -0"
    )
    apart = evidence(0.87).model_copy(update={"to_champion": {"macro_f1": gap(0.87, 0.85, paired=False)}})
    assert "+0.0300] (not on the same items, so drawn apart)" in judge(apart, evidence(0.85)).reasons[-1]


def guarded(metrics, *rails, half=HALF, champion=None):
    """Judge a clearly better classifier with further scores under guardrails."""
    rules = POLICY.classification.model_copy(update={"guardrails": list(rails)})
    policy = POLICY.model_copy(update={"classification": rules})
    candidate = evidence(0.9).model_copy(update={"metrics": {"macro_f1": 0.9, **metrics}})
    if champion is None:
        return judge(candidate, policy=policy)
    standing = evidence(0.85).model_copy(update={"metrics": {"macro_f1": 0.85, **champion}})
    gaps = {name: gap(candidate.metrics[name], standing.metrics[name], half) for name in ("macro_f1", "accuracy")}
    return judge(candidate.model_copy(update={"to_champion": gaps}), standing, policy=policy)


ACCURACY = Guardrail(metric="accuracy", margin=0.02, higher_is_better=True, required=True)
LATENCY = Guardrail(metric="latency", margin=5.0, higher_is_better=False, required=True)


@pytest.mark.parametrize(
    ("accuracy", "half", "alias", "said"),
    [
        (0.9, 0.01, "champion", "pass: the guardrail accuracy is held: accuracy 0.9000 against the champion's 0.9000"),
        (0.9, 0.03, "challenger", "fail: the guardrail accuracy is not shown to be held"),
        (0.885, 0.01, "challenger", "fail: the guardrail accuracy is not shown to be held"),
        (0.86, 0.01, None, "fail: the guardrail accuracy is broken: accuracy 0.8600 against the champion's 0.9000"),
    ],
)
def test_a_better_target_must_cost_no_guardrail(accuracy, half, alias, said):
    found = guarded({"accuracy": accuracy}, ACCURACY, half=half, champion={"accuracy": 0.9})
    assert found.alias == alias, found.reasons
    assert found.reasons[-2].startswith(said)
    assert found.reasons[-2].endswith("; its lower end is to be above -0.02.")
    assert found.reasons[-1].startswith("pass: better than the champion")
    told = ACCURACY.model_copy(update={"required": False})
    informed = guarded({"accuracy": accuracy}, told, half=half, champion={"accuracy": 0.9})
    assert informed.alias == "champion"
    assert informed.reasons[-2].startswith("note: the guardrail accuracy")


@pytest.mark.parametrize(
    ("latency", "alias", "told"), [(12.0, "champion", "held"), (15.0, "challenger", "not"), (16.0, None, "broken")]
)
def test_a_guardrail_without_items_is_held_by_its_value(latency, alias, told):
    found = guarded({"accuracy": 0.9, "latency": latency}, LATENCY, champion={"accuracy": 0.9, "latency": 10.0})
    assert found.alias == alias
    assert "against the champion's 10.0000, a gain of -" in found.reasons[-2]
    assert "without an interval; it is to be above -5" in found.reasons[-2]
    assert told in found.reasons[-2]


def test_a_guardrail_that_was_not_measured_is_named():
    found = guarded({}, ACCURACY)
    assert found.alias is None
    assert "fail: the guardrail accuracy was not measured." in found.reasons
    optional = guarded({}, ACCURACY.model_copy(update={"required": False}))
    assert optional.promote
    assert "note: the guardrail accuracy was not measured." in optional.reasons
    old = guarded({"accuracy": 0.9, "latency": 9.0}, LATENCY, champion={"accuracy": 0.9})
    assert old.alias == "challenger"
    assert "fail: the champion's guardrail latency was not measured; assess it again." in old.reasons


def test_the_champion_assessed_again_can_be_compared():
    old = evidence(0.5, digest="d2")
    assert "assess it on this one" in judge(evidence(0.9), old).reasons[-1]
    assert judge(evidence(0.9), old.model_copy(update={"test_digest": "d1"})).promote


def test_the_foundation_is_better_when_bits_are_fewer():
    def foundation(bits):
        return Evidence(
            model="foundation",
            kind="foundation",
            test_digest="d",
            metrics={"bits_per_byte": bits},
            baselines={"unigram": {"bits_per_byte": 3.0}},
            to_baselines=gaps_to({"bits_per_byte": bits}, {"unigram": {"bits_per_byte": 3.0}}),
            audits=[audited(name="occupation_pronoun")],
        )

    assert judge(foundation(2.0)).promote
    assert not judge(foundation(2.96)).promote
    better = judge(foundation(1.9), foundation(2.0))
    assert better.promote
    assert "bits_per_byte 1.9000 against the champion's 2.0000, a gain of +0.1000 [+0.0900, +0.1100]" in str(better)
    assert judge(foundation(2.1), foundation(2.0)).alias is None


def of_kind(kind, metrics, baselines):
    return Evidence(
        model=kind,
        kind=kind,
        test_digest="d",
        metrics=metrics,
        intervals={name: (value - HALF, value + HALF) for name, value in metrics.items()},
        baselines=baselines,
        to_baselines=gaps_to(metrics, baselines),
        audits=[audited(name=name) for name in getattr(POLICY, kind).audits],
    )


@pytest.mark.parametrize(
    ("kind", "metrics", "baselines", "against"),
    [
        ("masked_foundation", {"masked_accuracy": 0.5}, {"unigram": {"masked_accuracy": 0.1}}, None),
        ("masked_foundation", {"masked_accuracy": 0.14}, {"unigram": {"masked_accuracy": 0.1}}, "unigram"),
        ("masked_foundation", {"masked_perplexity": 2.0}, {}, "masked_accuracy was not measured"),
        ("token_classification", {"f1": 0.8}, {"unigram": {"f1": 0.5}, "from_scratch": {"f1": 0.78}}, None),
        ("token_classification", {"f1": 0.8}, {"unigram": {"f1": 0.5}, "from_scratch": {"f1": 0.795}}, "from_scratch"),
        ("token_classification", {"f1": 0.8}, {"unigram": {"f1": 0.78}, "from_scratch": {"f1": 0.1}}, "unigram"),
        ("question_answering", {"f1": 0.8}, {"majority": {"f1": 0.1}, "from_scratch": {"f1": 0.6}}, None),
        ("question_answering", {"f1": 0.8}, {"majority": {"f1": 0.78}, "from_scratch": {"f1": 0.6}}, "majority"),
        ("preference", {"preference_accuracy": 0.8}, {"before": {"preference_accuracy": 0.5}}, None),
        ("preference", {"preference_accuracy": 0.8}, {"before": {"preference_accuracy": 0.78}}, "before"),
        ("preference", {"preference_accuracy": 0.505}, {"before": {"preference_accuracy": 0.4}}, "at least 0.5"),
        ("reward", {"preference_accuracy": 0.8}, {"before": {"preference_accuracy": 0.6}}, None),
        ("reward", {"preference_accuracy": 0.5}, {"before": {"preference_accuracy": 0.4}}, "at least 0.5"),
        ("reward", {"preference_accuracy": 0.8}, {"before": {"preference_accuracy": 0.8}}, "before"),
        ("rlhf", {"mean_reward": 0.4}, {"before": {"mean_reward": -0.2}}, None),
        ("rlhf", {"mean_reward": -0.2}, {"before": {"mean_reward": -0.2}}, "before"),
    ],
)
def test_every_kind_has_its_gate(kind, metrics, baselines, against):
    found = judge(of_kind(kind, metrics, baselines))
    failed = [sentence for sentence in found.reasons if sentence.startswith("fail: ")]
    assert found.promote is (against is None), found.reasons
    assert len(failed) == (against is not None)
    assert all(str(against) in sentence for sentence in failed)


def test_the_audits_that_the_policy_asks_for_are_made():
    for kind in Policy.model_fields:
        if kind != "waivers":
            made = {audit.section for audit in asked(kind, AuditConfig())}
            gates = {name.removesuffix("_amplification") for name in getattr(WHOLE_POLICY, kind).audits}
            assert gates <= made, kind


def test_a_mitigation_excuses_what_the_training_rows_say_and_nothing_else():
    rules = POLICY.classification.model_copy(update={"audits": ["counterfactual", "label_association"]})
    policy = POLICY.model_copy(update={"classification": rules})
    skewed = [audited(), audited("FAIL", 0.4, "label_association")]
    plain = evidence().model_copy(update={"audits": skewed})
    assert not judge(plain, policy=policy).promote
    treated = plain.model_copy(update={"mitigation": "cda"})
    found = judge(treated, policy=policy)
    assert found.promote
    assert any("label_association says FAIL" in reason and "mitigated: cda" in reason for reason in found.reasons)
    flips = treated.model_copy(update={"audits": [audited("FAIL", 0.4), audited(name="label_association")]})
    assert not judge(flips, policy=policy).promote


def test_an_absolute_minimum_is_held():
    rules = POLICY.classification.model_copy(update={"minimum": 0.84})
    policy = POLICY.model_copy(update={"classification": rules})
    sure, unsure = (evidence(0.85).model_copy(update={"intervals": {"macro_f1": (low, 0.87)}}) for low in (0.84, 0.83))
    assert judge(sure, policy=policy).promote
    found = judge(unsure, policy=policy)
    assert not found.promote
    assert found.reasons[0] == "fail: macro_f1 0.8500 [0.8300, 0.8700]; the whole interval is to be at least 0.84."


def test_kinds_are_not_mixed():
    with pytest.raises(ValueError, match="expected kind 'classification', got 'instruction'"):
        judge(evidence(), evidence().model_copy(update={"kind": "instruction"}))


scores = st.floats(0, 1)
champions = st.none() | st.builds(
    evidence,
    score=scores,
    verdict=st.sampled_from(["PASS", "FAIL"]),
    estimate=st.floats(0, 0.1),
    digest=st.sampled_from(["d1", "d2"]),
)


@given(
    score=scores,
    better=scores,
    verdict=st.sampled_from(list(Verdict)),
    estimate=st.floats(0, 0.1),
    scratch=scores,
    champion=champions,
)
def test_better_scores_never_turn_a_promotion_down(score, better, verdict, estimate, scratch, champion):
    low, high = sorted([score, better])
    baselines = BASELINES | {"from_scratch": {"macro_f1": scratch}}
    order = {None: 0, "challenger": 1, "champion": 2}
    worse, improved = (
        judge(evidence(value, verdict.value, estimate, baselines=baselines), champion) for value in (low, high)
    )
    assert order[improved.alias] >= order[worse.alias]
    assert worse.reasons
    assert all(sentence.split(":")[0] in ("pass", "fail", "note") for sentence in improved.reasons)


@given(score=scores, champion=champions)
def test_only_a_pass_or_a_waiver_promotes(score, champion):
    for verdict in ("FAIL", "REFUSED", "INCONCLUSIVE"):
        assert judge(evidence(score, verdict), champion).alias is None
