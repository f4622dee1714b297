"""The rungs are chained by equalities, in float64 to 1e-12: each holds an earlier one as a special case."""

import math

import pytest
import torch

from quoth.ladder import bigram, embedding, heads, norm, residual
from quoth.ladder.attention import Head
from quoth.ladder.averaging import mean_loop, mean_matmul, mean_softmax
from quoth.ladder.heads import Heads, from_attention
from quoth.ladder.residual import Times
from quoth.ladder.sets import moved
from quoth.ladder.think import Think
from quoth.model.attention import Attention, attend
from quoth.model.config import family
from quoth.model.gpt import GPT, Block
from quoth.model.layers import LayerNorm
from quoth.train.evaluate import evaluate

EXACT = {"rtol": 1e-12, "atol": 1e-12}
pytestmark = pytest.mark.usefixtures("one_thread")


def config(**given):
    return family("lecture", vocabulary=23, **{"width": 24, "heads": 4, "context": 8, "dropout": 0.0, **given})


def vectors(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_three_averages_are_one():
    x_BTC = vectors(3, 8, 5)
    torch.testing.assert_close(mean_matmul(x_BTC), mean_loop(x_BTC), **EXACT)
    torch.testing.assert_close(mean_softmax(x_BTC), mean_loop(x_BTC), **EXACT)


def test_attention_that_wants_nothing_is_the_mean():
    head, x_BTC = Head(config()).double(), vectors(2, 8, 24)
    torch.nn.init.zeros_(head.query.weight)
    torch.testing.assert_close(head(x_BTC), mean_softmax(head.value(x_BTC)), **EXACT)
    v_BHTK = head.value(x_BTC)[:, None]
    zero = torch.zeros_like(v_BHTK)
    torch.testing.assert_close(attend(zero, zero, v_BHTK)[:, 0], mean_loop(v_BHTK[:, 0]), **EXACT)


def test_one_head_is_attend():
    head, x_BTC = Head(config()).double(), vectors(2, 8, 24)
    q, k, v = (linear(x_BTC)[:, None] for linear in (head.query, head.key, head.value))
    torch.testing.assert_close(head(x_BTC), attend(q, k, v)[:, 0], **EXACT)


def test_a_list_of_heads_is_the_fused_attention():
    c = config()
    attention, x_BTC = Attention(c).double(), vectors(2, 8, 24)
    attention.out = torch.nn.Identity()
    torch.testing.assert_close(from_attention(attention, c)(x_BTC), attention(x_BTC), **EXACT)


def test_one_of_several_heads_is_one_head():
    c = config(heads=1)
    heads, x_BTC = Heads(c).double(), vectors(2, 8, 24)
    torch.testing.assert_close(heads(x_BTC), heads.heads[0](x_BTC), **EXACT)


def test_blocks_that_add_nothing_are_no_blocks():
    deep, flat = residual.RUNG.model(23, seed=0).double(), embedding.RUNG.model(23, seed=0).double()
    for block in deep.blocks:
        for linear in (block.attention.out, block.mlp.down):
            torch.nn.init.zeros_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
    flat.embed, flat.head, flat.positions = deep.embed, deep.head, deep.positions
    token_BT = torch.randint(23, (4, 8))
    torch.testing.assert_close(deep(token_BT), flat(token_BT), **EXACT)


def test_thinking_is_a_linear_layer_and_relu_of_what_the_heads_say():
    block, x_BTC = Think(config()).double(), vectors(2, 8, 24)
    said = torch.cat([head(x_BTC) for head in block.heads.heads], dim=-1)
    linear = block.mlp[0]
    torch.testing.assert_close(block(x_BTC), (said @ linear.weight.T + linear.bias).relu(), **EXACT)


def test_a_model_without_layers_is_a_bigram():
    model = embedding.RUNG.model(23, seed=1).double()
    torch.nn.init.normal_(model.head.bias)
    table = bigram.RUNG.model(23, seed=1).double()
    table.embed.weight.data = embedding.as_table(model).detach()
    token_BT = torch.randint(23, (4, 8))
    torch.testing.assert_close(model(token_BT), table(token_BT), **EXACT)


def test_the_best_bigram_is_the_counted_one(verse):
    ids = torch.from_numpy(verse.train.astype("int64"))
    V = verse.tokenizer.vocabulary
    count_VV = bigram.counts(ids, V)
    assert count_VV.sum() == len(ids) - 1
    slow = sum(
        -math.log(int(count_VV[a, b]) / int(count_VV[a].sum()))
        for a, b in zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True)
    ) / (len(ids) - 1)
    assert bigram.counted_loss(count_VV) == pytest.approx(slow, rel=1e-12)
    model = bigram.RUNG.model(V, seed=0).double()
    model.embed.weight.data = count_VV.double().clamp(min=1e-300).log()
    assert evaluate(model, verse.train, verse.tokenizer, context=8).loss == pytest.approx(slow, rel=1e-12)


def test_the_filmed_scale_is_a_head_with_that_scale():
    c = config()
    filmed, plain = residual.block(c, scale=c.width**-0.5).double(), Block(c).double()
    plain.load_state_dict(filmed.state_dict())
    assert isinstance(filmed.attention.query_norm, Times)
    x_BTC = vectors(2, 8, 24)
    for block, scale in ((filmed, c.width**-0.5), (plain, c.head_size**-0.5)):
        by_hand = Heads(c, scale).double()
        by_hand.load_state_dict(from_attention(block.attention, c).state_dict())
        block.attention.out = torch.nn.Identity()
        torch.testing.assert_close(block.attention(x_BTC), by_hand(x_BTC), **EXACT)


def test_the_rung_residual_is_the_shipped_block_and_adds_to_what_passes():
    model = residual.RUNG.model(23, seed=0).double()
    assert all(type(block) is Block for block in model.blocks)
    x_BTC, block = vectors(2, 8, 32), model.blocks[0]
    halfway = x_BTC + block.attention(x_BTC)
    torch.testing.assert_close(block(x_BTC), halfway + block.mlp(halfway), **EXACT)


def test_norms_written_out_equal_torchs():
    x_BTC = 3 * vectors(4, 8, 16) + 1
    torch.testing.assert_close(norm.layer_norm(x_BTC), LayerNorm(16, 1e-5).double()(x_BTC), **EXACT)
    theirs = torch.nn.BatchNorm1d(16).double()(x_BTC.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(norm.batch_norm(x_BTC), theirs, **EXACT)


def test_attention_without_mask_and_positions_acts_on_a_set():
    c = config()
    x_BTC, order_T = vectors(2, 8, 24), torch.tensor([3, 1, 4, 0, 5, 7, 2, 6])
    everyone, causal = Attention(c, causal=False).double(), Attention(c).double()
    assert moved(everyone, x_BTC, order_T) < 1e-12
    assert moved(causal, x_BTC, order_T) > 1e-3
    assert moved(everyone, x_BTC, order_T, vectors(8, 24)) > 1e-3


def first_loss(model):
    token_BT = torch.randint(65, (64, 9))
    return torch.nn.functional.cross_entropy(model(token_BT[:, :-1]).flatten(0, 1), token_BT[:, 1:].flatten()).item()


def test_small_weights_begin_by_knowing_nothing():
    assert first_loss(norm.RUNG.model(65, seed=0)) == pytest.approx(math.log(65), rel=0.02)
    assert first_loss(norm.RUNG.model(65, seed=0, faithful=True)) > 1.02 * math.log(65)


def test_a_bigram_of_random_numbers_begins_with_opinions():
    # Of logits from N(0, 1): ln 65 and about half their variance.
    assert first_loss(bigram.RUNG.model(65, seed=0)) == pytest.approx(math.log(65) + 0.5, abs=0.15)


def test_every_rung_is_causal():
    for rung in (heads.RUNG, residual.RUNG, norm.RUNG):
        model: GPT = rung.model(23, seed=0).double()
        token_BT = torch.randint(23, (2, 8))
        changed = token_BT.clone()
        changed[:, 5] = (changed[:, 5] + 1) % 23
        assert torch.equal(model(token_BT)[:, :5], model(changed)[:, :5])
        assert not torch.equal(model(token_BT)[:, 5:], model(changed)[:, 5:])
