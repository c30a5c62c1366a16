import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stores.names import decode_bag_id, encode_bag_id

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@given(IDS)
@example("..")
@example(".")
@example("/etc/passwd")
@example("a/../../b")
@example("\0")
@example("zarr.json")
@example("ZARR.JSON")
@example("x" * 255)
@example("é" * 255)
def test_no_id_leaves_the_folder(bag_id):
    name = encode_bag_id(bag_id)
    assert name.isascii()
    assert 0 < len(name) <= 120
    assert not set(name) & set("/\\:\0 ")
    assert name[0] != "."
    assert name.lower() not in ("zarr.json", "bag.json.partial")
    assert os.path.normpath(f"/bags/{name}") == f"/bags/{name}"


@given(IDS)
@example("~")
@example("x" * 80 + "~" + "0" * 16)
@example("%41")
def test_a_name_gives_its_id_back_or_says_that_it_does_not_hold_it(bag_id):
    name = encode_bag_id(bag_id)
    assert decode_bag_id(name) == (bag_id if "~" not in name else None)


@given(IDS, IDS)
@example("A", "a")
@example("a/b", "a%2Fb")
@example("x" * 200 + "a", "x" * 200 + "b")
def test_two_ids_have_two_names(first, second):
    assert (encode_bag_id(first) == encode_bag_id(second)) == (first == second)


@given(st.text(max_size=130))
@example("%2e")
@example("%41")
@example("a b")
@example("%FF")
def test_a_foreign_name_is_recognised_or_stands_for_one_id(name):
    try:
        bag_id = decode_bag_id(name)
    except ValueError:
        return
    assert bag_id is None or encode_bag_id(bag_id) == name


def test_names_stay_readable():
    assert encode_bag_id("AQK_1-2.b") == "AQK_1-2.b"
    assert encode_bag_id("a/b") == "a%2Fb"
    assert encode_bag_id("..") == "%2E."
    assert encode_bag_id("x" * 121) == "x" * 80 + "~" + encode_bag_id("x" * 121)[-16:]


@pytest.mark.parametrize("bag_id", ["", "\udc80", "é" * 2049])
def test_what_has_no_name_is_refused(bag_id):
    with pytest.raises(ValueError, match="its id"):
        encode_bag_id(bag_id)
