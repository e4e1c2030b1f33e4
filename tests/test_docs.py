"""The commands of the documentation: each is one that exists, and those of the first hour run as they stand."""

import csv
import re
import shlex
import sys
from pathlib import Path

import pytest
from workspaces import PROJECT, alma, make_workspace

from flows.__main__ import BEFORE, FLOWS, SERVERS, STEPS, TERMINAL
from tasks.recipe import load_recipe

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
PYTHON = ".venv/bin/python -m flows"
FIRST_HOUR = (PROJECT / "docs" / "first-hour.md").read_text()


def commands(text: str) -> list[str]:
    """Return the commands of a page: lines of fenced blocks, and code within lines."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line.split("  #")[0].strip() for line in [*lines, *inline]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists(page: Path) -> None:
    targets = re.findall(r"^([\w-]+(?: [\w-]+)*):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    known = {word for target in targets for word in target.split()} | {".venv/installed"}
    for command in commands(page.read_text(encoding="utf-8")):
        if re.fullmatch(r"make( [\w./-]+)+( \w+=\S+)?", command):
            assert {word for word in command.split()[1:] if "=" not in word} <= known, command
        if PYTHON in command:
            name, *rest = shlex.split(command.split(PYTHON)[1]) or ["--help"]
            assert name in {*FLOWS, *STEPS, *BEFORE, *SERVERS, *TERMINAL, "--help"}, command
            for word in rest:
                if re.fullmatch(r"recipes/\w[\w-]*\.yaml", word) and "desk" not in word:
                    load_recipe(PROJECT / word, [over for over in rest if "=" in over and "/path/" not in over])


def test_pages_that_are_named_are_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_first_hour_runs_as_it_stands(tmp_path: Path) -> None:
    """Its recipe and its commands, on generated text, with seconds in place of minutes."""
    from tasks.sources import StarterConfig
    from tasks.starter.generate import generate

    workspace = make_workspace(tmp_path / "desk")
    tables = generate(StarterConfig(people=8, mentions=12, notices=60))
    (workspace / "text" / "corpus").mkdir(parents=True)
    corpus = [row["text"] for row in tables["corpus"]["train"]]
    (workspace / "text" / "corpus" / "town.txt").write_text("\n\n".join(corpus))
    with (workspace / "text" / "tickets.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["message", "queue"])
        rows.writerows([row["text"], row["label"]] for row in tables["reviews"]["train"])
    recipe = re.search(r"```yaml\n(name: desk.*?)```", FIRST_HOUR, re.DOTALL)
    assert recipe is not None
    assert "budget: 10 minutes" in recipe[1]
    (workspace / "recipes" / "desk.yaml").write_text(recipe[1].replace("10 minutes", "10 seconds"))
    asked = [command.split(PYTHON)[1] for command in commands(FIRST_HOUR) if command.startswith(PYTHON)]
    assert [words.split()[0] for words in asked] == [
        *["plan", "pipeline", "lineage", "lineage", "export", "pipeline", "compare"]
    ]
    for words in asked:
        done = alma(workspace, *shlex.split(words))
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    assert (workspace / "out" / "tickets" / "README.md").exists()
    assert (workspace / "artifacts" / "desk" / "report" / "report.html").exists()
    assert sys.version_info >= (3, 11), "as the page says"
