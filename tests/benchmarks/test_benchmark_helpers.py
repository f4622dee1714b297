import doctest
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from benchmarks import common, dial, nanogpt, process, training, voice
from benchmarks.__main__ import BENCHMARKS, main

from quoth.system.errors import InputError
from quoth.tune.read import read_conversations

METRICS = [
    {"step": 0, "seconds": 2.0, "tokens": 0, "validation_loss": 4.2},
    {"step": 10, "seconds": 3.0, "tokens": 1000, "loss": 3.0},
    {"step": 20, "seconds": 4.0, "tokens": 2000, "loss": 1.0},
    {"step": 20, "seconds": 5.0, "tokens": 2000, "validation_loss": 2.0},
    {"step": 25, "seconds": 5.5, "note": "Overfitting."},
    {"step": 30, "seconds": 6.0, "tokens": 3000, "loss": 1.0},
    {"step": 30, "seconds": 7.0, "tokens": 3000, "validation_loss": 1.5},
]


@pytest.mark.parametrize("module", [common, nanogpt, training], ids=lambda module: module.__name__)
def test_examples_in_docstrings_hold(module):
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted > 0


def test_spread_tells_median_and_range_and_what_never_happened():
    assert common.spread([10.0, 30.0, 20.0]) == "20.0 (10.0 to 30.0)"
    assert common.spread([1234.5], 0) == "1,234"
    assert common.spread([None, None]) == "never"
    assert common.spread([2.0, None, 4.0]) == "3.0 (2 of 3)"


def test_ratio_without_a_divisor_is_a_dash():
    assert common.ratio(3, 0) == common.ratio(None, 2) == "-"
    assert common.ratio(1.4505, 1.45, 4) == "1.0003x"


def test_table_is_markdown_with_the_first_column_to_the_left():
    table = common.Table("Speed", ["", "a", "b"], [["x", "1", "2"]])
    assert table.markdown() == "**Speed**\n\n|  | a | b |\n| :-- | --: | --: |\n| x | 1 | 2 |"


@pytest.mark.parametrize(("load", "warns"), [(0.1, False), (0.31, True)])
def test_report_warns_of_a_busy_machine_and_hides_folders(load, warns):
    facts = {"cpu": "A CPU", "cores": 2, "torch": "2", "python": "3", "commit": "abc", "load_before": load}
    report = common.Report([common.Table("", ["", "s"], [["x", "1"]])], {}, ["as it is"])
    text = common.text_of(report, ["laptop", "--json", os.path.abspath("secret/out.json")], facts)
    assert ("Warning" in text) == warns
    assert "secret" not in text and "`python -m benchmarks laptop --json .../out.json`" in text
    assert "A CPU, 2 cores, torch 2" in text and text.endswith("- as it is")


def test_records_go_on_after_a_line_that_was_cut_short(tmp_path):
    path = tmp_path / "inner" / "results.jsonl"
    common.Records(path).add("a", {"loss": 1.5})
    with path.open("a") as file:
        file.write('{"key": "b", "lo')
    records = common.Records(path)
    assert records.get("a") == {"key": "a", "loss": 1.5} and records.get("b") is None
    records.add("b", {"loss": 2.0})
    records.add("a", {"loss": 1.25})
    again = common.Records(path)
    assert (again.get("a"), again.get("b")) == ({"key": "a", "loss": 1.25}, {"key": "b", "loss": 2.0})


def test_first_evaluation_at_the_target_counts_and_training_losses_do_not():
    assert training.first_at(METRICS, 2.0) == 5.0
    assert training.first_at(METRICS, 1.99) == 7.0
    assert training.first_at(METRICS, 1.0) is None


def test_time_to_a_target_includes_what_the_command_took_outside_of_its_own_count():
    finished = process.Finished(8.5, 8.0, 100.0, 100.0, "")
    settings = {"layers": 4, "width": 128, "context": 64, "batch": 12, "accumulate": 2}
    environment = {"device": "cpu", "dtype": "float32", "threads": 2, "compile": True}
    result = training.Training({"seconds": 8.0}, METRICS, settings, environment, finished)
    assert result.hardware == "cpu, float32, 2 thread(s), compiled"
    assert result.seconds_to(2.0) == 5.5
    assert result.seconds_to(0.5) is None
    assert result.shape == "4x128x64x24"


def test_steady_rate_leaves_out_the_steps_before():
    assert training.steady_rate(METRICS, 20) == 500.0
    with pytest.raises(InputError, match="after step 30"):
        training.steady_rate(METRICS, 30)


def test_rate_of_a_nanogpt_log_leaves_out_the_first_iterations():
    log = "".join(f"iter {i}: loss 3.1, time {ms}ms, mfu 0.01%\n" for i, ms in enumerate((900.0, 10.0, 30.0)))
    assert nanogpt.rate_of("step 0: train loss 4.1, val loss 4.2\n" + log, 1) == pytest.approx(768 / 0.02)
    with pytest.raises(InputError, match="no iteration"):
        nanogpt.rate_of(log, 3)


def test_a_folder_without_nanogpt_is_refused(tmp_path):
    with pytest.raises(InputError, match="no checkout of nanoGPT"), nanogpt.copied(tmp_path):
        pass


def test_shapes_are_read_from_lines():
    assert dial.read_shapes("# wide\n2x64x32x8\n\n4x192x128x16  # ours\n") == ["2x64x32x8", "4x192x128x16"]
    with pytest.raises(InputError, match="layers x width"):
        dial.read_shapes("4x192")


def test_the_grid_has_enough_shapes_that_can_be():
    assert len(set(dial.SHAPES)) >= 8
    assert all(dial.read_shapes(shape) == [shape] for shape in dial.SHAPES)


def test_holdout_is_the_first_nine_tenths_of_the_characters(tmp_path):
    source = tmp_path / "source.txt"
    source.write_text("é\r\n" * 100, encoding="utf-8", newline="")
    (tmp_path / "made").mkdir()
    path = Path(dial.held_out(str(source), tmp_path / "made"))
    assert path.read_bytes().decode() == "é\r\n" * 90


def test_the_dials_ratio_is_of_the_best_of_the_grid():
    def result(loss):
        return {"loss": loss, "shape": "4x192x128x16", "parameters": 1000, "seconds": 60.0}

    known = {"dial": result(1.515), "2x64x32x8": result(1.8), "6x256x128x16": result(1.5)}
    assert dial._against(known) == ["4x192x128x16", "1,000", "1.5150", "60", "6x256x128x16", "1.5000", "1.0100x"]
    assert dial._against({}) == ["-"] * 7


def test_a_command_is_timed_and_weighed(tmp_path):
    code = "import time; x = b'x' * 60_000_000; time.sleep(0.2); print('done')"
    finished = process.run([sys.executable, "-c", code], cwd=tmp_path)
    assert finished.output == "done\n" and finished.seconds >= 0.2
    assert 60 < finished.peak_mb <= finished.tree_mb


def test_a_command_that_fails_says_what_it_said():
    with pytest.raises(InputError, match=r"failed with 3:\nno good"):
        process.run([sys.executable, "-c", "import sys; print('no good', file=sys.stderr); sys.exit(3)"])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc")
def test_memory_of_a_tree_counts_its_children():
    code = "import sys; x = b'x' * 50_000_000; print(flush=True); sys.stdin.read()"
    alone = process.tree_bytes(os.getpid())
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert process.tree_bytes(os.getpid()) - alone > 40_000_000
        child.communicate()


def test_list_and_unknown_names(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in BENCHMARKS)
    assert main(["latop"]) == 2
    assert "did you mean 'laptop'" in capsys.readouterr().err


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert import_module(f"benchmarks.{name}").__doc__ and "--json" in capsys.readouterr().out


def test_numbers_go_to_a_file_too(tmp_path, capsys):
    file = tmp_path / "help.json"
    assert main(["help", "--repeats", "2", "--json", str(file)]) == 0
    values = json.loads(file.read_text())
    assert len(values["milliseconds"]["quoth --help"]) == 2
    assert values["benchmark"] == "help" and values["torch_imported"] is False and "torch" in values["machine"]
    assert "quoth --help" in capsys.readouterr().out


def test_the_harness_does_not_import_torch():
    names = ", ".join(f"benchmarks.{name}" for name in ("__main__", *BENCHMARKS))
    command = [sys.executable, "-c", f"import sys, {names}; sys.exit('torch' in sys.modules)"]
    assert subprocess.run(command, cwd=common.ROOT, check=False).returncode == 0


def test_the_made_chat_is_read_as_one_and_its_voice_is_known(tmp_path):
    pairs, new = voice.chat()
    (tmp_path / "chat.txt").write_text(voice.export(pairs))
    found = read_conversations(str(tmp_path / "chat.txt"), "Ann")
    turns = [message for one in found for message in one.messages]
    assert [message["content"] for message in turns] == [text for pair in pairs for text in pair]
    assert {message["role"] for message in turns[1::2]} == {"assistant"}
    assert not {asked for asked, _ in pairs} & set(new)
    hers, others = [said for _, said in pairs], [asked for asked, _ in pairs]
    heard = voice.Classifier(hers[:200], others[:200])
    assert all(heard.score(a) > heard.score(b) for a, b in zip(hers[200:], others[200:], strict=True))
