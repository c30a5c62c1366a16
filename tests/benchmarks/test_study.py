"""The protocol: every budget's commands are commands there are, with flags they know."""

import argparse
import re
from dataclasses import fields
from pathlib import Path

import click
import pytest

from aml_mil.ssl.methods import CONFIGS
from benchmarks.study import main, protocol
from benchmarks.study_budget import BUDGETS
from benchmarks.study_layout import Study
from cli.main import aml_mil


def study_of(budget: str, **values: object) -> Study:
    settings = {
        "cohort": Path("cohort"),
        "annotated": Path("cells"),
        "out": Path("study"),
        "budget": BUDGETS[budget],
        "has_cell_types": True,
        "imagenet": Path("squeezenet1_0_imagenet.safetensors"),
        "mil": Path("mil"),
        "bundle": Path("bundle"),
    }
    return Study(**settings | values)


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_command_is_one_there_is_with_flags_it_knows(budget, monkeypatch):
    monkeypatch.setattr(click.Path, "convert", lambda self, value, *_: value)
    steps = [step for step in protocol(study_of(budget)) if step.words[1] == "cli"]
    assert len(steps) > 20
    for step in steps:
        command, words = aml_mil, list(step.words[2:])
        while isinstance(command, click.Group):
            name, command, words = command.resolve_command(click.Context(command), words)
        with command.make_context(name, words) as parsed:
            if name in CONFIGS:
                known = {field.name for field in fields(CONFIGS[name])}
                CONFIGS[name](**{k: v for k, v in parsed.params.items() if k in known})


class ParsedError(Exception):
    """The words were understood; the work is not wanted."""


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_module_is_one_there_is_with_flags_it_knows(budget, monkeypatch):
    parse = argparse.ArgumentParser.parse_args
    steps = [step for step in protocol(study_of(budget)) if step.words[1] != "cli"]
    assert len(steps) >= 4
    for step in steps:

        def parse_only(self, *_, words=step.words[2:]):
            parse(self, words)
            raise ParsedError

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        module = __import__(step.words[1], fromlist=["main"])
        with pytest.raises(ParsedError):
            module.main()


@pytest.mark.parametrize("budget", BUDGETS)
def test_steps_have_names_and_outputs_of_their_own(budget):
    steps = list(protocol(study_of(budget)))
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    outputs = [path for step in steps for path in step.outputs]
    assert len(set(outputs)) == len(outputs)


def test_what_was_not_given_is_left_out():
    bare = study_of("small", has_cell_types=False, imagenet=None, mil=None, bundle=None)

    def names(study: Study) -> set[str]:
        """Names of the steps; which encoder is looked at more closely, and its size, may differ."""
        found = (re.sub(r"-\d+px", "", step.name) for step in protocol(study))
        return {name for name in found if not name.startswith("stress-")}

    assert names(study_of("small")) - names(bare) == {"knn", "mil-benchmarks", "bundle"}
    assert not any("squeezenet" in step.command for step in protocol(bare))


def test_an_encoder_is_pretrained_for_every_fold_it_is_fitted_in():
    for budget in BUDGETS:
        study = study_of(budget)
        trained = {step.name for step in protocol(study) if step.name.startswith("pretrain-")}
        wanted = {
            f"pretrain-{m}-{k}" for m in ("simclr", "swav", "dino") for k in study.budget.ssl_folds
        }
        assert trained == wanted | {"pretrain-supervised"}
        fitted = [
            step
            for step in protocol(study)
            if "simclr-{fold}" in step.command and step.name.startswith("fit-")
        ]
        expected = "splits" if budget == "small" else "folds.csv"
        assert all(f"--folds {study.out / expected}" in step.command for step in fitted)
        assert fitted


def test_a_study_is_saved_and_loaded(tmp_path):
    study = study_of("small", out=tmp_path, mil=None, about={"budget": "small"})
    study.save()
    assert Study.load(tmp_path) == study


def test_a_missing_cohort_is_one_line(tmp_path, capsys):
    words = [str(tmp_path / "none"), "--annotated", "cells", "--out", str(tmp_path / "study")]
    assert main(words) == 1
    assert capsys.readouterr().err.startswith("study: error: ")
    assert not (tmp_path / "study").exists()
