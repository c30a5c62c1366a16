import pytest
import torch

from aml_mil.ssl.queue import ProjectionQueue


def batch(start: int, size: int) -> list[torch.Tensor]:
    rows = torch.arange(start, start + size).float()[:, None].repeat(1, 2)
    return [rows, -rows]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12])
def test_it_holds_the_newest_rows_in_order(size: int) -> None:
    queue, seen = ProjectionQueue(5, num_crops=2, num_dimensions=2), 0
    while seen < 20:
        assert queue.is_full == (seen >= 5)
        queue.push(batch(seen, size))
        seen += size
    newest = torch.arange(seen - 5, seen).float()
    assert torch.equal(queue.rows[0, :, 0], newest)
    assert torch.equal(queue.rows[1, :, 0], -newest)


def test_it_is_part_of_the_state() -> None:
    queue, other = (ProjectionQueue(3, num_crops=2, num_dimensions=2) for _ in range(2))
    queue.push(batch(0, 4))
    other.load_state_dict(queue.state_dict())
    assert other.is_full
    assert torch.equal(other.rows, queue.rows)
