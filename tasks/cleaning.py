"""Text made uniform: Unicode repaired, long documents cut, quality rules, contact details scrubbed."""

import re
from collections import Counter

EMAIL_MARK = "<email>"
PHONE_MARK = "<phone>"

WORD_LENGTHS = (3.0, 10.0)
MAX_BULLET_SHARE = 0.9
MAX_ELLIPSIS_SHARE = 0.3
REPEATED_RUN = 4

_EMAIL = re.compile(
    r"(?<![\w.%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![\w-])"
)
"""An e-mail address (RFC 5321 lengths). Every repeat is bounded, so that time is linear in the text."""

_PHONE_LIKE = re.compile(r"\d(?:[^\w\n]{0,3}\d){6}")
"""Seven digits close together: less is never a phone number, and the number parser is slow."""

_LETTER = re.compile(r"[^\W\d_]")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*$")  # noqa: RUF001
_BULLETS = ("•", "-", "*", "‣", "–")  # noqa: RUF001
_BLANK_LINES = re.compile(r"\n{3,}")
_NEEDS_REPAIR = re.compile(r"[^\n\t\x20-\x25\x27-\x7e]")


def normalise(text: str) -> str:
    """Return text in one Unicode form: mojibake repaired (ftfy), NFC, no control marks, tidy line ends.

    Curly quotes stay. Spaces at line ends go, more than one blank line becomes one, and the whole is
    stripped.
    """
    if _NEEDS_REPAIR.search(text):  # plain ASCII without "&" has nothing to repair
        from ftfy import fix_text

        text = fix_text(text, uncurl_quotes=False, normalization="NFC")
    text = "\n".join([line.rstrip() for line in text.split("\n")])
    return _BLANK_LINES.sub("\n\n", text).strip()


def cut_document(text: str, max_words: int) -> list[str]:
    """Cut a text of more than `max_words` words into pieces at line ends, else sentence ends, else words.

    A piece ends at the last line end in the second half of what it may hold; if there is none, at the last
    sentence end there; if there is none either, at `max_words`.
    """
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    pieces, first = [], 0
    while len(spans) - first > max_words:
        latest, cut = first + max_words, 0
        for after in range(latest, first + max_words // 2, -1):
            before = spans[after - 1]
            if "\n" in text[before[1] : spans[after][0]]:
                cut = after
                break
            if not cut and _SENTENCE_END.search(text, *before):
                cut = after
        cut = cut or latest
        pieces.append(text[spans[first][0] : spans[cut - 1][1]])
        first = cut
    if first < len(spans):
        pieces.append(text[spans[first][0] : spans[-1][1]])
    return pieces


def measure_repetition(text: str, words: list[str]) -> float:
    """Return the larger of two shares of repeated text, 0 to 1 (after Rae et al. 2021, table A1).

    One is the share of lines that are equal to an earlier line, the other the share of words that the most
    common run of 4 words takes up, when it stands there more than once.
    """
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    repeated_lines = 1 - len(set(lines)) / len(lines) if lines else 0.0
    runs = Counter(zip(*(words[start:] for start in range(REPEATED_RUN)), strict=False))
    most = max(runs.values(), default=0)
    repeated_words = most * REPEATED_RUN / len(words) if most > 1 else 0.0
    return min(1.0, max(repeated_lines, repeated_words))


def find_quality_fault(
    text: str, min_words: int, min_letter_share: float, max_symbol_share: float, max_repetition: float
) -> str | None:
    """Return which quality rule a document breaks, or None.

    The rules of Gopher (Rae et al. 2021, "Scaling Language Models", appendix A.1.1): enough words, a mean
    word length of 3 to 10 characters, enough words with a letter, few "#" and ellipses per word, at most 90 %
    of lines that begin with a bullet and 30 % that end with an ellipsis, little repetition; and of C4 (Raffel
    et al. 2020, section 2.2): no "lorem ipsum".
    """
    words = text.split()
    if len(words) < max(1, min_words):
        return "too_short"
    if not WORD_LENGTHS[0] <= sum(map(len, words)) / len(words) <= WORD_LENGTHS[1]:
        return "word_length"
    if sum(1 for word in words if _LETTER.search(word)) < min_letter_share * len(words):
        return "few_letters"
    if text.count("#") + text.count("...") + text.count("…") > max_symbol_share * len(words):
        return "symbols"
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if sum(line.startswith(_BULLETS) for line in lines) > MAX_BULLET_SHARE * len(lines):
        return "bullets"
    if sum(line.endswith(("...", "…")) for line in lines) > MAX_ELLIPSIS_SHARE * len(lines):
        return "ellipses"
    if "lorem ipsum" in text.lower():
        return "placeholder"
    if measure_repetition(text, words) > max_repetition:
        return "repetition"
    return None


def scrub_emails(text: str) -> tuple[str, int]:
    """Return the text with every e-mail address replaced by `EMAIL_MARK`, and how many there were."""
    return _EMAIL.subn(EMAIL_MARK, text) if "@" in text else (text, 0)


def scrub_phones(text: str, region: str) -> tuple[str, int]:
    """Return the text with every valid phone number replaced by `PHONE_MARK`, and how many there were.

    `region` (two letters, e.g. "US") is the country whose national form is known too; numbers that begin with
    "+" are found whatever it is. What a valid number is comes from the tables of the phonenumbers library.
    """
    if not _PHONE_LIKE.search(text):
        return text, 0
    from phonenumbers import PhoneNumberMatcher

    found, lines = 0, text.split("\n")
    for number, line in enumerate(lines):
        if _PHONE_LIKE.search(line):
            matches = list(PhoneNumberMatcher(line, region))
            for match in reversed(matches):
                line = line[: match.start] + PHONE_MARK + line[match.end :]
            lines[number] = line
            found += len(matches)
    return "\n".join(lines), found
