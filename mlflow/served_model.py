"""What `mlflow models serve` runs: a registered model behind one `predict`, from a Hugging Face directory.

MLflow copies this file beside the model, so it stands alone and imports nothing of the project. A request is
``{"inputs": [...]}``, one item for each answer:

    foundation                     a text                           its continuation
    masked foundation              a text with [MASK] in it         for each [MASK] the likeliest words with scores
    classification                 a text                           {"label": ..., "score": ...}
    token classification           a text                           its entities: label, text, start, end (characters)
    question answering             {"question", "context"}          {"answer", "start", "end", "score"}
    instruction, preference, rlhf  a request                        the answer
    reward                         {"prompt", "answer"}             the score of the answer
"""

import re
from typing import Any

import mlflow
import torch
import transformers
from transformers.utils.logging import disable_progress_bar

NEW_TOKENS = 64
BATCH = 32
MASK = "[MASK]"
GUESSES = 5
STRIDE = 64  # tokens that two windows over one long context share
LONGEST_ANSWER = 30  # tokens
HEADS = {
    "masked_foundation": "AutoModelForPreTraining",
    "classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
    "reward": "AutoModelForSequenceClassification",
}
FIELDS = {"question_answering": ("question", "context"), "reward": ("prompt", "answer")}


class ServedModel(mlflow.pyfunc.PythonModel):
    """One model directory, loaded from safetensors alone."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Load the tokenizer and the model; ``model_config["task"]`` says which kind it is."""
        disable_progress_bar()
        directory = context.artifacts["model"]
        self.task = context.model_config["task"]
        head = getattr(transformers, HEADS.get(self.task, "AutoModelForCausalLM"))
        here = {"local_files_only": True, "trust_remote_code": False}
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **here)
        self.model = head.from_pretrained(directory, use_safetensors=True, **here).eval()
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        # Attention layers say by `is_causal` whether they hide what comes after; an encoder's text has a frame.
        self.encoder = not any(getattr(module, "is_causal", False) for module in self.model.modules())

    def answers(self, items: list, params: dict[str, Any] | None) -> list:
        """Answer each item; ``params={"max_new_tokens": n}`` bounds what is generated."""
        found = []
        with torch.inference_mode():
            for start in range(0, len(items), BATCH):
                found += self._answer(items[start : start + BATCH], params or {})
        return found

    @property
    def limit(self) -> int:
        """Return how many tokens of a text, or of a question, are read: what is longer is cut off."""
        return self._around_context()[3] // 2 if self.task == "question_answering" else self._longest

    def count(self, text: str) -> int:
        """Return the tokens of a text, or of a question, as the model reads it."""
        if self.task == "token_classification":
            return len(self._words(text)[2]) + 2 * self.encoder
        return len(self._ids(text)) + (0 if self.task == "question_answering" else 2 * self.encoder)

    def _answer(self, items: list, params: dict[str, Any]) -> list:
        match self.task:
            case "masked_foundation":
                return [self._fill(text) for text in items]
            case "classification":
                return self._classify(items)
            case "token_classification":
                return [self._entities(text) for text in items]
            case "question_answering":
                return [self._span(item["question"], item["context"]) for item in items]
            case "reward":
                return self._reward(items)
        return self._generate(items, int(params.get("max_new_tokens", NEW_TOKENS)))

    @property
    def _longest(self) -> int:
        """Return the tokens of the longest text; RoBERTa counts positions from the padding token's id on."""
        modules = self.model.named_modules()
        table = next((module for name, module in modules if name.endswith("embeddings.position_embeddings")), None)
        unused = getattr(table, "padding_idx", None)
        return int(self.model.config.max_position_embeddings) - (0 if unused is None else unused + 1)

    def _ids(self, text: str, *, marks: bool = False) -> list[int]:
        """Return the tokens of a text without a frame; special tokens' names in it are text unless it has ``marks``."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=not marks).input_ids

    def _framed(self, ids: list[int]) -> list[int]:
        """Return the tokens as the model reads a whole text: an encoder's between its two marks."""
        if self.encoder:
            return [self.tokenizer.cls_token_id, *ids[: self._longest - 2], self.tokenizer.sep_token_id]
        return ids[: self._longest] or [self.tokenizer.eos_token_id]

    def _run(self, rows: list[list[int]], side: str = "right", **more: torch.Tensor) -> Any:
        return self.model(**self._batch(rows, side), **more)

    def _batch(self, rows: list[list[int]], side: str) -> dict[str, torch.Tensor]:
        found = self.tokenizer.pad({"input_ids": rows}, padding_side=side, return_tensors="pt")
        return {name: found[name].to(self.model.device) for name in ("input_ids", "attention_mask")}

    def _classify(self, texts: list[str]) -> list[dict]:
        probabilities = self._run([self._framed(self._ids(text)) for text in texts]).logits.float().softmax(-1)
        scores, labels = probabilities.max(-1)
        return [
            {"label": self.model.config.id2label[int(label)], "score": float(score)}
            for label, score in zip(labels, scores, strict=True)
        ]

    def _reward(self, items: list[dict]) -> list[float]:
        rows = []
        for item in items:
            turns = [("user", item["prompt"]), ("assistant", item["answer"])]
            rows.append(self._ids(self._chat(turns, answer=False), marks=True)[-self._longest :])
        return self._run(rows).logits.float().squeeze(-1).tolist()

    def _chat(self, turns: list[tuple[str, str]], *, answer: bool) -> str:
        messages = [{"role": role, "content": text.strip()} for role, text in turns]
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer)

    def _fill(self, text: str) -> list[list[dict]]:
        framed = self._framed(self._ids(text.replace(MASK, self.tokenizer.mask_token), marks=True))
        output = self._run([framed])
        logits = output.prediction_logits if hasattr(output, "prediction_logits") else output.logits
        places = [place for place, token in enumerate(framed) if token == self.tokenizer.mask_token_id]
        scores, words = logits[0, places].float().softmax(-1).topk(GUESSES)
        return [
            [
                {"word": self.tokenizer.decode([word]).strip(), "score": float(score)}
                for word, score in zip(*pair, strict=True)
            ]
            for pair in zip(words.tolist(), scores.tolist(), strict=True)
        ]

    def _words(self, text: str) -> tuple[list[re.Match[str]], list[int], list[int]]:
        """Return the words, the place of the first token of each, and all tokens, without a frame.

        Words are read as in training, each with the space before it.
        """
        words = list(re.finditer(r"\w+(?:['\u2019.-]\w+)*|[^\w\s]", text))
        ids, firsts = [], []
        for word in words:
            firsts.append(len(ids) + self.encoder)
            ids += self._ids(f" {word.group()}")
        return words, firsts, ids

    def _entities(self, text: str) -> list[dict]:
        words, firsts, ids = self._words(text)
        framed = self._framed(ids)
        seen = [(word, place) for word, place in zip(words, firsts, strict=True) if place < len(framed) - self.encoder]
        if not seen:
            return []
        best = self._run([framed]).logits[0].argmax(-1).tolist()
        found: list[dict] = []
        before = "O"
        for word, place in seen:
            tag = self.model.config.id2label[best[place]]
            if tag != "O" and (tag[0] == "B" or before[1:] != tag[1:]):
                found.append({"label": tag[2:], "start": word.start(), "end": word.end()})
            elif tag != "O":
                found[-1]["end"] = word.end()
            before = tag
        return [{**entity, "text": text[entity["start"] : entity["end"]]} for entity in found]

    def _around_context(self) -> tuple[list[int], list[int], list[int], int]:
        """Return the tokens before a question, behind it and behind the context, and the room that they leave."""
        cls, sep, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id, self.tokenizer.eos_token_id
        before, between, after = ([cls], [sep], [sep]) if self.encoder else ([], self._ids("\n"), [end])
        return before, between, after, self._longest - len(before) - len(between) - len(after)

    def _span(self, question: str, context: str) -> dict:
        """Return the likeliest span of the context over all of its windows."""
        encoded = self.tokenizer(
            context, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        before, between, after, free = self._around_context()
        head = [*before, *self._ids(question)[: free // 2], *between]
        room = self._longest - len(head) - len(after)
        step = room - min(STRIDE, room // 2)
        best = (-float("inf"), 0, 0)
        for start in range(0, max(len(encoded.input_ids) - room, 0) + step, step):
            offsets = encoded.offset_mapping[start : start + room]
            if not offsets:
                continue
            row = [*head, *encoded.input_ids[start : start + room], *after]
            types = {}
            if self.encoder and getattr(self.model.config, "type_vocab_size", 0) > 1:
                types["token_type_ids"] = torch.tensor(
                    [[0] * len(head) + [1] * (len(row) - len(head))], device=self.model.device
                )
            output = self._run([row], **types)
            inside = slice(len(head), len(head) + len(offsets))
            first, last = (
                logits[0].float().log_softmax(-1)[inside] for logits in (output.start_logits, output.end_logits)
            )
            joint = first[:, None] + last[None, :]
            allowed = torch.ones_like(joint, dtype=torch.bool).triu().tril(LONGEST_ANSWER - 1)
            place = int(joint.masked_fill(~allowed, -float("inf")).argmax())
            i, j = divmod(place, len(offsets))
            best = max(best, (float(joint[i, j]), offsets[i][0], offsets[j][1]))
        score, i, j = best
        answer = context[i:j].strip()
        i += len(context[i:j]) - len(context[i:j].lstrip())
        return {"answer": answer, "start": i, "end": i + len(answer), "score": float(torch.tensor(score).exp())}

    def _generate(self, texts: list[str], new_tokens: int) -> list[str]:
        if self.task != "foundation":
            texts = [self._chat([("user", text)], answer=True) for text in texts]
        room = max(1, self._longest - new_tokens)
        rows = [self._ids(text, marks=True)[-room:] or [self.tokenizer.eos_token_id] for text in texts]
        tokens = self._batch(rows, "left")
        ends = [self.tokenizer.convert_tokens_to_ids("<|end|>"), self.tokenizer.eos_token_id]
        known = [number for number in ends if number is not None and number != self.tokenizer.unk_token_id]
        ids = self.model.generate(
            **tokens,
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=known,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        answers = ids[:, tokens["input_ids"].shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(answers, skip_special_tokens=True)]


class OfTexts(ServedModel):
    """Asked with texts; MLflow holds a request against the type of `predict`."""

    def predict(self, model_input: list[str], params: dict[str, Any] | None = None) -> list:
        """Answer each text."""
        return self.answers(list(model_input), params)


class OfFields(ServedModel):
    """Asked with two texts by name."""

    def predict(self, model_input: list[dict[str, str]], params: dict[str, Any] | None = None) -> list:
        """Answer each item; ValueError names the fields that one must have."""
        fields = FIELDS[self.task]
        for item in model_input:
            if set(item) != set(fields):
                raise ValueError(f"expected the fields {' and '.join(fields)}, got {', '.join(item) or 'none'}")
        return self.answers(list(model_input), params)


served = mlflow.models.ModelConfig(development_config={"task": "foundation"}).get("task")
mlflow.models.set_model(OfFields() if served in FIELDS else OfTexts())
