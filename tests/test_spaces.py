"""Spaces from outside: files of the user's own, ABO3 and large ones on the command line, what is refused."""

import itertools
import json

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest

import elpa_env
from elpa_env import (
    Prototype,
    Site,
    TrainingSet,
    load_space,
    load_training_set,
    make_space,
    periodic,
)
from elpa_env.classes import ENERGY_CLASSES, Targets
from elpa_env.errors import InputError
from eval.judge import load_judge
from tests.test_models import TINY

TOML = """
name = "salt"
energies = "energies.csv"

[[sites]]
label = "A"
elements = "Li Na K"

[[sites]]
label = "X"
elements = ["F", "Cl"]

[structure]
space_group = 225
cell = ["a", "a", "a", "90", "90", "90"]
parameters = {a = 5.0}
positions = [
  {site = "A", coordinates = ["0", "0", "0"]},
  {site = "X", coordinates = ["1/2", "1/2", "1/2"]},
]

[targets.classes]
low = ["-inf", -1.0]
high = [-1.0, "inf"]
"""
ENERGIES = "formula,energy,note\nLiF,-3,a\nLiCl,-2,b\nNaF,-1,c\nNaCl,0,d\nKF,1,e\nKCl,2,f\n"


@pytest.fixture
def salt(tmp_path):
    """The path of a space of the user's own."""
    (tmp_path / "energies.csv").write_text(ENERGIES)
    (tmp_path / "salt.toml").write_text(TOML)
    return tmp_path / "salt.toml"


@pytest.fixture
def large(tmp_path):
    """Five sites of 60 elements, some rows of it, and a module with its energies."""
    elements = tuple(periodic.SYMBOLS[z] for z in range(1, 61))
    prototype = Prototype("large", tuple(Site(label, elements) for label in "ABCDE"))
    targets = '\n[targets.classes]\nlow = ["-inf", -1.5]\nhigh = [-1.5, "inf"]\n'
    (tmp_path / "large.toml").write_text(prototype.to_toml() + targets)
    space = load_space(tmp_path / "large.toml").space
    rng = np.random.default_rng(0)
    index = space.elements_to_index(rng.integers(0, 60, (400, 5)).astype(np.int8))
    index = index[index >= 0]
    rows = pd.DataFrame(space.index_to_numbers(index), columns=[f"Z_{site}" for site in "ABCDE"])
    rows["energy"] = rows.sum(axis=1) / 100 - 3
    rows.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "energies_of_mine.py").write_text(
        "def energies(numbers):\n    return numbers.sum(axis=1) / 100 - 3\n"
    )
    return space


class TestOfOnesOwn:
    def test_what_a_file_says(self, salt):
        benchmark = load_space(salt)
        space, table = benchmark.space, benchmark.reference()
        assert space.prototype == Prototype.read(salt)
        assert space.targets == Targets.of({"low": (-np.inf, -1), "high": (-1, np.inf)})
        assert table.class_counts.tolist() == [0, 3, 3]
        np.testing.assert_array_equal(table.energy(space.formula_to_index(["NaF", "KCl"])), [-1, 2])
        assert list(table.columns) == ["energy"]  # notes are no numbers
        assert len(load_training_set(space=salt)) == 1

    def test_columns_of_atomic_numbers_and_of_the_quantity(self, salt):
        salt.write_text(TOML.replace("[targets.classes]", '[targets]\nquantity = "gap"\n[targets.classes]'))
        salt.with_name("energies.csv").write_text("Z_A,Z_X,gap,energy\n3,9,-3,1\n11,17,5,1\n")
        table = load_space(salt).reference()
        assert sorted(table.columns) == ["energy", "gap"]
        assert table.class_counts.tolist() == [4, 1, 1]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (("[targets.classes]", "[goals]"), "goals"),
            (('low = ["-inf", -1.0]', 'low = ["-inf"]'), "target low must be a pair of numbers"),
            (('low = ["-inf", -1.0]', 'low = ["-inf", 0.5]'), "targets must ascend without overlap"),
            (
                ('low = ["-inf", -1.0]', '7 = ["-inf", -1.0]'),
                "a target must have a name that is no number, got '7'",
            ),
            (('"energies.csv"', "3"), "energies must be the path of a .csv file, got 3"),
            (('"energies.csv"', '"missing.csv"'), "missing.csv"),
            (("Li Na K", "Li Na Xx"), "Xx"),
            (("space_group = 225", "space_group = 200"), "221"),
            (('label = "X"', 'label = "A"'), "A"),
        ],
    )
    def test_a_file_that_cannot_be_used(self, run, salt, change, message):
        salt.write_text(TOML.replace(*change))
        status, out, err = run("spaces", "show", "salt.toml")
        assert (status, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1

    def test_a_file_without_targets(self, run, salt):
        salt.write_text(TOML[: TOML.index("[targets")])
        assert "salt.toml names no targets" in run("spaces", "show", "salt.toml")[2]

    @pytest.mark.parametrize(
        ("energies", "message"),
        [
            ("formula,energy\nLiF,-3\nLiF,-2\nNaF,1\n", "LiF stands twice in energies.csv"),
            ("formula,energy\nLiF,-3\nLiO,-2\n", "line 3: 'LiO': unknown element O"),
            ("formula,energy\nLiF,-3\nNaF,\n", "line 3: the energy must be a number, got ''"),
            ("formula,energy\nLiF,-3\nNaF,nan\n", "line 3: the energy must be a number, got 'nan'"),
            ("formula,energy\nLiF,-3\nNaF,300\n", "within ±25 eV/atom, got 300"),
            ("formula,energy\nLiF,-3\nNaF,-2\n", "reaches high, above -1 eV/atom"),
            ("formula,value\nLiF,-3\n", "lacks the column energy"),
            ("Z_A,Z_X,energy\n3,9,-3\n3,3,1\n", "site X must not hold Li"),
            ("formula,energy\n", "has no rows"),
        ],
    )
    def test_energies_that_cannot_be_used(self, run, salt, energies, message):
        salt.with_name("energies.csv").write_text(energies)
        status, _, err = run("spaces", "show", "salt.toml")
        assert status == 2
        assert message in err
        assert err.count("\n") == 1

    def test_comparison_from_the_file_alone(self, run, salt, tmp_path):
        chosen = ("--model", "vae", "--model", "random", "--preset", "quick", "--n-samples", 60, "--jobs", 1)
        status, out, err = run("compare", "--space", "salt.toml", *chosen, "--out", "r")
        assert status == 0, err
        assert "Low, 60 valid samples" in out
        assert "judge table, held-out" in out
        record = json.loads((tmp_path / "r" / "metrics.json").read_text())
        assert (record["space"], record["target"]) == ("salt", "low")
        random = record["judges"]["table"]["models"]["random"]["runs"][0]
        assert random["exact"]["precision"] == pytest.approx(0.5)
        for picture in ("energies", "elements", "models"):
            assert (tmp_path / "r" / f"figure_{picture}.png").stat().st_size > 5_000
        samples = pd.read_csv(tmp_path / "r" / "samples_vae.csv")
        assert set(samples["formula"]) <= {"LiF", "LiCl", "NaF", "NaCl", "KF", "KCl"}
        assert list(samples.columns[:3]) == ["formula", "Z_A", "Z_X"]
        status, again, _ = run("show", "r")
        assert status == 0
        assert "Low, 60 valid samples" in again

    def test_a_cif(self, run, salt, tmp_path):
        from ase.io import read

        assert run("spaces", "cif", "salt.toml", "NaCl", "--out", "nacl.cif")[0] == 0
        assert read(tmp_path / "nacl.cif").get_chemical_formula() == "Cl4Na4"
        assert "unknown element O" in run("spaces", "cif", "salt.toml", "NaO", "--out", "x.cif")[2]


class TestListing:
    def test_of_those_that_ship(self, run):
        status, out, _ = run("spaces")
        assert status == 0
        assert "1,974,024" in out
        assert "5,329" in out

    def test_of_one(self, run):
        out = " ".join(run("spaces", "show", "abo3")[1].split())
        for text in (
            "site A one of 73",
            "fixed O 3 O",
            "an element on two sites allowed",
            "target stable at most 0.025 eV/atom: 398 compositions",
            "1,055 of 5,276 rows, a seeded fifth",
        ):
            assert text in out

    def test_of_none(self, run):
        status, _, err = run("spaces", "show", "spinel")
        assert status == 2
        assert "space must be elpasolite, abo3 or a .toml file, got 'spinel'" in err


class TestABO3:
    def test_the_whole_main_job(self, run, tmp_path):
        chosen = ("--preset", "quick", "--n-samples", 400, "--jobs", 1)
        status, out, err = run("compare", "--space", "abo3", *chosen, "--out", "r")
        assert status == 0, err
        assert "Stable, 400 valid samples" in out
        assert "paper" not in out.split("seed 0")[0]
        judges = json.loads((tmp_path / "r" / "metrics.json").read_text())["judges"]
        assert list(judges) == ["table", "held-out"]
        assert judges["table"]["class_counts"] == [398, 291, 4587]
        models = judges["table"]["models"]
        random = models["random"]["runs"][0]
        assert random["exact"]["precision"] == pytest.approx(398 / 5276)
        assert {"dqn", "vae", "gan", "dqn-soft-model", "pairs"} <= set(models)
        assert random["score"]["new_precision"] < 0.2
        assert models["optimal-soft"]["runs"][0]["score"]["new_precision"] > 0.9

    def test_a_name_for_the_target(self, run):
        status, out, _ = run("solve", "--space", "abo3", "--target", "metastable")
        assert status == 0
        assert "Metastable solved exactly" in out
        status, _, err = run("solve", "--space", "abo3", "--target", "good")
        assert status == 2
        assert "target_class must be 1..3 or one of stable, metastable, unstable, got 'good'" in err

    def test_judges(self, run):
        message = "judge must be table or held-out for ABO3, got 'paper'"
        assert message in run("solve", "--space", "abo3", "--judge", "paper")[2]
        out = run("solve", "--space", "abo3", "--judge", "held-out")[1]
        unseen = 398 - int((load_training_set(space="abo3").energy_class == 1).sum())
        assert f"{unseen} compositions in the class" in out

    def test_train_sample_and_score(self, run, tmp_path):
        how = ("--space", "abo3", "--target", "stable")
        for model, file in (("vae", "v.pt"), ("dqn-soft-model", "a.zip")):
            assert run("train", model, *how, "--preset", "quick", "--out", file)[0] == 0
            status, _, err = run("sample", file, *how, "--n-samples", 50, "--out", f"{model}.csv")
            assert status == 0, err
            frame = pd.read_csv(tmp_path / f"{model}.csv")
            assert frame["formula"].str.endswith("O3").all()
            assert len(frame) == 50
            status, out, _ = run("score", f"{model}.csv", *how)
            assert status == 0
            assert "50 samples for stable" in out
        status, _, err = run("sample", "v.pt", "--out", "x.csv")
        assert status == 2
        assert "v.pt is of abo3 (ABO3), not of elpasolite" in err
        status, _, err = run("sample", "a.zip", "--out", "x.csv")
        assert status == 2
        assert "a.zip is of abo3 (ABO3), not of elpasolite" in err
        assert run("frontier", "a.zip", *how, "--betas", "0,5", "--out", "f")[0] == 0

    def test_minari(self, run, tmp_path):
        minari = pytest.importorskip("minari")
        assert run("data", "export", "--space", "abo3", "--target", "stable", "--out", "m")[0] == 0
        dataset = minari.MinariDataset(tmp_path / "m" / "abo3" / "fifth-class1-v0" / "data")
        assert dataset.total_episodes == 1055
        assert dataset.env_spec.id == "Perovskite-v0"


class TestOtherSpaces:
    def test_a_model_trains_on_its_own_alone(self):
        from generative.vae import ConditionalVAE

        abo3 = load_training_set(space="abo3")
        with pytest.raises(InputError, match=r"the training set is of abo3 \(ABO3\), not of elpasolite"):
            ConditionalVAE(TINY["vae"]).fit(abo3)
        assert ConditionalVAE(TINY["vae"], space=abo3.space).fit(abo3).sample(5, target_class=1).shape == (
            5,
            4,
        )

    def test_an_agent_keeps_to_its_own(self):
        from agents import train_dqn

        abo3 = load_training_set(space="abo3")
        agent = train_dqn(TINY["dqn"], 1, training_set=abo3)
        assert agent.space == abo3.space
        with pytest.raises(ValueError, match="spaces do not match"):  # SB3 looks at them first
            agent.set_env(elpa_env.ElpasoliteEnv())
        with pytest.raises(InputError, match="the training set is of abo3"):
            train_dqn(TINY["dqn"], 1, training_set=abo3, space=elpa_env.ELPASOLITE_SPACE)

    def test_samples_and_judge_are_of_one(self):
        from eval.judge import load_judge
        from eval.scoring import Tally, score_tally

        tally = Tally(load_space("abo3").space)
        tally.add_index(np.array([1]))
        with pytest.raises(InputError, match="what was counted is of abo3"):
            score_tally(tally, judge=load_judge(), target_class=1)

    def test_equal_rows_of_two_spaces_differ_in_their_hash(self):
        space = load_space("abo3").space
        index, energy = np.arange(5), np.zeros(5)
        assert TrainingSet(index, energy, "x").sha256 != TrainingSet(index, energy, "x", space).sha256
        again = make_space(space.prototype, ENERGY_CLASSES)
        assert TrainingSet(index, energy, "x", again).sha256 != TrainingSet(index, energy, "x", space).sha256


class TestTooLarge:
    @pytest.mark.parametrize("model", ["vae", "gan", "dqn", "dqn-soft-model"])
    def test_train_sample_and_score(self, run, large, tmp_path, model):
        file = "m.zip" if model.startswith("dqn") else "m.pt"
        how = ("--space", "large.toml", "--target", "low", "--data", "rows.csv")
        assert run("train", model, *how, "--preset", "quick", "--out", file)[0] == 0
        status, _, err = run("sample", file, *how, "--n-samples", 40, "--unique", "--novel", "--out", "s.csv")
        assert status == 0, err
        frame = pd.read_csv(tmp_path / "s.csv")
        assert frame["formula"].nunique() == 40
        assert "energy" not in frame
        status, out, err = run(
            "score", "s.csv", *how, "--energy", "energies_of_mine:energies", "--out", "s.json"
        )
        assert status == 0, err
        assert "coverage and JS distance need a table of all compositions" in " ".join(out.split())
        record = json.loads((tmp_path / "s.json").read_text())
        numbers = large.index_to_numbers(large.formula_to_index(frame["formula"]))
        right = numbers.sum(axis=1) / 100 - 3 <= -1.5
        assert record["precision"] == pytest.approx(right.mean())
        assert (record["n_asked"], record["novel"], record["coverage"]) == (40, 40, None)

    def test_what_needs_all_compositions_says_so(self, run, large):
        how = ("--space", "large.toml", "--data", "rows.csv")
        for command in (
            ("compare", *how),
            ("solve", "--space", "large.toml"),
            ("sample", "optimal-soft", "--space", "large.toml", "--out", "x.csv"),
            ("sample", "pairs", *how, "--out", "x.csv"),
            ("score", "rows.csv", "--space", "large.toml"),
        ):
            status, _, err = run(*command)
            assert status == 2
            assert err.count("\n") == 1
            assert "table" in err

    def test_repeats_are_asked_for_once(self, large):
        from eval.scoring import score_samples

        asked = []

        def energies(numbers):
            asked.append(len(numbers))
            return np.full(len(numbers), -2.0)

        index = large.formula_to_index(["HHeLiBeB", "HHeLiBeC"])
        score = score_samples([index[[0, 0, 1]], index[[1, 1]]], energies, space=large, target_class=1)
        assert asked == [2]
        assert (score.n_valid, score.n_asked, score.repeated, score.found) == (5, 2, 3, 2)
        assert score.metrics["precision"] == 1.0


@pytest.mark.usefixtures("no_pictures")
class TestFoundByUsing:
    def test_energies_of_a_file_judge_its_environment(self, salt):
        for name in (salt, str(salt)):
            env = gym.make("Composition-v0", prototype=name, target="low", masking="composition")
            env.reset(seed=0)
            digits = env.unwrapped.space.index_to_digits(env.unwrapped.space.formula_to_index(["LiF"]))[0]
            *_, last = (env.step(int(digit) - 1) for digit in digits)
            assert last[1] == 1.0
            assert last[4]["energy"] == -3.0
        vector = gym.make_vec("Composition-v0", num_envs=2, prototype=salt, target=None)
        assert vector.reset(seed=0)[0].shape == (2, 6)

    def test_a_target_of_five_thousand_digits(self, run, salt):
        code, _, error = run("solve", "--space", salt, "--target", "9" * 5000)
        assert code == 2
        assert error.count("\n") == 1

    @pytest.mark.parametrize("how", [{"targets": [1, 2]}, {"targets": 5}, {"target": (10**400, 10**401)}])
    def test_targets_of_the_wrong_kind(self, how):
        prototype = Prototype("salt", (Site("A", ("Li", "Na")), Site("X", ("F",))))
        with pytest.raises(InputError):
            gym.make("Composition-v0", prototype=prototype, energy_model=len, **how)

    @pytest.mark.parametrize(
        "intervals", [{"a\nb": (0, 1)}, {"a\x1b[31m": (0, 1)}, {"a" * 61: (0, 1)}, {"a": (10**400, 10**401)}]
    )
    def test_names_that_are_no_line(self, intervals):
        with pytest.raises(InputError):
            Targets.of(intervals)

    @pytest.mark.parametrize("words", [{"quantity": 5}, {"unit": "eV\n"}])
    def test_quantity_and_unit_are_words(self, words):
        with pytest.raises(InputError):
            Targets.of({"a": (0, 1)}, **words)

    def test_limits_beyond_single_precision(self, recwarn):
        targets = Targets.of({"a": (0, 1), "b": (1, 1e300)})
        assert targets.classify(np.array([0.5, 2.0], dtype=np.float32)).tolist() == [1, 2]
        assert not recwarn.list

    def test_the_limits_of_elpasolite_for_another_quantity(self):
        content = {**ENERGY_CLASSES.to_dict(), "quantity": "gap", "unit": "eV"}
        assert Targets.from_dict(content).to_dict() == content
        assert Targets.from_dict(ENERGY_CLASSES.to_dict()) is ENERGY_CLASSES

    @pytest.mark.parametrize("orders", [itertools.permutations, itertools.combinations])
    def test_a_compound_is_held_out_as_a_whole(self, tmp_path, orders):
        elements = ("Ce", "Pr", "Nd", "Sm", "Eu", "Gd", "Tb", "Dy")
        prototype = Prototype("pair", (Site("A", elements), Site("B", elements)), equivalent=(("A", "B"),))
        targets = '\nlow = ["-inf", 0.5]\nhigh = [0.5, "inf"]\n'
        text = 'energies = "pair.csv"\n' + prototype.to_toml() + "\n[targets.classes]" + targets
        (tmp_path / "pair.toml").write_text(text)
        rows = [f"{a}{b},{place % 2}" for place, (a, b) in enumerate(orders(elements, 2))]
        (tmp_path / "pair.csv").write_text("\n".join(["formula,energy", *rows]))
        trained = load_training_set(space=tmp_path / "pair.toml")
        judge = load_judge("held-out", tmp_path / "pair.toml")
        assert len(trained) == 2 * round(0.2 * 28)
        assert not judge.energy_class(trained.index).any()
        assert (judge.energy_class(np.flatnonzero(judge.space.composition_mask)) > 0).sum() == 56 - len(
            trained
        )

    @pytest.mark.slow
    def test_runs_of_what_a_file_was_are_not_shown_as_of_what_it_is(self, run, salt, tmp_path):
        how = ["--space", str(salt), "--target", "high", "--n-samples", "50", "--jobs", "1"]
        assert run("compare", *how, "--model", "sites", "--out", str(tmp_path / "out"))[0] == 0
        before = salt.read_text()
        salt.write_text(before.replace("-1.0", "0.5"))
        code, _, error = run("show", tmp_path / "out")
        assert (code, error.count("\n")) == (2, 1)
        assert "is not the space" in error
        salt.write_text(before)
        assert run("show", str(tmp_path / "out"))[0] == 0
        (tmp_path / "energies.csv").write_text(ENERGIES.replace("NaCl,0", "NaCl,-4"))
        code, _, error = run("show", tmp_path / "out")
        assert (code, error.count("\n")) == (2, 1)
        assert "have changed" in error
        assert run("show", str(tmp_path / "out"), "--judge", "table")[0] == 0
        content = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert len(content["judges"]["table"]["models"]["optimal-hard"]["runs"]) == 1

    def test_a_compound_is_known_in_every_order(self):
        sites = tuple(Site(label, ("Ti", "V", "Cr")) for label in "ABC")
        prototype = Prototype("three", sites, equivalent=(("A", "B", "C"),), repeats=True)
        space = make_space(prototype, Targets.of({"low": (-9, 0), "high": (0, 9)}))
        given = space.formula_to_index(["TiTiV", "TiVCr", "CrVTi"])
        table = elpa_env.EnergyTable.from_rows(space, given, {"energy": np.array([-1.0, 2.0, -3.0])})
        orders = space.formula_to_index(["TiVTi", "VTiTi", "TiVCr", "CrVTi", "CrCrCr"])
        assert table.energy(orders)[:4].tolist() == [-1, -1, 2, -3]
        assert np.isnan(table.energy(orders)[4])
        assert set(table.energy(space.images(given[1:2])[0]).tolist()) <= {2.0, -3.0}
        assert table.known().tolist() == sorted(given)
        assert table.class_counts[1:].sum() == 9

    @pytest.mark.parametrize(
        ("index", "values"), [([-1], [1.0]), ([10**7], [1.0]), ([0, 1], [1.0]), ([0.5], [1.0]), ([], [1.0])]
    )
    def test_rows_that_make_no_table(self, index, values):
        space = load_space("abo3").space
        columns = {"energy_above_hull": np.array(values)}
        with pytest.raises(InputError):
            elpa_env.EnergyTable.from_rows(space, np.array(index), columns)


class TestArguments:
    def test_a_model_of_ones_own_need_not_know_small_data(self, run, own_model):
        from eval.study.plan import hyperparameters

        assert hyperparameters("mine:Echo", "small") == hyperparameters("mine:Echo", "default")
        with pytest.raises(InputError, match="echo has no preset 'quick'"):
            hyperparameters("mine:Echo", "quick")

    def test_an_own_prototype_does_not_take_the_place_of_one_that_ships(self):
        from elpa_env.export import dataset_id

        abo3 = load_space("abo3").space
        own = make_space(abo3.prototype, Targets.of({"all": (-1, 1)}))
        assert dataset_id("fifth", 1, abo3) == "abo3/fifth-class1-v0"
        assert dataset_id("fifth", 1, own) == "own-abo3/fifth-class1-v0"

    def test_energies_that_have_changed_are_read_again(self, salt):
        assert load_space(salt).reference().class_counts.tolist() == [0, 3, 3]
        salt.with_name("energies.csv").write_text(ENERGIES.replace("NaF,-1", "NaF,0"))
        assert load_space(salt).reference().class_counts.tolist() == [0, 2, 4]

    def test_either_name_for_the_target(self):
        from agents import make_vec_env

        for how in ({"target": 3}, {"target_class": 3}):
            assert make_vec_env(2, **how).env.settings.target_class == 3

    def test_a_space_by_its_name_is_none(self):
        from generative.vae import ConditionalVAE

        with pytest.raises(InputError, match="space must be an elpa_env.Space, got 'abo3'"):
            ConditionalVAE(space="abo3")
