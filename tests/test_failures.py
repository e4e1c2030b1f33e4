"""What is said of models that failed beside others."""

import traceback

import pytest

from flows.failures import Failures, ModelsFailed


def test_what_starts_from_a_failure_is_skipped_and_the_rest_is_not() -> None:
    failures = Failures()
    failures.errors["a"] = ValueError("a.jsonl: line 3:\n  no label")
    assert failures.blocked("b", ["a"])
    assert failures.blocked("c", ["foundation", "b"])
    assert not failures.blocked("d", ["foundation", "e"])
    assert failures.reasons() == {
        "a": "a.jsonl: line 3: no label",
        "b": "skipped, since a was not made",
        "c": "skipped, since b was not made",
    }


@pytest.mark.parametrize(("errors", "bad"), [([ValueError("x")], True), ([ValueError("x"), RuntimeError("y")], False)])
def test_only_bad_input_alone_is_bad_input(errors: list[Exception], bad: bool) -> None:
    failures = Failures()
    failures.errors |= {str(number): error for number, error in enumerate(errors)}
    failed = ModelsFailed(failures)
    assert failed.bad_input is bad
    assert "0: x" in str(failed)
    assert all(str(error) in "".join(traceback.format_exception(failed)) for error in errors)
