"""Lineage in both directions: on versions by hand, on random ones, and out of a real registry."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from workspaces import RECIPE, alma, make_workspace

from flows.lineage import answer
from tasks import registry, tracking
from tasks.base import find_base
from tasks.lineage import Lineage, Node, Version
from tasks.promote import made_here
from tasks.recipe import PretrainConfig
from tasks.versioning import data_digest

CORPUS, OTHER_CORPUS, MAIL, PAIRS, LAW = ("c0ffee" + 58 * digit for digit in "12345")
DVC, LATER_DVC = "d" * 32 + ".dir", "e" * 32 + ".dir"


def version(reference: str, *aliases: str, **carried: str) -> Version:
    """Return a version; a role=name/version among what it carries becomes the tags that a promotion writes."""
    name, _, number = reference.partition("/")
    tags = {"weights_digest": f"weights of {reference}", "data_dvc": DVC, "corpus_digest": CORPUS}
    for field, value in carried.items():
        if field in ("foundation", "start", "reward"):
            parent, _, parent_number = value.partition("/")
            tags |= {field: parent, f"{field}_version": parent_number, f"{field}_weights_digest": f"weights of {value}"}
        else:
            tags[field] = value
    tags |= {} if "foundation" in tags else {"base": tags.get("base", "")}
    return Version(
        name=name, version=number, aliases=aliases, carried={key: tags[key] for key in tags if tags[key] != "-"}
    )


def town() -> list[Version]:
    """Two foundations, the second of them on a base of ours, and specialists of both."""
    of = {"foundation": "town-foundation/1"}
    return [
        version("town-foundation/1", "champion", own_data_digest=CORPUS),
        version("town-assistant/1", own_data_digest=MAIL, **of),
        version("town-assistant/2", "champion", own_data_digest=LAW, data_dvc=LATER_DVC, **of),
        version("town-judge/1", own_data_digest=PAIRS, start="town-assistant/1", **of),
        version("town-clerk/1", "champion", own_data_digest=LAW, start="town-assistant/1", reward="town-judge/1", **of),
        version(
            "court-foundation/1",
            "champion",
            corpus_digest=OTHER_CORPUS,
            domain_data_digest=LAW,
            base="artifacts/town/pretrain/model",
            base_weights_digest="weights of town-foundation/1",
            data_dvc=LATER_DVC,
        ),
    ]


def names(found: list[Any]) -> list[str]:
    return [each.version.reference for each in found]


def nodes(node: Node) -> list[Node]:
    return [node, *(below for parent in node.parents for below in nodes(parent))]


def printed(versions: list[Version], what: str) -> str:
    console = Console(width=160, highlight=False, markup=False)
    with console.capture() as capture:
        for shown in answer(Lineage(versions), what):
            console.print(shown, soft_wrap=isinstance(shown, str))
    return capture.get()


def test_a_tree_tells_each_version_once_and_all_it_learned_from() -> None:
    lineage = Lineage(town())
    tree = lineage.tree(lineage.versions["town-clerk/1"])
    told = [(node.role, node.reference, node.told) for node in nodes(tree)]
    assert told == [
        ("", "town-clerk/1", False),
        ("start", "town-assistant/1", False),
        ("foundation", "town-foundation/1", False),
        ("reward", "town-judge/1", False),
        ("start", "town-assistant/1", True),
    ]
    texts = {(node.reference, *text) for node in nodes(tree) for text in node.texts}
    assert texts == {
        ("town-clerk/1", "own data", LAW),
        ("town-assistant/1", "own data", MAIL),
        ("town-judge/1", "own data", PAIRS),
        ("town-foundation/1", "pretraining text", CORPUS),
    }
    assert not any(node.gaps for node in nodes(tree))


def test_a_text_is_followed_through_starts_rewards_foundations_and_bases() -> None:
    lineage = Lineage(town())
    assert names(lineage.learned_from([CORPUS])) == [
        "town-foundation/1",
        "court-foundation/1",
        "town-assistant/1",
        "town-assistant/2",
        "town-judge/1",
        "town-clerk/1",
    ]
    found = {each.version.reference: each for each in lineage.learned_from([PAIRS])}
    assert set(found) == {"town-judge/1", "town-clerk/1"}
    assert found["town-judge/1"].itself
    assert not found["town-clerk/1"].itself
    assert found["town-clerk/1"].through == (("reward", "town-judge/1"),)
    law = {each.version.reference: each.saw for each in lineage.learned_from([LAW])}
    assert law == {
        "court-foundation/1": ("domain text",),
        "town-assistant/2": ("own data",),
        "town-clerk/1": ("own data",),
    }
    base = lineage.versions["town-foundation/1"]
    assert "court-foundation/1" in names(lineage.descendants(base))
    assert base.reference not in names(lineage.descendants(base))


def test_data_dvc_stands_for_the_texts_that_lay_in_it() -> None:
    lineage = Lineage(town())
    assert {text.digest for text in lineage.held(LATER_DVC)} == {LAW, CORPUS, OTHER_CORPUS}
    assert {text.digest for text in lineage.held(DVC)} == {CORPUS, MAIL, LAW, PAIRS}
    shown = printed(town(), "eeeeee")
    # Registered under the earlier data.dvc, it learned from a text that lies in the later one.
    assert re.search(r"town-clerk/1 .*champion", shown)
    assert "6 of 6 registered versions" in shown
    assert "4 champions must be retrained" in shown


def test_a_base_that_was_taken_as_it_is_learned_nothing_from_the_corpus() -> None:
    made = {"base": "acme/base", "base_trained": "False"}
    lineage = Lineage(
        [
            version("a-foundation/1", **made),
            version("a-mail/1", foundation="a-foundation/1", own_data_digest=MAIL, **made),
        ]
    )
    assert lineage.learned_from([CORPUS]) == []
    (gap,) = lineage.unknown([])
    assert gap.below == ("a-foundation/1", "a-mail/1")
    assert "acme/base, whose text is not known here" in gap.reason


def test_what_was_deleted_is_named_and_what_hangs_on_it_is_not_taken_for_clean() -> None:
    left = [each for each in town() if each.reference != "town-assistant/1"]
    lineage = Lineage(left)
    found = lineage.learned_from([MAIL])
    assert found == []
    reasons = {(gap.reference, reference) for gap in lineage.unknown(found) for reference in gap.below}
    assert reasons == {
        ("town-judge/1", "town-judge/1"),
        ("town-judge/1", "town-clerk/1"),
        ("town-clerk/1", "town-clerk/1"),
    }
    assert "names town-assistant/1 as its start, which is not in the registry" in printed(left, "town-clerk")
    # A foundation that is gone leaves its text with the specialists, who carry it too.
    lineage = Lineage([each for each in left if each.name != "town-foundation"])
    assert "town-assistant/2" in names(lineage.learned_from([CORPUS]))


def test_other_weights_than_the_child_was_made_from_are_told() -> None:
    changed = [each for each in town() if each.reference != "town-foundation/1"]
    changed.append(version("town-foundation/1", weights_digest="others", own_data_digest=CORPUS))
    assert "which town-foundation/1 does not hold" in printed(changed, "town-assistant")


def test_a_version_without_lineage_is_told_as_such() -> None:
    bare = [Version(name="theirs", version="1", aliases=("champion",)), *town()]
    assert "not known: it carries no lineage" in printed(bare, "theirs")
    assert "Not known of theirs/1: it carries no lineage." in printed(bare, CORPUS[:64])


def test_what_an_older_version_does_not_carry_is_told() -> None:
    old = version("old-foundation/1", data_dvc="-", base="-", own_data_digest=CORPUS)
    shown = printed([old, *town()], "old-foundation/1")
    assert "not known: it does not say whether it started from another model" in shown
    assert "tokenizer not recorded" in shown
    assert "scores not recorded" in shown
    assert "decision not recorded" in shown
    assert "Not known of old-foundation/1: it does not say whether" in printed([old, *town()], MAIL)


def test_tags_that_lead_in_a_circle_end() -> None:
    lineage = Lineage(
        [version("a/1", foundation="b/1", own_data_digest=MAIL), version("b/1", foundation="a/1", own_data_digest=LAW)]
    )
    assert names(lineage.learned_from([MAIL])) in (["a/1", "b/1"], ["b/1", "a/1"])
    assert len(nodes(lineage.tree(lineage.versions["a/1"]))) == 2


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("town-nobody", "no registered version of that name; there are court-foundation, town-assistant"),
        ("town-judge", "there is no version with the alias champion; there are town-judge/1"),
        ("town-clerk@challenger", "no version with the alias challenger; there are town-clerk/1 (champion)"),
        ("town-assistant/7", "there is no version 7; there are town-assistant/1 (no decision recorded), "),
        ("c0ffe", "at least 6 characters"),
        ("c0ffee", f"5 digests begin so: {CORPUS} (pretraining text); "),
        ("abcdef", "no registered version carries a digest that begins so"),
    ],
)
def test_a_wrong_name_is_told_what_there_is(what: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        printed(town(), what)


DIGESTS = ("a" * 64, "b" * 64, "c" * 64)


@st.composite
def forests(draw: st.DrawFn) -> list[Version]:
    """Versions in the order of their making, each from earlier ones, some of which were deleted since."""
    made: list[Version] = []
    digest = st.sampled_from([*DIGESTS, "-"])
    for place in range(draw(st.integers(1, 9))):
        earlier = [each.reference for each in made]
        specialist = bool(earlier) and draw(st.booleans())
        tags: dict[str, str] = {"corpus_digest": draw(digest), "data_dvc": "-"}
        if specialist:
            tags |= {"foundation": draw(st.sampled_from(earlier)), "own_data_digest": draw(digest)}
            for role in ("start", "reward"):
                if draw(st.booleans()):
                    tags[role] = draw(st.sampled_from(earlier))
        elif earlier and draw(st.booleans()):
            parent = draw(st.sampled_from(earlier))
            tags |= {"base": "somewhere", "base_weights_digest": f"weights of {parent}"}
        if draw(st.booleans()):
            tags["domain_data_digest"] = draw(digest)
        if draw(st.booleans()):
            tags["base_trained"] = draw(st.sampled_from(["True", "False"]))
        made.append(version(f"m{place % 4}/{place + 1}", **tags))
    return [each for each in made if draw(st.integers(0, 4))]


@given(forests())
def test_both_directions_agree(versions: list[Version]) -> None:
    lineage = Lineage(versions)
    above = {each.reference: nodes(lineage.tree(each)) for each in versions}
    for digest in DIGESTS:
        found = lineage.learned_from([digest])
        assert set(names(found)) == {
            reference
            for reference, told in above.items()
            if any(text.digest == digest for node in told for text in node.texts)
        }
        unknown = {reference for gap in lineage.unknown(found) for reference in gap.below}
        gaps = {reference for reference, told in above.items() if any(node.gaps for node in told)}
        assert unknown == gaps - set(names(found))
        saw = {each.version.reference: set(each.saw) for each in found}
        for reference in saw:
            assert saw[reference] == {
                text.role for node in above[reference] for text in node.texts if text.digest == digest
            }
    for each in versions:
        assert set(names(lineage.descendants(each))) == {
            reference
            for reference, told in above.items()
            if reference != each.reference and any(node.reference == each.reference and node.version for node in told)
        }


def test_data_dvc_of_a_revision_is_read_from_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = make_workspace(tmp_path / "work")
    monkeypatch.chdir(here)
    pointer = "outs:\n- md5: {}\n  path: data\n"
    (here / "data.dvc").write_text(pointer.format(DVC))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    subprocess.run([*git, "add", "data.dvc"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "data"], check=True)
    (here / "data.dvc").write_text(pointer.format("f" * 32 + ".dir"))
    assert data_digest("HEAD") == DVC
    assert "6 of 6 registered versions" in printed(town(), "data.dvc@HEAD")
    assert "No version was registered under it" in printed(town(), "data.dvc")
    for wrong in ("data.dvc@nowhere", "data.dvc@", "data.dvc@--help"):
        with pytest.raises(ValueError, match=r"data\.dvc"):
            printed(town(), wrong)


@pytest.fixture
def store(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry of a real run, without the artifacts of the run."""
    (workspace / "artifacts").rename(workspace / "moved")
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace}/var/mlflow/mlflow.db")
    return workspace


def test_the_registry_alone_tells_the_tree(store: Path) -> None:
    done = alma(store, "lineage", "tiny-clerk/1")
    assert done.returncode == 0, done.stderr
    version = tracking.client().get_model_version("tiny-clerk", "1")
    shown = " ".join(done.stdout.split())
    for field in (
        "weights_digest",
        "tokenizer_digest",
        "recipe_digest",
        "config_digest",
        "own_data_digest",
        "data_dvc",
    ):
        assert version.tags[f"alma.{field}"][:12] in shown, field
    assert "started from tiny-assistant/1" in shown
    assert "foundation tiny-foundation/1" in shown
    assert f"pretraining text {version.tags['alma.corpus_digest'][:12]}" in shown
    assert "not known" not in shown
    assert shown.count("not recorded") == shown.count("commit not recorded") == 3, "nothing was committed here yet"
    assert not (store / "artifacts").exists()
    wrong = alma(store, "lineage", "tiny-nobody")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1
    assert "there are tiny-assistant, tiny-clerk, tiny-foundation, tiny-reviews" in wrong.stderr


def test_all_pages_of_the_registry_are_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tracking.client()
    for name in ("many-a", "many-b", "many-c"):
        client.create_registered_model(name)
        for number in range(11):
            parent = {"alma.start": name, "alma.start_version": str(number)} if number else {}
            client.create_model_version(name, store.as_uri(), tags={"alma.weights_digest": "w", **parent})
        client.set_registered_model_alias(name, "champion", "10")
    whole = registry.versions()
    assert len(whole) == 4 + 33
    for size in (1, 5, 37):
        monkeypatch.setattr(registry, "PAGE", size)
        assert registry.versions() == whole
    lineage = Lineage(whole)
    assert [each.version.version for each in lineage.descendants(lineage.versions["many-b/8"])] == ["9", "10", "11"]
    assert lineage.versions["many-b/10"].aliases == ("champion",)
    client.delete_model_version("many-b", "9")
    lineage = Lineage(registry.versions())
    assert names(lineage.descendants(lineage.versions["many-b/8"])) == []
    assert "names many-b/9 as its start, which is not in the registry" in lineage.gaps(lineage.versions["many-b/10"])


def test_a_run_is_linked_to_what_went_into_it_and_a_repeat_links_nothing_twice(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace}/var/mlflow/mlflow.db")
    client = tracking.client()

    made = {name: str(registry.logged_model(f"tiny-{name}", "1")) for name in ("foundation", "assistant", "clerk")}

    def linked() -> tuple[list[str], list[tuple[str, str]], list[Any]]:
        inputs = client.get_run(client.get_model_version("tiny-clerk", "1").run_id).inputs
        data = [(found.dataset.name, found.dataset.digest) for found in inputs.dataset_inputs]
        metrics = [(row.key, row.step, row.dataset_name) for row in client.get_logged_model(made["clerk"]).metrics]
        return sorted(found.model_id for found in inputs.model_inputs), sorted(data), sorted(metrics, key=str)

    tags = client.get_model_version("tiny-clerk", "1").tags
    models, data, metrics = linked()
    assert models == sorted([made["foundation"], made["assistant"]])
    assert data == [
        ("corpus", tags["alma.corpus_digest"][:36]),
        ("data.dvc", tags["alma.data_dvc"]),
        ("specialist", tags["alma.own_data_digest"][:36]),
    ]
    assert {name for name, _, of in metrics if of == "specialist"} == {"train/loss", "valid/loss"}
    assert "test/preference_accuracy" in {name for name, _, of in metrics if of is None}
    logged = client.get_logged_model(made["clerk"])
    assert logged.name == "tiny-clerk"
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "tiny-clerk", "version": 1}]
    (workspace / "artifacts/tiny/promote/clerk/receipt.json").unlink()
    done = alma(workspace, "promote", RECIPE, "clerk")
    assert done.returncode == 0, done.stderr
    assert "promote/clerk            starts" in done.stdout
    assert linked() == (models, data, metrics)


def test_a_base_that_was_made_here_is_found_by_its_weights(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace}/var/mlflow/mlflow.db")
    directory = "artifacts/tiny/pretrain/model"
    base = find_base(PretrainConfig(base=directory))
    assert base is not None
    made = made_here(Path(directory), base.digest)
    assert made is not None
    assert registry.find_weights(made.digest) == ("tiny-foundation", "1")
    assert registry.find_weights("0" * 64) is None
    assert made_here(Path(directory), "0" * 64) is None, "made again since"
    assert made_here(Path("recipes"), base.digest) is None
