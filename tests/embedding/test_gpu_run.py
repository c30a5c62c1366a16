"""A store made on a GPU, played or real."""

import numpy as np

from stores import open_store
from tests.embedding.drawing import NUM_CELLS, bag_bytes, interrupt_after_a_bag, run, start


def test_a_store_made_on_a_gpu_holds_the_cpus_features_in_fp16(
    gpu, cohort_dir, store_path, encoder
):
    run(cohort_dir, store_path, encoder, device="cuda", precision="auto")
    on_cpu = store_path.with_name(f"cpu{store_path.suffix}")
    run(cohort_dir, on_cpu, encoder)
    with open_store(store_path) as store, open_store(on_cpu) as other:
        numerics = store.manifest.numerics
        assert (numerics["device_type"], numerics["compute_dtype"]) == ("cuda", "fp16")
        for bag_id in other.bag_ids:
            ours, theirs = (s.read(bag_id).features.astype(np.float64) for s in (store, other))
            products = (ours * theirs).sum(1)
            lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
            assert (products / lengths).min() > 0.9995


def test_an_interrupted_run_on_a_gpu_goes_on_to_the_same_bytes(
    gpu, cohort_dir, store_path, encoder
):
    whole = store_path.with_name(f"whole{store_path.suffix}")
    run(cohort_dir, whole, encoder, device="cuda", precision="fp16")
    interrupt_after_a_bag(
        start(cohort_dir, store_path, encoder, device="cuda", precision="fp16"), store_path
    )
    run(cohort_dir, store_path, encoder, device="cuda", precision="fp16")
    assert bag_bytes(store_path) == bag_bytes(whole)


def test_the_gpu_is_waited_for_once_a_batch(played, cohort_dir, store_path, encoder):
    waits = {}
    for batch_size in (5, 10):
        store = store_path.with_name(f"{batch_size}{store_path.suffix}")
        del played.waits[:]
        run(cohort_dir, store, encoder, device="cuda", precision="fp16", batch_size=batch_size)
        waits[batch_size] = len(played.waits)
    assert waits[5] - waits[10] == sum(NUM_CELLS.values()) // 5 - sum(NUM_CELLS.values()) // 10
