import math

import numpy as np
import pytest
import torch

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.text.tokenizer import Bytes, train_bpe
from quoth.train.evaluate import Evaluation, byte_count, evaluate

pytestmark = pytest.mark.usefixtures("one_thread")


def make(context=8, vocabulary=256, dropout=0.5):
    model = GPT(
        family(
            "lecture",
            vocabulary=vocabulary,
            context=context,
            layers=1,
            width=16,
            heads=2,
            dropout=dropout,
            initialization="torch",
        )
    )
    return model.double()


@torch.no_grad()
def slow(model, tokens, context):
    """One token at a time, from what stands before it in its own window."""
    total = 0.0
    for place in range(1, len(tokens)):
        start = (place - 1) // context * context
        before = torch.tensor(tokens[start:place].astype(np.int64))[None]
        total -= model.eval()(before)[0, -1].log_softmax(-1)[tokens[place]].item()
    return total / (len(tokens) - 1)


@pytest.mark.parametrize("length", [2, 8, 9, 10, 17, 40, 41, 100])
@pytest.mark.parametrize("batch", [1, 3, 32])
def test_evaluation_is_a_loop_over_tokens(length, batch):
    model, tokens = make(), np.random.default_rng(0).integers(256, size=length).astype(np.uint8)
    got = evaluate(model, tokens, Bytes(), context=8, batch=batch)
    assert got.loss == pytest.approx(slow(model, tokens, 8), rel=1e-12)
    assert got.tokens == got.bytes == length - 1


def test_a_context_shorter_than_the_models_is_kept_to():
    model, tokens = make(context=16), np.random.default_rng(0).integers(256, size=50).astype(np.uint16)
    assert evaluate(model, tokens, Bytes(), context=5).loss == pytest.approx(slow(model, tokens, 5), rel=1e-12)


def test_bits_are_counted_per_byte():
    text = "héllo wörld, " * 20
    bpe = train_bpe(280, iter([text]))
    tokens = bpe.encode(text)
    got = evaluate(make(vocabulary=bpe.vocabulary), tokens, bpe, context=8)
    assert got.tokens == len(tokens) - 1
    assert got.bytes == len(text.encode()) - len(bpe.pieces[tokens[0]]) > got.tokens
    assert got.bits_per_byte == pytest.approx(got.loss * got.tokens / math.log(2) / got.bytes)
    assert byte_count(tokens, bpe) == len(text.encode())


def test_a_model_that_knows_nothing_needs_eight_bits_a_byte():
    model = make()
    for p in model.parameters():
        torch.nn.init.zeros_(p)
    got = evaluate(model, np.arange(100, dtype=np.uint8), Bytes(), context=8)
    assert got.bits_per_byte == pytest.approx(8)
    assert got.perplexity == pytest.approx(256)
    assert Evaluation(loss=1e6, tokens=1, bytes=1).perplexity == pytest.approx(math.exp(700))


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model, tokens = make().train(training), np.arange(20, dtype=np.uint8)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    first, second = (evaluate(model, tokens, Bytes(), context=8).loss for _ in range(2))
    assert first == second
    assert model.training == training
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    model.forward = None
    with pytest.raises(TypeError):
        evaluate(model, tokens, Bytes(), context=8)
    assert model.training == training


def test_a_part_that_is_frozen_in_evaluation_mode_stays_so():
    model = make().train()
    model.blocks[0].attention.eval()
    modes = [module.training for module in model.modules()]
    evaluate(model, np.arange(20, dtype=np.uint8), Bytes(), context=8)
    assert [module.training for module in model.modules()] == modes


def test_one_token_has_no_loss():
    with pytest.raises(InputError, match="needs at least 2 tokens, but there are 1"):
        evaluate(make(), np.zeros(1, dtype=np.uint8), Bytes(), context=8)
