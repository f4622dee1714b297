"""`quoth chat`: talk to a run in the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json, warn
from quoth.system.errors import InputError

if TYPE_CHECKING:
    from quoth.generate.engine import Engine
    from quoth.generate.sampling import Sampling
    from quoth.text.chat import Template

COMMANDS = {
    "/again": "another answer to the same",
    "/new": "forget what was said",
    "/help": "this list",
    "/quit": "end, as Ctrl-D does",
}


@dataclass
class Arguments:
    """Talk to a run. One that was taught to chat answers; any other goes on from what you write.

    Ctrl-C stops an answer, Ctrl-D ends; /help lists what else can be said.

    Attributes:
        run: a run's folder, its name, or latest; or RUN+ADAPTER, a run with the adapters of a tuned run or of PEFT.
        system: what a run that chats is told first.
        tokens: how many tokens an answer has at most.
        temperature: 0 always takes the likeliest token; 1 is the model's own spread.
        top_k: only the k likeliest tokens; 0 for all.
        top_p: only the likeliest tokens that together reach this probability.
        min_p: only tokens at least this share as likely as the likeliest.
        repetition_penalty: more than 1 makes tokens that were there less likely.
        seed: the same seed and the same words, the same answers.
        stop: end an answer before this text; may be given several times.
        checkpoint: best or last.
        weights: float32, bfloat16 or int8; smaller ones are read faster and are less exact.
        threads: 0 tries out how many are fastest.
        json: one JSON object on stdout at the end, with all that was said.
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[RUN]")]] = "latest"
    system: str = ""
    tokens: int = 300
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.05
    repetition_penalty: float = 1.0
    seed: int = 1337
    stop: Annotated[tyro.conf.UseAppendAction[list[str]], tyro.conf.arg(metavar="TEXT")] = field(default_factory=list)
    checkpoint: Literal["best", "last"] = "best"
    weights: Literal["float32", "bfloat16", "int8"] = "float32"
    threads: int = 0
    json: bool = False


class Conversation:
    """What was said so far, and what an answer is made from.

    Without a template the conversation is one growing text, which the model goes on with.
    """

    def __init__(self, engine: Engine, template: Template | None, system: str) -> None:
        self.engine, self.template, self.system = engine, template, system
        self.messages: list[dict[str, str]] = []

    def prompt(self) -> list[int]:
        """The ids that an answer goes on from."""
        if self.template:
            first = [{"role": "system", "content": self.system}] if self.system else []
            return self.template.ids([*first, *self.messages], self.engine.tokenizer)
        return self.engine.prompt_ids("".join(message["content"] for message in self.messages))

    def say(self, text: str) -> None:
        """Add what a person said; a text that grows gets it on a line of its own."""
        before = self.messages and not self.template and not self.messages[-1]["content"].endswith("\n")
        self.messages.append({"role": "user", "content": ("\n" if before else "") + text})

    def answer(self, text: str) -> None:
        """Add what the model said."""
        self.messages.append({"role": "assistant", "content": text})

    def take_back(self, role: str) -> bool:
        """Forget the last message, if it is of that role."""
        if self.messages and self.messages[-1]["role"] == role:
            self.messages.pop()
            return True
        return False

    def forget(self) -> None:
        """Begin anew."""
        self.messages.clear()


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "chat")

    from quoth.recipes.load_engine import load_engine, sampling_of

    if a.tokens < 1 or a.threads < 0:
        raise InputError("--tokens must be at least 1, and --threads 0 or more.")
    sampling = sampling_of(a)
    run = load_engine(a.run, a.checkpoint, warn, weights=a.weights, threads=a.threads)
    talk = Conversation(run.engine, run.template, a.system)
    what = "answers" if run.template else "goes on from what you write"
    console(True).print(f"[bold]{run.name}[/] {what}. /help lists commands; Ctrl-C stops it, Ctrl-D ends.", style="dim")
    for number, text in enumerate(lines(asks=sys.stdin.isatty() and not a.json)):
        if not handled(text, talk):
            speak(a, talk, sampling, a.seed + number)
    if a.json:
        print_json({"run": run.name, "messages": talk.messages})


def lines(asks: bool) -> Iterator[str]:
    """What a person types, until Ctrl-D or /quit."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 Arrows and history.
    while True:
        try:
            text = input("\n> " if asks else "")
        except KeyboardInterrupt:
            print()
            continue
        except UnicodeDecodeError:
            warn("That line is not UTF-8.")
            continue
        except EOFError:
            if asks:
                print()
            return
        if text.strip() == "/quit":
            return
        yield text


def handled(text: str, talk: Conversation) -> bool:
    """Do what a line asks for, and return whether no answer is wanted besides."""
    screen, word = console(True), text.strip()
    if word == "/again":
        talk.take_back("assistant")
        return not talk.messages
    if word == "/new":
        talk.forget()
        screen.print("Forgotten.", style="dim")
    elif word == "/help":
        for command, what in COMMANDS.items():
            screen.print(f"  {command:<8}{what}", style="dim")
    elif not word:
        return not talk.messages or talk.template is not None  # An empty line lets a text go on.
    else:
        talk.say(text)
        return False
    return True


def speak(a: Arguments, talk: Conversation, sampling: Sampling, seed: int) -> None:
    """Stream an answer, and keep it; Ctrl-C ends it where it is. What cannot be read is taken back."""
    from quoth.generate.request import Request
    from quoth.text.chat import TemplateError

    tokenizer = talk.engine.tokenizer
    ends = frozenset(tokenizer.ends)
    try:
        ids = talk.prompt()
        request = Request(prompt=ids, tokens=a.tokens, sampling=sampling, seed=seed, stop=a.stop, stop_ids=ends)
    except (InputError, TemplateError) as error:
        warn(str(error))
        talk.take_back("user")
        return
    if talk.template and len(ids) > talk.engine.context:
        warn(f"What was said is longer than the context of {talk.engine.context} tokens; its beginning is forgotten.")
    said, stream = "", sys.stderr if a.json else sys.stdout

    def show(text: str) -> None:
        stream.write(text)
        stream.flush()

    try:
        for token in talk.engine.run(request):
            said += token.text
            show(token.text)
    except KeyboardInterrupt:
        warn(" (stopped)")
    show("\n")
    talk.answer(said)
