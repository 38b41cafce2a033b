"""Map a function over blocks of users by tasks of Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from skmars.distributed._cluster import n_cpus, ray

Block = TypeVar("Block")
Result = TypeVar("Result")


class RayMap:
    """The built-in `map`, with each call as a task of Ray.

    A runner that gets it reads the events of users, and makes their rows, on all machines of a
    cluster: ``Runner(deployment, store, log, map=RayMap())``. The pool is the same, to the bit.
    Each process opens the store by its address, so that on several machines it must be one of
    Redis.

    Parameters
    ----------
    in_flight : int, default=None
        How many tasks, or results that nobody has taken yet, there are at most. None is twice the
        number of CPUs.

    Raises
    ------
    ImportError
        If Ray is not installed.
    ValueError
        If `in_flight` is not positive.

    Notes
    -----
    Results come in the order of the blocks. An exception of the function is raised as it is. A task
    whose machine or process died is repeated, three times at most.

    Examples
    --------
    >>> import ray  # doctest: +SKIP
    >>> from skmars.distributed import RayMap
    >>> from skmars.serving import Runner, open_store
    >>> ray.init("auto")  # doctest: +SKIP
    >>> runner = Runner("shop", open_store("redis://host/0"), map=RayMap())  # doctest: +SKIP
    """

    def __init__(self, in_flight: int | None = None) -> None:
        if in_flight is not None and in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, got {in_flight}.")
        self.in_flight = in_flight
        self._call: Any = ray().remote(_call)

    def __call__(
        self, function: Callable[[Block], Result], blocks: Iterable[Block]
    ) -> Iterator[Result]:
        """Yield the result for each block, in order.

        Parameters
        ----------
        function : callable
            It is pickled once for all blocks.
        blocks : iterable
        """
        at_most = self.in_flight or 2 * max(1, n_cpus())
        shared: Any = None
        waiting: deque[Any] = deque()
        try:
            for block in blocks:
                if shared is None:
                    shared = ray().put(function)
                if len(waiting) == at_most:
                    yield _result(waiting.popleft())
                waiting.append(self._call.remote(shared, block))
            while waiting:
                yield _result(waiting.popleft())
        finally:
            for task in waiting:
                ray().cancel(task)


def _call(function: Callable[[Block], Result], block: Block) -> Result:
    return function(block)


def _result(task: Any) -> Any:
    try:
        return ray().get(task)
    except ray("ray.exceptions").RayTaskError as error:
        raise error.cause from error
