"""What is no store lies on this machine: a URL in its place is wrong usage, and makes no folder."""

from types import SimpleNamespace

import click
import pytest

from cli.embed_names import name_stores
from cli.local_path import LocalPath
from cli.main import aml_mil
from cli.store_path import StorePath
from tests.command_line import runner

URL = "s3://bucket/it"


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return runner(capsys)


@pytest.mark.parametrize(
    "words",
    [
        ("synth", URL),
        ("embed", f"{URL}.zarr", "--encoder", "resnet18", "--out", "x.zarr"),
        ("folds", "cohort", "--out", f"{URL}.csv"),
        ("fit-mil", "x.zarr", "--out", URL),
        ("compare", URL),
        ("predict", URL, "x.zarr"),
        ("report", "run", "--out", f"{URL}.html"),
        ("store", "export", "x.zarr", "--to", "bags", "--out", URL),
        ("doctor", "--config", "file:///it.json"),
    ],
    ids=lambda words: words[0],
)
def test_a_url_in_place_of_a_local_path_is_wrong_usage(command, tmp_path, words):
    done = command(*words)
    assert (done.code, done.out) == (2, "")
    (line,) = [line for line in done.err.splitlines() if "://" in line]
    assert "expected a local path, got" in line
    assert "only feature stores can lie at a URL" in line
    assert list(tmp_path.iterdir()) == []


def test_every_path_of_every_command_refuses_urls():
    context, groups, params = click.Context(aml_mil), [aml_mil], []
    while groups:
        group = groups.pop()
        for name in group.list_commands(context):
            each = group.get_command(context, name)
            groups += [each] if isinstance(each, click.Group) else []
            params += each.params
    paths = [param for param in params if isinstance(param.type, click.Path)]
    assert len(paths) > 30
    assert [param.name for param in paths if not isinstance(param.type, LocalPath)] == []


def test_a_store_that_is_named_by_its_encoder_keeps_its_url():
    encoder = SimpleNamespace(name="resnet18", weights="random:0")
    out = StorePath().convert("s3://bucket/{encoder}.zarr", None, None)
    (path,) = name_stores(out, [encoder])
    assert str(path) == "s3://bucket/resnet18-random-0.zarr"
