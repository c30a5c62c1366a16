import json

import pytest

from stores import BagDamagedError, create_store, store_info
from tests.stores.samples import SUFFIXES, folder_bytes, make_bag, make_manifest


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_info_counts_what_the_store_holds(tmp_path, suffix):
    store = create_store(tmp_path / f"cohort{suffix}", make_manifest())
    for bag_id, label in (("a", "APL"), ("b", "NPM1"), ("c", "APL"), ("d", None)):
        store.write(make_bag(bag_id, label=label))
    info = store_info(store)
    assert info["num_bags"] == 4
    assert info["num_instances"] == 20
    assert info["num_quarantined"] == 4
    assert info["num_unlabelled"] == 1
    assert info["classes"] == {"APL": 2, "NPM1": 1}
    assert info["views"] == ["identity", "hflip"]
    assert info["feature_shape"] == [8]
    assert info["num_bytes"] == sum(len(data) for data in folder_bytes(store.path).values())
    assert json.loads(json.dumps(info)) == info
    (store.path / "bags" / "b" / "bag.json").unlink()
    with pytest.raises(BagDamagedError, match="'b'"):
        store_info(store)
