"""Pretraining, the first stage: a model learns to continue a text, and the text's validation split evaluates it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from quoth.generate.engine import Engine
from quoth.model.gpt import GPT
from quoth.recipes.load_engine import tell_why_not
from quoth.recipes.recipe import Recipe
from quoth.recipes.stage import Judgement, Stage
from quoth.system.device import Hardware
from quoth.system.words import count
from quoth.system.world import World
from quoth.text.batches import Batch
from quoth.text.corpus import Corpus
from quoth.text.sources import SOURCES
from quoth.train.evaluate import evaluate
from quoth.train.objectives import next_token


def pretraining(recipe: Recipe, corpus: Corpus, hardware: Hardware, world: World) -> Stage:
    """The stage in which a model learns a corpus."""
    run, context, vocabulary = recipe.run, recipe.model.context, recipe.model.vocabulary
    windows = corpus.batches(
        run.batch, context, seed=run.seed, accumulate=run.accumulate, world=world, device=hardware.device
    )
    judged = corpus.validation[: run.validation_tokens or None]

    def judge(model: GPT, go_on: Callable[[], bool]) -> Judgement:
        with hardware.autocast():
            found = evaluate(model, judged, corpus.tokenizer, context=context, world=world, go_on=go_on)
        return Judgement(found.loss, {"bits_per_byte": found.bits_per_byte, "perplexity": found.perplexity})

    def sample(model: GPT, tokens: int, say: Callable[[str], None]) -> str:
        engine = Engine(model, corpus.tokenizer, threads=1)
        tell_why_not(engine, say)
        return engine.samples(tokens=tokens, seed=run.seed)[0]

    def example() -> Batch:
        rows, random = windows.microbatch, torch.Generator().manual_seed(run.seed % 2**63)
        ids = torch.randint(vocabulary, (rows, context + 1), generator=random)
        return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), seed=run.seed % 2**63).to(hardware.device)

    part = f"the first {count(len(judged))} of " if len(judged) < len(corpus.validation) else ""
    about = (
        f"{count(corpus.manifest['characters'])} characters; {count(len(corpus.train))} tokens for training, "
        f"{part}{count(len(corpus.validation))} for validation"
    )
    whole = "the whole validation split"
    judged_on = f"the first {len(judged):,} tokens of the validation split" if part else whole
    rows = run.batch * run.accumulate
    source = SOURCES.get(recipe.data.data)
    return Stage(
        windows,
        next_token,
        judge,
        sample,
        example,
        tokens_per_step=windows.tokens_per_step,
        tokenizer=corpus.tokenizer,
        data=corpus.name,
        about=f"{corpus.name}: {about}",
        facts={name: corpus.manifest[name] for name in ("sources", "text_sha256", "tokenizer_sha256")},
        published=source.published if source else (),
        per_step=f"{rows:,} window{'s' * (rows != 1)} of {context} tokens",
        loss_is=f"nats per token, over {judged_on}",
    )
