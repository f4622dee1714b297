"""What one process trains, several train together: the same losses, weights and optimizer, replicated or sharded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT
from quoth.train.checkpoint import in_shards, load_optimizer, load_weights, optimizer_tensors
from quoth.train.optimizers import OptimizerConfig, make_optimizer

WORKER = Path(__file__).with_name("parallel_worker.py")
STEPS = 50
Results = dict[str, Any]
pytestmark = pytest.mark.xdist_group("parallel")  # One process runs what all of them look at.


def launch(out: Path, kind: str, processes: int, steps: int = STEPS) -> Results:
    """What a world of so many processes says."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(WORKER), str(out), kind, str(steps)]
    if processes > 1:
        started = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *started, *command[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results: Results = json.loads((out / "results.json").read_text())
    return results


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module")
def alone(place: Path) -> Results:
    return launch(place / "alone", "alone", 1)


@pytest.fixture(scope="module")
def together(place: Path, alone: Results) -> dict[str, Results]:
    worlds = [("ddp", 2), ("ddp", 4), ("fsdp", 2), ("fsdp", 4)]
    return {f"{kind} {size}": launch(place / f"{kind}{size}", kind, size) for kind, size in worlds}


def numbers(results: Results, name: str) -> torch.Tensor:
    return torch.tensor([told[:2] for told in results[name]["told"]], dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "what"),
    [
        *((world, what) for world in ("ddp 2", "ddp 4", "fsdp 2", "fsdp 4") for what in ("muon", "adamw")),
        *((world, "adapters") for world in ("ddp 2", "ddp 4")),
    ],
)
def test_the_loss_does_not_depend_on_how_many_train(
    world: str, what: str, alone: Results, together: dict[str, Results]
) -> None:
    one, many = alone[what], together[world][what]
    assert len(one["told"]) == STEPS
    assert one["told"][0][1] > 0
    torch.testing.assert_close(numbers(together[world], what), numbers(alone, what), rtol=1e-12, atol=0)
    for name, weight in one["weights"].items():
        torch.testing.assert_close(
            torch.tensor(many["weights"][name]), torch.tensor(weight), rtol=0, atol=1e-12, msg=name
        )


@pytest.mark.slow
def test_two_processes_take_the_same_bits_as_one_at_the_same_microbatch(
    place: Path, alone: Results, together: dict[str, Results]
) -> None:
    assert together["ddp 2"]["float32"]["told"] == alone["float32"]["told"]
    for file in ("model.safetensors", "optimizer.safetensors"):
        manifests = [json.loads((place / name / "float32/manifest.json").read_text()) for name in ("alone", "ddp2")]
        assert len({manifest["files"][file] for manifest in manifests}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("world", ["ddp 2", "ddp 4", "fsdp 2", "fsdp 4"])
def test_what_is_not_finite_on_one_rank_moves_none(world: str, together: dict[str, Results]) -> None:
    spoiled = together[world]["spoiled"]
    assert [told[2] for told in spoiled["told"]] == [True, True, True, True, False, True]
    assert spoiled["unchanged"]


@pytest.mark.slow
def test_what_some_have_saved_any_others_go_on_with(place: Path, together: dict[str, Results]) -> None:
    worlds = {**together, "alone": launch(place / "alone", "alone", 1)}  # Once more, with what the others have saved.
    for optimizer in ("muon", "adamw"):
        wanted = numbers(worlds["alone"], f"alone {optimizer}")
        assert len(wanted) == 5
        for results in worlds.values():
            for name in results:
                if name.split()[1:2] == [optimizer]:
                    torch.testing.assert_close(numbers(results, name), wanted, rtol=1e-12, atol=0, msg=name)
    assert {"ddp2 muon", "fsdp2 adamw", "fsdp4 muon shards", "fsdp2 adamw shards"} <= worlds["alone"].keys()
    assert "fsdp2 muon shards" in worlds["fsdp 4"]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("name", ["fsdp2", "fsdp4"])
def test_shards_are_the_bits_of_the_whole(name: str, optimizer: str, place: Path, together: dict[str, Results]) -> None:
    """What each rank wrote its part of, read by one process, against what one process wrote of all parts."""
    whole, shards = place / name / optimizer, place / name / f"{optimizer}-shards"
    assert in_shards(shards)
    models = [GPT(GPTConfig(**json.loads((f / "config.json").read_text()))).double() for f in (whole, shards)]
    kept = []
    for folder, model in zip((whole, shards), models, strict=True):
        made = make_optimizer(model, OptimizerConfig(optimizer=optimizer), torch.float64)  # type: ignore[arg-type]
        load_weights(folder, model)
        load_optimizer(folder, made)
        kept.append({**model.state_dict(), **optimizer_tensors(made)})
    assert kept[0].keys() == kept[1].keys()
    for key, tensor in kept[0].items():
        assert torch.equal(tensor, kept[1][key]), key
