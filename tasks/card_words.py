"""The fixed sentences of a model card: for each kind what it is, what for, what not for, and how to load it."""

from typing import NamedTuple


class KindWords(NamedTuple):
    """What is true of every model of a kind."""

    pipeline: str
    """Its task as the hub names it."""
    what: str
    use: str
    misuse: str
    auto: str
    """The class of transformers that loads it."""
    ask: str
    """Python that asks the loaded model one thing."""


LOAD = """\
import torch
from transformers import {auto}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = {auto}.from_pretrained(".").eval()
"""
CONTINUE = """
inputs = tokenizer("The first words of a text", add_special_tokens=False, return_tensors="pt")
ids = model.generate(**inputs, max_new_tokens=16, do_sample=False)
print(tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""
ANSWER = """
turns = [{"role": "user", "content": "What is asked?"}]
inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
ids = model.generate(**inputs, max_new_tokens=16, do_sample=False)
print(tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
"""
FILL = """
inputs = tokenizer(f"The first words{tokenizer.mask_token} a text", return_tensors="pt")
with torch.inference_mode():
    logits = model(**inputs).logits
place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
print(tokenizer.convert_ids_to_tokens(logits[0, place].topk(5).indices.tolist()))
"""
LABEL = """
inputs = tokenizer("The text to label", {marks}return_tensors="pt")
with torch.inference_mode():
    probabilities = model(**inputs).logits[0].softmax(-1)
print(model.config.id2label[int(probabilities.argmax())], float(probabilities.max()))
"""
TAG = """
words = "The words to tag .".split()
# Each with the space before it that it has in running text.
inputs = tokenizer([f" {word}" for word in words], is_split_into_words=True, {marks}return_tensors="pt")
with torch.inference_mode():
    tags = model(**inputs).logits[0].argmax(-1).tolist()
of = inputs.word_ids()  # a word has the tag of its first token
print([(word, model.config.id2label[tags[of.index(place)]]) for place, word in enumerate(words)])
"""
SPAN_OF_PAIR = """
question, context = "What is asked?", "The text that holds the answer."
inputs = tokenizer(question, context, return_offsets_mapping=True, return_tensors="pt")
inside = [place for place, part in enumerate(inputs.sequence_ids()) if part == 1]
offsets = inputs.pop("offset_mapping")[0, inside].tolist()
with torch.inference_mode():
    found = model(**inputs)
"""
SPAN_AFTER_QUESTION = """
question, context = "What is asked?", "The text that holds the answer."
before, between = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (question, "\\n"))
inputs = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)
ids, offsets = [*before, *between, *inputs["input_ids"], tokenizer.eos_token_id], inputs["offset_mapping"]
inside = range(len(before) + len(between), len(ids) - 1)
with torch.inference_mode():
    found = model(torch.tensor([ids]))
"""
SPAN = """\
first, last = found.start_logits[0, inside], found.end_logits[0, inside]
allowed = torch.ones(len(inside), len(inside), dtype=torch.bool).triu().tril(29)  # answers of up to 30 tokens
scores = (first[:, None] + last[None, :]).masked_fill(~allowed, -torch.inf)
i, j = divmod(int(scores.argmax()), len(inside))
print(context[offsets[i][0] : offsets[j][1]].strip())
"""
REWARD = """
turns = [{"role": "user", "content": "What is asked?"}, {"role": "assistant", "content": "An answer."}]
inputs = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
with torch.inference_mode():
    print(float(model(**inputs).logits[0, 0]))
"""


_TALKS = (
    "Not for advice on which health, money or law depend, and not for facts that nobody checks: it answers in the "
    "same tone whether it knows or not, and nothing here tested what it should refuse."
)
_PEOPLE = (
    "Not for deciding about a person without somebody who looks, and not for text unlike that of its training: "
    "it has no answer for what it does not know, and gives one of its {} all the same."
)
KINDS = {
    "foundation": KindWords(
        "text-generation",
        "A causal language model: it predicts the next token of a text. It was not tuned to answer anybody.",
        "To be tuned for a task, or to tell how likely a text is.",
        "Not for talking with people and not for text that is published unread: nothing in its training asked for "
        "truth or for courtesy.",
        "AutoModelForCausalLM",
        CONTINUE,
    ),
    "masked_foundation": KindWords(
        "fill-mask",
        "A masked language model: it predicts hidden tokens from both sides of a text.",
        "To be tuned for labels, entities or answer spans, or to fill a gap in a text.",
        "Not for writing text, which it never learnt, and not for telling what is true.",
        "AutoModelForMaskedLM",
        FILL,
    ),
    "classification": KindWords(
        "text-classification",
        "A classifier: it gives a text one of a fixed set of labels.",
        "To label text of the kind that it was trained on.",
        _PEOPLE.format("labels"),
        "AutoModelForSequenceClassification",
        LABEL,
    ),
    "token_classification": KindWords(
        "token-classification",
        "An entity recogniser: it gives each word a tag in BIO notation.",
        "To mark entities in text of the kind that it was trained on.",
        _PEOPLE.format("tags") + " What it overlooks stays in the text: alone it anonymises nothing.",
        "AutoModelForTokenClassification",
        TAG,
    ),
    "question_answering": KindWords(
        "question-answering",
        "A finder of answers: it marks the span of a given text that answers a question.",
        "To find an answer in a text that holds it.",
        "Not for questions whose answer the text does not hold: it marks a span all the same.",
        "AutoModelForQuestionAnswering",
        SPAN_OF_PAIR + SPAN,
    ),
    "instruction": KindWords(
        "text-generation",
        "An assistant: a causal language model, tuned on requests with their answers.",
        "To answer requests of the kind that it was tuned on.",
        _TALKS,
        "AutoModelForCausalLM",
        ANSWER,
    ),
    "preference": KindWords(
        "text-generation",
        "An assistant: a causal language model, tuned on pairs of answers of which one was preferred (DPO).",
        "To answer requests of the kind that it was tuned on, in the manner of the preferred answers.",
        _TALKS,
        "AutoModelForCausalLM",
        ANSWER,
    ),
    "rlhf": KindWords(
        "text-generation",
        "An assistant: a causal language model, tuned towards the answers that a reward model scores higher (GRPO).",
        "To answer requests of the kind that it was tuned on.",
        _TALKS + " A high reward is the opinion of the reward model and no evidence of a good answer.",
        "AutoModelForCausalLM",
        ANSWER,
    ),
    "reward": KindWords(
        "text-classification",
        "A reward model: it scores an answer to a request. Only the difference of two scores of one request says "
        "something.",
        "To compare answers to one request, of the kind that it was trained on.",
        "Not for judging people, and not as a measure of truth: it learnt which answers were preferred, for whatever "
        "reason.",
        "AutoModelForSequenceClassification",
        REWARD,
    ),
}
"""Kind of model, as the promotion policy names it -> its words."""

LIMITS = (
    "Every figure here was measured on held-out rows of the recipe's own data sets. What the model does on other text "
    "is not known.",
    "The audits ask about the groups that the identity lexicon names, in the words that it names them by, and about "
    "nobody else.",
)
"""What holds for every model."""


def snippet(kind: str, encoder: bool) -> str:
    """Return Python that loads an exported directory, its own working directory, and asks the model one thing.

    Args:
        encoder: whether the model reads both sides of a text, which then stands between two marks.
    """
    words = KINDS[kind]
    ask = words.ask
    if kind == "question_answering" and not encoder:
        ask = SPAN_AFTER_QUESTION + SPAN
    ask = ask.replace("{marks}", "" if encoder else "add_special_tokens=False, ")
    return (LOAD.format(auto=words.auto) + ask).strip()
