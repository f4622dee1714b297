"""Exports of WhatsApp and Telegram as turns: who speaks, a colon, what is said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from quoth.text.reading import lines

# Spaces as WhatsApp's locales write them, and marks of direction, which stand before some names and messages.
_SPACE = r"[ \u00a0\u202f]"
_MARKS = "\u200e\u200f\u202a\u202c\ufeff"
_NUMBER = r"\d{1,4}"
_DATE = rf"{_NUMBER}(?:[./-]{_SPACE}?|{_SPACE}){_NUMBER}(?:[./-]{_SPACE}?|{_SPACE}){_NUMBER}\.?"
# Morning or afternoon stands before the time in Chinese, Japanese and Korean, and after it elsewhere.
_HALF = rf"(?:{_SPACE}?[^\W\d_](?:[^\W\d_]|\.|{_SPACE}){{0,6}})?"
_TIME = rf"(?:[^\W\d_]{{1,3}}{_SPACE}?)?\d{{1,2}}[:.]\d{{2}}(?:[:.]\d{{2}})?{_HALF}"
_WHEN = rf"{_DATE}[,،]?{_SPACE}(?:[^\W\d_]{{1,3}}{_SPACE})?{_TIME}"
# [12.03.24, 14:05:33] Anna: Hallo   (iOS)
# 3/12/24, 2:05 PM - Anna: Hello    (Android)
# 2024. 3. 12. 오후 2:05, Jin : 안녕   (Android, Korean)
WHATSAPP = re.compile(rf"[{_MARKS}]*(?:\[{_WHEN}\]{_SPACE}|{_WHEN}(?:{_SPACE}[-–]{_SPACE}|,{_SPACE}))(.*)")
_SPOKEN = re.compile(rf"[{_MARKS}~\u202f]*([^:]{{1,80}}?){_SPACE}?:{_SPACE}(.*)", re.DOTALL)


def is_whatsapp(begins: str) -> bool:
    """Whether a text begins as an export of WhatsApp does: its first line, and many of the next, with date and time."""
    lines = [line for line in begins[:20_000].split("\n")[:40] if line.strip()]
    stamped = [bool(WHATSAPP.match(line)) for line in lines]
    return len(lines) > 1 and stamped[0] and sum(stamped) >= max(2, len(lines) / 4)


def whatsapp(texts: Iterable[str]) -> Iterator[str | None]:
    """The turns of an export, one document. What WhatsApp itself says, and files left out, are not turns."""
    said: list[str] = []
    for line in lines(texts):
        if found := WHATSAPP.match(line.rstrip("\n")):
            yield from _spoken("\n".join(said))
            said = [found[1]]
        elif said:
            said.append(line.rstrip("\n"))
    yield from _spoken("\n".join(said))
    yield None


def _spoken(message: str) -> Iterator[str]:
    if not (found := _SPOKEN.fullmatch(message)):
        return
    who, what = found[1].strip(_MARKS), found[2].rstrip()
    # "<Media omitted>" on Android; on iOS a mark of direction stands before what is no message.
    if what.startswith(("\u200e", "\u200f")) or re.fullmatch(r"<[^<>\n]+>", what) or not what:
        return
    yield f"{who}: {''.join(c for c in what if c not in _MARKS)}\n"


def is_telegram(content: Any) -> bool:
    """Whether JSON is Telegram's result.json, of one chat or of all."""
    if not isinstance(content, dict):
        return False
    if isinstance(chats := content.get("chats"), dict):
        return isinstance(chats.get("list"), list)
    messages = content.get("messages")
    return isinstance(messages, list) and "type" in content and "id" in content


def telegram(content: dict[str, Any]) -> Iterator[str | None]:
    """The turns of each chat, a document each; messages without words, and what Telegram itself says, are left out."""
    chats = content["chats"]["list"] if "chats" in content else [content]
    for chat in chats:
        for message in chat.get("messages", []):
            if message.get("type", "message") == "message" and (text := _plain(message.get("text"))).strip():
                yield f"{message.get('from') or 'Deleted Account'}: {text.strip()}\n"
        yield None


def _plain(text: Any) -> str:
    """A message's text: it is a string, or a list of strings and of pieces with a type, such as links."""
    if isinstance(text, list):
        return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in text)
    return text if isinstance(text, str) else ""
