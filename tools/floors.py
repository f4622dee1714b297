"""Try quoth with the lowest versions that pyproject.toml allows, but for torch, which is that of constraints.txt.

They are installed into a virtual environment of their own, where a run is then trained, sampled, served and exported.

Usage: python tools/floors.py VENV [OPTIONS FOR INSTALLING TORCH...]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("shakespeare", "gpt2", "serve", "gguf", "documents")
TESTS = [
    "tests/cli/test_commands.py::test_train_as_json",
    "tests/cli/test_commands.py::test_sample",
    "tests/cli/test_commands.py::test_every_command_has_help_and_takes_json",
    "tests/cli/test_serve.py::test_it_listens_answers_and_ends",
    "tests/cli/test_export.py::test_out_and_back",
    "tests/cli/test_data.py",
    "tests/text/test_template.py",
    "tests/text/test_formats.py",
]
NEEDED_BY_TESTS = ("httpx", "hypothesis", "pytest")


def floors(project: dict[str, object]) -> Iterator[str]:
    """Each requirement at its lowest version.

    >>> list(floors({"dependencies": ["numpy>=1.26", "torch>=2.10"], "optional-dependencies": {}}))
    ['numpy==1.26']
    """
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *(one for name in EXTRAS for one in extras.get(name, []))]:
        if not requirement.startswith("torch"):
            yield re.sub(">=", "==", requirement)


def main(folder: str, *torch_options: str) -> int:
    python = Path(folder, "Scripts" if os.name == "nt" else "bin", "python").absolute()
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    subprocess.run([*pip, *torch_options, "torch"], check=True)
    subprocess.run([*pip, *floors(project), *NEEDED_BY_TESTS], check=True)
    subprocess.run([*pip, "--no-deps", "-e", ROOT], check=True)
    subprocess.run([python, "-m", "pip", "check"], check=True)
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    return subprocess.run([python, "-m", "pytest", "-q", *TESTS], cwd=ROOT, env=alone, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
