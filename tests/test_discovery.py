"""Campaigns: beliefs and choices by hand-worked cases, files, faults, and the command line."""

import json
import math
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from agents.discovery import campaign as campaigns
from agents.discovery.acquisition import ACQUISITIONS, Goal, take
from agents.discovery.campaign import Campaign, NothingLeft, Settings, Told
from agents.discovery.candidates import candidates, chemistry, write_structures
from agents.discovery.descriptors import site_descriptors
from agents.discovery.energies import ModelEnergy, RowsEnergy
from agents.discovery.proposers import (
    AgentConfig,
    AgentProposer,
    GeneticProposer,
    Known,
    RandomProposer,
    RankProposer,
    SamplerProposer,
)
from agents.discovery.results import read_results, write_batch
from agents.discovery.run import is_gone, run_campaign, this_process
from agents.discovery.surrogate import (
    ENSEMBLE,
    Belief,
    Calibration,
    Ensemble,
    EnsembleConfig,
    GaussianProcess,
)
from agents.properties import site_codes
from elpa_env import ELPASOLITE_SPACE, Position, Prototype, Site, Structure, Targets, TrainingSet, make_space
from elpa_env.errors import InputError
from elpa_env.seeds import spawn
from eval.cli import main

METALS = "Li Na K Rb Cs Mg Ca Sr Ba Al Ga In"
TARGETS = Targets.of({"deep": (-math.inf, -2.0), "middle": (-2.0, -1.0), "high": (-1.0, math.inf)})
PROTOTYPE = Prototype(
    "pairs",
    (Site("A", METALS), Site("B", METALS), Site("X", "F Cl Br I O S")),
    equivalent=(("A", "B"),),
    structure=Structure(
        225,
        ("a", "a", "a", "90", "90", "90"),
        (
            Position("A", ("0", "0", "0")),
            Position("B", ("1/2", "1/2", "1/2")),
            Position("X", ("1/4", "1/4", "1/4")),
        ),
        {"a": 6.0},
    ),
    check=False,
)


def pairs():
    """A space of 396 compounds."""
    sites = (Site("A", METALS), Site("B", METALS), Site("X", "F Cl Br I O S", 2))
    return make_space(replace(PROTOTYPE, sites=sites), TARGETS)


SPACE = pairs()
ALL = np.flatnonzero(SPACE.compound_mask)


def energy_of(numbers):
    """(n,) eV/atom that a network can learn: ionic where electronegativities differ."""
    from elpa_env.periodic import ELECTRONEGATIVITIES as CHI

    chi = CHI[np.asarray(numbers)]
    return -((chi[:, 2] - chi[:, 0]) + (chi[:, 2] - chi[:, 1])) / 2 + 0.4 * np.abs(chi[:, 0] - chi[:, 1])


ENERGY = energy_of(SPACE.index_to_numbers(ALL))
KNOWN_ENERGY = dict(zip(ALL.tolist(), ENERGY.tolist(), strict=True))
SOURCE = ModelEnergy(energy_of, SPACE, "sums")
FEW = Settings(initial=20, batch_size=8)


TINY = EnsembleConfig(replace(ENSEMBLE.networks, members=4, hidden=32, embedding=8, n_updates=120))


@pytest.fixture(autouse=True)
def _small_networks(monkeypatch):
    """Networks that learn in a blink; those of other processes are the usual ones."""
    monkeypatch.setitem(campaigns.SURROGATES, "ensemble", lambda seed: Ensemble(TINY, seed=seed))


def labels_of(n, seed=0):
    index = np.sort(np.random.default_rng(seed).choice(ALL, n, replace=False))
    return TrainingSet(index, np.array([KNOWN_ENERGY[i] for i in index.tolist()]), "sums", SPACE)


def started(path, n=24, **more):
    """A campaign with labels to learn from."""
    return Campaign.new(path, SPACE, target="deep", settings=FEW, labels=labels_of(n), durable=False, **more)


def tell_all(campaign, batch):
    campaign.tell([Told(one.index, KNOWN_ENERGY[one.index], source="sums") for one in batch])


def state_of(path):
    """All that a file holds, times left aside."""
    with sqlite3.connect(path) as connection:
        labels = connection.execute("SELECT compound, energy, source, round FROM labels ORDER BY compound")
        proposals = connection.execute(
            "SELECT compound, round, state, reason, probability FROM proposals ORDER BY number"
        )
        return labels.fetchall(), proposals.fetchall()


# --- Belief, calibration, choice ---


@given(
    st.lists(st.tuples(st.floats(-3, 3), st.floats(0.05, 2)), min_size=1, max_size=4),
    st.floats(-4, 4),
    st.floats(0.01, 3),
)
@settings(deadline=None)
def test_belief_is_the_mixture(parts, low, width):
    mean, scale = (np.array(column)[:, None] for column in zip(*parts, strict=True))
    belief = Belief(mean, scale)
    expected = np.mean([stats.norm(m, s).cdf(low + width) - stats.norm(m, s).cdf(low) for m, s in parts])
    assert belief.probability(low, low + width)[0] == pytest.approx(expected, abs=1e-12)
    below, above = belief.probability(-math.inf, low)[0], belief.probability(low, math.inf)[0]
    assert below + above == pytest.approx(1)
    second = np.mean([m**2 + s**2 for m, s in parts])
    assert belief.energy[0] == pytest.approx(np.mean(mean))
    assert belief.uncertainty[0] == pytest.approx(math.sqrt(max(second - np.mean(mean) ** 2, 0)), abs=1e-7)


@pytest.mark.parametrize(("mean", "scale", "best"), [(0.0, 1.0, -1.0), (-2.0, 0.3, -1.0), (1.0, 0.5, -1.0)])
def test_expected_improvement_is_its_integral(mean, scale, best):
    belief = Belief(np.array([[mean]]), np.array([[scale]]))
    density = stats.norm(mean, scale).pdf
    expected, _ = integrate.quad(lambda e: (best - e) * density(e), best - 12 * scale, best, limit=200)
    assert belief.improvement(best)[0] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_calibration_mends_probabilities_and_keeps_their_order():
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 3, 4000)
    hit = rng.random(4000) < 1 / (1 + np.exp(-odds))
    stated = 1 / (1 + np.exp(-(0.5 * odds + 1)))  # too timid, and too hopeful
    calibration = Calibration.of(stated, hit)
    assert calibration.slope == pytest.approx(2, rel=0.1)
    assert calibration(stated).sum() == pytest.approx(hit.sum(), rel=0.03)
    ordered = np.sort(stated)
    assert (np.diff(calibration(ordered)) >= 0).all()
    assert calibration(np.array([0.0, 1e-12]))[0] == 0
    few = Calibration.of(np.array([0.5]), np.array([True]))
    assert abs(few.slope - 1) < 0.2
    assert abs(few.shift) < 0.5


def test_take_orders_by_score_and_can_avoid_neighbours():
    formulas = ["LiNaF2", "NaLiF2", "LiKF2", "MgCaO2", "KRbF2"]
    index = SPACE.formula_to_index(formulas)
    score = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert take(score, index, 3, SPACE).tolist() == [0, 1, 2]
    # the second is the first compound, the third differs from it in one site; the last in two
    assert take(score, index, 3, SPACE, diverse=True).tolist() == [0, 3, 4]
    assert take(score, index, 5, SPACE, diverse=True).tolist() == [0, 3, 4, 1, 2]
    ties = take(np.zeros(5), index, 2, SPACE)
    assert sorted(index[ties]) == sorted(index)[:2]


def test_acquisitions_prefer_what_they_say():
    belief = Belief(np.array([[-2.5, -1.5, 0.0, -2.1]]), np.array([[0.1, 0.3, 3.0, 0.05]]))
    rng = np.random.default_rng(0)

    def best(name, target):
        goal = Goal.of(SPACE, target)
        return int(np.argmax(ACQUISITIONS[name](belief, goal, -2.3, 2, rng)))

    assert best("probability", "deep") == 0
    assert best("probability", "middle") == 1
    assert best("uncertainty", "deep") == 2
    assert best("expected-improvement", "lowest") == 2
    votes = Counter(best("thompson", "deep") for _ in range(200))
    assert votes[0] + votes[2] > 190
    assert min(votes[0], votes[2]) > 10


def test_far_from_the_goal_the_nearest_lead_there():
    # both lie five deviations off: what is known worst must not be taken for promising
    belief = Belief(np.array([[-1.0, 1.0, -0.9]]), np.array([[0.2, 0.6, 0.05]]))
    goal = Goal.of(SPACE, "deep")
    rng = np.random.default_rng(0)
    assert goal.probability(belief, 0).max() < 1e-6
    score = ACQUISITIONS["probability"](belief, goal, 0, 1, rng)
    assert np.argsort(-score).tolist() == [0, 2, 1]


def test_goal_names_targets_and_the_lowest():
    energy = np.array([-2.5, -1.5, 0.0])
    assert Goal.of(SPACE, "middle").reached(energy).tolist() == [False, True, False]
    assert Goal.of(SPACE, 3).name == "high"
    lowest = Goal.of(SPACE, "lowest")
    assert lowest.reached(energy).tolist() == [True, False, False]
    assert lowest.limits(-2.5) == (-math.inf, -2.5)
    with pytest.raises(InputError, match="target_class must be 1..3.*or lowest"):
        Goal.of(SPACE, "nine")


# --- Surrogates ---


@pytest.mark.parametrize("make", [lambda: Ensemble(seed=1), lambda: GaussianProcess(seed=1)])
def test_surrogates_learn_from_few_labels(make):
    labels = labels_of(60)
    surrogate = make().fit(labels)
    rest = np.setdiff1d(ALL, labels.index)
    truth = np.array([KNOWN_ENERGY[i] for i in rest.tolist()])
    belief = surrogate.belief(rest)
    assert np.abs(belief.energy - truth).mean() < 0.5 * np.abs(truth - labels.energy.mean()).mean()
    # what is said of the uncertainty is about right on compounds that were never shown
    z = (truth - belief.energy) / belief.uncertainty
    assert 0.3 < np.sqrt(np.mean(z**2)) < 2.5
    (mirror,) = SPACE.images(rest)
    np.testing.assert_allclose(surrogate.belief(mirror).energy, belief.energy, atol=1e-5)
    held = surrogate.held_out()
    assert held.mean.shape == (1, 60)
    assert np.sqrt(np.mean(((labels.energy - held.energy) / held.uncertainty) ** 2)) == pytest.approx(1)
    again = make().fit(labels)
    np.testing.assert_array_equal(again.belief(rest).mean, belief.mean)


def test_descriptors_are_numbers_of_the_elements():
    """Mean 0 and standard deviation 1 over the palette; fluorine holds on to electrons, caesium does not."""
    codes = site_codes(ELPASOLITE_SPACE).of_element
    found = site_descriptors(ELPASOLITE_SPACE)[codes].numpy()
    assert found.shape == (39, 11 + 6 + 8)
    np.testing.assert_allclose(found[:, :11].mean(axis=0), 0, atol=1e-5)
    of = dict(zip(ELPASOLITE_SPACE.symbols, found, strict=True))
    mendeleev, ionization, affinity, highest, lowest, ionic, atomic = range(4, 11)
    assert of["F"][affinity] > 1.5 > -1.0 > of["Cs"][ionization]
    assert of["He"][ionization] == found[:, ionization].max()
    assert of["Cl"][highest] > of["Al"][highest] > of["Na"][highest] > of["F"][highest]
    assert of["C"][lowest] < of["Na"][lowest]
    assert of["Cs"][ionic] == found[:, ionic].max()
    assert of["Cs"][atomic] == found[:, atomic].max()
    assert of["He"][ionic] == of["He"][atomic] == 0  # not known
    assert abs(of["Cl"][mendeleev] - of["Br"][mendeleev]) < abs(of["Cl"][mendeleev] - of["Na"][mendeleev])


def test_surrogates_want_labels_first():
    with pytest.raises(InputError, match="at least 20 labels, got 19"):
        Ensemble().fit(labels_of(19))
    with pytest.raises(InputError, match="fit"):
        GaussianProcess().belief(ALL)
    assert ENSEMBLE.updates(20) == ENSEMBLE.updates(1000) < ENSEMBLE.updates(2000)
    assert ENSEMBLE.updates(10**6) == ENSEMBLE.most


# --- Proposers ---


def known(n=40, pool=None, taken=()):
    labels = labels_of(n)
    surrogate = Ensemble(TINY, seed=0).fit(labels)
    everything = np.union1d(labels.index, np.array(taken, dtype=np.int64))
    return Known(Goal.of(SPACE, "deep"), labels, everything, pool, surrogate)


@pytest.mark.parametrize("proposer", [RandomProposer(), RankProposer(), GeneticProposer()])
def test_proposers_name_new_compounds_of_the_pool(proposer):
    pool = ALL[::2]
    what = known(pool=pool, taken=ALL[:10])
    (seed,) = spawn(3, 1)
    proposal = proposer.propose(what, 12, seed, {})
    assert len(proposal.index) >= 12
    assert len(set(proposal.index.tolist())) == len(proposal.index)
    assert np.isin(proposal.index, pool).all()
    assert not np.isin(proposal.index, what.taken).any()
    again = proposer.propose(what, 12, seed, {})
    np.testing.assert_array_equal(again.index, proposal.index)
    if proposer.ranked:
        assert len(proposal.index) == len(np.setdiff1d(pool, what.taken))


def test_genetic_offspring_are_better_than_random():
    what = known(80)
    energies = {}
    for proposer in (GeneticProposer(), RandomProposer()):
        drawn = [proposer.propose(what, 20, seed, {}).index for seed in spawn(0, 20)]
        energies[proposer.name] = np.mean([KNOWN_ENERGY[i] for index in drawn for i in index.tolist()])
    assert energies["genetic"] < energies["random"] - 0.3


def test_a_sampler_proposes_what_it_draws():
    seen = []

    def make(labels, target, seed, progress):
        seen.append((len(labels), target))
        return _Favourite(labels.space)

    what = known()
    (seed,) = spawn(0, 1)
    proposal = SamplerProposer("mine", make, n_candidates=30).propose(what, 80, seed, {})
    assert seen == [(len(what.labels.augmented()), 1)]
    fluorides = [str(f).endswith("F2") for f in SPACE.index_to_formula(proposal.index)]
    drawn = int(np.sum(~np.isin(ALL[_is_fluoride(ALL)], what.taken)))
    assert drawn < 80
    assert len(proposal.index) == 80
    assert all(fluorides[:drawn])
    assert not all(fluorides)
    lowest = replace(what, goal=Goal.of(SPACE, "lowest"))
    with pytest.raises(InputError, match="mine aims at a target"):
        SamplerProposer("mine", make).propose(lowest, 5, seed, {})


def _is_fluoride(index):
    return SPACE.index_to_numbers(index)[:, 2] == 9


class _Favourite:
    """Draws fluorides alone."""

    name = "mine"

    def __init__(self, space):
        self.space = space

    def sample(self, n, *, target_class, seed=None):
        fluorides = np.flatnonzero(SPACE.composition_mask)
        fluorides = fluorides[_is_fluoride(fluorides)]
        drawn = np.random.default_rng(seed).choice(fluorides, n)
        return SPACE.index_to_digits(drawn)


def small_agent():
    from agents.discovery.proposers import ACTING

    dqn = replace(ACTING.dqn, n_updates=300, batch_size=64, n_envs=16, hidden=(32, 32))
    return AgentProposer(AgentConfig(dqn, n_updates=100, n_candidates=40))


def test_the_agent_learns_on_from_its_weights():
    what = known()
    first, second = spawn(0, 2)
    proposal = small_agent().propose(what, 10, first, {})
    assert len(proposal.index) >= 10
    assert proposal.keep
    on = small_agent().propose(what, 10, second, proposal.keep)
    anew = small_agent().propose(what, 10, second, {})
    assert not np.array_equal(on.index, anew.index)
    truth = np.array([KNOWN_ENERGY[i] for i in on.index.tolist()])
    assert truth.mean() < ENERGY.mean()
    with pytest.raises(InputError, match="weights are of another network"):
        small_agent().propose(what, 10, second, {"wrong": np.zeros(3)})


# --- Campaigns ---


def test_a_campaign_finds_what_there_is(tmp_path):
    with Campaign.new(tmp_path / "c.db", SPACE, target="deep", settings=FEW, seed=3) as campaign:
        run_campaign(campaign, SOURCE, budget=120)
        total = int((ENERGY <= -2).sum())
        curve = campaign.curve()
        assert len(curve) == 120
        assert curve[-1] >= 2 * total * 120 / len(ALL)
        status = campaign.status()
        assert (status.found, status.labels, status.in_flight) == (int(curve[-1]), 120, 0)
        assert status.candidates == len(ALL) - 120
        assert status.expected is not None
        assert abs(status.expected - (total - status.found)) < 0.3 * total
        reasons = Counter(one for (one,) in campaign._file.read("SELECT reason FROM proposals"))
        # rounds of 8, the third of which still knows too few labels to learn from
        assert reasons == {"random": 24, "rank": 96}


def test_interrupted_or_not_the_proposals_are_the_same(tmp_path):
    run_of = {}
    for name in ("whole", "pieces"):
        with started(tmp_path / f"{name}.db") as campaign:
            for round_ in range(3):
                batch = campaign.ask()
                if name == "pieces":
                    # half is told, the process ends, another opens the file and tells the rest
                    tell_all(campaign, batch[::2])
                    campaign.close()
                    campaign = Campaign.open(tmp_path / "pieces.db", durable=False)
                    assert [one.index for one in campaign.in_flight()] == [one.index for one in batch[1::2]]
                    tell_all(campaign, campaign.in_flight())
                else:
                    tell_all(campaign, batch)
                assert batch[0].round == round_ + 1
            campaign.close()
        run_of[name] = state_of(tmp_path / f"{name}.db")
    assert run_of["whole"] == run_of["pieces"]


@pytest.mark.slow
def test_two_askers_never_get_the_same(tmp_path):
    started(tmp_path / "c.db").close()
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        batches = pool.map(_ask, [str(tmp_path / "c.db")] * 4, chunksize=2)
    compounds = [index for batch in batches for index in batch]
    assert len(compounds) == 32 == len(set(compounds))


def _ask(path):
    with Campaign.open(path) as campaign:
        return [one.index for one in campaign.ask(8)]


def test_what_does_not_come_back_is_given_again(tmp_path, monkeypatch):
    with started(tmp_path / "c.db") as campaign:
        first = campaign.ask(5)
        second = campaign.ask(5)
        assert not {one.index for one in first} & {one.index for one in second}
        now = time.time()
        monkeypatch.setattr(campaigns.time, "time", lambda: now + FEW.again_after + 1)
        assert campaign.status(expected=False).overdue == 10
        again = campaign.ask(7)
        assert [one.index for one in again] == [one.index for one in (first + second)[:7]]
        assert {one.given for one in again} == {2}


def test_a_run_takes_over_from_one_that_died(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "from agents.discovery.run import this_process; print(this_process())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert is_gone(dead)
    assert not is_gone(this_process())
    assert not is_gone("somebody")
    assert not is_gone("run:another-machine:1:1")
    with started(tmp_path / "c.db") as campaign:
        batch = campaign.ask(8, asker=dead)
        mine = campaign.ask(3, asker="a person")
        run_campaign(campaign, SOURCE, budget=24 + 8)
        assert {one.index for one in batch} <= set(campaign.labels().index.tolist())
        assert [one.index for one in campaign.in_flight()] == [one.index for one in mine]


def test_every_compound_can_be_asked_for_once(tmp_path):
    with Campaign.new(
        tmp_path / "c.db", SPACE, target="deep", pool=ALL[:30], settings=FEW, durable=False
    ) as campaign:
        tell_all(campaign, campaign.ask(25))
        assert len(campaign.ask(25)) == 5
        with pytest.raises(NothingLeft, match="nothing is left"):
            campaign.ask(1)
        tell_all(campaign, campaign.in_flight())
        assert "Stop: every compound" in campaign.status().advice()


def test_lowest_energy(tmp_path):
    settings_ = replace(FEW, acquisition="expected-improvement")
    with Campaign.new(
        tmp_path / "c.db", SPACE, target="lowest", settings=settings_, durable=False
    ) as campaign:
        run_campaign(campaign, SOURCE, budget=60)
        assert campaign.labels().energy.min() == pytest.approx(ENERGY.min())
        status = campaign.status()
        assert status.found == (campaign.labels().energy == ENERGY.min()).sum() >= 1
        assert status.lowest == pytest.approx(ENERGY.min())


@pytest.mark.parametrize("proposer", ["agent", "genetic", "random"])
def test_other_proposers_run(tmp_path, proposer):
    made = {"agent": small_agent} if proposer == "agent" else {}
    settings_ = replace(FEW, proposer=proposer)
    with Campaign.new(
        tmp_path / "c.db", SPACE, target="deep", settings=settings_, proposers=made, durable=False
    ) as campaign:
        run_campaign(campaign, SOURCE, budget=36)
        assert len(campaign.labels()) == 36
    with Campaign.open(tmp_path / "c.db", proposers=made, durable=False) as campaign:
        tell_all(campaign, campaign.ask(4))


def test_a_proposer_of_the_users_own_has_to_be_there(tmp_path):
    made = {"mine": lambda: SamplerProposer("mine", lambda *_: _Favourite(SPACE), 30)}
    settings_ = replace(FEW, proposer="mine")
    with pytest.raises(InputError, match="proposer must be one of rank, agent, genetic, random, got 'mine'"):
        Campaign.new(tmp_path / "c.db", SPACE, target="deep", settings=settings_)
    with Campaign.new(
        tmp_path / "c.db", SPACE, target="deep", settings=settings_, labels=labels_of(24), proposers=made
    ) as campaign:
        batch = campaign.ask(4)
        assert all(one.formula.endswith("F2") for one in batch)
    with Campaign.open(tmp_path / "c.db") as campaign, pytest.raises(InputError, match="'mine' is not known"):
        campaign.ask(4)


# --- Telling, and what cannot be told ---


@pytest.fixture
def asked(tmp_path):
    with started(tmp_path / "c.db") as campaign:
        yield campaign, campaign.ask(4)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (lambda b, o: [Told(o, -1.0)], "was not asked for"),
        (lambda b, o: [Told(b[0].index, -1.0), Told(b[0].index, -1.1)], "two results"),
        (lambda b, o: [Told(b[0].index, math.nan)], "has no energy"),
        (lambda b, o: [Told(b[0].index, -5.5)], "beyond anything known"),
        (lambda b, o: [Told(b[0].index, -9.0)], "eV per formula unit, -2.25 eV/atom"),
        (lambda b, o: [Told(b[0].index, 400.0)], "beyond anything known"),
        (lambda b, o: [Told(b[1].index, -1.5), Told(o, -1.0)], "was not asked for"),
    ],
)
def test_what_cannot_be_told_changes_nothing(asked, results, message):
    campaign, batch = asked
    before = state_of(campaign.path)
    taken = campaign.known().taken
    other = int(ALL[~np.isin(ALL, taken)][0])
    with pytest.raises(InputError, match=message):
        campaign.tell(results(batch, other))
    assert state_of(campaign.path) == before


def test_labels_are_corrected_but_never_overwritten(asked):
    campaign, batch = asked
    one = batch[0].index
    assert campaign.tell([Told(one, -1.5, source="first")]) == 1
    assert campaign.tell([Told(one, -1.5, source="second")]) == 0
    with pytest.raises(InputError, match="has the energy -1.5 already, and -1.4 is another.*--correct"):
        campaign.tell([Told(one, -1.4)])
    assert campaign.tell([Told(one, -1.4, source="second")], correct=True) == 1
    ((compound, energy, source, *_),) = campaign.corrections()
    assert (compound, energy, source) == (one, -1.5, "first")
    assert dict(zip(campaign.labels().index, campaign.labels().energy, strict=True))[one] == -1.4
    # either order of the equivalent sites is the same compound
    (mirror,) = SPACE.images(np.array([batch[1].index]))
    assert campaign.tell([Told(int(mirror[0]), -1.2)]) == 1
    assert batch[1].index in campaign.labels().index
    assert campaign.tell([Told(batch[2].index, -5.5)], beyond=True) == 1


def test_failures_are_kept_and_can_be_asked_again(asked):
    campaign, batch = asked
    campaign.tell([Told(batch[0].index, math.nan, "did not\nconverge")])
    ((formula, error),) = campaign.failures()
    assert (formula, error) == (batch[0].formula, "did not\\nconverge")
    assert batch[0].index not in [one.index for one in campaign.ask(8)]
    assert campaign.forget_failure([batch[0].index]) == 1
    assert campaign.ask(1)[0].index == batch[0].index


def test_a_full_disk_loses_nothing(asked):
    campaign, batch = asked
    before = state_of(campaign.path)
    pages = campaign._file.read("PRAGMA page_count")[0][0]
    campaign._file.read(f"PRAGMA max_page_count = {pages}")
    long = "x" * 100_000
    with pytest.raises(InputError, match="database or disk is full; the campaign is as it"):
        campaign.tell([Told(batch[0].index, -1.0, source=long)])
    assert state_of(campaign.path) == before
    campaign._file.read("PRAGMA max_page_count = 100000")
    assert campaign.tell([Told(batch[0].index, -1.0)]) == 1


def test_files_that_are_no_campaigns(tmp_path):
    path = tmp_path / "c.db"
    with pytest.raises(InputError, match="no campaign.*elpa discover new"):
        Campaign.open(path)
    path.write_text("not a database, but long enough to look at for a while" * 40)
    with pytest.raises(InputError, match="is no campaign"):
        Campaign.open(path)
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(InputError, match="is no campaign"):
        Campaign.open(path)
    started(tmp_path / "d.db").close()
    with sqlite3.connect(tmp_path / "d.db") as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(InputError, match="of format 2, and this version reads format 1.*newer"):
        Campaign.open(tmp_path / "d.db")
    with pytest.raises(InputError, match="exists already"):
        started(tmp_path / "d.db")


def test_a_campaign_of_what_does_not_fit(tmp_path):
    with pytest.raises(InputError, match="target_class must be"):
        Campaign.new(tmp_path / "c.db", SPACE, target="none")
    with pytest.raises(InputError, match="initial must be a whole number of at least 20"):
        Settings(initial=3)
    with pytest.raises(InputError, match="acquisition must be one of"):
        Settings(acquisition="luck")
    with pytest.raises(InputError, match="table of known energies is of elpasolite"):
        Campaign.new(
            tmp_path / "c.db",
            SPACE,
            target="deep",
            labels=TrainingSet(np.array([5]), np.array([0.0]), "x", ELPASOLITE_SPACE),
        )
    assert not (tmp_path / "c.db").exists()


# --- Files of results ---


def test_a_batch_goes_out_and_comes_back(tmp_path):
    with started(tmp_path / "c.db") as campaign:
        batch = campaign.ask(4)
        write_batch(tmp_path / "batch", batch, SPACE)
        names = sorted(path.name for path in (tmp_path / "batch").iterdir())
        assert names == sorted(["batch.csv", *(f"{one.formula}.cif" for one in batch)])
        lines = (tmp_path / "batch" / "batch.csv").read_text().splitlines()
        lines[1] += "did not converge"
        lines[2] = lines[2].removesuffix(",,") + ",-1.25,"
        (tmp_path / "batch" / "batch.csv").write_text("\n".join(lines) + "\n")
        told = read_results(tmp_path / "batch" / "batch.csv", SPACE)
        assert [(one.index, one.error) for one in told] == [
            (batch[0].index, "did not converge"),
            (batch[1].index, ""),
        ]
        assert told[1].energy == -1.25
        assert campaign.tell(told) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("formula,energy\nAlNaK2F6,1\n", "line 2: 'AlNaK2F6': not of the form"),
        ("formula,energy\nLiNaF2,\n", "line 2: the energy must be a number"),
        ("formula,energy\nLiNaF2,low\n", "got 'low'"),
        ("formula,energy,error\nLiNaF2,1,oh\n", "both an energy"),
        ("formula\nLiNaF2\n", "lacks the column energy"),
        ("Z_A,Z_B,Z_X,energy\n3,11,8.5,1\n", "atomic numbers must be whole"),
        ("Z_A,Z_B,Z_X,energy\n3,3,9,1\n", "element Li stands twice"),
        ("Z_A,Z_B,Z_X,energy\n3,92,9,1\n", "unknown element U"),
        ("formula,energy,error\nLiNaF2,,\n", "holds no results"),
    ],
)
def test_results_that_cannot_be_read(tmp_path, text, message):
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_results(tmp_path / "r.csv", SPACE)


# --- Candidates ---


def test_candidates_are_sorted_and_drawn_with_their_symmetry(tmp_path):
    from ase.io import read

    from elpa_env.prototype import _space_group

    with started(tmp_path / "c.db", n=60) as campaign:
        batch = campaign.ask(2)
        campaign.tell([Told(one.index, KNOWN_ENERGY[one.index], parameters={"a": 7.25}) for one in batch])
        table = candidates(campaign, n_expected=15, sort="probability")
        found = table[table["labelled"]]
        assert len(table) - len(found) == 15
        assert (np.diff(table["probability"]) <= 0).all()
        assert (found["energy"] <= -2).all()
        assert found["in_training_set"].sum() == (labels_of(60).energy <= -2).sum()
        assert write_structures(tmp_path / "cif", campaign, table) == len(table)
        relaxed = [one.formula for one in batch if one.formula in set(found["formula"])]
        assert relaxed
        for formula in [*relaxed, table["formula"][len(table) - 1]]:
            atoms = read(tmp_path / "cif" / f"{formula}.cif")
            number, _ = _space_group(atoms, atoms.numbers.tolist())
            assert number == 225
            assert atoms.cell.lengths()[0] == pytest.approx(7.25 if formula in relaxed else 6.0)
        with pytest.raises(InputError, match="sort must be one of"):
            candidates(campaign, sort="beauty")


def test_chemistry_by_hand():
    pytest.importorskip("smact")
    numbers = ELPASOLITE_SPACE.index_to_numbers(ELPASOLITE_SPACE.formula_to_index(["AlNaK2F6", "NeArK2F6"]))
    balanced, ordered = chemistry(ELPASOLITE_SPACE, numbers)
    assert balanced == [True, False]
    assert ordered[0]


# --- The command line ---


def command(*words):
    with pytest.raises(SystemExit) as status:
        main(["discover", *map(str, words)])
    return status.value.code


@pytest.mark.slow
def test_the_whole_way_on_the_command_line(tmp_path, capsys, monkeypatch, dft_dir):
    monkeypatch.chdir(tmp_path)
    assert command("new", "c.db", "--space", "dft-pool", "--target", "1") == 0
    assert command("ask", "c.db", "-n", 3, "--out", "batch") == 0
    table = dft_dir / "elpasolites_dft.csv"
    capsys.readouterr()
    assert command("run", "c.db", "--energy", table, "--budget", 150) == 0
    shown = capsys.readouterr().out
    assert " found\n" in shown
    assert "150 labels" in shown
    assert "3 calculations in flight" in shown
    assert command("status", "c.db", "--quick") == 0
    found = int(capsys.readouterr().out.split(" found")[0].split()[-1])
    assert found >= 12
    assert command("show", "c.db", "--out", "curve.png") == 0
    assert command("export", "c.db", "--cif", "cif", "--csv", "c.csv", "-n", 5) == 0
    assert len(list((tmp_path / "cif").iterdir())) == found + 5
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    capsys.readouterr()
    (tmp_path / "mine.csv").write_text("formula,energy\nHeNeAr2Kr6,1.0\n")
    assert command("tell", "c.db", "mine.csv") == 2
    assert "was not asked for" in capsys.readouterr().err
    assert command("run", "c.db", "--energy", "luck", "--budget", 200) == 2
    assert "got 'luck'" in capsys.readouterr().err
    assert command("new", "c.db") == 2
    assert "exists already" in capsys.readouterr().err


def test_benchmark_of_small_campaigns(tmp_path, capsys):
    words = ["benchmark", "--space", "abo3", "--seeds", 2, "--budget", 150, "--out", tmp_path / "b"]
    assert command(*words, "--proposer", "rank", "--proposer", "random") == 0
    summary = json.loads((tmp_path / "b" / "abo3.json").read_text())
    assert set(summary) == {"rank", "random"}
    assert summary["rank"]["found"][1] > summary["random"]["found"][1]
    assert (tmp_path / "b" / "abo3.png").exists()
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "b").glob("*seed*")}
    assert command(*words, "--proposer", "rank") == 0
    assert first == {path: path.stat().st_mtime_ns for path in (tmp_path / "b").glob("*seed*")}


# --- Faults ---

_SLOW = """
import sys, time
import numpy as np
sys.path.insert(0, {tests!r})
from tests.test_discovery import energy_of

def energy(numbers):
    with open({log!r}, "a") as file:
        file.write(" ".join(map(str, numbers[0])) + "\\n")
    time.sleep(0.05)
    return energy_of(numbers)
"""


def _killed_runs(tmp_path, kills):
    """Kill a run again and again; the calculations that were paid, and how often it was killed."""
    import tests

    log = tmp_path / "paid.log"
    log.touch()
    root = os.path.dirname(os.path.dirname(os.path.abspath(tests.__file__)))
    (tmp_path / "slowly.py").write_text(_SLOW.format(tests=root, log=str(log)))
    Campaign.new(tmp_path / "c.db", SPACE, target="deep", settings=FEW, labels=labels_of(24)).close()
    words = ["discover", "run", "c.db", "--energy", "slowly:energy", "--budget", "64"]
    rng = np.random.default_rng(0)
    killed = 0
    while True:
        process = subprocess.Popen(
            [sys.executable, "-m", "eval", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": root},
            stdout=subprocess.DEVNULL,
        )
        try:
            assert process.wait(float(rng.uniform(0.5, 8.0)) if killed < kills else 300) == 0
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    return Counter(log.read_text().splitlines()), killed


@pytest.mark.slow
@pytest.mark.parametrize("kills", [50])
def test_killed_at_any_moment_no_label_is_lost(tmp_path, kills):
    paid, killed = _killed_runs(tmp_path, kills)
    with Campaign.open(tmp_path / "c.db") as campaign:
        assert len(campaign.labels()) == 64
        labels = campaign.labels()
        truth = energy_of(SPACE.index_to_numbers(labels.index))
        np.testing.assert_allclose(labels.energy, truth)
    # one calculation at a time is in flight, so that a kill costs one at most
    assert sum(paid.values()) <= 40 + killed
    assert len(paid) == 40
    (tmp_path / "whole").mkdir()
    _killed_runs(tmp_path / "whole", 0)
    labels, proposals = state_of(tmp_path / "c.db")
    whole, expected = state_of(tmp_path / "whole" / "c.db")
    assert [row[0] for row in labels] == [row[0] for row in whole]
    assert [row[1] for row in labels] == pytest.approx([row[1] for row in whole])
    assert [row[:4] for row in proposals] == [row[:4] for row in expected]


def test_rows_energy_knows_compounds_in_any_order():
    numbers = SPACE.index_to_numbers(ALL[:50])
    rows = RowsEnergy.of(SPACE, np.concatenate([numbers, numbers[:, [1, 0, 2]]]), np.arange(100.0))
    np.testing.assert_array_equal(rows(numbers[:, [1, 0, 2]]), np.arange(50.0))
    assert np.isnan(rows(SPACE.index_to_numbers(ALL[60:61]))).all()


def test_the_file_is_sound(tmp_path):
    path = tmp_path / "c.db"
    with started(path) as campaign:
        tell_all(campaign, campaign.ask(3))
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
