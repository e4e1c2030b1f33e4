"""The job file of a training run; light to import, since the command line reads it without torch."""

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from models.architecture import ArchitectureConfig
from models.config import Config
from models.trainer import TrainerConfig


class CausalLMOptions(Config):
    """Options of causal_lm alone."""

    context: int | None = Field(default=None, ge=2)
    """Tokens of a training window; empty: the model's longest."""


class ClassificationOptions(Config):
    """Options of classification alone."""

    max_examples: int | None = Field(default=None, ge=1)
    """Train on so many examples, an equal share of each label as far as it goes; empty: all."""


class InstructionOptions(Config):
    """Options of instruction alone."""

    max_examples: int | None = Field(default=None, ge=1)
    """Train on so many examples; empty: all."""


class Job(Config):
    """One training run: what to train, on what, and where everything goes."""

    objective: Literal["causal_lm", "classification", "instruction"]
    """What the model learns."""
    seed: int = 0
    """Seed of the initial weights and of the order of the data."""
    model: ArchitectureConfig | None = None
    """A new model of this size; give either this or `base`."""
    base: str | None = None
    """Hugging Face directory of the model to start from."""
    trainer: TrainerConfig
    """Optimiser, batches and rhythm."""
    tokens: str | None = None
    """Directory of token arrays (causal_lm)."""
    train: str | None = None
    """JSON lines file of training rows (the other objectives)."""
    valid: str | None = None
    """JSON lines file of validation rows."""
    tokenizer: str
    """Hugging Face tokenizer directory."""
    out: str
    """Directory that receives model/, summary.json and history.jsonl."""
    checkpoints: str | None = None
    """Directory of the checkpoints; empty: none are written."""
    spool: str | None = None
    """File that receives metrics and progress as JSON lines."""
    threads: int | None = None
    """CPU threads; empty: torch's own choice."""
    causal_lm: CausalLMOptions = CausalLMOptions()
    """Options of causal_lm."""
    classification: ClassificationOptions = ClassificationOptions()
    """Options of classification."""
    instruction: InstructionOptions = InstructionOptions()
    """Options of instruction."""

    @model_validator(mode="after")
    def _complete(self) -> "Job":
        if (self.model is None) == (self.base is None):
            raise ValueError("model and base: expected exactly one of them")
        if self.objective == "causal_lm":
            if self.tokens is None:
                raise ValueError("tokens is missing, causal_lm expects a directory of token arrays")
        elif self.train is None or self.valid is None:
            raise ValueError(f"train and valid: {self.objective} expects two JSON lines files")
        return self

    def digest(self) -> str:
        """Return the SHA-256 of all that decides the weights: the job's values and its data's bytes."""
        values = self.model_dump(mode="json", exclude={"out", "checkpoints", "spool", "threads"})
        hasher = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
        for name in ("train", "valid"):
            if path := getattr(self, name):
                hasher.update(_file_digest(Path(path)))
        hasher.update(_file_digest(Path(self.tokenizer) / "tokenizer.json"))
        if self.tokens:
            hasher.update(_file_digest(Path(self.tokens) / "meta.json"))
            hasher.update(_file_digest(Path(self.tokens) / "train.bin"))
        if self.base:
            for path in sorted(Path(self.base).glob("*.safetensors")):
                hasher.update(_file_digest(path))
        return hasher.hexdigest()


def _file_digest(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
