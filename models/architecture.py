"""The size dial: from a name or explicit fields to a Llama, BERT or ModernBERT of the transformers library."""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator, model_validator

from models.config import Config

# The configuration is read by the command line, which must not wait for torch: the builders import it.
if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel


class Size(NamedTuple):
    """One row of the size table; widths count features, `context` counts tokens."""

    layers: int
    hidden: int
    heads: int
    key_value_heads: int
    intermediate: int
    context: int
    tied: bool


SIZES: dict[str, Size] = {
    "tiny": Size(4, 128, 4, 4, 384, 64, True),
    "small": Size(6, 384, 6, 6, 1024, 256, True),
    "124m": Size(12, 768, 12, 12, 2048, 1024, True),
    "350m": Size(24, 1024, 16, 16, 2752, 1024, True),
    "1b": Size(22, 2048, 32, 4, 5632, 2048, False),
}
"""tiny: the starter's; 124m and 350m: GPT-2's widths (Radford et al. 2019) with a SwiGLU of equal cost;
1b: TinyLlama (Zhang et al. 2024). BERT's feed-forward layer has no gate and so is half as wide again: 124m is
BERT-base (Devlin et al. 2019)."""

LOCAL_ATTENTION = 128
"""Tokens that ModernBERT's local layers see (Warner et al. 2024); every third layer sees all of a longer context."""


class ArchitectureConfig(Config):
    """How large the model is: a named size, and what to change in it."""

    family: Literal["llama", "bert", "modernbert"] = "llama"
    """llama sees what came before (causal_lm); bert and modernbert see both sides (masked_lm)."""
    size: Literal["tiny", "small", "124m", "350m", "1b"] = "tiny"
    """Named size; the fields below replace single values of it."""
    layers: int | None = Field(default=None, ge=1, le=512)
    """Number of transformer blocks."""
    hidden: int | None = Field(default=None, ge=2, le=65536)
    """Width of the residual stream; a multiple of `heads`, and the width of a head must be even."""
    heads: int | None = Field(default=None, ge=1, le=512)
    """Number of attention heads."""
    key_value_heads: int | None = Field(default=None, ge=1, le=512)
    """llama: number of key and value heads (grouped-query attention); must divide `heads`."""
    intermediate: int | None = Field(default=None, ge=1, le=262144)
    """Width of the feed-forward layer."""
    context: int | None = Field(default=None, ge=2, le=1048576)
    """Longest sequence in tokens."""

    @field_validator("layers", "hidden", "heads", "key_value_heads", "intermediate", "context", mode="before")
    @classmethod
    def _whole(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool):
            raise ValueError(f"{info.field_name} is {value}, expected a whole number")
        return value

    @model_validator(mode="after")
    def _possible(self) -> "ArchitectureConfig":
        size = self.resolved()
        if size.hidden % size.heads:
            raise ValueError(f"hidden is {size.hidden}, expected a multiple of heads ({size.heads})")
        if (size.hidden // size.heads) % 2:
            raise ValueError(
                f"hidden is {size.hidden} with heads {size.heads}: a head is {size.hidden // size.heads}, "
                "expected an even width (rotary positions turn pairs of features)"
            )
        if size.heads % size.key_value_heads:
            raise ValueError(f"key_value_heads is {size.key_value_heads}, expected a divisor of heads ({size.heads})")
        return self

    def resolved(self) -> Size:
        """Return the named size with this config's own values in place.

        When only `heads` is given, `key_value_heads` follows it, unless the size itself groups heads.
        """
        size = SIZES[self.size]
        if self.family == "bert":
            size = size._replace(intermediate=size.intermediate * 3 // 2)
        own = {name: value for name in Size._fields if (value := getattr(self, name, None)) is not None}
        if "heads" in own and "key_value_heads" not in own and size.key_value_heads == size.heads:
            own["key_value_heads"] = own["heads"]
        return size._replace(**own)


def build(
    config: ArchitectureConfig,
    vocab_size: int,
    seed: int,
    eos_id: int,
    pad_id: int,
    auto: str = "AutoModelForCausalLM",
    **changes: Any,
) -> "PreTrainedModel":
    """Return a randomly initialised model in float32 on the CPU, with the head of transformers' class `auto`.

    The weights are a pure function of (config, vocab_size, seed, head); the caller's random state is left alone.
    Initial weights are normal with SD 0.02. Llama's layers that write into the residual stream are scaled by
    1/sqrt(2 * layers) (Radford et al. 2019), as ModernBERT's are by transformers itself; BERT's are not.
    `changes` are further values of the model's config.
    """
    import torch
    import transformers

    size = config.resolved()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        values = _values(config.family, size, vocab_size, eos_id, pad_id)
        model: PreTrainedModel = getattr(transformers, auto).from_config(_kinds()[config.family](**values, **changes))
        if config.family == "llama":
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    if name.endswith(("o_proj.weight", "down_proj.weight")):
                        weight.div_((2 * size.layers) ** 0.5)
    return model.float()


def _kinds() -> "dict[str, type[PreTrainedConfig]]":
    from transformers import BertConfig, LlamaConfig, ModernBertConfig

    return {"llama": LlamaConfig, "bert": BertConfig, "modernbert": ModernBertConfig}


def _values(family: str, size: Size, vocab_size: int, eos_id: int, pad_id: int) -> dict[str, Any]:
    """Return the values of a family's config; there is no dropout, since pretraining sees its text about once."""
    shared = {
        "vocab_size": vocab_size,
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "max_position_embeddings": size.context,
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
    }
    if family == "bert":
        return {**shared, "type_vocab_size": 2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if family == "modernbert":
        local = size.context > LOCAL_ATTENTION
        return {
            **shared,
            "local_attention": LOCAL_ATTENTION,
            "layer_types": ["sliding_attention" if local and i % 3 else "full_attention" for i in range(size.layers)],
            "cls_token_id": None,
            "sep_token_id": None,
        }
    return {
        **shared,
        "num_key_value_heads": size.key_value_heads,
        "tie_word_embeddings": size.tied,
        "rms_norm_eps": 1e-5,
    }


def parameter_count(model: "nn.Module") -> int:
    """Return the number of trained values, tied ones counted once."""
    return sum(weight.numel() for weight in model.parameters())


def training_flops_per_token(model: "PreTrainedModel", context: float, head_share: float = 1.0) -> float:
    """Return the floating-point operations of forward and backward for one token.

    6 N + 12 H Q sum over layers of T (Chowdhery et al. 2022, PaLM, appendix B): N weights that multiply, H heads
    of width Q, T tokens that a layer sees: `context`, or a local layer's window. Embeddings (tokens, positions,
    types) are look-ups and not counted, unless they are the output layer too; that counts for the share of the
    positions whose logits are computed, `head_share`. Causality is not credited, as in the source.
    """
    from torch import nn

    config = model.config
    head = model.get_output_embeddings()
    output = set() if head is None else {id(head.weight)}
    tables = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)} - output
    count = sum(
        weight.numel() * (head_share if id(weight) in output else 1.0)
        for weight in model.parameters()
        if id(weight) not in tables
    )
    window = getattr(config, "local_attention", None) or getattr(config, "sliding_window", None) or context
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    seen = sum(min(context, window) if kind == "sliding_attention" else context for kind in kinds)
    return 6.0 * count + 12.0 * config.hidden_size * seen
