"""A registered model as a directory of its own, which transformers, lm-eval and vLLM load."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks import registered, registry
from tasks.audits.verdict import Verdict
from tasks.card_words import KINDS
from tasks.cards import CARD, FACTS
from tasks.workspace import file_digest, fsync_tree

SUMS = "SHA256SUMS"
"""The manifest, as `sha256sum -c` reads it."""
LEFTOVERS = ("is_local", "local_files_only", "backend")
"""What transformers writes of how the tokenizer was loaded last."""
TURNS = ("instruction", "preference", "rlhf", "reward")
"""Kinds of model that read turns of the chat format."""


def export(reference: str, directory: Path) -> Path:
    """Write a registered model with its cards into ``directory`` and return it.

    The weights, the tokenizer and what they need, byte for byte where nothing has to be said in another way; the cards;
    ``alma.json`` with the lineage; ``SHA256SUMS``. Written beside and renamed into place: there is a whole directory or
    none.

    Args:
        reference: ``name`` (its champion), ``name@alias``, ``name/version`` or ``recipe.yaml:model``.

    Raises:
        ValueError: there is no such version, it has no card, it was refused or failed an audit and was not named by its
            number, or the directory holds something.
    """
    directory = directory.resolve()
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise ValueError(f"{directory}: expected a new or an empty directory")
    found = registered.find(reference)
    name, version = found.name, found.version
    root = registry.version_directory(name, version)
    if not (root / FACTS).is_file():
        raise ValueError(
            f"{name}/{version}: has no card, without which nothing leaves the registry; "
            "`python -m flows cards` with its recipe writes one"
        )
    facts = json.loads((root / FACTS).read_text(encoding="utf-8"))
    failed = [audit["audit"] for audit in facts["audits"] if audit["verdict"] == Verdict.FAIL]
    why = f"fails the audit {failed[0]}" if failed else "" if found.aliases else "has no alias: no gate let it through"
    if why and reference != f"{name}/{version}":
        raise ValueError(f"{reference}: version {version} {why}; export it as {name}/{version} if you mean to")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.with_name(f".new-{directory.name}.partial")
    if temporary.exists():
        shutil.rmtree(temporary)  # of a run that was killed
    shutil.copytree(registry.model_directory(name, version), temporary)
    for card in (CARD, FACTS):
        shutil.copyfile(root / card, temporary / card)
    shutil.copytree(root / "data", temporary / "data")
    _say_for_others(temporary, facts["kind"])
    files = sorted(path for path in temporary.rglob("*") if path.is_file())
    lines = [f"{file_digest(path)}  {path.relative_to(temporary).as_posix()}\n" for path in files]
    (temporary / SUMS).write_text("".join(lines), encoding="utf-8")
    fsync_tree(temporary)
    temporary.replace(directory)
    return directory


def _say_for_others(directory: Path, kind: str) -> None:
    """Say in a model directory what other programs read there and the project itself does not.

    Where an answer ends stands in the generation config, how long a text may be in ``model_max_length``. Programs on a
    transformers before version 5 look for ``torch_dtype`` and ``rope_theta``, and know the tokenizer's class and its
    further special tokens by older names. The project's chat template goes where the model never saw a turn: with it,
    it would be taken for an assistant.
    """
    from transformers import GenerationConfig

    from models.bases import load_tokenizer
    from models.chat import CHAT_TEMPLATE
    from models.generation import ends

    tokenizer = load_tokenizer(str(directory))
    with _edited(directory / "config.json") as config:
        config["torch_dtype"] = config.get("dtype", "float32")
        theta = (config.get("rope_parameters") or {}).get("rope_theta")
        config |= {} if theta is None else {"rope_theta": theta}
    with _edited(directory / "tokenizer_config.json") as values:
        for leftover in LEFTOVERS:
            values.pop(leftover, None)
        if values.get("tokenizer_class") == "TokenizersBackend":
            values["tokenizer_class"] = "PreTrainedTokenizerFast"
        if isinstance(values.get("extra_special_tokens"), list):
            values["additional_special_tokens"] = values.pop("extra_special_tokens")
        context = config.get("max_position_embeddings")
        if context:
            values["model_max_length"] = min(values.get("model_max_length", context), context)
    if kind not in TURNS and tokenizer.chat_template == CHAT_TEMPLATE:
        (directory / "chat_template.jinja").unlink()
    if KINDS[kind].auto == "AutoModelForCausalLM":
        path = directory / "generation_config.json"
        known = GenerationConfig.from_pretrained(directory) if path.is_file() else None
        with _edited(path) as values:
            values.pop("_from_model_config", None)  # else a program may take the model's own config for it
            values |= {"eos_token_id": ends(known, tokenizer), "pad_token_id": tokenizer.pad_token_id}


@contextmanager
def _edited(path: Path) -> Iterator[dict[str, Any]]:
    """Give the values of a JSON file, none where there is no file, and write them back."""
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    yield values
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
