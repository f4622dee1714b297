from math import isnan

import pytest
import torch

from quoth.model.config import FAMILIES, family
from quoth.model.gpt import GPT
from quoth.system.world import World
from quoth.text.batches import IGNORED, Batch
from quoth.train.loop import fit, train_step
from quoth.train.objectives import next_token
from quoth.train.optimizers import OptimizerConfig, Together, make_optimizer
from quoth.train.schedule import Clock
from quoth.train.spikes import Spikes

pytestmark = pytest.mark.usefixtures("one_thread")


def make(name="modern", dtype=torch.float64, **given):
    model = GPT(family(name, vocabulary=11, **{**dict(context=8, layers=2, width=16, heads=2, dropout=0.0), **given}))
    return model.to(dtype)


def randomized(model):
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def copies(model, count):
    made = [GPT(model.config).to(model.embed.weight.dtype) for _ in range(count)]
    for copy in made:
        copy.load_state_dict(model.state_dict())
    return made


def rows(count=8, length=8):
    tokens = torch.randint(11, (count, length + 1))
    return tokens[:, :-1], tokens[:, 1:]


def sgd(model):
    return Together(torch.optim.SGD(model.parameters(), lr=0.1))


def same_weights(one, other, tolerance):
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=tolerance, msg=name)


class Given:
    """The same microbatches at every step."""

    def __init__(self, *micro):
        self.micro = list(micro)

    def __getitem__(self, step):
        return self.micro


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("weighted", [False, True])
def test_accumulation_does_not_change_the_step(name, weighted):
    whole, parts, uneven = copies(randomized(make(name)), 3)
    (x, y), weight = rows(), torch.rand(8, 8, dtype=torch.float64) if weighted else None

    def micro(*sizes):
        weights = weight.split(sizes) if weighted else [None] * len(sizes)
        return [Batch(*part) for part in zip(x.split(sizes), y.split(sizes), weights, strict=True)]

    results = [
        train_step(model, sgd(model), micro(*sizes), next_token, World())
        for model, sizes in ((whole, [8]), (parts, [2, 2, 2, 2]), (uneven, [1, 7]))
    ]
    for _, loss, norm, *_ in results:
        assert loss == pytest.approx(results[0][1], rel=1e-12)
        assert norm == pytest.approx(results[0][2], rel=1e-12)
    same_weights(whole, parts, 1e-12)
    same_weights(whole, uneven, 1e-12)


def test_a_step_moves_along_the_gradient_of_the_weighted_mean():
    model, slow = copies(randomized(make()), 2)
    (x, y), weight = rows(), torch.rand(8, 8, dtype=torch.float64)
    weight[3:5] = 0
    _, loss, norm, *_ = train_step(model, sgd(model), [Batch(x, y, weight)], next_token, World())
    share = slow(x).log_softmax(-1).gather(-1, y[..., None])[..., 0]
    mean = -(weight * share).sum() / weight.sum()
    mean.backward()
    assert loss == pytest.approx(mean.item(), rel=1e-12)
    gradient = torch.cat([p.grad.flatten() for p in slow.parameters()])
    assert norm == pytest.approx(gradient.norm().item(), rel=1e-12)
    with torch.no_grad():
        for p in slow.parameters():
            p -= 0.1 * p.grad
    same_weights(model, slow, 1e-12)
    assert all(p.grad is None for p in model.parameters())


def test_ignored_targets_count_nothing_however_a_step_is_cut():
    whole, parts, slow = copies(randomized(make()), 3)
    x, y = rows()
    y = y.clone()
    y[0], y[1, :5], y[4:7, 3:] = IGNORED, IGNORED, IGNORED
    micro = [Batch(*part) for part in zip(x.split([1, 1, 6]), y.split([1, 1, 6]), strict=True)]
    tokens, loss, norm, *_ = train_step(whole, sgd(whole), [Batch(x, y)], next_token, World())
    assert train_step(parts, sgd(parts), micro, next_token, World())[:3] == pytest.approx(
        (tokens, loss, norm), rel=1e-12
    )
    assert tokens == (y != IGNORED).sum()
    wanted = torch.nn.functional.cross_entropy(slow(x).flatten(0, 1), y.flatten())  # Its mean leaves -100 out.
    wanted.backward()
    sgd(slow).step()
    assert loss == pytest.approx(wanted.item(), rel=1e-12)
    same_weights(whole, slow, 1e-12)
    same_weights(parts, slow, 1e-12)


def nothing_counts():
    """By its weights, and by its targets."""
    x, y = rows(2)
    return [Batch(x, y, torch.zeros(2, 8, dtype=torch.float64)), Batch(x, torch.full_like(y, IGNORED))]


def test_a_microbatch_in_which_nothing_counts_changes_nothing():
    alone, among = copies(randomized(make()), 2)
    batch = Batch(*rows())
    first, last = nothing_counts()
    wanted = train_step(alone, sgd(alone), [batch], next_token, World())
    got = train_step(among, sgd(among), [first, batch, last], next_token, World())
    assert got[:4] == pytest.approx(wanted[:4], rel=1e-12)
    same_weights(alone, among, 1e-12)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_step_in_which_nothing_counts_is_left_out(kind):
    model, untouched = copies(randomized(make()), 2)
    optimizer, spikes = make_optimizer(model, OptimizerConfig(optimizer=kind)), Spikes()
    (step,) = fit(model, optimizer, Given(*nothing_counts()), next_token, steps=6, first=5, spikes=spikes)
    assert (step.tokens, step.moved, spikes.losses) == (0, False, [])
    assert isnan(step.loss)
    assert isnan(step.gradient_norm)
    same_weights(model, untouched, 0)
    assert all(p.grad is None for p in model.parameters())
    (step,) = fit(model, optimizer, Given(Batch(*rows())), next_token, steps=6, first=5, spikes=spikes)
    assert step.moved
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("clip", [0.0, 0.01, 1e6])
def test_clipping_scales_the_whole_gradient(clip):
    model, plain = copies(randomized(make()), 2)
    batch, before = Batch(*rows()), [p.detach().clone() for p in model.parameters()]
    _, _, norm, *_ = train_step(model, sgd(model), [batch], next_token, World(), clip=clip)
    assert norm > 0.01
    train_step(plain, sgd(plain), [batch], next_token, World())
    factor = 0.01 / norm if clip == 0.01 else 1.0
    for p, q, b in zip(model.parameters(), plain.parameters(), before, strict=True):
        torch.testing.assert_close(p - b, (q - b) * factor, rtol=0, atol=1e-13)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_moves_nothing(bad, kind, where):
    model = make(dtype=torch.float32)
    optimizer = make_optimizer(model, OptimizerConfig(optimizer=kind))
    good = Given(Batch(*rows()))
    list(fit(model, optimizer, good, next_token, steps=3))
    weights = [p.detach().clone() for p in model.parameters()]

    def spoiled(model, batch):
        loss = next_token(model, batch)
        if where == "loss":
            return loss * bad
        # The loss stays what it is; only one weight's gradient is bad.
        p = model.blocks[0].mlp.up.weight
        return loss + Spoil.apply(p, bad)

    (step,) = fit(model, optimizer, good, spoiled, steps=4, first=3)
    assert not step.moved
    for p, before in zip(model.parameters(), weights, strict=True):
        assert torch.equal(p, before)
        assert p.grad is None
    (step,) = fit(model, optimizer, good, next_token, steps=4, first=3)
    assert step.moved
    assert all(p.isfinite().all() for p in model.parameters())


class Spoil(torch.autograd.Function):
    @staticmethod
    def forward(ctx, p, bad):
        ctx.save_for_backward(p)
        ctx.bad = bad
        return p.new_zeros(())

    @staticmethod
    def backward(ctx, gradient):
        return torch.full_like(ctx.saved_tensors[0], ctx.bad), None


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("name", FAMILIES)
def test_one_batch_can_be_learned_by_heart(name, kind):
    model = make(name, dtype=torch.float32, width=32, context=16)
    x, y = rows(4, 16)
    x[:, 0] = torch.arange(4)  # Rows that start alike could not be told apart.
    rate = 0.02 if kind == "muon" else 0.01
    config = OptimizerConfig(optimizer=kind, learning_rate=rate, embedding_learning_rate=0.01, weight_decay=0.0)
    steps = list(fit(model, make_optimizer(model, config), Given(Batch(x, y)), next_token, steps=120))
    assert steps[0].loss > 1.5
    assert steps[-1].loss < 0.01
    assert all(step.moved for step in steps)


def test_fit_reports_its_steps():
    model, batch = make(), Batch(*rows())
    steps = list(fit(model, sgd(model), Given(batch, batch), next_token, steps=4, schedule=lambda p: 1 - p))
    assert [step.number for step in steps] == [1, 2, 3, 4]
    assert [step.progress for step in steps] == [0, 0.25, 0.5, 0.75]
    assert [step.multiplier for step in steps] == [0.875, 0.625, 0.375, 0.125]
    assert [step.tokens for step in steps] == [128] * 4
    assert steps[0].loss == pytest.approx(torch.tensor(11.0).log().item())
    masked = Batch(batch.x_BT, batch.y_BT, (torch.arange(8) < 3).double().expand(8, 8))
    (step,) = fit(model, sgd(model), Given(batch, masked), next_token, steps=1)
    assert step.tokens == 64 + 24
    assert [s.number for s in fit(model, sgd(model), Given(batch), next_token, steps=7, first=5)] == [6, 7]
    assert list(fit(model, sgd(model), Given(batch), next_token, steps=0)) == []


def test_rates_follow_the_schedule():
    model, optimizer = make(), None
    optimizer = sgd(model)
    for step in fit(model, optimizer, Given(Batch(*rows())), next_token, steps=5, schedule=lambda p: p / 2):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * (step.progress + 0.1) / 2)


def test_every_microbatch_of_a_step_has_the_same_rate_and_each_step_its_own():
    model, rates = make(), []
    optimizer = make_optimizer(model)

    def objective(model, batch):
        rates.append(optimizer.param_groups[0]["lr"])
        return next_token(model, batch)

    list(fit(model, optimizer, Given(*[Batch(*rows())] * 3), objective, steps=8, schedule=lambda p: 1 - p))
    steps = [rates[i : i + 3] for i in range(0, 24, 3)]
    assert all(len(set(step)) == 1 for step in steps)
    assert rates[::3] == sorted(set(rates), reverse=True)
    assert min(rates) > 0


def test_a_clock_ends_a_run():
    model, time = make(), iter([0, 0, 1, 2, 3, 4, 5, 6])
    clock = Clock(4, now=lambda: next(time))
    assert [s.progress for s in fit(model, sgd(model), Given(Batch(*rows())), next_token, budget=clock)] == [
        0,
        0.25,
        0.5,
        0.75,
    ]


def test_a_run_interrupted_and_resumed_is_the_run_uninterrupted():
    straight, halted = copies(randomized(make(dtype=torch.float32)), 2)
    source = [[Batch(*rows())] for _ in range(8)]
    whole = make_optimizer(straight)
    losses = [s.loss for s in fit(straight, whole, source, next_token, steps=8)]
    first = make_optimizer(halted)
    run = fit(halted, first, source, next_token, steps=8)
    begun = [next(run).loss for _ in range(3)]
    (resumed,) = copies(halted, 1)
    second = make_optimizer(resumed)
    second.load_state_dict(first.state_dict())
    assert begun + [s.loss for s in fit(resumed, second, source, next_token, steps=8, first=3)] == losses
    for p, q in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)


def test_the_model_trains_even_if_the_asker_evaluated():
    model = make(dropout=0.5)
    seen = []

    def objective(model, batch):
        seen.append(model.training)
        return next_token(model, batch)

    for _ in fit(model, sgd(model), Given(Batch(*rows())), objective, steps=3):
        model.eval()
    assert seen == [True] * 3
