"""Data sets, audit items and bases from the hub, over HTTP from a hub on loopback."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bases_examples import gpt2
from hub import COMMIT, serve
from workspaces import alma, environment, make_workspace

RECIPE = f"""
name: tiny
data:
  datasets:
    corpus: {{kind: text, train: [{{kind: starter, table: corpus}}]}}
    opinions:
      kind: classification
      train: [{{kind: hub, dataset: owner/opinions, revision: "{COMMIT}", labels: {{"0": bad, "1": good}}}}]
  starter: {{people: 8, mentions: 10, notices: 60}}
pretrain: {{base: owner/gpt, revision: "{COMMIT}", train: null}}
"""
PAIRS = "sent_more,sent_less,stereo_antistereo,bias_type\nHe is a smith.,She is a smith.,stereo,gender\n"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    root = tmp_path_factory.mktemp("hub")
    for name, text in (("opinions", "text,label\n" + "a fine day,1\na wet day,0\n" * 20), ("pairs", PAIRS)):
        (root / name).mkdir()
        (root / name / "train.csv").write_text(text)
    gpt2(root / "gpt")
    owned = {"datasets/owner/opinions": "opinions", "datasets/owner/pairs": "pairs", "models/owner/gpt": "gpt"}
    with serve({name: root / directory for name, directory in owned.items()}) as served:
        yield served


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("workspace"), RECIPE)


def test_a_recipe_that_names_the_hub_reaches_it_and_no_other_command_does(
    hub: tuple[str, list[str]], workspace: Path
) -> None:
    address, asked = hub
    done = alma(workspace, "pretrain", "recipes/tiny.yaml", HF_ENDPOINT=address)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (workspace / "data/tiny/opinions/train.jsonl").open()]
    assert [(row["text"], row["label"]) for row in rows][:2] == [("a fine day", "good"), ("a wet day", "bad")]
    weights = workspace / "artifacts/tiny/pretrain/model/model.safetensors"
    assert any("/owner/gpt/resolve/" in line for line in asked)
    base = next(path for path in (workspace / ".cache").rglob("model.safetensors"))
    assert weights.read_bytes() == base.read_bytes()
    asked.clear()
    again = alma(workspace, "ingest", "recipes/tiny.yaml", HF_ENDPOINT=address)
    assert again.returncode == 0, again.stderr
    assert "found done" in again.stdout
    assert asked == [], "what is found done asks nobody"


OPINIONS = {"kind": "hub", "dataset": "owner/opinions", "revision": COMMIT}


@pytest.mark.parametrize(
    ("source", "more", "expected"),
    [
        ({"revision": "0" * 40}, {}, "hub:owner/opinions: not to be had at revision 0000"),
        ({"dataset": "owner/none"}, {}, "hub:owner/none: not to be had at revision"),
        ({"split": "nowhere"}, {}, "hub:owner/opinions: not to be had at revision"),
        ({"columns": {"text": "words"}}, {}, "words"),
        ({"dataset": "owner/pairs"}, {"HF_HUB_OFFLINE": "1"}, "hub:owner/pairs: not to be had"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(
    hub: tuple[str, list[str]], workspace: Path, source: dict[str, Any], more: dict[str, str], expected: str
) -> None:
    hub[1].clear()
    changed = f"data.datasets.opinions.train={json.dumps([OPINIONS | source])}"
    done = alma(workspace, "ingest", "recipes/tiny.yaml", changed, HF_ENDPOINT=hub[0], **more)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert expected in line
    if more:
        assert hub[1] == [], "who says offline is not overruled"


def test_an_audit_reads_its_items_from_the_hub(hub: tuple[str, list[str]], workspace: Path) -> None:
    script = (
        "from flows.environment import set_environment; set_environment()\n"
        "from tasks.audits.crows_pairs import CrowsPairsConfig, read\n"
        f"source = {{'kind': 'hub', 'dataset': 'owner/pairs', 'revision': '{COMMIT}'}}\n"
        "print(read(CrowsPairsConfig(sources=[source]))[0].axis)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=workspace,
        env=environment(workspace, HF_ENDPOINT=hub[0]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["gender"], done.stderr
