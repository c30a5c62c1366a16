"""`aml-mil store …` as it is typed: results, exit codes, and what stderr says."""

import json
import re

import pytest

from cli.main import main
from stores import create_store, open_store
from tests.stores.samples import make_bag, make_manifest


@pytest.fixture
def path(tmp_path):
    store = create_store(tmp_path / "cohort.zarr", make_manifest())
    for bag_id in ("a", "b", "c"):
        store.write(make_bag(bag_id))
    return store.path


@pytest.fixture
def run(capsys):
    def run(*words):
        capsys.readouterr()
        code = main(["store", *map(str, words)])
        return code, *capsys.readouterr()

    return run


def damage(path, bag_id="b"):
    (path / "bags" / bag_id / "bag.json").write_bytes(b"")


def test_info_is_plain_text(run, tmp_path):
    store = create_store(tmp_path / "s.zarr", make_manifest(trained_on=None, feature_shape=(4, 2)))
    for bag_id, label in (("a", "NPM1"), ("b", "APL"), ("c", "NPM1")):
        store.write(make_bag(bag_id, label=label, manifest=store.manifest))
    code, out, _ = run("info", store.path)
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines())
    assert code == 0
    assert facts["classes"] == "APL 1, NPM1 2"
    assert facts["views"] == "identity, hflip"
    assert facts["feature shape"] == "4, 2"
    assert facts["trained on"] == "unknown"
    document = json.loads(run("info", store.path, "--json")[1])
    assert document["classes"] == {"APL": 1, "NPM1": 2}
    assert document["trained_on"] is None


def test_verify_names_the_damaged_bag_and_the_command_that_helps(run, path):
    assert run("verify", path)[:2] == (0, f"3 bags of {path} are whole\n")
    damage(path)
    code, out, err = run("verify", path, "--threads", 2, "--json")
    assert code == 1
    assert list(json.loads(out)["damaged"]) == ["b"]
    assert "damaged: b: bag.json" in err
    assert f"1 of 3 bags of {path} are damaged: `aml-mil store repair {path}`" in err


def test_repair_leaves_a_store_that_verifies(run, path):
    damage(path)
    code, out, err = run("repair", path, "--dry-run")
    assert (code, out) == (
        0,
        f"{path}: 2 bags intact, 1 would be dropped, 0 temporaries would be removed\n",
    )
    assert "dropped: bag b: bag.json" in err
    assert run("verify", path)[0] == 1
    code, out, err = run("repair", path, "--json")
    fields = json.loads(out)
    assert (code, fields["intact"], fields["dropped"]) == (0, 2, 1)
    assert fields["changes"][0]["name"] == "b"
    assert run("verify", path)[0] == 0
    assert run("repair", path)[1] == f"{path}: 2 bags intact, 0 dropped, 0 temporaries removed\n"


def test_after_a_repair_nothing_is_advised_that_would_be_refused(run, path, tmp_path):
    merged, other = tmp_path / "merged.zarr", tmp_path / "other.zarr"
    create_store(other, make_manifest()).write(make_bag("d"))
    words = ("merge", path, other, merged)
    assert run(*words)[0] == 0
    damage(merged)
    assert "imported or merged one is to be made anew" in run("verify", merged)[2]
    _, out, err = run("repair", merged)
    assert "1 dropped" in out
    assert "an imported or merged store is to be made anew, under another name" in err
    assert "is there already" in run(*words)[2]


def test_a_copy_is_equal_and_a_changed_copy_is_not(run, path, tmp_path):
    copy = tmp_path / "copy.h5store"
    code, out, _ = run("copy", path, copy)
    assert (code, out) == (0, f"3 bags are in {copy} and verified\n")
    assert run("diff", path, copy)[:2] == (0, f"{path} and {copy} are equal: 3 bags\n")
    store = open_store(copy)
    store.delete("a")
    store.replace(make_bag("b", label="NPM1"))
    code, out, err = run("diff", path, copy)
    assert code == 1
    assert out.splitlines() == [f"a: only in {path}", "b: label: 'APL', 'NPM1'"]
    assert "0 fields of the manifest, 2 of 3 bags" in err
    fields = json.loads(run("diff", path, copy, "--json")[1])
    assert (fields["only_in_first"], list(fields["different"])) == (["a"], ["b"])


def test_stores_that_were_made_in_another_way_differ(run, path, tmp_path):
    other = create_store(tmp_path / "other.zarr", make_manifest(weights="elsewhere"))
    for bag_id in ("a", "b", "c"):
        other.write(make_bag(bag_id))
    code, out, _ = run("diff", path, other.path)
    assert (code, out) == (1, "manifest: weights: 'weights.safetensors', 'elsewhere'\n")


def test_a_copy_over_something_or_to_no_format_is_an_error(run, path, tmp_path):
    code, _, err = run("copy", path, path)
    assert code == 1
    assert f"{path} is there already" in err
    code, _, err = run("copy", path, tmp_path / "copy")
    assert code == 2
    assert "got 'copy'" in err
    assert not (tmp_path / "copy").exists()


def test_disjoint_stores_are_merged_and_others_refused(run, path, tmp_path):
    second = create_store(tmp_path / "second.h5store", make_manifest())
    second.write(make_bag("d"))
    merged = tmp_path / "merged.zarr"
    code, out, _ = run("merge", path, second.path, merged, "--json")
    assert (code, json.loads(out)["num_bags"]) == (0, 4)
    assert open_store(merged).bag_ids == ("a", "b", "c", "d")
    second.write(make_bag("b"))
    code, _, err = run("merge", path, second.path, tmp_path / "again.zarr")
    assert code == 1
    assert "1 of 4 ids are in more than one store: b" in err
    for words in ((path, merged), (path, path, tmp_path / "twice.zarr")):
        assert run("merge", *words)[0] == 2


def test_what_is_no_store_is_one_clear_line(run, tmp_path, path):
    for words in (("repair", tmp_path), ("diff", path, tmp_path), ("copy", tmp_path, "x.zarr")):
        code, out, err = run(*words)
        assert (code, out) == (1, "")
        assert "is no feature store" in err
        assert "Traceback" not in err


def test_nothing_at_a_path_is_told_from_something_else(run, tmp_path):
    code, _, err = run("verify", tmp_path / "gone.zarr")
    assert code == 1
    assert f"there is nothing at {tmp_path / 'gone.zarr'}; check the path" in err
