"""Lineage, read from what the registered versions carry: where a version comes from, and what a text has gone into.

Both directions work on the tags alone, so they need neither the artifacts nor the stores of the text. What a
version does not carry, or what the version that it names carried before it was deleted, is a gap: it is told, and a
version below a gap is never taken for one that has not seen a text.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from models.config import Config

PREFIX = "alma."
"""Before every tag of ours in the registry."""
REGISTERED = "models:/"
"""How a base begins that is a model of the registry: models:/name@alias, or models:/name/version."""
ROLES = ("start", "reward", "foundation", "base")
"""How one model goes into another, in the order in which a tree tells them."""
SHORT = 12
"""Characters of a digest where it is shown."""
PRETRAINING, DOMAIN, OWN = "pretraining text", "domain text", "own data"


class Version(Config):
    """A registered version: its name, the aliases that point at it, and what it carries."""

    name: str
    version: str
    aliases: tuple[str, ...] = ()
    run_id: str = ""
    created: int = 0
    """Milliseconds since 1970."""
    carried: dict[str, str] = {}
    """Its tags without their prefix; what was None when it was written is left out."""

    @property
    def reference(self) -> str:
        """Return what the registry finds it by: name/version."""
        return f"{self.name}/{self.version}"

    @property
    def day(self) -> str:
        """Return the day of its registration (UTC)."""
        return datetime.fromtimestamp(self.created / 1000, UTC).date().isoformat()


class Text(NamedTuple):
    """A text that weights learned from, by the digest of what was prepared of it."""

    role: str
    digest: str


class Parent(NamedTuple):
    """A model that went into another one."""

    role: str
    reference: str
    """name/version; the name alone where no version was recorded, or what a recipe calls a base from elsewhere."""
    version: Version | None
    """None: not in the registry."""
    weights: str
    """The digest of the weights that the child was made from; empty where it carries none."""


class Node(NamedTuple):
    """A version in the tree of another one."""

    role: str
    """How it went into the one above; empty for the one that was asked for."""
    reference: str
    version: Version | None
    texts: tuple[Text, ...]
    """What it learned from itself, not by way of a parent."""
    gaps: tuple[str, ...]
    """What is not known of what it learned from."""
    parents: tuple["Node", ...]
    told: bool = False
    """Stands elsewhere in the tree with all that belongs to it."""


class Descendant(NamedTuple):
    """A version that a text, or another version, has gone into."""

    version: Version
    saw: tuple[str, ...]
    """What the text was to it, or to the ones in between."""
    itself: bool
    """It learned from it directly, perhaps by way of a parent too."""
    through: tuple[tuple[str, str], ...]
    """(role, name/version) of the parents by way of which it did."""


class Gap(NamedTuple):
    """A version of which it is not known what it learned from, and those that descend from it."""

    reference: str
    reason: str
    below: tuple[str, ...]


class Lineage:
    """The registered versions, and which of them went into which."""

    def __init__(self, versions: Iterable[Version]) -> None:
        self.versions = {version.reference: version for version in versions}
        self._by_weights: dict[str, Version] = {}
        for version in self.versions.values():
            self._by_weights.setdefault(version.carried.get("weights_digest", ""), version)
        self._children: dict[str, list[tuple[str, Version]]] = defaultdict(list)
        for version in self.versions.values():
            for parent in self.parents(version):
                if parent.version is not None:
                    self._children[parent.reference].append((parent.role, version))

    def parents(self, version: Version) -> list[Parent]:
        """Return the models that went into a version, the nearest first."""
        found, carried = [], version.carried
        for role in ROLES[:-1]:
            if role in carried:
                number = carried.get(f"{role}_version")
                reference = f"{carried[role]}/{number}" if number else carried[role]
                weights = carried.get(f"{role}_weights_digest", "")
                found.append(Parent(role, reference, self.versions.get(reference), weights))
        if carried.get("base") and is_foundation(version):
            weights = carried.get("base_weights_digest", "")
            base = self._by_weights.get(weights) if weights else None
            if carried["base"].startswith(REGISTERED):  # names the version itself
                base = self.versions.get(carried["base"].removeprefix(REGISTERED))
            reference = base.reference if base else carried["base"].removeprefix(REGISTERED)
            found.append(Parent("base", reference, base, weights))
        return found

    def trainings(self, version: Version) -> list[Version]:
        """Return the versions whose trainings made a version's weights out of a base's, the last training first.

        A foundation that was taken as it is from another version was registered, and not trained, under its name.
        """
        found: list[Version] = []
        at: Version | None = version
        while at is not None and at not in found:
            base = next((parent.version for parent in self.parents(at) if parent.role == "base"), None)
            if base is None or at.carried.get("base_trained") != "False":
                found.append(at)
            at = base
        return found or [version]

    def texts(self, version: Version) -> list[Text]:
        """Return the texts that a version learned from itself.

        A specialist carries the pretraining text of its foundation too. Where the foundation is there to say so
        itself, that is not said twice.
        """
        carried, found = version.carried, []
        corpus = carried.get("corpus_digest", "")
        foundation = self.versions.get(f"{carried.get('foundation')}/{carried.get('foundation_version')}")
        says_so = foundation is not None and foundation.carried.get("corpus_digest") == corpus
        if carried.get("base_trained") != "False" and not says_so:
            found.append(Text(PRETRAINING, corpus))
        found.append(Text(DOMAIN, carried.get("domain_data_digest", "")))
        if not is_foundation(version):
            found.append(Text(OWN, carried.get("own_data_digest", "")))
        return [text for text in found if text.digest]

    def gaps(self, version: Version) -> list[str]:
        """Say what is not known of what a version learned from."""
        carried, found = version.carried, []
        if "weights_digest" not in carried:
            return ["carries no lineage"]
        if "corpus_digest" not in carried:
            found.append("does not carry the digest of its pretraining text")
        if is_foundation(version) and "base" not in carried:
            found.append("does not say whether it started from another model")
        if not is_foundation(version) and "own_data_digest" not in carried:
            found.append("does not carry the digest of its own data")
        for parent in self.parents(version):
            if parent.version is None and parent.role == "base":
                found.append(f"started from {parent.reference}, whose text is not known here")
            elif parent.version is None:
                found.append(f"names {parent.reference} as its {parent.role}, which is not in the registry")
            elif parent.weights and parent.weights != parent.version.carried.get("weights_digest", parent.weights):
                found.append(f"was made from weights {parent.weights[:SHORT]}, which {parent.reference} does not hold")
        return found

    def tree(self, version: Version) -> Node:
        """Return all that a version comes from, each version told in full once."""
        return self._node("", version.reference, version, {})

    def _node(self, role: str, reference: str, version: Version | None, told: dict[str, bool]) -> Node:
        if version is None or reference in told:
            return Node(role, reference, version, (), (), (), told=version is not None)
        told[reference] = True
        parents = []
        for parent in self.parents(version):
            if parent.role == "foundation" and parent.reference in told:
                continue  # stands below the start already
            parents.append(self._node(parent.role, parent.reference, parent.version, told))
        return Node(role, reference, version, tuple(self.texts(version)), tuple(self.gaps(version)), tuple(parents))

    def learned_from(self, digests: Iterable[str]) -> list[Descendant]:
        """Return the versions that one of the texts has gone into, those before their descendants."""
        wanted = set(digests)
        seeds = {
            reference: saw
            for reference, version in self.versions.items()
            if (saw := {text.role for text in self.texts(version) if text.digest in wanted})
        }
        return self._below(seeds)

    def descendants(self, version: Version) -> list[Descendant]:
        """Return the versions that a version has gone into."""
        found = self._below({version.reference: {""}})
        return [descendant for descendant in found if descendant.version.reference != version.reference]

    def unknown(self, besides: Iterable[Descendant]) -> list[Gap]:
        """Return the gaps below which there are versions that may have seen a text, besides those that did."""
        known, found = {descendant.version.reference for descendant in besides}, []
        for reference, version in sorted(self.versions.items(), key=lambda item: _natural(item[0])):
            reasons = self.gaps(version)
            below = [other.version.reference for other in self._below({reference: {""}})] if reasons else []
            open_ones = tuple(other for other in below if other not in known)
            if open_ones:
                found += [Gap(reference, reason, open_ones) for reason in reasons]
        return found

    def _below(self, seeds: dict[str, set[str]]) -> list[Descendant]:
        """Carry what each seed saw down to its descendants, until nothing is added."""
        saw: dict[str, set[str]] = defaultdict(set)
        through: dict[str, set[tuple[str, str]]] = defaultdict(set)
        waiting = list(seeds.items())
        for reference, what in waiting:
            if reference in saw and what <= saw[reference]:
                continue
            saw[reference] |= what
            for role, child in self._children[reference]:
                through[child.reference].add((role, reference))
                waiting.append((child.reference, set(saw[reference])))
        depths: dict[str, int] = {}
        ordered = sorted(saw, key=lambda reference: (self._depth(reference, depths), _natural(reference)))
        return [
            Descendant(
                self.versions[reference],
                tuple(sorted(saw[reference])),
                reference in seeds,
                tuple(sorted(through[reference], key=lambda step: (ROLES.index(step[0]), step[1]))),
            )
            for reference in ordered
        ]

    def _depth(self, reference: str, found: dict[str, int]) -> int:
        """Return how many models lead to a version on the longest way; ``found`` keeps what was counted."""
        if reference not in found:
            found[reference] = 0  # tags that lead in a circle end here
            parents = [parent.reference for parent in self.parents(self.versions[reference]) if parent.version]
            found[reference] = 1 + max((self._depth(parent, found) for parent in parents), default=0)
        return found[reference]

    def digests(self) -> dict[str, dict[str, set[str]]]:
        """Return every digest of a text -> what it is -> the versions that carry it; ``data.dvc`` is one of them."""
        found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for version in self.versions.values():
            for text in self.texts(version):
                found[text.digest][text.role].add(version.reference)
            if "data_dvc" in version.carried:
                found[version.carried["data_dvc"]]["data.dvc"].add(version.reference)
        return found

    def siblings(self, found: Iterable[Descendant], besides: Iterable[str]) -> list[tuple[Text, str]]:
        """Return the other texts that other versions of the same models learned from, each with such a version.

        A document may stand in several of them: in a corpus before and after it was cleaned in another way.
        """
        models = {(each.version.name, role) for each in found if each.itself for role in each.saw}
        others = {
            text: version.reference
            for version in self.versions.values()
            for text in self.texts(version)
            if (version.name, text.role) in models and text.digest not in set(besides)
        }
        return sorted(others.items())

    def held(self, data_dvc: str) -> list[Text]:
        """Return the texts in a version of ``data/``, as far as versions registered under it learned from them.

        What these started from in the same recipe may have been registered under an earlier ``data.dvc`` and found
        done: its text was still there, so it counts. A base comes from elsewhere and does not.
        """
        waiting = [version for version in self.versions.values() if version.carried.get("data_dvc") == data_dvc]
        seen, found = {version.reference for version in waiting}, set()
        for version in waiting:
            found |= set(self.texts(version))
            for parent in self.parents(version):
                if parent.role != "base" and parent.version is not None and parent.reference not in seen:
                    seen.add(parent.reference)
                    waiting.append(parent.version)
        return sorted(found)


def is_foundation(version: Version) -> bool:
    """Return whether a version is nobody's specialist."""
    return "foundation" not in version.carried


def _natural(reference: str) -> tuple[str, int, str]:
    """Order versions by number: 2 before 10."""
    name, _, number = reference.rpartition("/")
    return name, int(number) if number.isdigit() else 0, number
