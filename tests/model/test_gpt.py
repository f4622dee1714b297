import math

import pytest
import torch
import torch.nn.functional as F

from quoth.model.attention import Attention
from quoth.model.config import FAMILIES, family
from quoth.model.gpt import GPT
from quoth.system.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

families = pytest.mark.parametrize("name", FAMILIES)
both_kernels = pytest.mark.parametrize("fused", [False, True])


def make(name, fused=None, dtype=torch.float64, **given):
    """A small model with every weight random, those that start at zero or one too."""
    shape = dict(vocabulary=23, context=12, layers=2, width=24, heads=4, dropout=0.0)
    model = GPT(family(name, **{**shape, **given})).to(dtype)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    for module in model.modules():
        if isinstance(module, Attention):
            module.fused = fused
    return model


def some_tokens(batch=3, length=12, vocabulary=23):
    return torch.randint(vocabulary, (batch, length))


def compare_with_hugging_face(model, theirs, translate, tolerance):
    """Give theirs our weights; logits, and gradients along a random direction, must agree."""
    left = theirs.load_state_dict(translate(dict(model.named_parameters())), strict=False)
    assert not left.unexpected_keys
    assert not [key for key in left.missing_keys if key != "lm_head.weight"]
    theirs.tie_weights()
    tokens = some_tokens()
    got, wanted = model(tokens), theirs(tokens).logits
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)
    direction = torch.randn_like(got)
    (got * direction).sum().backward()
    (wanted * direction).sum().backward()
    gradients = translate({name: p.grad for name, p in model.named_parameters()})
    names = [name for name, _ in theirs.named_parameters()]
    assert set(names) == set(gradients)
    for name, p in theirs.named_parameters():
        scale = p.grad.abs().max().item()
        torch.testing.assert_close(gradients[name], p.grad, rtol=tolerance, atol=tolerance * max(1, scale), msg=name)


def as_gpt2(ours):
    """Our tensors by Hugging Face's names: its Conv1D is transposed, and q, k and v are one matrix."""
    theirs = {
        "transformer.wte.weight": ours["embed.weight"],
        "transformer.wpe.weight": ours["positions.table.weight"],
        "transformer.ln_f.weight": ours["norm.weight"],
        "transformer.ln_f.bias": ours["norm.bias"],
    }
    for i in range(2):
        a, b = f"blocks.{i}.", f"transformer.h.{i}."
        for kind in ("weight", "bias"):
            qkv = torch.cat([ours[f"{a}attention.{part}.{kind}"] for part in ("query", "key", "value")])
            moved = {
                "attn.c_attn": qkv,
                "attn.c_proj": ours[f"{a}attention.out.{kind}"],
                "mlp.c_fc": ours[f"{a}mlp.up.{kind}"],
                "mlp.c_proj": ours[f"{a}mlp.down.{kind}"],
            }
            theirs |= {f"{b}{name}.{kind}": tensor.T if kind == "weight" else tensor for name, tensor in moved.items()}
            theirs[f"{b}ln_1.{kind}"] = ours[f"{a}attention_norm.{kind}"]
            theirs[f"{b}ln_2.{kind}"] = ours[f"{a}mlp_norm.{kind}"]
    return theirs


@both_kernels
def test_gpt2_is_that_of_hugging_face(fused):
    from transformers import GPT2Config, GPT2LMHeadModel

    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=23, n_positions=12, n_embd=24, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
        )
    ).double()
    compare_with_hugging_face(make("gpt2", fused), theirs, as_gpt2, 1e-10)


def as_qwen3(ours):
    names = {
        "embed.": "model.embed_tokens.",
        "blocks.": "model.layers.",
        "attention.query.": "self_attn.q_proj.",
        "attention.key.": "self_attn.k_proj.",
        "attention.value.": "self_attn.v_proj.",
        "attention.out.": "self_attn.o_proj.",
        "attention.query_norm.": "self_attn.q_norm.",
        "attention.key_norm.": "self_attn.k_norm.",
        "attention_norm.": "input_layernorm.",
        "mlp_norm.": "post_attention_layernorm.",
        "mlp.gate.": "mlp.gate_proj.",
        "mlp.up.": "mlp.up_proj.",
        "mlp.down.": "mlp.down_proj.",
        "head.": "lm_head.",
    }
    theirs = {}
    for name, tensor in ours.items():
        for our, their in names.items():
            name = name.replace(our, their)
        theirs["model.norm.weight" if name == "norm.weight" else name] = tensor
    return theirs


MODERN_SHAPES = [{}, {"kv_heads": 2}, {"kv_heads": 1, "head_size": 10, "hidden": 20, "rope_theta": 300.0}]


@both_kernels
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shape", MODERN_SHAPES)
def test_modern_is_qwen3(fused, tied, shape):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    model = make("modern", fused, torch.float32, tied=tied, **shape)
    c = model.config
    theirs = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=c.vocabulary,
            hidden_size=c.width,
            intermediate_size=c.hidden,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            num_key_value_heads=c.kv_heads,
            head_dim=c.head_size,
            max_position_embeddings=c.context,
            rms_norm_eps=c.norm_eps,
            tie_word_embeddings=c.tied,
            attention_bias=False,
            rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
        )
    )
    compare_with_hugging_face(model, theirs, as_qwen3, 2e-5)


def slow_modern(weights, c, tokens):
    """The modern family for one sequence, spelled out a position and a head at a time."""

    def norm(x, weight):
        return x / torch.sqrt((x * x).mean() + c.norm_eps) * weight

    def turn(x, t):
        half = c.head_size // 2
        out = [torch.zeros(())] * c.head_size
        for k in range(half):
            angle = torch.tensor(t * c.rope_theta ** (-2 * k / c.head_size), dtype=torch.float64)
            out[k] = x[k] * angle.cos() - x[k + half] * angle.sin()
            out[k + half] = x[k + half] * angle.cos() + x[k] * angle.sin()
        return torch.stack(out)

    def head(kind, x, h):
        return (w[f"attention.{kind}.weight"] @ x)[h * c.head_size : (h + 1) * c.head_size]

    stream = [weights["embed.weight"][token] for token in tokens]
    for i in range(c.layers):
        w = {name.removeprefix(f"blocks.{i}."): p for name, p in weights.items() if name.startswith(f"blocks.{i}.")}
        normed = [norm(x, w["attention_norm.weight"]) for x in stream]
        for t in range(len(stream)):
            mixed = []
            for h in range(c.heads):
                g = h // (c.heads // c.kv_heads)
                q = turn(norm(head("query", normed[t], h), w["attention.query_norm.weight"]), t)
                scores = []
                for s in range(t + 1):
                    k = turn(norm(head("key", normed[s], g), w["attention.key_norm.weight"]), s)
                    scores.append(q @ k / math.sqrt(c.head_size))
                share = torch.stack(scores).exp()
                mixed.append(sum(share[s] / share.sum() * head("value", normed[s], g) for s in range(t + 1)))
            stream[t] = stream[t] + w["attention.out.weight"] @ torch.cat(mixed)
        for t, x in enumerate(stream):
            y = norm(x, w["mlp_norm.weight"])
            gate = w["mlp.gate.weight"] @ y
            stream[t] = x + w["mlp.down.weight"] @ (gate * torch.sigmoid(gate) * (w["mlp.up.weight"] @ y))
    return torch.stack([weights["head.weight"] @ norm(x, weights["norm.weight"]) for x in stream])


@both_kernels
@pytest.mark.parametrize("shape", MODERN_SHAPES)
def test_modern_is_its_formulas(fused, shape):
    model = make("modern", fused, **shape)
    c, K = model.config, model.config.head_size
    # The table is of float32 angles; with exact ones the rest can be compared exactly.
    angle = torch.arange(c.context, dtype=torch.float64)[:, None] * c.rope_theta ** (
        -torch.arange(0, K, 2).double() / K
    )
    torch.testing.assert_close(model.positions.cos_TK.double(), angle.cos(), rtol=0, atol=1e-5)
    torch.testing.assert_close(model.positions.sin_TK.double(), angle.sin(), rtol=0, atol=1e-5)
    model.positions.cos_TK, model.positions.sin_TK = angle.cos(), angle.sin()
    tokens = some_tokens(1, 5)
    got, wanted = model(tokens)[0], slow_modern(dict(model.named_parameters()), c, tokens[0])
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)
    direction, weights = torch.randn_like(got), list(model.parameters())
    for (name, _), g, w in zip(
        model.named_parameters(),
        torch.autograd.grad(got, weights, direction),
        torch.autograd.grad(wanted, weights, direction),
        strict=True,
    ):
        torch.testing.assert_close(g, w, rtol=1e-10, atol=1e-10, msg=name)


@both_kernels
@families
def test_a_later_token_changes_nothing_before_it(name, fused):
    model, tokens = make(name, fused), some_tokens()
    before = model(tokens)
    for t in range(12):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % 23
        after = model(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t:] != before[:, t:]).any(-1).all()


def embeddings_and_logits(model, tokens):
    seen = []
    hook = model.embed.register_forward_hook(lambda module, args, out: seen.append(out))
    logits = model(tokens)
    hook.remove()
    return seen[0], logits


@both_kernels
@families
def test_no_gradient_flows_from_later_tokens_or_other_rows(name, fused):
    model = make(name, fused)
    embedded, logits = embeddings_and_logits(model, some_tokens())
    for t in (0, 4, 11):
        (gradient,) = torch.autograd.grad(logits[1, t].sum(), embedded, retain_graph=True)
        reached = gradient.ne(0).any(-1)
        assert reached[1].tolist() == [True] * (t + 1) + [False] * (11 - t)
        assert not reached[[0, 2]].any()


@both_kernels
@families
def test_rows_do_not_mix(name, fused):
    model, tokens = make(name, fused), some_tokens()
    before = model(tokens)
    for row in range(3):
        changed = some_tokens()
        changed[row] = tokens[row]
        after = model(changed)
        assert torch.equal(after[row], before[row])
        assert not torch.equal(after[row - 1], before[row - 1])


@both_kernels
@pytest.mark.parametrize(("positions", "causal", "a_set"), [
    ("none", False, True), ("none", True, False), ("rope", False, False), ("learned", False, False),
])  # fmt: skip
def test_without_mask_and_positions_a_model_is_of_a_set(fused, positions, causal, a_set):
    model, tokens, order = make("modern", fused, positions=positions, head_size=6), some_tokens(), torch.randperm(12)
    for block in model.blocks:
        block.attention.causal = causal
    assert torch.allclose(model(tokens[:, order]), model(tokens)[:, order], rtol=0, atol=1e-10) == a_set


class Concatenate:
    """The simplest cache."""

    held = None

    def extend(self, k, v):
        self.held = (k, v) if self.held is None else tuple(torch.cat(p, 2) for p in zip(self.held, (k, v), strict=True))
        return *self.held, None


@both_kernels
@families
@pytest.mark.parametrize("cuts", [[1] * 12, [5, 7], [3, 1, 8]])
def test_a_window_read_in_parts_gives_the_same_logits(name, fused, cuts):
    model, tokens, start = make(name, fused, kv_heads=2), some_tokens(), 0
    caches = [Concatenate() for _ in model.blocks]
    parts = []
    for size in cuts:
        parts.append(model(tokens[:, start : start + size], caches, slice(start, start + size)))
        start += size
    torch.testing.assert_close(torch.cat(parts, 1), model(tokens), rtol=0, atol=1e-11)


SHAPES = [
    dict(vocabulary=65, width=64, heads=4, layers=2, context=16),
    dict(vocabulary=256, width=128, heads=2, layers=4, context=32),
    dict(vocabulary=1024, width=256, heads=4, layers=3, context=32),
    dict(vocabulary=65, width=384, heads=6, layers=6, context=64),
    dict(vocabulary=50257, width=64, heads=2, layers=2, context=32),
]


@families
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape['vocabulary']}-{shape['width']}")
def test_the_first_loss_is_that_of_no_opinion(name, tied, shape):
    model = GPT(family(name, tied=tied, dropout=0.0, **shape))
    tokens = some_tokens(8, shape["context"] + 1, shape["vocabulary"])
    with torch.no_grad():
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).item()
    assert loss == pytest.approx(math.log(shape["vocabulary"]), rel=0.02)


def test_with_zero_init_every_block_starts_as_the_identity():
    model, tokens = GPT(family("modern", vocabulary=23, context=12, layers=3, width=64)), some_tokens()
    x = torch.randn(3, 12, 64)
    for block in model.blocks:
        assert torch.equal(block(x, model.positions.angles(slice(0, 12))), x)
    assert not model(tokens).any()


def test_with_normal_init_what_is_added_back_is_narrow():
    model = GPT(family("gpt2", vocabulary=300, context=64, layers=8, width=128, heads=2))
    spread = {name: p.std().item() for name, p in model.named_parameters() if p.dim() == 2}
    for name, got in spread.items():
        narrow = name.endswith(("attention.out.weight", "mlp.down.weight"))
        assert got == pytest.approx(0.02 / 4 if narrow else 0.02, rel=0.05), name
    assert all(not p.any() for name, p in model.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("name", ["gpt2", "modern"])
def test_the_smallest_gpt2_has_its_published_size(name):
    with torch.device("meta"):
        if name == "gpt2":
            assert GPT(family("gpt2", vocabulary=50257)).parameters_count == 124_439_808
        else:  # Qwen3-0.6B, of its model card: 0.6B parameters, 0.44B without the embedding.
            c = family(
                "modern", vocabulary=151_936, width=1024, layers=28, heads=16, kv_heads=8, head_size=128, hidden=3072,
                context=8, tied=True,
            )  # fmt: skip
            assert GPT(c).parameters_count == 596_049_920


def test_a_tied_head_is_the_embedding():
    for tied in (True, False):
        model = make("modern", tied=tied)
        assert (model.head.weight is model.embed.weight) == tied
        assert ("head.weight" in dict(model.named_parameters())) != tied


@families
def test_dropout_is_on_in_training_alone(name):
    model, tokens = make(name, dropout=0.5), some_tokens()
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


def test_a_model_takes_any_block():
    class Same(torch.nn.Module):
        def forward(self, x, angles=None, cache=None):
            return x

    c = family("gpt2", vocabulary=23, width=24, heads=4, layers=3)
    model, tokens = GPT(c, block=lambda config: Same()), some_tokens()
    assert len(model.blocks) == 3
    torch.testing.assert_close(
        model(tokens), model.head(model.norm(model.embed(tokens) + model.positions.table(torch.arange(12))))
    )


@pytest.mark.parametrize("context", [1, 12])
@pytest.mark.parametrize("name", ["gpt2", "modern"])
def test_more_tokens_than_a_context_are_refused(name, context):
    model = make(name, context=context)
    assert model(some_tokens(length=context)).shape == (3, context, 23)
    with pytest.raises(InputError, match=f"reads {context} tokens at most, but was given {context + 1}"):
        model(some_tokens(length=context + 1))


def test_without_positions_there_is_no_last_place():
    assert make("lecture", positions="none")(some_tokens(length=40)).shape == (3, 40, 23)
