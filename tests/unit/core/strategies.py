"""Rules and resources for property tests: few names and values, so that they meet."""

from hypothesis import strategies as st

from safekit_py.core.rules import And, Not, Operand, Or, Rule, Test

SIDES = st.sampled_from(["local", "remote"])
KINDS = st.sampled_from(["tcp", "ip", "custom"])
IDENTS = st.sampled_from(["a", "b", "10.0.0.5", "fd00::1", "::", "x y", "a'\"b\\", "é-1."])
VALUES = st.sampled_from(["init", "up", "down", "unknown", "50%", "", 'it\'s "so"\\', "x y"])
ACTIONS = st.sampled_from(["stop", "stopstart", "wait", "restart", "noaction", "mail"])
LABELS = st.sampled_from(["t_a", "if", "a b:c", "x-1.2", "é", ""])

TESTS = st.builds(Test, st.builds(Operand, SIDES, KINDS, IDENTS | st.sampled_from("?*")), st.booleans(), VALUES)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=6,
)
RULES = st.builds(Rule, LABELS, CONDITIONS, ACTIONS)
RESOURCES = st.dictionaries(st.tuples(SIDES, st.builds("{}.{}".format, KINDS, IDENTS)), VALUES, max_size=6)
