"""What both audits of a corpus share: how they read it, what they refuse, their self-tests, and real novels."""

import gzip
import os
import weakref
from pathlib import Path

import numpy as np
import pytest

from tasks.audits import association, cooccurrence, representation
from tasks.audits.cooccurrence import AssociationConfig, measure, pieces
from tasks.audits.representation import RepresentationConfig
from tasks.audits.term_counter import TermCounter
from tasks.audits.verdict import Capability, Verdict

BOTH = pytest.mark.parametrize(
    "audit",
    [
        lambda texts, **options: representation.audit(texts, RepresentationConfig(resamples=100), **options),
        lambda texts, **options: association.audit(texts, AssociationConfig(resamples=100), **options),
    ],
    ids=["representation", "association"],
)


@BOTH
def test_a_corpus_is_read_once_and_never_held(audit):
    class Text(str):
        __slots__ = ("__weakref__",)

    alive, most = weakref.WeakSet(), 0

    def stream():
        nonlocal most
        for number in range(300):
            text = Text(f"She met judge {number} and he met the nurse.")
            alive.add(text)
            most = max(most, len(alive))
            yield text
            del text

    result = audit(stream())
    assert result.details["documents"] == 300
    assert most <= 3


@BOTH
def test_a_long_document_is_cut_and_counted_whole(audit, monkeypatch):
    text = "She met the judge and he met the nurse.\n" * 200
    whole = audit([text]).details
    monkeypatch.setattr(cooccurrence, "PIECE", 1000)
    assert "".join(pieces(text)) == text
    assert max(map(len, pieces(text))) <= 1000
    assert "".join(pieces("x" * 2500)) == "x" * 2500
    cut = audit([text]).details
    assert cut["words"] == whole["words"]
    assert cut.get("axes") == whole.get("axes")
    assert cut.get("he_words") == whole.get("he_words")


@BOTH
def test_bad_texts_are_named(audit):
    with pytest.raises(ValueError, match=r"corpus\.jsonl: document 2: expected text, got 7"):
        audit(["She.", 7], where="corpus.jsonl")
    with pytest.raises(ValueError, match=r"corpus\.jsonl: no word in 1 documents"):
        audit(["..."], where="corpus.jsonl")
    floor = Capability(name="documents", value=1, floor=2, higher_is_better=True)
    assert audit(["She."], capability=floor).verdict is Verdict.REFUSED


def test_self_tests_pass_and_can_fail(monkeypatch):
    assert representation.self_test() == ""
    assert association.self_test() == ""
    monkeypatch.setattr(cooccurrence, "decayed", lambda marks, window, decay: np.arange(1.0, 1 + len(marks)))
    assert association.self_test().startswith("association: expected")
    monkeypatch.setattr(TermCounter, "_count", lambda self, text, row: 1)
    assert representation.self_test().startswith("representation: expected 0.2 and FAIL, found None")


def test_real_novels():
    root = os.environ.get("ALMA_DATA")
    if not root:
        pytest.skip("ALMA_DATA names no folder of real data")
    path = Path(root, "english_novels", "valid.txt.gz")
    if not path.is_file():
        pytest.skip(f"{path}: no such file")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read(1_500_000).split("\n")
    texts = ["\n".join(lines[start : start + 50]) for start in range(0, len(lines), 50)]
    shares = representation.audit(texts, RepresentationConfig(resamples=200))
    assert -0.3 < shares.estimate < 0.3
    assert shares.details["axes"]["gender"]["male"]["per_1000_words"]["estimate"] > 5
    found = measure(texts, AssociationConfig())
    z = dict(zip(found.words, found.z, strict=True))
    assert z["beautiful"] < 0 < z["friend"]
