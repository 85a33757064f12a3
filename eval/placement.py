"""Where names stand beside points so that none covers another, a point, or a line that leads to one."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_RADII: Final = (9.0, 13.0, 19.0, 28.0, 40.0, 55.0, 75.0, 100.0, 130.0, 165.0)
"""Pixels from a point to the nearest side of its name."""
_ANGLES: Final = np.arange(24) * (2 * np.pi / 24)
_COVERED: Final = 1e4
"""Price of covering something, far above that of any distance."""
_CROSSED: Final = 300.0
"""Price of a leader line that crosses another one or a name."""
_MISTAKEN: Final = 60.0
"""Price of a name that might be taken for that of another point."""
_UPRIGHT: Final = np.array([1.0, 2.0])
"""How far a pixel is for a reader who looks for the name of a point, along and across the line of text."""
_SPOT: Final = 3.0
"""Half the side of the square around a point that a line to another's name should not pass."""
_PASSES: Final = 8


def place_names(
    points: NDArray[np.float64],
    sizes: NDArray[np.float64],
    bounds: tuple[float, float, float, float],
    obstacles: NDArray[np.float64] | None = None,
    *,
    clearance: float = 8.0,
) -> NDArray[np.float64]:
    """Choose a place for every name, near its point and in the way of nothing.

    Each takes the cheapest of some hundred places around its point, those in the densest company first since
    they have the least choice; then all may choose again until none moves.

    Args:
        points: (n, 2) pixels.
        sizes: (n, 2) width and height of the names.
        bounds: left, bottom, right, top, in which names must stay.
        obstacles: (m, 4) left, bottom, right, top of what may not be covered, points aside.
        clearance: half the side of the square around a point that may not be covered.

    Returns:
        (n, 4) left, bottom, right, top of every name.
    """
    boxes = np.zeros((len(points), 4))
    placed = np.zeros(len(points), dtype=bool)
    fixed = np.concatenate([points - clearance, points + clearance], axis=1)
    if obstacles is not None and len(obstacles):
        fixed = np.concatenate([fixed, obstacles])
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    order = np.argsort(np.sort(distance, axis=1)[:, :4].sum(axis=1), kind="stable")
    for _ in range(_PASSES):
        before = boxes.copy()
        for i in order.tolist():
            others = placed.copy()
            others[i] = False
            candidates, price = _candidates(points[i], sizes[i])
            price += _COVERED * _outside(candidates, bounds)
            price += _COVERED * _overlaps(candidates, np.concatenate([fixed, boxes[others]])).sum(axis=1)
            price += _MISTAKEN * _mistaken(candidates, points[i], np.delete(points, i, axis=0))
            price += _CROSSED * _crossings(points[i], candidates, points[others], boxes[others])
            boxes[i], placed[i] = candidates[int(price.argmin())], True
        if (boxes == before).all():
            break
    return boxes


def leader_end(point: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 2) where a line from a point (..., 2) meets a name's box (..., 4): its nearest spot."""
    return np.clip(point, box[..., :2], box[..., 2:])


def _candidates(
    point: NDArray[np.float64], size: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(k, 4) boxes around a point, and (k,) their price: the distance, a little more where unusual."""
    direction = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    # the ellipse through the middles of a box that touches the circle
    centres = point + (np.array(_RADII)[:, None, None] + size / 2) * direction
    # to the right, then above, are where a reader looks first
    taste = 1.5 * (1 - direction[:, 0]) + 0.5 * (1 - direction[:, 1])
    price = np.add.outer(np.array(_RADII), taste).ravel()
    centres = centres.reshape(-1, 2)
    return np.concatenate([centres - size / 2, centres + size / 2], axis=1), price


def _outside(boxes: NDArray[np.float64], bounds: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    """(k,) whether boxes (k, 4) leave the bounds."""
    left, bottom, right, top = bounds
    return np.asarray(
        (boxes[:, 0] < left) | (boxes[:, 1] < bottom) | (boxes[:, 2] > right) | (boxes[:, 3] > top)
    )


def _overlaps(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(k, m) whether boxes (k, 4) and (m, 4) share any area."""
    a, b = boxes[:, None], others[None]
    return np.asarray(((a[..., :2] < b[..., 2:]) & (b[..., :2] < a[..., 2:])).all(axis=2))


def _mistaken(
    boxes: NDArray[np.float64], point: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(k,) whether another point, of (m, 2), is about as near to boxes (k, 4) as their own.

    A name is read as that of a point beside it rather than of one above or below at the same distance.
    """
    own = np.linalg.norm((leader_end(point, boxes) - point) * _UPRIGHT, axis=1)
    other = np.linalg.norm((leader_end(others, boxes[:, None]) - others) * _UPRIGHT, axis=2)
    return np.asarray((other < 1.5 * own[:, None]).any(axis=1))


def _crossings(
    point: NDArray[np.float64],
    candidates: NDArray[np.float64],
    points: NDArray[np.float64],
    boxes: NDArray[np.float64],
) -> NDArray[np.int64]:
    """(k,) names, points and lines of others that the line to each candidate crosses, and the reverse."""
    ends = leader_end(point, candidates)
    starts = np.broadcast_to(point, ends.shape)
    other_ends = leader_end(points, boxes)
    lines = _segments_cross(starts, ends, points, other_ends)
    through = _segment_meets_box(starts, ends, boxes) | _segment_meets_box(points, other_ends, candidates).T
    spots = np.concatenate([points - _SPOT, points + _SPOT], axis=1)
    over = _segment_meets_box(starts, ends, spots)
    return np.asarray((lines | through | over).sum(axis=1))


def _segments_cross(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], d: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(k, m) whether segments a-b, (k, 2) each, cross segments c-d, (m, 2) each."""

    def side(p: NDArray[np.float64], q: NDArray[np.float64], r: NDArray[np.float64]) -> NDArray[np.float64]:
        one, two = q - p, r - p
        return np.asarray(one[..., 0] * two[..., 1] - one[..., 1] * two[..., 0])

    a, b, c, d = a[:, None], b[:, None], c[None], d[None]
    return np.asarray((side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0))


def _segment_meets_box(
    a: NDArray[np.float64], b: NDArray[np.float64], boxes: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(k, m) whether segments a-b, (k, 2) each, pass through boxes (m, 4); Liang and Barsky's clipping."""
    start, along = a[:, None], (b - a)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = (boxes[None, :, :2] - start) / along, (boxes[None, :, 2:] - start) / along
    enter, leave = np.minimum(low, high), np.maximum(low, high)
    still = np.broadcast_to(along == 0, enter.shape)
    inside = (boxes[None, :, :2] < start) & (start < boxes[None, :, 2:])
    enter = np.where(still, np.where(inside, -np.inf, np.inf), enter)
    leave = np.where(still, np.where(inside, np.inf, -np.inf), leave)
    return np.asarray(np.maximum(enter.max(axis=2), 0) < np.minimum(leave.min(axis=2), 1))
