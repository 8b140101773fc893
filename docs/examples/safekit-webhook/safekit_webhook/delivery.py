"""Sends documents to URLs from a thread of its own: whoever hands one over never waits.

Flows through it: documents in, into a queue that is bounded; POST requests out, each tried again after a pause that
doubles. When the queue is full, the oldest document is dropped and counted: the newest tells how things are.
"""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FULL = 256  # documents that may wait
PAUSE = 1.0  # seconds before the second attempt
LONGEST = 60.0  # seconds, the longest pause


@dataclass(frozen=True)
class Letter:
    """A document on its way.

    :param attempts: how often it is sent before it is given up.
    """

    url: str
    document: Mapping[str, Any]
    timeout: float = 5.0
    attempts: int = 5


class Refused(Exception):
    """The other side does not take the document, and never will."""


def post(letter: Letter) -> int:
    """Send it once; the status of the answer.

    :raises Refused: the answer says that the document is not wanted (4xx, but not 408 and 429).
    :raises OSError: nobody answers, or the answer is an error that may pass.
    """
    body = json.dumps(letter.document).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "safekit-webhook"}
    # Only http and https get past the element's builder.
    request = urllib.request.Request(letter.url, body, headers, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=letter.timeout) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            if 400 <= error.code < 500 and error.code not in (408, 429):
                raise Refused(f"{letter.url} answers {error.code}") from error
            raise OSError(f"{letter.url} answers {error.code}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{letter.url}: {error}") from error


class Delivery:
    """The queue and its thread, which starts with the first document.

    :param pause: seconds before the second attempt; it doubles each time.
    """

    def __init__(self, pause: float = PAUSE) -> None:
        self._pause = pause
        self._waiting: deque[Letter] = deque()
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._busy = False
        self.counts: Counter[str] = Counter(delivered=0, failed=0, dropped=0)
        self.last_error = ""

    def __len__(self) -> int:
        return len(self._waiting) + self._busy

    def put(self, letter: Letter) -> None:
        """Take a document; returns at once."""
        with self._news:
            if len(self._waiting) >= FULL:
                self._waiting.popleft()
                self.counts["dropped"] += 1
            self._waiting.append(letter)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
                self._thread.start()
            self._news.notify()

    def close(self, limit: float = 2.0) -> None:
        """Give what waits a last chance of ``limit`` seconds."""
        with self._news:
            self._news.wait_for(lambda: not len(self), limit)
            self._stopping.set()
            self._news.notify_all()
        if self._thread is not None:
            self._thread.join(limit)

    def _work(self) -> None:
        while True:
            with self._news:
                self._busy = False
                self._news.notify_all()
                self._news.wait_for(lambda: self._waiting or self._stopping.is_set())
                if self._stopping.is_set():
                    return
                letter, self._busy = self._waiting.popleft(), True
            self._send(letter)

    def _send(self, letter: Letter) -> None:
        pause = self._pause
        for attempt in range(1, letter.attempts + 1):
            try:
                post(letter)
            except Refused as error:
                self.last_error = str(error)
                break
            except OSError as error:
                self.last_error = f"{letter.url}: {error}" if letter.url not in str(error) else str(error)
            else:
                self.counts["delivered"] += 1
                self.last_error = ""
                return
            if attempt < letter.attempts and self._stopping.wait(pause):
                break
            pause = min(2 * pause, LONGEST)
        self.counts["failed"] += 1
