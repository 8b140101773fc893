"""notify.xml: what is right becomes targets, what is wrong is told with its line."""

import pytest

from safekit_py.config.notify import check_notify
from safekit_py.runtime import plugins


@pytest.fixture(scope="module")
def notifiers():
    return plugins.load(third_party=False).notifiers()


def found(text, notifiers):
    return check_notify(text.encode(), "notify.xml", notifiers)


def test_targets_with_their_defaults(notifiers, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("public\n")
    secret.chmod(0o600)
    checked = found(
        f"""<notify repeat="30m" limit="5">
  <mail name="admins" server="smtp.example.org" from="a@example.org" to="b@example.org, c@example.org"/>
  <webhook name="ops" url="https://example.org/x" least="info" modules="web*, db"/>
  <snmp name="nms" server="10.0.0.9" community_file="{secret}"/>
  <syslog name="local"/>
</notify>""",
        notifiers,
    )
    assert checked.problems == ()
    settings = checked.notifications
    assert (settings.repeat, settings.limit, settings.window, settings.give_up) == (1800, 5, 600, 900)
    assert [each.name for each in settings.targets] == ["admins", "ops", "nms", "local"]
    mail, hook, snmp, log = (each.value for each in settings.targets)
    assert (mail.port, mail.security, mail.to) == (587, "starttls", ("b@example.org", "c@example.org"))
    assert (settings.targets[1].least, settings.targets[1].modules) == ("info", ("web*", "db"))
    assert (hook.secret_file, snmp.port, snmp.inform, log.server) == ("", 162, False, "")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('<mail name="a" server="s" from="a@b" to="nobody"/>', "notify.bad-address"),
        ('<mail name="a" server="s" from="a@b" to="c@d" user="u"/>', "notify.half-login"),
        ('<mail name="a" server="s" from="a@b" to="c@d" user="u" password_file="/none"/>', "notify.no-secret"),
        ('<mail name="a" server="s" from="a@b" to="c@d" security="maybe"/>', "config.bad-value"),
        ('<mail name="a" server="s" to="c@d"/>', "config.missing-attribute"),
        ('<webhook name="a" url="ftp://x"/>', "notify.bad-url"),
        ('<webhook name="a" url="https://u:p@x/"/>', "notify.bad-url"),
        ('<webhook name="a" url="https://x:bad/"/>', "notify.bad-url"),
        ('<snmp name="a" server="-x" community_file="/none"/>', "notify.bad-server"),
        ('<syslog name="a" least="loud"/>', "config.bad-value"),
        ('<pager name="a"/>', "config.unknown-element"),
        ('<syslog name="a" loud="yes"/>', "config.unknown-attribute"),
        ('<syslog name="a"/><syslog name="a"/>', "notify.name-twice"),
    ],
)
def test_what_is_wrong_has_a_code_and_a_line(notifiers, line, code):
    checked = found(f"<notify>\n\n{line}\n</notify>", notifiers)
    assert checked.notifications is None
    assert (code, 3) in {(each.code, each.line) for each in checked.problems}
    assert all(each.remedy for each in checked.problems)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('<notify window="0"/>', "notify.zero"),
        ('<notify repeat="soon"/>', "config.bad-value"),
        ("<notify", "config.not-xml"),
        ("<safe/>", "config.root"),
        ('<!DOCTYPE notify [<!ENTITY x SYSTEM "/etc/passwd">]><notify/>', None),
        ("", None),
    ],
)
def test_a_file_that_is_wrong_as_a_whole(notifiers, text, code):
    checked = found(text, notifiers)
    assert checked.notifications is None
    assert checked.problems
    if code:
        assert code in {each.code for each in checked.problems}


def test_a_secret_that_others_can_read_is_refused(notifiers, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x\n")
    secret.chmod(0o644)
    checked = found(f'<notify><webhook name="a" url="https://x/" secret_file="{secret}"/></notify>', notifiers)
    assert [(each.code, each.remedy) for each in checked.problems] == [("notify.secret-open", f"chmod 600 {secret}")]
