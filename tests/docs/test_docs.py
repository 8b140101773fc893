"""The documentation says what the code does: codes, examples, commands, hooks, elements and their defaults."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from safekit_py.plugins import compat
from safekit_py.plugins.farm import figures as farm_figures
from safekit_py.plugins.mirror import figures as mirror_figures

from safekit_py import hookspecs
from safekit_py.cli.main import cli
from safekit_py.config.cluster import XSD as CLUSTER_XSD
from safekit_py.config.cluster import check_cluster
from safekit_py.config.load import check
from safekit_py.config.notify import check_notify
from safekit_py.config.schema import assemble, compile_schema
from safekit_py.control.figures import OWN
from safekit_py.model.event import Event
from safekit_py.model.state import Severity
from safekit_py.runtime import plugins
from safekit_py.runtime.configcheck import check_blocking
from safekit_py.testing import FakeGroup

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = (REPOSITORY / "README.md", *sorted(DOCS.glob("*.md")))
SOURCES = sorted(path for folder in ("safekit_py", "plugins") for path in (REPOSITORY / folder).rglob("*.py"))
CODE = re.compile(r"[a-z]+\.[a-z0-9]+(-[a-z0-9]+)*")

# Functions that take the part of a code after the dot, by the folder they stand in, and the area they put before it.
SUFFIXES = {
    "bundle": ("bundle", {"reject": 0}),
    "config": ("config", {"refuse": 0, "MacroError": 0, "problem": 1, "add": 1}),
}
BUILT = {"cluster.server-twice", "cluster.address-twice", "config.bad-duration", "access.denied"}
"""Codes that stand in no call as they are."""
KNOWN_EXPRESSIONS = {
    *("f'bundle.{code}'", "f'config.{code}'", "f'config.{error.code}'"),  # the functions of SUFFIXES
    *("code", "each.code", "error.code"),  # handed on
    "f'cluster.{kind}-twice'",  # BUILT
}


def _name(call):
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _found():
    """Every code of the sources, and every expression that makes one where a literal could stand."""
    codes, expressions = set(BUILT), set()
    for path in SOURCES:
        area, functions = SUFFIXES.get(path.parent.name, ("", {}))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = _name(call)
            text = [a.value if isinstance(a, ast.Constant) else None for a in call.args]
            if name in {"Problem", "problem"} and text and isinstance(text[0], str) and CODE.fullmatch(text[0]):
                codes.add(text[0])
            elif name in functions and len(text) > functions[name] and isinstance(text[functions[name]], str):
                codes.add(f"{area}.{text[functions[name]]}")
            elif name == "Problem" and call.args and text[0] is None:
                expressions.add(ast.unparse(call.args[0]))
    return codes, expressions


def _rows(text):
    """The cells of every table row, without heads and rules."""
    for line in text.splitlines():
        if line.startswith("|") and not set(line) <= set("|- "):
            yield [cell.strip() for cell in line.strip()[1:-1].split("|")]


def _blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_every_code_is_explained_and_every_explained_code_exists():
    rows = [r for r in _rows((DOCS / "messages.md").read_text(encoding="utf-8")) if re.fullmatch(r"`\S+`", r[0])]
    explained = [row[0].strip("`") for row in rows]
    codes, expressions = _found()
    assert sorted(codes - set(explained)) == [], "not in docs/messages.md"
    assert sorted(set(explained) - codes) == [], "in no source"
    assert len(explained) == len(set(explained)), "explained twice"
    assert all(len(row) == 3 and all(row) for row in rows), "each has a meaning and something to do"
    assert all(CODE.fullmatch(each) for each in explained)
    assert expressions <= KNOWN_EXPRESSIONS, "a code made in a new way: this test must learn to see it"


@pytest.mark.parametrize("built", sorted(BUILT))
def test_a_built_code_has_its_parts_in_the_sources(built):
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert built in text or built.replace("server", "{kind}").replace("address", "{kind}") in text


EXAMPLES = [
    pytest.param(page, block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(_blocks(page, "xml"))
    if re.search(r"^<(safe|cluster)>", block, re.MULTILINE)
]


def test_there_are_examples():
    assert {page.values[0].name for page in EXAMPLES} >= {"README.md"}


@pytest.mark.parametrize(("page", "block"), EXAMPLES)
def test_an_example_is_accepted_without_a_warning(page, block):
    if re.search(r"^<cluster>", block, re.MULTILINE):
        checked = check_cluster(block.encode(), page.name)
        assert checked.cluster is not None, checked.problems
    else:
        checked = check_blocking(block.encode(), page.name, {})
        assert checked.config is not None, checked.problems
    assert checked.problems == ()


def _code_of(page):
    """What stands between backquotes, in fences and in indented lines; other languages' blocks left out."""
    text = page.read_text(encoding="utf-8").replace("\\|", "|")  # as a table's cell must write it
    text = re.sub(r"^```(python|xml|toml)\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", text)
    yield from (line for line in text.splitlines() if line.startswith("    "))


def _commands():
    for page in PAGES:
        for piece in _code_of(page):
            # One piece may name several: safekit-py lab run server1 -- safekit-py status
            for part in re.split(r"(?:^|(?<=[\s(]))(?:safekit-py|\$SAFE/safekit) ", piece)[1:]:
                yield page.name, re.split(r"[#;`)]|\s--\s|\s&&\s", part)[0].strip()


COMMANDS = sorted(set(_commands()))


def test_commands_are_found():
    found = {text for _, text in COMMANDS}
    assert {"start apache --wait", "cluster genkey", "status", "module install|uninstall|list|package"} <= found


@pytest.mark.parametrize(("page", "text"), COMMANDS)
def test_a_command_that_is_named_exists_with_its_options(page, text):
    words = [word.strip("[]") for word in shlex.split(text)]
    if words[0] == "-H" and words[2][:1].isalpha():  # the servers, then the command
        words = words[2:]
    if words[0].startswith("-"):
        assert words[0] in {option for each in cli.params for option in each.opts}
        return
    commands, context = [cli], click.Context(cli)
    while words and words[0][:1] != "-" and all(isinstance(each, click.Group) for each in commands):
        commands = [
            found for group in commands for each in words[0].split("|") if (found := group.get_command(context, each))
        ]
        assert len(commands) == len(words[0].split("|")), f"{page}: {words[0]} of safekit-py {text}"
        words = words[1:]
    options = {option for each in commands for p in each.params for option in (*p.opts, *p.secondary_opts)}
    assert {word for word in words if re.fullmatch(r"-{1,2}[a-zA-Z][\w-]*", word)} - {"-h"} <= options


@pytest.fixture(scope="module")
def example_plugin():
    """The Python blocks of docs/plugins.md, together one plugin."""
    namespace = {}
    exec("\n".join(_blocks(DOCS / "plugins.md", "python")), namespace)
    return type("Plugin", (), {k: staticmethod(v) for k, v in namespace.items() if k.startswith("safekit_")})()


def test_every_hook_is_documented():
    hooks = {name for name in vars(hookspecs) if name.startswith("safekit_")}
    headings = re.findall(r"^### (\w+)$", (DOCS / "plugins.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(hooks)


def test_the_plugin_of_the_page_works(example_plugin, capsys):
    manager = plugins.load(third_party=False)
    manager.register("example", example_plugin)
    entry = next(each for each in manager.plugins if each.name == "example")
    assert set(entry.hooks) == {name for name in vars(hookspecs) if name.startswith("safekit_")}
    (fragment,) = _blocks(DOCS / "plugins.md", "xml")
    source = f'<safe><service mode="plain">{fragment}</service></safe>'
    checked = check(source.encode(), "userconfig.xml", manager.elements())
    assert checked.config is not None, checked.problems
    assert checked.problems == ()
    context = type("Context", (), {"config": checked.config})
    (checker,) = manager.checkers()["file"].create(context)
    assert checker.resource == "file.license"
    assert checker.action in manager.actions()
    assert "plain" in manager.module_types()
    manager.event(Event(0.0, "m", Severity.INFO, "heart", "UP Ready", "state"))
    assert "m: UP Ready" in capsys.readouterr().out
    group = FakeGroup(config=checked.config, values={"file.license": "up"})
    figures = {metric.name: metric.samples for metric in manager.metrics(group)}
    assert figures["files_watched"] == (({"module": "app"}, 1.0),)
    assert manager.notifiers()["pager"].xsd.startswith("<xs:element")
    assert manager.commands()["files"][0] == "example"
    assert [route.path for route in manager.routes(group)["example"][0].routes] == ["/files/{module}"]
    assert entry.problems == []


def test_the_tests_of_the_page_pass(tmp_path):
    path = tmp_path / "test_page.py"
    path.write_text("\n".join(_blocks(DOCS / "plugins.md", "python")))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_the_page_lists_every_fixture():
    text = (DOCS / "plugins.md").read_text(encoding="utf-8")
    source = (REPOSITORY / "safekit_py/testing/plugin.py").read_text(encoding="utf-8")
    fixtures = {
        each.name
        for each in ast.parse(source).body
        if isinstance(each, ast.FunctionDef) and any("fixture" in ast.unparse(d) for d in each.decorator_list)
    }
    listed = set(re.findall(r"^\| `(\w+)(?:\([^`]*\))?` \| [a-z]", text.partition("## Testing")[2], re.MULTILINE))
    assert listed == fixtures


def test_the_page_names_the_variable_and_the_entry_point():
    text = (DOCS / "plugins.md").read_text(encoding="utf-8")
    assert plugins.DISABLE in text
    assert plugins.ENTRY_POINTS in text


def _declared(declaration, found):
    for attribute in declaration.attributes.values():
        found[declaration.tag, attribute.name] = attribute.default or ""
    for child in declaration.children.values():
        _declared(child, found)
    return found


def _listed(section):
    """Tag and attribute to default and status, of the tables of one section of docs/compatibility.md."""
    text = (DOCS / "compatibility.md").read_text(encoding="utf-8").partition(f"\n## {section}\n")[2]
    found = {}
    for row in _rows(text.partition("\n## ")[0]):
        if (tag := re.fullmatch(r"`<(\w+)>`", row[0])) and len(row) == 5:
            for attribute in row[1].replace("`", "").split(", "):
                found[tag[1], attribute] = (row[2].strip("`"), row[3])
        elif tag:
            found[tag[1], "all"] = ("", row[1])
    return found


@pytest.mark.parametrize("section", ["userconfig.xml", "cluster.xml"])
def test_compatibility_lists_every_attribute_with_its_default(section):
    if section == "cluster.xml":
        root = compile_schema(CLUSTER_XSD).root
    else:
        root = assemble(plugins.load(third_party=False).elements()).root
    declared, listed = _declared(root, {}), _listed(section)
    mirrors = {tag for (tag, attribute) in listed if not attribute}  # <real_interface>: refused as a whole
    wanted = {key: value for key, value in declared.items() if key[0] not in mirrors}
    assert sorted(set(wanted) - set(listed)) == []
    given = {key: value[0] for key, value in listed.items() if key in wanted}
    assert given == wanted
    extra = {key for key in listed if key not in declared and key[1] not in {"all", ""}}
    assert extra == set()
    assert {status for _, status in listed.values()} <= {"acts", "differs", "warning", "silent", "refused"}


def test_compatibility_says_warning_of_all_that_only_warns():
    listed = _listed("userconfig.xml")
    assert {tag for tag, _ in compat.NOTES} == {tag for tag, attribute in listed if attribute == "all"}
    assert all(status == "warning" for (_, attribute), (_, status) in listed.items() if attribute == "all")


def test_the_notify_xml_of_the_page_lacks_nothing_but_its_secrets():
    (block,) = _blocks(DOCS / "monitoring.md", "xml")
    checked = check_notify(block.encode(), "notify.xml", plugins.load(third_party=False).notifiers())
    assert [each.code for each in checked.problems] == ["notify.no-secret"] * 3


def test_the_page_of_monitoring_names_only_figures_that_there_are_and_lists_all():
    text = (DOCS / "monitoring.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`safekit_([a-z_]+?)(?:_total)?`", text))
    brought = {each.name for part in (farm_figures, mirror_figures) for each in part.metrics({})}
    known = set(OWN) | {name.removesuffix("_total") for name in brought}
    assert named - known == set()
    assert known - named == {"notify_failed", "notify_held"}, "written as _failed_total and _held_total"


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [each for each in targets if not (page.parent / each).exists()] == []
