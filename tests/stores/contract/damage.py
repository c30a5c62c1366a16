"""Damaged bags are named; the log is of no consequence to them."""

import json
import os
import shutil

import pytest

from stores import BagDamagedError, StoreDamagedError, open_store, verify_store
from tests.stores.contract.place import ContractPlace
from tests.stores.samples import folder_bytes, make_bag


class DamageContract(ContractPlace):
    def test_a_folder_or_a_pipe_in_place_of_a_file_is_an_error(self, store):
        store.write(make_bag())
        for name, data in folder_bytes(self.bag_path(store)).items():
            file = self.bag_path(store) / name
            file.unlink()
            file.mkdir()
            with pytest.raises(BagDamagedError, match="'AQK'"):
                store.read("AQK")
            file.rmdir()
            os.mkfifo(file)
            with pytest.raises(BagDamagedError, match="'AQK'"):
                store.read("AQK")
            file.unlink()
            file.write_bytes(data)

    def test_a_bag_in_the_folder_of_another_id_is_an_error(self, store):
        store.write(make_bag())
        shutil.copytree(self.bag_path(store), self.bag_path(store, "BZF"))
        with pytest.raises(BagDamagedError, match=r"'BZF'.*'AQK'"):
            store.record("BZF")
        assert [r.bag_id for r in verify_store(store) if r.error] == ["BZF"]

    def test_a_damaged_bag_with_a_long_id_is_listed_by_its_folder(self, store):
        store.write(make_bag("x" * 200))
        [bag_json] = (self.folder(store) / "bags").glob("*/bag.json")
        bag_json.unlink()
        reopened = open_store(store.path)
        [listed] = reopened.bag_ids
        assert listed == bag_json.parent.name
        for ask in (reopened.read, reopened.record):
            with pytest.raises(BagDamagedError, match="xxx"):
                ask(listed)
        with pytest.raises(BagDamagedError, match="x" * 200):
            reopened.read("x" * 200)
        reopened.delete(listed)
        assert len(reopened) == 0

    def test_a_store_without_its_bags_folder_is_damaged(self, store):
        shutil.rmtree(self.folder(store) / "bags")
        with pytest.raises(StoreDamagedError, match="bags"):
            _ = store.bag_ids

    def test_the_log_keeps_events_with_time_and_host(self, store):
        assert store.read_log() == ()
        store.log({"event": "embed", "cells": 3})
        with (self.folder(store) / "log.jsonl").open("ab") as file:
            file.write(b'{"event": "to')
        store.log({"event": "done"})
        first, torn, last = open_store(store.path).read_log()
        assert first["event"] == "embed"
        assert first["cells"] == 3
        assert {"time", "host"} <= first.keys()
        assert torn == {"unreadable": '{"event": "to'}
        assert last["event"] == "done"
        with pytest.raises(ValueError, match="time"):
            store.log({"time": 1})

    def test_nothing_in_a_bag_or_the_manifest_tells_the_time(self, store):
        store.write(make_bag())
        fields = json.loads((self.bag_path(store) / "bag.json").read_bytes())
        assert not {"time", "host", "created"} & fields.keys()
