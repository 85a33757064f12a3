"""The pictures: names that stand in nobody's way, odd names taken as they are, the same look everywhere."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from elpa_env.space import ELPASOLITE_SPACE as space
from eval import figures
from eval.figures import ModelPoint
from eval.metrics import METRICS, energy_bins, energy_histogram
from eval.placement import leader_end, place_names

MODELS = {
    "DQN max": ModelPoint(0.582, 0.669, 0.212, "offline"),
    "DQN": ModelPoint(0.575, 0.649, 0.221, "offline"),
    "DQN soft": ModelPoint(0.532, 0.790, 0.179, "offline"),
    "DQN max, model": ModelPoint(0.677, 0.789, 0.175, "model-based"),
    "DQN double, model": ModelPoint(0.650, 0.784, 0.185, "model-based"),
    "DQN soft, model": ModelPoint(0.727, 0.878, 0.115, "model-based"),
    "DQN soft, any class": ModelPoint(0.659, 0.866, 0.164, "model-based"),
    "DQN max, oracle": ModelPoint(0.678, 0.999, 0.206, "oracle"),
    "DQN double, oracle": ModelPoint(0.673, 0.999, 0.214, "oracle"),
    "DQN soft, oracle": ModelPoint(0.882, 0.989, 0.060, "oracle"),
    "VAE": ModelPoint(0.542, 0.821, 0.162, "offline"),
    "GAN": ModelPoint(0.601, 0.644, 0.171, "offline"),
    "pairs": ModelPoint(0.032, 0.823, 0.236, "offline"),
    "sites": ModelPoint(0.546, 0.631, 0.239, "offline"),
    "random": ModelPoint(0.007, 0.002, 0.596, "offline"),
    "optimal hard": ModelPoint(0.664, 0.999, 0.224, "reference"),
    "optimal soft": ModelPoint(0.929, 0.977, 0.061, "reference"),
}
"""Class 1, 10,000 samples: as crowded as a comparison of all models is."""
PAPER = {"DQN, paper": (0.53, 0.69), "VAE, paper": (0.54, 0.83), "GAN, paper": (0.62, 0.66)}
ODD = [
    *(
        "$x$",
        "\\frac{",
        "a_{b",
        "[bold]:b:",
        "x" * 248,
        "two\nlines",
        "half \udcff",
        "名前",
        "",
        "tab\tbell\a",
    ),
    *("_hidden", "_", "%s {0}"),  # a legend passes over labels with an underscore in front
]
BINS = energy_bins(space)
TRAINING = energy_histogram(np.random.default_rng(0).normal(0.5, 0.8, 20_000), BINS)


@pytest.fixture
def drawn(monkeypatch):
    """Every figure that is drawn, kept for a look at what it holds."""
    kept = []

    class Kept(figures.Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            kept.append(self)

    monkeypatch.setattr(figures, "Figure", Kept)
    return kept


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def assert_nothing_overlaps(boxes, others=()):
    for i, box in enumerate(boxes):
        assert not any(overlap(box, other) for other in boxes[i + 1 :])
        assert not any(overlap(box, other) for other in others)


class TestPlacement:
    BOUNDS = (0.0, 0.0, 1000.0, 700.0)

    @pytest.mark.parametrize("seed", range(6))
    def test_nothing_is_covered(self, seed):
        rng = np.random.default_rng(seed)
        points = rng.random((25, 2)) * (900, 600) + 50
        points[:10] = points[0] + rng.normal(size=(10, 2)) * 30  # a crowd
        sizes = np.stack([rng.uniform(20, 120, 25), np.full(25, 12.0)], axis=1)
        obstacles = np.array([[700.0, 0.0, 1000.0, 120.0]])
        boxes = place_names(points, sizes, self.BOUNDS, obstacles)
        np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], sizes)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= (1000, 700)).all()
        spots = [(x - 7.9, y - 7.9, x + 7.9, y + 7.9) for x, y in points]
        assert_nothing_overlaps(boxes.tolist(), [*spots, *obstacles.tolist()])
        distance = np.linalg.norm(leader_end(points, boxes) - points, axis=1)
        assert np.median(distance) < 20
        np.testing.assert_array_equal(boxes, place_names(points, sizes, self.BOUNDS, obstacles))

    def test_models_at_the_same_place(self):
        points = np.full((6, 2), 300.0)
        boxes = place_names(points, np.tile([80.0, 12.0], (6, 1)), self.BOUNDS)
        assert_nothing_overlaps(boxes.tolist())

    def test_alone_a_name_stands_to_the_right(self):
        ((left, bottom, _, top),) = place_names(
            np.array([[300.0, 300.0]]), np.array([[80.0, 12.0]]), self.BOUNDS
        )
        assert 300 < left < 315
        assert bottom < 305 < top + 5

    def test_in_a_corner_it_stays_inside(self):
        for corner in ((1.0, 1.0), (999.0, 699.0), (1.0, 699.0), (999.0, 1.0)):
            (box,) = place_names(np.array([corner]), np.array([[80.0, 12.0]]), self.BOUNDS)
            assert box[0] >= 0
            assert box[1] >= 0
            assert box[2] <= 1000
            assert box[3] <= 700

    def test_a_name_is_not_taken_for_its_neighbours(self):
        """One point to the left of another: no name between them, where it would be either's."""
        points = np.array([[300.0, 300.0], [345.0, 308.0]])
        boxes = place_names(points, np.array([[30.0, 12.0], [30.0, 12.0]]), self.BOUNDS)
        own = np.linalg.norm(leader_end(points, boxes) - points, axis=1)
        other = np.linalg.norm(leader_end(points[::-1], boxes) - points[::-1], axis=1)
        assert (own < other).all()

    def test_no_names(self):
        assert place_names(np.zeros((0, 2)), np.zeros((0, 2)), self.BOUNDS).shape == (0, 4)


class TestModels:
    def draw(self, path, models=MODELS, paper=PAPER, ceiling=0.93):
        figures.draw_models(path, models, paper, ceiling=ceiling, title="Class 1", caption="all of them")

    def test_every_name_stands_in_the_panel_and_covers_nothing(self, drawn, tmp_path):
        self.draw(tmp_path / "m.png")
        panel = drawn[0].axes[0]
        inside = panel.get_window_extent().extents
        names = {text.get_text(): text for text in panel.texts if text.get_text()}
        assert set(names) == {*MODELS, *PAPER}
        boxes = [text.get_window_extent().extents.tolist() for text in names.values()]
        places = {**{name: (p.coverage, p.precision) for name, p in MODELS.items()}, **PAPER}
        points = panel.transData.transform([100 * np.array(places[name]) for name in names])
        legend = panel.get_legend().get_window_extent().extents
        spots = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
        assert_nothing_overlaps(boxes, [*spots, legend.tolist()])
        for box in [*boxes, legend]:
            assert overlap(box, inside)
            assert (np.array(box[:2]) >= inside[:2] - 1).all()
            assert (np.array(box[2:]) <= inside[2:] + 1).all()
        distance = np.linalg.norm(leader_end(points, np.array(boxes)) - points, axis=1)
        assert distance.max() < 60
        assert not any(overlap(legend, spot) for spot in spots)

    def test_what_has_no_figures_is_named_below(self, drawn, tmp_path):
        nothing = ModelPoint(np.nan, np.nan, np.nan, "unknown")
        self.draw(tmp_path / "m.png", {"VAE": MODELS["VAE"], "broken": nothing}, {})
        assert "without figures: broken" in drawn[0]._supxlabel.get_text()
        self.draw(tmp_path / "none.png", {}, {}, ceiling=np.nan)
        assert (tmp_path / "none.png").stat().st_size > 1000


class TestEnergies:
    @pytest.mark.parametrize("target_class", [1, 5, 10])
    def test_outlines_share_a_panel(self, drawn, tmp_path, target_class):
        rng = np.random.default_rng(1)
        models = {name: energy_histogram(rng.normal(-2, 0.3, 500), BINS) for name in MODELS}
        figures.draw_energies(
            tmp_path / "e.png",
            TRAINING,
            models,
            bins=BINS,
            space=space,
            target_class=target_class,
            caption="all of them",
        )
        whole, close = drawn[0].axes
        for panel in (whole, close):
            shown = {patch.get_label(): patch for patch in panel.patches}
            assert {*models, "training set", f"class {target_class}"} == set(shown)
            for name, histogram in models.items():
                np.testing.assert_array_equal(shown[name].get_data().values, histogram)
                assert not shown[name].get_fill()
        looks = {
            (p.get_edgecolor(), str(p.get_linestyle())) for p in whole.patches if p.get_label() in models
        }
        assert len(looks) == len(models)
        legend = whole.get_legend().get_window_extent().extents
        inside = whole.get_window_extent().extents
        assert (legend[:2] >= inside[:2]).all()
        assert (legend[2:] <= inside[2:]).all()
        low = -3.06699926 + (target_class - 1) * 0.808575755
        for panel in (whole, close):
            assert panel.get_xlim()[0] <= low
            assert panel.get_xlim()[1] >= low + 0.80
        # the energies that occur, and the class with its neighbours; those at the ends are as wide as others
        assert whole.get_xlim()[0] > -3.7
        assert whole.get_xlim()[1] < 5.3
        assert close.get_xlim()[0] >= low - 0.8086
        assert close.get_xlim()[1] <= low + 2 * 0.8086

    def test_nothing_was_drawn(self, tmp_path):
        figures.draw_energies(
            tmp_path / "e.png", TRAINING * 0, {}, bins=BINS, space=space, target_class=1, caption=""
        )
        assert (tmp_path / "e.png").stat().st_size > 1000


def draw_all(folder, names):
    """Every picture, with all the names in every place that holds one."""
    shares = np.full((4, 39), 1 / 39)
    curve = [(0.0, 0.1, 0.2), (np.inf, 0.5, 0.6), (2.0, np.nan, np.nan)]
    text, odd = " ".join(names), {"caption": " ".join(names)}
    models = {name: ModelPoint(i / 20, 0.5, 0.1, name) for i, name in enumerate(names)}
    figures.draw_models(folder / "models.png", models, PAPER, ceiling=0.9, title=text, **odd)
    histograms = {name: TRAINING // 2 for name in names}
    of_class = {"space": space, "target_class": 3, **odd}
    figures.draw_energies(folder / "energies.png", TRAINING, histograms, bins=BINS, **of_class)
    distributions = {name: shares for name in names[:4]}
    figures.draw_elements(folder / "elements.png", distributions, **of_class)
    curves = {name: curve for name in names}
    figures.draw_frontier(folder / "frontier.png", curves, curves, ceiling=0.9, title=text, **odd)
    metrics = {key: [(0.1, 0.02), (0.2, 0.01)] for key in ("coverage", "js_distance")}
    titles = {key: METRICS[key].heading for key in metrics}
    means = {name: metrics for name in names}
    figures.draw_sizes(folder / "sizes.png", [1000, 20000], means, titles, ceiling=0.9, **odd)
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_names_are_taken_as_they_are_and_settings_stay(tmp_path, drawn):
    before = dict(matplotlib.rcParams)
    pictures = draw_all(tmp_path, ODD)
    assert len(pictures) == 5
    assert all(blob[:4] == b"\x89PNG" for blob in pictures.values())
    for figure in drawn:
        assert max(figure.get_size_inches()) < 20
        texts = figure.findobj(matplotlib.text.Text)
        assert not any(text.get_parse_math() for text in texts)
    for panel in (drawn[1].axes[0], drawn[3].axes[0], drawn[4].axes[0]):
        shown = [text.get_text().strip() for text in panel.get_legend().get_texts()]
        for name in ("$x$", "\\frac{", "_hidden", "_", "%s {0}"):
            assert name in shown
    assert dict(matplotlib.rcParams) == before


def draw_one(folder):
    figures.draw_models(
        folder / "models.png", MODELS, PAPER, ceiling=0.93, title="Class 1", caption="all of them"
    )
    return (folder / "models.png").read_bytes()


@pytest.mark.parametrize("surroundings", ["broken", "settings"])
def test_pictures_look_the_same_whatever_matplotlib_is_told(tmp_path, surroundings):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    settings = there / "matplotlibrc"
    if surroundings == "settings":
        env["MPLBACKEND"] = "svg"
        settings.write_text("text.usetex: True\nfigure.facecolor: red\nsavefig.dpi: 10\nfont.size: 30\n")
    else:
        env["MPLBACKEND"] = "nothing-like-this"
        settings = tmp_path / "undecodable"
        settings.write_bytes(b"\xff\xfe\x00 not text")
        env["MATPLOTLIBRC"] = str(settings)
    code = (
        "import eval.figures; from pathlib import Path; from tests.test_figures import draw_one;"
        "draw_one(Path('.'))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (there / "models.png").read_bytes() == draw_one(here)


def test_settings_in_the_working_folder_that_cannot_be_read(tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe\x00 not text")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    code = "import eval.figures"
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "InputError: matplotlib cannot be used, mend or move ./matplotlibrc" in done.stderr


def test_histograms_have_bins_of_a_fifth(tmp_path):
    assert energy_histogram(np.array([-4.0, -3.81, -3.79]), BINS).tolist()[:2] == [2, 1]
    assert len(BINS) == 51
    np.testing.assert_allclose(np.diff(BINS), 0.2)
