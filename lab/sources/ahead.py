"""Work done by several threads at once, whose results come in the order of the work."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

Thing = TypeVar("Thing")
HEARTBEAT = 0.1  # seconds


@dataclass(frozen=True)
class Result(Generic[Thing]):
    """What a job brings: finished things, then jobs whose things come next."""

    finished: tuple[Thing, ...] = ()
    further: tuple["Job[Thing]", ...] = ()


Job = Callable[[], Result[Thing]]


def in_order(jobs: Iterable[Job[Thing]], workers: int, cut: Callable[[], None]) -> Iterator[Thing]:
    """The things of all jobs, in their order, while the next jobs are already done by so many threads.

    No more results wait than there are workers, twice that within further jobs. A job's error comes when its turn
    comes. When it does, or nobody wants the rest, `cut` must make the jobs under way end soon: they are waited for.
    """
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from _finished(pool, jobs, workers)
        except BaseException:
            cut()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _finished(pool: ThreadPoolExecutor, jobs: Iterable[Job[Thing]], ahead: int) -> Iterator[Thing]:
    remaining = iter(jobs)
    waiting = deque(pool.submit(job) for job in islice(remaining, ahead))
    while waiting:
        result = _result(waiting.popleft())
        waiting.extend(pool.submit(job) for job in islice(remaining, 1))
        yield from result.finished
        yield from _finished(pool, result.further, ahead)


def _result(future: Future[Result[Thing]]) -> Result[Thing]:
    """What a job brings, once it is done; an interrupt need not wait for that, as some systems have it wait."""
    while not wait([future], timeout=HEARTBEAT).done:
        pass
    return future.result()
