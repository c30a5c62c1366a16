"""Steps of a study: each is run once, and what was interrupted goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.study_steps import Step, StepRunner, StudyError, read_records

REPOSITORY = Path(__file__).parents[2]
# Counts its starts, and ends well.
COUNT = "from pathlib import Path; p = Path({path!r}); p.open('a').write('x')"
# Begins anew, or where a signal stopped it; leaves a state when stopped.
INTERRUPTIBLE = """
import sys, time
from pathlib import Path
out, state = Path(sys.argv[1]), Path(sys.argv[2])
assert ("--resume" in sys.argv) == state.exists()
if not state.exists():
    try:
        print("begun", flush=True)
        out.with_name("begun").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        state.touch()
        sys.exit(1)
out.write_text("done")
"""
# What a study that the tests can kill runs: the words of its steps come as JSON.
STUDY = """
import json, sys
from pathlib import Path
from benchmarks import study_steps
from benchmarks.study_steps import Step, StepRunner, StudyError
study_steps.describe_hardware = lambda: "torch takes long to import"
out, state, script = (Path(name) for name in sys.argv[1:])
words = ("-c", script.read_text(), str(out), str(state))
step = Step(name="train", words=words, outputs=(out,), state=state)
try:
    StepRunner(out.parent, count=1).run_all([step])
except StudyError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def counting(path: Path, name: str = "count", words: tuple[str, ...] = ()) -> Step:
    code = COUNT.format(path=str(path))
    return Step(name=name, words=("-c", code, *words), outputs=(path,))


def run(folder: Path, *steps: Step) -> None:
    StepRunner(folder, count=len(steps)).run_all(steps)


def test_a_step_that_is_done_is_not_run_again(tmp_path, capsys):
    for _ in range(2):
        run(tmp_path, counting(tmp_path / "a"))
    assert (tmp_path / "a").read_text() == "x"
    assert "[1/1] count: done already" in capsys.readouterr().out
    record = read_records(tmp_path)["count"]
    assert record["rc"] == 0
    assert record["attempts"] == 1
    assert record["seconds"] > 0
    assert "torch" in record["hardware"]


def test_a_step_whose_output_is_gone_is_run_again(tmp_path):
    run(tmp_path, counting(tmp_path / "a"))
    (tmp_path / "a").unlink()
    run(tmp_path, counting(tmp_path / "a"))
    assert (tmp_path / "a").exists()
    assert read_records(tmp_path)["count"]["attempts"] == 2


def test_a_step_without_outputs_is_run_each_time(tmp_path):
    step = Step(name="page", words=("-c", COUNT.format(path=str(tmp_path / "a"))))
    for _ in range(2):
        run(tmp_path, step)
    assert (tmp_path / "a").read_text() == "xx"


def test_a_step_done_by_another_command_is_refused_and_both_are_shown(tmp_path):
    run(tmp_path, counting(tmp_path / "a", words=("--epochs", "1")))
    with pytest.raises(
        StudyError, match=r"another command:\n.*epochs 1\nnow asked for:\n.*epochs 2"
    ):
        run(tmp_path, counting(tmp_path / "a", words=("--epochs", "2")))
    assert (tmp_path / "a").read_text() == "x"


def test_a_failed_step_stops_the_study_and_says_where_its_log_is(tmp_path):
    code = "import sys; print('\\n'.join(map(str, range(99)))); sys.exit('no cells')"
    with pytest.raises(StudyError, match="step bad failed with exit code 1") as error:
        run(tmp_path, Step(name="bad", words=("-c", code)), counting(tmp_path / "a"))
    assert "no cells" in str(error.value)
    assert "  12\n" not in str(error.value)
    assert str(tmp_path / "logs" / "bad.log") in str(error.value)
    assert not (tmp_path / "a").exists()
    assert read_records(tmp_path)["bad"]["rc"] == 1


def test_a_step_that_leaves_no_output_has_failed(tmp_path):
    step = Step(name="idle", words=("-c", "pass"), outputs=(tmp_path / "a",))
    for _ in range(2):
        with pytest.raises(StudyError, match=r"step idle ended without .*a; see"):
            run(tmp_path, step)


def start_study(folder: Path) -> subprocess.Popen[str]:
    (folder / "script.py").write_text(INTERRUPTIBLE)
    words = [str(folder / name) for name in ("out", "state", "script.py")]
    return subprocess.Popen(
        [sys.executable, "-c", STUDY, *words],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(study: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a study; return its exit code and what it said of failures."""
    _, said = study.communicate(timeout=90)
    return study.returncode, said


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_step_save_its_state_and_the_same_command_goes_on(tmp_path, number):
    study = start_study(tmp_path)
    wait_for(tmp_path / "begun")
    study.send_signal(number)
    _, said = end_of(study)
    assert "StudyStopped: stopped in step train; the same command continues" in said
    assert (tmp_path / "state").exists()
    first = read_records(tmp_path)["train"]
    assert end_of(start_study(tmp_path)) == (0, "")
    assert (tmp_path / "out").read_text() == "done"
    record = read_records(tmp_path)["train"]
    assert record["attempts"] == 2
    assert record["seconds"] > first["seconds"]
    assert (tmp_path / "logs" / "train.log").read_text().count("/state --resume\n") == 1


def test_the_step_of_a_killed_study_keeps_a_second_study_out_until_it_ends(tmp_path):
    study = start_study(tmp_path)
    wait_for(tmp_path / "begun")
    study.kill()
    end_of(study)
    code, said = end_of(start_study(tmp_path))
    assert code == 1
    assert "another study runs in" in said
    (child,) = children_in(tmp_path)
    os.kill(child, signal.SIGKILL)
    while children_in(tmp_path):
        time.sleep(0.02)
    (tmp_path / "state").touch()
    assert end_of(start_study(tmp_path)) == (0, "")
    assert json.loads((tmp_path / "steps.json").read_text())["train"]["attempts"] == 2


def children_in(folder: Path) -> list[int]:
    """Find the processes that were given paths in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder / "out").encode() in words:
            found.append(int(process.name))
    return found
