"""Workers: results in order, one torch thread each, errors, and no work left running."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ovseg3d.engine import Workers


@pytest.fixture
def two_torch_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_are_in_the_items_order():
    with Workers(2, threads=2).open() as workers:
        assert workers.map(lambda item: (time.sleep(0.02 * (3 - item)), item)[1], range(4)) == [0, 1, 2, 3]


def test_two_pieces_work_at_once():
    meet = threading.Barrier(2, timeout=10)  # neither passes alone
    with Workers(2, threads=2).open() as workers:
        assert sorted(workers.map(lambda _: meet.wait(), range(2))) == [0, 1]


def test_worker_threads_run_torch_single_threaded(two_torch_threads):
    meet = threading.Barrier(2, timeout=10)

    def threads(_: int) -> int:
        meet.wait()
        return torch.get_num_threads()

    with Workers(2, threads=2).open() as workers:
        assert torch.get_num_threads() == 1
        assert workers.map(threads, range(2)) == [1, 1]
    assert torch.get_num_threads() == 2


def test_one_piece_leaves_torch_its_threads(two_torch_threads):
    with Workers(1).open() as workers:
        assert workers.threads == 1
        assert workers.map(lambda _: torch.get_num_threads(), [0]) == [2]


def test_threads_change_not_one_bit():
    def work(piece: int) -> torch.Tensor:
        return torch.randn(1000, generator=torch.Generator().manual_seed(piece)).cumsum(0)

    totals = []
    for threads in (1, 2):
        with Workers(2, threads=threads).open() as workers:
            totals.append(torch.stack(workers.map(work, range(6))).sum(0))
    assert torch.equal(*totals)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_error_is_raised(threads):
    def work(piece: int) -> None:
        if piece in (1, 3):
            raise ValueError(f"piece {piece}")

    with Workers(4, threads=threads).open() as workers:
        with pytest.raises(ValueError, match="piece 1"):
            workers.map(work, range(4))
        assert workers.map(lambda item: item, range(3)) == [0, 1, 2]  # still usable


def test_nothing_runs_on_behind_an_error():
    """The caller may change or free what the other pieces work on."""
    ended = threading.Event()

    def work(piece: int) -> None:
        if piece == 0:
            raise ValueError("at once")
        time.sleep(0.1)
        ended.set()

    with Workers(2, threads=2).open() as workers:
        with pytest.raises(ValueError, match="at once"):
            workers.map(work, range(2))
        assert ended.is_set()


def test_a_workers_error_restores_torchs_threads(two_torch_threads):
    with pytest.raises(RuntimeError), Workers(2, threads=2).open():
        raise RuntimeError
    assert torch.get_num_threads() == 2


def test_other_threads_keep_their_number_of_torch_threads(two_torch_threads):
    """Also those that use torch for the first time while a pool is open, or after it."""

    def of_new_thread() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    with Workers(2, threads=2).open() as workers:
        assert workers.map(lambda _: torch.get_num_threads(), range(2)) == [1, 1]
        assert of_new_thread() == 2
    assert of_new_thread() == 2


def test_pools_beside_each_other_leave_torchs_threads(two_torch_threads):
    def use(_: int) -> int:
        with Workers(2, threads=2).open() as workers:
            workers.map(lambda _: torch.get_num_threads(), range(2))
        return torch.get_num_threads()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, range(40))) == [2] * 40
    assert torch.get_num_threads() == 2
