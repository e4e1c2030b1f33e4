"""The alias `champion` and a person's word on it, in a real registry: promotions, roll backs, approvals, kills."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import ledger, registry, tracking
from tasks.approval import APPROVAL, WAITING, Word, answer, waits, weigh, word
from tasks.decide import Decision

WHY = "it calls every letter a complaint"


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use one registry for all tests, each with a model of its own."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("registry")
        patch.chdir(directory)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{directory}/mlflow.db")
        patch.setenv("GIT_CONFIG_GLOBAL", str(directory / "gitconfig"))
        Path(directory, "gitconfig").write_text("[user]\n\tname = A. Person\n")
        yield


def decision(alias: Any, *reasons: str) -> Decision:
    return Decision(model="x", promote=alias == "champion", alias=alias, reasons=list(reasons))


def made(name: str, *aliases: Any, **tags: str) -> str:
    """Register a model with a version for each alias that the gate gave, and return its name."""
    client = tracking.client()
    client.create_registered_model(name)
    for number, alias in enumerate(aliases, 1):
        carried = {"alma.decision": decision(alias).model_dump_json(), "alma.weights_digest": f"w{number}", **tags}
        client.create_model_version(name, str(Path.cwd()), tags=carried)
    return name


def alias(name: str, which: str = "champion") -> str | None:
    return registry.model_of(name)[1].get(which)


def tags(name: str, version: str) -> dict[str, str]:
    found = registry.tags_of(name, version)
    assert found is not None
    return {tag.removeprefix("alma."): value for tag, value in found.items()}


def test_each_roll_back_goes_one_further_down_and_is_told_on_both_versions() -> None:
    name = made("stack", "champion", "champion", "champion")
    for version in ("1", "2", "3"):
        assert ledger.promote(name, version)
    assert ledger.promote(name, "3") is None, "it is champion already"
    move = ledger.roll_back(name, f"  {WHY} ", ledger.whoami())
    assert (move.version, move.before, move.by, move.reason) == ("2", "3", "A. Person", WHY)
    assert alias(name) == "2"
    back, restored = tags(name, "3"), tags(name, "2")
    assert (back["approval"], back["approval_by"], back["approval_reason"]) == ("rolled back", "A. Person", WHY)
    assert back["rolled_back_to"] == "2"
    assert (restored["restored_by"], restored["restored_reason"], restored["restored_from"]) == ("A. Person", WHY, "3")
    assert back["approval_at"] == restored["restored_at"] == move.at
    assert ledger.roll_back(name, WHY, "B").version == "1", "not back to what was rolled back"
    with pytest.raises(ValueError, match="version 1 is the first champion"):
        ledger.roll_back(name, WHY, "B")
    assert [move.how for move in ledger.moves(name)] == ["promoted"] * 3 + ["rolled back"] * 2
    assert all(move.done for move in ledger.moves(name))


def test_what_cannot_be_rolled_back_is_refused_in_one_line() -> None:
    name = made("refusals", "champion", "champion", "champion")
    with pytest.raises(ValueError, match=r"nobody: no such registered model; there is .*refusals"):
        ledger.roll_back("nobody", WHY, "B")
    with pytest.raises(ValueError, match="reason: expected 1 to 2000 characters, got 0"):
        ledger.roll_back(name, " \n", "B")
    with pytest.raises(ValueError, match="refusals: has no champion to roll back"):
        ledger.roll_back(name, WHY, "B")
    for version in ("1", "2", "3"):
        ledger.promote(name, version)
    client = tracking.client()
    client.delete_model_version(name, "2")
    with pytest.raises(ValueError, match="version 2, the champion before version 3, was deleted"):
        ledger.roll_back(name, WHY, "B")
    client.delete_model_version(name, "3")
    with pytest.raises(ValueError, match="no champion to roll back; version 3, the last one, was deleted"):
        ledger.roll_back(name, WHY, "B")


def test_a_kill_at_any_write_is_finished_by_the_same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    writes = 0

    def killed_at(limit: int) -> None:
        def counted(write: Any) -> Any:
            def call(*arguments: Any) -> None:
                nonlocal writes
                if writes == limit:
                    raise KeyboardInterrupt
                writes += 1
                write(*arguments)

            return call

        monkeypatch.setattr(registry, "note", counted(note))
        monkeypatch.setattr(registry, "point", counted(point))

    note, point = registry.note, registry.point
    limit, killed = 0, True
    while killed:
        name = made(f"killed-{limit}", "champion", "champion")
        point(name, "champion", "2")
        writes, killed = 0, False
        killed_at(limit)
        try:
            ledger.roll_back(name, WHY, "B")
        except KeyboardInterrupt:
            killed = True
        monkeypatch.undo()
        if killed:
            assert ledger.roll_back(name, WHY, "B").version == "1"
        assert alias(name) == "1", f"killed at write {limit}"
        assert [move.how for move in ledger.moves(name)].count("rolled back") == 1
        assert tags(name, "2")["approval"] == "rolled back"
        limit += 1
    assert limit > 10, "an entry, tags of two versions, the alias, the entry again"


def test_a_move_by_other_means_is_found_and_not_undone() -> None:
    name = made("by-hand", "champion", "champion", "champion")
    for version in ("1", "2"):
        ledger.promote(name, version)
    tracking.client().set_registered_model_alias(name, "champion", "3")
    assert ledger.roll_back(name, WHY, "B").version == "2", "from 3, which a click made champion"
    tracking.client().set_registered_model_alias(name, "champion", "1")
    assert ledger.rival(name, None) == ("1", {})
    assert [(move.how, move.version) for move in ledger.moves(name)][2:] == [
        ("found", "3"),
        ("rolled back", "2"),
        ("found", "1"),
    ]


def test_before_there_was_a_ledger_the_decisions_tell() -> None:
    name = made("older", "champion", None, "champion", "challenger")
    tracking.client().set_registered_model_alias(name, "champion", "3")
    assert ledger.champions(name) == ["1", "3"]
    assert ledger.roll_back(name, WHY, "B").version == "1"
    assert ledger.champions(name) == ["1"]
    other = made("older-promoted", "champion", "champion", "champion")
    tracking.client().set_registered_model_alias(other, "champion", "2")
    ledger.promote(other, "3")
    assert ledger.champions(other) == ["1", "2", "3"]


def test_a_champion_decided_again_is_held_against_the_one_before() -> None:
    name = made("again", "champion", "champion", **{registry.EVIDENCE: '{"kind": "reward"}'})
    assert ledger.rival("nowhere", None) is None
    for version in ("1", "2"):
        ledger.promote(name, version)
    assert ledger.rival(name, "9") == ("2", {"kind": "reward"})
    assert ledger.rival(name, "2") == ("1", {"kind": "reward"})


def test_what_was_rolled_back_does_not_return_under_another_number() -> None:
    name = made("returns", "champion", "champion")
    for version in ("1", "2"):
        ledger.promote(name, version)
    assert word(name, "2", "w2") is None
    ledger.roll_back(name, WHY, "B")
    for version in ("2", None, "7"):
        said = word(name, version, "w2")
        assert said is not None
        assert (said.version, said.state, said.reason) == ("2", "rolled back", WHY)
        held = weigh(decision("champion", "pass: better."), said, asked=False)
        assert (held.promote, held.alias) == (False, None)
        assert WHY in held.reasons[-1]
        assert "approve x/2" in held.reasons[-1]
    assert word(name, None, "w1") is None
    assert (
        answer(name, "2", "approve", "it was the data", "C") == f"{name}/2 is champion: approved by C: it was the data"
    )
    assert (alias(name), ledger.champions(name)) == ("2", ["1", "2"])
    said = word(name, "2", "w2")
    assert said is not None
    assert weigh(decision("champion"), said, asked=True).alias == "champion"
    assert word(name, "7", "w2") is None, "an approval is of what was seen"


def test_a_person_can_hold_back_and_let_through_what_waits_and_nothing_else() -> None:
    passed = decision("champion", "pass: better.")
    waiting = weigh(passed, None, asked=True)
    assert (waiting.promote, waiting.alias, waiting.reasons[-1]) == (False, "challenger", WAITING)
    assert waits(passed, waiting)
    assert not waits(decision("challenger"), weigh(decision("challenger"), None, asked=True))
    assert weigh(decision(None, "fail: worse."), None, asked=True) == decision(None, "fail: worse.")
    assert weigh(passed, None, asked=False) == passed

    name = made("waiting", "champion", "challenger", "challenger", None, "challenger")
    ledger.promote(name, "1")
    for version in ("2", "3"):
        registry.note(name, APPROVAL, "awaiting", version)
        registry.note(name, registry.DECISION, waiting.model_dump_json(), version)
    registry.point(name, "challenger", "3")
    assert answer(name, "3", "reject", WHY, "C") == f"{name}/3 is refused: rejected by C: {WHY}"
    assert (alias(name), alias(name, "challenger")) == ("1", None)
    assert json.loads(tags(name, "3")["decision"])["reasons"][-1].startswith("fail: rejected by C on ")
    registry.point(name, "challenger", "2")
    assert answer(name, "2", "approve", "read it", "C").endswith("approved by C: read it")
    assert (alias(name), alias(name, "challenger")) == ("2", None)
    told = json.loads(tags(name, "2")["decision"])
    assert (told["alias"], WAITING in told["reasons"]) == ("champion", False)
    assert (tags(name, "2")["approval"], tags(name, "2")["approval_by"]) == ("approved", "C")
    assert weigh(passed, Word(version="3", state="rejected", by="C", reason=WHY), asked=True).alias is None
    for version, said in (
        ("2", "is the champion"),
        ("3", "does not wait for a person: it is rejected by C"),
        ("4", "does not wait for a person: the gate refused it"),
        ("5", "the gate did not find it better than the champion"),
        ("9", "no such registered version"),
    ):
        with pytest.raises(ValueError, match=said):
            answer(name, version, "approve", "because", "C")
    with pytest.raises(ValueError, match="reason: expected"):
        answer(name, "5", "approve", " ", "C")
