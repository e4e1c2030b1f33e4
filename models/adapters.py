"""Low-rank adapters (Hu et al. 2021) by peft: the base is frozen, small matrices beside its layers are trained."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.job import AdapterConfig, Job
from models.objectives import OBJECTIVES

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel

LANGUAGE_MODELS = ("AutoModelForCausalLM", "AutoModelForPreTraining")
"""Classes of transformers whose head is part of the base; the heads of the others are new."""


def quantisation(config: AdapterConfig | None) -> dict[str, Any]:
    """Return the arguments with which `from_pretrained` loads the frozen base of an adapter, in 4 bits if asked.

    NF4 with doubly quantised scales and products in bfloat16 (Dettmers et al. 2023). Raises ValueError where
    the machine cannot.
    """
    if config is None or not config.quantise:
        return {}
    from importlib.util import find_spec

    import torch
    from transformers import BitsAndBytesConfig

    missing = [] if torch.cuda.is_available() else ["a GPU"]
    missing += [] if find_spec("bitsandbytes") else ["the package bitsandbytes"]
    if missing:
        raise ValueError(f"adapter.quantise: 4 bits need {' and '.join(missing)}, which this machine does not have")
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": four_bits, "device_map": {"": torch.cuda.current_device()}}


def add(model: "PreTrainedModel", job: Job, fresh: list[int]) -> "PeftModel":
    """Put adapters into the model, in place, and freeze the rest; the model stays an object of its own class.

    What the base does not have is trained in full: the head of the objective (and a pooler), and the rows of the
    `fresh` tokens. The first update starts from the base exactly, since one of the two matrices is zero; the
    other is drawn from the job's seed. Raises ValueError for a target that names no linear layer.
    """
    import torch
    from peft import LoraConfig, PeftModel
    from transformers.pytorch_utils import Conv1D

    config = job.adapter
    assert config is not None
    heads = _heads(model, job)
    linear = {
        name: module
        for name, module in model.named_modules()
        # Layers in 4 bits are subclasses of nn.Linear.
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not model.get_output_embeddings()
    }
    inside = {name for name in linear if not set(name.split(".")) & set(heads)}
    leaves = {name.rpartition(".")[2] for name in inside}
    for target in config.targets:
        if target not in leaves:
            raise ValueError(f"adapter.targets: no linear layer {target!r}; there are {', '.join(sorted(leaves))}")
    targets = set(config.targets) or leaves
    outside = [name for name in linear if name not in inside and name.rpartition(".")[2] in targets]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        wrapped = PeftModel(
            model,
            LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft divides it by r, whole or not
                lora_dropout=config.dropout,
                target_modules=sorted(targets),
                exclude_modules=outside or None,
                modules_to_save=heads or None,
                fan_in_fan_out=any(isinstance(linear[name], Conv1D) for name in inside),
            ),
        )
    if fresh:
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            _train_rows(layer, fresh)
    return wrapped


def _heads(model: "PreTrainedModel", job: Job) -> list[str]:
    """Return the names of the modules that the base lacks, so that they are trained in full."""
    if OBJECTIVES[job.objective].auto in LANGUAGE_MODELS:
        return []
    children = [
        name
        for name, child in model.named_children()
        if child is not model.base_model and next(child.parameters(), None) is not None
    ]
    pooled = any(name.rpartition(".")[2] == "pooler" for name, _ in model.base_model.named_modules())
    return [*children, *(["pooler"] if pooled else [])]


def _train_rows(layer: "nn.Module | None", rows: list[int]) -> None:
    """Let only some rows of an embedding or output layer be trained: the gradient of the others is zero.

    AdamW leaves a weight whose gradient was always zero as it is, if it has no decay (`models.optim` sees to it).
    """
    import torch

    weight: Any = getattr(layer, "weight", None)
    if weight is None or hasattr(weight, "trained_rows"):  # tied to the other one
        return
    weight.requires_grad_(True)
    weight.trained_rows = rows
    chosen = torch.zeros(len(weight), 1)
    chosen[rows] = 1
    weight.register_hook(lambda gradient: gradient * chosen.to(gradient))


def trainable_count(model: "nn.Module") -> int:
    """Return how many values are trained; of a weight with `trained_rows`, those rows alone."""
    return sum(
        len(getattr(weight, "trained_rows", weight)) * (weight.numel() // len(weight) if weight.ndim else 1)
        for weight in model.parameters()
        if weight.requires_grad
    )


def frozen_flops_per_token(model: "PreTrainedModel", head_share: float) -> float:
    """Return the operations that freezing saves for one token: no gradient of N frozen weights, 2 N of about 6 N.

    Forward and the gradients of the activations remain. What counts is what
    `models.architecture.training_flops_per_token` counts.
    """
    from torch import nn

    head = model.get_output_embeddings()
    output = set() if head is None else {id(head.weight)}
    tables = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)} - output
    frozen = (weight for weight in model.parameters() if not weight.requires_grad and id(weight) not in tables)
    return 2.0 * sum(weight.numel() * (head_share if id(weight) in output else 1.0) for weight in frozen)


def save_adapter(wrapped: "PeftModel", directory: Path, fresh: list[int]) -> None:
    """Write adapter_model.safetensors and adapter_config.json as peft reads them, the same bytes each time.

    With fresh tokens the embeddings are part of it, and the base must get their rows before peft loads it.
    """
    wrapped.save_pretrained(str(directory), save_embedding_layers=bool(fresh))
    (directory / "README.md").unlink(missing_ok=True)
    path = directory / "adapter_config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    # peft holds sets, whose order changes from process to process.
    ordered = {name: sorted(value) if isinstance(value, list) else value for name, value in values.items()}
    path.write_text(json.dumps(ordered, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def merge(wrapped: "PeftModel", job: Job, adapter: Path) -> "PreTrainedModel":
    """Return the plain model with W + alpha / rank * B A in place of each adapted W.

    A base in 4 bits is loaded again in float32, so that the merged weights are not rounded to 4 bits.
    """
    assert job.adapter is not None
    merged: Any
    if job.adapter.quantise:
        import torch
        import transformers
        from peft import PeftModel

        head: Any = getattr(transformers, OBJECTIVES[job.objective].auto)
        model: Any = wrapped.get_base_model()
        base = head.from_pretrained(
            job.base,
            config=_without_quantisation(model.config),
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
        )
        merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload(safe_merge=True)
    else:
        merged = wrapped.merge_and_unload(safe_merge=True)
    plain: PreTrainedModel = merged
    return plain


def _without_quantisation(config: Any) -> Any:
    plain = type(config).from_dict(config.to_dict())
    if hasattr(plain, "quantization_config"):
        del plain.quantization_config
    return plain
