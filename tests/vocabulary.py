"""The tokens of tiny models: syllables, so that a text is the same tokens for whatever reads it, and an answer's tokens can be seen in its text."""

_CONTROL, _UNKNOWN, _BYTE, _NORMAL = 3, 2, 6, 1
SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnpqrstvwxz" for vowel in "aeiou"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]  # without them, a tokenizer of this kind is refused
TOKENS = [token.encode() for token in ("<unk>", "<s>", "</s>", *BYTES, *SYLLABLES)]
TYPES = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * len(BYTES), *[_NORMAL] * len(SYLLABLES)]
FIRST = len(TOKENS) - len(SYLLABLES)  # token of the first syllable
SCORES = [0.0] * FIRST + [-float(number) for number in range(len(SYLLABLES))]


def text_of(tokens: list[int]) -> str:
    return "".join(SYLLABLES[token - FIRST] for token in tokens)


def tokens_of(text: str) -> list[int]:
    return [FIRST + SYLLABLES.index(text[place : place + 2]) for place in range(0, len(text), 2)]
