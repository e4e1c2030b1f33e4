"""Lists of phrases as they are easiest to read and to edit: one text, parted by bars."""


def phrases(text: str) -> list[str]:
    """Return the parts of a text between bars, white space folded; a part may be empty."""
    return [" ".join(part.split()) for part in text.split("|")]
