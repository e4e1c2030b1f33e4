"""What a recipe's data will be, before anything is made of it: a sample, how large the whole is, and its tokens."""

import gzip
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from models.measure import clock, quiet
from tasks.corpus import prepare_datasets
from tasks.encoding import sample_texts, train_tokenizer
from tasks.encoding_base import encode_dataset, take_tokenizer
from tasks.formats import Record
from tasks.readers import detect_format, find_files, read_file, read_rows, to_row, write_rows
from tasks.receipts import Receipt, verify
from tasks.recipe import Recipe
from tasks.sources import SPLITS, Dataset, Source
from tasks.spans import repair_tags
from tasks.workspace import step_directory

READ_BYTES = 48_000_000
"""Most bytes of one file that are read; the rest is taken to be like them."""
SAMPLE_BYTES = 1_500_000
"""About how much text of a data set is cleaned and encoded for the plan."""
SAMPLE_ROWS = 3000
"""Most rows of a data set that are; every k-th, so that the sample is like the whole."""
UNPACKED = {"parquet": 3.0}
"""How many times larger the rows of a packed format are than their file, where the file does not say."""


class Surveyed(NamedTuple):
    """One data set: a prepared sample in ``directory``, and how many rows the whole will have."""

    rows: dict[str, int]
    """Rows by split after preparing, of the whole."""
    sample: dict[str, int]
    """Rows by split of the sample."""
    known: str
    """prepared: counted; read: all rows were read, and a sample of them cleaned; estimated: from the files' size."""


class Survey(NamedTuple):
    """All data sets of a recipe, and the tokenizer that the sample was encoded with."""

    datasets: dict[str, Surveyed]
    directory: Path
    """Holds <data set>/<split>.jsonl, hf/ (tokenizer), tokens/ and tokens-domain/ of the sample."""
    tokens: dict[str, dict[str, int]]
    """Data set of kind text -> split -> tokens of the whole."""
    reading: float
    """Seconds that reading the sources took, of the whole."""
    preparing: float
    """Seconds that preparing takes, scaled from the sample; 0 where it is prepared."""
    encoding: float
    """Seconds that training the tokenizer and encoding takes, scaled from the sample."""


def survey(recipe: Recipe, out: Path) -> Survey:
    """Look at the recipe's data; what is prepared already is counted, the rest read and sampled into ``out``.

    Raises:
        ValueError: a source is missing or broken, or lies on the hub and is not ingested yet.
    """
    prepared = _current(recipe)
    if prepared is not None:
        datasets, reading, preparing = _prepared(recipe, prepared, out), 0.0, 0.0
    else:
        datasets, reading, preparing = _read(recipe, out)
    tokens, encoding = _encode(recipe, datasets, out)
    return Survey(datasets, out, tokens, reading, preparing, encoding)


def _current(recipe: Recipe) -> Receipt | None:
    """Return the receipt of `prepare` if it and `ingest` were made under this recipe's configuration."""
    ingested, prepared = (verify(step_directory(recipe.name, step)) for step in ("ingest", "prepare"))
    if ingested is None or prepared is None:
        return None
    kinds = {name: dataset.kind for name, dataset in recipe.data.datasets.items()}
    asked = {"prepare": recipe.prepare.model_dump(mode="json"), "kinds": kinds}
    same = ingested.config == recipe.data.model_dump(mode="json", exclude={"root"})
    return prepared if same and prepared.config == asked else None


def _prepared(recipe: Recipe, prepared: Receipt, out: Path) -> dict[str, Surveyed]:
    found = {}
    for name in recipe.data.datasets:
        rows = {split: int(prepared.metrics["datasets"][name]["rows_out"][split]) for split in SPLITS}
        sample = {}
        for split in SPLITS:
            path = prepared.directory / name / f"{split}.jsonl"
            chosen = _every(list(read_rows(path)), path.stat().st_size)
            write_rows(out / name / f"{split}.jsonl", chosen)
            sample[split] = len(chosen)
        found[name] = Surveyed(rows, sample, "prepared")
    return found


def _every(rows: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """Return every k-th row, so that the sample is within its bounds."""
    most = min(SAMPLE_ROWS, int(len(rows) * SAMPLE_BYTES / max(size, 1)))
    return rows[:: max(1, -(-len(rows) // max(most, 1)))]


def _read(recipe: Recipe, out: Path) -> tuple[dict[str, Surveyed], float, float]:
    """Read the sources, and clean and split a sample of them as `prepare` will."""
    began = clock()
    tables = _tables(recipe)
    read: dict[str, dict[str, tuple[list[dict[str, Any]], float]]] = {}
    for name, dataset in recipe.data.datasets.items():
        read[name] = {
            split: _rows_of(recipe, name, dataset, split, tables)
            for split in SPLITS
            if getattr(dataset, split) or split in tables.get(_table(dataset), {})
        }
    reading = quiet(began, clock())
    factors: dict[str, dict[str, float]] = {}
    for name, splits in read.items():
        factors[name] = {}
        for split, (rows, whole) in splits.items():
            chosen = _every(rows, sum(len(str(row)) for row in rows))
            write_rows(out / "raw" / name / f"{split}.jsonl", chosen)
            factors[name][split] = whole / max(len(chosen), 1)
    began = clock()
    counts = prepare_datasets(recipe.prepare, recipe.data, out / "raw", out)["datasets"]
    seconds = quiet(began, clock())
    found, scaled = {}, 0.0
    total_sampled = sum(counts[name]["rows_in"] for name in counts) or 1
    for name, splits in read.items():
        whole = sum(estimate for _, estimate in splits.values())
        factor = whole / max(counts[name]["rows_in"], 1)
        sample = dict(counts[name]["rows_out"])
        # Each split is sampled for itself; one that has no source of its own is drawn from the training rows.
        own = factors[name]
        whole_rows = {split: round(sample[split] * own.get(split, own["train"])) for split in SPLITS}
        exact = all(len(some) == estimate for some, estimate in splits.values())
        found[name] = Surveyed(whole_rows, sample, "read" if exact else "estimated")
        scaled += seconds * counts[name]["rows_in"] / total_sampled * factor
    return found, reading, scaled


def _tables(recipe: Recipe) -> dict[str, Any]:
    if not any(source.kind == "starter" for dataset in recipe.data.datasets.values() for source in dataset.train):
        return {}
    from tasks.starter.generate import generate

    return dict(generate(recipe.data.starter))


def _table(dataset: Dataset) -> str:
    return next((source.table for source in dataset.train if source.kind == "starter"), "")


def _rows_of(
    recipe: Recipe, name: str, dataset: Dataset, split: str, tables: dict[str, Any]
) -> tuple[list[dict[str, Any]], float]:
    """Return rows of a split of all its sources, and how many there will be."""
    rows: list[dict[str, Any]] = []
    estimate = 0.0
    sources = getattr(dataset, split)
    if split != "train":
        sources = [*sources, *(source for source in dataset.train if source.kind == "starter")]
    for source in sources:
        if source.kind == "hub":
            raise ValueError(
                f"data.datasets.{name}: the size of hub:{source.dataset} is known once it is fetched; run ingest first"
            )
        if source.kind == "starter":
            if source.table not in tables:
                raise ValueError(f"table: the starter has no {source.table!r}; there are {', '.join(tables)}")
            found = list(tables[source.table].get(split, []))
            rows, estimate = rows + found, estimate + len(found)
            continue
        for shown, path in find_files(source, recipe.data.root):
            form = detect_format(shown) if source.format == "auto" else source.format
            found, whole = _rows_in(path, shown, form, dataset.kind, source)
            rows, estimate = rows + found, estimate + whole
    return [{**row, "id": f"{split}-{number}"} for number, row in enumerate(rows)], estimate


def _rows_in(path: Path, shown: str, form: str, kind: str, source: Source) -> tuple[list[dict[str, Any]], float]:
    """Return a file's good rows, up to a number of bytes, and how many the whole file will have."""
    rows: list[dict[str, Any]] = []
    size = 0
    records = read_file(path, shown, form, source)
    for record in records:
        if isinstance(record, Record):
            try:
                row = to_row(record, kind, source, "", bounded=form not in ("squad", "hh"))
            except ValueError:  # ingest counts it and may refuse the file
                continue
            if kind == "token_classification":
                row["tags"], _ = repair_tags(row["tags"])
            rows.append(row)
            size += len(str(row))
        if size > READ_BYTES:
            break
    else:
        return rows, float(len(rows))
    return rows, max(1.0, _unpacked(path, form) / size) * len(rows)


def _unpacked(path: Path, form: str) -> float:
    """Return about how many bytes a file's rows are; a gzip file ends with its size modulo 4 GiB (RFC 1952)."""
    size = path.stat().st_size
    if path.suffix != ".gz":
        return size * UNPACKED.get(form, 1.0)
    with path.open("rb") as file:
        file.seek(-4, 2)
        stated = int.from_bytes(file.read(4), "little")
    with gzip.open(path, "rb") as file:  # several members, or more than 4 GiB: judged by its beginning
        beginning = len(b"".join(islice(iter(lambda: file.read(1 << 20), b""), 8)))
    return float(max(stated, beginning, 2 * size))


def _encode(recipe: Recipe, datasets: dict[str, Surveyed], out: Path) -> tuple[dict[str, dict[str, int]], float]:
    """Train the tokenizer on the sample, or take the base's, encode the texts, and count the tokens of the whole."""
    from tasks.base import find_base

    began = clock()
    base = find_base(recipe.pretrain)
    if base is None:
        masked = recipe.pretrain.family == "masked"
        types = masked and recipe.pretrain.model.family == "bert"
        texts = sample_texts(out / "corpus" / "train.jsonl", recipe.tokenizer.max_train_bytes)
        train_tokenizer(recipe.tokenizer, texts, out / "hf", masked=masked, types=types)
    else:
        take_tokenizer(base.directory, out / "hf")
    places = {"corpus": "tokens"} | ({recipe.adapt.data: "tokens-domain"} if recipe.adapt else {})
    tokens = {}
    for name, place in places.items():
        meta = encode_dataset(out / "hf", out / name, out / place)
        found = datasets[name]
        tokens[name] = {
            split: round(meta[split]["tokens"] * found.rows[split] / max(found.sample[split], 1)) for split in SPLITS
        }
    seconds = quiet(began, clock())
    corpus = datasets["corpus"]
    return tokens, seconds * max(1.0, corpus.rows["train"] / max(corpus.sample["train"], 1))
