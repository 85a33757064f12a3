import numpy as np
import pytest

from elpa_env.errors import InputError
from elpa_env.space import ELPASOLITE_SPACE as space
from eval.judge import load_judge
from eval.samples_csv import read_samples
from eval.scoring import (
    CHUNK,
    Tally,
    count_chunks,
    count_samples,
    draw_valid,
    first_new,
    sample_table,
    score_tally,
)


class Scripted:
    """A sampler that repeats a list of digits for ever."""

    name = "scripted"

    def __init__(self, digits):
        self.digits = np.asarray(digits, dtype=np.int8)
        self.place = 0

    def sample(self, n, *, target_class, seed=None):
        rows = (self.place + np.arange(n)) % len(self.digits)
        self.place += n
        return self.digits[rows]


INVALID = [1, 2, 3, 1, 4, 1, 2, 7]


def digits_of(*formulas):
    return space.index_to_digits(space.formula_to_index(list(formulas))).tolist()


def test_valid_samples_come_in_order_and_the_cost_is_counted():
    script = [INVALID, *digits_of("AlNaK2F6", "NaAlK2F6"), INVALID]
    chunks = list(draw_valid(Scripted(script), 5, target_class=1, seed=0))
    index = np.concatenate([chunk for chunk, _ in chunks])
    expected = ["AlNaK2F6", "NaAlK2F6"] * 2 + ["AlNaK2F6"]
    assert space.index_to_formula(index).tolist() == expected
    assert sum(cost for _, cost in chunks) == 10
    tally, kept = count_samples(Scripted(script), 5, target_class=1, seed=0, keep=3)
    assert (tally.n_valid, tally.n_raw) == (5, 10)
    assert space.index_to_formula(kept).tolist() == expected[:3]


def test_a_hopeless_sampler_is_given_up():
    with pytest.raises(InputError, match="scripted makes too few real compositions"):
        list(draw_valid(Scripted([INVALID]), 100, target_class=1, seed=0))
    with pytest.raises(InputError, match="at least 1, got 0"):
        list(draw_valid(Scripted([INVALID]), 0, target_class=1, seed=0))


def test_score_by_hand(small_set, landscape, judge):
    known = small_set.index[small_set.energy_class == 1][:2]
    new = np.setdiff1d(landscape.members(1), small_set.index)[:3]
    tally, kept = count_chunks([np.concatenate([known, new]), new[:2], np.array([-1, -1])], keep=6)
    np.testing.assert_array_equal(kept, [*known, *new, new[0]])
    score = score_tally(tally, judge=judge, target_class=1, training_set=small_set)
    assert (score.n_valid, score.n_raw, score.valid_fraction) == (7, 9, 7 / 9)
    assert (score.novel, score.rediscovered, score.repeated) == (3, 2, 2)
    assert score.metrics["precision"] == pytest.approx((landscape.energy_class(known) == 1).sum() / 7 + 5 / 7)
    without = score_tally(tally, judge=judge, target_class=1)
    assert without.novel is None
    assert np.isnan(without.metrics["new_precision"])
    assert score_tally(tally, judge=judge, target_class="1").as_dict() == without.as_dict()
    with pytest.raises(InputError, match="no valid composition"):
        score_tally(Tally(), judge=judge, target_class=1)


def test_the_first_new_compounds(small_set, landscape, judge):
    known = small_set.index[small_set.energy_class == 1][:2]
    right = np.setdiff1d(landscape.members(1), np.append(small_set.index, space.images(small_set.index)[0]))
    right = right[np.sort(np.unique(space.index_to_compound(right), return_index=True)[1])][:3]
    wrong = np.setdiff1d(landscape.members(9), np.append(small_set.index, space.images(small_set.index)[0]))[
        :1
    ]
    drawn = np.concatenate(
        [right[:2], known, space.images(known)[0], space.images(right[:1])[0], wrong, right]
    )
    new = first_new(space, drawn, small_set)
    np.testing.assert_array_equal(new, [*right[:2], *wrong, right[2]])
    np.testing.assert_array_equal(first_new(space, drawn, small_set, 3), new[:3])
    assert first_new(space, drawn, None)[2] == known[0]
    tally, _ = count_chunks([drawn])
    for chosen, share in ((new.repeat(100), 3 / 4), (new[:3].repeat(100), 2 / 3), (new, np.nan)):
        score = score_tally(tally, judge=judge, target_class=1, training_set=small_set, new=chosen)
        assert score.metrics["new_precision"] == pytest.approx(share, nan_ok=True)


class TestStoredCounts:
    def test_round_trip(self, judge, small_set):
        tally, index = Tally(), np.append(small_set.index, -1)
        for _ in range(3):
            tally.add_index(index)
        places, counts = tally.sparse()
        assert (places.dtype, counts.dtype) == (np.int32, np.int64)
        assert (np.diff(places) > 0).all()
        assert set(counts.tolist()) == {3}
        again = Tally.from_sparse(places, counts, tally.n_raw)
        np.testing.assert_array_equal(again.counts, tally.counts)
        one, other = (
            score_tally(t, judge=judge, target_class=4, training_set=small_set) for t in (tally, again)
        )
        assert one.as_dict() == other.as_dict()

    def test_nothing_drawn(self):
        again = Tally.from_sparse(*Tally().sparse(), 7)
        assert (again.n_valid, again.n_raw) == (0, 7)

    def test_another_judge_scores_the_same_counts(self, judge):
        symmetric = load_judge("symmetric")
        tally = Tally.from_sparse(judge.members(1), np.ones(3756, dtype=int), 3756)
        papers = score_tally(tally, judge=judge, target_class=1)
        assert papers.metrics["precision"] == papers.metrics["coverage"] == 1
        assert papers.as_dict()["judge"] == "paper"
        other = score_tally(tally, judge=symmetric, target_class=1)
        agreed = len(np.intersect1d(judge.members(1), symmetric.members(1)))
        assert other.metrics["precision"] == pytest.approx(agreed / 3756)
        assert other.as_dict()["judge"] == "symmetric"

    @pytest.mark.parametrize(
        ("index", "counts", "n_raw", "match"),
        [
            ([2000, 1602], [1, 1], 2, "ascending"),
            ([1602, 1602], [1, 1], 2, "ascending"),
            ([-1, 1602], [1, 1], 2, "ascending"),
            ([1602, space.n_table], [1, 1], 2, "ascending"),
            ([1602, 2000], [1, 0], 2, "positive"),
            ([0, 1602], [1, 1], 2, "repeat an element"),
            ([1602, 2000], [1], 2, "as many"),
            ([1602.0, 2000.0], [1, 1], 2, "whole numbers"),
            ([1602], [3], 2, "3 valid samples cannot come from 2 candidates"),
        ],
    )
    def test_what_describes_no_counts(self, index, counts, n_raw, match):
        with pytest.raises(InputError, match=match):
            Tally.from_sparse(np.array(index), np.array(counts), n_raw)


def test_an_index_that_repeats_an_element_is_no_valid_sample():
    tally = Tally()
    tally.add_index(np.array([0, 1602, -1, space.n_table - 1]))
    assert (tally.n_valid, tally.n_raw) == (1, 4)


def test_chunks_do_not_matter(landscape):
    rng = np.random.default_rng(0)
    digits = np.stack(
        [rng.integers(1, 9 if k % 2 else 7, CHUNK + 1000, dtype=np.int8) for k in range(8)], axis=1
    )
    whole, parts = Tally(), Tally()
    whole.add_digits(digits)
    for part in np.array_split(digits, 7):
        parts.add_digits(part)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    assert whole.n_raw == len(digits)
    index = space.digits_to_index(digits)
    np.testing.assert_array_equal(whole.counts, np.bincount(index[index >= 0], minlength=space.n_table))


def test_sample_table(small_set, landscape, judge):
    known = small_set.index[:1]
    new = np.setdiff1d(landscape.members(5), small_set.index)[:1]
    table = sample_table(np.concatenate([new, known, new, known]), judge=judge, training_set=small_set)
    assert table["status"].tolist() == ["novel", "rediscovered", "repeated", "repeated"]
    assert table["energy_class"].tolist()[0] == 5
    np.testing.assert_array_equal(
        space.formula_to_index(table["formula"]), np.concatenate([new, known, new, known])
    )


class TestCSV:
    def write(self, path, text):
        path.write_text(text)
        return path

    def test_formulas_and_numbers_are_the_same(self, tmp_path):
        a = self.write(tmp_path / "a.csv", "x,formula\n1,AlNaK2F6\n2,NaAlK2F6\n")
        b = self.write(tmp_path / "b.csv", "Z_A,Z_B,Z_C,Z_D\n13,11,19,9\n11,13,19,9\n")
        first, second = (np.concatenate(list(read_samples(path))) for path in (a, b))
        np.testing.assert_array_equal(first, second)
        assert space.index_to_formula(first).tolist() == ["AlNaK2F6", "NaAlK2F6"]

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("formula\n", "no rows"),
            ("", "cannot read"),
            ("a,b\n1,2\n", "lacks the column Z_A: it needs formula, or Z_A"),
            ("Z_A,Z_B,Z_C\n1,2,3\n", "lacks the column Z_D"),
            ("formula\nAlNaK2F6\nAlFeK2F6\n", "line 3: 'AlFeK2F6': unknown element Fe"),
            ("formula\nAlAlK2F6\n", "line 2: 'AlAlK2F6': element Al stands twice"),
            ("formula\nAlNaK2F6\n\nAlNaK2F6\n", "line 3 is empty, the header has 1"),
            ("Z_A,Z_B,Z_C,Z_D\n13,11,19,9\n13,11,26,9\n", "line 3: unknown element: '26'"),
            ("Z_A,Z_B,Z_C,Z_D\n13,11,19.5,9\n", "line 2: unknown element: '19.5'"),
            ("Z_A,Z_B,Z_C,Z_D\n13,13,19,9\n", "line 2: element 13 stands twice"),
            ("Z_A,Z_B,Z_C,Z_D\n13,11,,9\n", "line 2: unknown element: ''"),
            ("formula,x\nAlNaK2F6,1,2,3\n", "line 2 has 4 fields, the header has 2"),
            ("formula,x\nAlNaK2F6,LiNaK2F6,x\n", "line 2 has 3 fields, the header has 2"),
            ("Z_A,Z_B,Z_C,Z_D\n13,11,19,9,17\n", "line 2 has 5 fields, the header has 4"),
            ("formula,x\nAlNaK2F6,1\nAlNaK2F6,1,2\n", "line 3 has 3 fields, the header has 2"),
            ("Z_A,Z_B,Z_C,Z_D\n99999999999999999999999,11,19,9\n", "line 2: unknown element"),
        ],
    )
    def test_bad_files(self, tmp_path, text, match):
        with pytest.raises(InputError, match=match) as caught:
            list(read_samples(self.write(tmp_path / "bad.csv", text)))
        assert "\n" not in str(caught.value)

    def test_binary_and_missing_files(self, tmp_path):
        (tmp_path / "x.csv").write_bytes(bytes(range(256)) * 10)
        with pytest.raises(InputError, match="cannot read|not a readable|lacks"):
            list(read_samples(tmp_path / "x.csv"))
        with pytest.raises(InputError, match="No such file"):
            list(read_samples(tmp_path / "none.csv"))

    @pytest.mark.parametrize(
        "text", ["\ufeffformula\r\nAlNaK2F6\r\n", '"formula"\n"AlNaK2F6"\n', " formula \n AlNaK2F6 \n"]
    )
    def test_what_spreadsheets_write(self, tmp_path, text):
        (tmp_path / "s.csv").write_bytes(text.encode())
        (index,) = read_samples(tmp_path / "s.csv")
        assert space.index_to_formula(index).tolist() == ["AlNaK2F6"]

    @pytest.mark.slow
    def test_one_bad_line_of_a_million_is_named(self, tmp_path):
        lines = ["formula", *["AlNaK2F6"] * 1_000_000]
        lines[777_777] = "AlNaK2Fe6"
        path = self.write(tmp_path / "m.csv", "\n".join(lines) + "\n")
        with pytest.raises(InputError, match=r"line 777778: 'AlNaK2Fe6': unknown element Fe"):
            list(read_samples(path))
