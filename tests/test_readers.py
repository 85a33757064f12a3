"""Every file that ever broke a reader, and files that chance makes: one line for each, or a right answer."""

import csv
import gzip
import io
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elpa_env import load_training_set
from elpa_env.errors import InputError
from elpa_env.files import read_json
from elpa_env.space import ELPASOLITE_SPACE as space
from eval.samples_csv import read_samples

HOSTILE = Path(__file__).parent / "hostile"
NUMBERS = b"Z_A,Z_B,Z_C,Z_D\n"
TABLE = b"Z_A,Z_B,Z_C,Z_D,formation_energy_eV_per_atom\n"

READERS = {
    "samples": lambda path: list(read_samples(path)),
    "training": load_training_set,
    "json": read_json,
}
MADE = {
    "samples": {
        "long_field.csv": b"formula\n" + b"x" * 140_000 + b"\n",
        "long_quoted_field.csv": b'formula,x\nAlNaK2F6,"' + b"x" * 140_000 + b'"\n',
        "long_line.csv": bytes(3 << 20),
        "long_header.csv": b'"' + b"\n" * 200_000,
        "wide_header.csv": b"," * 900_000 + b"\n",
        "million_lines_never_closed.csv": b'formula\n"' + b"AlNaK2F6\n" * 1_000_000,
        "compressed.csv.gz": gzip.compress(b"formula\nAlNaK2F6\n", mtime=0),
        "compressed.csv.xz": lzma.compress(b"formula\nAlNaK2F6\n"),
        "no_archive.csv.zip": b"formula\nAlNaK2F6x\n",
    },
    "training": {
        "long_field.csv": TABLE + b"13,11,19,9," + b"9" * 140_000 + b"\n",
        "long_line.csv": TABLE + bytes(3 << 20),
        "compressed.csv.gz": gzip.compress(TABLE + b"13,11,19,9,-2.9\n", mtime=0),
    },
    "json": {"deep.json": b"[" * 3_000_000, "deep_object.json": b'{"a":' * 3_000_000},
}


def one_line(call, *arguments):
    """The message of the one error that a reader may raise; None if it reads the file."""
    try:
        call(*arguments)
    except InputError as error:
        message = str(error)
        assert message.isprintable()
        assert len(message) < 1000
        return message
    return None


@pytest.mark.parametrize(
    ("reader", "name"),
    [(path.parent.name, path.name) for path in sorted(HOSTILE.glob("*/*"))]
    + [(reader, name) for reader, files in MADE.items() for name in files],
)
def test_files_that_broke_a_reader_get_one_line(reader, name, tmp_path):
    path = HOSTILE / reader / name
    if name in MADE.get(reader, {}):
        path = tmp_path / name
        path.write_bytes(MADE[reader][name])
    message = one_line(READERS[reader], path)
    assert message is not None
    assert name in message


@pytest.mark.parametrize("reader", list(READERS))
def test_what_has_no_end_is_not_read(reader, tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("/dev/zero"), Path("/dev/null"), Path("/dev/tty")):
        assert "cannot read" in one_line(READERS[reader], path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('note,formula\n"a\nb\n\nc",AlNaK2F6\nx,AlAlK2F6\n', 6),
        ('note,formula\r\n"a\r\nb",AlNaK2F6\r\n"x\r\ny",AlAlK2F6\r\n', 4),
        ('"no\nte",formula\nx,AlNaK2F6\nx,AlAlK2F6\n', 4),
        ('note,formula\n"a\nb",AlNaK2F6\nx\n', 4),
        ('note,formula\n"a\nb",AlNaK2F6\nx,"AlNaK2F6\n', 4),
        ("note,formula\n" + 'x,AlNaK2F6\n"x\n",AlNaK2F6\n' * 300_000 + "x,AlAlK2F6\n", 900_002),
    ],
)
def test_lines_are_counted_right_behind_line_breaks_in_quotes(tmp_path, text, line):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert f"line {line}" in one_line(READERS["samples"], path)


@pytest.mark.parametrize(
    "text",
    [
        "Z_A,Z_B,Z_C,Z_D\n\u200813,11\u00a0, 19,\t9\n",
        " Z_D , Z_C,Z_B,Z_A\r\n9,19,011,0013",
        'Z_A,x,Z_B,Z_C,Z_D\r13,"a ""b"", c\n",11,19,9\r',
        "\ufeffformula,Z_A\n\u00a0AlNaK2F6 ,x\n",
    ],
)
def test_unusual_files_that_are_read(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    (index,) = read_samples(path)
    assert space.index_to_formula(index).tolist() == ["AlNaK2F6"]


# --- What chance makes ---

FEW = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=5_000)

_HEADERS = [b"formula", b"x,formula", b"Z_A,Z_B,Z_C,Z_D", TABLE.strip(), TABLE.strip() + b",x"]
_ROWS = [b"AlNaK2F6", b"x,AlNaK2F6", b"13,11,19,9", b"13,11,19,9,-2.9", b"13,11,19,9,-2.9,x", b"3,11,19,9,-1"]
_PIECES = [
    *(
        b'"',
        b'""',
        b",",
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b" ",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xed\xa0\x80",
        b"nan",
    ),
    *(
        b"1e400",
        b"-1",
        b"13",
        b"99999999999999999999",
        b"formula",
        b"Z_A",
        b"\xe2\x80\xa8",
        b"\x1f\x8b",
        b"x" * 99,
    ),
]


@st.composite
def tables(draw):
    """A CSV file that is whole or nearly so, or any bytes."""
    header = draw(st.sampled_from(_HEADERS))
    same_width = [row for row in _ROWS if row.count(b",") == header.count(b",")] or _ROWS
    rows = draw(st.lists(st.sampled_from(same_width), max_size=6))
    end = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    data = end.join([header, *rows, *draw(st.sampled_from([[], [b""]]))])
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 3))
        piece = draw(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=4)))
        data = data[:place] + piece + data[place + cut :]
    return draw(st.sampled_from([data, data, data, draw(st.binary(max_size=200))]))


def rows_behind_the_header(data):
    return len([row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")) if row]) - 1


def check_samples(path, data):
    path.write_bytes(data)
    found = []
    if one_line(lambda: found.extend(read_samples(path))) is None:
        index = np.concatenate(found)
        assert space.composition_mask[index].all()
        assert len(index) == rows_behind_the_header(data)


def check_training(path, data):
    path.write_bytes(data)
    found = []
    if one_line(lambda: found.append(load_training_set(path, augment=False))) is None:
        (rows,) = found
        assert space.composition_mask[rows.index].all()
        assert (np.abs(rows.energy) <= 25).all()
        assert len(rows) == rows_behind_the_header(data)


def check_json(path, data):
    path.write_bytes(data)
    one_line(read_json, path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "a.csv"


@FEW
@given(data=tables())
def test_samples_that_chance_makes(place, data):
    check_samples(place, data)


@FEW
@given(data=tables())
def test_training_tables_that_chance_makes(place, data):
    check_training(place, data)


@FEW
@given(data=st.one_of(st.binary(), st.text(alphabet='[]{}",:0e-truNa\\', max_size=50).map(str.encode)))
def test_json_that_chance_makes(place, data):
    check_json(place, data)


@pytest.mark.slow
@MANY
@given(data=tables())
def test_many_samples_that_chance_makes(place, data):
    check_samples(place, data)


@pytest.mark.slow
@MANY
@given(data=tables())
def test_many_training_tables_that_chance_makes(place, data):
    check_training(place, data)
