"""Any prototype: random ones against brute force, one too large for tables, and ABO3."""

import itertools
import math
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import elpa_env
from elpa_env import (
    CompositionEnv,
    CompositionVectorEnv,
    EnergyTable,
    Fixed,
    Prototype,
    Site,
    Targets,
    make_space,
    periodic,
    rules,
)
from elpa_env.errors import InputError
from elpa_env.sampler import count_draws, sample_distribution, unique_sample
from elpa_env.solve import solve
from elpa_env.space import Space
from eval.exact import exact_score
from eval.judge import Judge
from eval.metrics import METRICS

SYMBOLS = ["Li", "Na", "K", "Ca", "Ti", "Fe", "La", "O", "Cl", "U"]
TARGETS = Targets.of({"low": (-math.inf, -0.5), "middle": (-0.5, 0.5), "high": (1.0, math.inf)})
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def prototypes(draw, most_sites=5):
    """Some sites with few elements each, some of them equivalent, elements once or more often."""
    n_sites = draw(st.integers(1, most_sites))
    repeats = draw(st.booleans())
    palettes = [
        draw(st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=4, unique=True)) for _ in range(n_sites)
    ]
    multiplicities = [draw(st.integers(1, 12)) for _ in range(n_sites)]
    labels = [f"S{n}" for n in range(n_sites)]
    equivalent = ()
    if n_sites > 1 and draw(st.booleans()):
        size = draw(st.integers(2, min(3, n_sites)))
        group = sorted(draw(st.permutations(range(n_sites)))[:size])
        for place in group:
            palettes[place], multiplicities[place] = palettes[group[0]], multiplicities[group[0]]
        equivalent = (tuple(labels[place] for place in group),)
    choices = itertools.product(*palettes)
    assume(repeats or any(len(set(choice)) == n_sites for choice in choices))
    sites = tuple(map(Site, labels, map(tuple, palettes), multiplicities))
    fixed = (Fixed("F", 3),) if draw(st.booleans()) else ()
    return Prototype("any", sites, fixed, equivalent, repeats)


def compositions(prototype):
    """Symbols of all compositions, the first site slowest, by brute force."""
    number = periodic.NUMBER_OF_SYMBOL
    palettes = [sorted(site.elements, key=number.__getitem__) for site in prototype.sites]
    every = list(itertools.product(*palettes))
    return every, [prototype.repeats or len(set(one)) == len(one) for one in every]


def energies(numbers):
    """An energy model without a pattern, from -2 to 2."""
    weights = np.arange(1, numbers.shape[1] + 1) * 7919
    return (numbers.astype(np.int64) @ weights) % 41 / 10 - 2.0


def follows(space, digits):
    """Whether a composition can follow digits, by brute force."""
    _, real = compositions(space.prototype)
    whole = space.index_to_digits(np.flatnonzero(real))
    chosen = digits != 0
    return bool((whole[:, chosen] == digits[chosen]).all(axis=1).any())


@pytest.fixture(scope="module")
def abo3():
    return elpa_env.load_space("abo3")


@pytest.fixture(scope="module")
def large():
    elements = tuple(periodic.SYMBOLS[z] for z in range(1, 61))
    sites = tuple(Site(label, elements) for label in "ABCDE")
    return make_space(Prototype("large", sites, equivalent=(("A", "B"),)), TARGETS)


class TestConversions:
    @quick
    @given(prototypes())
    def test_against_brute_force(self, prototype):
        space = make_space(prototype, TARGETS)
        every, real = compositions(prototype)
        assert space.n_table == len(every)
        assert space.n_compositions == sum(real)
        np.testing.assert_array_equal(space.composition_mask, real)
        index = np.flatnonzero(real)
        numbers = np.array([[periodic.NUMBER_OF_SYMBOL[s] for s in every[i]] for i in index])
        np.testing.assert_array_equal(space.index_to_numbers(index), numbers)
        np.testing.assert_array_equal(space.numbers_to_index(numbers), index)
        digits = space.index_to_digits(index)
        np.testing.assert_array_equal(space.digits_to_index(digits), index)
        assert (digits > 0).all()
        np.testing.assert_array_equal(space.unscale(space.scale(digits)), digits)
        np.testing.assert_array_equal(space.decode(space.scale(digits)), digits)
        assert (space.scale(digits) != 0).all()
        assert (np.abs(space.scale(digits)) < 1).all()
        end = "".join(f"{f.element}{f.multiplicity}" for f in prototype.fixed)
        times = ["" if site.multiplicity == 1 else str(site.multiplicity) for site in prototype.sites]
        formulas = ["".join(map("".join, zip(every[i], times, strict=True))) + end for i in index]
        assert space.index_to_formula(index).tolist() == formulas
        np.testing.assert_array_equal(space.formula_to_index(formulas), index)
        assert not any(map(space.explain_formula, formulas))
        for i in np.flatnonzero(~np.array(real))[:3]:
            wrong = "".join(map("".join, zip(every[i], times, strict=True))) + end
            assert space.formula_to_index([wrong]) == -1
            assert "stands twice" in space.explain_formula(wrong)

    @quick
    @given(prototypes())
    def test_compounds_against_brute_force(self, prototype):
        space = make_space(prototype, TARGETS)
        every, real = compositions(prototype)
        group = (
            [space.sites.index(label) for label in prototype.equivalent[0]] if prototype.equivalent else []
        )

        def unordered(symbols):
            rest = tuple(s for place, s in enumerate(symbols) if place not in group)
            return rest, tuple(sorted(symbols[place] for place in group))

        index = np.flatnonzero(real)
        compound = space.index_to_compound(index)
        names = [unordered(every[i]) for i in index]
        first = {}
        for i, name in zip(index, names, strict=True):
            first.setdefault(name, i)
        np.testing.assert_array_equal(compound, [first[name] for name in names])
        assert space.n_compounds == len(first)
        np.testing.assert_array_equal(space.compound_table[index], compound)

    @quick
    @given(prototypes(), st.data())
    def test_any_digits(self, prototype, data):
        space = make_space(prototype, TARGETS)
        rows = st.tuples(*(st.integers(0, int(limit)) for limit in space.digit_limits))
        digits = np.array([data.draw(rows) for _ in range(5)], dtype=np.int8)
        _, real = compositions(prototype)
        known = {tuple(row): i for i, row in zip(np.flatnonzero(real), _all_digits(space, real), strict=True)}
        expected = [known.get(tuple(row), -1) for row in digits.tolist()]
        np.testing.assert_array_equal(space.digits_to_index(digits), expected)

    @quick
    @given(prototypes())
    def test_travels_and_is_told_apart(self, prototype):
        space = make_space(prototype, TARGETS)
        assert pickle.loads(pickle.dumps(space)) == space
        assert Space.from_dict(space.to_dict()) == space
        other = make_space(prototype, Targets.of({"all": (-math.inf, math.inf)}))
        assert other != space
        with pytest.raises(InputError, match="it has other targets"):
            space.check_same(other, "it")


def _all_digits(space, real):
    return space.index_to_digits(np.flatnonzero(real)).tolist()


class TestStates:
    @quick
    @given(prototypes(most_sites=4), st.integers(0, 1000))
    def test_masks_are_what_can_follow(self, prototype, seed):
        space = make_space(prototype, TARGETS)
        rng = np.random.default_rng(seed)
        digits = np.zeros((1, space.n_steps), dtype=np.int8)
        for step in range(space.n_steps):
            state = space.states.encode(digits)
            np.testing.assert_array_equal(space.states.decode(state), digits)
            np.testing.assert_array_equal(space.states.observe(state), space.scale(digits))
            (mask,) = rules.action_masks(space, digits, "composition")
            (in_range,) = rules.action_masks(space, digits, "digits")
            np.testing.assert_array_equal(np.flatnonzero(in_range), np.arange(space.digit_limits[step]))
            for action in range(space.n_actions):
                after = digits[0].copy()
                if action < space.digit_limits[step]:
                    after[step] = action + 1
                assert mask[action] == (action < space.digit_limits[step] and follows(space, after))
            assert mask.any()
            digits[0, step] = rng.choice(np.flatnonzero(mask)) + 1
        assert space.digits_to_index(digits)[0] >= 0
        assert space.states.index_of(space.states.encode(digits)) == space.digits_to_index(digits)
        assert rules.action_masks(space, digits, "composition").all()

    def test_what_later_sites_cannot_do_without_is_spared(self):
        # C takes lithium alone, and B lithium or sodium: A must leave both
        sites = Site("A", ("Li", "Na", "K")), Site("B", ("Li", "Na")), Site("C", ("Li",))
        space = make_space(Prototype("crowded", sites), TARGETS)
        start = np.zeros((1, 6), dtype=np.int8)
        rows = rules.action_masks(space, start, "composition")[0]
        assert np.flatnonzero(rows).tolist() == [space.rows[space.symbols.index("K")] - 1]
        assert space.n_compositions == 1

    def test_too_many_sites_for_a_state(self):
        elements = tuple(periodic.SYMBOLS[1:95])
        sites = tuple(Site(label, elements) for label in "ABCDEFG")
        with pytest.raises(InputError, match="more than a state holds"):
            _ = make_space(Prototype("huge", sites), TARGETS).states


class TestEnvironments:
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        prototypes(),
        st.sampled_from(["digits", "composition"]),
        st.sampled_from([None, "low", "high"]),
        st.integers(0, 10_000),
    )
    def test_single_and_vector_agree_with_brute_force(self, prototype, masking, target, seed):
        how = {"energy_model": energies, "target": target, "targets": TARGETS, "masking": masking}
        vector = CompositionVectorEnv(3, prototype=prototype, autoreset_mode=AutoresetMode.SAME_STEP, **how)
        singles = [CompositionEnv(prototype, **how) for _ in range(3)]
        space = singles[0].space
        rng = np.random.default_rng(seed)
        seen, infos = vector.reset(seed=seed)
        ours = [env.reset(seed=seed + i) for i, env in enumerate(singles)]
        taken = [[] for _ in singles]
        for _ in range(2 * space.n_steps + 3):
            np.testing.assert_array_equal(seen, [observation for observation, _ in ours])
            np.testing.assert_array_equal(infos["action_mask"], [info["action_mask"] for _, info in ours])
            wild = rng.random(3) < 0.1
            actions = np.array(
                [
                    rng.integers(space.n_actions) if w else rng.choice(np.flatnonzero(info["action_mask"]))
                    for w, (_, info) in zip(wild, ours, strict=True)
                ]
            )
            seen, rewards, ended, _, infos = vector.step(actions)
            for i, env in enumerate(singles):
                taken[i].append(int(actions[i]))
                observation, reward, over, _, info = env.step(actions[i])
                assert (reward, over) == (rewards[i], ended[i])
                if over:
                    self.check_ending(space, taken[i], env.target_class, reward, info, masking)
                    taken[i] = []
                    assert infos["final_info"]["formula"][i] == info["formula"]
                    observation, info = env.reset()
                ours[i] = observation, info

    def check_ending(self, space, taken, target_class, reward, info, masking):
        digits = np.zeros((1, space.n_steps), dtype=np.int8)
        legal = True
        for step, action in enumerate(taken):
            before = digits[0].copy()
            if action >= space.digit_limits[step]:
                legal = False
                break
            digits[0, step] = action + 1
            if masking == "composition" and not follows(space, digits[0]):
                legal, digits[0] = False, before
                break
        index = space.digits_to_index(digits)[0] if legal else -1
        if index < 0:
            assert (reward, info["formula"], info["energy_class"]) == (-1.0, "", 0)
            assert "energy" not in info
            return
        numbers = space.index_to_numbers([index])
        energy = np.float32(energies(numbers)[0])
        assert info["energy"] == energy
        expected = 1 if energy <= -0.5 else 2 if energy <= 0.5 else 3 if energy > 1 else 0
        assert info["energy_class"] == expected
        assert reward == (1.0 if expected == target_class else -1.0)

    @pytest.mark.parametrize("masking", ["digits", "composition"])
    @pytest.mark.parametrize("target", ["stable", 2, None])
    def test_gymnasium_takes_the_perovskite(self, masking, target):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*not within the observation space.*")
            check_env(elpa_env.PerovskiteEnv(target, masking=masking), skip_render_check=True)
        env = gym.make("Perovskite-v0", target=target, masking=masking)
        again = gym.make("Perovskite-v0", target=target, masking=masking)
        for one, other in [(env, again)]:
            first, second = one.reset(seed=3), other.reset(seed=3)
            assert data_equivalence(first, second)
        vector = gym.make_vec("Perovskite-v0", num_envs=3, target=target, masking=masking)
        vector.reset(seed=0)
        vector.step(vector.action_space.sample())

    def test_gymnasium_takes_a_composition_of_ones_own(self):
        prototype = Prototype("salt", (Site("A", ("Li", "Na")), Site("X", ("F", "Cl"))))
        how = {"prototype": prototype, "energy_model": energies, "target": (-2, 0)}
        check_env(gym.make("Composition-v0", **how).unwrapped, skip_render_check=True)
        vector = gym.make_vec("Composition-v0", num_envs=2, **how)
        assert vector.reset(seed=0)[0].shape == (2, 4)

    @pytest.mark.parametrize("masking", ["digits", "composition"])
    @pytest.mark.parametrize("drawn", [False, True])
    @pytest.mark.parametrize("name", ["Elpasolite-v0", "Perovskite-v0", "Composition-v0"])
    def test_stable_baselines_takes_all_of_them(self, name, drawn, masking):
        from stable_baselines3.common.env_checker import check_env as check_for_sb3

        from agents import make_vec_env

        prototype = Prototype("salt", (Site("A", ("Li", "Na")), Site("X", ("F", "Cl"))))
        targets = {"low": (-2, 0), "high": (0, 2)}
        how = {
            "Elpasolite-v0": {"target_class": None if drawn else 5},
            "Perovskite-v0": {"target": None if drawn else "unstable"},
            "Composition-v0": {
                "prototype": prototype,
                "energy_model": energies,
                "targets": targets,
                "target": None if drawn else "low",
            },
        }[name]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_for_sb3(gym.make(name, masking=masking, **how).unwrapped)
        space = {"Perovskite-v0": elpa_env.load_space("abo3").space}.get(name)
        many = make_vec_env(4, space=space, masking=masking, **how)
        assert many.reset().shape == (4, *many.observation_space.shape)
        rewards = [many.step(np.zeros(4, dtype=np.int64))[1] for _ in range(2 * many.env.space.n_steps)]
        assert np.abs(rewards).sum() > 0

    def test_pictures(self, large):
        for env in (
            elpa_env.PerovskiteEnv(masking="composition", render_mode="rgb_array"),
            CompositionEnv(
                large, energy_model=energies, target=1, masking="composition", render_mode="rgb_array"
            ),
        ):
            _, info = env.reset(seed=0)
            frames, over = [env.render()], False
            while not over:
                _, _, over, _, info = env.step(np.flatnonzero(info["action_mask"])[-1])
                frames.append(env.render())
            assert {frame.shape for frame in frames} == {(480, 720, 3)}
            assert len({frame.tobytes() for frame in frames}) == env.space.n_steps + 1

    def test_words(self):
        env = elpa_env.PerovskiteEnv(masking="composition", render_mode="ansi")
        env.reset()
        assert env.render() == "__ __  ABO3 -> ??O3\nrow of A: 1, 2, 3, 4, 5, 6"
        digits = env.space.index_to_digits(env.space.formula_to_index(["SrTiO3"]))[0]
        for digit in digits:
            env.step(digit - 1)
        text = env.render()
        assert text.startswith("Sr Ti  ABO3 -> SrTiO3\nSrTiO3  -0.")
        assert text.endswith("eV/atom  stable, wanted stable  reward +1")

    def test_several_columns_of_which_the_targets_name_one(self):
        prototype = Prototype("salt", (Site("A", ("Li", "Na")), Site("X", ("F", "Cl"))))
        targets = Targets.of({"insulator": (3, math.inf)}, quantity="gap", unit="eV")

        def model(numbers):
            return {"energy": -numbers[:, 0], "gap": np.full(len(numbers), 5.0)}

        how = {"targets": targets, "target": "insulator", "masking": "composition"}
        env = CompositionEnv(prototype, energy_model=model, **how)
        _, info = env.reset()
        for _ in range(4):
            _, reward, _, _, info = env.step(np.flatnonzero(info["action_mask"])[0])
        assert (info["energy"], reward) == (5.0, 1.0)
        wrong = CompositionEnv(prototype, energy_model=lambda n: {"x": n[:, 0]}, targets=targets, target=1)
        with pytest.raises(InputError, match="it has no gap, got x"):
            rules.finish(wrong.space, np.array([0]), 1, wrong.settings.energy_model)

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"target": (-1, 0)}, "salt ships no energies for these targets: pass energy_model"),
            ({"energy_model": energies}, r"target must be a pair \(low, high\) of energies"),
            ({"energy_model": energies, "target": (1, 0)}, "low < high, got 1 to 0"),
            ({"energy_model": energies, "target": "best"}, "target must be a pair"),
            (
                {"energy_model": energies, "target": "best", "targets": {"good": (0, 1)}},
                "target_class must be 1..1 or one of good, got 'best'",
            ),
        ],
    )
    def test_bad_arguments(self, how, message):
        prototype = Prototype("salt", (Site("A", ("Li", "Na")), Site("X", ("F", "Cl"))))
        with pytest.raises(InputError, match=message):
            CompositionEnv(prototype, **how)

    def test_a_target_that_no_energy_reaches(self):
        space = make_space(
            Prototype("salt", (Site("A", ("Li", "Na")), Site("X", ("F", "Cl")))),
            Targets.of({"deep": (-9, -8), "flat": (-1, 1)}),
        )
        table = EnergyTable.from_rows(space, np.arange(4), {"energy": np.zeros(4)})
        with pytest.raises(InputError, match="no energy reaches deep"):
            CompositionEnv(space, energy_model=table, target="deep")
        assert CompositionEnv(space, energy_model=table, target="flat").space is space


class TestTree:
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(prototypes(most_sites=3), st.integers(0, 1000))
    def test_policy_and_exact_solution_against_enumeration(self, prototype, seed):
        space = make_space(prototype, TARGETS)
        assume((space.n_rows * space.n_columns) ** space.n_sites <= 60_000)
        real = np.flatnonzero(space.composition_mask)
        table = EnergyTable.from_rows(space, real, {"energy": energies(space.index_to_numbers(real))})
        rng = np.random.default_rng(seed)
        chances = {step: rng.random(space.n_actions) + 0.1 for step in range(space.n_steps)}
        drawn = space.tree.policy_distribution(lambda step, digits: np.tile(chances[step], (len(digits), 1)))
        for i in real:
            p = 1.0
            for step, digit in enumerate(space.index_to_digits([i])[0]):
                p *= chances[step][digit - 1] / chances[step].sum()
            assert drawn[i] == pytest.approx(p)
        assert drawn[~space.composition_mask].sum() == 0
        if table.class_counts[1] == 0:
            return
        soft = solve(1, backup="soft", beta=3.0, landscape=table).distribution()
        weight = np.where(space.composition_mask, np.exp(np.where(table.table_class == 1, 3.0, -3.0)), 0)
        np.testing.assert_allclose(soft, weight / weight.sum(), atol=1e-12)
        hard = solve(1, backup="max", beta=50.0, landscape=table)
        assert hard.start_value == 1.0

    @quick
    @given(prototypes(most_sites=3), st.integers(0, 1000))
    def test_draws_and_compounds_of_a_distribution(self, prototype, seed):
        space = make_space(prototype, TARGETS)
        rng = np.random.default_rng(seed)
        p = np.where(space.composition_mask, rng.random(space.n_table), 0)
        p /= p.sum()
        digits = sample_distribution(space, p, 200, seed=seed)
        assert (space.digits_to_index(digits) >= 0).all()
        counts, n_raw, kept = count_draws(space, p, 500, seed=seed, keep=5)
        assert (counts.sum(), n_raw, len(kept)) == (500, 500, 5)
        whole = unique_sample(space, p, space.n_compounds, seed=seed)
        assert len(np.unique(space.index_to_compound(whole))) == space.n_compounds

    @quick
    @given(prototypes(most_sites=3), st.integers(1, 50))
    def test_scores_against_plain_sums(self, prototype, n_samples):
        space = make_space(prototype, TARGETS)
        real = np.flatnonzero(space.composition_mask)
        energy = np.full(space.n_table, np.nan)
        energy[real] = energies(space.index_to_numbers(real))
        judge = Judge.from_energy("test", "a formula", energy, space=space, space_name="any")
        assume(judge.class_counts[1] > 0)
        p = np.where(space.composition_mask, 1.0, 0) / len(real)
        score = exact_score(p, judge=judge, target_class=1, n_samples=n_samples)
        members = np.flatnonzero(judge.table_class == 1)
        classed = (judge.table_class > 0).sum()
        assert score.metrics["precision"] == pytest.approx(len(members) / classed)
        assert score.metrics["coverage"] == pytest.approx(1 - (1 - 1 / len(real)) ** n_samples)
        compounds = {}
        for i in members:
            compounds.setdefault(space.index_to_compound([i])[0], []).append(p[i])
        found = [1 - (1 - sum(shares)) ** n_samples for shares in compounds.values()]
        assert score.metrics["compounds"] == pytest.approx(np.mean(found))
        assert score.compounds_in_class == len(compounds) == judge.compound_counts[1]
        assert set(score.metrics) == {key for key, metric in METRICS.items() if metric.exact}


class TestABO3:
    def test_facts(self, abo3):
        space, table = abo3.space, abo3.reference()
        assert space.n_compositions == space.n_table == space.n_compounds == 5329
        assert len(table.known()) == 5276
        assert table.class_counts.tolist() == [53, 398, 291, 4587]
        energy = table.columns["formation_energy"]
        assert (np.nanmin(energy), np.nanmax(energy)) == (-3.844, 1.879)
        (index,) = space.formula_to_index(["SrTiO3"])
        assert space.index_to_numbers([index]).tolist() == [[38, 22]]
        assert space.formula_to_index(["SrSrO3", "SrFO3", "Sr2TiO3"])[0] >= 0
        assert (space.formula_to_index(["SrFO3", "Sr2TiO3", "SrTi"]) == -1).all()
        assert "unknown element F" in space.explain_formula("SrFO3")
        assert space.explain_formula("Sr2TiO3") == "not of the form ABO3"

    def test_the_training_set_is_a_fifth(self, abo3):
        rows = elpa_env.load_training_set(space="abo3")
        assert len(rows) == rows.n_labels == 1055
        assert (rows.energy_class == abo3.reference().energy_class(rows.index)).all()
        assert rows.augmented() is rows
        np.testing.assert_array_equal(rows.index, elpa_env.load_training_set("fifth", space="abo3").index)

    @pytest.mark.parametrize("masking", ["digits", "composition"])
    def test_exact_solution_and_coverage_by_plain_enumeration(self, abo3, masking):
        from eval.judge import load_judge

        judge = load_judge(space="abo3")
        found = solve(1, backup="soft", beta=2.0, masking=masking, landscape=judge).distribution()
        stable = judge.table_class == 1
        weight = np.where(stable, np.exp(2.0), np.exp(-2.0))
        lost = 0.0 if masking == "composition" else (6 * 30) ** 2 - 5329
        total = weight.sum() + lost * np.exp(-2.0)
        np.testing.assert_allclose(found, weight / total, rtol=1e-9)
        score = exact_score(found, judge=judge, target_class=1, n_samples=700)
        p = weight / weight.sum()
        assert score.metrics["coverage"] == pytest.approx((1 - (1 - p[stable]) ** 700).mean())
        known = np.isfinite(judge.table_energy)
        assert score.metrics["precision"] == pytest.approx(p[stable].sum() / p[known].sum())
        assert score.valid_fraction == pytest.approx(weight.sum() / total)

    def test_masks_by_plain_enumeration(self, abo3):
        space = abo3.space
        digits = space.index_to_digits(np.arange(space.n_table))
        for step in range(space.n_steps):
            prefixes = np.unique(digits[:, :step], axis=0)
            states = np.zeros((len(prefixes), space.n_steps), dtype=np.int8)
            states[:, :step] = prefixes
            masks = rules.action_masks(space, states, "composition")
            allowed = {tuple(row) for row in np.unique(digits[:, : step + 1], axis=0).tolist()}
            for prefix, mask in zip(prefixes.tolist(), masks, strict=True):
                expected = [(*prefix, action + 1) in allowed for action in range(space.n_actions)]
                assert mask.tolist() == expected

    def test_held_out_leaves_the_training_rows_to_nobody(self):
        from eval.judge import load_judge

        rows, judge = elpa_env.load_training_set(space="abo3"), load_judge("held-out", "abo3")
        assert not judge.energy_class(rows.index).any()
        whole = load_judge("table", "abo3")
        assert (whole.class_counts[1:] - judge.class_counts[1:] == rows.class_counts).all()


class TestTooLarge:
    """Five sites of 60 elements: 7.8 x 10^8 compositions."""

    def test_conversions(self, large):
        assert large.n_compositions == 60 * 59 * 58 * 57 * 56
        assert not large.enumerable
        rng = np.random.default_rng(0)
        digits = np.zeros((5_000, 10), dtype=np.int8)
        for step in range(10):
            masks = rules.action_masks(large, digits, "composition")
            scores = np.where(masks, rng.random(masks.shape), -1)
            digits[:, step] = scores.argmax(axis=1) + 1
        index = large.digits_to_index(digits)
        assert (index >= 0).all()
        np.testing.assert_array_equal(large.index_to_digits(index), digits)
        numbers = large.index_to_numbers(index)
        assert all(len(set(row)) == 5 for row in numbers.tolist())
        np.testing.assert_array_equal(large.numbers_to_index(numbers), index)
        np.testing.assert_array_equal(large.formula_to_index(large.index_to_formula(index)), index)
        numbers[:, 4] = numbers[:, 0]
        assert (large.numbers_to_index(numbers) == -1).all()
        compound = large.index_to_compound(index)
        np.testing.assert_array_equal(large.index_to_compound(large.images(index)[0]), compound)

    def test_what_needs_all_compositions_says_so(self, large):
        for ask in (
            lambda: large.composition_mask,
            lambda: large.compound_table,
            lambda: large.tree,
            lambda: EnergyTable.from_rows(large, np.zeros(0, np.int64), {"energy": np.zeros(0)}),
        ):
            with pytest.raises(InputError, match=r"large has 7.78e\+08|exact figures need all states"):
                ask()

    def test_environment(self, large):
        vector = CompositionVectorEnv(
            64, prototype=large, energy_model=energies, target=None, masking="composition"
        )
        single = CompositionEnv(large, energy_model=energies, target=None, masking="composition")
        _, infos = vector.reset(seed=5)
        _, info = single.reset(seed=5)
        rng = np.random.default_rng(0)
        for _ in range(10):
            masks = infos["action_mask"]
            np.testing.assert_array_equal(masks[0], info["action_mask"])
            actions = np.where(masks, rng.random(masks.shape), -1).argmax(axis=1)
            _, rewards, ended, _, infos = vector.step(actions)
            _, reward, over, _, info = single.step(actions[0])
            assert (rewards[0], ended[0]) == (reward, over)
        assert ended.all()
        assert infos["formula"][0] == info["formula"] != ""
        assert set(rewards) <= {-1.0, 1.0}
