"""Text from a causal model, greedy or drawn, with a key-value cache: in batches, or piece by piece."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from models.attention import set_attention
from models.bases import longest_text
from models.chat import ASSISTANT, END, USER, turn
from models.sampling import Sampling


class Continuation(NamedTuple):
    """What a model wrote after one prompt."""

    text: str
    tokens: int
    """Without the one that ended it."""
    ended: bool
    """Whether the model ended it; else it was cut."""


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    max_new_tokens: int,
    batch_size: int = 64,
    sampling: Sampling | None = None,
) -> list[str]:
    """Return the text of each prompt's continuation (`continuations`)."""
    return [made.text for made in continuations(model, tokenizer, prompts, max_new_tokens, batch_size, sampling)]


def continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    max_new_tokens: int,
    batch_size: int = 64,
    sampling: Sampling | None = None,
) -> list[Continuation]:
    """Return the continuation of each prompt, up to the end of the turn or `max_new_tokens`; greedy by default.

    Prompts are whole texts with their markers (`models.chat.render`); padded on the left, they are continued by
    the library's own loop. A prompt that leaves no room for `max_new_tokens` in the model's context keeps its end.
    The seed of `sampling` holds for the whole call, whose texts are drawn side by side. Raises ValueError for an
    empty prompt, or when `max_new_tokens` fills the context alone.
    """
    from models.rows import plain_batches  # Lightning comes with it, for which a conversation need not wait

    ids = _prompt_ids(model, tokenizer, prompts, max_new_tokens)
    set_attention(model, "sdpa")
    was_training = model.training
    model.eval()
    stops, pad = stop_ids(model, tokenizer), _pad_id(tokenizer)
    drawn = {} if sampling is None else sampling.model_dump(exclude={"seed"})
    answers = [Continuation("", 0, False)] * len(prompts)
    with _seeded(model, sampling), torch.inference_mode():
        for numbers in plain_batches(np.array([len(row) for row in ids]), batch_size):
            chosen: list[int] = numbers.tolist()
            width = max(len(ids[i]) for i in chosen)
            batch = torch.full((len(chosen), width), pad)
            mask = torch.zeros_like(batch)
            for line, i in enumerate(chosen):
                batch[line, width - len(ids[i]) :] = torch.tensor(ids[i])
                mask[line, width - len(ids[i]) :] = 1
            library: Any = model
            output = library.generate(
                input_ids=batch.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=sampling is not None,
                repetition_penalty=1.0,  # a base's own defaults must not bend the distribution
                eos_token_id=stops,
                pad_token_id=pad,
                **drawn,
            )
            for line, i in enumerate(chosen):
                answers[i] = _continuation(output[line, width:].tolist(), {*stops, pad}, tokenizer)
    model.train(was_training)
    return answers


def stream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompt: str | list[int],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stops: Sequence[str] = (),
) -> Generator[str, None, Continuation]:
    """Yield the continuation of one prompt in pieces as they come, and return it whole, as `continuations` does.

    A piece never ends within a character of several tokens, in white space that may be the text's last, nor in what
    may become one of `stops`. Raises ValueError as `generate` does.

    Args:
        prompt: a text with its markers, or its token ids (`conversation_ids`).
        stops: texts, none of them empty, before the first of which the continuation ends.
    """
    if isinstance(prompt, str):
        (prompt_ids,) = _prompt_ids(model, tokenizer, [prompt], max_new_tokens)
    else:
        (prompt_ids,) = _fit(model, [prompt], max_new_tokens)
    set_attention(model, "sdpa")
    was_training = model.training
    model.eval()
    enders = {*stop_ids(model, tokenizer), _pad_id(tokenizer)}
    warpers = LogitsProcessorList()
    device = model.device
    generator = torch.Generator(device)
    if sampling is not None:
        generator.manual_seed(sampling.seed)
        warpers.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            warpers.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            warpers.append(TopPLogitsWarper(sampling.top_p))
    given: Any = torch.tensor([prompt_ids], device=device)
    cache, ids, said, ended = None, list[int](), "", False
    network: Any = model
    try:
        for _ in range(max_new_tokens):
            with torch.inference_mode():
                output = network(input_ids=given, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache, logits = output.past_key_values, warpers(given, output.logits[:, -1].float())
                if sampling is None:
                    given = logits.argmax(-1, keepdim=True)
                else:
                    given = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            token = int(given)
            if token in enders:
                ended = True
                break
            ids.append(token)
            text = str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
            whole = text.rstrip("\N{REPLACEMENT CHARACTER}").strip()
            if _first(whole, stops) is not None:
                ended = True
                break
            whole = whole[: len(whole) - _overlap(whole, stops)]
            if len(whole) > len(said):
                yield whole[len(said) :]
                said = whole
        last = _decode(ids, enders, tokenizer).strip()
        cut = _first(last, stops)
        last, ended = last[:cut], ended or cut is not None
        if len(last) > len(said):
            yield last[len(said) :]
        return Continuation(last, len(ids), ended)
    finally:
        model.train(was_training)


def conversation_ids(tokenizer: PreTrainedTokenizerFast, turns: Sequence[tuple[str, str]]) -> list[int]:
    """Return turns as token ids, with the marker that asks the model to answer the last of them.

    They are those of the chat template, but that a marker's name in a text is text: no request can open a turn.

    Args:
        turns: (role, text), the role `user` or `assistant`.
    """
    from models.rows import encode  # Lightning comes with it, for which a conversation need not wait

    vocabulary = tokenizer.get_vocab()
    user, assistant, end = (vocabulary[token] for token in (USER, ASSISTANT, END))
    ids: list[int] = []
    for (role, _), own in zip(turns, encode(tokenizer, [turn(text) for _, text in turns]), strict=True):
        ids += [user, *own.tolist()] if role == "user" else [assistant, *own.tolist(), end]
    return [*ids, assistant]


def _first(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first of the stops begins in a text; None where there is none."""
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)


def _overlap(text: str, stops: Sequence[str]) -> int:
    """Return the characters at the end of a text with which one of the stops may begin."""
    return max((size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0)


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the tokens that end an answer of the model, in ascending order; see `ends`."""
    return ends(model.generation_config, tokenizer)


def ends(config: GenerationConfig | None, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the tokens that end a turn: `<|end|>`, a marker that opens another turn, the end of text.

    And what the model's own generation config names: a base may have been tuned to end its turns otherwise.
    """
    vocabulary = tokenizer.get_vocab()
    found = {vocabulary[token] for token in (END, USER, ASSISTANT) if token in vocabulary}
    named: Any = config.eos_token_id if config else None
    for stop in (tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])):
        if stop is not None:
            found.add(int(stop))
    return sorted(found)


def _prompt_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: list[str], max_new_tokens: int
) -> list[list[int]]:
    """Return the token ids of each prompt, cut from the left where it leaves no room."""
    # Prompts carry their markers as text; these must become the markers' ids.
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(prompts, add_special_tokens=False)
    return _fit(model, [encoding.ids for encoding in encodings], max_new_tokens)


def _fit(model: PreTrainedModel, rows: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    """Return the ends of rows of token ids that leave room for `max_new_tokens`."""
    context = longest_text(model)
    room = context - max_new_tokens
    if room < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}, expected less than the context of {context}")
    ids = [row[-room:] for row in rows]
    for number, row in enumerate(ids):
        if not row:
            raise ValueError(f"prompt {number} is empty, expected at least one token")
    return ids


def _pad_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the padding token; a base without one is padded with its end of text, which the mask hides."""
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def _continuation(ids: list[int], stops: set[int], tokenizer: PreTrainedTokenizerFast) -> Continuation:
    cut = next((place for place, token in enumerate(ids) if token in stops), None)
    tokens = len(ids) if cut is None else cut
    return Continuation(_decode(ids, stops, tokenizer).strip(), tokens, cut is not None)


def _decode(ids: list[int], stops: set[int], tokenizer: PreTrainedTokenizerFast) -> str:
    cut = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    return str(tokenizer.decode(ids[:cut], clean_up_tokenization_spaces=False))


@contextmanager
def _seeded(model: PreTrainedModel, sampling: Sampling | None) -> Iterator[None]:
    """Let the seed hold inside; the program's own random state comes back after it."""
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        if sampling is not None:
            torch.manual_seed(sampling.seed)
        yield
