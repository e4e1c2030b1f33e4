"""The size dial: from a name or explicit fields to a Llama model of the transformers library."""

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator, model_validator

from models.config import Config

# The configuration is read by the command line, which must not wait for torch: the builders import it.
if TYPE_CHECKING:
    from torch import nn
    from transformers import LlamaForCausalLM, PreTrainedModel


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
1b: TinyLlama (Zhang et al. 2024)."""


class ArchitectureConfig(Config):
    """How large the model is: a named size, and what to change in it."""

    size: Literal["tiny", "small", "124m", "350m", "1b"] = "tiny"
    """Named size; the fields below replace single values of it."""
    layers: int | None = Field(default=None, ge=1, le=512)
    """Number of transformer blocks."""
    hidden: int | None = Field(default=None, ge=2, le=65536)
    """Width of the residual stream; a multiple of `heads`, and the width of a head must be even."""
    heads: int | None = Field(default=None, ge=1, le=512)
    """Number of attention heads."""
    key_value_heads: int | None = Field(default=None, ge=1, le=512)
    """Number of key and value heads (grouped-query attention); must divide `heads`."""
    intermediate: int | None = Field(default=None, ge=1, le=262144)
    """Width of the gated feed-forward layer."""
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
        own = {name: value for name in Size._fields if (value := getattr(self, name, None)) is not None}
        if "heads" in own and "key_value_heads" not in own and size.key_value_heads == size.heads:
            own["key_value_heads"] = own["heads"]
        return size._replace(**own)


def build(config: ArchitectureConfig, vocab_size: int, seed: int, eos_id: int, pad_id: int) -> "LlamaForCausalLM":
    """Return a randomly initialised causal language model in float32 on the CPU.

    The weights are a pure function of (config, vocab_size, seed); the caller's random state is left alone.
    Initial weights are normal with SD 0.02, the layers that write into the residual stream scaled by
    1/sqrt(2 * layers) (Radford et al. 2019).
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = config.resolved()
    llama = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        max_position_embeddings=size.context,
        tie_word_embeddings=size.tied,
        bos_token_id=eos_id,
        eos_token_id=eos_id,
        pad_token_id=pad_id,
        rms_norm_eps=1e-5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(llama)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    weight.div_((2 * size.layers) ** 0.5)
    return model.float()


def parameter_count(model: "nn.Module") -> int:
    """Return the number of trained values, tied ones counted once."""
    return sum(weight.numel() for weight in model.parameters())


def training_flops_per_token(model: "PreTrainedModel", context: float) -> float:
    """Return the floating-point operations of forward and backward for one token.

    6 N + 12 L H Q T (Chowdhery et al. 2022, PaLM, appendix B): N weights that multiply, L layers, H heads of
    width Q, T tokens of context. An untied input embedding is a look-up and not counted; causality is not
    credited, as in the source.
    """
    config = model.config
    count = parameter_count(model)
    if not getattr(config, "tie_word_embeddings", False):
        count -= model.get_input_embeddings().weight.numel()  # type: ignore[operator]
    return 6.0 * count + 12.0 * config.num_hidden_layers * config.hidden_size * context
