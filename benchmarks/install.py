"""From a clone to the first sample: `make demo` in a temporary folder, with an empty home."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import ROOT, Report, Table, commit, say
from benchmarks.process import run as run_command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pip-cache", type=Path, help="pip's cache of wheels; the user's own when left out")
    parser.add_argument("--no-pip-cache", action="store_true", help="download everything")
    parser.add_argument("--pip-config", type=Path, help="a pip.conf, since the home is empty")
    parser.add_argument(
        "--make",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="for make, such as PYTHON=python3.12 or TORCH_OPTIONS=...",
    )


def run(options: argparse.Namespace) -> Report:
    cache = None if options.no_pip_cache else options.pip_cache or own_pip_cache()
    with tempfile.TemporaryDirectory() as folder:
        home, clone = Path(folder) / "home", Path(folder) / "quoth"
        home.mkdir()
        began = time.time()
        run_command(["git", "clone", "--quiet", str(ROOT), str(clone)])
        env = {"HOME": str(home), "TORCHINDUCTOR_CACHE_DIR": str(home / "inductor"), "QUOTH_CACHE": str(home / "quoth")}
        env["PIP_CACHE_DIR"] = str(cache or home / "pip")
        if options.pip_config:
            env["PIP_CONFIG_FILE"] = str(options.pip_config.resolve())
        say("make demo")
        finished = run_command(["make", "demo", *options.make], cwd=clone, env=env)
        end = time.time()
        samples = [path.stat().st_mtime for path in clone.glob("runs/*/samples/*")]
        moments = {
            "installed": (clone / ".venv/installed").stat().st_mtime - began,
            "first sample, of the run's first evaluation": min(samples, default=end) - began,
            "`make demo` done, with samples of the finished model": end - began,
        }
    table = Table("", ["", "seconds from `git clone` on"], [[name, f"{s:.1f}"] for name, s in moments.items()])
    wheels = "nothing in pip's cache" if cache is None else "what pip had in its cache, else downloads"
    dirty = " The clone is of that commit; what was changed since is not in it." if commit().endswith("+") else ""
    say(f"it ended with:\n{finished.output[-600:]}")
    return Report([table], {"seconds": moments}, [f"Empty home, {wheels}.{dirty}"])


def own_pip_cache() -> Path | None:
    """Where this Python's pip keeps wheels."""
    asked = subprocess.run([sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=False)
    return Path(asked.stdout.strip()) if asked.returncode == 0 and asked.stdout.strip() else None
