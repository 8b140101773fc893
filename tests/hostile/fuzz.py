"""Calls every operation of an OpenAPI document with values made from it, good and bad; prints what is not as it says.

    python tests/hostile/fuzz.py URL CA TOKEN MODULE SECONDS

Runs on a host that reaches the server. Each operation gets its share of the time. The answer is JSON: how often
each was called, which were ``done`` at least once, and the failures, each with what repeats it.
"""

import contextlib
import copy
import io
import itertools
import json
import sys
import time
import zipfile
from collections import Counter

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ENDLESS = "/api/v1/events"
# After these the module is away, or another process answers: they are called least often, and last.
LAST = ["DELETE /api/v1/modules/{name}", "POST /api/v1/shutdown", "POST /api/v1/renew"]
ROUND = 8  # examples between two looks at the clock


XML = ["<cluster><lans/></cluster>", "<cluster>", '<safe><service mode="light"/></safe>']
ENTRY = st.tuples(
    st.sampled_from(["conf/userconfig.xml", "bin/start_both", "../x", "/x", "a", "."]), st.binary(max_size=64)
)


def packed(entries):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in dict(entries).items():
            archive.writestr(name, data)
    return stream.getvalue()


schemathesis.openapi.media_type("application/zip", st.binary(max_size=64) | st.lists(ENTRY, max_size=4).map(packed))
schemathesis.openapi.media_type("application/xml", st.binary(max_size=64) | st.sampled_from(XML).map(str.encode))


@schemathesis.serializer("application/zip", "application/xml")
def as_it_is(_, value):
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


def narrowed(document):
    """The document for a test that has an end: a call waits a moment at most."""
    document = copy.deepcopy(document)
    del document["paths"][ENDLESS]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for each in operation.get("parameters", ()):
                name, schema = each["name"], each["schema"]
                if name == "wait" and schema["type"] == "number":
                    schema["maximum"] = 0.05
                elif (name, method, path[-5:]) == ("limit", "get", "/wait"):
                    each |= {"required": True, "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.05}}
    return document


class Caller:
    """Calls the server, and remembers what came of it."""

    def __init__(self, url, authority, token, known):
        self.session = requests.Session()
        self.session.trust_env = False  # its variables would name other authorities
        self.session.verify, self.session.headers["Authorization"] = authority, f"Bearer {token}"
        self.url, self.known = url, known
        self.calls, self.failures, self.done = Counter(), {}, set()

    def document(self):
        return self.session.get(f"{self.url}/openapi.json", timeout=60).json()

    def called(self, case, label):
        try:
            answer = case.call(base_url=self.url, session=self.session, verify=self.session.verify, timeout=20)
            self.calls[label] += 1
            case.validate_response(answer, checks=CHECKS)
            if answer.status_code < 300:
                self.done.add(label)
        except requests.RequestException as error:
            self.failures[f"{label}: no answer"] = f"{case.as_curl_command()}\n{error}"
        except FailureGroup as group:
            for each in group.exceptions:
                text = f"{case.as_curl_command()}\n{each.message}\n{answer.content[:300]!r}"
                self.failures.setdefault(f"{label}: {each.title} {answer.status_code}", text)

    def tried(self, operation, mode, number, until):
        """So many examples, unless time is over."""
        begun = False
        usual = {"max_examples": ROUND, "deadline": None, "database": None, "phases": [Phase.generate]}
        # Whatever else a path holds is known well; what it is about is seldom guessed.
        known = {name: value for name, value in self.known.items() if f"/{{{name}}}" in operation.path}
        given_path = {"path_parameters": known} if known and number % 2 == 0 else {}

        @seed(number)
        @settings(**usual, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode, **given_path))
        def one(case):
            nonlocal begun
            if not begun or time.monotonic() < until:
                begun = True
                self.called(case, operation.label)

        with contextlib.suppress(Unsatisfiable):  # nothing of this operation can be wrong, or right
            one()


def main(url, authority, token, module, seconds):
    caller = Caller(url, authority, token, {"name": module, "resource": "custom.fuzz"})
    schema = schemathesis.openapi.from_dict(narrowed(caller.document()))
    operations = [each.ok() for each in schema.get_all_operations()]
    operations.sort(key=lambda each: each.label in LAST and LAST.index(each.label) + 1)
    end = time.monotonic() + float(seconds)
    for left, operation in zip(range(len(operations), 0, -1), operations, strict=True):
        until = time.monotonic() + (end - time.monotonic()) / left
        for number in itertools.count():
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                caller.tried(operation, mode, number, until)
            if time.monotonic() > until or operation.label in LAST:
                break
    found = {"calls": caller.calls, "failures": caller.failures, "done": sorted(caller.done)}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
