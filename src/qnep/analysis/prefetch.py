"""Read the next item while the present one is worked on."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from queue import Queue
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def prefetch(items: Iterable[Item], depth: int = 2) -> Generator[Item, None, None]:
    """Yield the items, which a thread of its own fetches up to ``depth`` ahead.

    Parsing text and searching neighbours leave Python's lock for most of their time, so that two
    threads run side by side. An error of the source is raised where its item was due.
    """
    queue: Queue = Queue(maxsize=depth)
    is_abandoned = threading.Event()

    def fetch() -> None:
        try:
            for item in items:
                queue.put((item, None))
                if is_abandoned.is_set():
                    return
            queue.put((_END, None))
        except Exception as failure:
            queue.put((_END, failure))

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    try:
        while True:
            item, failure = queue.get()
            if failure is not None:
                raise failure
            if item is _END:
                return
            yield item
    finally:
        is_abandoned.set()
        while thread.is_alive():
            _drain(queue)
            thread.join(0.01)


def _drain(queue: Queue) -> None:
    """Make room, so that a waiting thread comes to see that nobody listens."""
    while not queue.empty():
        queue.get_nowait()
