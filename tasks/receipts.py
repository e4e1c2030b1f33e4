"""A step's result is a directory with a receipt; whoever comes later finds it done or computes it.

``artifacts/<recipe>/<step>/receipt.json`` names the step's key, that is the sha256 of the step, its
part of the recipe, the content digests of its parents and the digest of its code, and the sha256 of
every file that it made. A step whose key and files still agree is done; else it is computed in a
temporary sibling, flushed to the disk and renamed into place, so that a reader sees a whole result
or none.
"""

import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from models.config import Config
from tasks.code import code_digest
from tasks.console import duration, log
from tasks.workspace import (
    VAR,
    file_digest,
    fsync_tree,
    step_directory,
    text_digest,
    this_process,
    write_atomically,
)

RECEIPT = "receipt.json"


class Part(Config):
    """A named part of a step's result: what a later step depends on, and no more."""

    name: str
    directory: Path
    digest: str


class Receipt(Config):
    """What a finished step left: where it lies, what it was made from, and what it cost."""

    recipe: str
    step: str
    key: str
    digest: str
    """sha256 over the names and digests of all files: the content, whatever the time it was made."""
    parents: dict[str, str]
    config: Any
    code: str
    files: dict[str, str]
    metrics: dict[str, Any]
    cost: dict[str, float]
    """Seconds, processor seconds and, where a model was trained, FLOPs and tokens."""
    content: str
    """The directory of the files, relative to the workspace."""

    @property
    def directory(self) -> Path:
        return Path(self.content)

    def part(self, prefix: str = "") -> Part:
        """Return the files below ``prefix`` as something to depend on.

        A step that depends on a part is not computed again when only another part changes: adding a
        specialist's data leaves the foundation's text, and so the foundation, as they are.
        """
        files = {name: digest for name, digest in self.files.items() if name.startswith(f"{prefix}/") or not prefix}
        assert files, f"{self.step} made nothing under {prefix!r}"
        name = f"{self.step}/{prefix}" if prefix else self.step
        return Part(name=name, directory=self.directory / prefix, digest=_digest(files))


class Result(Config):
    """The receipts of one model: where it starts, what it became, and what was found about it."""

    start: "Result | None" = None
    """The model that it was tuned from; none for a foundation."""
    reward: "Result | None" = None
    """The model that scored its answers while it learnt (rlhf)."""
    pretrained: Receipt | None = None
    """Of a foundation that was adapted to a domain: its training before that."""
    trained: Receipt
    """The step that made its weights."""
    beside: Receipt | None = None
    """The model that it is compared with: its twin from scratch, or the one that it was before."""
    assessed: Receipt
    audited: Receipt
    mitigated: Receipt | None = None
    """What mitigations were tried and which was kept, where the recipe asks; the receipts above are of the kept one."""
    guarded: Receipt | None = None
    """What its score may have cost: robustness, general knowledge, time; none before it was measured."""
    in_context: Receipt | None = None
    """What it does from a prompt alone, where the recipe asks."""
    promoted: Receipt | None = None
    """Its decision; none before it fell."""

    @property
    def foundation(self) -> "Result":
        """Return the foundation at the root of the model's starts."""
        return self if self.start is None else self.start.foundation

    @property
    def version(self) -> str | None:
        """Return the version under which the model is registered, if a decision was made."""
        return None if self.promoted is None else str(self.promoted.metrics["version"])


def run_step(
    recipe: str,
    step: str,
    *,
    config: Any,
    parents: list[Part],
    compute: Callable[[Path, str], Mapping[str, Any]],
    code: tuple[str, ...] = (),
    content: Path | None = None,
    still_true: Callable[[Receipt], bool] = lambda receipt: True,
) -> Receipt:
    """Return the step's verified receipt, computing the step only where it is not already done.

    Args:
        config: the part of the recipe that the result depends on (plain values or a ``Config``).
        compute: fills the directory it is given (the key comes with it) and returns the metrics; a ``cost`` entry
            among them (numbers by name) is added to the measured seconds.
        code: modules beyond the one of ``compute`` that make the result (a subprocess' modules).
        content: where the files go, if not beside the receipt.
        still_true: a last look at what the files cannot show (a registry that forgot a version).

    Two runs (or threads) at one step: the second is told who holds it, waits, and then finds the step done. Processor
    seconds are of the whole process and its children: steps in parallel count each other's.
    """
    plain = config.model_dump(mode="json") if isinstance(config, Config) else config
    digests = {part.name: part.digest for part in parents}
    code_key = code_digest(compute.__module__, *code)
    key = text_digest(json.dumps([step, plain, digests, code_key], sort_keys=True))
    directory = step_directory(recipe, step)
    with _held(recipe, step):
        found = verify(directory)
        if found is not None and found.key == key and still_true(found):
            log.info("%-24s found done", step)
            return found
        log.info("%-24s starts%s", step, _why(found, plain, digests, code_key))
        target = content or directory
        temporary = _fresh_sibling(target)
        started, processor = time.perf_counter(), _processor_seconds()
        metrics = dict(compute(temporary, key))
        cost = {
            "seconds": round(time.perf_counter() - started, 3),
            "processor_seconds": round(_processor_seconds() - processor, 3),
            **metrics.pop("cost", {}),
        }
        files = _file_digests(temporary)
        receipt = Receipt(
            recipe=recipe,
            step=step,
            key=key,
            digest=_digest(files),
            parents=digests,
            config=plain,
            code=code_key,
            files=files,
            metrics=metrics,
            cost=cost,
            content=target.as_posix(),
        )
        text = receipt.model_dump_json(indent=1) + "\n"
        if content is None:
            (temporary / RECEIPT).write_text(text, encoding="utf-8")
        fsync_tree(temporary)
        _swap_in(temporary, target)
        if content is not None:
            write_atomically(directory / RECEIPT, text)
        log.info("%-24s done in %s", step, duration(cost["seconds"]))
        return receipt


def verify(directory: Path) -> Receipt | None:
    """Return the receipt in ``directory`` if every file it names is there with the digest it names.

    A receipt or a file that does not agree is named in a warning, and None is returned: the step is
    then computed again.
    """
    path = directory / RECEIPT
    if not path.exists():
        return None
    try:
        receipt = Receipt.model_validate_json(path.read_bytes())
    except ValidationError as error:
        log.warning("%s is damaged (%s): the step is computed again", path, error.errors()[0]["msg"])
        return None
    for name, digest in receipt.files.items():
        file = receipt.directory / name
        if not file.is_file():
            log.warning("%s is missing: step %s is computed again", file, receipt.step)
            return None
        if file_digest(file) != digest:
            log.warning("%s is not what step %s wrote: it is computed again", file, receipt.step)
            return None
    if receipt.digest != _digest(receipt.files):
        log.warning("%s was edited: the step is computed again", path)
        return None
    return receipt


class _held:
    """Hold a step's lock, telling a second run who holds it; the system frees a killed holder's lock."""

    def __init__(self, recipe: str, step: str) -> None:
        stem = f"{recipe}.{step.replace('/', '.')}"
        self.step = step
        self.path = VAR / "locks" / f"{stem}.lock"
        self.holder = VAR / "locks" / f"{stem}.holder.json"

    def __enter__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.path)
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            try:
                holder = json.loads(self.holder.read_text())
                who = f"process {holder['pid']} on {holder['host']}"
            except (OSError, ValueError, KeyError):
                who = "another process"
            log.info("%-24s is held by %s: waiting for it", self.step, who)
            self.lock.acquire()
        write_atomically(self.holder, json.dumps(this_process()))

    def __exit__(self, *_: object) -> None:
        self.holder.unlink(missing_ok=True)
        self.lock.release()


def _why(found: Receipt | None, config: Any, parents: dict[str, str], code: str) -> str:
    """Say what changed since the result that is there was made."""
    if found is None:
        return ""
    reasons = [
        *(["its part of the recipe"] if found.config != config else []),
        *(sorted(name for name, digest in parents.items() if found.parents.get(name) != digest)),
        *(["its code"] if found.code != code else []),
    ]
    return f" ({', '.join(reasons)} changed)" if reasons else ""


def _fresh_sibling(target: Path) -> Path:
    """Make the empty temporary directory beside ``target``, removing what a killed run left there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # By their whole names: a pattern would take away what another step, of a name that ends alike, is making.
    temporary, old = (target.with_name(f".{age}-{target.name}.partial") for age in ("new", "old"))
    for leftover in (temporary, old):
        if leftover.exists():
            shutil.rmtree(leftover)
    temporary.mkdir()
    return temporary


def _swap_in(temporary: Path, target: Path) -> None:
    """Rename ``temporary`` to ``target``, taking away what is there."""
    old = target.with_name(f".old-{target.name}.partial")
    if target.exists():
        target.replace(old)
    temporary.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if old.exists():
        shutil.rmtree(old)


def _processor_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def part_digest(directory: Path, prefix: str) -> str:
    """Return the digest of a receipt's part ``prefix`` whose files are those of ``directory``, a copy perhaps."""
    return _digest({f"{prefix}/{name}": digest for name, digest in _file_digests(directory).items()})


def _file_digests(directory: Path) -> dict[str, str]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): file_digest(path) for path in paths}


def _digest(files: Mapping[str, str]) -> str:
    return text_digest(json.dumps(sorted(files.items())))
