"""What every backend must do; a backend's tests inherit ``StoreContract``."""

import json
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stores import (
    BagDamagedError,
    BagExistsError,
    BagNotFoundError,
    FeatureStore,
    InvalidBagError,
    StoreDamagedError,
    StoreMismatchError,
    create_store,
    files,
    open_or_create_store,
    open_store,
    store_info,
    verify_store,
)
from stores.open import SKELETON
from tests.stores.faults import FaultyOs, run_faults
from tests.stores.samples import bag_values, folder_bytes, make_bag, make_manifest

ODD_IDS = ("..", ".", "/", "a/b", "/etc/passwd", "../../x", ".hidden", "__x", "zarr.json", "A", "a")
MORE_IDS = ("\0", "ä", "急性", "a b", "a%2Fb", "~", "a\\b", "C:", "x" * 255, "x" * 254 + "y", "%")
HOSTILE_IDS = st.one_of(
    st.text(st.sampled_from("/\\.~%:\0 aAäé急"), min_size=1, max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255),
)
CALLS_AFTER_COMMIT = 3  # open, fsync, close of the folder of bags
MODEST = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


class StoreContract:
    suffix: ClassVar[str]

    def place(self, folder: Path, name: str) -> Path:
        """Where a store of a name lies below a folder."""
        return folder / f"{name}{self.suffix}"

    def folder(self, store: FeatureStore) -> Path:
        """The folder on the disk that a store fills."""
        return store.path

    def assert_nothing_is_staged(self, store: FeatureStore) -> None:
        assert not list((self.folder(store) / ".tmp").iterdir())

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return self.place(tmp_path, "cohort")

    @pytest.fixture
    def store(self, path: Path) -> FeatureStore:
        return create_store(path, make_manifest())

    def bag_path(self, store: FeatureStore, name: str = "AQK") -> Path:
        return self.folder(store) / "bags" / name

    # what is written is read

    def test_a_reopened_store_returns_what_was_written(self, store):
        bag = make_bag()
        store.write(bag)
        with open_store(store.path) as reopened:
            assert bag_values(reopened.read("AQK")) == bag_values(bag)
            assert reopened.manifest == store.manifest
            assert reopened.bag_ids == ("AQK",)

    def test_a_bag_with_the_required_arrays_only_is_enough(self, path):
        manifest = make_manifest(views=("identity",), trained_on=None)
        store = create_store(path, manifest)
        bag = make_bag(
            manifest=manifest,
            colour=None,
            instance_labels=None,
            smear=None,
            coords=None,
            label=None,
            attributes={},
            quarantined=(),
            fingerprint="",
        )
        store.write(bag)
        assert bag_values(store.read("AQK")) == bag_values(bag)

    def test_maps_and_float32_come_back_as_they_were(self, path):
        manifest = make_manifest(feature_shape=(3, 2, 2), dtype="float32")
        store = create_store(path, manifest)
        bag = make_bag(manifest=manifest)
        store.write(bag)
        assert bag_values(store.read("AQK")) == bag_values(bag)

    def test_read_arrays_belong_to_the_caller(self, store):
        store.write(make_bag())
        bag = store.read("AQK")
        bag.features[:] = 0
        bag.colour[:] = 0
        assert store.read("AQK").features.any()

    def test_wider_floats_are_cast_to_the_dtype_of_the_store(self, store):
        features = np.full((5, 8), 1 / 3, dtype=np.float64)
        store.write(make_bag(features=features))
        assert np.array_equal(store.read("AQK").features, features.astype(np.float16))

    def test_the_record_needs_bag_json_only(self, store):
        bag = make_bag()
        store.write(bag)
        for file in self.bag_path(store).rglob("*"):
            if file.is_file() and file.name != "bag.json":
                file.unlink()
        record = store.record("AQK")
        assert record.num_instances == 5
        assert (record.label, record.fingerprint) == ("APL", "0123")
        assert record.attributes == bag.attributes
        assert record.quarantined == bag.quarantined
        assert record.arrays["views"].shape == (1, 5, 8)
        assert store_info(store)["num_quarantined"] == 1

    @MODEST
    @given(data=st.data())
    def test_any_valid_arrays_come_back_bit_for_bit(self, tmp_path_factory, data):
        shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
        dtype = data.draw(st.sampled_from(("float16", "float32", "float64")))
        num = data.draw(st.integers(1, 6))
        num_views = data.draw(st.integers(1, 3))
        finite = {"allow_nan": False, "allow_infinity": False, "width": int(dtype[5:])}

        def draw_features(*leading: int):
            full = (*leading, num, *shape)
            return data.draw(hnp.arrays(dtype, full, elements=st.floats(**finite)))

        text = st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9
        )
        manifest = make_manifest(
            views=("identity", "a", "b")[:num_views], feature_shape=shape, dtype=dtype
        )
        store = create_store(self.place(tmp_path_factory.mktemp("any"), "s"), manifest)
        ids = data.draw(st.lists(text.filter(bool), min_size=num, max_size=num, unique=True))
        labels = data.draw(st.lists(text, min_size=num, max_size=num))
        bag = make_bag(
            data.draw(text.filter(bool)),
            manifest=manifest,
            num=num,
            features=draw_features(),
            views=draw_features(num_views - 1) if num_views > 1 else None,
            instance_ids=tuple(ids),
            instance_labels=tuple(labels),
        )
        store.write(bag)
        assert bag_values(store.read(bag.bag_id)) == bag_values(bag)
        assert [record.error for record in verify_store(store)] == [None]

    # ids

    @pytest.mark.parametrize("bag_id", ODD_IDS + MORE_IDS)
    def test_an_odd_id_stays_inside_its_folder_and_comes_back(self, store, bag_id):
        before = {entry.name for entry in self.folder(store).parent.iterdir()}
        store.write(make_bag(bag_id))
        assert store.read(bag_id).bag_id == bag_id
        assert store.bag_ids == (bag_id,)
        assert {entry.name for entry in self.folder(store).parent.iterdir()} == before
        [folder] = [entry for entry in (self.folder(store) / "bags").iterdir() if entry.is_dir()]
        assert (folder / "bag.json").is_file()
        assert len(folder.name) <= 120

    @MODEST
    @given(bag_ids=st.lists(HOSTILE_IDS, min_size=1, max_size=4, unique=True))
    @example(bag_ids=["A", "a"])
    @example(bag_ids=["..", "../..", "/", "a/../../b"])
    @example(bag_ids=["x" * 255, "é" * 255, "x" * 254 + "/"])
    def test_any_ids_stay_inside_and_come_back(self, tmp_path_factory, bag_ids):
        folder = tmp_path_factory.mktemp("ids")
        store = create_store(self.place(folder, "s"), make_manifest())
        for seed, bag_id in enumerate(bag_ids):
            store.write(make_bag(bag_id, seed=seed))
        assert [entry.name for entry in folder.iterdir()] == [store.path.name]
        assert {p.name for p in self.folder(store).iterdir()} <= SKELETON
        folders = [entry for entry in (self.folder(store) / "bags").iterdir() if entry.is_dir()]
        assert len(folders) == len(bag_ids)
        assert all((entry / "bag.json").is_file() for entry in folders)
        reopened = open_store(store.path)
        assert reopened.bag_ids == tuple(sorted(bag_ids))
        for seed, bag_id in enumerate(bag_ids):
            assert bag_values(reopened.read(bag_id)) == bag_values(make_bag(bag_id, seed=seed))

    def test_odd_ids_do_not_meet(self, store):
        ids = ODD_IDS + MORE_IDS
        for seed, bag_id in enumerate(ids):
            store.write(make_bag(bag_id, seed=seed))
        assert store.bag_ids == tuple(sorted(ids))
        for seed, bag_id in enumerate(ids):
            assert bag_values(store.read(bag_id)) == bag_values(make_bag(bag_id, seed=seed))

    @pytest.mark.parametrize("bag_id", ["", "\ud800", "x" * 5000, 7])
    def test_an_impossible_id_is_refused(self, store, bag_id):
        with pytest.raises(InvalidBagError, match=r"id"):
            store.write(make_bag(bag_id))
        assert bag_id not in store
        assert len(store) == 0

    def test_an_unknown_id_is_not_found(self, store):
        for ask in (store.read, store.record, store.delete):
            with pytest.raises(BagNotFoundError, match="'AQK'"):
                ask("AQK")
        assert "AQK" not in store

    # commits

    def test_the_first_commit_wins(self, store):
        store.write(make_bag(seed=1))
        with pytest.raises(BagExistsError, match="'AQK'"):
            open_store(store.path).write(make_bag(seed=2))
        assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=1))
        self.assert_nothing_is_staged(store)

    def test_the_first_commit_wins_where_both_were_under_way(self, store, monkeypatch):
        def meanwhile(source, target):
            monkeypatch.undo()
            open_store(store.path).write(make_bag(seed=1))
            files.move_dir(source, target)

        monkeypatch.setattr("stores.bag_folder.files.move_dir", meanwhile)
        with pytest.raises(BagExistsError, match="'AQK'"):
            store.write(make_bag(seed=2))
        assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=1))
        self.assert_nothing_is_staged(store)

    def test_threads_writing_one_bag_commit_it_once(self, store):
        outcomes = []

        def write(seed: int) -> None:
            try:
                store.write(make_bag(seed=seed))
                outcomes.append(seed)
            except BagExistsError:
                outcomes.append(None)

        threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [winner] = [seed for seed in outcomes if seed is not None]
        assert len(outcomes) == 4
        assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=winner))

    def test_the_same_bag_is_the_same_bytes(self, store, tmp_path):
        other = create_store(self.place(tmp_path, "other"), make_manifest())
        other.write(make_bag("BZF"))
        for each in (store, other):
            each.write(make_bag())
        assert folder_bytes(self.bag_path(store)) == folder_bytes(self.bag_path(other))
        assert (self.folder(store) / "manifest.json").read_bytes() == (
            self.folder(other) / "manifest.json"
        ).read_bytes()

    def test_replace_leaves_the_new_bag_only(self, store):
        store.write(make_bag(seed=1))
        store.replace(make_bag(seed=2))
        store.replace(make_bag("new", seed=3))
        assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=2))
        assert store.bag_ids == ("AQK", "new")
        self.assert_nothing_is_staged(store)

    @pytest.mark.parametrize(
        "changes",
        [{"features": np.full((5, 8), np.nan, np.float16)}, {"attributes": {"note": "x" * 2**16}}],
        ids=["not finite", "record too long"],
    )
    def test_a_refused_replacement_keeps_the_old_bag(self, store, changes, monkeypatch):
        monkeypatch.setattr("stores.documents.MAX_DOCUMENT_BYTES", 2**16)
        store.write(make_bag(seed=1))
        with pytest.raises(InvalidBagError):
            store.replace(make_bag(**changes))
        assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=1))

    def test_a_deleted_bag_is_gone_and_can_be_written_again(self, store):
        store.write(make_bag())
        (self.bag_path(store) / "bag.json").write_bytes(b"damaged")
        store.delete("AQK")
        assert len(store) == 0
        store.write(make_bag())
        assert bag_values(store.read("AQK")) == bag_values(make_bag())

    def test_a_bag_replaced_while_it_is_read_is_read_whole(self, store, monkeypatch):
        store.write(make_bag(seed=1))
        real = files.read_bytes

        def read_bytes(path, *, max_bytes):
            if path.name != "bag.json":
                monkeypatch.undo()
                open_store(store.path).replace(make_bag(seed=2))
            return real(path, max_bytes=max_bytes)

        monkeypatch.setattr("stores.bag_folder.files.read_bytes", read_bytes)
        assert bag_values(store.read("AQK")) == bag_values(make_bag(seed=2))

    def test_a_bag_deleted_while_it_is_read_is_not_found(self, store, monkeypatch):
        store.write(make_bag(seed=1))
        real = files.read_bytes

        def read_bytes(path, *, max_bytes):
            if path.name != "bag.json":
                monkeypatch.undo()
                open_store(store.path).delete("AQK")
            return real(path, max_bytes=max_bytes)

        monkeypatch.setattr("stores.bag_folder.files.read_bytes", read_bytes)
        with pytest.raises(BagNotFoundError):
            store.read("AQK")

    # crashes

    def num_write_calls(self, store: FeatureStore, bag_id: str) -> int:
        faulty = FaultyOs(at=None, kind=None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "os", faulty)
            store.write(make_bag(bag_id))
        store.delete(bag_id)
        return len(faulty.calls)

    @pytest.mark.parametrize("replace", [False, True])
    def test_a_writer_killed_at_any_call_leaves_a_whole_bag_or_none(self, store, replace):
        store.write(make_bag("before"))
        expected = self.folders_of(store, "before", "killed")
        if not replace:
            store.delete("killed")
        num_calls = self.num_write_calls(store, "other") + 4 * replace
        faults = []
        for at in sorted(
            {*range(0, num_calls, max(1, num_calls // 8)), *range(num_calls - 8, num_calls)}
        ):
            copy = self.folder(store).parent / f"{at}{self.suffix}"
            shutil.copytree(self.folder(store), copy)
            common = {"path": str(copy), "at": at, "bag": "killed", "replace": replace}
            faults.append({**common, "kind": "kill"})
        codes = run_faults(faults)
        assert set(codes) == {-signal.SIGKILL}
        absent = 0
        for fault in faults:
            after = open_store(fault["path"])
            assert set(after.bag_ids) <= {"before", "killed"}
            assert [record.error for record in verify_store(after)] == [None] * len(after)
            absent += "killed" not in after
            if "killed" not in after:
                after.write(make_bag("killed", seed=6))
            assert self.folders_of(after, "before", "killed", write=False) == expected
        assert absent > 0
        assert replace or absent < len(faults)

    def folders_of(self, store: FeatureStore, *bag_ids: str, write: bool = True):
        """The bytes of the folders of bags; ``killed`` is what the faulty writer writes."""
        if write and "killed" not in store:
            store.write(make_bag("killed", seed=6))
        return {bag_id: folder_bytes(self.bag_path(store, bag_id)) for bag_id in bag_ids}

    @pytest.mark.parametrize("kind", ["ENOSPC", "EIO"])
    def test_a_failing_disk_is_an_error_and_leaves_nothing(self, store, kind, monkeypatch):
        num_calls = self.num_write_calls(store, "AQK")
        for at in range(0, num_calls, max(1, num_calls // 12)):
            monkeypatch.setattr(files, "os", FaultyOs(at=at, kind=kind))
            with pytest.raises(OSError, match="injected") as caught:
                store.write(make_bag())
            monkeypatch.undo()
            assert any(
                "'AQK'" in note and str(store.path) in note for note in caught.value.__notes__
            )
            self.assert_nothing_is_staged(store)
            if at < num_calls - CALLS_AFTER_COMMIT:
                assert "AQK" not in store
            else:
                assert bag_values(store.read("AQK")) == bag_values(make_bag())
                store.delete("AQK")
        store.write(make_bag())
        assert bag_values(store.read("AQK")) == bag_values(make_bag())

    def test_strays_of_dead_writers_are_not_seen(self, store):
        store.write(make_bag())
        shutil.copytree(self.bag_path(store), self.folder(store) / ".tmp" / "dead" / "BZF")
        (self.folder(store) / "bags" / "notes.txt").write_text("not a bag")
        (self.folder(store) / "bags" / "foreign folder").mkdir()
        assert store.bag_ids == ("AQK",)

    def test_a_store_that_cannot_be_written_can_be_read(self, store, monkeypatch):
        store.write(make_bag())
        for call in ("mkdir", "rename", "link"):
            monkeypatch.setattr(f"os.{call}", refuse_write)
        with open_store(store.path) as reopened:
            assert bag_values(reopened.read("AQK")) == bag_values(make_bag())
            assert store_info(reopened)["num_bags"] == 1
            assert [record.error for record in verify_store(reopened)] == [None]
            with pytest.raises(OSError, match="read-only") as caught:
                reopened.write(make_bag("BZF"))
        assert "'BZF'" in caught.value.__notes__[0]

    # refused bags

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("name", ["features", "views"])
    def test_a_feature_that_is_not_finite_is_named(self, store, name, value):
        bag = make_bag()
        getattr(bag, name)[..., 3, 2] = value
        with pytest.raises(InvalidBagError, match=r"'AQK'.*image_3\.tif.*not finite.*1 of 5"):
            store.write(bag)
        assert len(store) == 0

    @pytest.mark.parametrize("value", [65520.0, -1e30])
    def test_an_overflow_at_the_cast_is_named(self, store, value):
        features = np.zeros((5, 8), dtype=np.float32)
        features[4, 0] = value
        with pytest.raises(InvalidBagError, match=r"'AQK'.*image_4\.tif.*too large for float16"):
            store.write(make_bag(features=features))
        assert len(store) == 0

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"instance_ids": ()}, "no instances"),
            ({"instance_ids": ("a", "b", "a", "c", "d")}, "twice: a"),
            ({"instance_ids": ("a", "", "c", "d", "e")}, "instance 1 has an empty id"),
            ({"instance_ids": ("a", "b\0", "c", "d", "e")}, "NUL"),
            ({"instance_ids": ("a", "\ud800", "c", "d", "e")}, "UTF-8"),
            ({"instance_ids": ("a", "b", "c", "d")}, "shape"),
            ({"features": np.zeros((4, 8), np.float16)}, "shape"),
            ({"colour": np.zeros((5, 3), np.float32)}, "colour"),
            ({"colour": np.full((5, 6), np.nan, np.float32)}, "colour of instance .* not finite"),
            ({"coords": np.zeros((5, 3), np.float32)}, "coords"),
            ({"coords": np.full((5, 2), np.inf, np.float32)}, "coords of instance .* infinite"),
            ({"smear": ("a",)}, "smear has 1"),
            ({"instance_labels": ("a", "b", "c", "d", 1)}, "instance_labels"),
            ({"label": 3}, "label is 3"),
            ({"attributes": {"age": float("nan")}}, r"attributes\.age is nan"),
            ({"attributes": {"age": np.int64(3)}}, "int64"),
            ({"attributes": {1: "a"}}, "key 1"),
            ({"fingerprint": None}, "fingerprint"),
            ({"coords": np.full((5, 2), "x")}, "coords"),
        ],
    )
    def test_a_bag_that_breaks_the_schema_is_refused(self, store, changes, message):
        with pytest.raises(InvalidBagError, match=f"'AQK'.*{message}"):
            store.write(make_bag(**changes))
        assert len(store) == 0
        self.assert_nothing_is_staged(store)

    def test_coordinates_may_be_unknown_per_instance(self, store):
        coords = np.array([[1, 2], [np.nan, np.nan], [3, 4], [5, 6], [7, 8]], dtype=np.float32)
        store.write(make_bag(coords=coords))
        assert np.array_equal(store.read("AQK").coords, coords, equal_nan=True)

    # refuse to mix

    @pytest.mark.parametrize(
        "changes",
        [
            {"features": np.zeros((5, 9), np.float16)},
            {"features": np.zeros((5, 8, 1), np.float16)},
            {"features": np.zeros((5, 8), np.int32)},
            {"views": None},
            {"views": np.zeros((2, 5, 8), np.float16)},
        ],
    )
    def test_a_bag_of_another_shape_dtype_or_view_list_is_refused(self, store, changes):
        with pytest.raises(StoreMismatchError, match=r"'AQK'.*store"):
            store.write(make_bag(**changes))
        assert len(store) == 0

    def test_features_with_less_precision_than_the_store_are_refused(self, path):
        store = create_store(path, make_manifest(dtype="float32"))
        with pytest.raises(StoreMismatchError, match=r"float16.*float32"):
            store.write(make_bag())

    @pytest.mark.parametrize(
        ("changes", "shown"),
        [
            ({"encoder": "resnet34"}, ("encoder", "'resnet18'", "'resnet34'")),
            ({"architecture": "timm/x"}, ("architecture", "'timm/resnet18'", "'timm/x'")),
            ({"weights_sha256": "00"}, ("weights_sha256", "5f5f", "'00'")),
            ({"preprocessing": {"image_size_px": 96}}, ("image_size_px", "144", "96", "mean")),
            ({"views": ("identity",)}, ("views", "hflip", "('identity',)")),
            ({"feature_shape": (9,)}, ("feature_shape", "(8,)", "(9,)")),
            ({"dtype": "float32"}, ("dtype", "'float16'", "'float32'")),
        ],
    )
    def test_a_store_made_in_another_way_is_refused_showing_both_values(
        self, store, changes, shown
    ):
        with pytest.raises(StoreMismatchError) as caught:
            open_or_create_store(store.path, make_manifest(**changes))
        for text in (*shown, str(store.path)):
            assert text in str(caught.value)

    def test_numerics_and_the_name_of_the_weights_are_not_compared(self, store):
        changed = make_manifest(numerics={"compute_dtype": "bfloat16"}, weights="elsewhere.bin")
        assert open_or_create_store(store.path, changed).manifest == store.manifest

    def test_a_bag_of_another_store_is_refused(self, store, tmp_path):
        manifest = make_manifest(weights_sha256="00")
        other = create_store(self.place(tmp_path, "other"), manifest)
        other.write(make_bag())
        shutil.copytree(self.bag_path(other), self.bag_path(store))
        for ask in (store.read, store.record):
            with pytest.raises(BagDamagedError, match=r"'AQK'.*another store"):
                ask("AQK")

    # damage

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

    # log

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


def refuse_write(*args: object, **kwargs: object) -> None:
    raise OSError(30, "read-only file system")
