"""Byte-level byte-pair encoding: learned from a text, or GPT-2's own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from quoth.system.errors import InputError
from quoth.text.protocol import Ids, check_unicode
from quoth.text.sources import gpt2_files
from quoth.text.tokenizer_json import TokenizerJson, parse

# GPT-2's split of text into words (Radford et al. 2019); llama.cpp knows it by the name gpt-2.
GPT2_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
END_OF_TEXT = "<|endoftext|>"
GPT2_SIZE = 50257
# Of its tokens in the order of their ids and its merges, each on a line.
GPT2_SHA256 = "9e52e2d09323136cf31fca11e3a80463fe013e9ccfa1c04ac36c8bb825af904d"

LONGEST_WORD = 4096
LONG_RUN = re.compile(rf"\S{{{LONGEST_WORD}}}(?=\S)|\s{{{LONGEST_WORD}}}(?=\s)")


class BPE:
    """Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) with GPT-2's split.

    The tokenizer is kept as a Hugging Face `tokenizer.json`, which must be one that `fits`, and run by tiktoken, which
    is several times as fast and gives the same ids.
    """

    def __init__(self, file: TokenizerJson) -> None:
        import tiktoken

        self._document = file.document
        to_byte = {c: b for b, c in byte_characters().items()}
        ranks = {bytes(to_byte[c] for c in t): i for t, i in file.vocabulary.items() if t not in file.special}
        self.vocabulary = file.size
        self.pieces = [b""] * self.vocabulary
        for piece, i in ranks.items():
            self.pieces[i] = piece
        self.special: Mapping[str, int] = file.special
        self.begins: Sequence[int] = file.begins
        self.ends: Collection[int] = [i for name, i in file.special.items() if name == END_OF_TEXT]
        self.template: str | None = None
        self.name = _name(file)
        # tiktoken merges the pair whose result has the lowest rank, so ranks must follow the merges, not the ids.
        order = [bytes(to_byte[c] for c in left + right) for left, right in file.merges]
        self._ids = np.array([ranks[bytes([b])] for b in range(256)] + [ranks[m] for m in order], dtype=np.int64)
        self._encoding = tiktoken.Encoding(
            self.name,
            pat_str=GPT2_SPLIT,
            mergeable_ranks={p: r for r, p in enumerate([bytes([b]) for b in range(256)] + order)},
            special_tokens={},
        )

    def encode(self, text: str) -> Ids:
        check_unicode(text)
        try:
            ids = self._encoding.encode_ordinary(text)
        except BaseException as error:  # What Rust panics with is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            raise InputError(
                "The text has about a million spaces or line breaks in a row, which this tokenizer cannot read; "
                "shorten them, or train with --tokenizer bytes."
            ) from None
        return self._ids[np.asarray(ids, dtype=np.int64)]

    def dump(self) -> str:
        # Nothing is added: Hugging Face's reader refuses keys that it does not know.
        return json.dumps(self._document, ensure_ascii=False)


def train_bpe(vocabulary: int, texts: Iterator[str]) -> BPE:
    """Learn merges until there are `vocabulary` tokens, or the text has no more to give.

    Raises:
        InputError: fewer than 257 tokens are asked for: 256 are the bytes.
    """
    if vocabulary < 257:
        raise InputError(f"A BPE needs at least 257 tokens, the 256 bytes and a merge, not {vocabulary}.")
    from tokenizers import Tokenizer as HuggingFace
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = HuggingFace(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((part for text in texts for part in without_long_words(text)), trainer)
    return BPE(parse(json.loads(tokenizer.to_str())))


def without_long_words(text: str) -> Iterator[str]:
    """The text, cut within words of more than LONGEST_WORD characters: a trainer's time grows with their square.

    >>> [len(part) for part in without_long_words("a" * 10_000)]
    [4096, 4096, 1808]
    """
    begin = 0
    for run in LONG_RUN.finditer(text):
        yield text[begin : run.end()]
        begin = run.end()
    yield text[begin:]


def gpt2() -> BPE:
    """GPT-2's own tokenizer of 50,257 tokens, made from its published files, whose SHA-256 is checked."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as HuggingFace

    encoder, merges = gpt2_files()
    vocabulary = json.loads(encoder)
    lines = (line.partition(" ") for line in merges.decode().splitlines()[1:] if line)
    pairs = [(left, right) for left, _, right in lines]
    tokenizer = HuggingFace(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    return BPE(parse(json.loads(tokenizer.to_str())))


def byte_characters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: itself where it prints, else a character from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(0x100 + i) for i, b in enumerate(rest)}


def fits(file: TokenizerJson) -> bool:
    """Whether a tokenizer is a byte-level BPE of all bytes with GPT-2's split and nothing else."""
    model, shown = file.document["model"], byte_characters().values()
    if model["type"] != "BPE" or model.get("ignore_merges") or model.get("byte_fallback") or file.added:
        return False
    splitters, normalizers, decoders = (file.kinds(part) for part in ("pre_tokenizer", "normalizer", "decoder"))
    if normalizers or [step["type"] for step in splitters] != ["ByteLevel"]:
        return False
    plain = splitters[0].get("use_regex", True) is True and splitters[0].get("add_prefix_space") is False
    known = set(shown)
    return (
        plain
        and {step["type"] for step in decoders} <= {"ByteLevel"}
        and known <= file.vocabulary.keys() - file.special.keys()
        and all(known.issuperset(token) for token in file.vocabulary if token not in file.special)
        # Each merge must make a token of its own, or ranks would not be unique.
        and len({left + right for left, right in file.merges} | known) == len(file.merges) + len(known)
        and not any(file.special.keys() & {left, right, left + right} for left, right in file.merges)
    )


def _name(file: TokenizerJson) -> str:
    """What `--tokenizer` takes to make this tokenizer again."""
    if not file.special:
        return f"bpe:{file.size}"
    if file.size != GPT2_SIZE or file.special != {END_OF_TEXT: GPT2_SIZE - 1} or file.begins:
        return "pretrained"
    content = "\n".join([*sorted(file.vocabulary, key=file.vocabulary.__getitem__), *map(" ".join, file.merges)])
    return "gpt2" if hashlib.sha256(content.encode()).hexdigest() == GPT2_SHA256 else "pretrained"
