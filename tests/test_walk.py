"""The walk through all floors: a corpus yields windows; a model turns tokens into logits; an objective sums what
counts; `fit` yields steps; a checkpoint is a folder; an engine streams tokens."""

from pathlib import Path

import pytest
import torch

import quoth


def test_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOTH_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    text = tmp_path / "book.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 200)

    corpus = quoth.corpus(str(text))
    windows = corpus.batches(8, 32, seed=1)
    assert windows[0][0].x_BT.shape == (8, 32)

    model = quoth.GPT(
        quoth.family("modern", vocabulary=corpus.tokenizer.vocabulary, width=32, layers=2, heads=2, context=32)
    )
    assert model(windows[0][0].x_BT).shape == (8, 32, corpus.tokenizer.vocabulary)

    before = quoth.evaluate(model, corpus.validation, corpus.tokenizer, context=32)
    losses = [step.loss for step in quoth.fit(model, quoth.make_optimizer(model), windows, quoth.next_token, steps=60)]
    after = quoth.evaluate(model, corpus.validation, corpus.tokenizer, context=32)
    assert len(losses) == 60
    assert after.loss < 0.2 < before.loss

    quoth.save(tmp_path / "checkpoint", model, corpus.tokenizer, {"step": 60})
    checkpoint = quoth.load(tmp_path / "checkpoint")
    again = quoth.evaluate(checkpoint.model, corpus.validation, checkpoint.tokenizer, context=32)
    assert again == after

    engine = quoth.Engine(checkpoint.model, checkpoint.tokenizer)
    written = "".join(engine.stream("the quick ", tokens=24, sampling=quoth.Sampling(temperature=0)))
    assert written == "brown fox jumps over the"
