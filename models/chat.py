"""The one chat format: a single place for training, generation, scoring and the stored template."""

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END = "<|end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|> {{ message['content'] | trim }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|> {{ message['content'] | trim }}<|end|>"
    "{% else %}{{ raise_exception('role is ' ~ message['role'] ~ ', expected user or assistant') }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Jinja form of `render`, stored with the tokenizer."""


def question(instruction: str, input: str = "") -> str:
    """Return the user's turn without its marker: the instruction, and the input on the next line if any."""
    instruction, input = instruction.strip(), input.strip()
    return f"{instruction}\n{input}".strip()


def turn(text: str) -> str:
    """Return the text of a turn as it stands behind its marker: with one space before it.

    A byte-level vocabulary joins a word with the space before, so with the space a turn's first word has the
    tokens that it has in running text, and by those the foundation knows it.
    """
    return f" {text.strip()}"


def render(instruction: str, input: str = "", output: str | None = None) -> str:
    """Return one exchange as text; without `output`, the prompt that asks the model to answer.

    >>> render("Who bakes?", output=" Ada. ")
    '<|user|> Who bakes?<|assistant|> Ada.<|end|>'
    """
    prompt = f"{USER}{turn(question(instruction, input))}{ASSISTANT}"
    return prompt if output is None else f"{prompt}{turn(output)}{END}"
