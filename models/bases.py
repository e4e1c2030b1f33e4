"""The model and the tokenizer that a job starts from: new ones, a foundation of ours, or anyone's directory.

Nothing of a directory is ever run: weights come from safetensors, code from transformers alone.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.adapters import quantisation
from models.job import Job
from models.objectives import OBJECTIVES, Family

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

CHATTING = frozenset(name for name, info in OBJECTIVES.items() if info.rows in ("instruction", "preference"))
"""Objectives whose rows are turns of the chat format."""


def read_config(directory: str) -> dict[str, Any]:
    """Return the config.json of a model directory that can be loaded without running anything of it.

    Light: reads no weights. Raises ValueError for a directory without a model of transformers, with code of its
    own (`auto_map`) or with pickled weights alone.
    """
    root = Path(directory)
    if not (root / "config.json").is_file():
        raise ValueError(f"base: {root} has no config.json, expected a Hugging Face model directory")
    config = _read_json(root / "config.json")
    if "auto_map" in config:
        raise ValueError(
            f"base: {root / 'config.json'}: auto_map names code that comes with the model and is never run, "
            "expected an architecture of transformers"
        )
    if not any(root.glob("*.safetensors")):
        pickled = sorted(path.name for end in ("bin", "pt", "pth", "ckpt") for path in root.glob(f"*.{end}"))
        found = f"pickled weights alone ({pickled[0]}), which may run code" if pickled else "no weights"
        raise ValueError(f"base: {root} has {found}, expected model.safetensors")
    return config


def family(config: dict[str, Any], where: str) -> Family:
    """Return what the attention of a model sees, from its config.json; ValueError names `where` otherwise."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.get("model_type")
    if not config.get("is_encoder_decoder"):
        if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_decoder"):
            return "masked"
        if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            return "causal"
    raise ValueError(f"base: {where}: model_type is {kind!r}, expected a causal or a masked language model")


def load_tokenizer(directory: str, objective: str | None = None) -> "PreTrainedTokenizerFast":
    """Return the tokenizer, with the special tokens that the objective needs.

    A chatting objective gets the markers of the chat format and its template, in place of any other: they are the
    only tokens that are ever added. A tokenizer without a padding token pads with its end token, which no loss and
    no attention here looks at. Raises ValueError naming the directory and the token that is missing.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    root = Path(directory)
    if not (root / "tokenizer.json").is_file():
        raise ValueError(f"{root}: no tokenizer.json, expected a Hugging Face tokenizer directory")
    if (root / "tokenizer_config.json").is_file() and "auto_map" in _read_json(root / "tokenizer_config.json"):
        raise ValueError(f"{root / 'tokenizer_config.json'}: auto_map names code of its own, which is never run")
    # By tokenizer.json as it stands: the class of an architecture (Qwen2's) would put its own rules in their place.
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(directory)
    if tokenizer.eos_token is None and tokenizer.sep_token is None:
        # Older directories leave the names of the special tokens to that class.
        known: Any = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        for name in tokenizer.SPECIAL_TOKENS_ATTRIBUTES:
            if getattr(known, name, None) in tokenizer.get_vocab():
                setattr(tokenizer, name, getattr(known, name))
    # Limits that its last user stored would cut or pad every text.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    if tokenizer.eos_token_id is None and objective and OBJECTIVES[objective].bases == ("causal",):
        raise ValueError(f"{root}: the tokenizer has no eos_token, which {objective} needs")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ValueError(f"{root}: the tokenizer has neither a pad_token nor an eos_token to pad with")
        tokenizer.pad_token = tokenizer.eos_token
    if objective in CHATTING:
        extend(tokenizer)
    fast: PreTrainedTokenizerFast = tokenizer
    return fast


def extend(tokenizer: "PreTrainedTokenizerFast") -> None:
    """Give the tokenizer the chat format: its three markers, where missing, and its template."""
    from models.chat import ASSISTANT, CHAT_TEMPLATE, END, USER

    vocabulary = tokenizer.get_vocab()
    missing = [token for token in (USER, ASSISTANT, END) if token not in vocabulary]
    if missing:
        tokenizer.add_special_tokens({"extra_special_tokens": missing}, replace_extra_special_tokens=False)
    tokenizer.chat_template = CHAT_TEMPLATE


def fresh_ids(job: Job, tokenizer: "PreTrainedTokenizerFast") -> list[int]:
    """Return the ids of the tokens that the stored tokenizer of the job does not have, in ascending order."""
    from tokenizers import Tokenizer

    stored = Tokenizer.from_file(str(Path(job.tokenizer) / "tokenizer.json")).get_vocab(with_added_tokens=True)
    return sorted(number for token, number in tokenizer.get_vocab().items() if token not in stored)


def head_class(objective: str, pairs: bool) -> str:
    """Return the class of transformers that holds the objective's head.

    Masked language models have the head of BERT's pretraining where they also judge pairs of sentences (`pairs`),
    else that of masked tokens alone, which is all that ModernBERT and RoBERTa have.
    """
    return "AutoModelForMaskedLM" if objective == "masked_lm" and not pairs else OBJECTIVES[objective].auto


def load_model(job: Job, tokenizer: "PreTrainedTokenizerFast", **changes: Any) -> "PreTrainedModel":
    """Return the model that the job trains, in float32, with the head of its objective.

    From `job.base`, or new of the size `job.model`. A head that the base does not have is drawn from the job's
    seed, and tokens that the base does not have get rows. `changes` go into the model's config (labels for
    example). Raises ValueError for a directory that is no base of the objective, or does not fit the tokenizer.
    """
    from models.architecture import build

    auto = head_class(job.objective, job.masked_lm.next_sentence)
    if job.model is not None:
        eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        return build(job.model, len(tokenizer), job.seed, eos, pad, auto, **changes)
    assert job.base is not None
    found, allowed = family(read_config(job.base), job.base), OBJECTIVES[job.objective].bases
    if found not in allowed:
        raise ValueError(f"base: {job.base} is a {found} model, {job.objective} starts from a {allowed[0]} one")
    model = _load_base(job, auto, changes)
    grow(model, tokenizer, fresh_ids(job, tokenizer), job.base)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if auto == "AutoModelForCausalLM":
        _require_plain_logits(model, job.base)
    return model


def _load_base(job: Job, auto: str, changes: dict[str, Any]) -> "PreTrainedModel":
    """Return the model of `job.base`, with a new head where it has none that fits; every other weight is its own."""
    import torch
    import transformers

    assert job.base is not None
    head: Any = getattr(transformers, auto)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        try:
            model, info = head.from_pretrained(
                job.base,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **quantisation(job.adapter),
                **changes,
            )
        except OSError as error:
            raise ValueError(f"base: {job.base}: {error}") from None
    new = [str(key) for key in info["missing_keys"]] + [str(key[0]) for key in info["mismatched_keys"]]
    body = f"{model.base_model_prefix}."
    if type(model.base_model).base_model_prefix != model.base_model_prefix:
        # LlamaForQuestionAnswering and its like call their body otherwise than the base does, and would silently
        # start from a random one. (`key_mapping` is no way out: it is undone in saving, and lost in loading again.)
        own = transformers.AutoModel.from_pretrained(
            job.base, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        model.base_model.load_state_dict(own.state_dict())
        new = [key for key in new if not key.startswith(body)]
    # A pooler is a head that some architectures keep in their body.
    lost = [key for key in new if auto == "AutoModelForCausalLM" or (key.startswith(body) and ".pooler." not in key)]
    if lost:
        raise ValueError(f"base: {job.base} lacks the weight {lost[0]} ({len(lost)} in all), expected those of {auto}")
    loaded: PreTrainedModel = model
    return loaded


def grow(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", fresh: list[int], where: str) -> None:
    """Give the fresh ids rows in the model's embeddings, each the mean of the old rows (Hewitt 2021).

    A model may have more rows than tokens, which then become theirs. Raises ValueError naming `where` for a model
    that lacks a token that is not fresh: the tokenizer is another model's.
    """
    import torch

    rows = _rows(model.get_input_embeddings())
    ids = set(tokenizer.get_vocab().values())
    old = sorted(ids - set(fresh))
    if old[-1] >= rows:
        raise ValueError(f"base: {where} has {rows} tokens, its tokenizer {old[-1] + 1}")
    if not fresh:
        return
    if fresh[-1] >= rows:
        model.resize_token_embeddings(fresh[-1] + 1, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            for values in (getattr(layer, "weight", None), getattr(layer, "bias", None)):
                if values is not None:
                    values[fresh] = values[old].mean(0)


def longest_text(model: "PreTrainedModel") -> int:
    """Return the tokens of the longest text that the model has positions for.

    The RoBERTa family counts positions from the padding token's id on, so that its first ones are never used.
    Raises ValueError for a model without a stated length.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        raise ValueError(f"{model.config.model_type} states no max_position_embeddings, expected a longest text")
    table: Any = next((m for n, m in model.named_modules() if n.endswith("embeddings.position_embeddings")), None)
    unused = getattr(table, "padding_idx", None)
    return positions if unused is None else positions - unused - 1


def _rows(layer: "nn.Module") -> int:
    weight: Any = layer.weight
    return int(weight.shape[0])


def _require_plain_logits(model: "PreTrainedModel", where: str) -> None:
    """Raise ValueError where logits are more than the output layer of the last hidden states, as the losses say."""
    import torch

    ids = torch.arange(4)[None].to(model.device)
    head: Any = model.get_output_embeddings()
    model.eval()
    with torch.inference_mode():
        own = model(input_ids=ids, use_cache=False).logits
        ours = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    model.train()
    if not torch.allclose(own, ours, rtol=1e-3, atol=1e-3):
        raise ValueError(f"base: {where}: {model.config.model_type} caps or scales its logits, which no loss here does")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}, expected JSON") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return values
