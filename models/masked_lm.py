"""Masked language modelling: predict hidden tokens from both sides, and whether two segments belong together."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.bases import load_model, longest_text, read_config
from models.causal_lm import windows
from models.data import PackedBatches, open_tokens, read_meta
from models.job import Job
from models.masking import Markers, PairBatches, frame, hide, read_markers
from models.module import Batch, Counts, Objective, Workload

HELD_OUT_SEED = 0
"""Draws pairs and masks of validation and test: every model of one tokenizer is asked the same."""


def has_pair_head(model: PreTrainedModel) -> bool:
    """Return whether the model judges pairs of segments as well."""
    return any(name.endswith("seq_relationship") for name, _ in model.named_modules())


def predictions(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Return logits [targets, vocabulary] at the batch's places, and [rows, 2] of pairs where the model judges them.

    The batch has `ids` [rows, width] and `places` [targets] in them, `real` where it is padded, `types` for pairs.
    The model's own head is given the hidden states of the predicted positions alone: the same numbers for about
    a sixth of its cost. So any architecture's head works as it is.
    """

    def keep_places(body: torch.nn.Module, given: object, output: dict[str, Tensor]) -> dict[str, Tensor]:
        output["last_hidden_state"] = output["last_hidden_state"].flatten(0, 1)[batch["places"]][None]
        return output

    names = {"ids": "input_ids", "real": "attention_mask", "types": "token_type_ids"}
    hook = model.base_model.register_forward_hook(keep_places)
    try:
        output = model(**{name: batch[ours] for ours, name in names.items() if ours in batch})
    finally:
        hook.remove()
    if has_pair_head(model):
        return output.prediction_logits[0], output.seq_relationship_logits
    return output.logits[0], None


def masked_batch(
    ids: np.ndarray, markers: Markers, share: float, random: np.random.Generator, **others: np.ndarray
) -> Batch:
    """Return whole ids [rows, width] as a batch: shown ids, places [targets], targets [targets], and `others`."""
    shown, places, targets = hide(ids, markers, share, random)
    arrays = {"ids": shown, "places": places, "targets": targets, **others}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def pair_batch(pairs: PairBatches, share: float, index: int) -> Batch:
    """Return batch `index` of pairs, masked anew whenever it is drawn anew; pure in (seed, index).

    Beside `masked_batch`: types and real, [pairs, width], and not_next [pairs], 1 where B is not A's next.
    """
    ids, types, real = pairs.batch(index)
    random = np.random.default_rng((pairs.seed, 2, index))
    return masked_batch(ids, pairs.markers, share, random, types=types, real=real, not_next=pairs.spans(index).not_next)


def held_out_batches(
    tokens: np.ndarray,
    markers: Markers,
    context: int,
    batch_size: int,
    share: float,
    paired: bool,
    limit: int | None = None,
) -> Iterator[Batch]:
    """Yield batches that hold about as many tokens as the text, always the same: pairs, or windows in order.

    Each has `clusters` [rows] as well: the document of a pair, the number of a window. Raises ValueError for a text
    from which none can be cut.
    """
    if paired:
        pairs = PairBatches(tokens, markers, context, batch_size, HELD_OUT_SEED)
        for index in range(min(max(1, round(pairs.batches_per_epoch)), limit or 1 << 62)):
            yield {**pair_batch(pairs, share, index), "clusters": torch.from_numpy(pairs.spans(index).document)}
        return
    if len(tokens) < 2:
        raise ValueError(f"{len(tokens)} tokens, expected at least 2")
    for index, batch in enumerate(windows(tokens, context - 2, batch_size, limit)):
        framed = frame(batch["ids"].numpy()[:, :-1], markers)
        random = np.random.default_rng((HELD_OUT_SEED, 2, index))
        yield masked_batch(framed, markers, share, random, clusters=np.arange(len(framed)) + index * batch_size)


class MaskedLM(Objective):
    """Cross-entropy of the hidden tokens, and with pairs of segments that of the next sentence.

    The loss of a step is, as in BERT, the mean over all of its hidden tokens plus the mean over all of its pairs.
    A sum over targets is what a step divides by their number, so the pairs' sum counts targets / pairs, both of the
    whole step: `begin_step` puts that weight into the micro-batches, and accumulation gives the large batch's loss.
    """

    def begin_step(self, micro_batches: list[Batch], targets: float) -> None:
        """Put the weight of a pair into each micro-batch: the step's targets by its pairs."""
        pairs = sum(len(batch.get("not_next", ())) for batch in micro_batches)
        for batch in micro_batches:
            if pairs:
                batch["pair_weight"] = torch.tensor(targets / pairs, device=self.device)

    def loss_sum(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy in nats of the targets, and that of the pairs with their weight."""
        logits, pair_logits = predictions(self.model, batch)
        loss = F.cross_entropy(logits.float(), batch["targets"], reduction="sum")
        if pair_logits is not None and "not_next" in batch:
            weight = batch.get("pair_weight", len(batch["targets"]) / len(batch["not_next"]))
            loss = loss + weight * F.cross_entropy(pair_logits.float(), batch["not_next"], reduction="sum")
        return loss

    def count(self, batch: Batch) -> Counts:
        """Return hidden tokens, all tokens with their markers, and positions with padding."""
        positions = batch["ids"].numel()
        tokens = int(batch["real"].sum()) if "real" in batch else positions
        return Counts(len(batch["targets"]), tokens, positions)

    @torch.no_grad()
    def mean_loss(self, batches: Iterable[Batch], stopped: Callable[[], bool] = lambda: False) -> float | None:
        """Return mean loss per target plus mean loss per pair, or None when `stopped` says so in between.

        Both and their accuracies, shares from 0 to 1, are left in `metrics`.
        """
        # Summed nats, right answers and answers, of tokens and of pairs.
        sums = torch.zeros(2, 3, dtype=torch.float64)
        self.model.eval()
        cut = False
        for batch in batches:
            if cut := stopped():
                break
            moved = {name: tensor.to(self.device) for name, tensor in batch.items()}
            with self.autocast():
                found = predictions(self.model, moved)
            for row, (logits, truth) in enumerate(zip(found, (moved["targets"], moved.get("not_next")), strict=True)):
                if logits is not None and truth is not None:
                    nats = F.cross_entropy(logits.float(), truth, reduction="sum")
                    right = (logits.argmax(-1) == truth).sum()
                    sums[row] += torch.tensor([float(nats), float(right), float(len(truth))], dtype=torch.float64)
        self.model.train()
        if cut or not sums[0, 2]:
            return None
        self.metrics = {}
        for name, (nats, right, answers) in zip(("mlm", "nsp"), sums.tolist(), strict=True):
            if answers:
                self.metrics |= {f"{name}_loss": nats / answers, f"{name}_accuracy": right / answers}
        return self.metrics["mlm_loss"] + self.metrics.get("nsp_loss", 0.0)


def prepare(job: Job, tokenizer: PreTrainedTokenizerFast, device: str) -> Workload:
    """Return the workload of a token directory; ValueError names the file when its tokens cannot be used.

    With next-sentence prediction the batches are pairs of segments. Without it they are `[CLS] window [SEP]` of
    packed text that may run over the ends of documents, which stay in as separators (Liu et al. 2019, RoBERTa,
    "full-sentences"). With `job.general`, the validation text of that directory is measured beside.
    """
    assert job.tokens is not None
    paired, share, trainer = job.masked_lm.next_sentence, job.masked_lm.mask_share, job.trainer
    kind = job.model.family if job.model else read_config(str(job.base))["model_type"]
    if paired and kind != "bert":
        raise ValueError(f"masked_lm.next_sentence is true, expected false: {kind} has no head for pairs of segments")
    model = load_model(job, tokenizer)
    directory, context = Path(job.tokens), longest_text(model)
    places = [directory, *([Path(job.general)] if job.general else [])]
    for place in places:
        found = int(read_meta(place).get("vocab_size", 0))
        if found > model.config.vocab_size:
            raise ValueError(f"{place / 'meta.json'}: vocab_size is {found}, the model has {model.config.vocab_size}")
    markers = read_markers(tokenizer, model.config.vocab_size)
    train, (valid, *general) = open_tokens(directory, "train"), (open_tokens(place, "valid") for place in places)
    facts = {"train_tokens": len(train), "valid_tokens": len(valid), "mask_share": share}
    size = trainer.batch_size

    def held_out(tokens: np.ndarray, limit: int | None = trainer.validate_batches) -> Iterator[Batch]:
        return held_out_batches(tokens, markers, context, size, share, paired, limit)

    for place, tokens in zip(places, (valid, *general), strict=True):
        try:
            next(held_out(tokens, 1))
        except ValueError as error:
            raise ValueError(f"{place / 'valid.bin'}: {error}") from None
    batches: PairBatches | PackedBatches
    try:
        batches = (
            PairBatches(train, markers, context, size, job.seed)
            if paired
            else PackedBatches(train, context - 2, size, job.seed)
        )
    except ValueError as error:
        raise ValueError(f"{directory / 'train.bin'}: {error}") from None

    def micro_batch(index: int) -> Batch:
        if isinstance(batches, PairBatches):
            return pair_batch(batches, share, index)
        random = np.random.default_rng((job.seed, 2, index))
        return masked_batch(frame(batches.batch(index).numpy()[:, :-1], markers), markers, share, random)

    if isinstance(batches, PairBatches):
        facts |= {"borders": len(batches.borders), "waste_share": batches.waste_share()}
        length = float(batches.lengths().max(1).mean())
    else:
        facts["waste_share"], length = 0.0, float(context)
    return Workload(
        model=model,
        build=lambda total: MaskedLM(model, trainer, total, device),
        micro_batch=micro_batch,
        batches_per_epoch=batches.batches_per_epoch,
        valid=lambda: held_out(valid),
        context=context,
        mean_length=length,
        head_share=share,
        facts=facts,
        general=(lambda: held_out(general[0])) if general else None,
    )
