import json

import pytest
import torch
from model.adapters import parametrized

from quoth.model.attention import SHARED, Segments
from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.text.tokenizer import Characters
from quoth.train.checkpoint import bare, load, load_weights, save
from quoth.train.compile import compiled
from quoth.tune.score import MEAN_WEIGHT, Scorer, load_scorer, scorer_of

LETTERS = Characters("abcdefghijk")
IDS = torch.tensor([[1, 2, 3, 4]])


def make(name="modern", **given):
    return GPT(family(name, vocabulary=11, width=16, layers=2, heads=2, context=8, **given)).eval()


@pytest.fixture
def scorer():
    scorer = scorer_of(make()).eval()
    torch.nn.init.normal_(scorer.head.weight)
    return scorer


@pytest.mark.parametrize("name", ["modern", "gpt2", "lecture"])
def test_a_scorer_reads_as_its_model_does_and_starts_at_zero(name):
    model = make(name)
    scorer = scorer_of(model).eval()
    assert torch.equal(scorer.hidden(IDS), model.hidden(IDS))
    assert scorer(IDS).shape == (1, 4, 1)
    assert not scorer(IDS).any()
    before = model.embed.weight.clone()
    torch.nn.init.ones_(scorer.head.weight)
    torch.nn.init.ones_(scorer.embed.weight)
    assert torch.equal(model.embed.weight, before)
    assert sum(p.numel() for p in scorer.parameters()) == sum(p.numel() for p in set(scorer.parameters()))


def test_an_adapter_is_merged_into_a_scorer():
    model = make(initialization="torch")
    parametrized(model.blocks[0].attention.query)
    scorer = scorer_of(model).eval()
    torch.testing.assert_close(scorer.hidden(IDS), model.hidden(IDS))
    assert type(scorer.blocks[0].attention.query) is torch.nn.Linear


@pytest.mark.parametrize("name", ["modern", "gpt2"])
def test_a_reward_model_is_saved_and_read(tmp_path, name):
    scorer = scorer_of(make(name)).eval()
    torch.nn.init.normal_(scorer.head.weight)
    save(tmp_path / "saved", scorer, LETTERS, {"step": 3})
    read = load_scorer(tmp_path / "saved").model
    assert isinstance(read, Scorer)
    assert torch.equal(read(IDS), scorer(IDS))


def test_a_reward_model_is_no_language_model_nor_the_other_way_round(tmp_path, scorer):
    save(tmp_path / "scorer", scorer, LETTERS, {})
    with pytest.raises(InputError, match=r"scorer holds a reward model, but a language model is needed here\.$"):
        load(tmp_path / "scorer")
    with pytest.raises(InputError, match="holds a reward model, but a language model is needed"):
        load_weights(tmp_path / "scorer", make())
    save(tmp_path / "model", make(), LETTERS, {})
    assert "kind" not in json.loads((tmp_path / "model" / "config.json").read_text())
    with pytest.raises(InputError, match="model holds a language model, but a reward model is needed here"):
        load_scorer(tmp_path / "model")


def test_a_score_is_of_the_last_state_and_of_the_mean_of_all(scorer):
    own_T = scorer.head(scorer.hidden(IDS))[0, :, 0]
    wanted_T = torch.stack([own_T[t] + MEAN_WEIGHT * own_T[: t + 1].mean() for t in range(4)])
    torch.testing.assert_close(scorer(IDS)[0, :, 0], wanted_T)


def test_texts_in_one_row_are_scored_as_each_alone(scorer):
    segments = Segments(torch.tensor([[0, 0, 0, 1, 1, 2]]))
    row = torch.tensor([[5, 6, 7, 1, 2, 3]])
    together = scorer(row, segments, segments.places_BT)[0, :, 0]
    alone = [scorer(row[:, begin:end])[0, :, 0] for begin, end in ((0, 3), (3, 5), (5, 6))]
    torch.testing.assert_close(together, torch.cat(alone))


def test_texts_with_one_beginning_are_scored_as_each_alone(scorer):
    segments = Segments(torch.tensor([[SHARED, SHARED, 0, 0, 1]]))
    row = torch.tensor([[5, 6, 7, 1, 2]])
    together = scorer(row, segments, segments.places_BT)[0, :, 0]
    first, second = (scorer(torch.tensor([ids]))[0, :, 0] for ids in ([5, 6, 7, 1], [5, 6, 2]))
    torch.testing.assert_close(together, torch.cat([first, second[2:]]))


def test_scores_are_not_rounded_under_autocast(scorer):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = scorer(IDS)
    assert score.dtype == torch.float32
    assert not torch.equal(score, score.bfloat16().float())


@pytest.mark.slow
def test_a_scorer_can_be_compiled(scorer):
    view = compiled(scorer)
    torch.testing.assert_close(view(IDS), scorer(IDS))
    assert bare(view) is scorer
