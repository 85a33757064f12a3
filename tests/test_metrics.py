import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from elpa_env import load_training_set
from elpa_env.errors import InputError
from elpa_env.space import ELPASOLITE_SPACE as space
from elpa_env.table import Table
from eval import metrics
from eval.judge import load_judge
from eval.study.views import training_js_distance


def place(a, b, c, d):
    return int(np.ravel_multi_index((a, b, c, d), space.table_shape))


def judged(table_class):
    """A table that knows the classes alone."""
    table = Table()
    table.space, table.table_class = space, table_class
    return table


@pytest.fixture
def toy():
    """Six compositions in classes 1, 1, 2, 2, 2, 5, drawn 3, 0, 2, 1, 0, 4 times."""
    table_class = np.zeros(space.n_table, dtype=np.int8)
    counts = np.zeros(space.n_table, dtype=np.int64)
    rows = [(1, 3), (1, 0), (2, 2), (2, 1), (2, 0), (5, 4)]
    for number, (energy_class, count) in enumerate(rows):
        where = place(0, 1, 2, 3 + number)
        table_class[where], counts[where] = energy_class, count
    return counts, table_class


def test_by_hand(toy):
    counts, table_class = toy
    result = metrics.all_metrics(counts, judged(table_class), target_class=1)
    assert result["precision"] == pytest.approx(3 / 10)
    assert result["precision_neighbour"] == pytest.approx(3 / 10)
    assert result["coverage"] == pytest.approx(1 / 2)
    assert result["coverage_neighbour"] == pytest.approx(2 / 3)
    # sites A, B, C are equal; on D: drawn .3 0 .2 .1 0 .4, reference .5 .5
    p, q = np.array([0.3, 0, 0.2, 0.1, 0, 0.4]), np.array([0.5, 0.5, 0, 0, 0, 0])
    assert result["js_distance"] == pytest.approx(jensenshannon(p, q, base=2) / 4)


def test_a_class_in_the_middle_has_two_neighbours(toy):
    counts, table_class = toy
    table_class = np.where(table_class == 5, 3, table_class).astype(np.int8)
    result = metrics.all_metrics(counts, judged(table_class), target_class=2)
    assert result["precision_neighbour"] == pytest.approx(7 / 10)
    assert result["coverage_neighbour"] == pytest.approx(2 / 3)


def test_empty_denominators_are_nan(toy):
    _, table_class = toy
    nothing = metrics.all_metrics(np.zeros(space.n_table, int), judged(table_class), target_class=1)
    assert np.isnan(nothing["precision"])
    assert nothing["coverage"] == 0
    assert np.isnan(nothing["js_distance"])
    empty_class = metrics.all_metrics(toy[0], judged(table_class), target_class=8)
    assert empty_class["precision"] == 0
    assert np.isnan(empty_class["coverage"])


def test_draws_that_are_no_composition_count_nowhere(toy):
    counts, table_class = toy
    before = metrics.all_metrics(counts, judged(table_class), target_class=1)
    counts = counts.copy()
    counts[place(5, 5, 5, 5)] = 1000
    after = metrics.all_metrics(counts, judged(table_class), target_class=1)
    np.testing.assert_equal(after, before)  # a figure that is NaN before is NaN after


@given(st.integers(0, 2**32 - 1))
def test_js_distance_is_scipys(seed):
    rng = np.random.default_rng(seed)
    p, q = rng.random((2, 4, 39)) * (rng.random((2, 4, 39)) < 0.3)
    p[:, 0] += 0.1
    q[:, 1] += 0.1
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    expected = np.mean([jensenshannon(p[s], q[s], base=2) for s in range(4)])
    assert metrics.js_distance(p, q) == pytest.approx(expected, abs=1e-9)
    assert metrics.js_distance(q, p) == pytest.approx(metrics.js_distance(p, q))
    assert metrics.js_distance(p, p) == pytest.approx(0, abs=1e-7)


def test_disjoint_distributions_are_at_distance_one():
    p, q = np.zeros((2, 4, 39))
    p[:, 0], q[:, 1] = 1, 1
    assert metrics.js_distance(p, q) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"\(4, 39\)"):
        metrics.js_distance(p, q[:3])


class TestCompounds:
    """Both A/B orders of a composition are one compound."""

    @pytest.fixture
    def orders(self):
        """Two orders in class 1; one in 1, one in 2; one in 2 alone; both in 3."""
        table_class = np.zeros(space.n_table, dtype=np.int8)
        p = np.zeros(space.n_table)
        rows = [((0, 1), 1, 0.1), ((1, 0), 1, 0.2), ((2, 3), 1, 0.15), ((3, 2), 2, 0.25)]
        rows += [((4, 5), 2, 0.05), ((6, 7), 3, 0.05), ((7, 6), 3, 0.1), ((8, 9), 1, 0.1)]
        for (a, b), energy_class, share in rows:
            table_class[place(a, b, 10, 11)], p[place(a, b, 10, 11)] = energy_class, share
        return p, table_class

    @pytest.mark.parametrize(
        ("drawn", "target_class", "share"),
        [
            ([(0, 1)], 1, 1 / 3),
            ([(0, 1), (1, 0)], 1, 1 / 3),
            ([(0, 1), (2, 3), (8, 9)], 1, 1),
            ([(3, 2)], 1, 0),  # the order that is in another class
            ([(3, 2), (2, 3)], 2, 1 / 2),
            ([(6, 7), (0, 1)], 3, 1),
            ([(0, 1)], 3, 0),
        ],
    )
    def test_drawn(self, orders, drawn, target_class, share):
        counts = np.zeros(space.n_table, dtype=np.int64)
        for a, b in drawn:
            counts[place(a, b, 10, 11)] = 7
        result = metrics.all_metrics(counts, judged(orders[1]), target_class=target_class)
        assert result["compounds"] == pytest.approx(share)

    def test_expected(self, orders):
        p, table_class = orders
        result = metrics.expected_metrics(p, judged(table_class), target_class=1, n_samples=4)
        assert result["compounds"] == pytest.approx((1 - 0.7**4 + 1 - 0.85**4 + 1 - 0.9**4) / 3)
        result = metrics.expected_metrics(p, judged(table_class), target_class=2, n_samples=4)
        assert result["compounds"] == pytest.approx((1 - 0.75**4 + 1 - 0.95**4) / 2)

    def test_expected_is_the_mean_of_many_draws(self, orders):
        p, table_class = orders
        places = np.flatnonzero(p)
        draws = np.random.default_rng(0).multinomial(3, p[places], size=20_000) > 0
        in_class = table_class[places] == 1
        compounds, which = np.unique(space.index_to_compound(places), return_inverse=True)
        found = [(draws & in_class)[:, which == k].any(axis=1) for k in range(len(compounds))]
        share = np.sum(found, axis=0).mean() / 3
        result = metrics.expected_metrics(p, judged(table_class), target_class=1, n_samples=3)
        assert result["compounds"] == pytest.approx(share, abs=0.01)

    def test_none_in_the_class(self, orders):
        assert np.isnan(metrics.all_metrics(orders[0], judged(orders[1]), target_class=9)["compounds"])

    def test_against_the_numbers_of_compounds(self):
        rng = np.random.default_rng(1)
        members = (rng.random(space.n_table) < 0.01) & space.composition_mask
        named = np.unique(space.index_to_compound(np.flatnonzero(members)))
        assert metrics.compound_count(space, members) == len(named)


class TestMetricsAreData:
    def test_what_is_said_of_them(self):
        assert list(metrics.METRICS) == [*metrics.PAPER_METRICS, "compounds", "new_precision"]
        assert len(metrics.PAPER_METRICS) == 5
        assert [key for key, metric in metrics.METRICS.items() if not metric.exact] == ["new_precision"]
        for key, metric in metrics.METRICS.items():
            assert metric.key == key
            assert (metric.unit, metric.factor) in (("%", 100), ("", 1))
        assert {key: metric.better for key, metric in metrics.METRICS.items()} == {
            "precision": "higher",
            "precision_neighbour": "",
            "coverage": "higher",
            "coverage_neighbour": "",
            "js_distance": "lower",
            "compounds": "higher",
            "new_precision": "higher",
        }

    def test_how_a_share_is_shown(self):
        metric = metrics.METRICS["precision"]
        assert metric.heading == "precision (right class) / %"
        assert metric.short_heading == "precision / %"
        assert metric.show(0.832149) == "83.21 %"
        assert metric.show_mean(0.832149, 0.00849) == "83.2 ± 0.8"
        assert metric.show_mean(0.832149) == "83.2"
        assert metric.show_paper(0.83, 0.01) == "83 ± 1"
        assert metric.show(None) == metric.show(np.nan) == metric.show_mean(np.nan) == "-"

    def test_how_a_distance_is_shown(self):
        metric = metrics.METRICS["js_distance"]
        assert metric.heading == metric.short_heading == "JS distance"
        assert metric.show(0.163449) == "0.1634"
        assert metric.show_mean(0.163449, 0.0036) == "0.163 ± 0.004"
        assert metric.show_paper(0.163449, 0.0096) == "0.16 ± 0.01"

    def test_the_best(self):
        values = [0.3, np.nan, 0.1, 0.2]
        assert metrics.METRICS["precision"].best(values) == 0.3
        assert metrics.METRICS["js_distance"].best(values) == 0.1
        assert np.isnan(metrics.METRICS["precision"].best([np.nan]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10))
def test_against_sets_and_loops(seed, target_class):
    rng = np.random.default_rng(seed)
    places = rng.choice(np.flatnonzero(space.composition_mask), 40, replace=False)
    places = np.concatenate([places, np.setdiff1d(space.images(places[:20])[0], places)])
    n = len(places)
    table_class = np.zeros(space.n_table, dtype=np.int8)
    table_class[places] = rng.integers(1, 11, n)
    draws = rng.choice(places, 200)
    counts = np.bincount(draws, minlength=space.n_table)
    result = metrics.all_metrics(counts, judged(table_class), target_class=target_class)
    near = {target_class - 1, target_class + 1} & set(range(1, 11))
    drawn = [int(table_class[i]) for i in draws]
    assert result["precision"] == pytest.approx(drawn.count(target_class) / 200)
    assert result["precision_neighbour"] == pytest.approx(sum(c in near for c in drawn) / 200)
    members = {int(i) for i in places if table_class[i] == target_class}
    if members:
        found = members & set(draws.tolist())
        assert result["coverage"] == pytest.approx(len(found) / len(members))
        compounds = [{min(i, int(space.images([i])[0][0])) for i in some} for some in (found, members)]
        assert result["compounds"] == pytest.approx(len(compounds[0]) / len(compounds[1]))


class TestExpected:
    def test_by_hand(self, toy):
        counts, table_class = toy
        p = counts / 20.0
        p[place(5, 5, 5, 5)] = 0.5  # no composition: half of the candidates are not valid
        result = metrics.expected_metrics(p, judged(table_class), target_class=1, n_samples=3)
        assert list(result) == [key for key, metric in metrics.METRICS.items() if metric.exact]
        assert result["precision"] == pytest.approx(3 / 10)
        assert result["precision_neighbour"] == pytest.approx(3 / 10)
        assert result["coverage"] == pytest.approx((1 - 0.7**3) / 2)
        assert result["coverage_neighbour"] == pytest.approx((1 - 0.8**3 + 1 - 0.9**3) / 3)
        drawn = metrics.all_metrics(counts, judged(table_class), target_class=1)
        assert result["js_distance"] == pytest.approx(drawn["js_distance"])

    @pytest.mark.parametrize("target_class", [1, 2, 5])
    def test_is_the_mean_of_many_draws(self, toy, target_class):
        counts, table_class = toy
        p = counts / counts.sum()
        places = np.flatnonzero(table_class)
        classes = table_class[places]
        draws = np.random.default_rng(0).multinomial(4, p[places], size=50_000)
        result = metrics.expected_metrics(p, judged(table_class), target_class=target_class, n_samples=4)
        for key, chosen in (
            ("coverage", classes == target_class),
            ("coverage_neighbour", np.abs(classes - target_class) == 1),
        ):
            if chosen.any():
                assert result[key] == pytest.approx((draws[:, chosen] > 0).mean(), abs=0.01)
            else:
                assert np.isnan(result[key])

    def test_certainty_tiny_probabilities_and_nothing(self, toy):
        _, table_class = toy
        sure = np.zeros(space.n_table)
        sure[place(0, 1, 2, 3)] = 1
        result = metrics.expected_metrics(sure, judged(table_class), target_class=1, n_samples=1)
        assert result["coverage"] == pytest.approx(1 / 2)
        sure[place(0, 1, 2, 4)] = 1e-18
        result = metrics.expected_metrics(sure, judged(table_class), target_class=1, n_samples=10**6)
        assert 2 * result["coverage"] - 1 == pytest.approx(1e-12, rel=1e-3)
        nothing = metrics.expected_metrics(
            np.zeros(space.n_table), judged(table_class), target_class=1, n_samples=9
        )
        assert np.isnan(nothing["precision"])
        assert nothing["coverage"] == 0

    def test_nothing_independent_covers_more_than_the_ceiling(self, landscape):
        assert metrics.coverage_ceiling(3756, 10_000) == pytest.approx(0.930, abs=5e-4)
        assert metrics.coverage_ceiling(4, 2) == pytest.approx(1 - 0.75**2)
        assert metrics.coverage_ceiling(1, 1) == 1
        assert np.isnan(metrics.coverage_ceiling(0, 5))
        table_class = landscape.table_class
        members = table_class == 1
        rng = np.random.default_rng(0)
        ceiling = metrics.coverage_ceiling(int(members.sum()), 10_000)
        for weights in (np.ones(space.n_table), rng.random(space.n_table)):
            result = metrics.expected_metrics(weights * members, landscape, target_class=1, n_samples=10_000)
            assert result["precision"] == 1
            assert result["coverage"] <= ceiling + 1e-12
            if weights.min() == 1:
                assert result["coverage"] == pytest.approx(ceiling)

    def test_no_samples(self, toy):
        with pytest.raises(InputError, match="at least 1, got 0"):
            metrics.coverage_ceiling(5, 0)
        with pytest.raises(InputError, match="at least 1, got 0"):
            metrics.expected_metrics(toy[0], judged(toy[1]), target_class=1, n_samples=0)


def test_training_class_1_is_as_far_from_the_full_class_as_in_the_paper(dft_dir):
    distance = training_js_distance(load_training_set(dft_dir), 1, load_judge())
    assert distance == pytest.approx(0.236, abs=0.003)
