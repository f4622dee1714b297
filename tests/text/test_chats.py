from datetime import UTC, datetime
from typing import Any

import pytest

from quoth.text.chats import Said, is_telegram, is_whatsapp, telegram, telegram_messages, whatsapp, whatsapp_messages

STAMPS = {
    "iOS, German": "[12.03.24, 14:05:33] ",
    "iOS, American": "[3/12/24, 2:05:33\u202fPM] ",
    "iOS, British": "[12/03/2024, 14:05:33] ",
    "iOS, Dutch": "[12-03-2024 14:05:33] ",
    "iOS, Japanese": "[2024/03/12 14:05:33] ",
    "iOS, Chinese": "[2024/3/12 下午2:05:33] ",
    "iOS, Swedish": "[2024-03-12, 14:05:33] ",
    "Android, German": "12.03.24, 14:05 - ",
    "Android, American": "3/12/24, 2:05 PM - ",
    "Android, Spanish": "12/3/24, 2:05 p. m. - ",
    "Android, Brazilian": "12/03/2024 14:05 - ",
    "Android, Italian": "12/03/24, 14:05 - ",
    "Android, French": "12/03/2024 à 14:05 - ",
    "Android, Finnish": "12.3.2024 klo 14.05 - ",
    "Android, Japanese": "2024/03/12 14:05 - ",
    "Android, Korean": "2024. 3. 12. 오후 2:05, ",
    "Android, Arabic": "\u200f12/3/2024، 2:05 م - ",
}


@pytest.mark.parametrize("stamp", STAMPS.values(), ids=STAMPS)
def test_whatsapp(stamp: str) -> None:
    said = [
        f"{stamp}Messages are encrypted from end to end.\n",
        f"{stamp}Anna Groß: Hallo: du\n",
        "a second line\n",
        f"{stamp}~\u202fBob: Na?\n",
        f"{stamp}Bob: <Media omitted>\n",
        f"\u200e{stamp}Bob: \u200eimage omitted\n",
        f"{stamp}Anna Groß: 12:30, at ours - ok?",
    ]
    export = "".join(said)
    assert is_whatsapp(export)
    cut = [export[i : i + 7] for i in range(0, len(export), 7)]
    turns = ["Anna Groß: Hallo: du\na second line\n", "Bob: Na?\n", "Anna Groß: 12:30, at ours - ok?\n"]
    assert list(whatsapp(cut)) == [*turns, None]


@pytest.mark.parametrize(
    "text",
    [
        "ROMEO:\nHe jests at scars.\n\nJULIET:\nAy me!\n",
        "12.03.24 was a Tuesday.\nAnna: Hello\n",
        "2024-03-12 14:05:33 INFO started\n2024-03-12 14:05:34 INFO ended\n",
        "1/2/3\n",
        "",
    ],
)
def test_other_texts_are_no_chat(text: str) -> None:
    assert not is_whatsapp(text)


CHAT: dict[str, Any] = {
    "name": "Bob",
    "type": "personal_chat",
    "id": 1,
    "messages": [
        {"type": "service", "actor": "Bob", "text": "joined"},
        {
            "type": "message",
            "from": "Anna",
            "text": ["see ", {"type": "link", "text": "example.org"}, " there"],
        },
        {"type": "message", "from": "Bob", "text": "", "photo": "photos/1.jpg"},
        {"type": "message", "from": None, "text": "gone"},
    ],
}


def test_telegram() -> None:
    turns = ["Anna: see example.org there\n", "Deleted Account: gone\n", None]
    assert is_telegram(CHAT)
    assert list(telegram(CHAT)) == turns
    everything = {"about": "", "chats": {"list": [CHAT, CHAT]}}
    assert is_telegram(everything)
    assert list(telegram(everything)) == turns * 2
    assert not is_telegram({"messages": [{"role": "user", "content": "Hi"}]})
    assert not is_telegram([CHAT])


@pytest.mark.parametrize("stamp", STAMPS.values(), ids=STAMPS)
def test_times_of_whatsapp(stamp: str) -> None:
    """All of these are five past two in the afternoon; the next day is a minute and a day later."""
    later = stamp.replace("12", "13", 1).replace("05", "06", 1)
    export = f"{stamp}Anna: Hello\n{later}Bob: Hello\n"
    one, other = whatsapp_messages([export])
    assert (one.who, one.what, other.who) == ("Anna", "Hello", "Bob")
    assert one.when is not None and other.when is not None
    assert datetime.fromtimestamp(one.when, UTC).strftime("%H:%M") == "14:05"
    assert other.when - one.when == 24 * 3600 + 60


@pytest.mark.parametrize(
    ("dates", "days"),
    [
        (["3/1/24", "4/1/24"], [3, 4]),
        (["1/30/24", "2/1/24"], [30, 1]),
        (["30/1/24", "1/2/24"], [30, 1]),
        (["13/13/24", "1/2/24"], [None, None]),
        (["5/1/24", "3/1/24"], [None, None]),
    ],
)
def test_the_order_of_day_and_month_is_that_in_which_time_goes_on(dates: list[str], days: list[int | None]) -> None:
    said = whatsapp_messages(f"{date}, 10:00 - Anna: a\n" for date in dates)
    assert [datetime.fromtimestamp(s.when, UTC).day if s.when else None for s in said] == days


def test_midnight_and_noon() -> None:
    times = ("12:05 AM", "11:00 AM", "12:05 PM", "1:00 PM")
    said = whatsapp_messages(f"3/1/24, {time} - Anna: a\n" for time in times)
    assert [datetime.fromtimestamp(s.when or 0, UTC).hour for s in said] == [0, 11, 12, 13]


def test_telegram_tells_when_something_was_said() -> None:
    chat = {**CHAT, "messages": [{**CHAT["messages"][1], "date_unixtime": "1700000000"}]}
    assert list(telegram_messages(chat)) == [[Said("Anna", "see example.org there", 1.7e9)]]
    assert [s.when for s in next(telegram_messages(CHAT))] == [None, None]
