"""The parts of a Hugging Face `tokenizer.json`, checked: what is not understood is refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quoth.system.errors import InputError, plain, short

MODELS = ("BPE", "WordLevel")
# The kinds that are understood. The library `tokenizers` runs the first two lists; the others are followed here.
KINDS = {
    "normalizer": (
        "BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend",
        "Replace", "Sequence", "Strip", "StripAccents",
    ),
    "pre_tokenizer": (
        "BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "FixedLength", "Metaspace", "Punctuation",
        "Sequence", "Split", "UnicodeScripts", "Whitespace", "WhitespaceSplit",
    ),
    "post_processor": ("ByteLevel", "Sequence", "TemplateProcessing"),
    "decoder": ("ByteFallback", "ByteLevel", "Fuse", "Metaspace", "Replace", "Sequence", "Strip"),
}  # fmt: skip
MODEL_KEYS = {
    "BPE": (
        "byte_fallback", "continuing_subword_prefix", "dropout", "end_of_word_suffix", "fuse_unk", "ignore_merges",
        "merges", "type", "unk_token", "vocab",
    ),
    "WordLevel": ("type", "unk_token", "vocab"),
}  # fmt: skip
# Settings of a BPE that may be named but must be off: with them a piece is not its token's own text.
OFF = ("continuing_subword_prefix", "dropout", "end_of_word_suffix")


@dataclass(frozen=True)
class TokenizerJson:
    """A `tokenizer.json` whose parts are known and agree with each other.

    Attributes:
        document: the file itself.
        vocabulary: the ids of the model's tokens by their spellings.
        merges: pairs of a BPE in their order.
        special: the ids of the added tokens that no text may give, by their names.
        added: the ids of the added tokens that are found in text as they are.
        size: how many ids there are; they are 0 to size - 1.
        begins: the ids that the post-processor puts before a text.
    """

    document: dict[str, Any]
    vocabulary: Mapping[str, int]
    merges: Sequence[tuple[str, str]]
    special: Mapping[str, int]
    added: Mapping[str, int]
    size: int
    begins: Sequence[int]

    def kinds(self, part: str) -> list[dict[str, Any]]:
        """The normalizers, decoders or the like that this part consists of, sequences taken apart."""
        return list(_flat(part, self.document.get(part)))


def parse(document: Any) -> TokenizerJson:
    """Check a document.

    Raises:
        InputError: a part of it is not understood or is damaged; the message names the part.
    """
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise InputError("A tokenizer.json is an object with a model, and this one is not.")
    model = document["model"]
    kind = model.get("type")
    if not isinstance(kind, str) or kind not in MODELS:
        raise InputError(f"A tokenizer of the kind {short(kind)} cannot be read; quoth reads {' and '.join(MODELS)}.")
    for key, value in model.items():
        if key not in MODEL_KEYS[kind] or (key in OFF and value):
            raise InputError(f"The tokenizer's model has {plain(key)} {short(value)}, which quoth does not know.")
    for part in KINDS:
        for step in _flat(part, document.get(part)):
            if part == "decoder":
                _check_decoder(step)
    vocabulary = _vocabulary(model)
    special, added = _added(document, vocabulary)
    size = _size({**vocabulary, **special, **added})
    merges = _merges(model, vocabulary) if kind == "BPE" else []
    return TokenizerJson(document, vocabulary, merges, special, added, size, _begins(document, size))


def _flat(part: str, value: Any) -> Iterator[dict[str, Any]]:
    if value is None:
        return
    kind = value.get("type") if isinstance(value, dict) else value
    if kind not in KINDS[part] or not isinstance(value, dict):
        raise InputError(f"The tokenizer has the {part} {short(kind)}, which quoth does not know.")
    if kind != "Sequence":
        yield value
        return
    steps = next((steps for key, steps in value.items() if key != "type"), None)
    if not isinstance(steps, list):
        raise InputError(f"The tokenizer's {part} is a sequence of nothing.")
    for step in steps:
        if isinstance(step, dict) and step.get("type") == "Sequence":
            raise InputError(f"The tokenizer's {part} has a sequence in a sequence, which quoth does not know.")
        yield from _flat(part, step)


def _check_decoder(step: dict[str, Any]) -> None:
    """Refuse what would change a piece in a way that the pieces here do not follow."""
    kind = step["type"]
    replaced = kind == "Replace" and (step.get("pattern") != {"String": "▁"} or step.get("content") != " ")
    stripped = kind == "Strip" and (step.get("content") != " " or step.get("stop"))
    spaced = kind == "Metaspace" and step.get("replacement") != "▁"
    if replaced or stripped or spaced:
        raise InputError(f"The tokenizer has the decoder {short(step)}, which quoth does not know.")


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict):
        raise InputError("The tokenizer's vocabulary is no object of tokens and ids.")
    for token, i in vocabulary.items():
        _check_token(token, i)
    return vocabulary


def _check_token(token: Any, i: Any) -> None:
    if type(i) is not int or i < 0:
        raise InputError(f"The token {short(token)} has the id {short(i)}, which is no whole number from 0 on.")
    try:
        token.encode()
    except (AttributeError, UnicodeEncodeError) as error:  # JSON may have half of a character.
        raise InputError(f"The token {short(token)} of the id {i} is no text.") from error


def _added(document: dict[str, Any], vocabulary: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """The special tokens, and the added ones that are text."""
    special: dict[str, int] = {}
    added: dict[str, int] = {}
    entries = document.get("added_tokens") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError("The tokenizer's added_tokens are no list of objects.")
    for entry in entries:
        name, i = entry.get("content"), entry.get("id")
        _check_token(name, i)
        if not name or name in special or name in added:
            raise InputError(f"The added token {short(name)} is empty or stands in the tokenizer twice.")
        if vocabulary.get(name, i) != i:
            raise InputError(f"The token {short(name)} has the ids {vocabulary[name]} and {i}.")
        (special if entry.get("special", True) else added)[name] = i
    return special, added


def _size(ids: Mapping[str, int]) -> int:
    """How many ids there are, where they leave no holes and stand for one token each."""
    found = set(ids.values())
    if not found:
        raise InputError("The tokenizer has no tokens.")
    if len(found) < len(ids):
        raise InputError(f"The tokenizer has {len(ids):,} tokens with only {len(found):,} different ids.")
    if max(found) >= len(found):
        raise InputError(f"The tokenizer has {len(found):,} tokens, but ids up to {max(found):,}: some are missing.")
    return len(found)


def _merges(model: dict[str, Any], vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """The pairs, whether they are pairs in the file or, as in older files, strings with a space."""
    given = model.get("merges", [])
    if not isinstance(given, list):
        raise InputError("The tokenizer's merges are no list.")
    merges = []
    for merge in given:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise InputError(f"The tokenizer's merge {short(merge)} is no pair of tokens.")
        for token in (*pair, "".join(pair)):
            if token not in vocabulary:
                raise InputError(f"The tokenizer's merge {short(merge)} names {short(token)}, which is no token.")
        merges.append((pair[0], pair[1]))
    return merges


def _begins(document: dict[str, Any], size: int) -> list[int]:
    """What the post-processor puts before a text.

    Raises:
        InputError: it also puts something behind the text, or is damaged.
    """
    begins: list[int] = []
    templates = [s for s in _flat("post_processor", document.get("post_processor")) if s["type"] != "ByteLevel"]
    for template in templates:
        parts = template.get("single") or []
        names = [next(iter(part), None) for part in parts]
        if names.count("Sequence") != 1 or len(templates) > 1:
            raise InputError("The tokenizer's post_processor TemplateProcessing has no single place for the text.")
        if names[-1] != "Sequence":
            raise InputError(f"The tokenizer puts {short(parts[-1])} behind every text, which quoth does not do.")
        for part in parts[:-1]:
            begins += template["special_tokens"][part["SpecialToken"]["id"]]["ids"]
    if any(type(i) is not int or not 0 <= i < size for i in begins):
        raise InputError(f"The tokenizer puts {short(begins)} before every text, which are not all tokens.")
    return begins
