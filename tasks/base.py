"""An existing model to start from: a directory, a commit of the hub, or a registered version, by its digest."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from models.bases import family, read_config
from tasks import registry
from tasks.hub import reached
from tasks.receipts import Part
from tasks.recipe import PretrainConfig, Recipe
from tasks.workspace import file_digest, text_digest

PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model")
"""The files of a base that count: weights, configs, vocabularies. No code, and nothing pickled."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def pin_base(recipe: Recipe) -> Recipe:
    """Return the recipe with the version in place of the alias, where its base is a registered model.

    Once, when a recipe is opened: an alias that moves in the middle of a run would give the steps different bases.
    """
    version = registered_base(recipe.pretrain.base)
    if version is None:
        return recipe
    pretrain = recipe.pretrain.model_copy(update={"base": f"{registry.REGISTERED}{'/'.join(version)}"})
    return recipe.model_copy(update={"pretrain": pretrain})


def registered_base(base: str) -> tuple[str, str] | None:
    """Return (name, version) of a base that is a registered model; None for another one.

    ValueError says which versions there are, where it is not one of them.
    """
    if not base.startswith(registry.REGISTERED):
        return None
    reference = base.removeprefix(registry.REGISTERED)
    found = registry.find_version(reference)
    if found is None:
        known = registry.versions()
        own = [version for version in known if version.name == re.split("[@/]", reference)[0]]
        names = [f"{version.reference} {' '.join(version.aliases)}".strip() for version in own]
        there = ", ".join(names or sorted({version.name for version in known})) or "nothing registered yet"
        raise ValueError(f"pretrain.base: {base}: no such registered version; there is {there}")
    return found.name, str(found.version)


def find_base(pretrain: PretrainConfig) -> Part | None:
    """Return the base of a recipe as something to depend on, fetched into the Hugging Face cache where need be.

    None without a base. Raises ValueError for one that is not there, that would run code, or that sees other
    sides than the recipe's objective.
    """
    if not pretrain.base:
        return None
    directory = _locate(pretrain.base, pretrain.revision)
    found = family(read_config(str(directory)), pretrain.base)
    if found != pretrain.family:
        raise ValueError(
            f"pretrain.base: {pretrain.base} is a {found} language model, "
            f"pretrain.objective {pretrain.objective} starts from a {pretrain.family} one"
        )
    files = {path.name: file_digest(path) for path in _files(directory)}
    return Part(name="base", directory=directory, digest=text_digest(json.dumps(sorted(files.items()))))


def take_base(base: Part, out: Path) -> dict[str, Any]:
    """Copy the base's weights and config to `out`/model as they are, with its tokenizer; return their facts."""
    from safetensors import safe_open

    from tasks.encoding_base import take_tokenizer

    model = out / "model"
    take_tokenizer(base.directory, model)
    parameters = 0
    for path in _files(base.directory):
        weights = path.suffix == ".safetensors"
        if weights or path.name in ("config.json", "generation_config.json", "model.safetensors.index.json"):
            shutil.copyfile(path, model / path.name)
        if weights:
            with safe_open(path, framework="numpy") as tensors:
                shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
            parameters += sum(_product(shape) for shape in shapes)
    return {"parameters": parameters}


def _locate(base: str, revision: str) -> Path:
    """Return the directory of a base; a directory of this machine goes before a name of the hub."""
    registered = registered_base(base)
    if registered is not None:
        if revision:
            raise ValueError(f"pretrain.revision: is for a model of the hub, but {base} is a registered one")
        return registry.model_directory(*registered)
    if Path(base).is_dir():
        if revision:
            raise ValueError(f"pretrain.revision: is for a model of the hub, but {base} is a directory")
        return Path(base)
    if not _HUB_ID.fullmatch(base):
        raise ValueError(f"pretrain.base: {base}: no such directory (a model of the hub is named owner/name)")
    if not revision:
        raise ValueError(f"pretrain.revision: is missing, expected the commit (40 hex digits) of {base} on the hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import HfHubHTTPError

    try:
        with reached():
            return Path(snapshot_download(base, revision=revision, allow_patterns=list(PATTERNS)))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"pretrain.base: {base} at {revision[:12]} cannot be fetched from the hub: {reason}") from None


def _files(directory: Path) -> list[Path]:
    return sorted(path for pattern in PATTERNS for path in directory.glob(pattern))


def _product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
