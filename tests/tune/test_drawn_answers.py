"""What the engine draws, against the model itself."""

import itertools
import shutil

import pytest
import torch
from train.answers import answered, small

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.text.tokenizer import Characters
from quoth.train.objectives import token_loss
from quoth.train.preferences import answer_log_probs

LETTERS = Characters("abcde")
END, LONGEST, DRAWS = 4, 3, 20_000
# The 0.99999 quantile of χ² with 84 degrees of freedom.
GREATEST = 150.0


@pytest.fixture(params=["torch", pytest.param("compiled", marks=pytest.mark.slow)])
def engine(request):
    if request.param == "compiled" and not shutil.which("g++"):
        pytest.skip("the compiled decoder needs a C++ compiler")
    model = small(vocabulary=5, context=8).float().eval()
    return Engine(model, LETTERS, slots=500, threads=1, compiled=request.param == "compiled"), model


def requests(number, logprobs=None):
    stop = frozenset([END])
    asked = {"prompt": [0, 1], "tokens": LONGEST, "sampling": Sampling(temperature=1.0), "stop_ids": stop}
    return [Request(**asked, choice=n, logprobs=logprobs) for n in range(number)]


def test_the_engines_log_probs_are_those_of_training(engine):
    engine, model = engine
    made = engine.generate(requests(40, logprobs=0))
    batch = answered([([0, 1], [token.id for token in one.drawn]) for one in made])
    with torch.no_grad():
        forced = -token_loss(model, batch)[batch.weight_BT > 0]
    told = torch.tensor([token.chance.logprob for one in made for token in one.drawn])
    torch.testing.assert_close(told, forced, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_answers_are_drawn_as_often_as_they_are_likely(engine):
    engine, model = engine
    tries = (a for n in range(1, LONGEST + 1) for a in itertools.product(range(5), repeat=n))
    answers = [a for a in tries if END not in a[:-1] and (len(a) == LONGEST or a[-1] == END)]
    with torch.no_grad():
        expected = DRAWS * answer_log_probs(model, answered([([0, 1], list(a)) for a in answers])).exp()
    drawn = dict.fromkeys(answers, 0)
    for one in engine.generate(requests(DRAWS)):
        drawn[tuple(token.id for token in one.drawn)] += 1
    found = torch.tensor(list(drawn.values()))
    assert ((found - expected) ** 2 / expected).sum().item() < GREATEST
