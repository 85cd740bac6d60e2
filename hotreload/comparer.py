"""A process that compares types by their debug info, beside the session: reading that takes a processor for a while,
and in this process it would hold the interpreter against a module on its way to a host.

It is started for the first question, answers one after the other, and ends with us.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread
from typing import IO

from hotreload.debug_types import Answer, Question, compare
from hotreload.type_cache import TypeCache, user_directory

FAILURES_MOST = 3
"""A process that ends so often by itself is not started again."""
FAILED = ("", "the process that reads debug info has failed")
"""What `Answer.missing` says where it did."""


class Comparer:
    """Takes questions from any thread; the answers come as futures."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Question, Future[Answer]] | None] = SimpleQueue()
        self._lock = Lock()
        self._thread: Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._closed = False

    def ask(self, question: Question) -> Future[Answer]:
        """Returns at once. The future's callbacks run on a thread of ours."""
        future: Future[Answer] = Future()
        with self._lock:
            if self._closed:
                future.set_result(Answer())
                return future
            if self._thread is None:
                self._thread = Thread(target=self._run, name="hotreload-compare", daemon=True)
                self._thread.start()
        self._asked.put((question, future))
        return future

    def close(self) -> None:
        """Ends the process; what it has not answered is answered with nothing."""
        with self._lock:
            self._closed = True
            if self._process:
                self._process.kill()
        self._asked.put(None)
        if self._thread:
            self._thread.join(1.0)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            question, future = asked
            future.set_result(self._answer(question))
        self._end_process()

    def _answer(self, question: Question) -> Answer:
        if self._process and self._process.poll() is not None:  # it was ended while it had nothing to do
            self._end_process()
        try:
            process = self._running()
            if process is None or process.stdin is None or process.stdout is None:
                return self._nothing()
            _write(process.stdin, question)
            answer = _read(process.stdout)
        except (OSError, EOFError, pickle.PickleError):
            answer = None
        if isinstance(answer, Answer):
            return answer
        self._failures += 1
        self._end_process()  # what it may still say would be taken for the answer to another question
        return self._nothing()

    def _nothing(self) -> Answer:
        return Answer() if self._closed else Answer(missing=(FAILED,))

    def _end_process(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream:
                with suppress(OSError):
                    stream.close()
        process.wait()

    def _running(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._closed or self._failures >= FAILURES_MOST:
                return None
            if self._process is None:
                # The same modules as ours, whatever directory and environment we were started with. A session of its
                # own: Ctrl-C is ours to answer.
                program = f"import sys; sys.path[:] = {sys.path!r}; from hotreload.comparer import serve; serve()"
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-c", program],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            return self._process


def serve() -> None:
    """The process: answers on standard output what it is asked on standard input, until that ends."""
    answers, questions = os.fdopen(os.dup(1), "wb"), sys.stdin.buffer
    os.dup2(2, 1)  # whatever else prints must not come between
    cache = TypeCache(user_directory(os.environ))
    with suppress(EOFError, OSError):
        while True:
            question = _read(questions)
            assert isinstance(question, Question)
            _write(answers, compare(question, cache))
            cache.save()


_LENGTH = struct.Struct("<Q")


def _write(stream: IO[bytes], value: object) -> None:
    data = pickle.dumps(value)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _read(stream: IO[bytes]) -> object:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    try:
        return pickle.loads(data)
    except (AttributeError, ImportError, IndexError, TypeError, ValueError) as error:
        # This package was upgraded after one of the two processes had been started.
        raise pickle.UnpicklingError(str(error)) from error
