"""Promotions that race for one alias: one winner each time, and the ledger says what the alias says."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from workspaces import environment

from tasks import ledger, registry, tracking

RACER = """
import json, sys
from pathlib import Path
from tasks import ledger, registry

name = sys.argv[1]
print("ready", flush=True)
for line in sys.stdin:
    version, value = line.split()
    # What a promotion does: look at the champion, decide, move the alias, and nobody in between.
    with registry.held(name):
        standing = ledger.rival(name, version)
        better = standing is None or int(value) > int(registry.tags_of(name, standing[0])["value"])
        moved = ledger.promote(name, version) if better else None
    print(json.dumps({"version": version, "moved": moved is not None}), flush=True)
"""


def racer(home: Path, name: str) -> "subprocess.Popen[str]":
    surroundings = environment(home, MLFLOW_TRACKING_URI=f"sqlite:///{home}/mlflow.db", MLFLOW_DISABLE_TELEMETRY="true")
    return subprocess.Popen(
        [sys.executable, "-c", RACER, name],
        cwd=home,
        env=surroundings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: "subprocess.Popen[str]") -> dict[str, object]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the racer ended"
    found: dict[str, object] = json.loads(line)
    return found


def told(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


@pytest.mark.timeout(900)
def test_two_promotions_at_once_have_one_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: bool, dice: random.Random
) -> None:
    """Each round has two versions better than the champion. The best one is champion after it, whoever came first.

    In every third round one of the two is killed at a moment that is drawn; what it began is finished by the next.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client, name = tracking.client(), "raced"
    client.create_registered_model(name)
    racers = [racer(tmp_path, name) for _ in range(2)]
    try:
        for one in racers:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for number in range(100 if torture else 8):
            values = dice.sample(range(10 * number + 1, 10 * number + 11), 2)
            versions = [
                str(client.create_model_version(name, str(tmp_path), tags={"value": str(value)}).version)
                for value in values
            ]
            for one, version, value in zip(racers, versions, values, strict=True):
                told(one, f"{version} {value}")
            killed = dice.randrange(2) if number % 3 == 2 else None
            if killed is not None:
                with pytest.raises(subprocess.TimeoutExpired):
                    racers[killed].wait(dice.random() * 0.3)
                os.kill(racers[killed].pid, signal.SIGKILL)
                racers[killed].wait()
            answers = {versions[i]: said(racers[i])["moved"] for i in range(2) if i != killed}
            if killed is not None:
                racers[killed] = racer(tmp_path, name)
                assert racers[killed].stdout.readline() == "ready\n"  # type: ignore[union-attr]
                told(racers[killed], f"{versions[killed]} {values[killed]}")
                said(racers[killed])
            best = versions[values.index(max(values))]
            moves, (_, aliases) = ledger.moves(name), registry.model_of(name)
            assert aliases["champion"] == best == moves[-1].version, number
            assert moves[-1].done
            assert [move.number for move in moves] == list(range(1, len(moves) + 1))
            assert [move.before for move in moves] == [None, *[move.version for move in moves[:-1]]]
            if killed is None:
                assert answers[best], number
        assert len({move.version for move in moves}) == len(moves), "nobody was promoted twice"
    finally:
        for one in racers:
            one.kill()
            one.wait()
