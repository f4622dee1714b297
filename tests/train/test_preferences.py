import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from train.answers import answered, gradient, small, with_more

from quoth.train.objectives import token_loss
from quoth.train.preferences import answer_log_probs, bradley_terry, dpo, kto, last_counted, scores
from quoth.tune.score import scorer_of

LAYOUTS = [{"junk": 5}, {"width": 13, "junk": -100}, {"left": True}, {"left": True, "width": 9}]
ROWS = [([1, 2, 3], [4, 5, 9]), ([1, 2, 3], [6, 9]), ([7], [8, 8, 8, 9]), ([7], [9])]


@pytest.fixture
def model():
    return small()


@pytest.fixture
def scorer(model):
    scorer = scorer_of(model)
    torch.nn.init.normal_(scorer.head.weight)
    return scorer


def slow_log_probs(model, rows):
    """log p of each answer by itself, a token at a time."""
    found = []
    for prompt, answer in rows:
        logp = 0.0
        for n, token in enumerate(answer):
            logp += model(torch.tensor([[*prompt, *answer[:n]]]))[0, -1].log_softmax(0)[token].item()
        found.append(logp)
    return np.array(found)


def test_an_answers_log_prob_is_that_of_its_tokens_alone(model):
    found = answer_log_probs(model, answered(ROWS)).detach().numpy()
    np.testing.assert_allclose(found, slow_log_probs(model, ROWS), rtol=0, atol=1e-12)


def test_a_score_is_read_after_the_last_token_of_the_answer(scorer):
    alone = [scorer(torch.tensor([[*p, *a]]))[0, -1, 0] for p, a in ROWS]
    torch.testing.assert_close(scores(scorer, answered(ROWS)), torch.stack(alone), rtol=0, atol=1e-12)
    assert last_counted(answered(ROWS)).tolist() == [4, 3, 3, 0]


@pytest.mark.parametrize(
    "layout", [{"junk": 5}, {"width": 13, "junk": -100}, {"left": True}, {"left": True, "width": 9}]
)
def test_padding_changes_nothing(model, scorer, layout):
    usual, padded = answered(ROWS), answered(ROWS, **layout)
    if layout.get("junk") == -100:  # As a target it is one that does not count; as an id there is none.
        padded = replace(padded, x_BT=padded.x_BT.clamp_min(0))
    for found in (answer_log_probs, lambda m, b: token_loss(m, b)[b.weight_BT > 0]):
        torch.testing.assert_close(found(model, usual), found(model, padded), rtol=0, atol=1e-12)
    torch.testing.assert_close(scores(scorer, usual), scores(scorer, padded), rtol=0, atol=1e-12)


def test_the_weights_size_does_not_change_a_log_prob(model):
    batch = answered(ROWS)
    halved = replace(batch, weight_BT=batch.weight_BT * 0.5)
    assert torch.equal(answer_log_probs(model, batch), answer_log_probs(model, halved))


def test_bradley_terry_is_the_likelihood_of_the_comparisons(scorer):
    batch = with_more(answered(ROWS), units=2)
    loss, told = bradley_terry(scorer, batch)
    s = scores(scorer, batch).detach().numpy()
    expected = sum(math.log(1 + math.exp(rejected - chosen)) for chosen, rejected in s.reshape(2, 2))
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert told["accuracy"].item() == sum(s[0::2] > s[1::2])
    assert told["margin"].item() == pytest.approx((s[0::2] - s[1::2]).sum(), abs=1e-12)
    assert told["chosen_reward"].item() == pytest.approx(s[0::2].sum(), abs=1e-12)
    assert told["rejected_reward"].item() == pytest.approx(s[1::2].sum(), abs=1e-12)


def test_a_new_reward_model_is_right_as_often_as_a_coin(model):
    loss, told = bradley_terry(scorer_of(model), answered(ROWS))
    assert told["accuracy"].item() == 1
    assert loss.item() == pytest.approx(2 * math.log(2), abs=1e-12)


def test_dpo_and_ipo_are_their_definitions(model):
    reference = small(seed=1)
    policy_logp, reference_logp = slow_log_probs(model, ROWS), slow_log_probs(reference, ROWS)
    batch = with_more(answered(ROWS), units=2, reference_B=torch.from_numpy(reference_logp))
    ratio, length = policy_logp - reference_logp, np.array([len(a) for _, a in ROWS])
    loss, told = dpo(0.3)(model, batch)
    expected = -np.log(1 / (1 + np.exp(-0.3 * (ratio[0::2] - ratio[1::2])))).sum()
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert told["margin"].item() == pytest.approx(0.3 * (ratio[0::2] - ratio[1::2]).sum(), abs=1e-12)
    mean = ratio / length
    expected = ((mean[0::2] - mean[1::2] - 1 / 0.6) ** 2).sum()
    assert dpo(0.3, "ipo")(model, batch)[0].item() == pytest.approx(expected, abs=1e-12)
    likely = -(policy_logp / length)[0::2].sum()
    assert dpo(0.3, "ipo", chosen=0.7)(model, batch)[0].item() == pytest.approx(expected + 0.7 * likely, abs=1e-12)


@pytest.mark.parametrize("z", [True, False])
def test_kto_is_its_definition(model, z):
    reference = small(seed=1)
    matched = [*ROWS, ([2], [3, 9])]
    others = [(p, matched[n - 1][1]) for n, (p, _) in enumerate(matched)] if z else []
    rows, good = [*others, *matched], np.array([True, False, True, False, False])
    # Any numbers may stand for the reference's; these make the estimated KL more than 0.
    policy_logp, reference_logp = slow_log_probs(model, rows), slow_log_probs(reference, rows) - 2
    desirable = torch.tensor([False] * len(others) + good.tolist())
    more = {"reference_B": torch.from_numpy(reference_logp), "desirable_B": desirable}
    if z:
        more["mismatched_B"] = torch.tensor([True] * 5 + [False] * 5)
    ratio = policy_logp - reference_logp
    kl = max(0.0, ratio[:5].mean()) if z else 0.0
    assert not z or kl > 0
    value = 0.4 * np.where(good, ratio[-5:] - kl, kl - ratio[-5:])
    expected = (np.where(good, 1.5, 0.7) * (1 - 1 / (1 + np.exp(-value)))).sum()
    loss, told = kto(0.4, desirable=1.5, undesirable=0.7)(model, with_more(answered(rows), units=5, **more))
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert told["kl"].item() == pytest.approx(5 * kl, abs=1e-6)
    assert told["accuracy"].item() == (np.where(good, 1, -1) * ratio[-5:] > 0).sum()
    assert told["margin"].item() == pytest.approx(value.sum(), abs=1e-6)


def test_the_baseline_of_kto_has_no_gradient(model):
    """Were z differentiated, the mismatched rows would pull at the policy."""
    rows = [([7], [4, 5, 9]), ([1, 2], [8, 9]), ([1, 2], [4, 5, 9])]
    batch = with_more(
        answered(rows),
        reference_B=torch.tensor([-99.0, -5.0, -5.0]),
        desirable_B=torch.tensor([False, True, False]),
        mismatched_B=torch.tensor([True, False, False]),
    )
    with torch.no_grad():
        kl = answer_log_probs(model, batch)[0] + 99
    own = answered(rows[1:])
    ratio = answer_log_probs(model, own) + 5
    held = (1 - torch.sigmoid(0.1 * (ratio[0] - kl))) + (1 - torch.sigmoid(0.1 * (kl - ratio[1])))
    ours = kto(0.1)(model, batch)[0]
    torch.testing.assert_close(gradient(ours, model), gradient(held, model), rtol=0, atol=1e-12)


def test_dpo_of_two_answers_ends_at_its_closed_form(model):
    """Where a share q of people prefer an answer, its margin becomes the log of their odds."""
    reference, q, beta = small(), 0.8, 0.3
    batches = []
    for order in (ROWS[:2], ROWS[1::-1]):
        with torch.no_grad():
            batches.append(with_more(answered(order), reference_B=answer_log_probs(reference, answered(order))))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(300):
        loss = q * dpo(beta)(model, batches[0])[0] + (1 - q) * dpo(beta)(model, batches[1])[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    margin = dpo(beta)(model, batches[0])[1]["margin"].item()
    assert margin == pytest.approx(math.log(q / (1 - q)), abs=1e-6)
