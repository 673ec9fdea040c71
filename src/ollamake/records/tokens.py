"""A base's own tokenizer, made of the keys of its GGUF: `tokenizers`, not transformers, which takes 5 s to import and to read one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from ollamake.records.chat_template import ChatTemplate, chat_template
from ollamake.records.formats import Chat, Record, Text
from ollamake.records.text import turns_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTROL, USER_DEFINED = 3, 4  # llama.cpp's token types
# The splits before byte-pair encoding, by `tokenizer.ggml.pre`, as llama.cpp has them (llama-vocab.cpp). An empty one is GPT-2's own.
_DIGITS_ALONE = {"smollm", "starcoder", "refact", "command-r"}
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPLITS = {
    "default": "",
    "gpt-2": "",
    "llama-bpe": _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
_SPLITS.update(dict.fromkeys(("llama3", "llama-v3", "dbrx", "smaug-bpe"), _SPLITS["llama-bpe"]), **dict.fromkeys(_DIGITS_ALONE, ""))


@dataclass(frozen=True)
class Rendering:
    """How a base reads chats: its template and its tokenizer."""

    keys: Mapping[str, Any]  # of the GGUF, long arrays included

    @property
    def context(self) -> int | None:
        """The most tokens that the base was made for, prompt and answer, if its GGUF says so."""
        found = self.keys.get(f"{self.keys.get('general.architecture')}.context_length")
        return found if isinstance(found, int) and found > 0 else None

    @cached_property
    def template(self) -> ChatTemplate | None:
        """The base's chat template, if it has one. Raises BuildError where it can't be read."""
        source = self.keys.get("tokenizer.chat_template")
        if not isinstance(source, str):
            return None
        return chat_template(source, bos_token=self._token("bos"), eos_token=self._token("eos"))

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The base's tokenizer; None where it is of a kind that is not known here."""
        kind, tokens = self.keys.get("tokenizer.ggml.model"), self.keys.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, list):
            return None
        made = _byte_pairs(self.keys, tokens) if kind == "gpt2" else _sentence_pieces(self.keys, tokens) if kind == "llama" else None
        if made is not None:
            from tokenizers import AddedToken

            types = self.keys.get("tokenizer.ggml.token_type", [])
            special = [token for token, sort in zip(tokens, types, strict=False) if sort in {CONTROL, USER_DEFINED}]
            made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
        return made

    @property
    def bos(self) -> str:
        """The token that begins a text, as it is written; empty where the base has none."""
        return self._token("bos")

    @cached_property
    def longest_token(self) -> int:
        """How many characters the longest token stands for, at most."""
        return max(map(len, self.keys.get("tokenizer.ggml.tokens", ())), default=1)

    def segments(self, record: Record, system: str | None) -> list[tuple[str, bool]] | None:
        """The record as the base reads it, in pieces, each with whether it is learnt; None where the base has no template for it.

        Raises BuildError where the template refuses it.
        """
        if isinstance(record, Text):
            return [(record.text + self._token("eos"), True)]
        if self.template is None:
            return None
        return self.template.segments(turns_of(record, system), record.tools if isinstance(record, Chat) else ())

    def count(self, text: str) -> int:
        """The tokens of a rendered text. There has to be a tokenizer."""
        assert self.tokenizer is not None
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def _token(self, name: str) -> str:
        number, tokens = self.keys.get(f"tokenizer.ggml.{name}_token_id"), self.keys.get("tokenizer.ggml.tokens")
        return str(tokens[number]) if isinstance(tokens, list) and isinstance(number, int) and number < len(tokens) else ""


def tokens_by_loss(tokenizer: Tokenizer, segments: Sequence[tuple[str, bool]]) -> Iterator[tuple[int, str, bool]]:
    """Each token of a chat's segments: its number, what it is in the text, and whether it carries loss."""
    is_first = True
    for text, is_learnt in segments:
        encoded = tokenizer.encode(text, add_special_tokens=False)
        for number, (start, end) in zip(encoded.ids, encoded.offsets, strict=True):
            yield number, text[start:end], is_learnt and not is_first  # nothing comes before the first that could predict it
            is_first = False


def text_of(keys: Mapping[str, Any], numbers: Sequence[int]) -> str | None:
    """The text of these tokens, special ones as they are written; None where it is not known how the base's tokenizer writes them."""
    kind, tokens, types = (keys.get(f"tokenizer.ggml.{name}") for name in ("model", "tokens", "token_type"))
    if kind not in {"gpt2", "llama"} or not isinstance(tokens, list) or not all(0 <= number < len(tokens) for number in numbers):
        return None
    sorts = types if isinstance(types, list) else []
    written = b"".join(
        _bytes_of(str(tokens[number]), is_plain=number >= len(sorts) or sorts[number] not in {CONTROL, USER_DEFINED}, kind=kind) for number in numbers
    )
    text = written.decode(errors="replace")
    return text.removeprefix(" ") if kind == "llama" and keys.get("tokenizer.ggml.add_space_prefix", True) else text


def _bytes_of(token: str, *, is_plain: bool, kind: str) -> bytes:
    if not is_plain:
        return token.encode()
    if kind == "gpt2":
        bytes_by_letter = _letters()
        return b"".join(bytes_by_letter.get(letter, letter.encode()) for letter in token)
    byte = re.fullmatch("<0x([0-9A-F]{2})>", token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


@cache
def _letters() -> dict[str, bytes]:
    """The byte that each letter of GPT-2's vocabulary stands for: itself where it can be printed, else one from 256 on."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return {chr(byte if byte in printed else next(others)): bytes([byte]) for byte in range(256)}


def _byte_pairs(keys: Mapping[str, Any], tokens: Sequence[str]) -> Tokenizer | None:
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split

    kind, merges = str(keys.get("tokenizer.ggml.pre", "default")), keys.get("tokenizer.ggml.merges")
    if kind not in _SPLITS or not isinstance(merges, list):
        return None
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(BPE(vocabulary, pairs, ignore_merges=kind in {"llama-bpe", "llama3", "llama-v3"}))
    steps: list[PreTokenizer] = [Digits(individual_digits=True)] if kind in _DIGITS_ALONE else []
    if _SPLITS[kind]:
        steps.append(Split(Regex(_SPLITS[kind]), "isolated"))
    steps.append(ByteLevel(add_prefix_space=False, use_regex=not _SPLITS[kind]))
    tokenizer.pre_tokenizer = Sequence(steps)
    return tokenizer


def _sentence_pieces(keys: Mapping[str, Any], tokens: Sequence[str]) -> Tokenizer | None:
    """SentencePiece's byte-pair encoding. Its merges are not in the GGUF: every two tokens that make a third, the best of them first."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.normalizers import Prepend, Replace
    from tokenizers.normalizers import Sequence as Normalizers

    scores = keys.get("tokenizer.ggml.scores")
    if not isinstance(scores, list):
        return None
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [
        (-scores[number], number, token[:place], token[place:])
        for token, number in vocabulary.items()
        for place in range(1, len(token))
        if token[:place] in vocabulary and token[place:] in vocabulary
    ]
    pairs = [(first, second) for _, _, first, second in sorted(merges)]
    tokenizer = Tokenizer(BPE(vocabulary, pairs, unk_token=tokens[0], fuse_unk=True, byte_fallback=True))
    prefix = [Prepend("▁")] if keys.get("tokenizer.ggml.add_space_prefix", True) else []
    tokenizer.normalizer = Normalizers([*prefix, Replace(" ", "▁")])
    return tokenizer
