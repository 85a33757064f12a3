#!/usr/bin/python3
"""Formation energies by density functional theory with GPAW, for campaigns that label with a command.

    sudo apt-get install gpaw gpaw-data
    elpa discover run ... --energy "command: /usr/bin/python3 examples/label_with_gpaw.py --cutoff 400"

It runs under the Python that GPAW is installed for, apart from this project. It reads a structure as JSON
from every line of its standard input and answers with a line: PBE, plane waves, k-points with Gamma; the
structure's free parameters are relaxed in turn, each by parabolas through three energies. The elements are
calculated in their ground-state structure when they are first needed, and kept in a file. What GPAW itself
has to say goes to --log.
"""

import argparse
import contextlib
import fcntl
import json
import os
import sys
import traceback

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal
from gpaw import GPAW, PW, FermiDirac, KohnShamConvergenceError

GASES = {"H": 0.74, "N": 1.10, "O": 1.21, "F": 1.42}
"""Angstrom; calculated as a molecule in a box."""
SHEARED = {  # orthorhombic, Cmce: cell in angstrom, y and z of the atoms
    "Cl": ((6.145, 4.395, 8.154), (0.1173, 0.1016)),
    "Br": ((6.737, 4.548, 8.761), (0.1350, 0.1100)),
    "I": ((7.136, 4.686, 9.784), (0.1543, 0.1174)),
    "Ga": ((4.5192, 7.6586, 4.5258), (0.1549, 0.0810)),
}
BOX = (9.0, 9.0, 10.0)
LENGTH_STEPS = (0.03, 0.01)
"""Relative steps between the energies of a parabola, from one round of relaxation to the next."""
COORDINATE_STEPS = (0.012, 0.004)
MOST_STEPS = 8
"""Downhill steps until a minimum lies between two of them."""


class Calculations:
    """Energies by GPAW with settings that are the same for compounds and elements."""

    def __init__(self, settings):
        self.settings = settings

    def energy(self, atoms, kpts):
        """EV/atom."""
        atoms = atoms.copy()
        atoms.calc = GPAW(
            mode=PW(self.settings.cutoff),
            xc="PBE",
            kpts=kpts,
            occupations=FermiDirac(self.settings.width),
            convergence={"energy": 5e-4},
            txt=self.settings.log or None,
        )
        return atoms.get_potential_energy() / len(atoms)


# --- Compounds ---


class Structure:
    """A compound's primitive cell as a function of its free parameters."""

    def __init__(self, request):
        self.symbols = request["symbols"]
        self.start = dict(request["parameters"])
        self._cell = np.array(request["cell"])
        self._scaled = np.array(request["scaled_positions"])
        self._slopes = request["derivatives"]

    def is_length(self, name):
        """Whether a parameter changes the cell."""
        return bool(np.any(self._slopes[name]["cell"]))

    def atoms(self, values):
        """The atoms for values of all parameters."""
        cell, scaled = self._cell.copy(), self._scaled.copy()
        for name, slope in self._slopes.items():
            cell += (values[name] - self.start[name]) * np.array(slope["cell"])
            scaled += (values[name] - self.start[name]) * np.array(slope["scaled_positions"])
        return Atoms(self.symbols, cell=cell, scaled_positions=scaled, pbc=True)


def relaxed(structure, energy, rounds):
    """Parameters of lowest energy and that energy, by parabolas along one parameter after the other."""
    values = dict(structure.start)
    best = energy(structure.atoms(values))
    for turn in range(rounds):
        for name in values:
            fine = min(turn, len(LENGTH_STEPS) - 1)
            step = values[name] * LENGTH_STEPS[fine] if structure.is_length(name) else COORDINATE_STEPS[fine]

            def along(value, name=name):
                return energy(structure.atoms({**values, name: value}))

            values[name], best = parabola(along, values[name], best, step)
    return values, best


def parabola(function, middle, lowest, step):
    """The minimum of a function near a point, and its value there.

    It goes downhill in steps until a minimum is bracketed, and from there to that of the parabola.
    """
    known = {0: lowest}

    def at(place):
        if place not in known:
            known[place] = function(middle + place * step)
        return known[place]

    best = min((-1, 0, 1), key=at)
    for _ in range(MOST_STEPS):
        around = min((best - 1, best, best + 1), key=at)
        if around == best:
            break
        best = around
    else:
        raise RuntimeError("no minimum is found: the energy goes on to fall")
    below, here, above = at(best - 1), at(best), at(best + 1)
    curvature = above - 2 * here + below
    if curvature <= 0:
        return middle + best * step, here
    place = middle + (best + (below - above) / (2 * curvature)) * step
    value = function(place)
    return (place, value) if value < here else (middle + best * step, here)


# --- Elements ---


def element(symbol):
    """An element near its ground-state structure, and whether it is a molecule."""
    if symbol in GASES:
        atoms = Atoms([symbol] * 2, [(0, 0, 0), (0, 0, GASES[symbol])], cell=BOX, pbc=True)
        if symbol == "O":
            atoms.set_initial_magnetic_moments([1.0, 1.0])
        atoms.center()
        return atoms, True
    if symbol in SHEARED:
        cell, (y, z) = SHEARED[symbol]
        return crystal(
            [symbol], [(0, y, z)], spacegroup=64, cellpar=[*cell, 90, 90, 90], primitive_cell=True
        ), False
    return bulk(symbol), False


def element_energy(symbol, calculations, rounds):
    """EV/atom: of a molecule over its bond, of a crystal over its volume; as measured without rounds."""
    atoms, molecule = element(symbol)
    kpts = (1, 1, 1) if molecule else {"density": calculations.settings.density, "gamma": True}

    def along(scale):
        moved = atoms.copy()
        if molecule:
            moved.set_distance(0, 1, GASES[symbol] * scale)
        else:
            moved.set_cell(atoms.cell * scale, scale_atoms=True)
        return calculations.energy(moved, kpts)

    energy = along(1.0)
    return parabola(along, 1.0, energy, 0.02)[1] if rounds else energy


class References:
    """Energies of the elements, in a file that several of these programs may share."""

    def __init__(self, path, calculations, settings):
        self._path = path
        self._calculations = calculations
        self._rounds = settings.rounds
        self._about = {
            "cutoff": settings.cutoff,
            "width": settings.width,
            "density": settings.density,
            "relaxed": bool(settings.rounds),
        }

    def energy(self, symbol):
        """EV/atom; calculated if it is not in the file."""
        with self._alone():
            known = self._read()
            if symbol not in known:
                known[symbol] = element_energy(symbol, self._calculations, self._rounds)
                text = json.dumps({"settings": self._about, "energies": known}, indent=1) + "\n"
                with open(self._path + ".new", "w") as file:
                    file.write(text)
                os.replace(self._path + ".new", self._path)
            return known[symbol]

    @contextlib.contextmanager
    def _alone(self):
        """No other program calculates an element meanwhile: it may be the same."""
        with open(self._path + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self):
        if not os.path.exists(self._path):
            return {}
        with open(self._path) as file:
            content = json.load(file)
        if content["settings"] != self._about:
            raise ValueError(f"{self._path} is of other settings: name another file with --references")
        return content["energies"]


# --- Answers ---


def answer(request, calculations, references, settings):
    """What is answered to a structure."""
    structure = Structure(request)
    kpts = {"size": (settings.kpts,) * 3, "gamma": True}
    values, energy = relaxed(structure, lambda atoms: calculations.energy(atoms, kpts), settings.rounds)
    n = len(structure.symbols)
    shares = {symbol: structure.symbols.count(symbol) / n for symbol in set(structure.symbols)}
    elements = sum(share * references.energy(symbol) for symbol, share in shares.items())
    return {"id": request["id"], "energy": energy - elements, "parameters": values}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cutoff", type=float, default=400.0, help="of the plane waves, eV")
    parser.add_argument("--kpts", type=int, default=2, help="k-points along each reciprocal vector")
    parser.add_argument("--density", type=float, default=3.5, help="k-points of elements, per 1/angstrom")
    parser.add_argument("--width", type=float, default=0.1, help="of the occupations, eV")
    parser.add_argument(
        "--rounds", type=int, default=2, help="of relaxation; 0 leaves the structure as it is"
    )
    parser.add_argument(
        "--references", default="gpaw-references.json", help="file for the elements' energies"
    )
    parser.add_argument("--log", default="", help="file for what GPAW says")
    settings = parser.parse_args()

    # whatever a library prints must not come between two answers
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    calculations = Calculations(settings)
    references = References(settings.references, calculations, settings)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            said = answer(request, calculations, references, settings)
        except (KohnShamConvergenceError, RuntimeError, ValueError, ArithmeticError) as error:
            traceback.print_exc()
            said = {"id": request["id"], "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()
