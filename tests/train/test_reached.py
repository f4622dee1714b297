"""Parameters that a loss does not reach are refused, and no others."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from train.answers import small

from quoth.model.lora import add_lora
from quoth.system.errors import InputError
from quoth.text.batches import Batch
from quoth.train.objectives import next_token
from quoth.train.reached import reaching_all, unreached

ONE = Batch(torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 4]]))


def tied():
    return small(tied=True)


def adapted():
    model = small()
    add_lora(model, 2)
    return model


def recomputing():
    model = small()
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return model


@pytest.mark.parametrize("make", [small, tied, adapted, recomputing])
def test_all_of_a_model_is_reached(make):
    model = make()
    assert unreached(next_token(model, ONE), model) == []


def test_it_agrees_with_the_gradients_themselves():
    model = small()
    model.blocks[1].forward = lambda x_BTC, angles, cache=None: x_BTC
    loss = next_token(model, ONE)
    names = unreached(loss, model)
    loss.backward()
    assert names == [name for name, p in model.named_parameters() if p.grad is None]
    assert names and all(name.startswith("blocks.1.") for name in names)


def test_what_is_frozen_need_not_be_reached():
    model = small()
    model.extra = nn.Parameter(torch.zeros(1), requires_grad=False)
    assert unreached(next_token(model, ONE), model) == []


def test_the_first_use_refuses_by_name():
    model = small()
    model.extra = nn.Parameter(torch.zeros(1))
    objective = reaching_all(next_token, model)
    with torch.no_grad():
        objective(model, ONE)
    for _ in range(2):
        with pytest.raises(InputError, match="does not depend on extra, so that 1 of the model's trainable parameters"):
            objective(model, ONE)
    model.extra.requires_grad_(False)
    objective(model, ONE)
