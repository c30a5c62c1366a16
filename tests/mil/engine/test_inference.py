import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aml_mil.mil.engine.inference import GROUP_BAGS, GROUP_CELLS, _windows

sizes_of_bags = st.lists(st.sampled_from([1, 2, 40, 500, 7_000, 100_000]), max_size=600)


@given(replicates=st.lists(sizes_of_bags, min_size=1, max_size=3).filter(any))
def test_bags_packed_together_take_bounded_memory(replicates):
    windows = list(_windows([np.array(sizes, np.int64) for sizes in replicates]))
    assert [first for first, _ in windows] == [0, *(last for _, last in windows[:-1])]
    assert windows[-1][1] == max(map(len, replicates))
    for first, last in windows:
        together = [sizes[first:last] for sizes in replicates]
        if last - first > 1:
            assert max(map(sum, together)) <= GROUP_CELLS
            longest = max(max(sizes, default=0) for sizes in together)
            assert (last - first) * longest <= 2 * GROUP_CELLS
            assert last - first <= GROUP_BAGS
