"""What a trace shows is what the model computes: to the bit, or equal to a slow obvious version."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quoth.look.trace as look
from quoth.look.parts import Part, heads_of, part_from, silenced
from quoth.look.trace import losses_without, saliency, shrunk, trace
from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.model.meta import on_meta
from quoth.system.errors import InputError, Interrupted

KINDS = {
    "modern": {},
    "gpt2": {"bias": True},
    "lecture": {},
    "grouped": {"family": "modern", "heads": 4, "kv_heads": 2},
}


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> GPT:
    torch.manual_seed(1)
    shape = {"vocabulary": 11, "context": 16, "layers": 3, "width": 32, "heads": 2, "initialization": "torch"}
    shape |= KINDS[request.param]
    made = GPT(family(str(shape.pop("family", request.param)), **shape)).eval()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return made


@pytest.fixture(name="token_T")
def some_tokens() -> Tensor:
    return torch.randint(11, (16,), generator=torch.Generator().manual_seed(2))


def test_the_model_computes_to_the_bit_what_it_always_does(model: GPT, token_T: Tensor) -> None:
    found, logit_TV = trace(model, token_T), model(token_T[None])[0]
    assert torch.equal(found.logit_TV, logit_TV)
    torch.testing.assert_close(found.loss_LT[-1], F.cross_entropy(logit_TV[:-1], token_T[1:], reduction="none"))
    assert torch.equal(found.likely_LTN[-1], logit_TV.topk(10).indices)
    assert torch.equal(model(token_T[None])[0], logit_TV), "no hook is left behind"


def test_the_stream_and_attention_are_those_of_each_layer_in_turn(model: GPT, token_T: Tensor) -> None:
    found, place = trace(model, token_T), slice(0, 16)
    x_BTC, angles = model.positions.add(model.embed(token_T[None]), place), model.positions.angles(place)
    for layer, block in enumerate(model.blocks):
        torch.testing.assert_close(found.stream_LTC[layer], x_BTC[0])
        weight_HTS = block.attention.weights(block.attention_norm(x_BTC), angles)[0]
        torch.testing.assert_close(found.attention_LHTS[layer], weight_HTS)
        x_BTC = block(x_BTC, angles)
    torch.testing.assert_close(found.stream_LTC[-1], x_BTC[0])
    assert not found.attention_LHTS.triu(1).any()
    torch.testing.assert_close(found.attention_LHTS.sum(-1), torch.ones(3, model.config.heads, 16))


def test_the_lens_reads_each_layer_as_if_the_head_came_next(model: GPT, token_T: Tensor) -> None:
    found = trace(model, token_T, likeliest=4)
    for layer in range(3):
        cut = copy.deepcopy(model)
        cut.blocks = nn.ModuleList(model.blocks[:layer])
        p_TV = cut(token_T[None])[0].softmax(-1)
        torch.testing.assert_close(found.probability_LTN[layer], p_TV.topk(4).values)
        torch.testing.assert_close(p_TV.gather(1, found.likely_LTN[layer]), found.probability_LTN[layer])
        torch.testing.assert_close(found.loss_LT[layer], -p_TV[:-1].gather(1, token_T[1:, None])[:, 0].log())


def test_a_few_logits_at_a_time_say_the_same(model: GPT, token_T: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, each = trace(model, token_T), losses_without(model, token_T, heads_of(model.config))
    monkeypatch.setattr(look, "LOGITS", 30)
    parts, one_each = trace(model, token_T), losses_without(model, token_T, heads_of(model.config))
    for name, value in vars(whole).items():
        torch.testing.assert_close(vars(parts)[name], value)
    torch.testing.assert_close(one_each, each, atol=1e-5, rtol=1e-4)


def test_a_head_that_is_off_is_one_that_the_output_projection_does_not_read(model: GPT, token_T: Tensor) -> None:
    K = model.config.head_size
    for layer, head in ((0, 1), (2, 0)):
        blind = copy.deepcopy(model)
        with torch.no_grad():
            blind.blocks[layer].attention.out.weight[:, head * K : (head + 1) * K] = 0
        found = trace(model, token_T, off=[Part(layer, "attention", head)])
        torch.testing.assert_close(found.logit_TV, blind(token_T[None])[0])


def test_without_its_attention_or_mlp_a_layer_adds_nothing(model: GPT, token_T: Tensor) -> None:
    everything = [Part(layer, name) for layer in range(3) for name in ("attention", "mlp")]
    stream_LTC = trace(model, token_T, off=everything).stream_LTC
    assert torch.equal(stream_LTC[0], stream_LTC[-1]) and stream_LTC[0].any()
    stream_LTC = trace(model, token_T, off=[Part(1, "attention"), Part(1, "mlp")]).stream_LTC
    assert torch.equal(stream_LTC[1], stream_LTC[2]) and not torch.equal(stream_LTC[0], stream_LTC[1])


def test_parts_one_by_one_are_the_parts_each_alone(model: GPT, token_T: Tensor) -> None:
    parts = [*heads_of(model.config), Part(0, "attention"), Part(1, "mlp"), Part(2, "mlp")]
    found, whole_T = losses_without(model, token_T, parts), trace(model, token_T).loss_LT[-1]
    assert found is not None
    for more_T, part in zip(found, parts, strict=True):
        alone_T = trace(model, token_T, off=[part]).loss_LT[-1]
        torch.testing.assert_close(more_T, alone_T - whole_T, atol=1e-5, rtol=1e-4)
    with pytest.raises(Interrupted):
        losses_without(model, token_T, parts, lambda: False)


def test_saliency_is_the_change_of_the_loss_as_a_token_is_faded(model: GPT, token_T: Tensor) -> None:
    place, step = 9, 1e-5
    model = model.double()
    found_T = saliency(model, token_T, place)

    def loss(faded: int, share: float) -> float:
        def hook(module: nn.Module, args: object, x_BTC: Tensor) -> Tensor:
            keep_T = torch.ones(place + 1, dtype=torch.float64)
            keep_T[faded] -= share
            return x_BTC * keep_T[:, None]

        handle = model.embed.register_forward_hook(hook)
        logit_V = model(token_T[None, : place + 1])[0, -1]
        handle.remove()
        return F.cross_entropy(logit_V, token_T[place + 1]).item()

    for t in range(place + 1):
        slope = (loss(t, step) - loss(t, -step)) / (2 * step)
        assert found_T[t].item() == pytest.approx(abs(slope), abs=1e-6, rel=1e-4)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5.mlp", "There is no layer 5; the model has 3"),
        ("0.attention.2", "There is no head 2; a layer has 2"),
        ("1.mlp.0", r"An MLP has no heads; write 1\.mlp\."),
        ("head", "A part is written as"),
        ("0.norm", "A part is written as"),
        ("0.attention.", "A part is written as"),
    ],
)
def test_a_part_that_is_not_there_is_named(text: str, said: str) -> None:
    c = family("modern", vocabulary=11, context=16, layers=3, width=32, heads=2)
    with pytest.raises(InputError, match=said):
        part_from(text, c)
    assert all(part_from(str(one), c) == one for one in (*heads_of(c), Part(2, "mlp"), Part(0, "attention")))


def test_a_block_of_another_kind_is_refused_in_a_sentence() -> None:
    class Other(nn.Module):
        pass

    with on_meta():
        model = GPT(family("modern", vocabulary=11, width=32, heads=2), block=lambda c: Other())
    with pytest.raises(InputError, match=r"^Only blocks with an attention and an MLP can be looked into, not Other\.$"):
        trace(model, torch.arange(3))


def test_a_silenced_copy_computes_what_the_model_does_without_these_parts(model: GPT, token_T: Tensor) -> None:
    before = copy.deepcopy(model.state_dict())
    for off in ([Part(0, "mlp")], [Part(1, "attention")], [Part(2, "attention", 1), Part(0, "attention", 0)]):
        found = silenced(model, off)(token_T[None])[0]
        torch.testing.assert_close(found, trace(model, token_T, off=off).logit_TV)
        assert not torch.allclose(found, model(token_T[None])[0])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_attention_is_kept_in_cells_that_hold_its_largest_weight(model: GPT, token_T: Tensor) -> None:
    whole = trace(model, token_T[:15]).attention_LHTS
    few = trace(model, token_T[:15], keep=shrunk(4)).attention_LHTS
    assert few.shape == (*whole.shape[:2], 4, 4)
    for i in range(4):
        for j in range(4):
            cell = whole[:, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            assert torch.equal(few[:, :, i, j], cell.amax((-1, -2)))
    assert torch.equal(trace(model, token_T, keep=shrunk(16)).attention_LHTS, trace(model, token_T).attention_LHTS)


def test_a_trace_ends_at_once_when_it_is_told_to(model: GPT, token_T: Tensor) -> None:
    for calls in range(8):
        left = iter([True] * calls)
        with pytest.raises(Interrupted):
            trace(model, token_T, go_on=lambda left=left: next(left, False))
    assert torch.equal(trace(model, token_T).logit_TV, model(token_T[None])[0]), "no hook is left behind"


def test_parts_may_come_in_any_order_and_are_cancelled_between_layers(model: GPT, token_T: Tensor) -> None:
    parts = [Part(2, "mlp"), *reversed(heads_of(model.config)), Part(0, "attention"), Part(1, "mlp")]
    whole_T, found = trace(model, token_T).loss_LT[-1], losses_without(model, token_T, parts)
    for part, more_T in zip(parts, found, strict=True):
        torch.testing.assert_close(more_T, trace(model, token_T, off=[part]).loss_LT[-1] - whole_T)
    asked = iter([True, True])
    with pytest.raises(Interrupted):
        losses_without(model, token_T, parts, lambda: next(asked, False))
    assert torch.equal(trace(model, token_T).loss_LT[-1], whole_T), "no hook is left behind"
