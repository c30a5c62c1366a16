"""Only the cells that experts gave some types are embedded."""

import json

import pytest

from aml_mil.cohort import FilterError
from aml_mil.embedding import EmbedConfig, EmbedError, PatientsFailedError
from aml_mil.embedding.preprocessing import describe_preparation, follow_preparation
from stores import StoreMismatchError, open_store
from tests.command_line import runner
from tests.embedding.drawing import bag_bytes, draw_patient, run, start, write_table

BLAST = "Blast, no lineage spec"
BLASTS = {"cell_types": (BLAST, "promyelocyte")}
ALL = {"AQK": "APL", "BZF": "AML", "CTL": "AML"}


def annotate(root, types):
    """Give each patient's cells types, in their order."""
    rows = [
        f'{patient_id},image_{number}.png,"{cell_type}"'
        for patient_id, of_cells in types.items()
        for number, cell_type in enumerate(of_cells)
    ]
    (root / "cell_annotations.csv").write_text("\n".join(["patient_id,image,cell_type", *rows, ""]))


@pytest.fixture
def cohort_dir(cohort_dir):
    types = [BLAST, "monocyte", "promyelocyte", "monocyte"]
    annotate(cohort_dir, dict.fromkeys(ALL, types))
    return cohort_dir


def test_the_store_holds_the_cells_of_the_types_alone_and_as_they_would_be_without_the_others(
    cohort_dir, tmp_path, encoder
):
    few, every = tmp_path / "few.zarr", tmp_path / "every.zarr"
    run(cohort_dir, few, encoder, dtype="float32", **BLASTS)
    run(cohort_dir, every, encoder, dtype="float32")
    with open_store(few) as store, open_store(every) as whole:
        assert store.manifest.preprocessing["cell_types"] == [BLAST, "promyelocyte"]
        for bag_id in ALL:
            bag, all_cells = store.read(bag_id), whole.read(bag_id)
            assert bag.instance_ids == ("image_0.png", "image_2.png")
            assert bag.instance_labels == (BLAST, "promyelocyte")
            assert bag.features == pytest.approx(all_cells.features[[0, 2]], abs=1e-4)


def test_a_patient_without_such_cells_is_named_and_all_others_are_embedded(
    cohort_dir, store_path, encoder
):
    annotate(cohort_dir, {"AQK": [BLAST], "BZF": ["monocyte"], "CTL": ["promyelocyte"]})
    with pytest.raises(PatientsFailedError, match=r"BZF: it has no cell of these types \(1 of 3\)"):
        run(cohort_dir, store_path, encoder, stain="patient", **BLASTS)
    with open_store(store_path) as store:
        assert store.bag_ids == ("AQK", "CTL")


def test_a_cohort_without_types_or_without_these_is_refused(cohort_dir, store_path, encoder):
    message = r"asked for, lymphocyte \(1\); its \d types are 'Blast, no lineage spec', '"
    with pytest.raises(FilterError, match=message):
        run(cohort_dir, store_path, encoder, cell_types=("lymphocyte",))
    (cohort_dir / "cell_annotations.csv").unlink()
    with pytest.raises(FilterError, match=r"none of its cells has a type: add cell_annotations"):
        run(cohort_dir, store_path, encoder, **BLASTS)
    assert not store_path.exists()


def test_a_type_that_no_cell_has_is_told(cohort_dir, store_path, encoder):
    started = start(cohort_dir, store_path, encoder, cell_types=(BLAST, "promylocyte"))
    assert "cell types that no cell has: promylocyte (1)" in started.notes
    assert "cell types: kept 3 of 20 images" in started.notes


def test_the_order_of_the_types_is_nothing_and_other_types_are_refused(
    cohort_dir, store_path, encoder
):
    run(cohort_dir, store_path, encoder, **BLASTS)
    before = bag_bytes(store_path)
    draw_patient(cohort_dir, "NEW", "APL", 3)
    write_table(cohort_dir, {**ALL, "NEW": "APL"})
    annotate(cohort_dir, {**{name: [BLAST, "", "promyelocyte"] for name in ALL}, "NEW": [BLAST]})
    summary = run(cohort_dir, store_path, encoder, cell_types=("promyelocyte", BLAST, BLAST))
    assert (summary.patients_embedded, summary.cells_embedded) == (1, 1)
    assert not summary.needs_attention
    for types in ((BLAST,), ()):
        with pytest.raises(StoreMismatchError, match="promyelocyte"):
            run(cohort_dir, store_path, encoder, cell_types=types)
    after = bag_bytes(store_path)
    assert before == {name: after[name] for name in before}


def test_what_is_recorded_is_followed_and_must_be_names():
    config = EmbedConfig(cell_types=("b", "a"), stain="patient")
    reference = (120.0, 100.0, 140.0, 30.0, 25.0, 20.0)
    followed = follow_preparation(EmbedConfig(), describe_preparation(config, reference))
    assert (followed.cell_types, followed.stain_reference) == (("a", "b"), reference)
    assert follow_preparation(config, {}) == EmbedConfig()
    for recorded in ("monocyte", 7, [7]):
        with pytest.raises(EmbedError, match="names of cell types"):
            follow_preparation(EmbedConfig(), {"cell_types": recorded})
    with pytest.raises(ValueError, match="names of cell types"):
        EmbedConfig(cell_types=("",))


def test_the_command_takes_names_with_commas(cohort_dir, tmp_path, capsys):
    aml_mil = runner(capsys)
    words = ["embed", cohort_dir, "--encoder", "test_resnet", "--weights", "random:0"]
    words += ["--image-size", 32, "--device", "cpu", "--json", "--out", tmp_path / "a.zarr"]
    done = aml_mil(*words, "--cell-types", BLAST, "--cell-types", "promyelocyte")
    assert json.loads(done.out)["cells"] == 6, done.err
    assert "cell types: kept 6 of 20 images" in done.err
