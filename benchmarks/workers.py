"""Work in processes of one thread each, which are faster than threads for small networks."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

import torch

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_in_processes(
    work: Callable[[Job], Result], jobs: Iterable[Job], processes: int
) -> Iterator[tuple[Job, Result]]:
    """Jobs with their results, in the order in which they finish.

    Args:
        work: A function of a module, since each process imports it.
        jobs: The jobs, which start in this order.
        processes: The number of processes; 0: this one does one job after the other.
    """
    if processes == 0:
        for job in jobs:
            yield job, work(job)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, torch.set_num_threads, (1,)) as pool:
        running = {pool.submit(work, job): job for job in jobs}
        for done in as_completed(running):
            yield running[done], done.result()
