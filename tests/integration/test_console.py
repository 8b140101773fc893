"""The console in a real browser, in front of real servers: what a person sees and does, and what goes wrong."""

import os
import re
import time
import uuid
import zipfile

import pytest
from console_support import browser, log_in, shot, window
from support import VIP, Farm, wait_for
from test_everywhere import authorise

from safekit_py.lab import Lab

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
SERVERS = ("server1", "server2", "server3")
PASSWORD = "four words on paper"


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    with Lab.up(f"u{uuid.uuid4().hex[:6]}", servers=3, owner=os.getpid()) as lab:
        authorise(lab)
        farm = Farm(lab)
        for host in SERVERS:
            wait_for(lambda host=host: farm.cli(host, "status", check=False).returncode == 0)
            wait_for((lab.root(host) / "run/safekit/web.sock").exists)
        for user, role in (("alice", "control"), ("eve", "monitor"), ("root", "admin")):
            for host in SERVERS:
                done = lab.run(
                    host,
                    ["safekit-py", "user", "add", user, "--role", role, "--password-file", "-"],
                    input=PASSWORD + "\n",
                    capture_output=True,
                    text=True,
                )
                assert done.returncode == 0, done.stderr
        farm.cli("server1", "module", "install", "apache", f"--set=VIP={VIP}", "--set=PORT=80")
        xml = lab.root("server1") / "opt/safekit/modules/apache/conf/userconfig.xml"
        rule = '<rule port="9010" proto="tcp" filter="on_port"/>'
        xml.write_text(xml.read_text().replace('<group name="Apache">', f'<group name="Apache">{rule}'))
        farm.cli("server1", "-H", "*", "-E", "apache")
        farm.cli("server1", "-H", "*", "start", "apache", "--wait")
        wait_for(lambda: farm.members("server1") == 3)
        yield farm


@pytest.fixture(scope="module")
def chromium(farm, tmp_path_factory):
    with browser(farm.lab, tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture
def page(chromium):
    with window(chromium, "10.77.0.11") as made:
        yield made


def state(page, server, module="apache"):
    return page.locator(f'td[data-server="{server}"][data-module="{module}"]')


def test_a_failed_login_says_so_and_a_good_one_goes_where_one_wanted(farm, page):
    page.goto("/ui/module/apache")
    expect(page).to_have_url(re.compile(r"/ui/login\?next="))
    shot(page, "login")
    page.get_by_label("User").fill("alice")
    page.get_by_label("Password").fill("wrong words here")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert").filter(has_text="user or password is wrong")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile(r"/ui/module/apache$"))
    expect(page.get_by_role("heading", name="apache")).to_be_visible()


def test_a_failure_is_seen_within_a_second(farm, page):
    log_in(page)
    for server in SERVERS:
        expect(state(page, server)).to_contain_text("UP Ready")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    shot(page, "overview")
    farm.cli("server2", "stop", "apache", "--wait")
    since = time.monotonic()
    try:
        expect(state(page, "server2")).to_contain_text("STOP", timeout=5000)
        took = time.monotonic() - since
    finally:
        farm.cli("server2", "start", "apache", "--wait")
    print(f"seen {took:.2f} s after the stop's end")
    assert took < 1.0
    expect(state(page, "server2")).to_contain_text("UP Ready", timeout=5000)


def test_what_interrupts_service_is_asked_back_and_done_on_another_server(farm, page):
    log_in(page, path="/ui/module/apache")
    card = page.get_by_role("article", name="server3")
    card.get_by_role("button", name="Stop", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("apache on server3")
    dialog.get_by_role("button", name="Cancel").click()
    time.sleep(0.5)
    assert farm.state("server3") == "UP Ready"
    card.get_by_role("button", name="Stop", exact=True).press("Enter")  # by keyboard
    shot(page, "ask")
    dialog.get_by_role("button", name="Go on").press("Enter")
    expect(card).to_contain_text("STOP", timeout=10_000)
    wait_for(lambda: farm.state("server3") == "STOP NotReady")
    shot(page, "module")
    card.get_by_role("button", name="Start", exact=True).click()
    expect(card).to_contain_text("UP", timeout=15_000)
    wait_for(lambda: farm.state("server3") == "UP Ready")
    assert "alice" in farm.cli("server3", "cmdlog").stdout
    page.get_by_role("link", name="Who did what").click()
    expect(page.get_by_role("row").filter(has_text="alice").first).to_be_visible()
    shot(page, "commands")


def test_who_may_only_look_has_no_buttons(farm, page):
    log_in(page, "eve", path="/ui/module/apache")
    expect(page.get_by_role("article", name="server1")).to_contain_text("UP")
    assert page.locator("button[data-act]").count() == 0


def test_an_expired_session_leads_back_to_the_login_and_then_on(farm, page):
    log_in(page, path="/ui/log/apache")
    farm.cli("server1", "user", "remove", "eve")
    done = farm.lab.run(
        "server1",
        ["safekit-py", "user", "password", "alice", "--password-file", "-"],
        input=PASSWORD + "\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    expect(page).to_have_url(re.compile(r"/ui/login\?ended=1&next=%2Fui%2Flog%2Fapache"), timeout=15_000)
    expect(page.get_by_text("Your session has ended")).to_be_visible()
    page.get_by_label("User").fill("alice")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile(r"/ui/log/apache$"))
    expect(page.get_by_role("row").filter(has_text="UP").first).to_be_visible()
    shot(page, "log")


def test_the_farm_is_plotted(farm, page):
    log_in(page, path="/ui/farm/apache")
    expect(page.locator("#now tr")).to_have_count(3)
    expect(page.locator("canvas")).to_have_count(3)
    farm.fetch(60)
    shares = [float(page.locator("#now tr").nth(n).locator("td").nth(2).inner_text()) for n in range(3)]
    assert all(33 < share < 34 for share in shares)
    expect(page.get_by_text("View")).to_be_visible()
    time.sleep(3)
    shot(page, "farm")


def test_the_past_is_shown_and_a_snapshot_is_taken_of_another_server(farm, page):
    farm.cli("server3", "set", "-m", "apache", "-r", "custom.seen", "-v", "down")
    farm.cli("server3", "set", "-m", "apache", "-r", "custom.seen", "-v", "up")
    log_in(page, path="/ui/history/apache")
    expect(page.get_by_role("img", name="server3 custom.seen: up")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="custom.seen").first).to_contain_text("down → up")
    shot(page, "history")
    page.goto("/ui/module/apache")
    assert page.get_by_text("Snapshot for support").count() == 0, "alice may control, and not take what is configured"
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile(r"/ui/login$"))
    log_in(page, "root", path="/ui/module/apache")
    with page.expect_download() as download:
        page.get_by_role("article", name="server2").get_by_role("link", name="Snapshot for support").click()
    assert re.fullmatch(r"snapshot-server2-\d{14}\.zip", download.value.suggested_filename)
    names = zipfile.ZipFile(download.value.path()).namelist()
    assert "cluster/cluster.xml" in names
    assert not any("key" in name for name in names)


def test_from_the_wizard_to_a_running_farm(farm, page):
    """What is wrong is shown at its line on the way; nothing is installed before all servers accept it."""
    log_in(page, "root")
    page.get_by_role("link", name="New module").click()
    page.get_by_label("Module").select_option("apache")
    page.get_by_label("Name").fill("shop")
    xml = page.get_by_label("userconfig.xml")
    expect(page.get_by_label("VIP")).to_be_visible()
    page.get_by_label("VIP").fill("10.77.0.110")
    page.get_by_label("PORT").fill("80800")
    assert '<macro name="PORT" value="80800"/>' in xml.input_value()
    page.get_by_role("button", name="Check on all servers").click()
    wrong = page.locator("#found li.wrong").filter(has_text="server1, server2, server3")
    expect(wrong.first).to_be_visible()
    shot(page, "wizard")
    jump = wrong.first.get_by_role("button")
    number = int(jump.inner_text().split()[1])
    jump.click()
    begin = xml.evaluate("each => each.selectionStart")
    assert xml.input_value()[:begin].count("\n") == number - 1
    assert all("shop" not in farm.cli(host, "status").stdout for host in SERVERS)
    page.get_by_label("PORT").fill("8080")
    page.get_by_role("button", name="Install on all servers").click()
    expect(page.get_by_text("Installed on all servers.")).to_be_visible(timeout=30_000)
    page.get_by_role("link", name="To the module").click()
    expect(page).to_have_url(re.compile(r"/ui/module/shop$"))
    page.locator("p.all").get_by_role("button", name="Start", exact=True).click()
    for server in SERVERS:
        expect(page.get_by_role("article", name=server)).to_contain_text("UP Ready", timeout=40_000)
    got, failed = farm.fetch(30, url="http://10.77.0.110:8080/server-name.txt")
    assert (set(got), failed) == (set(SERVERS), 0)
    farm.cli("server1", "-H", "*", "stop", "shop", "--wait")
    farm.cli("server1", "-H", "*", "module", "uninstall", "shop")


def test_scripts_are_edited_compared_checked_and_saved_on_all(farm, page):
    """While it runs only with a stop and a start; what is wrong stays where it was; an older version comes back."""
    bins = [farm.lab.root(host) / "opt/safekit/modules/apache/bin/start_both" for host in SERVERS]
    old = bins[0].read_text()
    log_in(page, "root", path="/ui/edit/apache")
    text = page.get_by_label("Text")
    expect(text).to_have_value(re.compile("<safe>"))
    page.locator("#file").select_option("bin/start_both")
    expect(text).to_have_value(old)
    text.fill(old + "# edited in the console\n")
    page.get_by_role("button", name="Show what changes").click()
    expect(page.locator("#difference")).to_contain_text("+# edited in the console")
    shot(page, "edit")
    page.get_by_role("button", name="Check on all servers").click()
    expect(page.locator("#found li.wrong").first).to_contain_text("module.running")
    assert [each.read_text() for each in bins] == [old] * 3
    page.get_by_label("stop and start it where it runs").check()
    page.get_by_role("button", name="Save on all servers").click()
    page.get_by_role("dialog").get_by_role("button", name="Go on").click()
    expect(page.get_by_text("Saved on all servers.")).to_be_visible(timeout=60_000)
    assert [each.read_text() for each in bins] == [old + "# edited in the console\n"] * 3
    for host in SERVERS:
        wait_for(lambda host=host: farm.state(host) == "UP Ready")
    page.locator("#versions tr").nth(1).get_by_role("button", name="Take this one again").click()
    expect(page.locator("#found li.good")).to_contain_text("server1", timeout=60_000)
    assert [each.read_text() == old for each in bins] == [True, False, False], "of the server that was chosen only"
    farm.cli("server1", "-H", "*", "-E", "apache", "--apply")
    for host in SERVERS:
        wait_for(lambda host=host: farm.state(host) == "UP Ready")


def test_the_wizard_refuses_a_file_that_is_no_module(farm, page, tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as made:
        made.writestr("conf/userconfig.xml", '<safe><service mode="light"/></safe>')
        made.writestr("../../etc/passwd", "x")
    log_in(page, "root", path="/ui/new")
    expect(page.get_by_label("VIP")).to_be_visible()
    page.get_by_label("or a file").set_input_files(tmp_path / "evil.zip")
    page.get_by_role("button", name="Install on all servers").click()
    expect(page.locator("#found li.wrong").first).to_contain_text("etc/passwd")
    assert all("evil" not in farm.cli(host, "status").stdout for host in SERVERS)


def test_the_mosaic_shows_every_server_and_loses_one(farm, chromium):
    with window(chromium, "10.77.0.11", height=1000) as page:
        page.goto(f"http://{VIP}:9010/mosaic")
        for server in SERVERS:
            expect(page.locator("#legend b").filter(has_text=server)).to_be_visible(timeout=20_000)
        expect(page.locator("#tiles span[title^=server]")).to_have_count(100)
        shot(page, "mosaic")
        farm.cli("server3", "stop", "apache", "--wait")
        expect(page.locator("#legend b").filter(has_text="server3: 0")).to_be_visible(timeout=20_000)
        farm.cli("server3", "start", "apache", "--wait")


def test_a_server_that_goes_while_one_looks_is_shown_as_gone(farm, page):
    log_in(page)
    farm.lab.kill("server3")
    try:
        expect(state(page, "server3")).to_have_text("?", timeout=20_000)
        expect(page.get_by_text("does not answer").first).to_be_visible()
        expect(state(page, "server1")).to_contain_text("UP Ready")
        shot(page, "gone")
    finally:
        farm.lab.boot("server3")
        wait_for(lambda: farm.state("server3") is not None)
    expect(state(page, "server3")).to_contain_text("UP", timeout=30_000)


def test_the_server_that_is_looked_at_goes_and_comes_back(farm, chromium):
    with window(chromium, "10.77.0.12") as page:
        log_in(page)
        farm.lab.kill("server2")
        try:
            expect(page.get_by_text("connection lost")).to_be_visible(timeout=30_000)
        finally:
            farm.lab.boot("server2")
            wait_for(lambda: farm.state("server2") is not None)


def test_french_dark_and_on_a_phone(farm, chromium):
    with window(chromium, "10.77.0.11", language="fr-FR", dark=True, width=360, height=740) as page:
        page.goto("/ui/login")
        expect(page.get_by_role("heading", name="Se connecter")).to_be_visible()
        page.get_by_label("Utilisateur").fill("alice")
        page.get_by_label("Mot de passe").fill(PASSWORD)
        page.get_by_role("button", name="Se connecter").click()
        expect(page.get_by_role("heading", name="Cluster")).to_be_visible()
        shot(page, "phone")
        for path in ("/ui/", "/ui/module/apache", "/ui/log/apache", "/ui/farm/apache"):
            page.goto(path)
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{path} is {wide} px too wide"
        page.goto("/ui/")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Aller au contenu")).to_be_focused()
