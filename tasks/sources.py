"""Where the rows of every data set come from, as written in a recipe."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.config import Config
from tasks.starter.generate import StarterConfig

Kind = Literal["text", "classification", "token_classification", "question_answering", "instruction", "preference"]
Format = Literal["auto", "txt", "jsonl", "json", "csv", "tsv", "parquet", "conll", "squad", "hh"]
FieldType = Literal["text", "optional", "texts", "answers"]

SPLITS = ("train", "valid", "test")

FIELDS: dict[str, dict[str, FieldType]] = {
    "text": {"text": "text"},
    "classification": {"text": "text", "label": "text"},
    "token_classification": {"tokens": "texts", "tags": "texts"},
    "question_answering": {"question": "text", "context": "text", "answers": "answers"},
    "instruction": {"instruction": "text", "input": "optional", "output": "text"},
    "preference": {"prompt": "text", "chosen": "text", "rejected": "text"},
}
"""The fields of a row of each kind, beside ``id``, and what they hold. text: text that is not empty; optional: text
that may be empty or missing; texts: a list of texts, none of them empty; answers: {"text": [...], "answer_start":
[...]}, one or more answers and where in the context, counted in characters, each of them begins (SQuAD)."""

FORMAT_KINDS = {
    "txt": "text",
    "conll": "token_classification",
    "squad": "question_answering",
    "hh": "preference",
}
"""The kind of rows of those formats that hold one kind only."""

LABELLED = ("classification", "token_classification")
"""Kinds whose labels or tags may be renamed by a source."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Source(Config):
    """One place that rows are read from: the starter generator, local files, or a data set of the hub."""

    kind: Literal["starter", "files", "hub"]
    """starter: generated text; files: local files; hub: a Hugging Face data set."""

    table: str = ""
    """starter only: the generator's table. It brings its own splits, so list the source under train."""

    paths: list[str] = Field(default_factory=list)
    """files only: paths or globs (`**` allowed) under the recipe's data root, read in sorted order."""

    format: Format = "auto"
    """files only: auto goes by the suffix (squad and hh have none of their own); all but parquet may end in .gz.

    json is one array of objects; tsv is one row a line, cells between tabs, without quoting; csv quotes with
    a double quote. conll is one token and its tag a line, a blank line after each sentence; squad is SQuAD 1.1 JSON
    of at most 64 MiB; hh is the JSON lines of HH-RLHF, {chosen, rejected} with a whole dialogue each.
    """

    header: bool = True
    """files only: csv and tsv have a first line with column names. Else columns are named "0", "1", ..."""

    document: Literal["line", "paragraph", "file"] = "line"
    """files only: what one document of a txt file is. paragraph joins blank-line separated blocks up to
    about `document_words` words."""

    document_words: int = Field(default=300, ge=1, le=1_000_000)
    """files only: the words after which a document of joined paragraphs is closed."""

    columns: dict[str, str] = Field(default_factory=dict)
    """Our field to their column, e.g. {"text": "sentence"}; a field that is not named keeps its own name.

    preference only: {"prompt": "instruction", "prompt_input": "input"} puts the column `input`, where it is not
    empty, on a line below the prompt.
    """

    labels: dict[str, str] = Field(default_factory=dict)
    """classification and token_classification only: labels or tags to rename, e.g. {"0": "negative"} or
    {"3": "B-LOC"}; others stay as they are."""

    dataset: str = ""
    """hub only: the data set's name on the hub, e.g. "stanfordnlp/imdb"."""

    config_name: str | None = None
    """hub only: the configuration (subset) of the data set."""

    split: str = "train"
    """hub only: which of the data set's splits is read, slices such as "train[:1000]" too."""

    revision: str = ""
    """hub only: the commit (40 hexadecimal digits) of the data set. No code of it ever runs."""

    @model_validator(mode="after")
    def _fields_fit_the_kind(self) -> Self:
        owners = {
            "starter": {"table"},
            "files": {"paths", "format", "header", "document", "document_words"},
            "hub": {"dataset", "config_name", "split", "revision"},
        }
        for kind, names in owners.items():
            foreign = sorted(names & self.model_fields_set) if kind != self.kind else []
            if foreign:
                raise ValueError(f"{foreign[0]}: is for a source of kind {kind}, but this one is {self.kind}")
        needed = {"starter": "table", "files": "paths", "hub": "dataset"}[self.kind]
        if not getattr(self, needed):
            raise ValueError(f"{needed}: is needed by a source of kind {self.kind}")
        if self.kind == "hub" and not _COMMIT.fullmatch(self.revision):
            raise ValueError(f"revision: expected a commit (40 hexadecimal digits; names move), got {self.revision!r}")
        return self


class Dataset(Config):
    """The sources of one data set, by split. Splits without a source are cut from train by `prepare`."""

    kind: Kind
    """text: {id, text}; classification: {id, text, label}; token_classification: {id, tokens, tags}, tags as BIO
    (an entity that begins with I-X is repaired to B-X, and counted); question_answering: {id, question, context,
    answers: {text, answer_start}}, at least one answer; instruction: {id, instruction, input, output}; preference:
    {id, prompt, chosen, rejected}."""

    train: list[Source]
    """What is learnt from."""

    valid: list[Source] = Field(default_factory=list)
    """What is watched while training."""

    test: list[Source] = Field(default_factory=list)
    """What is only ever measured on."""

    description: str = ""
    """For its data card: what it is, who collected it and how."""

    licence: str = Field("", pattern=r"^[a-z0-9.+-]*$")
    """For its data card: the licence as the hub names it, cc-by-4.0 for example; empty: not known."""

    languages: list[Annotated[str, Field(pattern="^[a-z]{2,3}$")]] = []
    """For its data card: ISO 639 codes, en for example; empty: not known."""

    @model_validator(mode="after")
    def _sources_fit_the_kind(self) -> Self:
        if not self.train:
            raise ValueError("train: expected at least one source")
        known = {"id", *FIELDS[self.kind]} | ({"prompt_input"} if self.kind == "preference" else set())
        for split in SPLITS:
            for number, source in enumerate(getattr(self, split)):
                where = f"{split}[{number}]"
                unknown = sorted(set(source.columns) - known)
                if unknown:
                    raise ValueError(f"{where}.columns: {unknown[0]!r} is no field of kind {self.kind} {sorted(known)}")
                if source.labels and self.kind not in LABELLED:
                    raise ValueError(f"{where}.labels: is for kind {' or '.join(LABELLED)}, this one is {self.kind}")
                if (holds := FORMAT_KINDS.get(source.format, self.kind)) != self.kind:
                    raise ValueError(
                        f"{where}.format: {source.format} holds kind {holds} only, but this one is {self.kind}"
                    )
                if source.kind == "starter" and split != "train":
                    raise ValueError(f"{where}: a starter table brings its own splits; list it under train")
        return self


FOR_CARDS = {"description", "licence", "languages"}
"""The fields of a data set that say something of it and change no row."""


class DataConfig(Config):
    """Every data set of a recipe and where its rows come from."""

    root: str = "."
    """The directory that relative paths of sources are looked up in."""

    max_bad_share: float = Field(default=0.01, ge=0, le=1)
    """The share of a file's rows that may be bad (they go to quarantine.jsonl) before ingest fails."""

    starter: StarterConfig = StarterConfig()
    """How the starter text is generated, for the sources of kind starter."""

    datasets: dict[str, Dataset]
    """Data sets by name. The one named corpus, of kind text, is what the foundation is pretrained on."""

    @model_validator(mode="after")
    def _names_are_slugs(self) -> Self:
        for name in self.datasets:
            if not _SLUG.fullmatch(name):
                raise ValueError(f"datasets: {name!r} is no slug (lower-case letters, digits, '-' and '_')")
        if "corpus" not in self.datasets or self.datasets["corpus"].kind != "text":
            raise ValueError("datasets: expected one named corpus of kind text, the pretraining text")
        return self
