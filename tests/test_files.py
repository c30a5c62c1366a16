"""A file is there completely or not at all."""

import os
import subprocess
import sys

import pytest

from aml_mil.files import write_csv, write_file
from stores import files


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, error):
    path = tmp_path / "page.html"
    write_file(path, b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(type(error)):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_goes_on_naming_what_is_written(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for data in (b"first", b"second"):
        write_file(tmp_path / "link", data)
        assert (tmp_path / "file").read_bytes() == data
    assert (tmp_path / "link").is_symlink()


def test_a_pipe_is_written_to(tmp_path):
    program = "from pathlib import Path; from aml_mil.files import write_file; "
    program += "write_file(Path('/dev/stdout'), b'a,b')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env={**os.environ}
    )
    assert done.stdout == b"a,b"


def test_a_table_keeps_its_fields(tmp_path):
    write_csv(tmp_path / "a.csv", ("id", "text"), [("ä", "one, two"), ("b", 'a "word"')])
    expected = 'id,text\nä,"one, two"\nb,"a ""word"""\n'
    assert (tmp_path / "a.csv").read_bytes() == expected.encode()
