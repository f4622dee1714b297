import subprocess
import sys
from pathlib import Path

import pytest
import torch

from quoth.system import device
from quoth.system.device import choose, environment, fastest, matmul_flops
from quoth.system.errors import InputError


@pytest.fixture(autouse=True)
def same_threads_after():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_what_is_asked_for_is_chosen():
    hardware = choose("cpu", "float32", threads=1, compile=False)
    assert (hardware.device, hardware.dtype, hardware.threads, hardware.compile) == ("cpu", "float32", 1, False)
    assert torch.get_num_threads() == 1
    assert set(hardware.reasons.values()) == {"as was asked"}
    assert hardware.flops > 1e6


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_autocast_takes_the_chosen_type(dtype):
    a = torch.ones(4, 4)
    with choose("cpu", dtype, threads=1, compile=False).autocast():
        assert str((a @ a).dtype) == f"torch.{dtype}"


@pytest.mark.parametrize(("faster", "dtype"), [(1.0, "float32"), (1.4, "float32"), (3.0, "bfloat16")])
def test_bfloat16_has_to_be_clearly_faster(monkeypatch, faster, dtype):
    rates = {torch.float32: 1e9, torch.bfloat16: faster * 1e9}
    monkeypatch.setattr(device, "matmul_flops", lambda place, kind, size, **more: rates[kind])
    hardware = choose("cpu", threads=1, compile=False)
    assert (hardware.dtype, hardware.flops) == (dtype, rates[getattr(torch, dtype)])
    assert set(hardware.reasons) >= {"device", "dtype", "threads", "compile"}


def test_a_neighbour_that_is_busy_for_a_moment_does_not_choose_the_number_type(monkeypatch):
    calls = []

    def disturbed_at_first(place, kind, size, **more):
        calls.append(kind)
        return (3e9 if kind is torch.bfloat16 else 1e9) / (3 if len(calls) < 3 and kind is torch.bfloat16 else 1)

    monkeypatch.setattr(device, "matmul_flops", disturbed_at_first)
    assert choose("cpu", threads=1, compile=False).dtype == "bfloat16"
    assert calls[:4] == [*device.DTYPES.values()] * 2  # In turn, so that whatever is slow is slow for both.


def test_one_trial_of_float32_that_a_busy_neighbour_spared_does_not_choose_it(monkeypatch):
    calls = []

    def spared_once(place, kind, size, **more):
        calls.append(kind)
        return 1.2e9 if kind is torch.bfloat16 else 1e9 if len(calls) == 4 else 0.5e9

    monkeypatch.setattr(device, "matmul_flops", spared_once)
    assert choose("cpu", threads=1, compile=False).dtype == "bfloat16"


def test_what_is_not_here_is_refused():
    with pytest.raises(InputError, match=r"^The device 'tpu' is not on this machine; there is .*cpu\.$"):
        choose("tpu")
    with pytest.raises(InputError, match=r"^dtype must be auto, bfloat16 or float32, not 'float8'\.$"):
        choose("cpu", "float8")


def test_the_fastest_try_counts(monkeypatch):
    clock = iter(range(0, 10_000, 7))
    monkeypatch.setattr(device.time, "perf_counter", lambda: next(clock))
    assert fastest(lambda: None, "cpu", seconds=50) == 7
    monkeypatch.undo()
    assert matmul_flops("cpu", torch.float32, 16, seconds=0.001) > 0


def test_without_a_compiler_there_is_no_compiling(monkeypatch):
    device.can_compile.cache_clear()
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(device.shutil, "which", lambda name: None)
    possible, reason = device.can_compile("cpu")
    device.can_compile.cache_clear()
    assert not possible
    assert "no C++ compiler" in reason


def test_the_environment_names_versions():
    facts = environment()
    assert facts["torch"] == torch.__version__
    assert facts["quoth"]
    assert facts["cpu"]


def test_numbers_too_small_for_the_usual_format_are_zero_on_every_thread():
    script = (
        "import torch; from quoth.system.device import choose; choose('cpu', 'float32', 2);"
        "print(torch.full((10**6,), 1e-30).mul(1e-12).count_nonzero().item())"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout == "0\n"


@pytest.mark.parametrize("named", ["{}", "ccache {}", "ccache {} -m64"])
def test_a_compiler_may_be_named_with_what_stands_around_it(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "g++-mine"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", named.format(compiler))
    assert device.cpp_compiler() == str(compiler)
    monkeypatch.setenv("CXX", "")
    monkeypatch.setenv("PATH", "")
    assert device.cpp_compiler() is None
