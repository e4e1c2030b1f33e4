"""The report's pages, from a small content written by hand: numbers, escapes, shape, missing parts."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from tasks import report_words as words
from tasks.report_pages import escape_markdown, markdown_code, write_pages
from tasks.report_plots import audit_interval, loss_curves, occupations

EVIL = "<script>alert(1)</script>|`*x*`"
VOID = frozenset(["meta", "wbr", "br", "link", "img", "hr", "input"])


def score(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "items": 200, "scorer": "by hand"}


def scores(labels: list[str] | None = None, **found: dict[str, Any]) -> dict[str, Any]:
    confusion = [[90, 10], [20, 80]] if labels else []
    f1 = dict.fromkeys(labels or [], 0.857)
    return {"scores": found, "labels": labels or [], "f1": f1, "confusion": confusion}


def audit(name: str, metric: str, estimate: float | None, **changes: Any) -> dict[str, Any]:
    low, high = (None, None) if estimate is None else (estimate - 0.01, estimate + 0.01)
    found = {
        "audit": name,
        "scorer": "by hand",
        "metric": metric,
        "estimate": estimate,
        "low": low,
        "high": high,
        "confidence": 0.95,
        "margin": 0.05,
        "items": 4,
        "clusters": 4,
        "mde": None if estimate is None else 0.0123,
        "verdict": "REFUSED" if estimate is None else "PASS",
        "reason": "Because it was measured so.",
        "capability": {"name": "accuracy", "value": 0.51, "floor": 0.55, "higher_is_better": True},
        "details": {},
        "caveat": "evidence of bias, never of its absence",
    }
    return found | changes


def model(name: str, kind: str, **changes: Any) -> dict[str, Any]:
    lineage = {"recipe_digest": "a" * 64, "commit": "b" * 40, "weights_digest": "c" * 64, "seed": 0}
    if kind != "foundation":
        lineage |= {"foundation": "town-foundation", "foundation_version": "3"}
    found = {
        "model": name,
        "registered_name": f"town-{name}",
        "kind": kind,
        "sources": ["starter"],
        "version": "3",
        "run_id": "d" * 32,
        "decision": {"promote": True, "alias": "champion", "reasons": []},
        "lineage": lineage,
        "scores": {},
        "baselines": {},
        "audits": [],
        "training": {
            "tokens": 1_234_567,
            "tokens_per_second": 4321.0,
            "flops": 2.5e12,
            "device": "cpu",
            "precision": "bf16",
            "train_loss": {"first": 6.9661, "final": 1.23456},
            "valid_loss": {"final": 1.34567, "best": 1.34567, "best_step": 20},
        },
        "curve": {"train/loss": [[1, 6.9661], [20, 1.23456]], "valid/loss": [[20, 1.34567]]},
        "control_curve": {},
        "examples": [],
    }
    return found | changes


def row(found: dict[str, Any], metric: str, alias: str | None, reasons: list[str]) -> dict[str, Any]:
    return {
        "model": found["registered_name"],
        "kind": found["kind"],
        "metric": metric,
        "score": found["scores"]["model"]["scores"][metric]["value"],
        "baselines": {name: value[metric] for name, value in found["baselines"].items()},
        "audits": {one["audit"]: one["verdict"] for one in found["audits"]},
        "promoted": alias == "champion",
        "reasons": reasons,
        "version": found["version"],
        "alias": alias,
    }


def make_content() -> dict[str, Any]:
    gap = audit("occupation_pronoun", "probability_gap", 0.0125)
    gap["details"] = {
        "by_occupation": [
            {"occupation": EVIL, "half": "he", "p_he": 0.61},
            {"occupation": "potter", "half": "she", "p_he": 0.48},
        ]
    }
    foundation = model(
        "foundation",
        "foundation",
        scores={"model": scores(bits_per_byte=score(0.81234), perplexity=score(12.345))},
        baselines={"unigram": {"bits_per_byte": 2.71205}},
        audits=[gap],
    )
    labels = [EVIL, "positive"]
    reviews = model(
        "reviews",
        "classification",
        scores={
            "model": scores(labels, macro_f1=score(0.9654, 0.95, 0.98)),
            "from_scratch": scores(labels, macro_f1=score(0.9102, 0.88, 0.94)),
        },
        baselines={"from_scratch": {"macro_f1": 0.9102}},
        audits=[audit("counterfactual", "flip_rate", None)],
        control_curve={"train/loss": [[1, 7.0], [20, 3.0]]},
        examples=[{"id": "r1", "truth": EVIL, "model": EVIL, "from_scratch": "", "asked": f"Is it {EVIL}?"}],
    )
    assistant = model(
        "assistant",
        "instruction",
        scores={
            "model": scores(exact_match=score(0.9375, 0.91, 0.96)),
            "from_scratch": scores(exact_match=score(0.1208, 0.09, 0.15)),
        },
        baselines={"from_scratch": {"exact_match": 0.1208}},
    )
    assistant["training"]["loss_mask_example"] = [["<|user|>", False], [EVIL, False], ["Ada", True], ["<|end|>", True]]
    cost = {"training_seconds": 62.0, "training_flops": 0.0, "control_seconds": 0.0, "all_seconds": 90.0}
    return {
        "recipe": "town",
        "seed": 7,
        "data": {
            "ingested": {"corpus": {"train": {"rows": 15892, "bad": 3, "bytes": 2_835_142}}},
            "prepared": {
                "datasets": {
                    "corpus": {"rows_in": 15892, "emails": 81, "own_rule": 5, "rows_out": {"train": 14115, "test": 781}}
                },
                "contamination": {
                    "reviews/test": {"items": 400, "unchecked": 54, "overlapping": 13, "documents_removed": 12}
                },
            },
            "tokenizer": {
                "vocab_size": 1024,
                "train": {"tokens": 639301, "bytes": 1_980_282, "documents": 14115},
                "held_out_bytes_per_token": 3.15583,
            },
            "data_dvc": "e" * 32,
        },
        "models": {"foundation": foundation, "reviews": reviews, "assistant": assistant},
        "cost": dict.fromkeys(("foundation", "reviews", "assistant"), cost),
        "table": [
            row(foundation, "bits_per_byte", "champion", ["pass: there is no champion yet."]),
            row(reviews, "macro_f1", None, [f"fail: the audit counterfactual says REFUSED: {EVIL}", "odd"]),
            row(assistant, "exact_match", "challenger", ["pass: well.", "fail: a tie."]),
        ],
    }


def write(content: dict[str, Any], out: Path) -> tuple[str, str]:
    out.mkdir(parents=True, exist_ok=True)
    write_pages(content, out)
    return (out / "report.md").read_text(encoding="utf-8"), (out / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write(make_content(), tmp_path_factory.mktemp("report"))


class Balance(HTMLParser):
    """Holds every tag against its end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        self.ids += [str(value) for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_both_pages_hold_the_numbers(pages: tuple[str, str]) -> None:
    text = parse(pages[1]).text.replace("\N{NO-BREAK SPACE}", " ")
    for shown in (pages[0], text):
        for number in (
            "0.812",
            "2.712",
            "96.5 %",
            "93.8 % [91.0 %, 96.0 %]",
            "12.1 % [9.0 %, 15.0 %]",
            "+0.0125 [+0.0025, +0.0225]",
            "0.0123",
            "6.97",
            "1.23",
            "15,892",
            "2.84 MB",
            "3.16",
            "2.50 TFLOP",
            "1.25 TFLOP",
            "1 min 02 s",
            "4,321",
            "a" * 64,
            "own_rule",
        ):
            assert number in shown, number
        assert (
            "1 promoted (town-foundation), 1 kept as challenger (town-assistant) and 1 refused (town-reviews)" in shown
        )
        assert "pretraining holds the knowledge, fine-tuning the skill" in shown
        assert "vidence of bias, never of its absence" in shown
        assert "mlflow models serve -m models:/town-foundation@champion --env-manager local" in shown
        assert "python -m flows pipeline recipes/town.yaml" in shown


def test_the_html_is_whole_and_needs_nothing_else(pages: tuple[str, str]) -> None:
    parser = parse(pages[1])
    assert len(parser.ids) == len(set(parser.ids))
    tags = [tag for tag, _ in parser.seen]
    assert not {"script", "link", "img", "iframe"} & set(tags)
    outside = [
        value for _, attrs in parser.seen for name, value in attrs.items() if name in ("src", "href", "xlink:href")
    ]
    assert all(str(value).startswith("#") for value in outside)
    assert all(str(value)[1:] in parser.ids for value in outside)
    assert "url(http" not in pages[1]
    assert all(attrs.get("scope") for tag, attrs in parser.seen if tag == "th")
    drawings = [attrs for tag, attrs in parser.seen if tag == "svg"]
    assert len(drawings) == 5  # three losses; the gap and its occupations
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawings)


def test_what_comes_from_outside_is_escaped_in_html(pages: tuple[str, str]) -> None:
    assert "<script" not in pages[1]
    assert pages[1].count("&lt;script&gt;alert(1)") >= 5  # label, reason, example, token, tick label
    assert EVIL in parse(pages[1]).text


def test_what_comes_from_outside_is_text_in_markdown(pages: tuple[str, str]) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(pages[0])
    inline = [child for token in tokens for child in token.children or []]
    assert not [token for token in [*tokens, *inline] if token.type in ("html_block", "html_inline")]
    assert any(EVIL in token.content for token in inline if token.type in ("text", "code_inline"))
    assert not [token for token in inline if token.type == "link_open"]
    pictures = [token for token in inline if token.type == "image"]
    assert len(pictures) == 5
    assert all(str(picture.attrs["src"]).startswith("data:image/png;base64,") for picture in pictures)


def test_every_markdown_table_is_one(pages: tuple[str, str]) -> None:
    lines = re.sub(r"```.*?```", "", pages[0], flags=re.DOTALL).splitlines()
    assert not [line for line in lines if "base64" not in line and len(line) > 2000]
    blocks = re.findall(r"(?:^\|.*\n)+", "\n".join(lines) + "\n", flags=re.MULTILINE)
    tokens = MarkdownIt("commonmark").enable("table").parse(pages[0])
    assert len(blocks) == sum(token.type == "table_open" for token in tokens) >= 10
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


def test_the_same_content_gives_the_same_bytes(pages: tuple[str, str], tmp_path: Path) -> None:
    again = write(json.loads(json.dumps(make_content())), tmp_path)
    assert again == pages


def test_a_foundation_alone_and_nothing_optional(tmp_path: Path) -> None:
    content = make_content()
    foundation = content["models"]["foundation"]
    for key in ("reviews", "assistant"):
        del content["models"][key], content["cost"][key]
    del content["table"][1:]
    foundation.update(curve={}, audits=[], training={"tokens": 5}, sources=[])
    del content["data"]["tokenizer"]["held_out_bytes_per_token"]
    content["data"].update(data_dvc=None, ingested={})
    markdown, html = write(content, tmp_path)
    parse(html)
    assert "1 model was trained, audited and assessed: 1 promoted (town-foundation)." in markdown
    assert "data:image" not in markdown
    assert "<svg" not in html


def test_no_validation_points_and_an_audit_that_spoke_of_texts(tmp_path: Path) -> None:
    content = make_content()
    reviews = content["models"]["reviews"]
    reviews["curve"] = {"train/loss": [[1, 2.0]]}
    rates = {"texts": 0, "share": {EVIL: None, "positive": None}}
    signed = {"estimate": 0.0011, "low": -0.0009, "high": 0.0031}
    details = {"base_rates": {"he": rates, "she": rates}, "signed_shift": {EVIL: signed}}
    reviews["audits"] = [audit("counterfactual", "flip_rate", 0.02, details=details)]
    labels = [f"label {number:02d}" for number in range(20)]
    matrix = [[2 * (i == j) + 7 * (i == 3 and j == 5) for j in range(20)] for i in range(20)]
    reviews["scores"]["model"] |= {"labels": labels, "confusion": matrix}
    markdown, html = write(content, tmp_path)
    parse(html)
    assert "| label 03 | label 05 | 7 |" in markdown
    assert "0.0200 [0.0100, 0.0300], margin 0.05" in markdown
    assert "+0.0011 [-0.0009, +0.0031]" in html


def test_markdown_pictures_stay_within_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.report_view.MARKDOWN_PICTURES", 30_000)
    markdown, html = write(make_content(), tmp_path)
    assert 0 < markdown.count("data:image/png") < html.count("<svg") == 5
    assert "The picture is in report.html." in markdown
    assert len(markdown) < 60_000


@pytest.mark.parametrize(
    ("ours", "twin", "says"),
    [
        ((0.94, 0.91, 0.96), (0.12, 0.09, 0.15), "pretraining holds the knowledge, fine-tuning the skill"),
        ((0.30, 0.26, 0.34), (0.12, 0.09, 0.15), "most is missed"),
        ((0.14, 0.10, 0.18), (0.12, 0.09, 0.15), "does not show that pretraining holds the knowledge"),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), "does not show that pretraining holds the knowledge"),
        ((0.05, 0.03, 0.07), (0.12, 0.09, 0.15), "speaks against the thesis"),
    ],
)
def test_the_thesis_says_no_more_than_the_numbers(ours: Any, twin: Any, says: str) -> None:
    found = copy.deepcopy(make_content()["models"]["assistant"])
    for name, values in (("model", ours), ("from_scratch", twin)):
        found["scores"][name]["scores"]["exact_match"] = score(*values)
    assert says in words.thesis(found)
    assert "only in the pretraining text" in words.thesis(found)
    assert "only in the pretraining text" not in words.thesis(found | {"sources": ["files"]})
    assert "holds the knowledge, fine-tuning" not in words.thesis(found | {"sources": ["files"]})


def test_numbers_in_words() -> None:
    assert words.score("exact_match", 0.9125) == "91.2\N{NO-BREAK SPACE}%"
    assert words.score("bits_per_byte", 1.92918) == "1.929"
    assert [words.figures(value) for value in (6.9661, 61.9769, 0.6897, 12345.6, None, 0.7)] == [
        "6.97",
        "62.0",
        "0.690",
        "12,346",
        "–",  # noqa: RUF001
        "0.700",
    ]
    assert words.figures(123.4) == "123"
    assert words.flops(1.547886919680e12) == "1.55 TFLOP"
    assert words.flops(267e9) == "267 GFLOP"
    assert (words.size(163078), words.size(12), words.size(2_835_142)) == ("163 kB", "12 bytes", "2.84 MB")
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"


def test_escapes() -> None:
    assert escape_markdown("a|b\n<i> [x](y) _z_ macro_f1") == "a\\|b &lt;i&gt; [x]\\(y) \\_z\\_ macro_f1"
    assert markdown_code("a `b` |c|") == "`` a `b` |c| ``".replace(" a", "a").replace("| `", "|`")
    assert MarkdownIt().renderInline(markdown_code("`x`")) == "<code>`x`</code>"


def test_a_picture_names_its_units_and_keeps_dollar_signs() -> None:
    found = model("reviews", "classification", registered_name="$x_1$ cost $")
    picture = loss_curves(found)
    assert picture is not None
    assert "optimizer steps" in picture.svg
    assert "(nats per example)" in picture.svg
    assert "var(--model)" in picture.svg
    assert "ends at 1.35" in picture.alt
    assert picture.png.startswith(b"\x89PNG")
    assert loss_curves(found | {"curve": {}}) is None
    assert audit_interval("x", audit("counterfactual", "flip_rate", None)) is None
    assert occupations("x", audit("counterfactual", "flip_rate", None)) is None


def test_only_the_farthest_occupations_are_drawn() -> None:
    rows = [{"occupation": f"job{number:03d}", "half": "he", "p_he": 0.5 + number / 200} for number in range(60)]
    picture = occupations("m", audit("a", "probability_gap", 0.1, details={"by_occupation": rows}))
    assert picture is not None
    assert "job059" in picture.svg
    assert "job019" not in picture.svg
    assert "40 farthest" in picture.title
    assert "he half mean 0.647" in picture.alt
