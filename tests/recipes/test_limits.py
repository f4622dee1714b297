"""What a step is thought to hold, against what steps were seen to hold; and what is said where that is too much."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from quoth.model.config import GPTConfig, family
from quoth.model.gpt import GPT
from quoth.plan.footprint import largest_batch, parameters
from quoth.plan.footprint import memory as step_memory
from quoth.recipes import limits
from quoth.recipes.recipe import make, settings
from quoth.system.device import Hardware
from quoth.system.errors import InputError
from quoth.system.memory import left_in_container

MEASURE = """
import sys, torch
from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.text.batches import Batch
from quoth.train.loop import train_step
from quoth.train.objectives import next_token
from quoth.train.optimizers import make_optimizer
from quoth.system.device import keep_freed_memory
from quoth.system.world import World

def peak(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

def steps(batch, **shape):
    model = GPT(family("modern", **shape))
    optimizer = make_optimizer(model)
    x = torch.randint(shape["vocabulary"], (batch, shape["context"]))
    for _ in range(2):
        train_step(model, optimizer, [Batch(x, x)], next_token, World())

torch.set_num_threads(1)
keep_freed_memory()
steps(1, vocabulary=11, context=8, layers=1, width=32)
before = peak("VmRSS")
steps({batch}, vocabulary={vocabulary}, context={context}, layers={layers}, width={width})
print(peak("VmHWM") - before)
"""
SHAPES = [
    dict(batch=48, vocabulary=65, context=64, layers=4, width=128),
    dict(batch=8, vocabulary=65, context=256, layers=3, width=128),
    dict(batch=24, vocabulary=6000, context=64, layers=1, width=64),
]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells how much a process held")
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_near_what_was_measured(shape: dict[str, int]) -> None:
    code = MEASURE
    for name, value in shape.items():
        code = code.replace(f"{{{name}}}", str(value))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    batch = shape["batch"]
    config = family("modern", **{name: value for name, value in shape.items() if name != "batch"})
    assert step_memory(config, batch, dtype_bytes=4, written_out=True).peak == pytest.approx(int(done.stdout), rel=0.3)


CONFIGS = [
    family("modern", vocabulary=65, width=64, layers=2, context=128),
    family("gpt2", vocabulary=50257, width=64, heads=2, layers=2, context=128),
    family("lecture", vocabulary=65, width=60, heads=3, layers=2, context=128),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.family)
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("dtype_bytes", [2, 4])
@pytest.mark.parametrize("compiled", [True, False])
def test_the_largest_batch_fits_and_one_more_does_not(
    config: GPTConfig, optimizer: str, dtype_bytes: int, compiled: bool
) -> None:
    how = {"dtype_bytes": dtype_bytes, "written_out": True, "optimizer": optimizer, "compiled": compiled}
    for available in (0, 10**7, 10**8, 10**9 + 7):
        batch = largest_batch(config, available, **how)
        need = [step_memory(config, b, **how).peak for b in (batch, batch + 1)]
        assert need[1] > available
        assert batch == 0 or need[0] <= available


def test_what_takes_more() -> None:
    how = {"dtype_bytes": 4, "written_out": True}
    base = step_memory(CONFIGS[0], 64, **how).peak
    assert step_memory(CONFIGS[0], 64, dtype_bytes=4, written_out=False).peak < base
    assert step_memory(CONFIGS[0], 64, dtype_bytes=2, written_out=True).peak < base
    assert step_memory(CONFIGS[0], 64, **how, compiled=True).peak < base
    assert step_memory(CONFIGS[0].replace(layers=3), 64, **how).peak > base
    assert step_memory(CONFIGS[0], 63, **how).peak < base
    large = CONFIGS[1].replace(layers=12, width=768)
    assert step_memory(large, 1, shards=8).gradients < step_memory(large, 1).gradients / 7
    # What is outside of blocks is gathered all the time.
    assert step_memory(large, 1, shards=8).weights < step_memory(large, 1).weights / 2


def test_parameters() -> None:
    for config in CONFIGS:
        assert parameters(config) == GPT(config).parameters_count


CPU = Hardware("cpu", "float32", 1, False, 1e9, {})


def test_a_step_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make(settings("laptop", None, {"width": 64, "layers": 2, "batch": 64, "accumulate": 2}), 65)
    monkeypatch.setattr(limits, "available_bytes", lambda device: 100_000_000)
    with pytest.raises(
        InputError, match=r"batch 64 needs about \d.* but 100 MB are free: --batch \d+ would fit"
    ) as said:
        limits.check_memory(recipe, CPU)
    batch = int(str(said.value).partition("free: --batch ")[2].partition(" ")[0])
    assert f"--accumulate {-(-128 // batch)}" in str(said.value)
    smaller = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, batch=batch))
    limits.check_memory(smaller, CPU)
    monkeypatch.setattr(limits, "available_bytes", lambda device: 1_000_000)
    with pytest.raises(InputError, match="not even a batch of 1 fits"):
        limits.check_memory(smaller, CPU)
    monkeypatch.setattr(limits, "available_bytes", lambda device: None)
    limits.check_memory(recipe, CPU)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 64 bytes."),
        MemoryError(),
    ],
)
def test_running_out_is_a_sentence(error: Exception) -> None:
    recipe = make(settings("laptop", None, {"batch": 64}), 65)
    message = r"Memory ran out with batch 64 .* --batch 32 with --accumulate 2"
    with pytest.raises(InputError, match=message), limits.memory_refusals(recipe):
        raise error


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), limits.memory_refusals(make(settings("laptop"), 65)):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_a_real_allocation_that_fails() -> None:
    with pytest.raises(InputError, match="Memory ran out"), limits.memory_refusals(make(settings("laptop"), 65)):
        torch.empty(2**55)


def test_a_containers_limit(tmp_path: Path) -> None:
    assert left_in_container(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("300\n")
    (tmp_path / "memory.stat").write_text("anon 200\ninactive_file 70\n")
    assert left_in_container(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert left_in_container(tmp_path) == 770
    old = tmp_path / "old"
    (old / "memory").mkdir(parents=True)
    (old / "memory/memory.limit_in_bytes").write_text("1000")
    (old / "memory/memory.usage_in_bytes").write_text("300")
    (old / "memory/memory.stat").write_text("cache 5\n")
    assert left_in_container(old) == 700
    (old / "memory/memory.limit_in_bytes").write_text(str(2**63 - 4096))
    assert left_in_container(old) is None
