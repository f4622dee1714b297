import pytest
import torch

from quoth.generate.cache import Cache
from quoth.model.attention import Attention, attend
from quoth.model.config import family
from quoth.model.seq2seq import Seq2Seq, encoder
from quoth.train.optimizers import Muon, make_optimizer

pytestmark = pytest.mark.usefixtures("one_thread")


def config(**given):
    return family("modern", vocabulary=23, **{"width": 32, "layers": 2, "heads": 4, "context": 10, **given})


def shaken(model):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model.double().eval()


def test_an_encoder_hears_what_comes_later():
    model = shaken(encoder(config()))
    token_BT = torch.randint(23, (2, 10))
    changed = token_BT.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 23
    assert (model(token_BT) - model(changed)).abs().amax((0, 2)).gt(1e-9).all()


def test_cross_attention_is_attend_with_another_source():
    attention = Attention(config(qk_norm=False)).double()
    x_BTC, y_BSC = torch.randn(2, 5, 32).double(), torch.randn(2, 7, 32).double()

    def heads(y):
        return y.reshape(*y.shape[:-1], -1, attention.head_size).transpose(1, 2)

    q, k, v = heads(attention.query(x_BTC)), heads(attention.key(y_BSC)), heads(attention.value(y_BSC))
    by_hand = attention.out(attend(q, k, v, causal=False).transpose(1, 2).flatten(-2))
    torch.testing.assert_close(attention(x_BTC, source_BSC=y_BSC), by_hand, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(attention(x_BTC, source_BSC=x_BTC)[:, -1], attention(x_BTC)[:, -1])


@pytest.mark.parametrize("init", ["zero", "normal"])
def test_all_that_writes_into_the_stream_begins_small(init):
    model = Seq2Seq(config(initialization=init), source=6)
    block = model.decoder.blocks[0]
    spread = {"zero": 0.0, "normal": 0.02 / 2**0.5 / 2**0.5}[init]
    for linear in (block.attention.out, block.cross.out, block.mlp.down):
        assert linear.weight.std().item() == pytest.approx(spread, rel=0.15)


def test_muon_moves_the_matrices_of_both_halves():
    model = Seq2Seq(config(), source=6)
    (muon,) = (part for part in make_optimizer(model).parts if isinstance(part, Muon))
    moved = {id(p) for group in muon.param_groups for p in group["params"]}
    blocks = [*model.encoder.blocks.parameters(), *model.decoder.blocks.parameters()]
    assert moved == {id(p) for p in blocks if p.dim() == 2}


def test_a_cross_block_refuses_to_be_without_a_source():
    with pytest.raises(ValueError, match="needs a source"):
        Seq2Seq(config(), source=6).decoder(torch.zeros(1, 3, dtype=torch.long))


def test_what_is_written_is_causal_and_hears_all_of_the_source():
    model = shaken(Seq2Seq(config(), source=6))
    token_BT = torch.randint(23, (2, 6 + 8))
    later, source = token_BT.clone(), token_BT.clone()
    later[:, 6 + 5] = (later[:, 6 + 5] + 1) % 23
    source[:, 3] = (source[:, 3] + 1) % 23
    with torch.no_grad():
        logits, moved_later, moved_source = model(token_BT), model(later), model(source)
    assert logits.shape == (2, 8, 23)
    assert torch.equal(logits[:, :5], moved_later[:, :5])
    assert (logits - moved_source).abs().amax((0, 2)).gt(1e-9).all()


@pytest.mark.parametrize("split", [1, 4])
def test_a_decoder_bound_to_its_source_writes_the_same_with_a_cache(split):
    model = shaken(Seq2Seq(config(), source=6))
    token_BT = torch.randint(23, (2, 6 + 8))
    with torch.no_grad():
        bound, target = model.given(token_BT[:, :6]), token_BT[:, 6:]
        cache, places, parts = Cache(2, bound.config, torch.float64, torch.device("cpu")), torch.arange(8), []
        for part in (slice(0, split), slice(split, 8)):
            place_BT = places[part].expand(2, -1)
            cache.at(slice(0, 2), place_BT)
            parts.append(bound(target[:, part], cache.layers, place_BT))
        torch.testing.assert_close(torch.cat(parts, dim=1), model(token_BT), rtol=1e-12, atol=1e-12)
