"""No secret that is known by its name leaves, and what is no secret stays readable."""

from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from safekit_py.cli.hidden import Hidden

CONFIG = """<safe>
<macro name="DB_PASSWORD" value="s3cret&amp;word"/><macro name="PORT" value="8080"/>
<macro name="INNER" value="deepsecret"/>
<service mode="farm"><user>
  <var name="API_TOKEN" value="tok-1234-abcd"/><var name="URL" value="http://u:hunter22@db/"/>
  <var name="LOGIN_PASS" value="%INNER%"/>
</user><check><tcp ident="password_service"><to addr="a" port="%PORT%"/></tcp></check>
<webhook token='whsec-77' interval="5"/></service></safe>"""


def test_a_configuration_keeps_all_but_its_secrets():
    hidden = Hidden()
    hidden.learn(CONFIG)
    shown = hidden.xml(CONFIG)
    for secret in ("s3cret", "tok-1234", "hunter22", "whsec", "deepsecret"):
        assert secret not in shown
    tree = etree.fromstring(shown)
    assert tree.find("macro[@name='PORT']").get("value") == "8080"
    assert tree.find(".//tcp").get("ident") == "password_service"
    assert tree.find(".//webhook").get("interval") == "5"


def test_what_was_learnt_is_masked_in_every_text():
    hidden = Hidden()
    hidden.learn(CONFIG)
    text = hidden.plain("connected with s3cret&word; argv: ['db', 'tok-1234-abcd'] deepsecret port 8080")
    assert text == "connected with ***; argv: ['db', '***'] *** port 8080"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("export PGPASSWORD=abc def", "export PGPASSWORD=*** def"),
        ('PASSWORD="a b" ; run', 'PASSWORD="***" ; run'),
        ("db.password: abc", "db.password: ***"),
        ("mysql --password abc -h db", "mysql --password *** -h db"),
        ("mysql --password=abc", "mysql --password=***"),
        ("postgres://app:abc@db/x", "postgres://app:***@db/x"),
        (f"key is {'0f' * 32}.", "key is ***."),
        ('{"api_key": "abc"}', '{"api_key": "***"}'),
        ("for key in a b", "for key in a b"),
        ("keyword=1 monkeys=2 compare", "keyword=1 monkeys=2 compare"),
        ("UP Ready (rule t_web)", "UP Ready (rule t_web)"),
    ],
)
def test_texts(text, shown):
    assert Hidden().plain(text) == shown


def test_a_tree_keeps_its_shape():
    tree = {"password": "x", "list": [1, {"token": "t", "n": 2.5}], "text": "PASSWORD=abc", "none": None}
    assert Hidden().tree(tree) == {
        "password": "***",
        "list": [1, {"token": "***", "n": 2.5}],
        "text": "PASSWORD=***",
        "none": None,
    }


NAMES = st.sampled_from(["DB_PASSWORD", "passwd", "SECRET", "apikey", "SSL_KEY", "x-token", "PrivateStuff"])
SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_characters="*"), min_size=4, max_size=40)


@given(NAMES, SECRETS, st.sampled_from(["macro", "var"]), st.text(max_size=30))
def test_no_secret_of_a_configuration_comes_out(name, secret, tag, around):
    source = f"<safe><{tag} name={quoteattr(name)} value={quoteattr(secret)}/></safe>"
    hidden = Hidden()
    hidden.learn(source)
    shown = hidden.xml(source)
    assert etree.fromstring(shown)[0].get("value") == "***"
    clean = around.replace(secret, "")
    assert secret not in hidden.plain(f"{clean} {secret} {clean}")
    tree = hidden.tree({"a": [f"{clean}{secret}"], name: secret})
    assert secret not in tree["a"][0]
    assert tree[name] == "***"
