"""Options come from the config dataclass, and go back into it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner

from aml_mil.embedding.config import EmbedConfig
from aml_mil.mil.config import FitConfig
from cli.fit_mil import fit_mil
from cli.flags import config_from, config_options, describe_fields
from cli.main import aml_mil
from stores import open_store
from tests.command_line import runner
from tests.embedding.drawing import draw_cohort


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a command is told.

    Attributes:
        num_rounds: How often, in
            rounds.
        mode: Which way.
        widths: Layer widths.
        limit: None is no limit.
        is_loud: Whether to shout.

    Raises:
        ValueError: Too many rounds.
    """

    num_rounds: int = 3
    mode: Literal["slow", "fast"] = "slow"
    widths: tuple[int, ...] = (3, 2)
    limit: float | None = None
    is_loud: bool = False

    def __post_init__(self) -> None:
        if self.num_rounds > 9:
            raise ValueError(f"num_rounds: expected at most 9, got {self.num_rounds}")


@click.command()
@config_options(Settings)
def command(*, config_path: Path | None, **values: Any) -> None:
    click.echo(repr(config_from(Settings, values, config_path=config_path, section="fit")))


def run(*words: str) -> Any:
    return CliRunner().invoke(command, words)


def test_defaults_are_those_of_the_dataclass() -> None:
    assert run().output.strip() == repr(Settings())


def test_every_type_of_field_becomes_an_option() -> None:
    words = [
        "--num-rounds",
        "4",
        "--mode",
        "fast",
        "--widths",
        "7,8,9",
        "--limit",
        "0.5",
        "--is-loud",
    ]
    expected = Settings(num_rounds=4, mode="fast", widths=(7, 8, 9), limit=0.5, is_loud=True)
    assert run(*words).output.strip() == repr(expected)


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"fit": {"num_rounds": 5, "widths": [1], "mode": "fast"}}))
    result = run("--config", str(path), "--mode", "slow")
    assert result.output.strip() == repr(Settings(num_rounds=5, widths=(1,), mode="slow"))


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ('{"num_round": 5}', "num_rounds"),
        ("[1]", "object"),
        ("{", "JSON"),
        ('{"num_rounds": "5"}', 'num_rounds: expected a whole number, got "5"'),
        ('{"num_rounds": 2.5}', "num_rounds: expected a whole number, got 2.5"),
        ('{"num_rounds": true}', "num_rounds: expected a whole number, got true"),
        ('{"num_rounds": null}', "num_rounds: expected a whole number, got null"),
        ('{"mode": "fats"}', 'mode: expected one of slow, fast, got "fats"'),
        ('{"widths": 3}', "widths: expected a list of a whole number, got 3"),
        ('{"widths": [3, "a"]}', 'widths: expected a list of a whole number, got [3, "a"]'),
        ('{"limit": "none"}', 'limit: expected a number or null, got "none"'),
        ('{"is_loud": "no"}', 'is_loud: expected true or false, got "no"'),
        ('{"is_loud": 1}', "is_loud: expected true or false, got 1"),
    ],
)
def test_a_wrong_file_is_wrong_usage(tmp_path: Path, document: str, word: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(document)
    result = run("--config", str(path))
    assert result.exit_code == 2
    assert word in result.output


def test_a_file_that_windows_marked_as_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"num_rounds": 5}', encoding="utf-8-sig")
    assert run("--config", str(path)).output.strip() == repr(Settings(num_rounds=5))


def test_values_of_the_right_types_are_taken(tmp_path: Path) -> None:
    settings = {"limit": 3, "is_loud": True, "widths": []}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings))
    assert run("--config", str(path)).output.strip() == repr(
        Settings(limit=3, is_loud=True, widths=())
    )
    path.write_text('{"limit": null}')
    assert run("--config", str(path)).output.strip() == repr(Settings())


def test_a_value_out_of_range_is_wrong_usage() -> None:
    result = run("--num-rounds", "10")
    assert result.exit_code == 2
    assert "at most 9" in result.output


def test_a_description_of_several_lines_becomes_one() -> None:
    assert describe_fields(Settings)["num_rounds"] == "How often, in rounds"


def test_the_help_says_what_a_file_of_settings_holds() -> None:
    said = " ".join(run("--help").output.split())
    assert 'Settings by name as a JSON object, such as {"num_rounds": 3}; flags win' in said
    assert "or the config.json of an earlier run" in " ".join(
        CliRunner().invoke(fit_mil, ["--help"]).output.split()
    )


@pytest.mark.parametrize("words", [["fit-mil"], ["probe"], ["giga-ssl"], ["pretrain", "swav"]])
def test_every_letter_of_a_source_is_explained(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = " ".join(runner(capsys)(*words, "--help").out.split())
    settings, _, legend = said.partition("Sources: ")
    cited = re.findall(r"Source: ((?:[A-Z]\b(?: \([^)]*\))?,? ?)+)", settings)
    letters = set(re.findall(r"\b[A-Z]\b", re.sub(r"\([^)]*\)", "", " ".join(cited))))
    assert letters
    for letter in letters:
        assert re.search(rf"\b{letter} (is|the|those)\b", legend), letter


def test_cells_are_embedded_as_a_file_of_settings_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few.json").write_text(
        '{"batch_size": 8, "views": "identity", "precision": "fp32", "device": "cpu"}'
    )
    words = ("--encoder", "test_resnet", "--weights", "random:0", "--image-size", 32)
    given = ("--config", tmp_path / "few.json", "--out", tmp_path / "cells.zarr", "--json")
    done = runner(capsys)("embed", draw_cohort(tmp_path / "cohort"), *words, *given)
    assert done.code == 0, done.err
    assert done.json["compute_dtype"] == "fp32"
    with open_store(tmp_path / "cells.zarr") as store:
        assert store.manifest.views == ("identity",)
        assert store.manifest.numerics["batch_size"] == 8


@pytest.mark.parametrize("config_class", [EmbedConfig, FitConfig])
def test_every_setting_of_a_command_is_described(config_class: Any) -> None:
    descriptions = describe_fields(config_class)
    for field in fields(config_class):
        assert descriptions[field.name]


def described_by(command: click.Command, name: str = "aml-mil") -> Iterator[tuple[str, str | None]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None
            yield from described_by(below, f"{name} {word}")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield f"{name} {parameter.opts[0]}", parameter.help


def test_every_option_of_every_command_is_described() -> None:
    options = dict(described_by(aml_mil))
    assert len(options) > 200
    assert [name for name, text in options.items() if not text] == []
