"""Checkpoints of generative models: what comes back, and what hostile files may do (nothing)."""

import io
import json
import os
import pickle
import resource
import zipfile
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
import torch as th
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elpa_env.checkpoint import read_checkpoint, restore, write_checkpoint
from elpa_env.errors import InputError, printable
from eval.study.registry import load_sampler
from generative.vae import ConditionalVAE, VAEConfig
from generative.wgan_gp import ConditionalWGAN, WGANConfig
from tests.test_files import full_disk

KINDS = {
    "vae": (ConditionalVAE, VAEConfig(latent_dim=2, hidden=(3,), n_updates=3, batch_size=4)),
    "gan": (ConditionalWGAN, WGANConfig(latent_dim=2, hidden=3, n_updates=2, batch_size=4)),
}
kinds = pytest.mark.parametrize("name", list(KINDS))


@pytest.fixture(scope="module")
def saved(small_set, tmp_path_factory):
    """A small trained checkpoint of each kind."""
    folder = tmp_path_factory.mktemp("saved")
    for name, (kind, config) in KINDS.items():
        kind(config).fit(small_set).save(folder / f"{name}.pt")
    return folder


def refuse(path, match, kind=ConditionalVAE):
    with pytest.raises(InputError, match=match) as caught:
        kind.load(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@kinds
def test_what_is_saved_comes_back(saved, name, small_set, tmp_path):
    kind, config = KINDS[name]
    model = kind.load(saved / f"{name}.pt")
    again = kind(config).fit(small_set)
    assert model.config == config
    assert model.trained_on == small_set.record()
    assert model.access == again.access
    assert all(parameter.requires_grad for parameter in model.parameters())
    np.testing.assert_array_equal(
        model.sample(50, target_class=1, seed=0), again.sample(50, target_class=1, seed=0)
    )
    model.save(tmp_path / "again.pt")
    assert (tmp_path / "again.pt").read_bytes() == (saved / f"{name}.pt").read_bytes()
    fitted = model.fit(small_set)
    assert all(
        th.equal(one, other) for one, other in zip(fitted.parameters(), again.parameters(), strict=True)
    )


def same(one, other):
    """Whether two models have the same settings, origin and weights."""
    return (
        (one.config, one.trained_on, one.access) == (other.config, other.trained_on, other.access)
        and one.state_dict().keys() == other.state_dict().keys()
        and all(th.equal(weights, other.state_dict()[key]) for key, weights in one.state_dict().items())
    )


@kinds
def test_a_changed_byte_or_a_cut_is_found_out_or_changes_nothing(saved, name, tmp_path):
    kind, _ = KINDS[name]
    path, whole = tmp_path / "m.pt", (saved / f"{name}.pt").read_bytes()
    original = kind.load(saved / f"{name}.pt")
    messages = []
    for place in range(0, len(whole), 29):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        for data in (bytes(changed), whole[:place]):
            path.write_bytes(data)
            try:
                assert same(kind.load(path), original)
            except InputError as error:
                messages.append(str(error))
    assert len(messages) > len(whole) / 29
    assert "".join(messages).isprintable()


def rewrite(source, target, *, arrays=None, **record):
    """A checkpoint with another record or other arrays."""
    old, weights = read_checkpoint(source)
    write_checkpoint(target, {**old, **record}, weights if arrays is None else {**weights, **arrays})


@pytest.mark.parametrize(
    ("record", "match"),
    [
        ({"format": 1}, "has format 1, this version reads 2"),
        ({"format": "x" * 5000}, "has format xxx"),
        ({"format": [[[]]]}, "has format"),
        ({"model": "gan"}, "holds a gan, not a vae"),
        ({"model": ["vae"]}, "not a vae"),
        ({"model": None}, "not a vae"),
        ({"trained_on": "a string"}, "trained on"),
        ({"trained_on": []}, "trained on"),
        ({"trained_on": {"name": 1, "sha256": "x", "rows": 1}}, "trained on"),
        ({"trained_on": {"name": "x"}}, "trained on"),
        ({"access": "offline"}, "no settings of a Access"),
        ({"access": {"kind": "trusted"}}, "none of"),
        ({"access": {"kind": "offline", "labels": "many"}}, "'many' is none of int"),
        ({"config": "latent_dim"}, "no settings of a VAEConfig"),
        ({"config": [1, 2]}, "no settings of a VAEConfig"),
        ({"config": {"nonsense": 1}}, "has no field 'nonsense'"),
        ({"config": {"latent_dim": "two"}}, "'two' is none of int"),
        ({"config": {"latent_dim": 2.0}}, "'2.0' is none of int"),
        ({"config": {"latent_dim": True}}, "'True' is none of int"),
        ({"config": {"latent_dim": None}}, "'None' is none of int"),
        ({"config": {"latent_dim": 10**30}}, "is none of int"),
        ({"config": {"kl_weight": float("nan")}}, "'nan' is none of float"),
        ({"config": {"kl_weight": 10**400}}, "is damaged"),
        ({"config": {"hidden": 3}}, "'3' is none of tuple"),
        ({"config": {"hidden": ["x"]}}, "'x' is none of int"),
        ({"config": {"hidden": [3] * 100_000}}, "is none of tuple"),
        ({"config": {"latent_dim": 10**9}}, "does not fit"),
        ({"config": {"hidden": [10**9]}}, "does not fit"),
        ({"config": {"hidden": [10**9, 10**9]}}, "does not fit"),
        ({"config": {"hidden": [-3]}}, "does not fit"),
        ({"config": {"latent_dim": 2, "hidden": [4]}}, "does not fit"),
        ({"config": {}}, "does not fit"),
    ],
)
def test_records_that_do_not_fit(saved, tmp_path, record, match):
    rewrite(saved / "vae.pt", tmp_path / "m.pt", **record)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuse(tmp_path / "m.pt", match)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    with pytest.raises(InputError):
        load_sampler(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"encoder/0.weight": np.full((3, 18), np.nan, np.float32)}, "finite numbers"),
        ({"encoder/0.weight": np.full((3, 18), -np.inf)}, "finite numbers"),
        ({"encoder/0.weight": np.full((3, 18), 1e300)}, "must be float32, found float64"),
        ({"encoder/0.weight": np.full((3, 18), "x")}, "finite numbers"),
        ({"encoder/0.weight": np.zeros((3, 18), complex)}, "finite numbers"),
        ({"encoder/0.weight": np.zeros((18, 3), np.float32)}, "does not fit"),
        ({"encoder/0.weight": np.zeros(0, np.float32)}, "does not fit"),
        ({"encoder/0.weight": np.zeros((3, 18), ">f4")}, "must be float32"),
        ({"encoder/9.weight": np.zeros(3, np.float32)}, "does not fit"),
        ({"more/0.weight": np.zeros(3, np.float32)}, "must hold the networks encoder, decoder"),
        ({"": np.zeros(3, np.float32)}, "must hold the networks encoder, decoder"),
    ],
)
def test_weights_that_do_not_fit(saved, tmp_path, arrays, match):
    rewrite(saved / "vae.pt", tmp_path / "m.pt", arrays=arrays)
    refuse(tmp_path / "m.pt", match)


def test_missing_weights(saved, tmp_path):
    record, arrays = read_checkpoint(saved / "vae.pt")
    write_checkpoint(tmp_path / "m.pt", record, {})
    refuse(tmp_path / "m.pt", "must hold the networks")
    write_checkpoint(tmp_path / "m.pt", record, dict(list(arrays.items())[1:]))
    refuse(tmp_path / "m.pt", "does not fit")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def archive(members, **how):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", **how) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return data.getvalue()


def array_file(array):
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


def a_record(text):
    return archive({"record.npy": array_file(np.frombuffer(text, np.uint8))})


def encrypted():
    data = bytearray(a_record(b"{}"))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def of_torch(content):
    data = io.BytesIO()
    th.save(content, data)
    return data.getvalue()


def header(shape, kind="|u1"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HOSTILE = {
    "empty": b"",
    "nonsense": b"nonsense",
    "zeros": bytes(10_000),
    "pickle": pickle.dumps(Evil()),
    "torch": of_torch({"format": 1, "model": "vae"}),
    "torch of an object": of_torch({"format": 1, "model": Evil()}),
    "old torch": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2),
    "empty archive": archive({}),
    "no record": archive({"arrays/x.npy": array_file(np.zeros(3))}),
    "a record that is no array": archive({"record.npy": b"{}"}),
    "a file that is no array": archive({"record.json": b"{}"}),
    "a record of floats": archive({"record.npy": array_file(np.zeros(3))}),
    "a record of objects": archive({"record.npy": b"\x93NUMPY\x01\x00" + pickle.dumps(Evil())}),
    "objects": archive({"record.npy": header("(1,)", "|O") + pickle.dumps(Evil())}),
    "a record that is no JSON": a_record(b"{"),
    "a record that is no UTF-8": a_record(b'"\xff"'),
    "a record that is a list": a_record(b"[]"),
    "a record that is null": a_record(b"null"),
    "a deep record": a_record(b"[" * 500_000),
    "a deep object": a_record(b'{"a":' * 500_000),
    "a record of many digits": a_record(b'{"format": ' + b"9" * 10_000 + b"}"),
    "an empty record": a_record(b"{}"),
    "encrypted": encrypted(),
    "bomb": archive({"record.npy": array_file(np.zeros(10**7, np.uint8))}, compression=zipfile.ZIP_DEFLATED),
    "bzip2 bomb": archive(
        {"record.npy": array_file(np.zeros(10**7, np.uint8))}, compression=zipfile.ZIP_BZIP2
    ),
    "lzma bomb": archive({"record.npy": array_file(np.zeros(10**7, np.uint8))}, compression=zipfile.ZIP_LZMA),
    "a terabyte": archive({"record.npy": header("(1000000000000,)")}),
    "negative": archive({"record.npy": header("(-1,)")}),
    "a deep shape": archive({"record.npy": header("(" * 3000)}),
    "a header that calls": archive({"record.npy": header("__import__('os').mkdir('ran')")}),
}


@pytest.mark.parametrize("what", list(HOSTILE))
@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_hostile_archives(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.pt").write_bytes(HOSTILE[what])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuse(tmp_path / "m.pt", "m.pt (is|has)|m.pt: its arrays are larger")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert os.listdir() == ["m.pt"]


@pytest.mark.parametrize("what", list(HOSTILE))
@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_hostile_archives_are_no_agents(tmp_path, monkeypatch, what):
    from agents import AgentSampler

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.zip").write_bytes(HOSTILE[what])
    with pytest.raises(InputError, match=r"a.zip (is|has|was)|a.zip: its arrays are larger") as caught:
        AgentSampler.load(tmp_path / "a.zip", target_class=1)
    assert len(str(caught.value)) < 1000
    assert os.listdir() == ["a.zip"]


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe", tmp_path):
        refuse(path, "cannot read")
    refuse(tmp_path / "none", "train one with `elpa train`")


def test_a_full_disk_leaves_the_earlier_checkpoint(saved, tmp_path):
    model = ConditionalVAE.load(saved / "vae.pt")
    model.save(tmp_path / "m.pt")
    before = (tmp_path / "m.pt").read_bytes()
    with full_disk(), pytest.raises(InputError, match="cannot write .*m.pt: File too large"):
        model.save(tmp_path / "m.pt")
    assert os.listdir(tmp_path) == ["m.pt"]
    assert (tmp_path / "m.pt").read_bytes() == before


@dataclass(frozen=True)
class Settings:
    whole: int = 1
    real: float = 1.0
    word: str | None = None
    choice: Literal["a", "b"] = "a"
    pair: tuple[int, float] = (1, 1.0)
    flag: bool = False


def test_settings_come_back_typed():
    values = {"whole": 2, "real": 3, "word": "x", "choice": "b", "pair": [1, 2.5], "flag": True}
    assert restore(Settings, json.loads(json.dumps(values))) == Settings(2, 3, "x", "b", (1, 2.5), True)
    assert restore(Settings, {}) == Settings()
    for wrong in (
        {"whole": 1.0},
        {"whole": True},
        {"real": "1"},
        {"real": False},
        {"word": 1},
        {"choice": "c"},
        {"choice": ["a"]},
        {"pair": [1]},
        {"pair": [1, 2, 3]},
        {"pair": ["1", 2]},
        {"pair": "12"},
        {"flag": 1},
        {"flag": None},
    ):
        with pytest.raises(InputError, match="none of"):
            restore(Settings, wrong)


# --- What chance makes ---


@st.composite
def changes(draw):
    """Where to change a file, and what to put there; a third of it in the text of the record."""
    return draw(
        st.lists(
            st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 5), st.binary(max_size=5)), max_size=4
        )
    )


def check(folder, name, data):
    kind, _ = KINDS[name]
    path = folder / "fuzzed.pt"
    path.write_bytes(data)
    message = ""
    try:
        model = kind.load(path)
        assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
        assert model.sample(3, target_class=1, seed=0).shape == (3, 8)
    except InputError as error:
        message = str(error)
    assert len(message) < 1000
    assert message == printable(message)


def changed(data, where):
    for place, cut, piece in where:
        k = int(place * len(data))
        data = data[:k] + piece + data[k + cut :]
    return data


def check_changed(folder, name, where, in_record):
    whole = (folder / f"{name}.pt").read_bytes()
    if not in_record:
        return check(folder, name, changed(whole, where))
    record, arrays = read_checkpoint(folder / f"{name}.pt")
    text = changed(json.dumps(record).encode(), where)
    content = {f"arrays/{key}.npy": array_file(array) for key, array in arrays.items()}
    check(folder, name, archive({**content, "record.npy": array_file(np.frombuffer(text, np.uint8))}))


FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=3_000)
ANY = {"name": st.sampled_from(list(KINDS)), "where": changes(), "in_record": st.booleans()}


@FEW
@given(**ANY)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_checkpoints_that_chance_makes(saved, name, where, in_record):
    check_changed(saved, name, where, in_record)


@pytest.mark.slow
@MANY
@given(**ANY)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_many_checkpoints_that_chance_makes(saved, name, where, in_record):
    check_changed(saved, name, where, in_record)
