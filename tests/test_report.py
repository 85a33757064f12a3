"""The page of a folder: what stands on it, and what a browser makes of it."""

import json
import re
import shutil
from contextlib import contextmanager
from html import unescape
from pathlib import Path

import plotly.graph_objects as go
import pytest

from elpa_env.errors import InputError
from eval.metrics import METRICS
from eval.report import page as page_module
from eval.report import write_page
from eval.report.blocks import as_json

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MODELS = ("--model", "vae", "--model", "random")
HOW = ("--data", "landscape", "--preset", "quick", "--n-samples", 150, "--jobs", 1)


@contextmanager
def opened(path, *, width=1280, height=900):
    """A page in Chromium as Playwright drives it, and what its console and its network saw."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            tab = browser.new_page(viewport={"width": width, "height": height})
            seen = {"console": [], "requests": []}
            tab.on("console", lambda message: seen["console"].append(f"{message.type}: {message.text}"))
            tab.on("pageerror", lambda error: seen["console"].append(str(error)))
            tab.on("request", lambda request: seen["requests"].append(request.url))
            tab.goto(path.as_uri())
            tab.wait_for_function("performance.getEntriesByName('first picture').length > 0")
            yield tab, seen
        finally:
            browser.close()


def pictures(text):
    """Title and content of every picture of a page."""
    found = re.findall(
        r"<figcaption>(.*?)</figcaption>.*?<script type=\"application/json\">(.*?)</script>", text, re.DOTALL
    )
    return {unescape(title): json.loads(content) for title, content in found}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder of a comparison with two seeds."""
    from eval import cli
    from tests.conftest import _tiny

    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        _tiny(patch, "quick")
        with pytest.raises(SystemExit) as caught:
            cli.main([*map(str, ("compare", *MODELS, *HOW, "--seeds", 2, "--out", folder))])
    assert caught.value.code == 0
    return folder


class TestThePage:
    def test_a_comparison_leaves_it(self, compared):
        text = (compared / "report.html").read_text(encoding="utf-8")
        stored = json.loads((compared / "metrics.json").read_text())
        vae = stored["judges"]["paper"]["models"]["vae"]
        shown = METRICS["precision"].show_mean(vae["mean"]["precision"], vae["std"]["precision"])
        row = re.search(r"<tr><th scope=\"row\">VAE</th>(.*?)</tr>", text).group(1)
        assert f"<td>{shown}</td>" in row
        points = pictures(text)["Precision against coverage"]["frames"][0]
        coverage = 100 * vae["mean"]["coverage"]
        assert any(x == pytest.approx(coverage, rel=1e-5) for trace in points["data"] for x in trace["x"])

    def test_every_picture_is_one_of_plotly(self, compared):
        """plotly's own check of every name and value."""
        found = pictures((compared / "report.html").read_text(encoding="utf-8"))
        assert found
        for picture in found.values():
            for frame in picture["frames"]:
                go.Figure(frame["data"], {**picture["layout"], **frame["layout"]})

    def test_fits_and_loads_nothing(self, compared):
        page = compared / "report.html"
        assert page.stat().st_size < 8e6
        assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", page.read_text(encoding="utf-8"))

    def test_a_folder_without_results(self, run, tmp_path):
        (tmp_path / "empty").mkdir()
        code, _, err = run("report", "empty")
        assert code == 2
        assert "empty holds no results" in err

    def test_without_plotly(self, run, compared, monkeypatch):
        monkeypatch.setattr(page_module, "find_spec", lambda name: None)
        with pytest.raises(InputError, match=r"pip install 'elpasolite\[report\]'"):
            write_page(compared)
        code, out, _ = run("compare", "--model", "random", *HOW, "--no-reference", "--out", "plain")
        assert code == 0
        assert "no report.html" in out
        assert not Path("plain/report.html").exists()


class TestData:
    def test_no_name_ends_a_script(self):
        text = as_json({"name": "</script><b>", "value": float("nan"), "share": 1 / 3})
        assert "<" not in text
        assert json.loads(text) == {"name": "</script><b>", "value": None, "share": 0.333333}


class TestInABrowser:
    def test_quiet_and_quick_without_a_network(self, compared):
        with opened(compared / "report.html") as (tab, seen):
            assert seen["console"] == []
            assert all(url.startswith(("file:", "data:", "blob:")) for url in seen["requests"])
            first = tab.evaluate("performance.getEntriesByName('first picture')[0].startTime")
            assert first < 2_000
            assert tab.locator(".plot .main-svg").count() > 0
