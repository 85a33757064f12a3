"""What the documentation says can be followed: links lead somewhere, and its examples run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


RECORDS = ROOT / "docs" / "records" / "discovery"


def front_page():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def anchors(page):
    """What headings of a page are linked by."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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


@pytest.mark.slow
def test_python_of_the_front_page_runs(tmp_path):
    blocks = re.findall(r"(?s)```python\n(.*?)```", front_page())
    assert len(blocks) == 2
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"'\w+'", done.stdout)) == 100
