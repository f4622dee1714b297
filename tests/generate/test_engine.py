"""The engine: requests come and go, and each is answered as if it were alone."""

from __future__ import annotations

import random

import pytest
import torch
from generate.models import ALPHABET, model

from quoth.generate.engine import Engine
from quoth.generate.request import Generation, Request
from quoth.generate.sampling import Sampling
from quoth.generate.slots import STRETCH
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.text.tokenizer import Bytes, Characters

GREEDY = Sampling(temperature=0)


def engine_of(gpt: GPT | None = None, **given: object) -> Engine:
    return Engine(gpt or model("modern"), Characters(ALPHABET), **({"compiled": True, "threads": 1} | given))


def some_requests(count: int, seed: int = 0, *, longest: int = 30) -> list[Request]:
    """Of different lengths, settings and seeds."""
    rng, made = random.Random(seed), []
    samplings = [
        Sampling(temperature=1),
        Sampling(temperature=0),
        Sampling(temperature=1.2, top_k=4, top_p=0.9),
        Sampling(temperature=1, repetition_penalty=1.3, presence_penalty=0.2, frequency_penalty=0.1),
        Sampling(temperature=1, min_p=0.1, logit_bias={2: -3.0}),
    ]
    for n in range(count):
        prompt = [rng.randrange(len(ALPHABET)) for _ in range(rng.randint(1, longest))]
        made.append(
            Request(
                prompt=prompt,
                tokens=rng.randint(1, 40),
                sampling=rng.choice(samplings),
                seed=n,
                stop=rng.choice([(), ("ab",), ("a", "hh")]),
                logprobs=rng.choice([None, 0, 3]),
                lookup=rng.choice([0, 0, 3]),
            )
        )
    return made


def seen(generation: Generation) -> tuple[object, ...]:
    return generation.answer, generation.text, generation.finish, generation.tokens


def uncached(gpt: GPT, prompt: list[int], tokens: int) -> list[int]:
    """Greedy ids with the engine's window rule and no cache."""
    context, seen, window = gpt.config.context, list(prompt), prompt[-gpt.config.context :]
    for _ in range(tokens):
        if len(window) > context:
            window = seen[-(context // 2) :]
        with torch.inference_mode():
            token = int(gpt(torch.tensor([window]))[0, -1].argmax())
        seen.append(token)
        window = [*window, token]
    return seen[len(prompt) :]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", ["lecture", "modern"])
@pytest.mark.parametrize("length", [1, 10, 16, 40])
def test_greedy_ids_equal_an_uncached_loop_past_the_context(name: str, length: int, compiled: bool) -> None:
    gpt = model(name)
    engine = Engine(gpt, Characters(ALPHABET), compiled=compiled)
    prompt = torch.randint(len(ALPHABET), (length,), generator=torch.Generator().manual_seed(2)).tolist()
    (made,) = engine.generate([Request(prompt=prompt, tokens=40, sampling=GREEDY)])
    assert made.answer == uncached(gpt, prompt, 40)
    assert made.finish == "length"


def test_the_same_seed_writes_the_same_and_another_does_not() -> None:
    engine = Engine(model("modern"), Characters(ALPHABET))
    first, again, other = (engine.samples("abc", 30, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again != other


def test_a_stream_joined_is_the_sample() -> None:
    engine = Engine(model("modern"), Characters(ALPHABET))
    assert "".join(engine.stream("abc", 30, seed=5)) == engine.samples("abc", 30, seed=5)[0]


def test_continuations_of_one_prompt_differ() -> None:
    engine = Engine(model("modern"), Characters(ALPHABET))
    assert len(set(engine.samples("abc", 20, count=4))) == 4


def test_a_model_without_layers_reads_its_window() -> None:
    engine = Engine(model("modern", layers=0), Characters(ALPHABET))
    assert len(engine.samples("abc", 20)[0]) == 20


def test_without_a_prompt_it_begins_after_a_line_break() -> None:
    engine = Engine(model("modern"), Characters(ALPHABET))
    assert engine.prompt_ids("") == [ALPHABET.index("\n") if ALPHABET[0] == "\n" else sorted(ALPHABET).index("\n")]


def test_an_unknown_character_is_named() -> None:
    with pytest.raises(InputError, match="'Z' at position 2"):
        Engine(model("modern"), Characters(ALPHABET)).samples("abZ")


@pytest.mark.parametrize(("tokens", "count"), [(0, 1), (5, 0)])
def test_nothing_to_write_is_refused(tokens: int, count: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        Engine(model("modern"), Characters(ALPHABET)).samples("abc", tokens, count)


@pytest.mark.parametrize("compiled", [True, False])
def test_an_answer_does_not_depend_on_its_neighbours(compiled: bool) -> None:
    """Requests that join and leave at different times, in few slots, with everything on: each as if it were alone."""
    gpt, asked = model("modern", context=96), some_requests(24, longest=90)
    # Torch adds alike only among equally many slots, so there those are kept equal.
    among, lone = (
        engine_of(gpt, slots=5, compiled=compiled),
        engine_of(gpt, slots=1 if compiled else 5, compiled=compiled),
    )
    rng, made, left = random.Random(1), list[Generation](), list(asked)
    while left or among.busy:
        for _ in range(min(len(left), rng.choice([0, 0, 1, 3]))):
            made.append(among.submit(left.pop(0)))
        among.step()
    for request, generation in zip(asked, made, strict=True):
        assert seen(lone.generate([request])[0]) == seen(generation)


def test_more_requests_than_slots_wait_in_turn() -> None:
    engine = engine_of(slots=2)
    made = [engine.submit(Request(prompt=[1], tokens=n, sampling=GREEDY)) for n in (9, 3, 3, 3)]
    order = []
    while engine.busy:
        order += [made.index(moved) for moved, _ in engine.step() if moved.finish]
    assert order == [1, 2, 0, 3] or order == [1, 2, 3, 0]
    assert [len(g.answer) for g in made] == [9, 3, 3, 3]


def test_a_long_prompt_does_not_keep_writers_waiting() -> None:
    gpt = model("modern", context=40 * STRETCH)
    engine = engine_of(gpt, slots=3)
    writer = engine.submit(Request(prompt=[1], tokens=100))
    engine.step()
    reader = engine.submit(Request(prompt=[2, 3] * 10 * STRETCH, tokens=5))
    for n in range(20):
        assert not reader.answer
        assert len(writer.answer) == 1 + n
        engine.step()
    assert len(reader.answer) == 1


def test_a_prompt_that_a_slot_has_read_is_not_read_again() -> None:
    engine = engine_of(model("modern", context=64), slots=2)
    first = Request(prompt=[1, 2, 3, 4, 5] * 5, tokens=5)
    (one,) = engine.generate([first])
    longer = Request(prompt=[*first.prompt, *one.answer, 7], tokens=5)
    again = engine.submit(longer)
    engine.step()
    assert len(engine.slots.memory[again.slot]) == len(longer.prompt)
    assert again.answer
    (fresh,) = engine_of(model("modern", context=64)).generate([longer])
    while engine.busy:
        engine.step()
    assert again.answer == fresh.answer


@pytest.mark.parametrize("compiled", [True, False])
def test_a_shorter_window_gives_the_same_answers_as_long_as_they_fit(compiled: bool) -> None:
    gpt = model("modern", context=200)
    asked = [Request(prompt=[1, 2, 3], tokens=20, seed=1), Request(prompt=[4, 5], tokens=60, sampling=GREEDY)]
    engine, short = engine_of(gpt, compiled=compiled), engine_of(gpt, compiled=compiled, context=24)
    (whole, longer), (same, slid) = engine.generate(asked), short.generate(asked)
    assert same.answer == whole.answer
    assert len(slid.answer) == len(longer.answer) == 60


def rows_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the number of rows of each step."""
    step, rows = engine.decoder.step, list[int]()
    monkeypatch.setattr(engine.decoder, "step", lambda batch: rows.append(len(batch)) or step(batch))
    return rows


@pytest.mark.parametrize("length", [20, 3 * STRETCH + 7])
def test_a_prompt_that_others_have_too_is_read_once(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    gpt = model("modern", context=4 * STRETCH)
    rng = random.Random(length)
    prompt = [rng.randrange(len(ALPHABET)) for _ in range(length)]
    same = [Request(prompt=prompt, tokens=6, seed=seed) for seed in range(6)]
    longer = [Request(prompt=[*prompt, seed], tokens=6, seed=seed) for seed in range(2)]
    engine = engine_of(gpt, slots=8)
    rows = rows_read(engine, monkeypatch)
    made = engine.generate([*same, *longer])
    alone = [engine_of(gpt).generate([request])[0] for request in (*same, *longer)]
    assert [seen(one) for one in made] == [seen(one) for one in alone]
    written = 8 * (6 - 1)
    assert sum(rows) - written <= length + 5 + 2 * 2 + 1


def test_a_request_begins_with_what_another_that_still_writes_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(model("modern", context=64), slots=2)
    writer = engine.submit(Request(prompt=[1, 2, 3, 4, 5] * 4, tokens=30))
    for _ in range(3):
        engine.step()
    rows = rows_read(engine, monkeypatch)
    late = Request(prompt=[*writer.request.prompt, writer.answer[0], 7], tokens=5)
    made = engine.submit(late)
    engine.step()
    assert rows == [1 + 1]  # The writer's next token, and the one token that the other had not read.
    while engine.busy:
        engine.step()
    assert seen(made) == seen(engine_of(model("modern", context=64)).generate([late])[0])


def test_who_waits_for_a_request_that_leaves_reads_itself() -> None:
    gpt = model("modern", context=8 * STRETCH)
    request = Request(prompt=[1, 2, 3] * 2 * STRETCH, tokens=5)
    engine = engine_of(gpt, slots=2)
    first, second = engine.submit(request), engine.submit(request)
    engine.step()
    first.cancelled = True
    while engine.busy:
        engine.step()
    assert (first.finish, second.finish) == ("cancelled", "length")
    assert second.answer == engine_of(gpt).generate([request])[0].answer


def test_a_cancelled_request_frees_its_slot() -> None:
    engine = engine_of()
    running, waiting = engine.submit(Request(prompt=[1])), engine.submit(Request(prompt=[2]))
    engine.step()
    running.cancelled = waiting.cancelled = True
    ended = [moved for moved, token in engine.step() if token is None]
    assert ended == [running, waiting]
    assert running.finish == waiting.finish == "cancelled"
    assert not engine.busy


def test_what_was_waiting_and_cancelled_leaves_the_queue() -> None:
    engine = engine_of()
    made = [engine.submit(Request(prompt=[1], tokens=5)) for _ in range(4)]
    engine.step()
    made[2].cancelled = True
    assert [moved for moved, token in engine.step() if token is None] == [made[2]]
    assert list(engine.waiting) == [made[1], made[3]]


def test_an_id_that_is_no_token_is_refused() -> None:
    for wrong in (-1, len(ALPHABET)):
        with pytest.raises(InputError, match="must lie in 0 to 8"):
            engine_of().submit(Request(prompt=[1, wrong]))


def test_after_a_failed_step_others_are_answered_as_ever() -> None:
    engine = engine_of(slots=2)
    asked = Request(prompt=[1, 2, 3], tokens=9, sampling=GREEDY)
    (right,) = engine.generate([asked])
    lost = engine.submit(asked), engine.submit(asked)
    waiting = engine.submit(asked)
    step, engine.decoder.step = engine.decoder.step, lambda rows: 1 / 0  # type: ignore[method-assign, assignment]
    with pytest.raises(ZeroDivisionError):
        engine.step()
    assert {moved for moved, _ in engine.drop_running()} == set(lost)
    assert {generation.finish for generation in lost} == {"failed"}
    engine.decoder.step = step  # type: ignore[method-assign]
    while not waiting.finish:
        engine.step()
    assert waiting.answer == right.answer


def test_a_model_without_an_opinion_is_refused() -> None:
    gpt = model("modern")
    gpt.head.weight.data[:] = torch.nan
    for compiled in (True, False):
        with pytest.raises(InputError, match="its weights are broken"):
            engine_of(gpt, compiled=compiled).samples("abc", 5)


def test_who_leaves_a_run_leaves_the_engine() -> None:
    engine = engine_of()
    run = engine.run(Request(prompt=[1]))
    next(run)
    run.close()
    engine.step()
    assert not engine.busy


@pytest.mark.parametrize("temperature", [0, 1])
def test_looking_up_changes_nothing(temperature: float) -> None:
    engine = engine_of(model("modern", context=64))
    for seed in range(20):
        plain, quick = (
            engine.generate(
                [
                    Request(
                        prompt=[1, 2, 3, 1, 2, 3, 1],
                        tokens=70,
                        seed=seed,
                        sampling=Sampling(temperature=temperature, repetition_penalty=1.1 if seed % 2 else 1.0),
                        logprobs=2,
                        lookup=lookup,
                    )
                ]
            )[0]
            for lookup in (0, 5)
        )
        assert seen(plain) == seen(quick)


def test_looking_up_takes_fewer_steps_where_text_repeats() -> None:
    engine = engine_of(model("modern", context=64, layers=0))  # The next token follows from the last: a loop.
    steps = []
    for lookup in (0, 6):
        made, count = engine.submit(Request(prompt=[1, 2], tokens=60, sampling=GREEDY, lookup=lookup)), 0
        while not made.finish:
            engine.step()
            count += 1
        steps.append(count)
    assert steps[0] == 60
    assert steps[1] < 25


def test_chances_are_the_models() -> None:
    gpt, prompt = model("modern", context=200), some_requests(1, longest=1)[0].prompt
    prompt = [*prompt, *range(8)] * 10
    (made,) = engine_of(gpt).generate([Request(prompt=prompt, tokens=5, echo=True, logprobs=2)])
    with torch.inference_mode():
        logprob_TV = gpt(torch.tensor([prompt + made.answer]))[0].log_softmax(-1)
    told = [*made.prompt_chances, *(token.chance for token in made.tokens)]
    follow = [*prompt[1:], *made.answer]
    assert len(told) == len(follow)
    for at, (token, chance) in enumerate(zip(follow, told, strict=True)):
        assert chance.logprob == pytest.approx(logprob_TV[at, token].item(), abs=1e-4)
        values, tokens = logprob_TV[at].topk(2)
        assert [t for t, _ in chance.top] == tokens.tolist()
        assert [v for _, v in chance.top] == pytest.approx(values.tolist(), abs=1e-4)


def test_a_prompt_can_be_judged_alone() -> None:
    (made,) = engine_of().generate([Request(prompt=[1, 2, 3], tokens=0, echo=True)])
    assert (made.answer, made.finish, len(made.prompt_chances)) == ([], "length", 2)


def test_a_token_that_ends_answers_is_not_part_of_them() -> None:
    engine = engine_of()
    (through,) = engine.generate([Request(prompt=[1], tokens=30, seed=3)])
    end = through.answer[10]
    (made,) = engine.generate([Request(prompt=[1], tokens=30, seed=3, stop_ids=frozenset([end]))])
    assert made.answer == through.answer[: through.answer.index(end)]
    assert made.finish == "stop"
    assert made.text == "".join(sorted(ALPHABET)[i] for i in made.answer)
    assert made.end_token and made.end_token.id == end
    assert [token.id for token in made.drawn] == [*made.answer, end]
    assert through.end_token is None and through.drawn == through.tokens


def test_the_end_token_has_its_chance_and_a_stop_string_has_no_end_token() -> None:
    engine = engine_of()
    (through,) = engine.generate([Request(prompt=[1], tokens=30, seed=3, logprobs=0)])
    end = through.answer[10]
    at = through.answer.index(end)
    ended = Request(prompt=[1], tokens=30, seed=3, logprobs=0, stop_ids=frozenset([end]))
    stopped = Request(prompt=[1], tokens=30, seed=3, logprobs=0, stop=[sorted(ALPHABET)[end]])
    by_id, by_text = engine.generate([ended, stopped])
    assert [token.chance for token in by_id.drawn] == [token.chance for token in through.tokens[: at + 1]]
    assert (by_text.finish, by_text.end_token, by_text.answer) == ("stop", None, through.answer[: at + 1])
    assert by_text.text == by_id.text


def test_a_held_back_beginning_of_a_stop_string_comes_at_the_end() -> None:
    gpt = model("modern", layers=0)
    engine = Engine(gpt, Bytes())  # Only ids under 9 can come, none of which is text that stops anything.
    (made,) = engine.generate([Request(prompt=[1], tokens=6, stop=["\x00\x00\x00\x00\x00\x00\x00"])])
    assert len(made.text) == 6


@pytest.mark.parametrize("compiled", [True, False])
def test_a_sample_drawn_many_times_follows_the_model(compiled: bool) -> None:
    gpt = model("modern")
    engine = engine_of(gpt, slots=64, compiled=compiled)
    asked = [Request(prompt=[1, 2], tokens=2, sampling=Sampling(temperature=1), seed=n, lookup=1) for n in range(3000)]
    pairs = torch.tensor([made.answer for made in engine.generate(asked)])
    with torch.inference_mode():
        p_V = gpt(torch.tensor([[1, 2]]))[0, -1].softmax(-1)
        p_VV = p_V[:, None] * gpt(torch.tensor([[1, 2, i] for i in range(9)]))[:, -1].softmax(-1)
    share = torch.bincount(pairs[:, 0] * 9 + pairs[:, 1], minlength=81) / len(pairs)
    assert (share - p_VV.flatten()).abs().max() < 4 * (0.25 / 3000) ** 0.5
    assert (share - p_VV.flatten()).abs().sum() < 0.15
