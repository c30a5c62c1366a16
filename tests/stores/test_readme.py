"""The examples of stores/README.md run, one after the other, on a small store."""

import io
from contextlib import redirect_stdout

from stores import create_store, open_store
from tests.documents import python_examples
from tests.stores.samples import bag_values, make_bag, make_manifest


def test_the_examples_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = create_store("apl.zarr", make_manifest())
    for seed, bag_id in enumerate(("AQK", "BZF")):
        store.write(make_bag(bag_id, seed=seed))
    (store.bag_path("BZF") / "features" / "c" / "0" / "0").write_bytes(b"")
    reading, mending = python_examples("stores/README.md")
    said, names = io.StringIO(), {}
    with redirect_stdout(said):
        exec(mending, names)
        exec(reading, names)
    assert names["damaged"] == ["BZF"]
    assert "dropped bag BZF" in said.getvalue()
    assert "1 of 1" in said.getvalue()
    assert "AQK APL (5, 8) float16" in said.getvalue()
    assert names["packed"].features.shape == (2, 5, 8)
    copied = open_store("apl.h5store").read("AQK")
    assert bag_values(copied) == bag_values(make_bag("AQK", seed=0))
