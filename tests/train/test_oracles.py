"""A tiny model whose 85 answers can all be listed, so that every expectation is a sum.

It has 5 tokens, of which one ends an answer, and answers have at most 3. A mean over answers that a policy draws is a
sum weighed by the answers' probabilities, `held`, which have no gradient, as drawing has none.
"""

import copy
import itertools

import pytest
import torch
from train.answers import answered, gradient, small

from quoth.train.advantages import token_rewards
from quoth.train.divergence import k1, k2, k3, kl_per_place
from quoth.train.objectives import token_loss
from quoth.train.preferences import answer_log_probs

END, LONGEST, BETA = 4, 3, 0.5
ANSWERS = [
    answer
    for n in range(1, LONGEST + 1)
    for answer in itertools.product(range(5), repeat=n)
    if END not in answer[:-1] and (n == LONGEST or answer[-1] == END)
]


class World:
    """A policy beside its reference, all answers to one prompt, and a reward for each."""

    def __init__(self):
        self.reference = small(vocabulary=5, context=8, width=32)
        self.policy = copy.deepcopy(self.reference)
        self.batch = answered([([0, 1], list(answer)) for answer in ANSWERS])
        self.mask = self.batch.weight_BT > 0
        self.reward = torch.randn(len(ANSWERS), dtype=torch.float64)

    def shake(self):
        """Move the policy away from its reference."""
        with torch.no_grad():
            for p in self.policy.parameters():
                p.add_(0.1 * torch.randn_like(p))
        return self

    def tokens(self, model):
        return -token_loss(model, self.batch)

    def chances(self, model):
        return answer_log_probs(model, self.batch)

    @property
    def held(self):
        return self.chances(self.policy).exp().detach()

    def gradient(self, loss):
        return gradient(loss, self.policy)

    def of_tokens(self, estimate):
        """The mean gradient of an estimate of the KL that is summed over an answer's tokens, as a loss."""
        given = estimate(self.tokens(self.policy), self.tokens(self.reference).detach())
        return self.gradient((self.held[:, None] * given * self.mask).sum())

    def of_answers(self, estimate):
        """The same for an estimate of whole answers."""
        given = estimate(self.chances(self.policy), self.chances(self.reference).detach())
        return self.gradient((self.held * given).sum())

    def kl(self):
        """The exact gradient of the KL of whole answers."""
        policy, reference = self.chances(self.policy), self.chances(self.reference).detach()
        return self.gradient((policy.exp() * (policy - reference)).sum())


@pytest.fixture
def world():
    return World().shake()


def times_ratio(policy, reference):
    return (policy - policy.detach()).exp() * k3(policy, reference)


def off(found, exact):
    return ((found - exact).norm() / exact.norm()).item()


def test_the_answers_are_all_there_are(world):
    assert len(ANSWERS) == 85
    assert world.held.sum().item() == pytest.approx(1, abs=1e-12)


def test_the_optimum_is_the_reference_times_the_exponential_of_the_reward():
    """π* ∝ π_ref exp(r / β) has the best reward less β KL, and the exact gradient leads there."""
    world = World()
    with torch.no_grad():
        reference = world.chances(world.reference)
        best = (reference + world.reward / BETA).log_softmax(0)

    def objective(chances):
        return (chances.exp() * (world.reward - BETA * (chances - reference))).sum()

    def short():
        with torch.no_grad():
            chances = world.chances(world.policy)
            return (chances.exp() * (chances - best)).sum().item()

    before, optimizer = short(), torch.optim.Adam(world.policy.parameters(), 1e-2)
    for _ in range(100):
        loss = -objective(world.chances(world.policy))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert short() < 0.1 < 0.5 < before
    # What is short of the best value is exactly β KL(π, π*).
    assert (objective(best) + loss).item() == pytest.approx(BETA * short(), abs=0.02)


def test_reinforce_with_the_kl_in_the_reward_has_the_exact_gradient(world):
    policy, reference = world.chances(world.policy), world.chances(world.reference).detach()
    exact = world.gradient((policy.exp() * (world.reward - BETA * (policy - reference))).sum())
    old, drawn = world.tokens(world.policy).detach(), world.tokens(world.policy)
    with torch.no_grad():
        rewards = token_rewards(world.reward, old, world.tokens(world.reference), world.mask, BETA)
    whole = (world.held * rewards.sum(1) * policy).sum()
    assert off(world.gradient(whole), exact) < 1e-12
    to_go = rewards.flip(1).cumsum(1).flip(1)
    assert off(world.gradient((world.held[:, None] * to_go * drawn * world.mask).sum()), exact) < 1e-12


def test_k1_in_the_loss_holds_a_policy_to_nothing(world):
    assert world.of_tokens(k1).norm() < 1e-12 * world.kl().norm()


def test_k2_and_k3_in_the_loss_miss_the_gradient_of_the_kl(world):
    exact = world.kl()
    assert 0.01 < off(world.of_tokens(k2), exact) < 0.5
    assert 0.01 < off(world.of_tokens(k3), exact) < 0.5
    assert off(world.of_tokens(times_ratio), world.of_tokens(k2)) < 1e-12


def test_k3_times_the_ratio_is_exact_at_each_place_with_the_states_held(world):
    places = kl_per_place(world.policy(world.batch.x_BT), world.reference(world.batch.x_BT).detach())
    held = world.gradient((world.held[:, None] * places * world.mask).sum())
    assert off(world.of_tokens(times_ratio), held) < 1e-12
    assert off(world.of_tokens(times_ratio), world.kl()) > 0.01


def test_plain_k3_has_the_gradient_of_the_divergence_the_other_way_round(world):
    places = kl_per_place(world.reference(world.batch.x_BT).detach(), world.policy(world.batch.x_BT))
    assert off(world.of_tokens(k3), world.gradient((world.held[:, None] * places * world.mask).sum())) < 1e-12


@pytest.mark.parametrize("estimate", [k2, times_ratio])
def test_estimates_of_whole_answers_are_exact(world, estimate):
    assert off(world.of_answers(estimate), world.kl()) < 1e-12


def test_as_a_number_k1_k3_and_the_kl_of_each_place_have_the_right_mean(world):
    policy, reference = world.chances(world.policy), world.chances(world.reference)
    exact = (policy.exp() * (policy - reference)).sum().item()
    tokens = world.tokens(world.policy), world.tokens(world.reference)
    places = kl_per_place(world.policy(world.batch.x_BT), world.reference(world.batch.x_BT))
    for each in (k1(*tokens), k3(*tokens), places):
        assert (world.held[:, None] * each * world.mask).sum().item() == pytest.approx(exact, abs=1e-12)
    assert abs((world.held[:, None] * k2(*tokens) * world.mask).sum().item() - exact) > 1e-4
