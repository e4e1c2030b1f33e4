"""What `mlflow models serve` runs: a registered model behind one `predict`, from a Hugging Face directory.

MLflow copies this file beside the model, so it stands alone and imports nothing of the project. A
request is ``{"inputs": ["a text", ...]}``. A classifier answers ``{"label": ..., "score": ...}`` for
each text, an instruction model the answer, a foundation the continuation.
"""

import mlflow
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

NEW_TOKENS = 64


class ServedModel(mlflow.pyfunc.PythonModel):
    """One model directory, loaded from safetensors alone."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Load the tokenizer and the model; ``model_config["task"]`` says which head."""
        disable_progress_bar()
        directory = context.artifacts["model"]
        self.task = context.model_config["task"]
        head = AutoModelForSequenceClassification if self.task == "classification" else AutoModelForCausalLM
        self.tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
        self.model = head.from_pretrained(directory, use_safetensors=True).eval()

    def predict(self, model_input: list[str], params: dict | None = None) -> list:
        """Answer each text; ``params={"max_new_tokens": n}`` bounds what is generated."""
        texts = list(model_input)
        if self.task == "classification":
            return self._classify(texts)
        return self._generate(texts, int((params or {}).get("max_new_tokens", NEW_TOKENS)))

    def _classify(self, texts: list[str]) -> list[dict]:
        tokens = self._tokens(texts, self.model.config.max_position_embeddings)
        with torch.inference_mode():
            probabilities = self.model(**tokens).logits.float().softmax(-1)
        scores, labels = probabilities.max(-1)
        return [
            {"label": self.model.config.id2label[int(label)], "score": float(score)}
            for label, score in zip(labels, scores, strict=True)
        ]

    def _generate(self, texts: list[str], new_tokens: int) -> list[str]:
        if self.task == "instruction":
            texts = [
                self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": text.strip()}], tokenize=False, add_generation_prompt=True
                )
                for text in texts
            ]
        room = max(1, self.model.config.max_position_embeddings - new_tokens)
        tokens = self._tokens(texts, room)
        with torch.inference_mode():
            ids = self.model.generate(**tokens, max_new_tokens=new_tokens, do_sample=False)
        answers = ids[:, tokens["input_ids"].shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(answers, skip_special_tokens=True)]

    def _tokens(self, texts: list[str], longest: int) -> dict[str, torch.Tensor]:
        return self.tokenizer(
            texts,
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=longest,
            return_token_type_ids=False,
        )


mlflow.models.set_model(ServedModel())
