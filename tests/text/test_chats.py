from typing import Any

import pytest

from quoth.text.chats import is_telegram, is_whatsapp, telegram, whatsapp

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
