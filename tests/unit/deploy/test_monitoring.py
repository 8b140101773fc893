"""The alert rules and the dashboard that ship: valid, and about figures that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from safekit_py.plugins.farm import figures as farm
from safekit_py.plugins.mirror import figures as mirror

from safekit_py.control import figures

REPOSITORY = Path(__file__).resolve().parents[3]
PROMETHEUS = REPOSITORY / "deploy/prometheus"
DASHBOARD = json.loads((REPOSITORY / "deploy/grafana/safekit.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
KNOWN = (
    {f"safekit_{name}" for name in figures.OWN}
    | {f"safekit_{name}_total" for name in figures.OWN}
    | {f"safekit_{each.name}" for part in (farm, mirror) for each in part.metrics({})}
)
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is in the package prometheus")


def test_rules_and_dashboard_name_only_figures_that_there_are():
    text = (PROMETHEUS / "safekit.rules.yml").read_text()
    named = set(re.findall(r"\bsafekit_\w+", " ".join([*re.findall(r"expr: (.*)", text), *EXPRESSIONS])))
    assert len(named) > 20
    assert named - KNOWN == set()


def test_each_alert_says_what_and_how_bad():
    text = (PROMETHEUS / "safekit.rules.yml").read_text()
    parts = text.split("- alert: ")[1:]
    assert len(parts) == 16
    for part in parts:
        for word in ("expr:", "severity: ", "summary:", "description:"):
            assert word in part, part


@promtool
def test_promtool_finds_the_rules_right():
    done = subprocess.run(
        ["promtool", "check", "rules", PROMETHEUS / "safekit.rules.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@promtool
def test_the_rules_fire_when_they_should():
    test = PROMETHEUS / "safekit.rules.test.yml"
    done = subprocess.run(["promtool", "test", "rules", test], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_each_expression_of_the_dashboard_is_one(tmp_path):
    filled = [each.replace("$module", ".*").replace("$instance", ".*") for each in EXPRESSIONS]
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(filled)]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_two_panels_lie_over_each_other():
    taken = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} over {taken[x, y]}"
                taken[x, y] = panel["title"]
