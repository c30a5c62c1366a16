"""Embedding into a store at a server of S3 whose connections are cut, on real sockets."""

import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import pytest

from stores import open_store, store_exists, url_folder, verify_store
from tests.command_line import Outcome, runner
from tests.cut_proxy import CutProxy, cutting_proxy
from tests.embedding.drawing import LABELS, bag_bytes, run
from tests.s3_server import s3_server as s3_server

REPOSITORY = Path(__file__).parents[2]
FLAGS = ("--encoder", "test_resnet", "--weights", "random:0", "--image-size", "32")
SETTINGS = ("--device", "cpu", "--precision", "fp32", "--batch-size", "6")
MOMENTS = ("request", "answer")
AMONG_PUTS = 20  # of the first bag, several at once
LONGEST_S = 60
BAR = re.compile(r"(cell/s|s/cell)\]$")

pytestmark = pytest.mark.slow


@pytest.fixture
def proxy(s3_server, monkeypatch):
    files = fsspec.get_filesystem_class("s3")
    with cutting_proxy(urlsplit(s3_server).port) as proxy:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": proxy.url,
        }.items():
            monkeypatch.setenv(name, value)
        files.clear_instance_cache()  # they keep the address they were made with
        yield proxy
        files.clear_instance_cache()


@pytest.fixture
def bucket(proxy, tmp_path):
    name = re.sub(r"[^a-z0-9]+", "-", f"cut-{tmp_path.parent.name}-{tmp_path.name}".lower())
    fsspec.filesystem("s3").mkdir(name)
    return name


@pytest.fixture
def embed(cohort_dir, capsys):
    command = runner(capsys)
    return lambda url: command("embed", cohort_dir, *FLAGS, *SETTINGS, "--out", url)


def objects(url: str) -> dict[str, bytes]:
    """All objects around and in the bags, by their path below the store."""
    files, root = fsspec.url_to_fs(url, use_listings_cache=False)
    found = files.find(f"{root}/bags")
    return {path.removeprefix(f"{root}/"): files.cat_file(path) for path in found}


def assert_is_cut_in_one_line(outcome, proxy: CutProxy, url: str) -> None:
    assert proxy.is_cut
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    said = [line for line in outcome.err.splitlines() if line and not BAR.search(line)]
    assert len(said) == 1, said
    line = said[0]
    assert line.startswith(f"aml-mil: error: {url} cannot be reached (")
    assert "run the same command again" in line


def count_whole_bags(url: str) -> int:
    if not store_exists(url):
        return 0
    with open_store(url) as store:
        assert [record.error for record in verify_store(store)] == [None] * len(store)
        return len(store)


def test_cut_at_any_request_it_says_so_keeps_whole_bags_and_goes_on(
    proxy, bucket, embed, cohort_dir, tmp_path, encoder, monkeypatch
):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # gives up sooner
    run(cohort_dir, tmp_path / "local.zarr", encoder)
    expected = bag_bytes(tmp_path / "local.zarr")
    whole = f"s3://{bucket}/whole.zarr"
    proxy.restore()
    assert embed(whole).code == 0
    requests = list(proxy.requests)
    assert objects(whole) == expected
    commits = [n for n, line in enumerate(requests, 1) if "bag.json" in line and "PUT" in line]
    assert len(commits) == len(LABELS)

    cuts = [(number, moment) for number in commits[:2] for moment in MOMENTS]
    cuts += [(number, MOMENTS[number % 2]) for number in range(1, len(requests) + 1, 5)]
    num_kept = set()
    for number, moment in cuts:
        url = f"s3://{bucket}/{number}-{moment}.zarr"
        proxy.cut_at(number, moment=moment, afterwards=("refuse", "reset")[number // 2 % 2])
        assert_is_cut_in_one_line(embed(url), proxy, url)
        proxy.restore()
        num_kept.add(count_whole_bags(url))
        assert embed(url).code == 0, (number, moment)
        assert objects(url) == expected, (number, moment)
    assert num_kept == {0, 1, 2, 3}


def test_at_the_terminal_a_cut_among_puts_is_one_line_within_a_minute(proxy, bucket, cohort_dir):
    url = f"s3://{bucket}/cells.zarr"
    words = ("embed", cohort_dir, *FLAGS, *SETTINGS, "--out", url)
    proxy.cut_at(AMONG_PUTS, moment="answer", afterwards="reset")
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "cli", *map(str, words)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - started < LONGEST_S
    assert proxy.requests[AMONG_PUTS - 1].startswith("PUT")
    assert_is_cut_in_one_line(Outcome(done.returncode, done.stdout, done.stderr), proxy, url)
    assert "while writing bag 'AQK'" in done.stderr


def test_a_server_that_falls_silent_is_not_waited_for_for_ever(proxy, bucket, embed, monkeypatch):
    monkeypatch.setattr(url_folder, "PATIENCE_S", 5)
    url = f"s3://{bucket}/cells.zarr"
    proxy.cut_at(AMONG_PUTS, afterwards="silent")
    cut = embed(url)
    assert_is_cut_in_one_line(cut, proxy, url)
    assert "no answer in time" in cut.err
    proxy.restore()
    assert embed(url).code == 0
    assert count_whole_bags(url) == len(LABELS)
