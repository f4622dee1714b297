"""The shapes that rows of data have: OpenAI's, ShareGPT's and Alpaca's conversations, and TRL's preferences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from json import JSONDecodeError
from typing import Any

from quoth.system.errors import InputError, plain, short
from quoth.text.rows import ANSWERS, QUESTIONS
from quoth.tune.conversation import Conversation, Message, Preference, Prompt, Rated

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
# The turns of Anthropic's data, in which a whole conversation is one text.
TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):")


def conversation(row: Any, where: str) -> Conversation:
    """The conversation in a row of messages, of a prompt and its completion, or of an instruction and its output.

    Raises:
        InputError: the row has another shape, or its messages are no conversation; the message names place and field.
    """
    row = _object(row, where)
    messages = _listed(row, where)
    if not messages:
        question, answer = (next((key for key in keys if key in row), None) for keys in (QUESTIONS, ANSWERS))
        if question is None or answer is None:
            raise InputError(
                f"{where}: A conversation has messages, conversations, prompt and completion, or instruction and "
                f"output, and this row has {_keys(row)}."
            )
        messages = [*_prompt(row, question, where), *_answer(row, answer, where)]
    _check(messages, where)
    return Conversation(tuple(messages), where)


def prompt(row: Any, where: str) -> Prompt:
    """The prompt in a row that has one, or the messages before the last answer in a row of messages.

    Raises:
        InputError: the row has another shape, or the prompt is empty; the message names place and field.
    """
    row = _object(row, where)
    messages = _listed(row, where)
    if messages and messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    elif not messages:
        if (question := next((key for key in QUESTIONS if key in row), None)) is None:
            raise InputError(f"{where}: A prompt has the key prompt or messages, and this row has {_keys(row)}.")
        messages = _prompt(row, question, where)
    _check_prompt(messages, where)
    return Prompt(tuple(messages), where)


def preference(row: Any, where: str) -> Preference:
    """The two answers in a row of chosen and rejected, with a prompt or with the prompt before both answers.

    Raises:
        InputError: the row has another shape, or both answers are the same; the message names place and field.
    """
    row = _object(row, where)
    for key in ("chosen", "rejected"):
        if key not in row:
            raise InputError(f"{where}: A preference has prompt, chosen and rejected, and this row has {_keys(row)}.")
    chosen, rejected = (_answer(row, key, where) for key in ("chosen", "rejected"))
    if chosen == rejected:
        raise InputError(f"{where}: chosen and rejected are the same, {short(chosen[-1]['content'])}.")
    prompt = _prompt(row, "prompt", where) if "prompt" in row else []
    # Beside a prompt, some data repeat it at the beginning of both answers.
    if not prompt or chosen[0]["role"] != "assistant":
        prompt, chosen, rejected = _parted(chosen, rejected)
    _check_prompt(prompt, where)
    for key, answer in (("chosen", chosen), ("rejected", rejected)):
        _check_answer(prompt, answer, f"{where}: {key}")
    return Preference(tuple(prompt), tuple(chosen), tuple(rejected), where)


def rated(row: Any, where: str) -> list[Rated]:
    """The answer in a row of prompt, completion and label, or the good and the bad one of chosen and rejected.

    Raises:
        InputError: the row has another shape, or the label is neither true nor false; the message names place and
            field.
    """
    row = _object(row, where)
    if "label" not in row and {"chosen", "rejected"} <= row.keys():
        both = preference(row, where)
        return [Rated(both.prompt, both.chosen, True, where), Rated(both.prompt, both.rejected, False, where)]
    for key in ("prompt", "completion", "label"):
        if key not in row:
            raise InputError(f"{where}: A rating has prompt, completion and label, and this row has {_keys(row)}.")
    if not isinstance(label := row["label"], bool):
        raise InputError(f"{where}: label must be true or false, not {short(label)}.")
    prompt, completion = _prompt(row, "prompt", where), _answer(row, "completion", where)
    _check_prompt(prompt, where)
    _check_answer(prompt, completion, f"{where}: completion")
    return [Rated(tuple(prompt), tuple(completion), label, where)]


def _check(messages: Sequence[Message], where: str) -> None:
    """Refuse messages that are no conversation, which has an answer.

    Raises:
        InputError: they are out of order, the assistant has no message, or one of the assistant's is empty.
    """
    _check_order(messages, where)
    if all(message["role"] != "assistant" for message in messages):
        raise InputError(f"{where}: The conversation has no message of the assistant, so there is no answer to learn.")


def _check_order(messages: Sequence[Message], where: str) -> None:
    """Refuse messages other than the system's, if it has one, and then the user's and the assistant's in turn."""
    system = int(messages[0]["role"] == "system")
    for i, message in enumerate(messages[system:]):
        wanted, number = ("user", "assistant")[i % 2], i + 1 + system
        if message["role"] != wanted:
            raise InputError(
                f"{where}: Message {number} is of the role {message['role']} where one of the role {wanted} must come: "
                "after a system message, user and assistant speak in turn."
            )
        if wanted == "assistant" and not message["content"].strip():
            raise InputError(f"{where}: Message {number}, an answer of the assistant, is empty.")


def _object(row: Any, where: str) -> dict[str, Any]:
    if isinstance(row, ValueError):
        said = f"{row.msg} at character {row.pos + 1}" if isinstance(row, JSONDecodeError) else str(row)
        raise InputError(f"{where}: This is not JSON: {said}.") from row
    if not isinstance(row, dict):
        raise InputError(f"{where}: A row must be an object with keys, not {short(row)}.")
    # A table fills up the cells that a row lacks.
    return {str(key): value for key, value in row.items() if value is not None}


def _keys(row: Mapping[str, Any]) -> str:
    return "only " + ", ".join(plain(key) for key in list(row)[:10]) if row else "no keys"


def _listed(row: Mapping[str, Any], where: str) -> list[Message]:
    """The messages in a row of OpenAI's or ShareGPT's shape; of another shape, none."""
    if "messages" in row:
        return _messages(row["messages"], f"{where}: messages")
    if "conversations" not in row:
        return []
    messages = _messages(row["conversations"], f"{where}: conversations", "from", "value")
    if messages[0]["role"] != "system" and row.get("system"):
        messages = [_message("system", row["system"], f"{where}: system"), *messages]
    return messages


def _messages(value: Any, field: str, who: str = "role", what: str = "content") -> list[Message]:
    """A list of messages with their roles in quoth's words."""
    if not isinstance(value, list) or not value:
        raise InputError(f"{field} must be a list of messages, not {short(value)}.")
    made = []
    for i, message in enumerate(value):
        if not isinstance(message, dict):
            raise InputError(f"{field}[{i}] must be an object with {who} and {what}, not {short(message)}.")
        # Some collections of ShareGPT's kind have OpenAI's keys.
        names = (who, what) if who in message else ("role", "content")
        role, content = (message.get(name) for name in names)
        if not isinstance(role, str) or role.strip().lower() not in ROLES:
            raise InputError(f"{field}[{i}].{names[0]} must be one of {', '.join(ROLES)}, not {short(role)}.")
        made.append(_message(ROLES[role.strip().lower()], content, f"{field}[{i}].{names[1]}"))
    return made


def _message(role: str, content: Any, field: str) -> Message:
    """A message whose content is a text, or a list of parts that are."""
    if not isinstance(content, list):
        return {"role": role, "content": _text(content, field)}
    texts = []
    for i, part in enumerate(content):
        if isinstance(part, dict) and part.get("type", "text") != "text":
            raise InputError(
                f"{field}[{i}].type must be text, since quoth learns only texts, not {short(part['type'])}."
            )
        texts.append(_text(part.get("text") if isinstance(part, dict) else part, f"{field}[{i}]"))
    return {"role": role, "content": "".join(texts)}


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{field} must be a text, not {short(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON may have half of a character.
        raise InputError(f"{field} holds {value[error.start]!r}, which is no character.") from error
    return value


def _prompt(row: Mapping[str, Any], key: str, where: str) -> list[Message]:
    """What comes before an answer: a text, which is the user's, or messages."""
    if isinstance(row[key], list):
        return _messages(row[key], f"{where}: {key}")
    text = _text(row[key], f"{where}: {key}")
    if turns := _transcript(text):
        return turns
    if key == "instruction" and row.get("input"):
        text = "\n\n".join(filter(None, (text, _text(row["input"], f"{where}: input"))))
    system = [_message("system", row["system"], f"{where}: system")] if row.get("system") else []
    return [*system, {"role": "user", "content": text}]


def _answer(row: Mapping[str, Any], key: str, where: str) -> list[Message]:
    """A text, which is the assistant's, or messages."""
    if isinstance(row[key], list):
        return _messages(row[key], f"{where}: {key}")
    return [{"role": "assistant", "content": _text(row[key], f"{where}: {key}")}]


def _transcript(text: str) -> list[Message]:
    """The turns of a text in Anthropic's form, without an empty last one; nothing if it has another form."""
    before, *parts = TRANSCRIPT.split("\n\n" + text.lstrip())
    turns = [(who, what.strip()) for who, what in zip(parts[::2], parts[1::2], strict=True)]
    if before or not turns:
        return []
    turns = turns if turns[-1][1] else turns[:-1]
    return [{"role": "user" if who == "Human" else "assistant", "content": what} for who, what in turns]


def _parted(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], list[Message], list[Message]]:
    """Two conversations as the messages that they have in common, and what follows in each."""
    if len(chosen) == len(rejected) == 1:
        texts = chosen[0]["content"], rejected[0]["content"]
        turns = [_transcript(text) for text in texts]
        if not all(turns):
            return _parted_texts(*texts)
        chosen, rejected = turns
    # Where one goes on from the other, both have an answer all the same.
    common = min(_common(chosen, rejected), len(chosen) - 1, len(rejected) - 1)
    return chosen[:common], chosen[common:], rejected[common:]


def _parted_texts(chosen: str, rejected: str) -> tuple[list[Message], list[Message], list[Message]]:
    """The same for texts, which part after the last space or line break that they have in common."""
    shared = chosen[: _common(chosen, rejected)]
    cut = max((i + 1 for i, character in enumerate(shared) if character.isspace()), default=0)
    prompt, *answers = shared[:cut].strip(), chosen[cut:], rejected[cut:]
    made = [[{"role": "assistant", "content": answer}] for answer in answers]
    return [{"role": "user", "content": prompt}], made[0], made[1]


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How much two sequences have in common from their beginnings on."""
    least = min(len(one), len(other))
    return next((i for i in range(least) if one[i] != other[i]), least)


def _check_prompt(prompt: Sequence[Message], where: str) -> None:
    if not prompt or prompt[-1]["role"] != "user" or not prompt[-1]["content"].strip():
        raise InputError(f"{where}: The prompt must end with a message of the user that is not empty.")
    _check_order(prompt, where)


def _check_answer(prompt: Sequence[Message], answer: Sequence[Message], field: str) -> None:
    if not answer or answer[0]["role"] != "assistant" or answer[-1]["role"] != "assistant":
        raise InputError(f"{field} must begin and end with a message of the assistant.")
    if not answer[-1]["content"].strip():
        raise InputError(f"{field} is empty.")
    _check_order([*prompt, *answer], field)
