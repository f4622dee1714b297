"""Exports of WhatsApp and Telegram as messages, and as turns: who speaks, a colon, what is said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
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
WHATSAPP = re.compile(
    rf"[{_MARKS}]*(?:\[(?P<when>{_WHEN})\]{_SPACE}|(?P<or_when>{_WHEN})(?:{_SPACE}[-–]{_SPACE}|,{_SPACE}))(?P<said>.*)"
)
# Marks of the two halves of a day, without dots and spaces.
AFTERNOON = ("pm", "下午", "오후", "午後", "م")
MORNING = ("am", "上午", "오전", "午前", "ص")
_SPOKEN = re.compile(rf"[{_MARKS}~\u202f]*([^:]{{1,80}}?){_SPACE}?:{_SPACE}(.*)", re.DOTALL)


def is_whatsapp(begins: str) -> bool:
    """Whether a text begins as an export of WhatsApp does: its first line, and many of the next, with date and time."""
    lines = [line for line in begins[:20_000].split("\n")[:40] if line.strip()]
    stamped = [bool(WHATSAPP.match(line)) for line in lines]
    return len(lines) > 1 and stamped[0] and sum(stamped) >= max(2, len(lines) / 4)


@dataclass(frozen=True)
class Said:
    """A message: who wrote it, its text, and when it was sent, in seconds, where that is known."""

    who: str
    what: str
    when: float | None = None


def whatsapp(texts: Iterable[str]) -> Iterator[str | None]:
    """The turns of an export, one document. What WhatsApp itself says, and files left out, are not turns."""
    yield from (f"{said.who}: {said.what}\n" for _, said in _whatsapp(texts))
    yield None


def whatsapp_messages(texts: Iterable[str]) -> list[Said]:
    """The messages of an export, with their times where all of them can be read.

    Whether the day or the month comes first is taken from the order of the messages.
    """
    found = list(_whatsapp(texts))
    times = _times([stamp for stamp, _ in found])
    return [replace(said, when=when) for (_, said), when in zip(found, times, strict=True)]


def _whatsapp(texts: Iterable[str]) -> Iterator[tuple[str, Said]]:
    """Each message with its date and time as they are written."""
    stamp, held = "", [""]
    for line in lines(texts):
        if found := WHATSAPP.match(line.rstrip("\n")):
            yield from ((stamp, said) for said in _spoken("\n".join(held)))
            stamp, held = found["when"] or found["or_when"], [found["said"]]
        elif stamp:
            held.append(line.rstrip("\n"))
    yield from ((stamp, said) for said in _spoken("\n".join(held)))


def _spoken(message: str) -> Iterator[Said]:
    if not (found := _SPOKEN.fullmatch(message)):
        return
    who, what = found[1].strip(_MARKS), found[2].rstrip()
    # "<Media omitted>" on Android; on iOS a mark of direction stands before what is no message.
    if what.startswith(("\u200e", "\u200f")) or re.fullmatch(r"<[^<>\n]+>", what) or not what:
        return
    yield Said(who, "".join(c for c in what if c not in _MARKS))


def _times(stamps: list[str]) -> Sequence[float | None]:
    """The seconds that dates and times stand for, in the order of day and month in which none goes backwards."""
    for day_first in (True, False):
        times = [_time(stamp, day_first) for stamp in stamps]
        known = [time for time in times if time is not None]
        if len(known) == len(times) and all(one <= other for one, other in pairwise(known)):
            return known
    return [None] * len(stamps)


def _time(stamp: str, day_first: bool) -> float | None:
    numbers = [int(number) for number in re.findall(r"\d+", stamp)]
    year, *rest = numbers[:3] if numbers[0] > 31 else [numbers[2], *numbers[:2]]
    # After the year comes the month; else either.
    day, month = rest if day_first and numbers[0] <= 31 else rest[::-1]
    hour, minute, second = [*numbers[3:], 0][:3]
    half = re.sub(r"[\W\d_]", "", stamp).lower()
    if half.startswith(AFTERNOON) or half.endswith(AFTERNOON):
        hour = hour % 12 + 12
    elif half.startswith(MORNING) or half.endswith(MORNING):
        hour %= 12
    try:
        return datetime(year % 100 + 2000, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return None


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
    for chat in telegram_messages(content):
        yield from (f"{said.who}: {said.what}\n" for said in chat)
        yield None


def telegram_messages(content: dict[str, Any]) -> Iterator[list[Said]]:
    """The messages of each chat, with their times; those without words are left out."""
    for chat in content["chats"]["list"] if "chats" in content else [content]:
        said = []
        for message in chat.get("messages", []):
            if message.get("type", "message") == "message" and (text := _plain(message.get("text")).strip()):
                said.append(Said(message.get("from") or "Deleted Account", text, _sent(message)))
        yield said


def _sent(message: dict[str, Any]) -> float | None:
    try:
        return float(message["date_unixtime"])
    except (KeyError, TypeError, ValueError):
        return None


def _plain(text: Any) -> str:
    """A message's text: it is a string, or a list of strings and of pieces with a type, such as links."""
    if isinstance(text, list):
        return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in text)
    return text if isinstance(text, str) else ""
