"""Text of ``<failover>`` -> rules, or every fault with its line, its column and a caret.

``label: if (expression) then action;`` with ``! && || == !=`` and comments as in C or a shell. Each rule is parsed by
itself, so that a fault in one does not hide those of the next. Only the process that checks configurations imports
this: the agent gets finished rules.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from safekit_py.config.source import Source, plain
from safekit_py.core.conditions import IDENT, LABEL, LOCAL, NAME, REMOTE, STATES
from safekit_py.errors import ConfigError, Problem
from safekit_py.model.rules import And, Expression, Not, Operand, Or, Rule, Test

MAX_RULES = 500
MAX_DEPTH = 50

CLASSES = (
    *("tcp", "ping", "intf", "ip", "custom", "module", "splitbrain", "proc"),
    *("heart", "heartbeat", "rfs", "vip", "connections"),
)
"""Classes that the product has; a plugin may bring others, so they only help to tell what was meant."""

SHAPE = "write label: if (expression) then action;"
STRING = r'"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])*'"
GRAMMAR = rf"""
rule: label ":" _IF "(" either ")" _THEN ACTION (("(" ")")?) ";"
label: LABEL | STRING
?either: both (_OR both)*
?both: one (_AND one)*
?one: "!" one -> negation | "(" either ")" | RESOURCE (EQUAL | UNEQUAL) (WORD | STRING) -> test
_IF: /if\b/
_THEN: /then\b/
_OR: "||"
_AND: "&&"
EQUAL: "=="
UNEQUAL: "!="
LABEL: /{LABEL}/
ACTION: /{NAME}/
WORD: /{NAME}/
STRING: /{STRING}/
RESOURCE: /(?:(?:local|remote)\.)?{NAME}\.(?:[?*]|{STRING}|{IDENT})/
%ignore /\s+/
"""
EXPECTED = {
    "LABEL": "a label",
    "COLON": "':'",
    "_IF": "'if'",
    "_THEN": "'then'",
    "LPAR": "'('",
    "RPAR": "')'",
    "BANG": "'!'",
    "RESOURCE": "a resource such as tcp.appli",
    "EQUAL": "'=='",
    "UNEQUAL": "'!='",
    "WORD": ", ".join(STATES),
    "STRING": "a value in quotes",
    "ACTION": "an action",
    "SEMICOLON": "';'",
    "_OR": "'||'",
    "_AND": "'&&'",
}
MEANT = {"=": "==", "&": "&&", "|": "||", "and": "&&", "or": "||", "not": "!", "<>": "!="}

_LEXEME = re.compile(
    rf"(?P<comment>/\*.*?\*/|(?://|\#)[^\n]*)|(?P<string>{STRING})|(?P<open>/\*|[\"'])|(?P<end>;)", re.DOTALL
)
_FOUND = re.compile(r"[\w\-]+|[=!<>&|]{2}|\S")
_LUA = re.compile(r"\s*Rules\s*[.=]")


@dataclass(slots=True)
class _Faults:
    """What is wrong, each with its offset in the whole text."""

    source: Source
    found: list[tuple[int, Problem]] = field(default_factory=list)

    def problem(self, code: str, offset: int, message: str, remedy: str) -> None:
        line, column = self.source.place(offset)
        text = f"column {column}: {message}\n{self.source.shown(offset)}"
        self.found.append((offset, Problem(code, text, remedy, self.source.file, line)))

    def all(self) -> tuple[Problem, ...]:
        """In the order of the text."""
        return tuple(each for _, each in sorted(self.found, key=lambda pair: pair[0]))


@v_args(inline=True)
class _Builder(Transformer[Token, Rule]):
    """Makes the rule while lark parses, so that no depth of parentheses can exhaust the stack."""

    def __init__(self, faults: _Faults) -> None:
        super().__init__()
        self.faults = faults
        self.base = 0

    def at(self, token: Token) -> int:
        return self.base + (token.start_pos or 0)

    def label(self, token: Token) -> Token:
        return token.update(value=_unquoted(token))

    def rule(self, label: Token, condition: Expression, action: Token) -> tuple[Token, Rule]:
        if _depth(condition) > MAX_DEPTH:
            text = f"rule '{label}' is more than {MAX_DEPTH} deep in parentheses and '!'"
            self.faults.problem("config.rule-too-deep", self.at(label), text, "make two rules of it")
        return label, Rule(str(label), condition, str(action))

    def either(self, *parts: Expression) -> Expression:
        return Or(parts)

    def both(self, *parts: Expression) -> Expression:
        return And(parts)

    def negation(self, inner: Expression) -> Expression:
        return Not(inner)

    def test(self, resource: Token, sign: Token, word: Token) -> Expression:
        if word.type == "WORD" and word not in STATES:
            near = difflib.get_close_matches(word.lower(), STATES, 1)
            remedy = f'{f"did you mean {near[0]}? " if near else ""}another value stands in quotes: "{word}"'
            self.faults.problem("config.rule-state", self.at(word), f"'{word}' is none of {', '.join(STATES)}", remedy)
        return Test(self.operand(resource), sign.type == "EQUAL", _unquoted(word))

    def operand(self, token: Token) -> Operand:
        first, _, rest = token.partition(".")
        side = first if first in (LOCAL, REMOTE) else LOCAL
        kind, dot, ident = rest.partition(".") if first in (LOCAL, REMOTE) else (first, ".", rest)
        if not dot or kind in (LOCAL, REMOTE):
            text = f"'{token}' names a side, and not a resource of it"
            self.faults.problem(
                "config.rule-side", self.at(token), text, f"write {first}.class.id, such as {first}.tcp.appli"
            )
        elif kind not in CLASSES and rest.partition(".")[0] in CLASSES and first not in (LOCAL, REMOTE):
            text = f"'{first}' in '{token}' is neither a side nor a class"
            remedy = f'the sides are local and remote; for a class of that name write {first}."{rest}"'
            self.faults.problem("config.rule-side", self.at(token), text, remedy)
        return Operand(side, kind, _unquoted(ident))


def parse(source: Source) -> tuple[tuple[Rule, ...], tuple[Problem, ...]]:
    """Parse the rules of a text.

    :return: the rules that are sound, in the order of the text, and what is wrong with the others.
    """
    faults = _Faults(source)
    if match := _LUA.match(source.text):
        text = "rules in Lua (Rules.disable, Rules = Rules + ...) are not supported"
        faults.problem("config.rule-unsupported", match.end() - 1, text, SHAPE)
        return (), faults.all()
    builder = _Builder(faults)
    parser = Lark(GRAMMAR, start="rule", parser="lalr", transformer=builder)
    rules: dict[str, Rule] = {}
    for count, (start, statement) in enumerate(_statements(source.text, faults)):
        if count == MAX_RULES:
            at = start + len(statement) - len(statement.lstrip())
            faults.problem("config.rule-too-many", at, f"these are more than {MAX_RULES} rules", "join some with ||")
            break
        builder.base, before = start, len(faults.found)
        try:
            made: Any = parser.parse(statement)  # the transformer makes it, which lark's types cannot say
        except UnexpectedInput as error:
            _syntax(error, statement, start, faults)
            continue
        label, rule = made
        at = builder.at(label)
        if rule.label in rules:
            text = f"the label '{rule.label}' stands in line {rules[rule.label].line} already"
            faults.problem("config.rule-label-twice", at, text, "give each rule its own, or join them with ||")
        elif len(faults.found) == before:
            rules[rule.label] = replace(rule, line=source.place(at)[0])
    return tuple(rules.values()), faults.all()


def rules_of(text: str, file: str = "") -> tuple[Rule, ...]:
    """The rules of a text that is no XML.

    :raises ConfigError: something is wrong with one.
    """
    rules, problems = parse(plain(text, file))
    if problems:
        raise ConfigError(problems)
    return rules


def _statements(text: str, faults: _Faults) -> Iterator[tuple[int, str]]:
    """Offset and text of each rule, comments blanked; a comment that is never closed ends the text."""
    start, position, broken = 0, 0, False
    parts: list[str] = []
    while match := _LEXEME.search(text, position):
        parts.append(text[position : match.start()])
        position = match.end()
        if match["comment"]:
            parts.append(re.sub(r"[^\n]", " ", match[0]))
        elif match["open"]:
            what, close = ("comment", "*/") if match[0] == "/*" else ("quote", f"{match[0]} on the same line")
            said = f"this {what} is not closed"
            faults.problem("config.rule-syntax", match.start(), said, f"close it with {close}")
            if what == "comment":
                return
            broken = True  # the rest of this rule would only say it again
        else:
            parts.append(match[0])
        if match["end"]:
            statement = "".join(parts)
            if statement.strip() != ";" and not broken:
                yield start, statement
            start, parts, broken = position, [], False
    statement = "".join(parts) + text[position:]
    if statement.strip() and not broken:
        yield start, statement


def _syntax(error: UnexpectedInput, statement: str, start: int, faults: _Faults) -> None:
    """Report what the parser did not understand, in words."""
    if isinstance(error, UnexpectedToken):
        wanted = error.accepts or error.expected
        at = len(statement.rstrip()) if error.token.type == "$END" else error.token.start_pos or 0
    else:
        assert isinstance(error, UnexpectedCharacters), "lark has no third kind"
        wanted, at = error.allowed or set(), error.pos_in_stream or 0
    offset = start + at
    match = _FOUND.match(statement, at)
    found = match[0] if match else ""
    if re.match(r"cluster\s*\(", statement[at:]):
        text = "the function cluster() is not supported: a rule looks at resources only"
        faults.problem("config.rule-unsupported", offset, text, "write a resource, class.id == state")
        return
    hidden = "STRING" if "LABEL" in wanted else ""  # a label in quotes is a rare thing
    words = [phrase for name, phrase in EXPECTED.items() if name in wanted and name != hidden]
    *first, last = words or ["something else"]
    listed = f"{', '.join(first)} or {last}" if first else last
    message = f"expected {listed}, found {repr(found) if found else 'the end of the text'}"
    faults.problem("config.rule-syntax", offset, message, _remedy(found, set(wanted), statement, at))


def _remedy(found: str, wanted: set[str], statement: str, at: int) -> str:
    """What was probably meant."""
    if meant := MEANT.get(found.lower()):
        return f"write {meant} in place of {found}"
    if "_THEN" in wanted and found in ("&&", "||"):
        return f"put the whole expression into one pair of parentheses: {SHAPE}"
    if "COLON" in wanted and statement[:at].strip() == "if":
        return f"a rule begins with a label: {SHAPE}"
    if "SEMICOLON" in wanted:
        return "end the rule with ;"
    if "RPAR" in wanted and not found:
        return "close each ( with )"
    if "RESOURCE" in wanted and found not in ("", ")"):
        return f"a resource is class.id, class.? or class.*, perhaps with remote. before it; {SHAPE}"
    if "WORD" in wanted:
        return "a value other than the four states stands in quotes"
    return SHAPE


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[:1] in ("'", '"') else str(text)


def _depth(condition: Expression) -> int:
    """How deep it is, without recursion."""
    deepest, left = 0, [(condition, 1)]
    while left:
        each, depth = left.pop()
        deepest = max(deepest, depth)
        parts = (each.inner,) if isinstance(each, Not) else each.parts if isinstance(each, And | Or) else ()
        left += [(part, depth + 1) for part in parts]
    return deepest
