"""The judges: what is known of the paper's landscape, its symmetric twin, and a landscape of one's own."""

import pickle

import numpy as np
import pytest

from elpa_env.classes import energy_to_class
from elpa_env.errors import InputError
from elpa_env.landscape import Landscape, fit_landscape
from elpa_env.space import ELPASOLITE_SPACE as space
from elpa_env.training import load_training_set
from eval.exact import count_distribution, exact_score
from eval.judge import Judge, load_judge
from eval.scoring import score_tally

REAL = np.flatnonzero(space.composition_mask)


@pytest.fixture(scope="module")
def symmetric():
    return load_judge("symmetric")


@pytest.fixture(scope="module")
def fitted(small_set):
    """A landscape fitted to a few rows."""
    return fit_landscape(small_set, held_out=20)[0]


@pytest.fixture
def folder(fitted, tmp_path):
    """Where `elpa data build-landscape` leaves it."""
    fitted.save(tmp_path / "mine")
    return tmp_path / "mine"


class TestPaper:
    def test_it_is_the_shipped_landscape(self, judge, landscape):
        np.testing.assert_array_equal(judge.table_class, landscape.table_class)
        np.testing.assert_array_equal(judge.energy(REAL), landscape.energy(REAL))
        np.testing.assert_array_equal(judge.members(3), landscape.members(3))
        np.testing.assert_array_equal(judge.class_counts, landscape.class_counts)

    def test_its_two_orders_disagree(self, judge):
        mirror = space.images(REAL)[0]
        energy = judge.energy(REAL).astype(float)
        assert np.abs(energy - judge.energy(mirror)).mean() == pytest.approx(0.086, abs=5e-4)
        members = judge.members(1)
        assert len(members) == 3756
        assert (judge.energy_class(space.images(members)[0]) != 1).sum() == 670

    @pytest.mark.parametrize("name", ["paper", "symmetric"])
    def test_compounds(self, name):
        judge = load_judge(name)
        for target_class in (1, 2, 10):
            compounds = np.unique(space.index_to_compound(judge.members(target_class)))
            assert judge.compound_counts[target_class] == len(compounds)
        assert judge.compound_counts[1] == {"paper": 2213, "symmetric": 1857}[name]
        assert judge.compound_counts[0] == 0


class TestSymmetric:
    def test_class_counts_are_those_of_the_energies_before_they_were_rounded(self, symmetric):
        assert symmetric.class_counts[[1, 2, 5]].tolist() == [3714, 19912, 912410]

    def test_both_orders_are_one_and_the_mean_of_the_papers(self, symmetric, judge):
        mirror = space.images(REAL)[0]
        np.testing.assert_array_equal(symmetric.energy(REAL), symmetric.energy(mirror))
        mean = (judge.energy(REAL).astype(float) + judge.energy(mirror)) / 2
        np.testing.assert_allclose(symmetric.energy(REAL), mean, atol=3e-4)

    @pytest.mark.slow
    def test_classes_are_those_of_the_fit_itself(self, symmetric, dft_dir):
        """From the kernel's definition; a stored mean on a class edge falls on the right side of it."""
        from elpa_env.landscape import LAPLACIAN_LENGTH, _fit

        rows = load_training_set(dft_dir, augment=False)
        weights, offset = _fit(rows.index, rows.energy)
        known = space.index_to_digits(rows.index).astype(float)
        edge = np.abs((symmetric.energy(REAL) + 3.06699926) % 0.808575755 - 0.404287878) > 0.404
        some = REAL[edge & (REAL < space.images(REAL)[0])]
        assert len(some) > 500
        energy = np.zeros(len(some))
        for order in (some, space.images(some)[0]):
            for rows_of in np.array_split(np.arange(len(some)), len(some) // 100):
                distance = np.abs(space.index_to_digits(order[rows_of]).astype(float)[:, None] - known).sum(
                    axis=2
                )
                energy[rows_of] += (np.exp(-distance / LAPLACIAN_LENGTH) @ weights + offset) / 2
        differ = energy_to_class(energy) != symmetric.energy_class(some)
        assert differ.sum() <= 1  # rounding of the fit itself
        np.testing.assert_allclose(symmetric.energy(some), energy, atol=8e-4)

    def test_its_class_under_the_papers_judge(self, symmetric, judge):
        """Drawing evenly from the symmetric class 1: a bound for whatever respects the symmetry."""
        p = (symmetric.table_class == 1) / 3714
        exact = exact_score(p, judge=judge, target_class=1, n_samples=10_000)
        tally, _ = count_distribution(space, p, 10_000, seed=0)
        drawn = score_tally(tally, judge=judge, target_class=1)
        agreed = np.intersect1d(symmetric.members(1), judge.members(1))
        assert exact.metrics["precision"] == pytest.approx(len(agreed) / 3714)
        assert exact.metrics["coverage"] == pytest.approx(len(agreed) * (1 - (1 - 1 / 3714) ** 10_000) / 3756)
        # three standard deviations of 10,000 draws
        assert drawn.metrics["precision"] == pytest.approx(0.912, abs=0.009)
        assert drawn.metrics["coverage"] == pytest.approx(0.846, abs=0.012)
        assert drawn.metrics["js_distance"] == pytest.approx(0.040, abs=0.007)
        own = exact_score(p, judge=symmetric, target_class=1, n_samples=10_000)
        assert own.metrics["precision"] == 1
        assert own.metrics["js_distance"] == pytest.approx(0, abs=1e-7)
        assert own.compounds_in_class == 1857
        assert own.compounds_found == pytest.approx(1857 * (1 - (1 - 1 / 1857) ** 10_000))


class TestAnyJudge:
    @pytest.mark.parametrize("name", ["paper", "symmetric"])
    def test_energy_and_class_agree_and_there_is_none_without_a_composition(self, name):
        judge = load_judge(name)
        np.testing.assert_array_equal(energy_to_class(judge.energy(REAL)), judge.energy_class(REAL))
        assert judge.energy_class([-1]).tolist() == [0]
        assert np.isnan(judge.energy([-1])).all()
        assert (judge.table_class[~space.composition_mask] == 0).all()
        assert (judge.table_energy.dtype, judge.table_class.dtype) == (np.float32, np.int8)
        assert judge.class_counts[1:].sum() == len(REAL)

    def test_a_folder(self, folder, small_set):
        judge = load_judge(folder)
        assert judge.name == str(folder)
        assert small_set.name in judge.what
        assert load_judge(str(folder)) is judge
        kept = pickle.loads(pickle.dumps(judge))
        np.testing.assert_array_equal(kept.table_class, judge.table_class)

    def test_records_tell_judges_apart(self, judge, symmetric, folder):
        records = [one.record() for one in (judge, symmetric, load_judge(folder))]
        assert [record["name"] for record in records] == ["paper", "symmetric", str(folder)]
        assert len({record["sha256"] for record in records}) == 3
        for record in records:
            assert len(record["class_counts"]) == 10
            assert sum(record["class_counts"]) == len(REAL)

    def test_pickles_are_small_and_name_the_very_judge(self, symmetric, folder):
        blob = pickle.dumps(symmetric)
        assert len(blob) < 1000
        assert pickle.loads(blob) is symmetric

    def test_a_pickle_of_a_landscape_that_has_changed_is_refused(self, folder, embedded):
        from eval import judge as module

        blob = pickle.dumps(load_judge(folder))
        landscape = Landscape(np.zeros(space.n_table, np.int16), np.zeros(0, int), {"fitted_to": "nothing"})
        landscape.save(folder)
        module._load.cache_clear()
        module.load_landscape.__globals__["_load"].cache_clear()
        with pytest.raises(InputError, match="is not what it was"):
            pickle.loads(blob)

    def test_one_made_of_energies(self, judge):
        mine = Judge.from_energy("mine", "all the same", np.full(space.n_table, -1.0))
        assert mine.class_counts[3] == len(REAL)
        again = pickle.loads(pickle.dumps(mine))
        assert again.record() == mine.record()

    def test_bad_ones(self, tmp_path, judge):
        for name in ("papers", str(tmp_path), str(tmp_path / "none")):
            with pytest.raises(InputError, match="judge must be paper, symmetric or the") as caught:
                load_judge(name)
            assert f"got {name!r}" in str(caught.value)
        with pytest.raises(InputError, match="needs 2,313,441 energies"):
            Judge.from_energy("x", "x", np.zeros(5))
        with pytest.raises(InputError, match="NaN"):
            Judge.from_energy("x", "x", np.full(space.n_table, np.nan))
        with pytest.raises(InputError, match="a class 1..10 for every composition"):
            Judge("x", "x", judge.table_energy, np.zeros(space.n_table, np.int8))
