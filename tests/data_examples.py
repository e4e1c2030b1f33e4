"""Small annotated rows and files of every kind, and how tests ingest them."""

from pathlib import Path
from typing import Any

from tasks.sources import DataConfig, Dataset, Source

CONLL = b"EU\tB-ORG\nrejects\tO\n\t\nPeter\tB-PER\nBlackburn\tI-PER\n"
CONTEXT = "Ada bakes bread. Ada sells bread."
SQUAD = {
    "data": [
        {
            "title": "town",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {"id": "q1", "question": "Who bakes?", "answers": [{"text": "Ada", "answer_start": 0}]},
                        {
                            "id": "q2",
                            "question": "What does she sell?",
                            "answers": [{"text": "bread", "answer_start": 27}, {"text": "bread.", "answer_start": 27}],
                        },
                    ],
                }
            ],
        }
    ]
}
HELLO = "\n\nHuman: Hello\n\nAssistant: Hi!\n\nHuman: Who are you?\n\nAssistant:"
HH = {"chosen": f"{HELLO} A friend.", "rejected": f"{HELLO} Nobody."}


ENTITY = {"tokens": ["Ada", "bakes"], "tags": ["B-PER", "O"]}
ANSWER = {
    "question": "Who?",
    "context": CONTEXT,
    "answers": {"text": ["Ada", "bread"], "answer_start": [17, 10]},
}
PAIR = {"prompt": "Who?", "chosen": "Ada.", "rejected": "Bob."}
GOOD = {"token_classification": ENTITY, "question_answering": ANSWER, "preference": PAIR}


def files(*paths: str, **fields: Any) -> Source:
    return Source(kind="files", paths=list(paths), **fields)


def data(root: Path, kind: Any, train: Source, share: float = 0.0, **splits: list[Source]) -> DataConfig:
    """Return a configuration with the set "task" of that kind beside a small corpus."""
    (root / "corpus.txt").write_text("the mill stands by the river\n")
    sets = {
        "corpus": Dataset(kind="text", train=[files("corpus.txt")]),
        "task": Dataset(kind=kind, train=[train], **splits),
    }
    return DataConfig(root=str(root), max_bad_share=share, datasets=sets)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def assert_slices(row: dict[str, Any]) -> None:
    """Every answer is the slice of the context that begins at its start."""
    for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
        assert row["context"][start : start + len(text)] == text != ""
