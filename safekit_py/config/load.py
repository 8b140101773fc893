"""Bytes of a userconfig.xml -> ``Checked``: the model, or every error at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lxml import etree

from safekit_py.config import macros as macro
from safekit_py.config.checked import Checked, Macro, failed, ordered
from safekit_py.config.node import Node
from safekit_py.config.problems import Finder
from safekit_py.config.schema import Schema, assemble
from safekit_py.config.xml import Document, parse
from safekit_py.errors import ConfigError, SafekitError
from safekit_py.model.config import Failover, ModuleConfig, Service, User
from safekit_py.model.plugin import Element


def check(
    data: bytes,
    file: str,
    elements: Sequence[Element],
    *,
    macros: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Checked:
    """Check a whole file.

    :param data: its bytes.
    :param file: its name as the user knows it, for the problems.
    :param elements: what the plugins contribute.
    :param macros: values that win over those of the file.
    :param environment: variables that a ``%name%`` may use when no macro has that name; none by default.
    :return: never raises for a bad file: the outcome holds the problems.
    """
    found: tuple[Macro, ...] = ()
    try:
        schema = assemble(elements)
        document = parse(data, file, "safe")
    except ConfigError as error:
        return Checked(None, error.problems)
    found, problems = macro.declared(document, macros or {})
    expanded, more, unresolved = macro.apply(document, found, environment)
    problems += more
    finder = Finder(document, schema, unresolved)
    finder.run()
    problems += finder.problems
    services = list(document.root.iterchildren("service"))
    if not services:
        problems.append(
            document.problem(document.root, "missing-element", "There is no <service>", "add <service mode>")
        )
        return Checked(None, ordered(problems), found)
    root = Node(document.root, schema.root, document, problems)
    builder = _Builder(document, schema, root, finder.bad)
    service, user, values = builder.build(elements)
    failover = builder.failover(data, {**(environment or {}), **dict(expanded)}, frozenset(each.name for each in found))
    if failed(problems) or service is None:
        return Checked(None, ordered(problems), found)
    return Checked(ModuleConfig(service, user, values, expanded, failover), ordered(problems), found)


class _Builder:
    """Makes the values of the elements that are sound, so that what a plugin finds is told in the same run."""

    def __init__(self, document: Document, schema: Schema, root: Node, bad: set[etree._Element]) -> None:
        self.document, self.schema, self.root, self.bad = document, schema, root, bad
        self.service = root.children("service")[0]
        self.idents: dict[tuple[str, str], int] = {}

    def build(
        self, elements: Sequence[Element]
    ) -> tuple[Service | None, User | None, tuple[tuple[str, tuple[Any, ...]], ...]]:
        """The engine's own values and the plugins', the latter by path."""
        service = None if self.service.element in self.bad else _service(self.service)
        user = next((_user(each) for each in self.service.children("user") if self.sound(each)), None)
        values: dict[str, tuple[Any, ...]] = {}
        for element in elements:
            path = element.tag if element.parent == "service" else f"{element.parent}/{element.tag}"
            built = tuple(value for node in self.nodes(element) for value in self.value(element, path, node))
            if built:
                values[path] = built
        return service, user, tuple(values.items())

    def failover(self, data: bytes, macros: Mapping[str, str], named: frozenset[str]) -> Failover:
        """The engine's own rules of what follows from a failure; without the element, those of the checkers only.

        :param named: the macros of the file, also those that have no value.
        """
        nodes = [each for each in self.service.children("failover") if self.sound(each)]
        if not nodes:
            return Failover()
        from safekit_py.config.failover import build  # noqa: PLC0415 - most files have no rules: no parser for them

        return build(nodes[0], data, macros, named) or Failover()

    def nodes(self, element: Element) -> Iterator[Node]:
        """Where this element stands in the file."""
        if element.parent == "service":
            yield from self.service.children(element.tag)
            return
        for parent in self.service.children(element.parent):
            yield from parent.children(element.tag)

    def sound(self, node: Node) -> bool:
        """Whether nothing in it was reported."""
        return not any(each in self.bad for each in node.element.iter())

    def value(self, element: Element, path: str, node: Node) -> Iterator[Any]:
        """The value of one element; a plugin that raises is one problem that names the tag."""
        if element.build is None:
            note = element.note or "nothing acts on it yet"
            node.problem("config.not-acting", f"<{element.tag}> is accepted but not acting: {note}", warning=True)
            return
        if not self.sound(node):
            return
        self.ident(path, node)
        try:
            yield element.build(node)
        except SafekitError as error:
            for each in error.problems:
                node.problem(each.code, each.message, each.remedy)
        except (Exception, SystemExit) as error:  # a plugin may raise anything, and the others are still to be heard
            message = f"The plugin of <{element.tag}> failed: {type(error).__name__}: {error}"
            node.problem("config.plugin-failed", message, "report this to the plugin's author")

    def ident(self, path: str, node: Node) -> None:
        """An ident names a resource of its class, so two of them would set the same one."""
        name = node.get("ident")
        if name is None:
            return
        key = (path, name)
        if key in self.idents:
            message = f'<{node.tag}> with ident="{name}" stands in line {self.idents[key]} already'
            node.problem("config.ident-twice", message, "give each its own ident")
        self.idents.setdefault(key, node.line)


def _service(node: Node) -> Service:
    return Service(
        mode=node.get("mode") or "",
        boot=node.get("boot") or "ignore",
        boot_delay=node.duration("boot_delay", "s") or 0.0,
        failover=node.get("failover") == "on",
        defaultprim=node.get("defaultprim") or "alone",
        maxloop=int(node.get("maxloop") or 0),
        loop_interval=node.duration("loop_interval", "h") or 0.0,
        automatic_reboot=node.get("automatic_reboot") == "on",
    )


def _user(node: Node) -> User:
    variables: dict[str, str] = {}
    for each in node.children("var"):
        name = each.get("name") or ""
        if name in variables:
            each.problem("config.var-twice", f"The variable '{name}' is set twice", "keep one of them")
        variables[name] = each.get("value") or ""
    return User(
        nicestoptimeout=node.duration("nicestoptimeout", "s") or 0.0,
        forcestoptimeout=node.duration("forcestoptimeout", "s") or 0.0,
        logging=node.get("logging") or "userlog",
        userlogsize=int(node.get("userlogsize") or 2048),
        variables=tuple(variables.items()),
    )
