"""A volume without replication: each request is done on the image and answered. What any worker does on its own disk.

Run as a worker it needs neither a peer nor an agent; the keeper's tests and measurements use it.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from .fuse import Session
from .image import ImageFile
from .request import Image, Request
from .start import Start

NOT_YET = 0.005  # seconds between two looks whether the volumes are mounted


def perform(image: Image, request: Request) -> memoryview | None:
    """Do what a request asks.

    :returns: what a read found.
    :raises OSError: as the disk said; the request is to be answered with its errno.
    """
    if request.kind == "read":
        return image.read(request.offset, request.size)
    if request.kind == "write":
        assert request.data is not None
        image.write(request.offset, request.data)
    elif request.kind == "flush":
        image.sync()
    elif request.kind == "discard":
        image.discard(request.offset, request.size)
    else:
        image.zero(request.offset, request.size)
    return None


def serve(session: Session, images: Sequence[Image], requests: Sequence[Request]) -> None:
    """Do and answer requests in their order."""
    for request in requests:
        try:
            found = perform(images[request.volume], request)
        except OSError as error:
            session.answer(request, error.errno or errno.EIO)
        else:
            session.answer(request, 0, found)


def run(start: Start) -> None:
    """A worker: serve until nothing is mounted any more."""
    images = [ImageFile(Path(start.folder, f"{each.name}.img")) for each in start.volumes]
    session = Session(start.fuse, start.volumes, resend=start.again, told=start.shared.learnt)
    control = socket.socket(fileno=start.listen)
    poll = select.poll()
    poll.register(session.fd, select.POLLIN)
    try:
        while True:
            if poll.poll()[0][1] & select.POLLERR:  # not mounted yet, or not any more
                time.sleep(NOT_YET)
            serve(session, images, session.read())
    except ConnectionError:
        control.close()
