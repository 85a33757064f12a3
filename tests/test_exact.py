"""Exact scores and draws from a stated distribution, against enumeration, moments and streamed samples."""

import functools
import io
import itertools
import math

import numpy as np
import pytest
from rich.console import Console
from stable_baselines3 import PPO

from agents import AgentSampler, BoltzmannDQN, make_vec_env
from elpa_env.errors import InputError
from elpa_env.landscape import load_landscape
from elpa_env.sampler import sample_distribution, unique_sample
from elpa_env.solve import solve
from elpa_env.space import ELPASOLITE_SPACE as space
from elpa_env.training import TrainingSet
from eval.exact import (
    Drawn,
    count_distribution,
    draw,
    evaluate,
    exact_score,
    exact_table,
    score_drawn,
    solve_class,
)
from eval.judge import Judge, load_judge
from eval.metrics import METRICS
from eval.scoring import Tally, count_samples, draw_unique, score_tally

NETWORK = {"policy_kwargs": {"net_arch": [8]}, "seed": 0, "device": "cpu"}


def maskable_ppo():
    sb3_contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
    return sb3_contrib.MaskablePPO("MlpPolicy", make_vec_env(2, target_class=5), **NETWORK)


AGENTS = {
    "BoltzmannDQN": lambda: BoltzmannDQN("MlpPolicy", None, beta=8.0, target_class=5, **NETWORK),
    "PPO": lambda: PPO("MlpPolicy", make_vec_env(2, target_class=5), **NETWORK),
    "MaskablePPO": maskable_ppo,
}


def table(**shares):
    """A distribution from formulas and their probabilities."""
    p = np.zeros(space.n_table)
    p[space.formula_to_index(list(shares))] = list(shares.values())
    return p


class TestExactScore:
    def test_by_hand(self, small_set, landscape, judge):
        """Half of the candidates are no composition; of the others 1/2, 1/4, 1/4 in classes 1, 1, 2."""
        known = small_set.index[small_set.energy_class == 1][:1]
        new = np.setdiff1d(landscape.members(1), small_set.index)[:1]
        beside = np.setdiff1d(landscape.members(2), small_set.index)[:1]
        assert landscape.energy_class(known) == 1
        p = np.zeros(space.n_table)
        p[[*known, *new, *beside]] = 0.25, 0.125, 0.125
        score = exact_score(p, judge=judge, target_class=1, n_samples=3, training_set=small_set)
        assert score.metrics["precision"] == pytest.approx(3 / 4)
        assert score.metrics["precision_neighbour"] == pytest.approx(1 / 4)
        seen, hidden = 1 - 0.5**3, 1 - 0.75**3
        assert score.metrics["coverage"] == pytest.approx((seen + hidden) / landscape.class_counts[1])
        assert score.rediscovered == pytest.approx(seen)
        assert score.novel == pytest.approx(2 * hidden)
        assert score.repeated == pytest.approx(3 - seen - 2 * hidden)
        assert (score.valid_fraction, score.success_rate) == pytest.approx((0.5, 0.375))
        assert score.entropy_bits == pytest.approx(1.5)
        assert score.effective_compositions == pytest.approx(2**1.5)
        assert exact_score(p, judge=judge, target_class=1, n_samples=3).as_dict()["novel"] is None

    def test_uniform_and_certain(self, landscape, judge):
        class_3 = landscape.table_class == 3
        uniform = exact_score(class_3 / class_3.sum(), judge=judge, target_class=3, n_samples=10)
        assert uniform.effective_compositions == pytest.approx(class_3.sum())
        assert uniform.success_rate == pytest.approx(1)
        certain = exact_score(table(AlNaK2F6=0.5), judge=judge, target_class=1, n_samples=10)
        assert math.copysign(1, certain.entropy_bits) == 1
        assert certain.effective_compositions == 1
        assert certain.repeated == pytest.approx(9)

    def test_nothing_valid_has_no_figures(self, judge):
        record = exact_score(np.zeros(space.n_table), judge=judge, target_class=1, n_samples=10).as_dict()
        assert (record["valid_fraction"], record["success_rate"]) == (0, 0)
        for key in ("precision", "js_distance", "entropy_bits", "effective_compositions", "repeated"):
            assert record[key] is None

    def test_another_judge(self, landscape, judge):
        other = np.where(landscape.table_class > 0, 7, 0).astype(np.int8)
        all_seven = Judge("seven", "all in class 7", judge.table_energy, other)
        score = exact_score(table(AlNaK2F6=0.5), judge=all_seven, target_class=7, n_samples=1)
        assert score.metrics["precision"] == 1
        assert score.as_dict()["judge"] == "seven"

    def test_bad_arguments(self, judge):
        p = table(AlNaK2F6=1)
        with pytest.raises(InputError, match="target_class must be 1..10, got 0"):
            exact_score(p, judge=judge, target_class=0, n_samples=1)
        with pytest.raises(InputError, match="at least 1, got 0"):
            exact_score(p, judge=judge, target_class=1, n_samples=0)


class TestRecords:
    """What is written to files and shown."""

    def test_of_a_score(self, judge, small_set):
        score = exact_score(
            table(AlNaK2F6=0.25, NaAlK2F6=0.25),
            judge=judge,
            target_class=1,
            n_samples=2,
            training_set=small_set,
        )
        record = score.as_dict()
        assert list(record) == [
            *(key for key, metric in METRICS.items() if metric.exact),
            "judge",
            "n_samples",
            "valid_fraction",
            "success_rate",
            "entropy_bits",
            "effective_compositions",
            "novel",
            "rediscovered",
            "repeated",
            "compounds_found",
            "compounds_in_class",
        ]
        assert record == {
            **score.metrics,
            **{key: getattr(score, key) for key in record if key not in score.metrics},
        }
        assert (score.judge, score.n_samples) == ("paper", 2)
        assert score.compounds_in_class == judge.compound_counts[1]
        assert score.compounds_found == pytest.approx(1)
        assert score.metrics["compounds"] == pytest.approx(1 / judge.compound_counts[1])
        assert score.novel + score.rediscovered + score.repeated == pytest.approx(2)

    def test_of_an_empty_class(self, judge):
        all_in_7 = np.where(space.composition_mask, 7, 0).astype(np.int8)
        nowhere = Judge("none", "all in class 7", judge.table_energy, all_in_7)
        record = exact_score(table(AlNaK2F6=1), judge=nowhere, target_class=1, n_samples=5).as_dict()
        assert record["compounds"] is None
        assert (record["compounds_found"], record["compounds_in_class"]) == (0, 0)

    def test_of_a_solved_class(self, judge):
        record = solve_class(10, judge=judge, beta=2.0, gamma=0.9, n_samples=50, masking="digits")
        assert list(record) == [
            "schema_version",
            "space",
            "target",
            "target_class",
            "beta",
            "gamma",
            "masking",
            "n_samples",
            "judge",
            "class_members",
            "columns",
            "seconds",
        ]
        settings = [record[key] for key in ("schema_version", "target_class", "beta", "gamma", "n_samples")]
        assert settings == [1, 10, 2.0, 0.9, 50]
        assert (record["space"], record["target"]) == ("elpasolite", "class 10")
        assert (record["masking"], record["judge"]) == ("digits", judge.record())
        assert record["class_members"] == judge.class_counts[10]
        assert 0 < record["seconds"] < 600
        assert record["seconds"] == round(record["seconds"], 2)
        assert list(record["columns"]) == ["optimal-hard", "optimal-soft", "ceiling"]
        for name, backup in (("optimal-hard", "max"), ("optimal-soft", "soft")):
            solution = solve(10, backup=backup, beta=2.0, gamma=0.9, masking="digits", landscape=judge)
            expected = exact_score(solution.distribution(), judge=judge, target_class=10, n_samples=50)
            assert record["columns"][name] == {**expected.as_dict(), "start_value": solution.start_value}
        ceiling = record["columns"]["ceiling"]
        assert ceiling["effective_compositions"] == pytest.approx(record["class_members"])
        assert "start_value" not in ceiling
        with pytest.raises(InputError, match="masking must be one of"):
            solve_class(1, judge=judge, beta=2.0, gamma=0.9, n_samples=50, masking="none")

    def test_shown(self):
        shown = dict.fromkeys((key for key, metric in METRICS.items() if metric.exact), 0.25)
        column = {**shown, "valid_fraction": 0.5, "effective_compositions": 1234.4, "start_value": 0.75}
        ceiling = {**shown, "valid_fraction": 1.0, "effective_compositions": 99.6, "coverage": None}
        record = {
            "target": "class 3",
            "target_class": 3,
            "beta": 5.0,
            "gamma": 0.5,
            "masking": "digits",
            "seconds": 1.26,
            "judge": {"name": "[b]own[/b]"},
            "class_members": 12345,
            "n_samples": 10_000,
            "columns": {"one": column, "ceiling": ceiling},
        }
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(exact_table(record))
        text = " ".join(console.export_text().replace("─", "").split())
        assert text == " ".join(
            [
                "Class 3 solved exactly: beta 5, gamma 0.5, masking digits",
                "one ceiling",
                "precision (right class) 25.00 % 25.00 %",
                "precision (neigh. class) 25.00 % 25.00 %",
                "coverage (right class) 25.00 % -",
                "coverage (neigh. class) 25.00 % 25.00 %",
                "JS distance 0.2500 0.2500",
                "compounds (right class) 25.00 % 25.00 %",
                "valid 50.00 % 100.00 %",
                "effective compositions 1,234 100",
                "value of the start 0.7500",
                "exact, in 1.3 s; judge: [b]own[/b], 12,345 compositions in the class",
                "coverage: expected after 10,000 valid samples",
                "ceiling: uniform over the class, best of independent draws",
            ]
        )


class TestCountDistribution:
    def test_moments(self):
        """Counts and candidates scatter about their means as their laws say, whatever is kept."""
        p = table(AlNaK2F6=0.1, NaAlK2F6=0.2, LiNaK2F6=0.3)
        places = np.flatnonzero(p)
        n, share = 100, p[places] / 0.6
        drawn = [
            count_distribution(space, p, n, seed=seed, keep=(0, 40, 100)[seed % 3]) for seed in range(240)
        ]
        counts = np.array([tally.counts[places] for tally, _ in drawn])
        assert (counts.sum(axis=1) == n).all()
        np.testing.assert_allclose(counts.mean(axis=0), n * share, atol=5 * 5 / math.sqrt(240))
        covariance = n * (np.diag(share) - np.outer(share, share))
        np.testing.assert_allclose(np.cov(counts.T), covariance, atol=0.5 * covariance.max())
        invalid = np.array([tally.n_raw - n for tally, _ in drawn])
        assert invalid.mean() == pytest.approx(n * 0.4 / 0.6, abs=5 * 10.6 / math.sqrt(240))
        assert invalid.var() == pytest.approx(n * 0.4 / 0.6**2, rel=0.5)

    def test_kept_samples_are_among_the_counted(self):
        p = np.random.default_rng(0).random(space.n_table) ** 9 * space.composition_mask
        tally, kept = count_distribution(space, p / p.sum(), 5_000, seed=3, keep=2_000)
        assert len(kept) == 2_000
        assert (tally.n_valid, tally.n_raw) == (5_000, 5_000)
        assert (np.bincount(kept, minlength=space.n_table) <= tally.counts).all()
        all_of_them, whole = count_distribution(space, p / p.sum(), 500, seed=3, keep=10_000)
        np.testing.assert_array_equal(np.bincount(whole, minlength=space.n_table), all_of_them.counts)

    def test_the_seed_decides(self):
        p = table(AlNaK2F6=0.1, NaAlK2F6=0.2, LiNaK2F6=0.3)
        one, same, other = (count_distribution(space, p, 1000, seed=seed, keep=500) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one[0].counts, same[0].counts)
        np.testing.assert_array_equal(one[1], same[1])
        assert one[0].n_raw == same[0].n_raw
        assert (one[1] != other[1]).any()

    def test_next_to_nothing_valid(self):
        for share in (0.0, 1e-12):
            with pytest.raises(InputError, match="too few real compositions: a share of"):
                count_distribution(space, table(AlNaK2F6=share), 10, seed=0)
        tally, _ = count_distribution(space, table(AlNaK2F6=1e-6), 10, seed=0)
        assert 10**6 < tally.n_raw < 10**8

    def test_what_repeats_an_element_is_no_valid_sample(self, judge, embedded):
        """A product of site frequencies has an eighth of its mass where an element stands twice."""
        elements = space.index_to_elements(embedded.index[embedded.energy_class == 1]).astype(int)
        sites = [np.bincount(elements[:, site], minlength=39) / len(elements) for site in range(4)]
        p = functools.reduce(np.multiply.outer, sites).ravel()
        real = space.composition_mask
        found = evaluate(Stated(p), 10_000, judge=judge, target_class=1, seed=0, keep=10_000)
        assert found.exact.valid_fraction == pytest.approx(0.876, abs=5e-4)
        assert found.tally.counts[~real].sum() == 0
        assert (found.score.n_valid, real[found.kept].all()) == (10_000, True)
        assert found.score.valid_fraction == pytest.approx(0.876, abs=0.01)
        assert found.score.metrics["coverage"] == pytest.approx(found.exact.metrics["coverage"], abs=0.015)
        tally, _ = count_samples(Sampled(p), 10_000, target_class=1, seed=0)
        streamed = score_tally(tally, judge=judge, target_class=1)
        assert streamed.metrics["coverage"] == pytest.approx(found.exact.metrics["coverage"], abs=0.015)
        assert streamed.valid_fraction == pytest.approx(0.876, abs=0.01)

    @pytest.mark.parametrize(
        ("n", "share", "message"),
        [
            (2**63, 1, "at most 1,000,000,000,000,000, got 9,223,372,036,854,775,808"),
            (10**15 + 1, 1, "at most 1,000,000,000,000,000, got 1,000,000,000,000,001"),
            (2 * 10**9, 1e-6, "at most 1,000,000,000, got 2,000,000,000"),
            (-5, 1, "at least 1, got -5"),
        ],
    )
    def test_more_samples_than_can_be_counted(self, judge, n, share, message):
        p = table(AlNaK2F6=share)
        with pytest.raises(InputError, match=message):
            count_distribution(space, p, n, seed=0)
        if share == 1:
            for call in (
                lambda: evaluate(Stated(p), n, judge=judge, target_class=1, seed=0),
                lambda: evaluate(Streamed(p), n, judge=judge, target_class=1, seed=0),
                lambda: exact_score(p, judge=judge, target_class=1, n_samples=n),
                lambda: draw_unique(Streamed(p), n, target_class=1, seed=0),
                lambda: unique_sample(space, p, n),
            ):
                with pytest.raises(InputError, match=message):
                    call()

    def test_as_many_as_can_be_counted(self):
        p = space.composition_mask / space.n_compositions
        tally, _ = count_distribution(space, p, 10**15, seed=0)
        assert tally.n_valid == tally.n_raw == 10**15
        counts, mean = tally.counts[space.composition_mask], 10**15 / space.n_compositions
        assert counts.mean() == pytest.approx(mean)
        assert counts.std() == pytest.approx(math.sqrt(mean), rel=0.01)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (np.ones(5), r"shape \(2313441,\), got \(5,\)"),
            (table(AlNaK2F6=-0.1), "at least 0, got -0.1"),
            (table(AlNaK2F6=np.nan), "at least 0, got nan"),
            (table(AlNaK2F6=0.7, NaAlK2F6=0.7), "sum to at most 1, got 1.4"),
            (table(AlNaK2F6=np.inf), "sum to at most 1, got inf"),
        ],
    )
    def test_what_is_no_distribution(self, judge, wrong, message):
        for call in (
            lambda: count_distribution(space, wrong, 10, seed=0),
            lambda: exact_score(wrong, judge=judge, target_class=1, n_samples=10),
            lambda: unique_sample(space, wrong, 1),
            lambda: sample_distribution(space, wrong, 1),
        ):
            with pytest.raises(InputError, match=message):
                call()

    def test_single_precision_is_good_enough(self):
        p = (space.composition_mask / space.n_compositions).astype(np.float32)
        assert count_distribution(space, p, 1000, seed=0)[0].n_valid == 1000

    def test_millions(self):
        p = space.composition_mask / space.n_compositions
        tally, kept = count_distribution(space, p, 25_000_000, seed=0, keep=100)
        assert tally.n_valid == tally.n_raw == 25_000_000
        counts = tally.counts[space.composition_mask]
        mean = 25_000_000 / space.n_compositions
        chi_square = ((counts - mean) ** 2 / mean).sum()
        freedom = space.n_compositions - 1
        assert abs(chi_square - freedom) < 5 * math.sqrt(2 * freedom)
        assert len(kept) == 100


@pytest.mark.parametrize("name", AGENTS)
class TestAgents:
    """Episodes played one by one against the distribution that the tree states."""

    @pytest.fixture
    def sampler(self, name):
        return AgentSampler(AGENTS[name](), target_class=5)

    def test_episodes_follow_the_distribution(self, sampler, name):
        """Chi-square over bins of equal probability, what is no composition being one."""
        n, p = 1_000_000, sampler.distribution(5)
        order = np.argsort(p, kind="stable")
        bin_of = np.empty(space.n_table, dtype=np.int64)
        bin_of[order] = np.minimum(np.cumsum(p[order]) / p.sum() * 300, 299).astype(np.int64)
        bin_of[p == 0] = 301  # never to be drawn
        index = space.digits_to_index(sampler.sample(n, target_class=5, seed=1))
        drawn = np.bincount(np.where(index >= 0, bin_of[index], 300), minlength=302)
        expected = n * np.append(np.bincount(bin_of, weights=p, minlength=301)[:300], 1 - p.sum())
        assert drawn[301] == 0
        full = expected > 0  # a composition likelier than a bin leaves the next one empty
        freedom = full.sum() - 1
        assert freedom > 250
        assert expected[full].min() > 100
        chi_square = ((drawn[:301] - expected)[full] ** 2 / expected[full]).sum()
        assert abs(chi_square - freedom) < 5 * math.sqrt(2 * freedom)

    def test_streamed_and_exact_figures_agree(self, sampler, name, judge):
        n = 20_000
        exact = evaluate(sampler, n, judge=judge, target_class=5, seed=0).exact
        tally, _ = count_samples(sampler, n, target_class=5, seed=0)
        streamed = score_tally(tally, judge=judge, target_class=5)
        for key in ("precision", "precision_neighbour"):
            share = exact.metrics[key]
            assert streamed.metrics[key] == pytest.approx(share, abs=5 * math.sqrt(share / n))
        members = load_landscape().class_counts[5]
        hits = exact.metrics["coverage"] * members
        assert streamed.metrics["coverage"] * members == pytest.approx(hits, abs=5 * math.sqrt(hits))
        assert streamed.metrics["js_distance"] == pytest.approx(exact.metrics["js_distance"], abs=0.02)
        assert streamed.valid_fraction == pytest.approx(exact.valid_fraction, abs=0.02)


class TestSolvedClass:
    def test_by_the_judge_that_is_asked(self, judge):
        symmetric = load_judge("symmetric")
        record = solve_class(1, judge=symmetric, beta=5.0, gamma=1.0, n_samples=10_000, masking="composition")
        assert record["judge"] == symmetric.record()
        assert record["class_members"] == 3714
        soft, ceiling = record["columns"]["optimal-soft"], record["columns"]["ceiling"]
        assert ceiling["coverage"] == pytest.approx(1 - (1 - 1 / 3714) ** 10_000)
        assert ceiling["compounds"] == pytest.approx(1 - (1 - 1 / 1857) ** 10_000)
        assert ceiling["precision"] == 1
        assert soft["precision"] == pytest.approx(0.977, abs=0.002)
        assert {column["judge"] for column in record["columns"].values()} == {"symmetric"}
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(exact_table(record))
        text = console.export_text()
        assert "judge: symmetric, 3,714 compositions in the class" in text
        assert "compounds (right class)" in text


class TestStoredAndScoredAgain:
    def test_what_was_drawn_is_scored_by_another_judge_without_drawing(self, judge, small_set):
        symmetric = load_judge("symmetric")
        p = (judge.table_class == 1) / 3756
        drawn = draw(Stated(p), 5000, target_class=1, seed=3, keep=10)
        assert drawn.distribution is p
        how = {"target_class": 1, "training_set": small_set}
        at_once = evaluate(Stated(p), 5000, judge=judge, seed=3, keep=10, **how)
        np.testing.assert_array_equal(at_once.kept, drawn.kept)
        stored = Drawn(Tally.from_sparse(*drawn.tally.sparse(), drawn.tally.n_raw), drawn.kept, p)
        again = score_drawn(stored, judge=judge, **how)
        assert again.score.as_dict() == at_once.score.as_dict()
        assert again.exact.as_dict() == at_once.exact.as_dict()
        other = score_drawn(stored, judge=symmetric, **how)
        agreed = len(np.intersect1d(judge.members(1), symmetric.members(1)))
        assert other.exact.metrics["precision"] == pytest.approx(agreed / 3756)
        assert other.exact.as_dict()["judge"] == other.score.as_dict()["judge"] == "symmetric"

    def test_a_stream_states_no_distribution(self, judge):
        drawn = draw(Streamed(table(AlNaK2F6=0.5)), 50, target_class=1, seed=0)
        assert drawn.distribution is None
        assert score_drawn(drawn, judge=judge, target_class=1).exact is None


class TestEvaluate:
    def test_what_is_kept_and_for_which_class(self, judge):
        """Of a sampler that states nothing, and of a distribution that nobody wants samples of."""

        class Asked:
            name = "asked"

            def sample(self, n, *, target_class, seed=None):
                assert target_class == 3
                return space.index_to_digits(space.formula_to_index(["AlNaK2F6"]).repeat(n))

        drawn = draw(Asked(), 5, target_class=3, seed=0)
        assert (drawn.tally.n_valid, len(drawn.kept)) == (5, 0)
        assert len(count_distribution(space, table(AlNaK2F6=1.0), 5, seed=0)[1]) == 0

    def test_what_is_solved_is_what_the_judge_says(self):
        judge = load_judge("symmetric")
        record = solve_class(1, judge=judge, beta=5, gamma=1, n_samples=10_000, masking="composition")
        expected = exact_score(
            solve(1, backup="soft", beta=5, landscape=judge).distribution(),
            judge=judge,
            target_class=1,
            n_samples=10_000,
        )
        assert record["columns"]["optimal-soft"]["precision"] == expected.metrics["precision"]

    def test_the_distribution_is_asked_for_once(self, small_set, judge):
        class Counting(Stated):
            asked = 0

            def distribution(self, target_class):
                self.asked += 1
                return self.stated

        sampler, calls = Counting(table(AlNaK2F6=0.5, NaAlK2F6=0.25)), []
        found = evaluate(
            sampler,
            1000,
            judge=judge,
            target_class=1,
            seed=0,
            training_set=small_set,
            keep=10,
            progress=lambda *call: calls.append(call),
        )
        assert sampler.asked == 1
        assert calls[-1] == (1000, 1000)
        assert len(found.kept) == 10
        assert found.score.n_valid == 1000
        assert found.score.metrics["precision"] == pytest.approx(found.exact.metrics["precision"])
        assert found.score.novel + found.score.rediscovered == 2

    def test_what_is_passed_on(self, judge):
        """Seed, samples to keep and progress, of what states its distribution and of what does not."""
        p = judge.table_class == 1
        for kind in (Stated, Streamed):
            calls = []
            how = {"target_class": 1, "seed": 5, "progress": lambda *call, calls=calls: calls.append(call)}
            drawn = draw(kind(p / p.sum()), 300, keep=7, **how)
            assert len(drawn.kept) == 7
            assert drawn.tally.n_valid == 300
            assert calls[-1] == (300, 300)
            assert kind is Streamed or calls[0] == (0, 300)
            found = evaluate(kind(p / p.sum()), 300, judge=judge, keep=7, **how)
            np.testing.assert_array_equal(found.kept, drawn.kept)
            np.testing.assert_array_equal(found.tally.counts, drawn.tally.counts)
            assert found.drawn.tally is found.tally
            assert found.score.novel is None
            assert len(draw(kind(p / p.sum()), 300, target_class=1, seed=5).kept) == 0
            other = draw(kind(p / p.sum()), 300, target_class=1, seed=6)
            assert (other.tally.counts != drawn.tally.counts).any()

    def test_hopeless(self, judge):
        nothing = Stated(np.zeros(space.n_table))
        with pytest.raises(InputError, match="stated makes too few real compositions: a share of 0"):
            evaluate(nothing, 10, judge=judge, target_class=1, seed=0)
        with pytest.raises(InputError, match="at least 1, got 0"):
            evaluate(nothing, 0, judge=judge, target_class=1, seed=0)

    def test_what_states_no_distribution_is_streamed(self, judge):
        found = evaluate(Streamed(table(AlNaK2F6=0.5)), 100, judge=judge, target_class=1, seed=0, keep=100)
        assert found.exact is None
        assert found.score.n_valid == len(found.kept) == 100


class Streamed:
    """Draws from a distribution without stating it."""

    name = "streamed"

    def __init__(self, distribution):
        self.places = np.flatnonzero(distribution)
        self.shares = distribution[self.places] / distribution.sum()

    def sample(self, n, *, target_class, seed=None):
        rng = np.random.default_rng(seed)
        return space.index_to_digits(rng.choice(self.places, n, p=self.shares))


class Sampled:
    """Draws candidates from a distribution, what does not exist included, without stating it."""

    name = "sampled"

    def __init__(self, distribution):
        self.p = distribution

    def sample(self, n, *, target_class, seed=None):
        return sample_distribution(space, self.p, n, seed=seed)


class Stated:
    """States a distribution, and never streams."""

    name = "stated"

    def __init__(self, distribution):
        self.stated = distribution

    def sample(self, n, *, target_class, seed=None):
        raise AssertionError("what states its distribution is not streamed")

    def distribution(self, target_class):
        return self.stated


def groups():
    """Many small worlds of five compositions and their shares: two of one compound, one, two of another.

    What is drawn in one of them says nothing about the others, and the order in which one shows its own is
    that in which it would alone.
    """
    shares = np.array([0.10, 0.20, 0.30, 0.15, 0.25])
    pairs = np.array([(c, d) for c in range(6, 39) for d in range(6, 39) if c != d])
    front = np.array([(0, 1), (1, 0), (2, 3), (4, 5), (5, 4)])
    elements = np.concatenate([np.tile(front, (len(pairs), 1)), np.repeat(pairs, 5, axis=0)], axis=1)
    index = space.elements_to_index(elements.astype(np.int8)).reshape(len(pairs), 5)
    p = np.zeros(space.n_table)
    p[index] = shares / len(pairs)
    return index, p, shares


def first_two(shares):
    """By enumeration: the compositions by which draws first show two compounds, and how likely that is."""
    compound = [0, 0, 1, 2, 2]
    for one, two in itertools.permutations(range(5), 2):
        if compound[one] != compound[two]:
            rest = sum(share for share, c in zip(shares, compound, strict=True) if c != compound[one])
            yield (one, two), shares[one] * shares[two] / rest


def shown_in_groups(drawn, index):
    """The first two compositions that each group shows, by their place in the group."""
    place = np.full(space.n_table, -1)
    place[index] = np.arange(index.size).reshape(index.shape)
    group, member = np.divmod(place[drawn], 5)
    order = np.argsort(group, kind="stable")
    return [tuple(three[:2]) for three in member[order].reshape(-1, 3).tolist()]


class TestUnique:
    @pytest.mark.parametrize("kind", [Stated, Streamed])
    def test_order_is_that_of_first_appearance(self, kind):
        """One of each A/B pair, the order that independent draws show first."""
        index, p, shares = groups()
        shown = []
        for seed in range(8):
            drawn = draw_unique(kind(p), 3 * len(index), target_class=1, seed=seed)
            assert len(np.unique(space.index_to_compound(drawn))) == len(drawn)
            shown += shown_in_groups(drawn, index)
        n = len(shown)
        assert n == 8 * 33 * 32
        expected = dict(first_two(shares))
        assert sum(expected.values()) == pytest.approx(1)
        assert set(shown) <= set(expected)
        for two, probability in expected.items():
            error = math.sqrt(probability * (1 - probability) / n)
            assert shown.count(two) / n == pytest.approx(probability, abs=4.5 * error)

    def test_every_compound_of_a_spread_distribution(self):
        """Tiny probabilities come last, and no compound is lost or shown twice."""
        places = np.flatnonzero(space.compound_mask)[:2000]
        p = np.zeros(space.n_table)
        p[places[:1000]], p[places[1000:]] = 1e-3, 1e-300
        p[space.images(places[500:1500])[0]] = 1e-300
        index = unique_sample(space, p, 2000, seed=0)
        assert set(space.index_to_compound(index[:1000])) == set(places[:1000])
        assert set(space.index_to_compound(index)) == set(places)
        np.testing.assert_array_equal(unique_sample(space, p, 2000, seed=0), index)
        assert (unique_sample(space, p, 2000, seed=1) != index).any()
        assert unique_sample(space, p, 10, seed=0).tolist() == index[:10].tolist()

    @pytest.mark.parametrize("kind", [Stated, Streamed])
    def test_novel_ones_are_what_is_left_of_the_others(self, kind, small_set):
        mirrored = TrainingSet(space.images(small_set.index)[0], small_set.energy, "the other orders")
        p = np.zeros(space.n_table)
        p[small_set.index], p[load_landscape().members(1)[:300]] = 1, 1
        p /= p.sum()
        known = np.unique(space.index_to_compound(small_set.index))
        n_all = len(np.unique(space.index_to_compound(np.flatnonzero(p))))
        novel = draw_unique(kind(p), n_all - len(known), target_class=1, seed=2, novel_to=mirrored)
        assert not np.isin(space.index_to_compound(novel), known).any()
        assert (p[novel] > 0).all()
        if kind is Stated:
            every = draw_unique(kind(p), n_all, target_class=1, seed=2)
            left = every[~np.isin(space.index_to_compound(every), known)]
            np.testing.assert_array_equal(novel, left)
            message = f"only {len(novel)} compounds besides those left out can be drawn, 400 different"
            with pytest.raises(InputError, match=message):
                draw_unique(kind(p), 400, target_class=1, seed=2, novel_to=mirrored)

    def test_what_does_not_exist_is_never_drawn(self):
        p = table(AlNaK2F6=0.25)
        p[0] = 0.75
        for seed in range(20):
            assert space.index_to_formula(unique_sample(space, p, 1, seed=seed)).tolist() == ["AlNaK2F6"]
        with pytest.raises(InputError, match="only 1 compounds can be drawn, 2 different ones"):
            unique_sample(space, p, 2)

    def test_a_stream_in_many_rounds(self):
        p = space.composition_mask / space.n_compositions
        index = draw_unique(Streamed(p), 3000, target_class=1, seed=0)
        assert len(np.unique(space.index_to_compound(index))) == 3000
        np.testing.assert_array_equal(index, draw_unique(Streamed(p), 3000, target_class=1, seed=0))

    def test_too_many(self):
        p = table(AlNaK2F6=0.25, NaAlK2F6=0.25, LiNaK2F6=0.5)
        with pytest.raises(InputError, match="stated: only 2 compounds can be drawn, 3 different"):
            draw_unique(Stated(p), 3, target_class=1, seed=0)
        with pytest.raises(InputError, match="streamed hardly shows a new compound after 2 different"):
            draw_unique(Streamed(p), 3, target_class=1, seed=0)
        assert len(draw_unique(Streamed(p), 2, target_class=1, seed=0)) == 2
        with pytest.raises(InputError, match="at least 1, got 0"):
            draw_unique(Stated(p), 0, target_class=1, seed=0)
