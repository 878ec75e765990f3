"""
What the console does when memory runs out: it says so, ends, and is started again.

A failed allocation may have left any library in a state of which nothing is known, and most of the
memory is only returned by the end of the process. Workers say that the pages restart until then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

App = Callable[..., Awaitable[None]]

OOM_SCORE = 500
"""Added to what the kernel compares: it ends this process before a worker, which carries calls."""
LAST_S = 10
"""The process ends after this time even if nothing of it runs any more."""
LARGE_BYTES = 1024 * 1024
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h: setting it also keeps it from rising
_ADJUSTMENT = Path("/proc/self/oom_score_adj")
_NO_THREAD = "can't start new thread"
_BODY = b"The pages restart. Calls are not affected.\n"
_HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"retry-after", b"2"),
]


def end_before_workers() -> None:
    """Let the kernel choose this process first when the machine or container is out of memory."""
    with contextlib.suppress(OSError):
        _ADJUSTMENT.write_text(str(OOM_SCORE))


def return_large_blocks() -> None:
    """Let glibc return each large block, such as that of a password's hash, when it is freed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, LARGE_BYTES)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the process cannot get more memory."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_out_of_memory(each) for each in error.exceptions)
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and str(error) == _NO_THREAD
    )


def ending_without_memory(application: App, stop: Callable[[], None]) -> App:
    """
    Return the application that responds with 503 and ends the process when memory runs out.

    Args:
        application: It raises what `is_out_of_memory` recognizes.
        stop: Begins the ordinary end of the process.
    """

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        has_begun = False

        async def noted(message: Any) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await application(scope, receive, noted)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            stop()
            signal.alarm(LAST_S)
            logger.critical("console_memory_exhausted", extra={"path": scope["path"]})
            if has_begun:
                raise
            await send({"type": "http.response.start", "status": 503, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": _BODY})

    return guarded
