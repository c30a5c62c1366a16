from aml_mil.evaluation import format_figure, metrics_table


def _figures(mean):
    return {name: {"mean": mean, "sd": 0.05} for name in ("f1", "roc_auc", "pr_auc")}


METRICS = {
    "macro": _figures(0.9),
    "per_class": {"APL": _figures(0.8), "AML": _figures(0.7)},
    "floors": {
        "colour": {**_figures(0.6), "per_class": {"APL": _figures(0.5), "AML": _figures(0.4)}}
    },
}


def test_every_floor_stands_below_the_model_overall_and_per_class():
    rows = metrics_table(METRICS, name="attention MIL")
    assert [(row.group, row.name, row.figures["f1"][0]) for row in rows] == [
        ("macro", "attention MIL", 0.9),
        ("macro", "colour", 0.6),
        ("APL", "attention MIL", 0.8),
        ("APL", "colour", 0.5),
        ("AML", "attention MIL", 0.7),
        ("AML", "colour", 0.4),
    ]


def test_figures_are_written_with_their_spread():
    assert format_figure(0.856, 0.0349) == "0.86 ± 0.03"
    assert format_figure(0.856, None) == "0.86"
    assert format_figure(None, None) == "–"
