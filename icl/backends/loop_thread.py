"""An event loop that outlives its callers' loops."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any, TypeVar

from templates.errors import ModelError

T = TypeVar("T")


class LoopThread:
    """An event loop on a thread of its own: the engine belongs to it, whatever loops its callers run.

    The thread starts with the first coroutine.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._thread: Thread | None = None
        self._asked: set[Future[Any]] = set()
        self._closed = False

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine there.

        Raises:
            ModelError: the loop was closed, before or meanwhile.
        """
        answer = self._submit(work)
        try:
            return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            asking = asyncio.current_task()
            if self._closed and asking and not asking.cancelling():  # the answer was cancelled, not who waits for it
                raise _closed() from None
            raise

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel all that runs there, run `last`, and end the loop and its thread.

        Who waits for an answer hears of it at once, even while something keeps the loop busy.
        """
        with self._lock:
            closed, self._closed = self._closed, True
        if closed or self._thread is None:
            return
        for answer in list(self._asked):
            answer.cancel()
        try:
            asyncio.run_coroutine_threadsafe(_alone(last), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._closed:
                work.close()
                raise _closed()
            if self._thread is None:
                self._loop = asyncio.new_event_loop()
                self._thread = Thread(target=self._loop.run_forever, name="vllm", daemon=True)
                self._thread.start()
            answer = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._asked.add(answer)
        answer.add_done_callback(self._asked.discard)
        return answer


async def _alone(last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    del others  # what they hold may go
    await last()


def _closed() -> ModelError:
    return ModelError("this model was closed before it answered; make a new one, and ask that")
