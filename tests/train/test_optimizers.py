import math

import pytest
import torch
from torch import nn

from quoth.model.config import FAMILIES, family
from quoth.model.gpt import GPT
from quoth.model.lora import adapters, add_lora
from quoth.system.errors import InputError
from quoth.train.optimizers import Muon, OptimizerConfig, Together, make_optimizer, nesterov, orthogonalize

pytestmark = pytest.mark.usefixtures("one_thread")


def svd_orthogonal(matrix):
    u, _, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u @ vh


SHAPES = [(1, 16, 16), (3, 64, 16), (2, 96, 96), (1, 40, 1), (5, 33, 7)]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_end_near_one(shape, scale, dtype):
    g = torch.randn(shape) * scale
    got = orthogonalize(g.to(dtype))
    assert got.dtype == dtype
    # A tiny singular value of a random square matrix may stay behind, no more than a few.
    values = torch.linalg.svdvals(got.double())
    assert values.max() < 1.25
    assert values.quantile(0.05) > 0.6
    # The direction is that of the true polar factor.
    for ours, true in zip(got.double(), map(svd_orthogonal, g), strict=True):
        assert (ours * true).sum() / (ours.norm() * true.norm()) > 0.98


def conditioned(shape, smallest=0.02):
    """Matrices whose singular values lie between `smallest` and 1."""
    n, rows, columns = shape
    u, _ = torch.linalg.qr(torch.randn(n, rows, columns, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(n, columns, columns, dtype=torch.float64))
    return u * torch.linspace(smallest, 1, columns, dtype=torch.float64) @ v.mT


@pytest.mark.parametrize("shape", SHAPES)
def test_all_singular_values_of_a_decent_matrix_end_near_one(shape):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        values = torch.linalg.svdvals(orthogonalize(conditioned(shape).to(dtype)).double())
        assert 0.6 < values.min() <= values.max() < 1.25


# The five polynomials of Polar Express, applied here to singular values one by one.
POLYNOMIALS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalizing_maps_each_singular_value_by_the_polynomials(shape):
    g = torch.randn(shape, dtype=torch.float64)
    for ours, matrix in zip(orthogonalize(g), g, strict=True):
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        s = s / (matrix.square().sum().sqrt() * 1.01)
        for a, b, c in POLYNOMIALS:
            s = a * s + b * s**3 + c * s**5
        torch.testing.assert_close(ours, u * s @ vh, rtol=0, atol=1e-6)


def test_nothing_to_orthogonalize_gives_nothing():
    assert not orthogonalize(torch.zeros(2, 8, 4)).any()


def test_nesterov_looks_ahead():
    gradient, momentum = torch.randn(2, 3, 12, 5, dtype=torch.float64)
    before = momentum.clone()
    (ahead,) = nesterov([gradient], [momentum], 0.9)
    torch.testing.assert_close(momentum, 0.9 * before + 0.1 * gradient, rtol=0, atol=1e-12)
    torch.testing.assert_close(ahead, 0.1 * gradient + 0.9 * momentum, rtol=0, atol=1e-12)


def matrices(shapes, dtype=torch.float64):
    return [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]


def slow_muon(weights, gradients, *, lr, momentum, weight_decay):
    """Each matrix for itself, over the steps of `gradients`."""
    weights = [w.clone() for w in weights]
    buffers = [torch.zeros_like(w) for w in weights]
    for step in gradients:
        for i, g in enumerate(step):
            buffers[i] = momentum * buffers[i] + (1 - momentum) * g
            direction = (1 - momentum) * g + momentum * buffers[i]
            rows, columns = direction.shape
            tall = direction if rows >= columns else direction.T
            move = orthogonalize(tall[None])[0]
            move = move if rows >= columns else move.T
            weights[i] = weights[i] * (1 - lr * weight_decay) - lr * math.sqrt(max(1, rows / columns)) * move
    return weights


def test_muon_moves_stacked_matrices_as_it_would_each():
    shapes = [(6, 6), (12, 5), (5, 12), (12, 5), (8, 3), (6, 6), (3, 8), (5, 12)]
    params = matrices(shapes)
    gradients = [[torch.randn(shape, dtype=torch.float64) for shape in shapes] for _ in range(4)]
    settings = dict(lr=0.03, momentum=0.9, weight_decay=0.2)
    wanted = slow_muon([p.detach() for p in params], gradients, **settings)
    muon = Muon(params, dtype=torch.float64, **settings)
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = g.clone()
        muon.step()
    for p, w, g in zip(params, wanted, gradients[-1], strict=True):
        torch.testing.assert_close(p.detach(), w, rtol=0, atol=1e-7)
        assert torch.equal(p.grad, g)


def test_muon_moves_matrices_only():
    with pytest.raises(InputError, match=r"Muon moves matrices, not a tensor of shape \(3,\)\."):
        Muon([nn.Parameter(torch.ones(3))], lr=1, momentum=0.9, weight_decay=0, dtype=torch.float32)


def model(name="modern", dtype=torch.float64, **given):
    made = GPT(family(name, vocabulary=11, context=8, layers=2, width=16, heads=2, dropout=0.0, **given)).to(dtype)
    for p in made.parameters():
        nn.init.normal_(p, std=0.1)
    return made


def run_steps(made, optimizer, steps, first=0):
    for step in range(first, first + steps):
        tokens = torch.randint(11, (4, 8), generator=torch.Generator().manual_seed(step))
        made(tokens).logsumexp(-1).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", FAMILIES)
def test_adamw_is_that_of_torch(name):
    ours, theirs = model(name), model(name)
    theirs.load_state_dict(ours.state_dict())
    config = OptimizerConfig(
        optimizer="adamw", learning_rate=0.01, embedding_learning_rate=0.003, weight_decay=0.3, beta1=0.8, beta2=0.9
    )
    inside = [p for n, p in theirs.named_parameters() if "blocks" in n and p.dim() == 2]
    outside = [p for n, p in theirs.named_parameters() if not ("blocks" in n and p.dim() == 2)]
    reference = torch.optim.AdamW(
        [{"params": inside, "lr": 0.01, "weight_decay": 0.3}, {"params": outside, "lr": 0.003, "weight_decay": 0}],
        betas=(0.8, 0.9),
    )
    run_steps(ours, make_optimizer(ours, config), 3)
    run_steps(theirs, reference, 3)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_has_one_optimizer_and_matrices_inside_blocks_decay(name, kind, tied):
    made = model(name, tied=tied)
    optimizer = make_optimizer(made, OptimizerConfig(optimizer=kind, weight_decay=0.1))
    names = {id(p): n for n, p in made.named_parameters()}
    seen = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    assert sorted(seen) == sorted(names.values())
    for part in optimizer.parts:
        for group in part.param_groups:
            for p in group["params"]:
                inside = names[id(p)].startswith("blocks.") and p.dim() == 2
                assert (group["weight_decay"] > 0) == inside
                assert isinstance(part, Muon) == (inside and kind == "muon")


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_model_without_blocks_can_be_trained(kind):
    made = GPT(family("gpt2", vocabulary=11, context=8, layers=0, width=16, heads=2))
    before = made.embed.weight.detach().clone()
    run_steps(made, make_optimizer(made, OptimizerConfig(optimizer=kind)), 1)
    assert not torch.equal(made.embed.weight, before)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_saved_state_goes_on_identically(kind, tmp_path):
    config = OptimizerConfig(optimizer=kind)
    made = model(dtype=torch.float32)
    optimizer = make_optimizer(made, config)
    optimizer.scale(0.5)
    run_steps(made, optimizer, 3)
    torch.save((made.state_dict(), optimizer.state_dict()), tmp_path / "state")
    run_steps(made, optimizer, 3, first=3)

    again = model(dtype=torch.float32)
    other = make_optimizer(again, config)
    weights, state = torch.load(tmp_path / "state", weights_only=True)
    again.load_state_dict(weights)
    other.load_state_dict(state)
    run_steps(again, other, 3, first=3)
    for (name, p), q in zip(made.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q), name


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_adapters_alone_are_moved_by_adamw_at_the_rate_of_matrices(kind):
    made = model()
    add_lora(made, 2)
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    optimizer = make_optimizer(made, OptimizerConfig(optimizer=kind, learning_rate=0.01, weight_decay=0.1))
    (part,) = optimizer.parts
    assert isinstance(part, torch.optim.AdamW)
    assert [(g["lr"], g["weight_decay"]) for g in part.param_groups] == [(0.01, 0.1)]
    run_steps(made, optimizer, 2)
    moved = {name for name, p in made.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {f"{layer}.lora_{x}" for layer in adapters(made) for x in "AB"}


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("trained", ["embed", "blocks.0"])
def test_frozen_parameters_are_left_out(kind, trained):
    made = model()
    made.requires_grad_(False)
    made.get_submodule(trained).requires_grad_(True)
    optimizer = make_optimizer(made, OptimizerConfig(optimizer=kind))
    wanted = {id(p) for p in made.parameters() if p.requires_grad}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == wanted
    run_steps(made, optimizer, 2)


def test_a_model_that_is_all_frozen_is_refused():
    with pytest.raises(InputError, match="All of the model's parameters are frozen"):
        make_optimizer(model().requires_grad_(False))


def test_rates_are_shares_of_each_peak():
    made = model()
    optimizer = make_optimizer(made, OptimizerConfig(learning_rate=0.02, embedding_learning_rate=0.004))
    for share in (0.5, 0.0, 1.0):
        optimizer.scale(share)
        rates = {isinstance(part, Muon): {g["lr"] for g in part.param_groups} for part in optimizer.parts}
        assert rates == {True: {0.02 * share}, False: {0.004 * share}}


def test_at_rate_zero_nothing_moves():
    made = model()
    before = [p.detach().clone() for p in made.parameters()]
    optimizer = make_optimizer(made)
    optimizer.scale(0.0)
    run_steps(made, optimizer, 2)
    assert all(torch.equal(p, q) for p, q in zip(made.parameters(), before, strict=True))


def test_together_steps_each_part():
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    together = Together(torch.optim.SGD([a], lr=0.1), torch.optim.SGD([b], lr=0.2))
    (a.sum() + b.sum()).backward()
    together.step()
    assert (a[0].item(), b[0].item()) == (pytest.approx(0.9), pytest.approx(0.8))
    together.zero_grad()
    assert a.grad is None
    assert b.grad is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"optimizer": "sgd"}, "optimizer must be muon or adamw, not 'sgd'."),
        ({"learning_rate": -0.1}, "learning_rate must be 0 or more, not -0.1."),
        ({"weight_decay": float("nan")}, "weight_decay must be 0 or more, not nan."),
        ({"warmup": -1}, "warmup must be 0 or more, not -1."),
        ({"momentum": 1.5}, "momentum must lie in [0, 1), not 1.5."),
        ({"beta1": 1.0}, "beta1 must lie in [0, 1), not 1.0."),
        ({"beta2": -0.1}, "beta2 must lie in [0, 1), not -0.1."),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(given, sentence):
    with pytest.raises(InputError) as error:
        OptimizerConfig(**given)
    assert str(error.value) == sentence
