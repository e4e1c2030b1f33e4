"""Secrets of the environment stand in no file, log, tag or database after a run that fails and one that does not."""

import os
from pathlib import Path

import pytest
from workspaces import RECIPE, alma

# (A user's name is none: MLflow itself keeps who logged a model.)
SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "canary-password-4711",
    "PREFECT_API_AUTH_STRING": "alma:canary-auth-4711",
    "HF_TOKEN": "hf_canary-token-4711",
    "ALMA_API_KEY": "canary-key-4711",
    "AWS_SECRET_ACCESS_KEY": "canary-aws-4711",
}


def holders(root: Path) -> list[str]:
    """Return the files below a directory that have one of the secrets in their name or their bytes."""
    words = [value.rpartition(":")[2].encode() for value in SECRETS.values()]
    found = []
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            content = path.read_bytes() if path.is_file() else b""
            if any(word in content or word in path.name.encode() for word in words):
                found.append(path.relative_to(root).as_posix())
    return found


@pytest.mark.timeout(400)
def test_no_secret_is_found_after_a_failing_run(workspace: Path) -> None:
    """The training diverges, so that traceback, error log, states of both servers and MLflow's run are all written."""
    fails = "specialists.reviews.train.learning_rate=1.0e+30"
    done = alma(workspace, "finetuning", RECIPE, "reviews", fails, **SECRETS)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "stopped before the update" in done.stderr
    assert (workspace / "var/log/last-error.txt").exists()
    again = alma(workspace, "promote", RECIPE, "reviews", "specialists.reviews.train.learning_rate=2.0e-3", **SECRETS)
    assert again.returncode == 0, again.stdout + again.stderr
    assert not [line for line in (done.stdout, done.stderr, again.stdout, again.stderr) if "4711" in line]
    assert holders(workspace) == []
    # What looks for them does find one.
    (workspace / "left.txt").write_text("x canary-aws-4711 y")
    assert holders(workspace) == ["left.txt"]
