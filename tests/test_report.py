"""The page of a folder: what stands on it, and what a browser makes of it."""

import json
import re
import shutil
from contextlib import contextmanager
from html import unescape
from pathlib import Path

import plotly.graph_objects as go
import pytest

from eval.judge import load_judge
from eval.metrics import METRICS
from eval.report import write_page
from eval.report.again import command
from eval.report.blocks import Table, as_json
from eval.study.plan import Plan
from eval.study.records import import_records
from eval.study.scores import stored_curve
from eval.study.store import Request, Store
from eval.study.study import Part

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MODELS = ("--model", "vae", "--model", "random")
HOW = ("--data", "landscape", "--preset", "quick", "--n-samples", 150, "--jobs", 1)


def elpa(*arguments):
    """Run the command line, models of the preset quick training in a blink; its status."""
    from eval import cli
    from tests.conftest import _tiny

    with pytest.MonkeyPatch.context() as patch:
        _tiny(patch, "quick")
        with pytest.raises(SystemExit) as caught:
            cli.main([*map(str, arguments)])
    return caught.value.code


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder of a comparison with two seeds, two judges, and a frontier of made-up figures."""
    folder = tmp_path_factory.mktemp("compared")
    judges = ("--judge", "paper", "--judge", "symmetric")
    assert elpa("compare", *MODELS, *HOW, *judges, "--no-reference", "--seeds", 2, "--out", folder) == 0
    (folder / "frontier.json").write_text(json.dumps(frontier()))
    write_page(folder)
    return folder


def frontier():
    """What ``frontier.json`` holds, of one agent and one solution."""
    shares = {0: (0.01, 0.1), 2: (0.5, 0.6), "inf": (1.0, 0.001)}
    figures = dict.fromkeys(("compounds", "js_distance", "valid_fraction"), 0.5)
    points = [{"beta": beta, "precision": p, "coverage": c, **figures} for beta, (p, c) in shares.items()]
    return {
        "schema_version": 1,
        "target": "class 1",
        "n_samples": 100,
        "judge": {"name": "paper"},
        "coverage_ceiling": 0.9,
        "curves": [
            {"name": "agent", "reference": False, "points": points},
            {"name": "optimal-soft", "reference": True, "points": points[1:2]},
        ],
    }


def pictures(folder):
    """Title and content of every picture of a folder's page, the first of each title."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    found = re.findall(
        r"<figcaption>(.*?)</figcaption>.*?<script type=\"application/json\">(.*?)</script>", text, re.DOTALL
    )
    return {unescape(title): json.loads(content) for title, content in reversed(found)}


def row(folder, title):
    """The cells of the first row of that title."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    return re.findall(r"<td[^>]*>(.*?)</td>", re.search(rf'<th scope="row">{title}</th>(.*?)</tr>', text)[1])


class TestThePage:
    def test_shows_the_figures_of_the_comparison(self, compared):
        stored = json.loads((compared / "metrics.json").read_text())["judges"]["paper"]["models"]["vae"]
        means, deviations = stored["mean"], stored["std"]
        shown = [
            "-" if means[key] is None else metric.show_mean(means[key], deviations[key])
            for key, metric in METRICS.items()
        ]
        assert row(compared, "VAE") == [*shown, "2"]

    def test_points_are_those_of_every_judge(self, compared):
        judges = json.loads((compared / "metrics.json").read_text())["judges"]
        picture = pictures(compared)["Precision against coverage"]
        assert picture["labels"] == ["paper", "symmetric"]
        for frame, judge in zip(picture["frames"], judges.values(), strict=True):
            found = {
                (round(x, 3), round(y, 3))
                for trace in frame["data"]
                for x, y in zip(trace["x"], trace["y"], strict=True)
            }
            means = [model["mean"] for model in judge["models"].values()]
            assert found == {(round(100 * m["coverage"], 3), round(100 * m["precision"], 3)) for m in means}
            assert {note["text"] for note in frame["layout"]["annotations"]} == {
                model["title"] for model in judge["models"].values()
            }

    def test_every_picture_is_one_of_plotly(self, compared):
        """plotly's own check of every name and value."""
        found = pictures(compared)
        assert {"Energies of what is generated", "Elements on the sites"} <= found.keys()
        for picture in found.values():
            for frame in picture["frames"]:
                go.Figure(frame["data"], picture["layout"]).update_layout(frame["layout"])

    def test_fits_and_loads_nothing(self, compared):
        page = compared / "report.html"
        assert page.stat().st_size < 8e6
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", text)
        assert text.count("plotly.js v") == 1

    def test_says_what_was_seen_and_how_to_make_it_again(self, compared):
        text = unescape((compared / "report.html").read_text(encoding="utf-8"))
        assert "elpa compare --model vae --model random --no-reference --data landscape" in text
        assert "--seeds 2 --judge paper --judge symmetric" in text
        assert "What each model saw" in text
        versions = json.loads((compared / "metrics.json").read_text())["versions"]
        assert f">{versions['torch']}<" in text

    def test_is_the_same_when_written_again(self, compared):
        before = (compared / "report.html").read_bytes()
        assert elpa("report", compared) == 0
        assert (compared / "report.html").read_bytes() == before

    def test_further_models_appear_by_themselves(self, compared, tmp_path):
        """A model that the store holds for the same class and samples, whatever the last command named."""
        folder = tmp_path / "more"
        shutil.copytree(compared, folder)
        assert elpa("compare", "--model", "pairs", *HOW, "--no-reference", "--out", folder) == 0
        text = (folder / "report.html").read_text(encoding="utf-8")
        assert "Also in this folder, and shown here: VAE, random." in text
        assert row(folder, "VAE") == row(compared, "VAE")

    def test_generation_curves_that_are_kept(self, compared, tmp_path):
        folder = tmp_path / "curves"
        shutil.copytree(compared, folder)
        assert "What further samples bring" not in pictures(folder)
        store = Store(folder)
        record = next(r for r in store.records() if (r["name"], r["seed"]) == ("random", 0))
        rows = store.training_set(record["identity"]["training_set"])
        curve = stored_curve(store, record, load_judge(), Request(1, 150), rows)
        write_page(folder)
        picture = pictures(folder)["What further samples bring"]
        (line,) = picture["frames"][picture["labels"].index("drawn before")]["data"]
        assert line["name"] == "random"
        assert line["x"][-1] == 150
        assert line["y"] == pytest.approx(curve.repeated.tolist(), abs=0.051)  # kept with one digit


RECORDS = Path(__file__).parents[1] / "docs" / "records"


@pytest.mark.slow
def test_training_sets_of_growing_size(tmp_path, dft_dir):
    """From the records of real runs: every mean and deviation as figure8.json has it."""
    for model in ("vae", "gan", "dqn", "dqn-soft-model"):
        assert import_records(RECORDS / f"{model}.jsonl.gz", Store(tmp_path)) > 0
    assert elpa("reproduce", "figure8", "--stored", "--out", tmp_path) == 0
    sizes = json.loads((tmp_path / "figure8.json").read_text())["judges"]["paper"]["sizes"]
    picture = pictures(tmp_path)["Figures against the size of the training set"]
    shown = {trace["name"]: trace for trace in picture["frames"][0]["data"]}
    assert shown["VAE"]["x"] == [1_000, 2_000, 5_000, 10_000, 21_112]
    for size, mean, deviation in zip(
        ("1,000", "2,000", "5,000", "10,000", "21,112"),
        shown["VAE"]["y"],
        shown["VAE"]["error_y"]["array"],
        strict=True,
    ):
        figure = sizes[size]["vae"]["precision"]
        assert mean == pytest.approx(100 * figure["mean"], rel=1e-4)
        assert deviation == pytest.approx(100 * figure["std"], rel=1e-4)


class TestOtherFolders:
    def test_without_results(self, run, tmp_path):
        (tmp_path / "empty").mkdir()
        code, _, err = run("report", "empty")
        assert code == 2
        assert "empty holds no results" in err

    def test_a_frontier_alone(self, run, tmp_path):
        (tmp_path / "frontier.json").write_text(json.dumps(frontier()))
        assert run("report", ".")[0] == 0
        assert pictures(tmp_path)["Precision against coverage as β varies"]["labels"] == [
            "β = 0",
            "β = 2",
            "β = ∞",
        ]

    @pytest.mark.parametrize("content", ['{"schema_version": 1}', "[]", '{"schema_version": 9}', "{"])
    def test_a_damaged_frontier(self, run, tmp_path, content):
        (tmp_path / "frontier.json").write_text(content)
        code, _, err = run("report", ".")
        assert code == 2
        assert "frontier.json" in err

    def test_a_benchmark_of_campaigns(self, run, tmp_path):
        for seed, found in enumerate(([0, 1, 1, 2], [1, 1, 2, 3])):
            record = {
                "field": "small",
                "what": "energies",
                "pool": 10,
                "targets": 3,
                "way": {"proposer": "rank", "surrogate": "ensemble", "acquisition": "probability"},
                "found": found,
                "round_seconds": [1.0],
            }
            (tmp_path / f"small-rank-seed{seed}.json").write_text(json.dumps(record))
        assert run("report", ".")[0] == 0
        *_, median, at_random = pictures(tmp_path)["Found against labels"]["frames"][0]["data"]
        assert median["y"] == [0.5, 1, 1.5, 2.5]
        assert at_random["y"] == pytest.approx([0, 4 * 4 / 11], rel=1e-5)

    def test_another_space(self, run, tmp_path):
        how = ("--space", "abo3", "--target", "stable", "--n-samples", 100, "--jobs", 1)
        assert run("compare", "--model", "random", *how, "--out", "abo3")[0] == 0
        found = pictures(tmp_path / "abo3")
        assert len(found["Elements on the sites"]["frames"][0]["data"]) == 2
        for picture in found.values():
            go.Figure(picture["frames"][0]["data"], picture["layout"])


class TestCommands:
    @pytest.mark.parametrize(
        ("recipe", "seeds", "n_samples", "expected"),
        [
            ("table1", (5, 5), 10_000, "elpa reproduce table1"),
            ("table1", (12, 10), 10_000, "elpa reproduce table1 --seeds 12"),
            ("figure5", (1,), 500, "elpa reproduce figure5 --n-samples 500"),
            ("figure2", (1,), 1, "elpa reproduce figure2"),
        ],
    )
    def test_of_the_paper(self, recipe, seeds, n_samples, expected):
        parts = [Part(Plan((), tuple(range(n)), "dft", n_samples=n_samples), (), "", recipe) for n in seeds]
        assert command(recipe, parts) == expected

    def test_of_a_comparison(self):
        plan = Plan(("vae", "my agent.zip"), (3, 4), target_class=5, augment=False, masking="digits")
        assert command("compare", [Part(plan, (), "")]) == (
            "elpa compare --model vae --agent 'my agent.zip' --no-reference --target-class 5 "
            "--n-samples 10000 --preset default --seed 3 --seeds 2 --masking digits --no-augment"
        )

    def test_of_a_comparison_with_the_exact_solutions(self):
        plan = Plan(("random", "optimal-hard", "optimal-soft"), (0,))
        expected = "elpa compare --model random --n-samples 10000 --preset default"
        assert command("compare", [Part(plan, (), "")]) == expected


class TestData:
    def test_no_name_ends_a_script(self):
        text = as_json({"name": "</script><b>", "value": float("nan"), "share": 1 / 3})
        assert "<" not in text
        assert json.loads(text) == {"name": "</script><b>", "value": None, "share": 0.333333}

    def test_a_name_that_no_encoding_has(self, run, tmp_path):
        record = frontier()
        record["curves"][0]["name"] = "\udcff"
        (tmp_path / "frontier.json").write_text(json.dumps(record))
        assert run("report", ".")[0] == 0
        assert row(tmp_path, re.escape("\\udcff"))[0] == "0"

    def test_no_name_is_taken_for_a_tag(self):
        text = Table("<i>", ["<b>"], [["<u>"]]).html(0)
        assert not re.search("<[biu]>", text)


@pytest.fixture(scope="module")
def browser():
    """Chromium, as Playwright drives it."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser, folder, *, width=1280, height=900):
    """The page of a folder in a tab of its own, and what its console and its network saw."""
    telephone = width < 500
    size = {"width": width, "height": height}
    tab = browser.new_page(viewport=size, has_touch=telephone, is_mobile=telephone)
    seen = {"console": [], "requests": []}
    tab.on("console", lambda message: seen["console"].append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: seen["console"].append(str(error)))
    tab.on("request", lambda request: seen["requests"].append(request.url))
    tab.goto((folder / "report.html").as_uri())
    tab.wait_for_selector(".plot .main-svg", state="attached")
    yield tab, seen
    tab.close()


def figure(tab, title):
    """The picture of that title, drawn."""
    found = tab.locator("figure", has=tab.locator("figcaption", has_text=title)).first
    found.scroll_into_view_if_needed()
    found.locator(".main-svg").first.wait_for(state="attached")
    return found


@pytest.mark.slow
class TestInABrowser:
    @pytest.mark.parametrize("width", [1280, 390])
    def test_quiet_without_a_network_and_no_wider_than_the_screen(self, browser, compared, width):
        with opened(browser, compared, width=width) as (tab, seen):
            for place in tab.locator("figure").all():
                place.scroll_into_view_if_needed()
                place.locator(".main-svg").first.wait_for(state="attached")
            assert tab.evaluate("document.documentElement.scrollWidth") == width
            widths = tab.evaluate("[...document.querySelectorAll('.main-svg')].map(s => s.clientWidth)")
            assert max(widths) <= width
            assert seen["console"] == []
            assert all(url.startswith(("file:", "data:", "blob:")) for url in seen["requests"])

    def test_the_first_picture_is_there_at_once(self, browser, compared):
        with opened(browser, compared) as (tab, _):
            marks = "performance.getEntriesByName('first picture').map(mark => mark.startTime)"
            (first,) = tab.evaluate(marks)
            assert first < 2_000
            tab.wait_for_selector(".sketch", state="detached")

    def test_a_point_says_its_name_and_figures(self, browser, compared):
        with opened(browser, compared) as (tab, _):
            place = figure(tab, "Precision against coverage")
            tab.wait_for_selector(".sketch", state="detached")
            place.locator(".point").first.hover(force=True)
            label = place.locator(".hoverlayer .hovertext")
            label.wait_for()
            assert re.search(r"precision: .*coverage: .*labels", label.text_content())

    def test_a_tap_shows_the_label_and_keeps_the_axes(self, browser, compared):
        with opened(browser, compared, width=390) as (tab, _):
            place = figure(tab, "Precision against coverage")
            tab.wait_for_selector(".sketch", state="detached")
            axes = (
                "e => JSON.stringify(['xaxis', 'yaxis'].map(k => e.querySelector('.plot').layout[k].range))"
            )
            before = place.evaluate(axes)
            box = place.locator(".point").first.bounding_box()
            tab.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            place.locator(".hoverlayer .hovertext").wait_for()
            assert place.evaluate(axes) == before

    def test_the_judge_is_chosen(self, browser, compared):
        with opened(browser, compared) as (tab, _):
            place = figure(tab, "Precision against coverage")
            tab.wait_for_selector(".sketch", state="detached")
            shown = "e => JSON.stringify(e.querySelector('.plot').data.map(t => [t.x, t.y]))"
            before = place.evaluate(shown)
            place.locator("select").select_option("symmetric")
            assert place.evaluate(shown) != before

    def test_the_slider_moves_the_marks(self, browser, compared):
        with opened(browser, compared) as (tab, _):
            place = figure(tab, "as β varies")
            assert place.locator("output").text_content() == "β = 2"
            marks = "e.querySelector('.plot').data.filter(t => t.mode === 'markers')"
            at = f"e => {marks}.map(t => [t.x[0], t.y[0]])"
            assert place.evaluate(at) == [[60, 50], [60, 50]]
            before = place.locator(".plot").screenshot()
            place.locator("input").press("ArrowRight")
            assert place.locator("output").text_content() == "β = ∞"
            assert place.evaluate(at) == [[0.1, 100]]
            assert place.locator(".plot").screenshot() != before
