"""`quoth completion`: a script that completes commands, flags and values, for bash, zsh or fish."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import tyro

from quoth.cli.arguments import Argument, declared, parse
from quoth.cli.dispatch import COMMANDS, arguments_of
from quoth.cli.output import print_json

# Arguments whose values the shell looks up: files, folders, runs, and data, which is a file or a named corpus.
LOOKED_UP = {
    **dict.fromkeys(("run", "runs", "resume", "init", "against", "teacher", "reward", "true_reward"), "run"),
    "config": "file",
    "path": "file",
    "out": "folder",
    "data": "data",
}


@dataclass
class Arguments:
    """Print a script with which a shell completes quoth's commands, flags and values.

    bash: add `source <(quoth completion bash)` to ~/.bashrc. zsh: save it as _quoth in a folder of $fpath.
    fish: save it as ~/.config/fish/completions/quoth.fish.

    Attributes:
        shell: the shell that the script is for: bash, zsh or fish.
        json: print the script as one JSON object on stdout.
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    json: bool = False


@dataclass(frozen=True)
class Place:
    """An argument to complete, with its choices or the kind of thing to look up, and a line on what it means."""

    argument: Argument
    choices: tuple[str, ...]
    lookup: str
    about: str

    @property
    def takes_value(self) -> bool:
        return self.argument.kind is not bool


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "completion")
    commands = {name: places(arguments_of(name)) for name in COMMANDS}
    script = {"bash": bash, "zsh": zsh, "fish": fish}[a.shell](commands)
    if a.json:
        print_json({"shell": a.shell, "script": script})
    else:
        sys.stdout.write(script)


def places(kind: type) -> list[Place]:
    """Every argument of a command, as a shell can complete it."""
    from quoth.ladder.topics import RUNGS, TOPICS
    from quoth.model.config import FAMILIES
    from quoth.recipes.presets import PRESETS

    known = {
        "preset": tuple(PRESETS),
        "family": tuple(FAMILIES),
        "device": ("auto", "cpu", "cuda", "mps"),
        "topic": tuple(TOPICS),
        "rung": RUNGS,
        "tokenizer": ("characters", "bytes", "bpe:1024", "gpt2"),
    }
    about = dict(re.findall(r"^ {4,8}(\w+): (.+)$", kind.__doc__ or "", re.MULTILINE))
    return [
        Place(a, a.choices or known.get(a.name, ()), LOOKED_UP.get(a.name, ""), about.get(a.name, "").rstrip("."))
        for a in declared(kind)
    ]


def corpora() -> str:
    """The names of the corpora that quoth knows, with spaces between them."""
    from quoth.text.sources import SOURCES

    return " ".join(SOURCES)


BASH = r"""# quoth's completion for bash: source <(quoth completion bash)
_quoth() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words= look= IFS=$' \t\n'
    COMPREPLY=()
    # bash takes the = of --flag=value for a word.
    if [[ $word == = ]]; then
        word=
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD-2]}
    fi
    if ((COMP_CWORD == 1)); then
        words="@COMMANDS@ --help --version"
    else
        case ${COMP_WORDS[1]}:$before in
@VALUES@
            *)
                case ${COMP_WORDS[1]}:$word in
@FLAGS@
@POSITIONALS@
                esac ;;
        esac
    fi
    case $look in
        data) words="@CORPORA@"; look=file ;;
        run) words="latest $(for run in runs/*/; do [[ -d $run ]] && basename "$run"; done)"; look=folder ;;
    esac
    IFS=$'\n'
    case $look in
        file) COMPREPLY=($(compgen -f -- "$word")) ;;
        folder) COMPREPLY=($(compgen -d -- "$word")) ;;
    esac
    IFS=$' \t\n'
    COMPREPLY+=($(compgen -W "$words" -- "$word"))
}
complete -o filenames -F _quoth quoth
"""


def bash(commands: dict[str, list[Place]]) -> str:
    """The script for bash 3.2 and later."""
    values: dict[str, list[str]] = {}
    flags, positionals = [], []
    for name, all_places in commands.items():
        named = [p for p in all_places if not p.argument.positional]
        flags.append(f'{name}:-*) words="{" ".join([*(p.argument.flag for p in named), "--help"])}" ;;')
        positionals += [f"{name}:*) {_bash_value(p)} ;;" for p in all_places if p.argument.positional]
        for place in named:
            if place.takes_value:
                values.setdefault(_bash_value(place), []).append(f"{name}:{place.argument.flag}")
    cases = [f"{' | '.join(where)}) {value} ;;" for value, where in values.items()]
    script = BASH
    for mark, rows, indent in (("VALUES", cases, 12), ("FLAGS", flags, 20), ("POSITIONALS", positionals, 20)):
        script = script.replace(f"@{mark}@", "\n".join(" " * indent + row for row in rows))
    return script.replace("@CORPORA@", corpora()).replace("@COMMANDS@", " ".join(commands))


def _bash_value(place: Place) -> str:
    return f"look={place.lookup}" if place.lookup else f'words="{" ".join(place.choices)}"'


ZSH = r"""#compdef quoth
# quoth's completion for zsh: save it as _quoth in a folder of $fpath.
_quoth_data() {
    _alternative 'corpora:corpus:(@CORPORA@)' 'files:file:_files'
}
_quoth_run() {
    local -a runs
    runs=(latest runs/*(N/:t))
    _alternative "runs:run:($runs)" 'folders:folder:_files -/'
}
_quoth() {
    local context state state_descr line
    local -a commands
    typeset -A opt_args
    commands=(
@COMMANDS@
    )
    _arguments -C '1:command:->command' '*::argument:->arguments'
    case $state in
        command) _describe command commands ;;
        arguments)
            case $line[1] in
@CASES@
            esac ;;
    esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _quoth "$@"
else
    compdef _quoth quoth
fi
"""


def zsh(commands: dict[str, list[Place]]) -> str:
    """The script for zsh."""
    cases = []
    for name, all_places in commands.items():
        specs = " \\\n".join(f"{'':20}{_zsh_spec(p)}" for p in all_places)
        cases.append(f"{'':16}{name}) _arguments '(- *)--help[show the options]' \\\n{specs} ;;")
    names = "\n".join(f"{'':8}{_quoted(name + ':' + _colons(about))}" for name, about in COMMANDS.items())
    return ZSH.replace("@CASES@", "\n".join(cases)).replace("@COMMANDS@", names).replace("@CORPORA@", corpora())


def _zsh_spec(place: Place) -> str:
    about = re.sub(r"([\[\]\\:])", r"\\\1", place.about)
    action = {
        "file": "_files",
        "folder": "_files -/",
        "run": "_quoth_run",
        "data": "_quoth_data",
        "": f"({' '.join(map(_colons, place.choices))})" if place.choices else " ",
    }[place.lookup]
    name = place.argument.name.replace("_", "-")
    if place.argument.positional:
        return _quoted(f"1:{name}:{action}")
    value = f":{name}:{action}" if place.takes_value else ""
    return _quoted(f"{place.argument.flag}{'=' if place.takes_value else ''}[{about}]{value}")


def _colons(text: str) -> str:
    return text.replace(":", "\\:")


def _quoted(text: str) -> str:
    """The text in single quotes, as bash and zsh read it. fish wants backslashes doubled besides."""
    return "'" + text.replace("'", "'\\''") + "'"


FISH = r"""# quoth's completion for fish: save it as ~/.config/fish/completions/quoth.fish.
function __quoth_runs
    echo latest
    for run in runs/*/
        basename $run
    end
end
complete -c quoth -f
"""


def fish(commands: dict[str, list[Place]]) -> str:
    """The script for fish."""
    return FISH + "".join(f"complete -c quoth {line}\n" for line in _fish_lines(commands))


def _fish_lines(commands: dict[str, list[Place]]) -> Iterator[str]:
    for name, about in COMMANDS.items():
        yield f"-n __fish_use_subcommand -a {name} -d {_fish_quoted(about)}"
    for name, all_places in commands.items():
        here = f"-n '__fish_seen_subcommand_from {name}'"
        for place in all_places:
            words = {"run": "(__quoth_runs)", "data": corpora()}.get(place.lookup, " ".join(place.choices))
            files = " -F" if place.lookup else ""
            candidates = f" -a '{words}'" if words else ""
            if place.argument.positional:
                yield f"{here}{files}{candidates}"
            else:
                value = f" -r{files or ' -f'}{candidates}" if place.takes_value else ""
                yield f"{here} -l {place.argument.flag[2:]}{value} -d {_fish_quoted(place.about)}"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
