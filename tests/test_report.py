"""The report's pages, from a small content written by hand: numbers, escapes, shape, missing parts."""

import json
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from report_contents import BEATEN, EVIL, NOT_SHOWN, audit, make_all_kinds, make_content, make_costs, write

VOID = frozenset(["meta", "wbr", "br", "link", "img", "hr", "input"])


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
        for reason in (BEATEN, NOT_SHOWN):
            plain = shown.replace("\\", "")
            assert plain.count(reason.removeprefix("fail: ")) == 2, "beside the decision, and where refusals are told"
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
    assert len(drawings) == 6  # three losses; the gap and its occupations; the lineage
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
    assert len(pictures) == 6
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
        del content["models"][key]
    content["cost"] = make_costs(["foundation"])
    del content["table"][1:]
    foundation.update(curve={}, audits=[], training={"tokens": 5}, sources=[])
    del content["data"]["tokenizer"]["held_out_bytes_per_token"]
    content["data"].update(data_dvc=None, ingested={})
    markdown, html = write(content, tmp_path)
    parse(html)
    assert "1 model was trained, audited and assessed: 1 promoted (town-foundation)." in markdown
    assert markdown.count("data:image") == html.count("<svg") == 1  # the lineage


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
    assert 0 < markdown.count("data:image/png") < html.count("<svg") == 6
    assert "The picture is in report.html." in markdown
    assert len(markdown) < 60_000


def test_every_kind_is_told_in_its_own_way(tmp_path: Path) -> None:
    markdown, html = write(make_all_kinds(), tmp_path)
    parser = parse(html)
    text = " ".join(parser.text.split()).replace("\N{NO-BREAK SPACE}", " ")
    plain = markdown.replace("\N{NO-BREAK SPACE}", " ")
    for shown in (text, plain):
        for said in (
            "town-entities finds entities with an F1 of 91.0 % [88.0 %, 93.0 %] when it starts from the foundation and "
            "71.0 % [66.0 %, 75.0 %] when it is trained from scratch on the same budget, a paired difference of "
            "+20.0 points [+16.0, +24.5]: pretraining helps here.",
            "town-answers finds answers with an F1 of 80.0 % [75.0 %, 85.0 %]",
            "so no difference is shown",
            "town-clerk finds the chosen answer likelier in 87.0 % [81.0 %, 91.0 %] of the held-out pairs, "
            "51.0 % [43.0 %, 59.0 %] before the tuning, a paired difference of +36.0 points [+26.0, +46.0]: the tuning "
            "took hold.",
            "12,000 of 1,200,000 weights were trained (1.0 %)",
            "the domain's from 4.01 to 2.10, the general text's from 3.00 to 3.50, so +0.500 is what it forgot",
            "87.6 %",
            "1 failed (town-broken)",
            "the loss is nan at step 3",
            "before the tuning",
            "capitals",
            "-0.100 [-0.200, +0.000]",
            "from town-assistant version 3",
            "town-entities, mitigated (CDA)",
            "+20.0 points [+12.3, +27.6]",
            "With 50 labels (5 %) and 80 steps it reaches 80.0 % [77.0 %, 83.0 %] F1: it beats training from scratch "
            "(+50.0 points [+47.0, +53.0]) and majority (+70.0 points [+67.0, +73.0]).",
            "With 1,000 labels (100 %) and 80 steps it reaches 81.2 % [78.2 %, 84.2 %] F1: it beats training from",
            "with 50 of 1,000 labels (5 %) the foundation is where training from scratch is with all of them",
        ):
            assert said in shown, said
    assert "**Ada Cole** (PER) left **" in markdown
    assert html.count('<mark class="entity">') == 3
    assert "Who owns it?" in text
    alts = [attrs["aria-label"] for tag, attrs in parser.seen if tag == "svg"]
    adapted = next(alt for alt in alts if alt and "general text, valid ends at 3.5" in alt)
    assert "domain, valid ends at 2.1" in adapted
    assert any("before the adaptation" in str(alt) for alt in alts)
    assert any("50 labels: from the foundation 80.0" in str(alt) for alt in alts)


def test_guardrails_and_contamination_are_told(tmp_path: Path) -> None:
    page, text = write(make_all_kinds(), tmp_path)
    for said in (page, text):
        assert "What changed inputs cost town-entities" in said
        assert "+0.100 [+0.080, +0.120]" in said
        assert "its words come one by one" in said
        assert "0.9100 [0.9000, 0.9200]" in said
        assert "0.5000" in said


def test_the_lineage_is_one_graph_from_the_corpus_to_the_specialists(tmp_path: Path) -> None:
    content = make_all_kinds()
    content["models"]["assistant"]["lineage"]["reward"] = "town-clerk"
    content["models"]["reviews"]["decision"] = {"promote": False, "alias": None, "reasons": []}
    content["models"]["assistant"]["decision"] = {"promote": False, "alias": "challenger", "reasons": []}
    content["models"]["foundation"]["lineage"] |= {
        "base": EVIL,
        "domain_data_digest": "9" * 64,
        "corpus_digest": "8" * 64,
    }
    markdown, html = write(content, tmp_path)
    parser = parse(html)
    (alt,) = [
        attrs["aria-label"] for tag, attrs in parser.seen if tag == "svg" and "Lineage" in str(attrs["aria-label"])
    ]
    assert alt is not None
    rows = alt.removeprefix("Lineage of town: ").split("; ")
    assert [row.split(" version")[0].split(" (")[0] for row in rows] == [
        "corpus",
        "tokenizer from corpus",
        f"base {EVIL}",
        "domain's text",
        "town-foundation",
        "town-reviews",
        "town-assistant",
        "town-clerk",
        "town-entities",
        "town-answers",
    ]
    told = dict(zip((row.split(" ")[0] for row in rows), rows, strict=True))
    assert "8" * 12 in told["corpus"]
    assert "8" * 13 not in told["corpus"]
    assert "from town-foundation (weights cccccccccccc" in told["town-reviews"]
    assert told["town-reviews"].endswith("audits 1 REFUSED, refused")
    assert told["town-clerk"].endswith("audits none, promoted")
    assert "from town-assistant" in told["town-clerk"]
    assert "scored by town-clerk" in told["town-assistant"]
    assert "a dashed line leads from a reward model" in html
    # What the picture shows is text, of the page's colours and cut to its width.
    drawing = html[html.index(f'aria-label="{escape(alt)}"') :]
    drawing = drawing[: drawing.index("</svg>")]
    assert all(word in drawing for word in ("promoted", "challenger", "refused", "1 REFUSED", "none made"))
    assert "#0072b2" not in drawing
    assert "Lineage of town: corpus" in markdown


def test_a_long_name_keeps_its_ends_in_the_graph(tmp_path: Path) -> None:
    content = make_content()
    content["models"]["reviews"]["registered_name"] = f"a{'-very' * 20}-long-name"
    _, html = write(content, tmp_path)
    assert re.search(r">a-very-very-very-ver…[a-z-]*-long-name version 3<", html)


def test_what_comes_from_outside_is_escaped_in_every_kind(tmp_path: Path) -> None:
    markdown, html = write(make_all_kinds(), tmp_path)
    assert "<script" not in html
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    inline = [child for token in tokens for child in token.children or []]
    assert not [token for token in [*tokens, *inline] if token.type in ("html_block", "html_inline")]
