"""The MLflow registry: versions found again by what they are, and the alias that names the champion."""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from tasks import tracking
from tasks.lineage import PREFIX, REGISTERED, Version
from tasks.workspace import VAR

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SERVED = Path(__file__).resolve().parent.parent / "mlflow" / "served_model.py"
PROMOTION_KEY = "alma.promotion_key"
EVIDENCE = "alma.evidence"
DECISION = "alma.decision"
LOGGED = f"{REGISTERED}m-"
"""How the source of a version begins that was made of a logged model."""
MODEL = Path("artifacts", "model")
"""Where a version has its Hugging Face directory."""
PAGE = 1000
"""Versions, or models, that the registry is asked for at once."""


def champion(name: str) -> tuple[str, dict[str, Any]] | None:
    """Return (version, evidence it was promoted on) of the model's champion, or None without one."""
    found = find_version(name)
    return None if found is None else (str(found.version), json.loads(found.tags.get(EVIDENCE, "{}")))


def champions() -> dict[str, str]:
    """Return the version of each registered model that has a champion; FileNotFoundError where there is no registry."""
    if not _has_store():
        raise FileNotFoundError(f"{os.environ['MLFLOW_TRACKING_URI']}: there is no registry yet")
    found = _all(tracking.client().search_registered_models)
    return {model.name: str(model.aliases["champion"]) for model in found if "champion" in model.aliases}


def carried(name: str, version: str) -> dict[str, str]:
    """Return what a version carries: its tags of ours without their prefix."""
    tags = tracking.client().get_model_version(name, version).tags
    return {tag.removeprefix(PREFIX): value for tag, value in tags.items() if tag.startswith(PREFIX)}


def find(name: str, promotion_key: str) -> str | None:
    """Return the version that was registered under ``promotion_key``, or None."""
    return max(with_tag(name, PROMOTION_KEY, promotion_key), key=int, default=None)


def with_tag(name: str, tag: str, value: str) -> dict[str, dict[str, str]]:
    """Return version -> its tags, of the model's versions that carry ``value`` under ``tag``."""
    found = tracking.client().search_model_versions(f"name = '{name}' and tags.`{tag}` = '{value}'")
    return {str(version.version): dict(version.tags) for version in found}


def tags_of(name: str, version: str) -> dict[str, str] | None:
    """Return what a version carries; None where it is not there, or not any more."""
    found = find_version(f"{name}/{version}")
    return None if found is None else dict(found.tags)


def model_of(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the tags of a registered model, and alias -> version; ValueError says which models there are."""
    from mlflow.exceptions import MlflowException

    if _has_store():
        try:
            found = tracking.client().get_registered_model(name)
            return dict(found.tags), {alias: str(version) for alias, version in found.aliases.items()}
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
    known = sorted({version.name for version in versions()})
    raise ValueError(f"{name}: no such registered model; there is {', '.join(known) or 'none yet'}")


def note(name: str, tag: str, value: str, version: str | None = None) -> None:
    """Set a tag of a registered model, or of one of its versions."""
    if version is None:
        tracking.client().set_registered_model_tag(name, tag, value)
    else:
        tracking.client().set_model_version_tag(name, version, tag, value)


def point(name: str, alias: str, version: str | None) -> None:
    """Let an alias point at a version; None takes it away."""
    if version is None:
        tracking.client().delete_registered_model_alias(name, alias)
    else:
        tracking.client().set_registered_model_alias(name, alias, version)


@contextmanager
def held(name: str) -> Iterator[None]:
    """Keep others of this workspace from changing a registered model; a block inside of such a block is part of it."""
    lock = VAR / "locks" / f"registry.{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock, is_singleton=True):
        yield


def is_remote() -> bool:
    """Return whether the registry is that of a server."""
    return os.environ["MLFLOW_TRACKING_URI"].startswith(("http://", "https://"))


def version_directory(name: str, version: str, place: str | None = None) -> Path:
    """Return the directory of a registered version with all that lies in it.

    Fetched, into a new temporary directory or into ``place``, where the store is elsewhere.
    """
    import mlflow

    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    return Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=place))


@contextmanager
def borrowed_directory(name: str, version: str) -> Iterator[Path]:
    """Give the Hugging Face directory of a registered version; what a server sent of it is deleted afterwards."""
    if not is_remote():
        yield model_directory(name, version)
        return
    with TemporaryDirectory(prefix="alma-") as place:
        yield version_directory(name, version, place) / MODEL


def model_directory(name: str, version: str) -> Path:
    """Return the Hugging Face directory of a registered version, fetched where the store is elsewhere."""
    return version_directory(name, version) / MODEL


def evidence_name(step: str, digest: str) -> str:
    """Return where a run keeps what one of its versions rests on."""
    return f"{step}/{digest[:16]}"


def assessed_file(name: str, version: str, file: str) -> Path | None:
    """Return a file of the assessment that a version was decided on; None where it was not kept."""
    found = tracking.client().get_model_version(name, version)
    if found.run_id is None:
        return None
    kept = tracking.fetch(found.run_id, evidence_name("assess", found.tags.get("alma.assessment_digest", "")))
    return kept / file if kept is not None and (kept / file).is_file() else None


def start_of(name: str, version: str) -> Path | None:
    """Return the directory of the version that a registered version was tuned from, by its lineage; None if unknown."""
    tags = tracking.client().get_model_version(name, version).tags
    role = "start" if "alma.start" in tags else "foundation"
    found, number = tags.get(f"alma.{role}"), tags.get(f"alma.{role}_version", "None")
    return None if found is None or number == "None" else model_directory(found, number)


def directory_of(reference: str) -> Path | None:
    """Return the Hugging Face directory of `name` (its champion), `name@alias` or `name/version`; None without it."""
    found = find_version(reference)
    return None if found is None else model_directory(found.name, str(found.version))


def find_version(reference: str) -> "ModelVersion | None":
    """Return what the registry holds of `name` (its champion), `name@alias` or `name/version`; None without it.

    Only reads: a store that is not there yet is not made.
    """
    from mlflow.exceptions import MlflowException

    if not _has_store():
        return None
    name, slash, version = reference.partition("/")
    name, _, alias = name.partition("@")
    try:
        if slash:
            return tracking.client().get_model_version(name, version)
        return tracking.client().get_model_version_by_alias(name, alias or "champion")
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def logged_model(name: str, version: str) -> str | None:
    """Return the id of the logged model behind a version; None where the version was made of something else."""
    source = str(tracking.client().get_model_version(name, version).source)
    return source.removeprefix(REGISTERED) if source.startswith(LOGGED) else None


def find_weights(digest: str) -> tuple[str, str] | None:
    """Return (name, version) of the first version that was registered with these weights; None without one."""
    found = tracking.client().search_model_versions(f"tags.`{PREFIX}weights_digest` = '{digest}'")
    first = min(found, key=lambda version: (version.creation_timestamp, version.name), default=None)
    return None if first is None else (first.name, str(first.version))


def versions() -> list[Version]:
    """Return every registered version with its aliases and what it carries, of all models in the registry.

    Deleted ones are not among them: the registry shows them to nobody. Only reads: a store that is not there yet is
    not made, and holds none.
    """
    if not _has_store():
        return []
    client, aliases = tracking.client(), defaultdict(list)
    for model in _all(client.search_registered_models):
        for alias, version in model.aliases.items():
            aliases[model.name, str(version)].append(alias)
    # In an order that does not change while pages are asked for: what is registered meanwhile comes twice at most.
    found = _all(client.search_model_versions, order_by=["name ASC", "version_number ASC"])
    return [
        Version(
            name=version.name,
            version=str(version.version),
            aliases=tuple(sorted(aliases[version.name, str(version.version)])),
            run_id=version.run_id or "",
            created=version.creation_timestamp or 0,
            carried={
                tag.removeprefix(PREFIX): value
                for tag, value in version.tags.items()
                if tag.startswith(PREFIX) and value != str(None)
            },
        )
        for version in found
    ]


def _has_store() -> bool:
    store = os.environ["MLFLOW_TRACKING_URI"].partition("sqlite:///")[2]
    return not store or Path(store).exists()


def _all(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    """Return what a search of the registry finds on all its pages."""
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token, **arguments)
        yield from page
        token = page.token
        if not token:
            return


def answering(kind: str, directory: Path) -> Any:
    """Return what `mlflow models serve` asks of a model: the model of mlflow/served_model.py.

    Of this checkout's file, never of the copy beside a version, which would be code out of the registry.
    """
    from importlib.util import module_from_spec, spec_from_file_location
    from types import SimpleNamespace

    spec = spec_from_file_location("served_model", SERVED)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.OfFields() if kind in module.FIELDS else module.OfTexts()
    model.load_context(SimpleNamespace(artifacts={"model": str(directory)}, model_config={"task": kind}))
    return model


def describe(name: str, version: str, cards: Path, of_model: str, of_version: str) -> None:
    """Keep a directory of cards beside a version's own files, and say in short what model and version are.

    Again for a version that has cards: the new ones take their place.
    """
    client, kept = tracking.client(), logged_model(name, version)
    assert kept is not None, f"{name}/{version} was registered by other means"
    client.log_model_artifacts(kept, str(cards))
    client.update_registered_model(name, description=of_model)
    client.update_model_version(name, version, description=of_version)


def register(
    name: str,
    model: Path,
    task: str,
    run_id: str,
    promotion_key: str,
    tags: dict[str, str],
    example: list[Any],
    alias: str | None,
) -> str:
    """Register a model directory as a version with its lineage, once a ``promotion_key``; set its alias.

    The version is a pyfunc from code: the Hugging Face directory as it is (safetensors, no pickle) and
    the file that serves it. Two promotions of one model wait for each other, and the alias is moved
    only after the version stands, so that a kill in between leaves the old champion in place. A version that is
    found gets the tags that it does not have yet, and keeps those that it has.
    """
    with held(name):
        version = find(name, promotion_key)
        if version is None:
            uri = _log_model(name, model, task, run_id, example)
            version = _create_version(name, uri, run_id, {PROMOTION_KEY: promotion_key, **tags})
        client = tracking.client()
        known = client.get_model_version(name, version).tags
        for tag in tags.keys() - known.keys():
            client.set_model_version_tag(name, version, tag, tags[tag])
        if alias is not None and _alias_of(name, alias) != version:
            client.set_registered_model_alias(name, alias, version)
        return version


def _alias_of(name: str, alias: str) -> str | None:
    aliases = tracking.client().get_registered_model(name).aliases
    found = aliases.get(alias)
    return None if found is None else str(found)


def _log_model(name: str, model: Path, task: str, run_id: str, example: list[Any]) -> str:
    import mlflow

    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    with mlflow.start_run(run_id=run_id):
        info = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(SERVED),
            artifacts={"model": str(model.resolve())},
            model_config={"task": task},
            pip_requirements=[f"{package}=={installed(package)}" for package in ("mlflow", "torch", "transformers")],
            input_example=example,
        )
    return str(info.model_uri)


def _create_version(name: str, uri: str, run_id: str, tags: dict[str, str]) -> str:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    client, model_id = tracking.client(), uri.removeprefix(REGISTERED)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(name, uri, run_id=run_id, tags=tags, model_id=model_id)
    # A server says so itself; without one the pages would call the model not registered.
    known_as = json.dumps([{"name": name, "version": version.version}])
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: known_as})
    return str(version.version)
