"""A run on cells of some types: new patients and changed images go by the same types."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from aml_mil.cohort import FilterError, read_cohort
from aml_mil.embedding import embed
from aml_mil.encoders import load_encoder
from aml_mil.evaluation import EvaluationError
from aml_mil.evaluation.predict import predict_source
from aml_mil.evaluation.stress import StressReport, stress
from aml_mil.mil import open_run
from stores import open_store
from tests.evaluation.cohorts import EMBED, SIZE_PX, Fitted, draw_cohort, fit_on

BLASTS = dataclasses.replace(EMBED, cell_types=("myeloblast",))


@pytest.fixture(scope="module")
def blasts(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A run on the myeloblasts of a cohort; patients have monocytes, too."""
    folder = tmp_path_factory.mktemp("blasts")
    cohort = draw_cohort(folder / "cohort", label_is="tint", cells=8, num_patients=12)
    return fit_on(cohort, folder, embedding=BLASTS)


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("external") / "cohort"
    return draw_cohort(folder, label_is="tint", num_patients=4, cells=8, seed=5, first_id=50)


def num_cells(path: Path) -> int:
    with open_store(path) as store:
        return sum(store.record(bag_id).num_instances for bag_id in store.bag_ids)


def test_new_patients_are_predicted_by_their_cells_of_these_types(
    blasts: Fitted, external: Path, tmp_path: Path
) -> None:
    predict_source(open_run(blasts.run), external, out_dir=tmp_path)
    types = (external / "cell_annotations.csv").read_text()
    assert num_cells(tmp_path / "features.zarr") == types.count("myeloblast") < 32


def test_a_new_patient_without_types_is_refused_and_one_without_such_cells_left_out(
    blasts: Fitted, external: Path, tmp_path: Path
) -> None:
    run = open_run(blasts.run)
    with pytest.raises(FilterError, match="none of its cells has a type"):
        predict_source(run, external / "data" / "red" / "P51")
    other = Path(shutil.copytree(external, tmp_path / "cohort"))
    types = other / "cell_annotations.csv"
    rows = types.read_text().splitlines()
    types.write_text("\n".join(r.replace("blast", "cyte") if "P51" in r else r for r in rows))
    found = predict_source(run, other)
    assert [str(patient) for patient in found.failed] == ["P51: it has no cell of these types"]
    assert found.patient_ids == tuple(p for p in read_cohort(other).labels if p != "P51")


def test_a_store_of_all_cells_is_refused(blasts: Fitted, external: Path, tmp_path: Path) -> None:
    encoder = load_encoder("resnet18", weights="random:0", image_size_px=SIZE_PX)
    for _ in embed(read_cohort(external), encoder, tmp_path / "all.zarr", EMBED):
        pass
    with pytest.raises(EvaluationError, match=r'expected preprocessing {"cell_types": \["myelob'):
        predict_source(open_run(blasts.run), tmp_path / "all.zarr")


def test_a_stress_test_takes_the_cells_of_the_run(blasts: Fitted) -> None:
    steps = stress(open_run(blasts.run), read_cohort(blasts.cohort), perturbations=["hue"])
    *_, report = steps
    assert isinstance(report, StressReport)
    assert report.num_cells == num_cells(blasts.store) < 96
