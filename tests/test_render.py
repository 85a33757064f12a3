"""The pictures of a state: what they say, and that nothing but the state decides them."""

import subprocess
import sys

import numpy as np
import pytest

from elpa_env import rules
from elpa_env.errors import InputError
from elpa_env.render import HEIGHT, WIDTH, Ending, render_ansi, render_rgb
from elpa_env.space import ELPASOLITE_SPACE as space

NOTHING = Ending(formula=None, energy=None, energy_class=0, reward=-1.0, target_class=1)
STATES = {
    "start": ([0] * 8, None),
    "row of A chosen": ([1, 0, 0, 0, 0, 0, 0, 0], None),
    "A and B chosen": ([3, 3, 3, 1, 0, 0, 0, 0], None),
    "row of C chosen": ([3, 3, 3, 1, 4, 0, 0, 0], None),
    "row of an element in use": ([3, 3, 3, 1, 3, 0, 0, 0], None),
    "complete": ([3, 3, 3, 1, 4, 1, 2, 7], None),
    "success": ([3, 3, 3, 1, 4, 1, 2, 7], Ending("AlNaK2F6", -2.941, 1, 1.0, 1)),
    "failure": ([3, 3, 3, 1, 4, 1, 2, 7], Ending("AlNaK2F6", -2.941, 1, -1.0, 2)),
    "no element": ([3, 3, 1, 3, 3, 6, 4, 7], NOTHING),
    "element twice": ([3, 3, 3, 1, 3, 3, 4, 7], NOTHING),
    "no element twice": ([1, 3, 1, 3, 3, 3, 4, 7], NOTHING),
    "out of range": ([3, 3, 3, 1, 0, 0, 0, 0], NOTHING),
}


def arguments(name):
    digits, outcome = STATES[name]
    digits = np.array(digits, np.int8)
    return space, digits, rules.action_masks(space, digits[None])[0], outcome


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("start", "__ __ __ __  ABC2D6 -> ???2?6", "row of A: 1, 2, 3, 4, 5, 6"),
        (
            "row of A chosen",
            "1_ __ __ __  ABC2D6 -> ???2?6",
            "group of A in row 1: 1 H, 2 --, 3 --, 4 --, 5 --, 6 --, 7 --, 8 He",
        ),
        ("A and B chosen", "Al Na __ __  ABC2D6 -> AlNa?2?6", "row of C: 1, 2, 3, 4, 5, 6"),
        (
            "row of C chosen",
            "Al Na 4_ __  ABC2D6 -> AlNa?2?6",
            "group of C in row 4: 1 K, 2 Ca, 3 Ga, 4 Ge, 5 As, 6 Se, 7 Br, 8 Kr",
        ),
        ("complete", "Al Na K  F   ABC2D6 -> AlNaK2F6", "complete: nothing is open"),
        (
            "success",
            "Al Na K  F   ABC2D6 -> AlNaK2F6",
            "AlNaK2F6  -2.94 eV/atom  class 1, wanted class 1  reward +1",
        ),
        (
            "failure",
            "Al Na K  F   ABC2D6 -> AlNaK2F6",
            "AlNaK2F6  -2.94 eV/atom  class 1, wanted class 2  reward -1",
        ),
        (
            "no element",
            "Al -- S  Br  ABC2D6 -> Al!S2Br6",
            "no such composition  no element in row 1, group 3  wanted class 1  reward -1",
        ),
        (
            "element twice",
            "Al Na Al Br  ABC2D6 -> AlNaAl2Br6",
            "no such composition  Al stands twice  wanted class 1  reward -1",
        ),
        (
            "out of range",
            "Al Na __ __  ABC2D6 -> AlNa?2?6",
            "no such composition  action out of range  wanted class 1  reward -1",
        ),
    ],
)
def test_ansi(name, first, second):
    assert render_ansi(*arguments(name)).split("\n") == [first, second]


def test_ansi_shows_what_the_mask_leaves_open():
    digits = np.array([3, 3, 3, 0, 0, 0, 0, 0], np.int8)
    mask = rules.action_masks(space, digits[None], "composition")[0]
    text = render_ansi(space, digits, mask, None)
    assert text.endswith("group of B in row 3: 1 Na, 2 Mg, 4 Si, 5 P, 6 S, 7 Cl, 8 Ar")


def test_pictures_are_drawn_alike_and_all_differ():
    pictures = {name: render_rgb(*arguments(name)) for name in STATES}
    for name, picture in pictures.items():
        assert picture.shape == (HEIGHT, WIDTH, 3)
        assert picture.dtype == np.uint8
        assert picture.flags.writeable
        np.testing.assert_array_equal(picture, render_rgb(*arguments(name)))
    assert len({picture.tobytes() for picture in pictures.values()}) == len(STATES)


def test_a_picture_shows_the_mask():
    digits = np.array([3, 3, 3, 0, 0, 0, 0, 0], np.int8)
    masks = [rules.action_masks(space, digits[None], masking)[0] for masking in ("digits", "composition")]
    open_, closed = (render_rgb(space, digits, mask, None) for mask in masks)
    differs = np.argwhere((open_ != closed).any(-1))
    # Only the frame around Al, in row 3 and group 3, goes.
    assert (differs.max(0) - differs.min(0) <= (44, 52)).all()


def test_a_picture_can_be_painted_over_without_marring_the_next():
    first = render_rgb(*arguments("start"))
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(render_rgb(*arguments("start")), kept)


@pytest.mark.parametrize("render", [render_ansi, render_rgb])
def test_bad_digits(render):
    with pytest.raises(InputError, match="must be a row 0..6, got 7"):
        render(space, np.array([7] + [0] * 7, np.int8), np.ones(8, bool), None)


def test_matplotlib_is_loaded_late_and_left_as_it_was():
    code = (
        "import sys, warnings; warnings.simplefilter('error')\n"
        "import numpy as np, elpa_env.render as r\n"
        "from elpa_env.space import ELPASOLITE_SPACE\n"
        "state = ELPASOLITE_SPACE, np.zeros(8, np.int8), np.ones(8, bool), None\n"
        "r.render_ansi(*state)\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib\n"
        "def settings():\n"
        "    return {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != 'backend'}\n"
        "before = settings()\n"
        "r.render_rgb(*state)\n"
        "assert settings() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
