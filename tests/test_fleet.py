"""The fleet: who is stale, by hand and in a real registry; a refresh that renews one model and keeps another."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fleet_examples import fleet, histories, version
from registered_examples import FOUNDATION, register_noise
from rich.console import Console
from workspaces import RECIPE, alma

from flows.fleet_tree import show
from tasks import ledger, registry
from tasks.base import find_base, pin_base, registered_base
from tasks.fleet import Change, Member, changes, due, keep_changes, last_changes, muster, recipe_file, standing
from tasks.fleet_page import arrange, headline, markdown, state, write_page
from tasks.lineage import Lineage
from tasks.recipe import PretrainConfig, load_recipe

DESK = """
extends: tiny.yaml
name: desk
policy: mlflow/desk.yaml
pretrain: {model: null, train: null, base: "models:/tiny-foundation@champion"}
specialists: {assistant: null, clerk: null}
"""


def members() -> dict[str, Member]:
    return {member.name: member for member in muster(fleet(), histories())}


def test_what_an_older_foundation_left_behind_is_stale_through_any_number_of_models() -> None:
    found = members()
    assert {name: state(member) for name, member in found.items()} == {
        "town-foundation": "fresh",
        "town-reviews": "fresh",
        "town-assistant": "fresh",
        "town-clerk": "fresh",
        "desk-foundation": "fresh",
        "desk-names": "fresh",
        "desk-mail": "kept",
        "court-foundation": "stale",
        "court-rulings": "stale",
    }
    behind = [(each.role, each.reference, each.champion, each.why) for each in found["court-rulings"].behind]
    assert behind == [("base", "town-foundation/1", "town-foundation/2", "")]
    assert [each.reference for each in found["desk-mail"].behind] == ["desk-foundation/1", "town-foundation/1"]
    assert [(member.name, member.depth) for member in found.values()][:3] == [
        ("town-foundation", 0),
        ("court-foundation", 1),
        ("court-rulings", 2),
    ]
    assert found["town-clerk"].parent == "town-assistant"
    assert standing(fleet()[0]) == "replaced"
    assert headline(list(found.values())) == (
        "9 models from town-foundation; 9 with a champion, 6 of them fresh; 2 stale (court-foundation and "
        "court-rulings); 1 kept, since the gate held the new one back (desk-mail)."
    )


def test_the_same_weights_under_another_number_make_nothing_stale() -> None:
    again = version("town-foundation/3", "foundation", 1.887, "champion", base="", weights_digest="weights of x")
    moved = [
        each.model_copy(update={"aliases": ()}) if each.reference == "town-foundation/2" else each for each in fleet()
    ]
    assert state({each.name: each for each in muster([*moved, again])}["town-reviews"]) == "stale"
    same = again.model_copy(update={"carried": again.carried | {"weights_digest": "weights of town-foundation/2"}})
    assert state({each.name: each for each in muster([*moved, same])}["town-reviews"]) == "fresh"


def test_a_foundation_trained_on_from_its_own_last_version_leaves_nobody_behind() -> None:
    again = version("town-foundation/2", "foundation", 1.887, "champion", base="models:/town-foundation/1")
    mail = version("town-mail/1", "classification", 0.9, "champion", foundation="town-foundation/2")
    found = {each.name: each for each in muster([fleet()[0], again, mail])}
    assert {name: (member.parent, state(member)) for name, member in found.items()} == {
        "town-foundation": ("", "fresh"),
        "town-mail": ("town-foundation", "fresh"),
    }


def test_a_refresh_runs_other_recipes_once_each_and_the_nearest_first() -> None:
    found = list(members().values())
    assert due(found, "", set()) == due(found, "town-foundation", set()) == "court"
    assert due(found, "desk-foundation", set()) is None, "what the gate refused is not made again"
    assert due(found, "", {"court"}) is None
    # Within a recipe its own pipeline derives its specialists again.
    own = version("town-foundation/3", "foundation", 1.8, "champion", base="")
    moved = [
        each.model_copy(update={"aliases": ()}) if each.reference == "town-foundation/2" else each for each in fleet()
    ]
    later = {each.name: each for each in muster([*moved, own])}
    assert state(later["town-reviews"]) == "stale"
    assert not later["town-reviews"].elsewhere
    assert due(list(later.values()), "", set()) == "court"
    assert due(list(later.values()), "", {"court"}) == "desk"


def test_what_a_refresh_did_is_told_of_each_model() -> None:
    before = [each for each in fleet() if each.reference not in ("desk-mail/2", "desk-names/2", "desk-foundation/2")]
    names = version("desk-names/1", "token_classification", 0.9, "champion", foundation="desk-foundation/1")
    before += [names, version("desk-foundation/1", "foundation", 1.99, "champion", base="models:/town-foundation/1")]
    done = {change.name: change for change in changes("desk", muster(before), muster(fleet()))}
    assert {name: (change.before, change.after, change.outcome) for name, change in done.items()} == {
        "desk-foundation": ("1", "2", "renewed"),
        "desk-names": ("1", "2", "renewed"),
        "desk-mail": ("1", "1", "kept"),
    }
    assert done["desk-mail"].reasons[0].startswith("worse than the champion: ")
    failed = changes("court", muster(fleet()), muster(fleet()), "the disk is full")
    assert {(change.outcome, change.reasons) for change in failed} == {("failed", ("the disk is full",))}


def test_page_artifact_and_terminal_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = version(
        "town-<i>odd/1",
        "classification",
        0.5,
        reasons=("fail: a <b>bold</b> claim | no.",),
        foundation="town-foundation/1",
    )
    change = Change(name="desk-mail", recipe="desk", before="1", after="1", outcome="kept", reasons=("worse",))
    assert last_changes() == ("", [])
    keep_changes([change], "2025-11-16T10:00:00+00:00")
    page = arrange(muster([*fleet(), odd], histories()), *last_changes())
    write_page(page)
    text = Path("artifacts/fleet.html").read_text()
    assert "<script" not in text
    assert "<b>bold" not in text
    assert "<i>odd" not in text
    drawing = ElementTree.fromstring(re.findall(r"<svg.*?</svg>", text, re.DOTALL)[0])
    space = "{http://www.w3.org/2000/svg}"
    names = [each.text for each in drawing.iter(f"{space}text") if each.get("class") == "name"]
    assert len(names) == 10
    boxes = [
        (float(each.get("x", "")), float(each.get("y", "")))
        for each in drawing.iter(f"{space}rect")
        if each.get("class") == "box"
    ]
    assert len(set(boxes)) == 10, "no box lies on another"
    assert all(abs(y - other) >= 74 for x, y in boxes for at, other in boxes if x == at and y != other)
    dashed = [each for each in drawing.iter(f"{space}path") if each.get("class") == "edge behind"]
    assert len(dashed) == 4
    console = Console(width=200, record=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rich.console.Console", lambda **_: console)
        show(page)
    for said in (text, markdown(page), console.export_text()):
        assert "worse than the champion" in said
        assert "descends from town-foundation/1; the champion is town-foundation/2" in said
        assert "old champion kept" in said
    assert arrange([], "", [])["headline"] == "No model is registered yet."


def test_a_recipe_is_found_by_the_name_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    corpus = "{corpus: {kind: text, train: [{kind: starter, table: corpus}]}}"
    for file, name in (("a", "desk"), ("b", "court"), ("c", "court")):
        text = f"name: {name}\ndata: {{starter: {{}}, datasets: {corpus}}}\npretrain: {{base: x, train: null}}\n"
        Path(f"recipes/{file}.yaml").write_text(text)
    Path("recipes/broken.yaml").write_text("name: [")
    assert recipe_file("desk") == Path("recipes/a.yaml")
    with pytest.raises(ValueError, match=r"names itself court, found recipes/b\.yaml, recipes/c\.yaml"):
        recipe_file("court")
    with pytest.raises(ValueError, match="names itself mail, found none"):
        recipe_file("mail")


@pytest.mark.slow
def test_a_new_foundation_is_followed_and_what_gets_worse_keeps_its_champion(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe on a registered foundation; then its champion becomes one that knows nothing."""
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace}/var/mlflow/mlflow.db")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    Path("recipes/desk.yaml").write_text(DESK)
    policy = Path("mlflow/promotion.yaml").read_text()
    for floor in ("from_scratch, margin: 0.0, required: true", "tfidf_lr, margin: 0.0, required: true"):
        policy = policy.replace(floor, floor.replace("true", "false"))
    policy = policy.replace("audits: [counterfactual, group_fairness, label_association]", "audits: []")
    Path("mlflow/desk.yaml").write_text(policy.replace("audits: [occupation_pronoun]", "audits: []"))

    recipe = pin_base(load_recipe("recipes/desk.yaml"))
    assert recipe.pretrain.base == "models:/tiny-foundation/1"
    assert registered_base("somewhere/else") is None
    base = find_base(recipe.pretrain)
    assert base is not None
    assert base.directory.name == "model"
    with pytest.raises(ValueError, match="no such registered version; there is tiny-foundation/1 champion"):
        find_base(PretrainConfig(base="models:/tiny-foundation@nobody"))
    done = alma(workspace, "pipeline", "recipes/desk.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert registry.model_of("desk-reviews")[1] == {"champion": "1"}, done.stdout
    made = Lineage(registry.versions()).versions["desk-foundation/1"]
    assert [(parent.role, parent.reference) for parent in Lineage(registry.versions()).parents(made)] == [
        ("base", "tiny-foundation/1")
    ]
    looked = alma(workspace, "fleet")
    assert looked.returncode == 0, looked.stderr
    assert "stale" not in looked.stdout.partition("Page")[0].replace("0 stale", "")

    noise = register_noise(workspace)
    assert ledger.promote(FOUNDATION, noise)
    refreshed = alma(workspace, "fleet", "--refresh")
    assert refreshed.returncode == 0, refreshed.stdout + refreshed.stderr
    kept: dict[str, Any] = {
        each["name"]: each for each in json.loads(Path("artifacts/fleet.json").read_text())["changes"]
    }
    assert {name: (each["before"], each["outcome"]) for name, each in kept.items()} == {
        "desk-foundation": ("1", "kept"),
        "desk-reviews": ("1", "kept"),
    }, kept
    assert registry.model_of("desk-reviews")[1]["champion"] == "1"
    assert (registry.tags_of("desk-foundation", "2") or {})["alma.base"] == f"models:/tiny-foundation/{noise}"
    assert any("worse than the champion" in reason for reason in kept["desk-reviews"]["reasons"])
    assert any("does not beat the baseline unigram" in reason for reason in kept["desk-foundation"]["reasons"])
    page = Path("artifacts/fleet.html").read_text()
    assert "old champion kept" in page
    assert "worse than the champion" in page
    again = alma(workspace, "pipeline", "recipes/desk.yaml")
    assert " starts" not in again.stdout, "the alias did not move"

    ledger.roll_back(FOUNDATION, "it knows nothing", "A. Person")
    assert state({each.name: each for each in muster(registry.versions())}["desk-reviews"]) == "fresh"
    assert RECIPE in alma(workspace, "fleet", "recipes/tiny.yaml").stderr
