"""A process that makes values of Faker's methods: it answers the requests on its stdin until that ends.

It is run as ``python -m bulkseed.faker_process``. The user's providers run in it.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Mapping
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO, NoReturn

from bulkseed.errors import InputError
from bulkseed.processes import HANDSHAKE, frame, read_frame
from bulkseed.text.faker_values import make_generator, make_pool


def answer_to(request: Mapping[str, Any]) -> object:
    """Return what :func:`make_pool` returns for a request, or the InputError that it raises.

    For a request without a method, only the providers are imported.
    """
    try:
        if "method" in request:
            return make_pool(**request)
        make_generator(**request)
        return None
    except InputError as error:
        return error


def receive(pipe: BinaryIO, requests: SimpleQueue[Any]) -> NoReturn:
    """Put the requests into a queue. When the pipe ends, the values are no longer needed: exit, whatever goes on.

    It runs in a thread.
    """
    while True:
        try:
            requests.put(read_frame(pipe))
        except EOFError:
            os._exit(0)


def main(requests: BinaryIO, answers: BinaryIO) -> NoReturn:
    """Answer requests until the process is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    warnings.simplefilter("ignore")  # Faker warns of deprecated locales and methods
    answers.write(HANDSHAKE)
    answers.flush()
    received: SimpleQueue[Any] = SimpleQueue()
    Thread(target=receive, args=(requests, received), daemon=True).start()
    process = os.getpid()
    while True:
        answer = frame(answer_to(received.get()))
        if os.getpid() != process:
            os._exit(0)  # a provider has forked: one of the two must answer, and no copy may remain
        try:
            answers.write(answer)
            answers.flush()
        except OSError:
            os._exit(0)  # the parent is gone


if __name__ == "__main__":
    # what a provider prints must not get between the answers, and it must not read the requests
    pipes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    main(*pipes)
