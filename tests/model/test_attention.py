import math

import pytest
import torch

from quoth.model.attention import Attention, attend, prefer_fused
from quoth.model.config import family

pytestmark = pytest.mark.usefixtures("one_thread")


def loop(q, k, v, causal):
    """Attention for one query at a time."""
    B, H, T, K = q.shape
    S, group = k.shape[2], H // k.shape[1]
    rows = []
    for b in range(B):
        for h in range(H):
            for t in range(T):
                seen = S - T + t + 1 if causal else S
                score = torch.stack([q[b, h, t] @ k[b, h // group, s] / math.sqrt(K) for s in range(seen)])
                share = score.exp() / score.exp().sum()
                rows.append(sum(share[s] * v[b, h // group, s] for s in range(seen)))
    return torch.stack(rows).view(B, H, T, K)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("T", "S"), [(5, 5), (1, 1), (3, 7), (1, 6)])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_attend_is_a_loop_over_queries(fused, causal, T, S, kv_heads):
    q = torch.randn(2, 4, T, 6, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, kv_heads, S, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    got, wanted = attend(q, k, v, causal=causal, fused=fused), loop(q, k, v, causal)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    toward = torch.randn_like(got)
    for g, w in zip(
        torch.autograd.grad(got, (q, k, v), toward), torch.autograd.grad(wanted, (q, k, v), toward), strict=True
    ):
        torch.testing.assert_close(g, w, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_query_to_which_nothing_is_visible_listens_to_nobody(dtype):
    q, k, v = (torch.randn(2, 3, 4, 6, dtype=dtype, requires_grad=True) for _ in range(3))
    visible = torch.ones(2, 1, 4, 4, dtype=torch.bool).tril()
    visible[0, :, 2] = False
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    made = []
    for fused in (False, True):
        y = attend(q, k, v, visible=visible, fused=fused)
        assert not y[0, :, 2].any()
        made.append((y, *torch.autograd.grad(y.square().sum(), (q, k, v))))
    for plain, kernel in zip(*made, strict=True):
        assert plain.isfinite().all()
        torch.testing.assert_close(plain, kernel, rtol=tolerance, atol=tolerance)
    assert not made[0][1][0, :, 2].any()


def test_large_scores_do_not_overflow():
    q = torch.full((1, 1, 4, 8), 1e3)
    for fused in (False, True):
        assert attend(q, q, q, fused=fused).isfinite().all()


@pytest.mark.parametrize("fused", [False, True])
def test_dropout_takes_its_share_of_the_weights(fused):
    q, k, v = torch.zeros(8, 2, 64, 64), torch.zeros(8, 2, 64, 64), torch.eye(64).expand(8, 2, 64, 64)
    weight = attend(q, k, v, causal=False, dropout=0.25, fused=fused) * 64
    assert weight.unique().tolist() == pytest.approx([0, 4 / 3])
    assert weight.mean().item() == pytest.approx(1, abs=0.02)


def attention(fused=None, causal=True, name="lecture", **given):
    c = family(name, vocabulary=5, width=16, heads=4, positions="none", **given)
    module = Attention(c, causal=causal).double()
    for p in module.parameters():
        torch.nn.init.normal_(p)
    module.fused = fused
    return module


@pytest.mark.parametrize("fused", [False, True])
def test_weights_are_dropped_in_training_only(fused):
    x = torch.randn(2, 6, 16, dtype=torch.float64)
    module, plain = attention(fused, dropout=0.5), attention(fused, dropout=0.0)
    plain.load_state_dict(module.state_dict())
    assert not torch.allclose(module(x), plain(x))
    torch.testing.assert_close(module.eval()(x), plain.eval()(x), rtol=0, atol=0)


def test_a_shared_mask_drops_no_weights():
    x = torch.randn(2, 6, 16, dtype=torch.float64)
    module, plain = attention(False, dropout=0.5, dropout_shape="channel"), attention(False, dropout=0.0)
    plain.load_state_dict(module.state_dict())
    assert torch.equal(module(x), plain(x))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["lecture", "modern"])
def test_without_mask_and_positions_attention_is_of_a_set(fused, name):
    x, order = torch.randn(2, 9, 16, dtype=torch.float64), torch.randperm(9)
    module = attention(fused, causal=False, name=name, kv_heads=2).eval()
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order], rtol=0, atol=1e-11)
    module = attention(fused, causal=True, name=name, kv_heads=2).eval()
    assert not torch.allclose(module(x[:, order]), module(x)[:, order], atol=1e-3)


def test_the_fused_kernel_is_for_long_windows_and_for_reading():
    short, long = torch.empty(1, 511, 1), torch.empty(1, 512, 1)
    assert [prefer_fused(short, True), prefer_fused(short, False), prefer_fused(long, True)] == [False, True, True]
    assert prefer_fused(torch.empty(1, 8, 1, device="meta"), True)
