"""etcd as the witness: its leases, and a transaction on two keys, by its JSON gateway. See ``seams.WitnessClient``.

    safekit/<cluster>/<module>/holder   the server that has the lease; goes with the lease
    safekit/<cluster>/<module>/record   the newest data, what they were made of, and who announced them

A grant is one transaction that compares the revisions of both keys with those that were read, so of two servers that
ask at once one asks again. Who may have it is decided by ``protocol.refusal``, as for our own witness. The lease
counts from before it was granted or renewed; etcd lets it go no sooner than its time, and after a change of its leader
later.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from dataclasses import dataclass
from typing import Any

from ..model import Witness
from ..seams import Grant
from .http import Failed, Http
from .protocol import MARGIN, Record, Request, noted, refusal

UNREADABLE = (LookupError, ValueError, TypeError, AttributeError)  # JSON of another shape than etcd's
PATIENCE = 1.5  # seconds for all that a request takes, or half of the lease where that is less


@dataclass(frozen=True, slots=True)
class _Found:
    """Both keys as they were read; revision 0 where there is none."""

    record: Record
    record_revision: int
    holder_revision: int
    holder_lease: str


class EtcdWitness:
    """A witness whose records are in etcd."""

    proves = True

    def __init__(self, witness: Witness, cluster: str, module: str, server: str) -> None:
        options = dict(witness.options)
        self._http = Http(witness.addresses, options.get("ca", ""), options.get("cert", ""), options.get("keyfile", ""))
        self._where = ", ".join(witness.addresses)
        prefix = f"safekit/{cluster}/{module}"
        self._holder, self._record = _text(f"{prefix}/holder"), _text(f"{prefix}/record")
        self._server, self._ttl = server, math.ceil(witness.lease)
        self._patience = min(PATIENCE, witness.lease / 2)
        self._lease = ""  # etcd's number of the lease that this server has
        self._one = asyncio.Lock()

    async def acquire(self, data: str, previous: str, *, known: bool = False) -> Grant:
        """Take or renew the lease for these data."""
        request = Request(self._server, "resume" if known else "acquire", 0, 0, data, previous)
        async with self._one:
            try:
                async with asyncio.timeout(self._patience):
                    return await self._acquire(request)
            except TimeoutError:
                why = ""
            except (OSError, Failed, *UNREADABLE) as error:
                why = f": {getattr(error, 'strerror', None) or error}"
        return Grant(granted=False, reason=f"etcd at {self._where} does not answer{why}", answered=False)

    async def release(self) -> None:
        """Give it back; when etcd does not answer, it ends by itself."""
        async with self._one:
            lease, self._lease = self._lease, ""
            if lease:
                try:
                    async with asyncio.timeout(self._patience):
                        await self._http.post("/v3/lease/revoke", {"ID": lease})
                except (OSError, Failed):
                    return

    async def _acquire(self, request: Request) -> Grant:
        since, ttl = await self._live_lease()
        while True:
            found = await self._read()
            reason = refusal(found.record, bool(found.holder_revision), request)
            if reason:
                return Grant(granted=False, reason=reason)
            after = noted(found.record, request)
            mine = found.holder_revision and found.holder_lease == self._lease
            if (mine and after == found.record) or await self._write(found, after):
                return Grant(granted=True, until=since + int(ttl * MARGIN * 1e9))

    async def _live_lease(self) -> tuple[int, int]:
        """Renew this server's lease, or take a new one: the clock from before that, and its seconds."""
        if self._lease:
            since = _clock()
            answer = await self._http.post("/v3/lease/keepalive", {"ID": self._lease})
            ttl = int(answer.get("result", {}).get("TTL", 0))
            if ttl > 0:
                return since, ttl
            self._lease = ""
        since = _clock()
        answer = await self._http.post("/v3/lease/grant", {"TTL": self._ttl})
        self._lease = str(answer["ID"])
        return since, int(answer["TTL"])

    async def _read(self) -> _Found:
        reads = [{"requestRange": {"key": key}} for key in (self._holder, self._record)]
        answer = await self._http.post("/v3/kv/txn", {"success": reads})
        holder, record = (_first(each) for each in answer["responses"])
        known = json.loads(_plain(record["value"])) if record else {}
        return _Found(
            Record(
                str(known.get("data", "")),
                str(known.get("previous", "")),
                str(known.get("author", "")),
                _plain(holder["value"]) if holder else "",
            ),
            int(record.get("mod_revision", 0)),
            int(holder.get("mod_revision", 0)),
            str(holder.get("lease", "")),
        )

    async def _write(self, found: _Found, after: Record) -> bool:
        """Whether nobody has changed either key meanwhile."""
        value = {"data": after.data, "previous": after.previous, "author": after.author}
        put = {"requestPut": {"key": self._holder, "value": _text(self._server), "lease": self._lease}}
        keep = {"requestPut": {"key": self._record, "value": _text(json.dumps(value))}}
        compare = [
            {"key": key, "target": "MOD", "result": "EQUAL", "modRevision": str(revision)}
            for key, revision in ((self._holder, found.holder_revision), (self._record, found.record_revision))
        ]
        answer = await self._http.post("/v3/kv/txn", {"compare": compare, "success": [put, keep]})
        return bool(answer.get("succeeded", False))


def _clock() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _plain(coded: str) -> str:
    return base64.b64decode(coded).decode()


def _first(response: dict[str, Any]) -> dict[str, Any]:
    found = response.get("response_range", {}).get("kvs", [])
    return found[0] if found else {}
