"""Offsets in an element's text lead back to the file, through entities, CDATA, comments and macros."""

from hypothesis import given
from hypothesis import strategies as st

from safekit_py.config.source import WIDTH, inside, plain


def as_is(text):
    return [(0, text, False)]


def place_of(source, word):
    return source.place(source.text.index(word))


FILE = """<safe><!-- é --><f a="1"
 b="2">one é two &amp;&amp; three <![CDATA[é four &amp; ]] five
 six]]> <!-- a comment
 --> seven\r\neight &#10; nine
<g>inner</g> ten</f></safe>"""


def test_places():
    source = inside(FILE.encode(), "f.xml", 1, as_is)
    assert source.text == "one é two && three é four &amp; ]] five\n six  seven\neight \n nine\n ten"
    lines = FILE.replace("\r\n", "\n").split("\n")
    for word in ("one", "two", "&& three"[0], "three", "four", "]]", "five", "six", "seven", "eight", "nine", "ten"):
        line, column = place_of(source, word)
        assert lines[line - 1][column - 1 :].startswith(word), word


@given(st.text(st.sampled_from("ab&<>\n é\t"), min_size=1, max_size=60))
def test_every_character_of_a_cdata_section(text):
    data = f"<safe>\n<f>\n<![CDATA[{text}]]></f></safe>"
    lines = data.split("\n")
    if "]]>" in text:
        return
    source = inside(data.encode(), "f", 1, as_is)
    for offset, character in enumerate(source.text):
        if character != "\n":
            line, column = source.place(offset)
            assert lines[line - 1][column - 1] == character


def test_what_replaces_a_macro_stands_at_its_place():
    def expand(text):
        before, found, after = text.partition("%M%")
        return [(0, before, False), *([(len(before), "value", True), (len(before) + 3, after, False)] if found else [])]

    source = inside(b"<f>a %M% b</f>", "f", 0, expand)
    assert source.text == "a value b"
    assert [source.place(n)[1] for n in range(9)] == [4, 5, 6, 6, 6, 6, 6, 9, 10]


def test_an_empty_element_and_the_end_of_a_text():
    assert inside(b"<f/>", "f", 0, as_is).place(0) == (1, 1)
    assert plain("ab\nc").place(4) == (2, 2)


def test_a_long_line_is_cut_around_the_place():
    source = plain("x" * 500 + "HERE" + "y" * 500)
    shown, caret = source.shown(500).split("\n")
    assert shown[caret.index("^") :].startswith("HERE")
    assert len(shown) == WIDTH + 4
