"""One of several processes that train a model together, started by torchrun: what test_parallel.py looks at.

usage: parallel_worker.py OUT KIND STEPS, where KIND is alone, ddp or fsdp
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.model.lora import add_lora
from quoth.system.world import World, joined
from quoth.text.batches import Batch, BatchSource
from quoth.text.tokenizer import Characters
from quoth.train.checkpoint import load_optimizer, load_weights, optimizer_tensors, snapshot, write, write_together
from quoth.train.loop import fit
from quoth.train.objectives import next_token
from quoth.train.optimizers import OptimizerConfig, make_optimizer
from quoth.train.parallel import full_tensor, replicated, shard

LETTERS = Characters("abcdefghijk")
WINDOWS = 8
PLACES = ("alone", "ddp2", "fsdp2", "fsdp4")


class Uneven(BatchSource):
    """Windows whose targets count more or less or not at all; each rank has its share of them, in microbatches."""

    def __init__(self, world: World, microbatch: int) -> None:
        self.world, self.microbatch = world, microbatch

    def __getitem__(self, step: int) -> list[Batch]:
        rng = torch.Generator().manual_seed(step)
        tokens = torch.randint(11, (WINDOWS, 9), generator=rng)
        weight = torch.rand(WINDOWS, 8, generator=rng, dtype=torch.float64)
        weight[torch.rand(WINDOWS, generator=rng) < 0.3] = 0
        share = WINDOWS // self.world.size
        first = self.world.rank * share
        return [
            Batch(tokens[at : at + self.microbatch, :-1], tokens[at : at + self.microbatch, 1:],
                  weight[at : at + self.microbatch], seed=1000 * step + at)
            for at in range(first, first + share, self.microbatch)
        ]  # fmt: skip


def model(dtype: torch.dtype, dropout: float) -> GPT:
    torch.manual_seed(7)
    shape = dict(vocabulary=11, context=8, layers=2, width=16, heads=2, dropout=dropout)
    return GPT(family("modern", **shape)).to(dtype)


def train(kind: str, world: World, steps: int, **how: Any) -> dict[str, Any]:
    """Losses and norms of some steps, and the weights at their end."""
    dtype, microbatch = how.get("dtype", torch.float64), how.get("microbatch", 2)
    made = model(dtype, how.get("dropout", 0.0))
    if rank := how.get("rank"):
        for p in made.parameters():
            torch.nn.init.normal_(p, std=0.3)  # Behind a head of zeros adapters would have no gradient.
        add_lora(made, rank)
    if kind == "fsdp":
        shard(made, world, "cpu")
    c = OptimizerConfig(optimizer=how.get("optimizer", "muon"))
    optimizer = make_optimizer(made, c, dtype)
    view = replicated(made, world)
    first = 0
    if at := how.get("resume"):
        load_weights(at, made)
        load_optimizer(at, optimizer)
        first = json.loads((at / "state.json").read_text())["step"]
    spoiled = how.get("spoiled", -1)
    batches = Uneven(world, microbatch)

    def objective(module: torch.nn.Module, batch: Batch) -> torch.Tensor:
        loss = next_token(module, batch)
        return loss * float("nan") if world.rank == world.size - 1 and batch.seed // 1000 == spoiled else loss

    told, before = [], []
    for step in fit(view, optimizer, batches, objective, steps=steps, clip=1.0, world=world, first=first):
        told.append((step.loss, step.gradient_norm, step.moved))
        if step.number == spoiled:
            before = [full_tensor(p.detach()).clone() for p in made.parameters()]
        if step.number == spoiled + 1:
            same = [torch.equal(full_tensor(p.detach()), b) for p, b in zip(made.parameters(), before, strict=True)]
    content = snapshot(made, LETTERS, {"step": steps}, None if rank else optimizer)
    if (out := how.get("save")) and world.leads:
        write(out, content)
    if (out := how.get("save")) and kind == "fsdp":
        write_together(out.with_name(f"{out.name}-shards"), made, LETTERS, {"step": steps}, optimizer, world)
    state = {name: full_tensor(t).double().sum().item() for name, t in optimizer_tensors(optimizer).items()}
    weights = {name: tensor.tolist() for name, tensor in content.tensors["model.safetensors"].items()}
    return {"told": told, "weights": weights, "state": state, "unchanged": spoiled >= 0 and all(same)}


def main(out: Path, kind: str, steps: int) -> None:
    torch.set_num_threads(1)
    with joined() as world:
        results = {
            "muon": train(kind, world, steps, save=out / "muon"),
            "adamw": train(kind, world, steps, optimizer="adamw", save=out / "adamw"),
            "float32": train(kind, world, 10, dtype=torch.float32, microbatch=4, dropout=0.2, save=out / "float32"),
            "spoiled": train(kind, world, 6, spoiled=4),
        }
        if kind != "fsdp":
            results["adapters"] = train(kind, world, steps, optimizer="adamw", rank=2)
        saved = {f"{place} {name}": out.parent / place / name for place in PLACES for name in ("muon", "adamw")}
        saved |= {f"{name} shards": path.with_name(f"{path.name}-shards") for name, path in saved.items()}
        for name, path in saved.items():
            if path.exists():
                results[name] = train(kind, world, steps + 5, optimizer=name.split()[1], resume=path)
        if world.leads:
            (out / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
