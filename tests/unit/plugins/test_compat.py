"""Elements that nothing acts on: accepted with whatever they hold, and said so."""

import pytest
from safekit_py.plugins import compat

from safekit_py.config.load import check

ELEMENTS = list(compat.safekit_elements())


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda each: each.tag)
def test_accepted_with_a_warning(element):
    inside = f'<{element.tag} ident="x" any="thing"><child a="1"><more/></child>text</{element.tag}>'
    if element.parent != "service":
        inside = f"<{element.parent}>{inside}</{element.parent}>"
    checked = check(f'<safe><service mode="mirror">{inside}</service></safe>'.encode(), "f", ELEMENTS)
    assert checked.config is not None
    assert [(each.code, each.severity) for each in checked.problems] == [("config.not-acting", "warning")]
    assert element.note in checked.problems[0].message
