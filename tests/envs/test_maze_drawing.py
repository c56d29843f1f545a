"""Mazes drawn in lockstep against mazes carved one by one; both parts; chances enumerated."""

import math
from collections import Counter, defaultdict

import pytest
import torch
from torch import Tensor

from metarl.checks import InputError
from metarl.envs.maze_drawing import Part, carve, draw_cells, draw_layouts, symmetries, take_out
from metarl.envs.maze_layouts import fault_in_layout, in_test_part
from tests.envs.mazes import MOVES, PARTS, ROOM, STREAMS, Room, carved, queue_distances, rows_of

SIDES = (5, 7, 9, 15, 25, 29)


def carve_alone(noise: list[float], side: int) -> Tensor:
    """One maze with a stack, from the noise that the lockstep search uses."""
    rooms = (side - 1) // 2
    walls = torch.ones(side, side)
    first = int(noise[0] * rooms**2)
    stack = [(first // rooms, first % rooms)]
    seen = set(stack)
    walls[2 * stack[0][0] + 1, 2 * stack[0][1] + 1] = 0
    for number in noise[1:]:
        if not stack:
            break
        row, column = stack[-1]
        near = [(row + down, column + across) for down, across in MOVES]
        near = [room for room in near if min(room) >= 0 and max(room) < rooms and room not in seen]
        if not near:
            stack.pop()
            continue
        there = near[int(number * 12) % len(near)]
        walls[row + there[0] + 1, column + there[1] + 1] = 0
        walls[2 * there[0] + 1, 2 * there[1] + 1] = 0
        seen.add(there)
        stack.append(there)
    return walls


def tree_odds(rooms: int) -> dict[frozenset[tuple[Room, Room]], float]:
    """The probability of every spanning tree under randomised depth-first search, enumerated."""
    odds: defaultdict[frozenset[tuple[Room, Room]], float] = defaultdict(float)

    def search(stack: list[Room], edges: list[tuple[Room, Room]], chance: float) -> None:
        if len(edges) == rooms**2 - 1:
            odds[frozenset(edges)] += chance
            return
        row, column = stack[-1]
        seen = {room for edge in edges for room in edge} | set(stack)
        near = [(row + down, column + across) for down, across in MOVES]
        near = [room for room in near if min(room) >= 0 and max(room) < rooms and room not in seen]
        if not near:
            search(stack[:-1], edges, chance)
        for there in near:
            edge = (min(stack[-1], there), max(stack[-1], there))
            search([*stack, there], [*edges, edge], chance / len(near))

    for first in range(rooms**2):
        search([(first // rooms, first % rooms)], [], 1 / rooms**2)
    return dict(odds)


@pytest.mark.parametrize("side", SIDES)
def test_a_perfect_maze_is_a_tree_of_all_rooms(side: int) -> None:
    walls = torch.cat([draw_layouts(20, STREAMS, side, 0.0, part) for part in PARTS])
    assert (walls.shape, walls.dtype) == ((40, side, side), torch.float32)
    rooms = ((side - 1) // 2) ** 2
    free = walls == 0
    assert free[:, 1::2, 1::2].all()
    assert not free[:, ::2, ::2].any()
    assert all(fault_in_layout(one) is None for one in walls)
    # As many links as cells less one, and all cells connected: there is no cycle.
    assert (free.flatten(1).sum(1) == 2 * rooms - 1).all()
    links = (free[:, 1:] & free[:, :-1]).sum((1, 2)) + (free[..., 1:] & free[..., :-1]).sum((1, 2))
    assert (links == 2 * rooms - 2).all()
    for one in walls:
        moves = queue_distances(one, (1, 1))
        assert torch.equal(torch.isfinite(moves), one == 0)


@pytest.mark.parametrize("side", [5, 7, 13, 25])
def test_lockstep_carves_what_a_stack_carves(side: int) -> None:
    noise = STREAMS.uniform("maze", 12, (2 * ((side - 1) // 2) ** 2 - 1,))
    for one, numbers in zip(carve(noise, side), noise.double().tolist(), strict=True):
        assert torch.equal(one, carve_alone(numbers, side))


def layout_odds(rooms: int) -> dict[bytes, float]:
    """The probability of every layout under randomised depth-first search."""
    odds = {}
    for tree, chance in tree_odds(rooms).items():
        walls = torch.ones(2 * rooms + 1, 2 * rooms + 1)
        walls[1::2, 1::2] = 0
        for one, other in tree:
            walls[one[0] + other[0] + 1, one[1] + other[1] + 1] = 0
        odds[rows_of(walls[None]).pop()] = chance
    return odds


def assert_as_frequent(walls: Tensor, odds: dict[bytes, float]) -> None:
    met = Counter(one.tobytes() for one in walls.to(torch.uint8).numpy())
    assert met.keys() <= odds.keys()
    assert sum(odds.values()) == pytest.approx(1.0)
    expected = {one: len(walls) * chance for one, chance in odds.items()}
    squares = sum((met[one] - mean) ** 2 / mean for one, mean in expected.items())
    freedom = len(odds) - 1
    assert abs(squares - freedom) < 4 * math.sqrt(2 * freedom)


def test_mazes_are_as_frequent_as_depth_first_search_makes_them() -> None:
    assert_as_frequent(carved(20_000, 7), layout_odds(3))


@pytest.mark.parametrize("part", PARTS)
def test_layouts_of_a_part_share_the_chances_of_their_images(part: Part) -> None:
    """Each of the 88 mazes of side 7 hands its odds to those of its images that are of the part."""
    odds: defaultdict[bytes, float] = defaultdict(float)
    for one, chance in layout_odds(3).items():
        walls = torch.frombuffer(bytearray(one), dtype=torch.uint8).view(1, 7, 7)
        images = symmetries(walls)[0]
        images = images[in_test_part(images) == (part == "test")]
        for image in images:
            odds[rows_of(image[None]).pop()] += chance / len(images)
    assert len(odds) == 44
    assert_as_frequent(draw_layouts(20_000, STREAMS, 7, 0.0, part), odds)


def test_how_many_mazes_there_are_and_of_which_part() -> None:
    """What ``maze_drawing`` says of perfect mazes, and each part has half of them."""
    for side, number, draws in ((5, 4, 40), (7, 88, 1000), (9, 3820, 20_000)):
        drawn = torch.unique(carved(draws, side), dim=0)
        images = torch.unique(symmetries(drawn).flatten(0, 1), dim=0)
        assert len(images) == number
        assert int(in_test_part(images).sum()) == number // 2
    assert len(tree_odds(2)) == 4
    assert len(tree_odds(3)) == 88


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("side", range(5, 26, 2))
def test_both_parts_have_layouts_of_every_side(side: int, share: float) -> None:
    train, test = (draw_layouts(300, STREAMS, side, share, part) for part in PARTS)
    if math.floor(share * ((side - 3) // 2) ** 2 + 0.5) == ((side - 3) // 2) ** 2:
        assert rows_of(train) == rows_of(test)  # a hall: there is one
        assert len(rows_of(train)) == 1
        return
    assert not in_test_part(train).any()
    assert in_test_part(test).all()
    assert min(len(rows_of(train)), len(rows_of(test))) >= (2 if side == 5 else 6)
    for one in torch.cat((train, test)):
        assert fault_in_layout(one) is None


def test_few_layouts_are_left_where_all_but_one_wall_go() -> None:
    for part in PARTS:
        walls = draw_layouts(300, STREAMS, 7, 0.75, part)
        assert (walls[:, 1:-1, 1:-1].sum((1, 2)) == 4 + 1).all()
        assert 2 <= len(rows_of(walls)) <= 10


def test_images_are_the_eight_of_a_square() -> None:
    walls = carved(20, 9)
    images = symmetries(walls)
    assert torch.equal(images[:, 0], walls)
    assert all(len(rows_of(own)) in (4, 8) for own in images)
    # Turning or mirroring gives the same set again.
    for other in (walls.rot90(1, (1, 2)), walls.mT, walls.flip(1)):
        for own, others in zip(images, symmetries(other), strict=True):
            assert rows_of(own) == rows_of(others)


def test_mazes_differ_and_depend_on_their_slot_alone() -> None:
    walls = draw_layouts(300, STREAMS, 9, 0.1, "train")
    assert len(torch.unique(walls.flatten(1), dim=0)) > 280
    assert not torch.equal(walls, draw_layouts(300, STREAMS.at("other"), 9, 0.1, "train"))
    # Side 7 has the most mazes without an image in the part, which are drawn again.
    for side, share in ((9, 0.1), (7, 0.75)):
        for part in PARTS:
            walls = draw_layouts(300, STREAMS, side, share, part)
            block = draw_layouts(200, STREAMS.from_task(100), side, share, part)
            assert torch.equal(walls[100:], block)
            alone = [draw_layouts(1, STREAMS.from_task(k), side, share, part) for k in range(60)]
            assert torch.equal(walls[:60], torch.cat(alone))


@pytest.mark.parametrize(("share", "openings"), [(0.0, 0), (0.1, 3), (0.5, 13), (1.0, 25)])
def test_a_share_of_the_walls_between_rooms_is_taken_out(share: float, openings: int) -> None:
    perfect = carved(200, 13)
    gone = perfect - take_out(perfect, STREAMS.uniform("openings", 200, (60,)), openings)
    drawn = draw_layouts(200, STREAMS, 13, share, "train")
    assert ((drawn[:, 1:-1, 1:-1] == 0).sum((1, 2)) == 71 + openings).all()
    opened = perfect - gone
    assert set(torch.unique(gone).tolist()) <= {0.0, 1.0}
    assert (gone.sum((1, 2)) == openings).all()
    assert all(fault_in_layout(one) is None for one in opened)
    assert (opened[:, 2:-1:2, 2:-1:2] == 1).all()
    if share == 1.0:
        assert (opened[:, 1:-1, 1:-1].sum((1, 2)) == 25).all()


def test_every_wall_is_as_likely_to_be_taken_out() -> None:
    perfect = carved(8000, 7)
    opened = take_out(perfect, STREAMS.uniform("openings", 8000, (12,)), 1)
    between = torch.zeros(7, 7, dtype=torch.bool)
    between[1:-1, 1:-1] = (torch.arange(5)[:, None] + torch.arange(5)) % 2 == 1
    share = (perfect - opened).sum(0)[between] / perfect.sum(0)[between]
    assert ((share - 0.25).abs() < 0.04).all()


def test_candidates_are_drawn_with_equal_chances() -> None:
    candidates = torch.zeros(3, 5, 5, dtype=torch.bool)
    candidates[0, 2, 3] = True
    candidates[1] = candidates[2] = ROOM == 0
    edges = torch.tensor([0.7, 0.0, 1 - 2.0**-24])
    assert draw_cells(candidates, edges).tolist() == [[2, 3], [1, 1], [3, 3]]
    every = draw_cells(candidates[1:2].expand(800, -1, -1), torch.arange(800) / 800)
    cells, number = torch.unique(every, dim=0, return_counts=True)
    assert (len(cells), set(number.tolist())) == (8, {100})


@pytest.mark.parametrize(("side", "share"), [(8, 0.0), (3, 0.0), (9, -0.1), (9, 1.1)])
def test_what_cannot_be_drawn_is_refused(side: int, share: float) -> None:
    with pytest.raises(InputError, match="must be"):
        draw_layouts(2, STREAMS, side, share, "train")
