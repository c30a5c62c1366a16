"""The copy of a cohort that is stained otherwise: same patients and cells, other colours."""

import numpy as np
import pytest

from aml_mil.cohort import decode_image, read_cohort, read_image_file
from benchmarks.shifted_cohort import draw_shift, main
from cli.main import main as aml_mil


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """A cohort with one damaged file, and its copy."""
    root = tmp_path_factory.mktemp("cohorts")
    assert aml_mil(["synth", str(root / "own"), "--patients", "8", "--cells", "3"]) == 0
    damaged = read_cohort(root / "own").patients[0].cells[0].path
    damaged.write_bytes(damaged.read_bytes()[:-40])
    main([str(root / "own"), str(root / "copy")])
    return root / "own", root / "copy"


def pixels(cohort):
    return {
        (patient.patient_id, cell.path.stem): decode_image(read_image_file(cell.path)).astype(float)
        for patient in cohort.patients
        for cell in patient.cells
    }


def test_patients_labels_cells_and_their_types_stay_but_for_the_damaged(cohorts):
    own, copy = (read_cohort(path) for path in cohorts)
    assert own.labels == copy.labels
    gone = (own.patients[0].patient_id, own.patients[0].cells[0].path.stem)

    def types(cohort):
        return {
            (p.patient_id, cell.path.stem): cell.cell_type
            for p in cohort.patients
            for cell in p.cells
        }

    assert {key: value for key, value in types(own).items() if key != gone} == types(copy)


def test_colours_change_alike_within_a_patient_and_otherwise_between_patients(cohorts):
    own, copy = read_cohort(cohorts[0]), pixels(read_cohort(cohorts[1]))
    damaged = own.patients[0].cells[0].path.stem
    changes = {}
    for patient in own.patients:
        for cell in patient.cells:
            if (patient.patient_id, cell.path.stem) not in copy:
                assert cell.path.stem == damaged
                continue
            before = decode_image(read_image_file(cell.path)).astype(float)
            after = copy[patient.patient_id, cell.path.stem]
            changes.setdefault(patient.patient_id, []).append((after - before).mean((0, 1)))
    means = np.array([np.mean(of_patient, axis=0) for of_patient in changes.values()])
    within = np.mean([np.std(of_patient, axis=0).mean() for of_patient in changes.values()])
    assert np.std(means, axis=0).mean() > 3 * within
    assert np.abs(means).max() > 5


def test_the_same_seed_gives_the_same_copy_and_another_seed_another(cohorts, tmp_path):
    own, copy = cohorts
    main([str(own), str(tmp_path / "again")])
    main([str(own), str(tmp_path / "other"), "--seed", "1"])
    first, again, other = (
        pixels(read_cohort(path)) for path in (copy, tmp_path / "again", tmp_path / "other")
    )
    assert all((first[key] == again[key]).all() for key in first)
    assert not any((first[key] == other[key]).all() for key in first)


def test_a_folder_that_holds_a_cohort_is_refused(cohorts, capsys):
    with pytest.raises(SystemExit):
        main([str(cohorts[0]), str(cohorts[1])])
    assert "holds a cohort already" in capsys.readouterr().err


def test_amounts_as_well_as_directions_follow_the_seed():
    image = np.full((2, 2, 3), (200, 120, 180), np.uint8)
    changed = {draw_shift("A", seed=seed)(image).tobytes() for seed in range(300)}
    assert len(changed) > 2**6  # sides of hue, saturation, brightness, and of R, G and B
    assert np.array_equal(draw_shift("A", seed=3)(image), draw_shift("A", seed=3)(image))
