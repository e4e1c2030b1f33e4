"""Readers of the file formats that annotated data sets are published in: CoNLL, SQuAD and HH-RLHF.

They read, bounded as the readers in `tasks.formats`, and say what breaks the format. Whether tags are well formed
and answers stand where they should is checked for every source alike, in `tasks.readers`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.formats import LINE_LIMIT, Fault, Record, load_json, quote, read_jsonl, read_lines, read_whole, too_long

SQUAD_SIZE_LIMIT = 64 << 20
"""Bytes of a SQuAD file after unpacking. It is one JSON value, mostly on one line, and held in memory whole;
SQuAD 2.0's training file, the largest in use, has 42 MB."""

_DOCUMENT_MARK = "-DOCSTART-"
_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


def read_conll(path: Path, shown: str) -> Iterator[Record | Fault]:
    """Yield the sentences of a file with one token a line as {"tokens", "tags"}, at each sentence's first line.

    A line's first column is the token, its last one the tag; columns stand between tabs, or between spaces where
    a line has no tab. A blank line ends a sentence, and so does the mark -DOCSTART- of CoNLL-2003. A sentence with
    a line that is broken is one fault, at that line.
    """
    tokens: list[str] = []
    tags: list[str] = []
    start = size = 0
    fault: Fault | None = None
    for number, raw, long in read_lines(path, shown):
        if not raw.strip() or raw.startswith(_DOCUMENT_MARK.encode()):
            if fault or tokens:
                yield fault or Record(start, {"tokens": tokens, "tags": tags})
            tokens, tags, size, fault = [], [], 0, None
            continue
        start = start if tokens else number
        size += len(raw)
        if fault:
            continue
        if long or size > LINE_LIMIT:
            fault = too_long(number, raw)
            continue
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            fault = Fault(number, f"not UTF-8 at byte {error.start}", quote(raw))
            continue
        cells = line.split("\t") if "\t" in line else line.strip(" ").split(" ")
        token, tag = cells[0].strip(), cells[-1].strip()
        if len(cells) < 2 or not token or not tag:
            fault = Fault(number, "expected a token and a tag, with a tab or a space between them", quote(raw))
        else:
            tokens.append(token)
            tags.append(tag)
    if fault or tokens:
        yield fault or Record(start, {"tokens": tokens, "tags": tags})


def _member(value: Any, name: str, of: type[Any]) -> Any:
    """Return a member of a JSON object; ValueError says that it is missing or of another type."""
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    if not isinstance(value.get(name), of):
        found = type(value[name]).__name__ if name in value else "nothing"
        expected = {dict: "an object", list: "a list", str: "text", int: "a whole number"}[of]
        raise ValueError(f"{name}: expected {expected}, got {found}")
    return value[name]


def _question(context: str, asked: Any) -> dict[str, Any]:
    """Return one question of a SQuAD paragraph with its context as fields of a row; ValueError if it breaks."""
    fields = {"question": _member(asked, "question", str), "context": context}
    answers = _member(asked, "answers", list)
    if not answers:
        raise ValueError("answers: expected at least one (SQuAD 1.1); questions without are not learnt")
    texts = [_member(answer, "text", str) for answer in answers]
    starts = [_member(answer, "answer_start", int) for answer in answers]
    fields["answers"] = {"text": texts, "answer_start": starts}
    return {"id": asked["id"], **fields} if "id" in asked else fields


def read_squad(path: Path, shown: str) -> Iterator[Record | Fault]:
    """Yield the questions of a SQuAD 1.1 file, {"data": [{"paragraphs": [{"context", "qas"}]}]}, one a record.

    A record has the fields id, question, context and answers {"text": [...], "answer_start": [...]}; the number of
    the question in the file stands for its line. A broken paragraph is one fault. ValueError for a file that is
    not JSON of this form or has more than `SQUAD_SIZE_LIMIT` bytes (Rajpurkar et al. 2016).
    """
    raw = read_whole(path, shown, SQUAD_SIZE_LIMIT)
    try:
        articles = _member(load_json(raw), "data", list)
    except ValueError as error:
        raise ValueError(f"{shown}: {error}") from error
    number = 1
    for place, article in enumerate(articles):
        where = f"data[{place}]"
        try:
            paragraphs = _member(article, "paragraphs", list)
        except ValueError as error:
            yield Fault(number, f"{where}: {error}", quote(str(article)))
            number += 1
            continue
        for paragraph_place, paragraph in enumerate(paragraphs):
            where = f"data[{place}].paragraphs[{paragraph_place}]"
            try:
                context, questions = _member(paragraph, "context", str), _member(paragraph, "qas", list)
            except ValueError as error:
                yield Fault(number, f"{where}: {error}", quote(str(paragraph)))
                number += 1
                continue
            for question_place, asked in enumerate(questions):
                try:
                    yield Record(number, _question(context, asked))
                except ValueError as error:
                    yield Fault(number, f"{where}.qas[{question_place}]: {error}", quote(str(asked)))
                number += 1


def _split_dialogue(text: Any, name: str) -> tuple[str, str]:
    """Return (all up to the last turn of the human, the assistant's last turn) of a dialogue."""
    if not isinstance(text, str):
        raise ValueError(f"{name}: expected a dialogue as text, got {type(text).__name__}")
    prompt, mark, answer = text.rpartition(_ASSISTANT)
    if not mark or _HUMAN in answer:
        raise ValueError(f"{name}: expected a dialogue that ends in a turn of the assistant ({_ASSISTANT!r})")
    return prompt.strip(), answer.strip()


def read_hh(path: Path, shown: str) -> Iterator[Record | Fault]:
    r"""Yield the pairs of an HH-RLHF file as {"prompt", "chosen", "rejected"}.

    A line is {"chosen", "rejected"}, two whole dialogues "\n\nHuman: ...\n\nAssistant: ..." that differ in the
    assistant's last turn. The prompt is what both share up to the last turn of the human, marks included. Two
    dialogues that differ before their last turn are no pair, and a fault (Bai et al. 2022).
    """
    for record in read_jsonl(path, shown):
        if isinstance(record, Fault):
            yield record
            continue
        try:
            prompt, chosen = _split_dialogue(record.fields.get("chosen"), "chosen")
            other, rejected = _split_dialogue(record.fields.get("rejected"), "rejected")
            if prompt != other:
                raise ValueError("the two dialogues differ before their last turn")
        except ValueError as error:
            yield Fault(record.line, str(error), quote(str(record.fields)))
        else:
            yield Record(record.line, {"prompt": prompt, "chosen": chosen, "rejected": rejected})
