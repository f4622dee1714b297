"""New weights for an engine that is there: the answers of one made anew, and nothing of what was read before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from generate.models import ALPHABET, FAMILIES, model
from generate.test_engine import GREEDY, engine_of, seen, some_requests

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.model.gpt import GPT
from quoth.system.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

ENGINES: list[dict[str, Any]] = [
    {"compiled": True},
    {"compiled": True, "weights": "bfloat16"},
    {"compiled": True, "weights": "int8"},
    {"compiled": True, "threads": 2},
    {"compiled": False},
    {"cached": False},
]


def other(name: str, **given: object) -> GPT:
    made = model(name, **given)
    torch.manual_seed(9)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return made


@pytest.mark.parametrize("given", ENGINES, ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_answers_after_a_reload_are_those_of_a_fresh_engine(name: str, given: dict[str, Any]) -> None:
    engine, asked = engine_of(model(name), slots=3, **given), some_requests(6)
    before = [seen(made) for made in engine.generate(asked)]
    engine.reload(other(name))
    after = [seen(made) for made in engine.generate(asked)]
    assert after == [seen(made) for made in engine_of(other(name), slots=3, **given).generate(asked)] != before
    engine.reload(model(name))
    assert [seen(made) for made in engine.generate(asked)] == before
    assert len(engine.slots.running) == 3


def test_a_training_step_and_a_reload_change_the_answers() -> None:
    for given in ({"compiled": True}, {"compiled": False}):
        gpt = model("modern")
        engine = engine_of(gpt, **given)
        gpt.train()
        with torch.no_grad():
            for p in gpt.parameters():
                p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
        engine.reload(gpt)
        asked = some_requests(4)
        assert [seen(x) for x in engine.generate(asked)] == [seen(x) for x in engine_of(gpt, **given).generate(asked)]


@pytest.mark.parametrize("given", ENGINES, ids=str)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 40}, "width is 40, not 32"),
        ({"context": 32}, "context"),
        ({"mlp": "gelu", "hidden": 96}, "mlp is gelu"),
    ],
)
def test_another_shape_is_refused_and_nothing_changes(
    given: dict[str, Any], changes: dict[str, object], said: str
) -> None:
    engine, asked = engine_of(**given), some_requests(2)
    before = [seen(made) for made in engine.generate(asked)]
    with pytest.raises(InputError, match=f"same shape was wanted: {said}"):
        engine.reload(model("modern", **changes))
    assert [seen(made) for made in engine.generate(asked)] == before


@pytest.mark.parametrize("compiled", [True, False])
def test_another_number_type_is_refused(compiled: bool) -> None:
    engine = engine_of(compiled=compiled)
    with pytest.raises(InputError, match=r"float32"):
        engine.reload(model("modern").double())


def test_requests_under_way_keep_their_weights() -> None:
    engine = engine_of(slots=1)
    running = engine.submit(Request(prompt=[1], tokens=5, sampling=GREEDY))
    waiting = engine.submit(Request(prompt=[1], tokens=5, sampling=GREEDY))
    engine.step()
    with pytest.raises(InputError, match="requests are under way; there are 1"):
        engine.reload(other("modern"))
    engine.drop_running()
    engine.reload(other("modern"))
    while not waiting.finish:
        engine.step()
    (fresh,) = engine_of(other("modern")).generate([waiting.request])
    assert (running.finish, waiting.answer) == ("failed", fresh.answer)


def test_one_that_was_left_does_not_keep_the_weights() -> None:
    engine = engine_of()
    run = engine.run(Request(prompt=[1]))
    next(run)
    run.close()
    engine.reload(other("modern"))
    assert engine.samples("abc", 9) == engine_of(other("modern")).samples("abc", 9)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_chances_equal_those_of_a_forward_pass_over_the_answer(name: str, compiled: bool) -> None:
    """What a policy gradient compares: to 1e-5, for a model whose weights are of the size that training gives."""
    gpt = model(name, context=96, width=64)
    for p in gpt.parameters():
        p.data *= 0.3
    engine: Engine = engine_of(model(name, context=96, width=64), slots=4, compiled=compiled)
    engine.reload(gpt)
    sampling = Sampling(temperature=0.7, top_k=6)
    asked = [Request(prompt=[1, 2, n], tokens=80, sampling=sampling, seed=n, logprobs=0) for n in range(6)]
    for made in engine.generate(asked):
        ids = torch.tensor([[*made.request.prompt, *made.answer]])
        with torch.inference_mode():
            logprob_TV = gpt(ids)[0, 2:-1].log_softmax(-1)
        expected = logprob_TV.gather(1, ids[0, 3:, None])[:, 0]
        told = torch.tensor([token.chance.logprob for token in made.tokens if token.chance])
        torch.testing.assert_close(told, expected, atol=1e-5, rtol=0)
    assert len(ALPHABET) == engine.tokenizer.vocabulary
