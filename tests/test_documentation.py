"""What the documentation says can be followed: links lead somewhere, and its examples run."""

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

RECORDS = DOCS / "records" / "discovery"


def front_page():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def anchors(page):
    """What headings of a page are linked by."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run_python(*arguments, cwd=ROOT):
    """Python with the packages of this checkout."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"(?s)```.*?```", "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_the_front_page_is_short():
    assert len(front_page()) <= 6_000


def test_what_it_says_of_discovery_is_what_was_recorded():
    (said,) = re.findall(r"compounds of class 1 with (\d+)\s+calculations in the median", front_page())
    campaigns = [json.loads(path.read_text()) for path in RECORDS.glob("dft-pool-rank-ensemble-*.json")]
    assert len(campaigns) == 10
    assert all(one["found"][-1] == one["targets"] == 43 for one in campaigns)
    needed = sorted(1 + one["found"].index(43) for one in campaigns)
    assert int(said) == pytest.approx((needed[4] + needed[5]) / 2, abs=0.5)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_page_is_in_the_navigation(page):
    """The site has a place for each; those at the top of the repository are added by its hooks."""
    elsewhere = {
        "README.md": "index.md",
        "CHANGELOG.md": "changelog.md",
        "CONTRIBUTING.md": "contributing.md",
    }
    name = elsewhere.get(page.name, page.name) if page.parent == ROOT else str(page.relative_to(DOCS))
    assert re.search(rf"(?m)^\s*(# )?-? ?.*\b{re.escape(name)}$", (ROOT / "mkdocs.yml").read_text()), name


def test_worked_examples_of_the_metrics_are_what_the_code_gives():
    tried = doctest.testfile(str(DOCS / "metrics.md"), module_relative=False, encoding="utf-8")
    assert tried.failed == 0
    assert tried.attempted > 30


def test_every_metric_has_a_worked_example():
    from eval.metrics import METRICS

    sections = dict(re.findall(r"(?ms)^## (.+?)$(.*?)(?=^## |\Z)", (DOCS / "metrics.md").read_text("utf-8")))
    words = {"js_distance": "jensen-shannon distance", "new_precision": "precision of 300 new compounds"}
    for key, metric in METRICS.items():
        title = words.get(key, metric.title.replace("neigh.", "neighbouring")).lower()
        (text,) = [body for heading, body in sections.items() if heading.lower() == title]
        assert ">>> metrics." in text, key


@pytest.mark.slow
def test_what_is_generated_is_up_to_date():
    done = run_python(DOCS / "generate.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_figure_that_differs_is_named(tmp_path):
    """A copy of the repository whose table claims something else."""
    for name in ("README.md", "docs"):
        source, target = ROOT / name, tmp_path / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    page = tmp_path / "docs" / "results.md"
    text = page.read_text("utf-8")
    page.write_text(text.replace("| 83.3 ± 1.3 |", "| 93.3 ± 1.3 |"), "utf-8")
    assert page.read_text("utf-8") != text
    done = run_python(tmp_path / "docs" / "generate.py", "--check")
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == ["docs/results.md differs: run `python docs/generate.py`"]


@pytest.mark.slow
def test_python_of_the_front_page_runs(tmp_path):
    blocks = re.findall(r"(?s)```python\n(.*?)```", front_page())
    assert len(blocks) == 2
    done = run_python("-c", "\n".join(blocks), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"'\w+'", done.stdout)) == 100
