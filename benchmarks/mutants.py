"""Whether the tests see: small faults are put into a file, and the tests that belong to it must fail.

    python benchmarks/mutants.py generative/wgan_gp.py --sample 100 --show

makes mutants of a file (a number plus one, < for <=, an argument left out) with the operators of mutmut, runs
the fast tests of the file on each, and prints how many died; without a file, those of all `TARGETS`. The
extra ``mutants`` installs what it needs.

Unlike mutmut's own runner it also mutates constants, defaults of dataclasses and decorated functions, and a
mutant costs no more than its tests: this process imports what is heavy, and forks for each.

Left alone is what no test can or should see: annotations, messages of errors, documentation. Mutants that
behave as the code does stand with a reason in ``equivalent_mutants.toml``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import math
import os
import random
import resource
import signal
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

os.environ["OMP_NUM_THREADS"] = "1"  # a process that forks must not have started threads

import libcst as cst
import libcst.matchers as m
import pytest
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT: Final = Path(__file__).parents[1]
_HEAVY: Final = ("gymnasium", "pandas", "sb3_contrib", "scipy.stats", "torch", "torch._dynamo")
_PYTEST: Final = (
    "--exitfirst",
    "--quiet",
    "--hypothesis-seed=0",
    "-n0",
    "-p",
    "no:cacheprovider",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)
_MEMORY: Final = 16 << 30
"""Bytes of address space of a mutant: some ask for terabytes."""
_PATIENCE: Final = 4.0
"""Times as much processor time as the code as it is may a mutant take before it counts as dead."""
_HANGS: Final = 1800
"""Seconds after which a mutant counts as dead whatever it is waiting for; the machine may be busy."""


@dataclass(frozen=True)
class Target:
    """A file to mutate.

    Attributes:
        tests: files or names of the fast tests that belong to it.
        within: functions to mutate, classes and functions by their names; all of the file if empty.
    """

    tests: tuple[str, ...]
    within: tuple[str, ...] = ()


def _in(file: str, *names: str) -> tuple[str, ...]:
    """Some tests of a file: those that take less time than the rest and see as much of the target."""
    return tuple(f"{file}::{name}" for name in names)


TARGETS: Final = {
    "generative/conditional.py": Target(("tests/test_generative.py",)),
    "generative/networks.py": Target(("tests/test_generative.py",)),
    "generative/vae.py": Target(("tests/test_generative.py",)),
    "generative/wgan_gp.py": Target(("tests/test_generative.py",)),
    "elpa_env/backups.py": Target(("tests/test_backups.py",)),
    "elpa_env/late.py": Target(("tests/test_states.py::TestLateInfo",)),
    "elpa_env/states.py": Target(("tests/test_states.py", "tests/test_vector.py::TestMasks")),
    "elpa_env/vector.py": Target(
        _in(
            "tests/test_vector.py",
            "test_vector_and_single_are_the_same",
            "test_vector_rollouts_are_deterministic[any class-AutoresetMode.SAME_STEP]",
            "test_render[ansi]",
            "TestErrors",
        )
    ),
    "elpa_env/rules.py": Target(("tests/test_rules.py",)),
    "elpa_env/solve.py": Target(
        _in(
            "tests/test_solve.py",
            "TestSettings",
            "TestBadArguments",
            "test_against_recursion",
            "test_states_at_different_steps_and_lost_ones",
            "TestSoft",
            "TestHard",
        )
    ),
    "agents/dqn.py": Target(
        (
            "tests/test_dqn.py",
            *_in(
                "tests/test_agents.py",
                "TestBoltzmann",
                "TestSteps",
                "TestAverage",
                "TestAnotherEnvironment",
                "test_learns_online",
                "test_a_default_is_a_default",
            ),
        )
    ),
    "agents/buffers.py": Target(
        ("tests/test_buffers.py", "tests/test_agents.py::TestBoltzmann::test_the_buffer_holds_the_episodes")
    ),
    "agents/reward_model.py": Target(("tests/test_online.py::TestRewardModel",)),
    "eval/metrics.py": Target(("tests/test_metrics.py",)),
    "eval/exact.py": Target(
        _in(
            "tests/test_exact.py",
            "TestExactScore",
            "TestRecords",
            "TestEvaluate",
            "TestStoredAndScoredAgain",
            "TestCountDistribution::test_kept_samples_are_among_the_counted",
            "TestCountDistribution::test_the_seed_decides",
            "TestCountDistribution::test_next_to_nothing_valid",
        )
    ),
}


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        source: of the whole file with the fault.
        line: where it is.
        before, after: the lines that differ, stripped and joined.
    """

    source: str
    line: int
    before: str
    after: str


class _Collector(cst.CSTVisitor):
    """Finds every node that can be mutated."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, within: Sequence[str]) -> None:
        self.found: list[tuple[cst.CSTNode, cst.CSTNode]] = []
        self._within = within
        self._inside = 0 if within else 1

    def on_visit(self, node: cst.CSTNode) -> bool:
        self._inside += self._opens(node)
        if isinstance(node, cst.Annotation | cst.Raise | cst.Decorator | cst.ImportFrom | cst.Import):
            return False
        if (
            isinstance(node, cst.Subscript)
            and isinstance(node.value, cst.Name)
            and node.value.value == "Literal"
        ):
            return False
        if m.matches(node, m.Expr(m.SimpleString() | m.ConcatenatedString())):
            return False
        if self._inside:
            for kind, operator in mutation_operators:
                if isinstance(node, kind):
                    self.found += [(node, mutated) for mutated in operator(node)]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        self._inside -= self._opens(original_node)

    def _opens(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.FunctionDef | cst.ClassDef) and node.name.value in self._within


def mutants_of(source: str, within: Sequence[str] = (), *, sample: int = 0, seed: int = 0) -> list[Mutant]:
    """Mutants of a file in the order of its lines: a random sample, or all of them for 0."""
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    collector = _Collector(within)
    wrapper.visit(collector)
    places = wrapper.resolve(PositionProvider)
    random.Random(seed).shuffle(collector.found)
    made: dict[str, Mutant] = {}
    for node, mutated in collector.found:
        if 0 < sample <= len(made):
            break
        changed = wrapper.module.deep_replace(node, mutated).code  # type: ignore[arg-type]
        with contextlib.suppress(SyntaxError):
            compile(changed, "mutant", "exec")
            made[changed] = Mutant(changed, places[node].start.line, *_difference(source, changed))
    made.pop(source, None)
    return sorted(made.values(), key=lambda mutant: mutant.line)


def _difference(before: str, after: str) -> tuple[str, str]:
    """The lines in which two sources differ."""
    old, new = before.splitlines(), after.splitlines()
    same = [a == b for a, b in zip(old, new, strict=False)]
    first = same.index(False) if False in same else len(same)
    same = [a == b for a, b in zip(old[:first:-1], new[:first:-1], strict=False)]
    last = same.index(False) if False in same else len(same)
    return _joined(old[first : len(old) - last]), _joined(new[first : len(new) - last])


def _joined(lines: Sequence[str]) -> str:
    return " ".join(line.strip() for line in lines)


class _Finder(importlib.abc.MetaPathFinder):
    """Gives one module another source."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self._name, self._path, self._source = name, path, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=_Loader(self))

    def code(self) -> CodeType:
        return compile(self._source, str(self._path), "exec", dont_inherit=True)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, finder: _Finder) -> None:
        super().__init__(finder._name, str(finder._path))
        self._finder = finder

    def get_code(self, fullname: str) -> CodeType:
        return self._finder.code()


def seconds_to_pass(
    file: str, source: str, tests: Sequence[str], limit: int, *, loud: bool = False
) -> float | None:
    """Processor time in which the tests of a file pass with another source in its place.

    Returns:
        Seconds; None where they fail, or take more than `limit`.
    """
    child = os.fork()
    if child == 0:
        os._exit(_run_tests(file, source, tests, limit, loud))
    ends = time.monotonic() + _HANGS
    while time.monotonic() < ends:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return used.ru_utime + used.ru_stime if status == 0 else None
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _run_tests(file: str, source: str, tests: Sequence[str], limit: int, loud: bool) -> int:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    if not loud:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(2, 1)
    module = file.removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, _Finder(module, ROOT / file, source))
    try:
        return int(pytest.main([*_PYTEST, *tests]))
    except BaseException as error:  # a mutant may do anything
        print(f"{type(error).__name__}: {error}")
        return 1


def equivalents(file: str) -> set[tuple[str, str]]:
    """Mutants of a file, before and after, that behave as the code does."""
    entries = tomllib.loads((Path(__file__).parent / "equivalent_mutants.toml").read_text())
    return {(entry["before"], entry["after"]) for entry in entries.get(file, [])}


def trial(file: str, sample: int, seed: int, show: bool) -> list[int]:
    """Run mutants of a file; how many, killed, equivalent, survived."""
    target, source = TARGETS[file], (ROOT / file).read_text()
    used = seconds_to_pass(file, source, target.tests, 600, loud=True)
    if used is None:
        raise SystemExit(f"{' '.join(target.tests)}: fail, run pytest on them first")
    limit = math.ceil(_PATIENCE * used) + 2
    chosen, known = mutants_of(source, target.within, sample=sample, seed=seed), equivalents(file)
    equivalent = [mutant for mutant in chosen if (mutant.before, mutant.after) in known]
    survived = []
    for mutant in chosen:
        if mutant in equivalent or seconds_to_pass(file, mutant.source, target.tests, limit) is None:
            continue
        survived.append(mutant)
        if show:
            print(f"{file}:{mutant.line}\n  - {mutant.before}\n  + {mutant.after}", flush=True)
    killed = len(chosen) - len(equivalent) - len(survived)
    return [len(chosen), killed, len(equivalent), len(survived)]


def rows(files: Sequence[str], sample: int, seed: int, show: bool) -> Iterator[str]:
    """Lines of the table."""
    head = ("mutants", "killed", "equivalent", "survived", "killed / %")
    yield " | ".join([f"{'file':28}", *head])
    total = [0] * 4
    for file in files:
        figures = trial(file, sample, seed, show)
        total = [a + b for a, b in zip(total, figures, strict=True)]
        yield _row(file, figures)
    yield _row("all", total)


def _row(name: str, figures: Sequence[int]) -> str:
    killed, survived = figures[1], figures[3]
    share = f"{100 * killed / max(killed + survived, 1):.0f}"
    return " | ".join([f"{name:28}", *(f"{figure:,}" for figure in figures), share])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("files", nargs="*", choices=[*TARGETS, []], metavar="FILE", help="of TARGETS; all")
    parser.add_argument("--sample", type=int, default=0, help="mutants a file, drawn at random; 0 = all")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--show", action="store_true", help="print the survivors")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for module in _HEAVY:
        importlib.import_module(module)
    for line in rows(arguments.files or [*TARGETS], arguments.sample, arguments.seed, arguments.show):
        print(line, flush=True)


if __name__ == "__main__":
    main()
