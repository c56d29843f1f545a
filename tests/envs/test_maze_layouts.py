"""Mazes drawn in lockstep against mazes carved one by one; two parts; distances by a queue."""

import math
from collections import Counter, defaultdict, deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metarl.checks import InputError
from metarl.envs.maze_drawing import Part, carve, draw_cells, draw_layouts, symmetries, take_out
from metarl.envs.maze_layouts import (
    SIDE,
    distances,
    fault_in_layout,
    in_test_part,
    refuse_faulty_cells,
    refuse_faulty_layouts,
)
from metarl.seeding import Streams

STREAMS = Streams(3, ("mazes",))
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
SIDES = (5, 7, 9, 15, 25, 29)
PARTS: tuple[Part, Part] = ("train", "test")
PINNED = "100110011101000110110001"
Room = tuple[int, int]


def layout(text: str) -> Tensor:
    return torch.tensor([[float(letter == "#") for letter in row] for row in text.split()])


ROOM = layout("#####  #...#  #.#.#  #...#  #####")
APART = layout("#######  #.#...#  #.#.#.#  #.#...#  #.#####  #.....#  #######")


def carved(number: int, side: int) -> Tensor:
    """Perfect mazes of both parts."""
    return carve(STREAMS.uniform("maze", number, (2 * ((side - 1) // 2) ** 2 - 1,)), side)


def rows_of(walls: Tensor) -> set[bytes]:
    """Layouts as things that can be in a set."""
    return {one.tobytes() for one in walls.to(torch.uint8).numpy()}


def queue_distances(walls: Tensor, goal: Room) -> Tensor:
    moves = torch.full(walls.shape, math.inf)
    if walls[goal] == 0:
        moves[goal] = 0
    waiting = deque([goal] if walls[goal] == 0 else [])
    while waiting:
        row, column = waiting.popleft()
        for down, across in MOVES:
            cell = (row + down, column + across)
            if walls[cell] == 0 and math.isinf(moves[cell]):
                moves[cell] = moves[row, column] + 1
                waiting.append(cell)
    return moves


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


def test_the_part_is_a_hash_of_all_walls() -> None:
    """Every cell counts, half of all layouts are of each part, and the bits are pinned."""
    walls = (STREAMS.uniform("any walls", 4000, (9, 9)) < 0.5).float()
    part = in_test_part(walls)
    assert abs(part.double().mean() - 0.5) < 0.03
    for cell in range(81):
        turned = walls[:200].clone()
        turned.view(200, 81)[:, cell] = 1 - turned.view(200, 81)[:, cell]
        assert abs((in_test_part(turned) != part[:200]).double().mean() - 0.5) < 0.2
    assert torch.equal(in_test_part(walls.view(40, 100, 9, 9)), part.view(40, 100))
    assert torch.equal(in_test_part(walls.to(torch.uint8)), part)
    assert "".join(str(int(bit)) for bit in part[:24]) == PINNED


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


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 14), st.floats(0.0, 0.7))
def test_distances_are_those_of_a_queue(seed: int, side: int, density: float) -> None:
    streams = Streams(seed)
    walls = (streams.uniform("walls", 6, (side, side)) < density).float()
    walls[:, (0, -1)] = walls[:, :, (0, -1)] = 1.0
    goal = (streams.uniform("goal", 6, (2,)) * side).floor()
    found = distances(walls, goal)
    assert found.dtype == torch.float32
    for one, cell, moves in zip(walls, goal.long().tolist(), found, strict=True):
        assert torch.equal(moves, queue_distances(one, (cell[0], cell[1])))


def test_distances_by_hand() -> None:
    inf = math.inf
    moves = distances(ROOM[None], torch.tensor([[1.0, 3.0]]))[0, 1:-1, 1:-1]
    assert moves.tolist() == [[2, 1, 0], [3, inf, 1], [4, 3, 2]]
    walls = torch.stack((APART, APART))
    far, wall = distances(walls, torch.tensor([[5.0, 5.0], [1.0, 2.0]]))
    assert far[1].tolist() == [inf, 8, inf, inf, inf, inf, inf]
    assert torch.isinf(wall).all()


def test_candidates_are_drawn_with_equal_chances() -> None:
    candidates = torch.zeros(3, 5, 5, dtype=torch.bool)
    candidates[0, 2, 3] = True
    candidates[1] = candidates[2] = ROOM == 0
    edges = torch.tensor([0.7, 0.0, 1 - 2.0**-24])
    assert draw_cells(candidates, edges).tolist() == [[2, 3], [1, 1], [3, 3]]
    every = draw_cells(candidates[1:2].expand(800, -1, -1), torch.arange(800) / 800)
    cells, number = torch.unique(every, dim=0, return_counts=True)
    assert (len(cells), set(number.tolist())) == (8, {100})


@pytest.mark.parametrize(
    ("walls", "message"),
    [
        (ROOM[:4], r"square maze.*\[4, 5\]"),
        (ROOM[None], r"square maze.*\[1, 5, 5\]"),
        (torch.ones(6, 6), "odd side, at least 5; this one's is 6"),
        (torch.ones(3, 3), "odd side, at least 5; this one's is 3"),
        (ROOM * 0.5, r"0 \(free\) and 1 \(wall\); this one has 0.5"),
        (ROOM.masked_fill(ROOM == 0, math.nan), "has nan"),
        (layout("#.###  #...#  #.#.#  #...#  ####."), "outer ring is wall; this one's has 2 free"),
        (torch.ones(5, 5), "at least two free cells"),
        (ROOM, None),
        (APART, None),
    ],
)
def test_faults_in_layouts(walls: Tensor, message: str | None) -> None:
    found = fault_in_layout(walls)
    if message is None:
        assert found is None
    else:
        with pytest.raises(ValueError, match=message):
            raise ValueError(found)


def test_a_faulty_layout_among_sound_ones_is_named() -> None:
    for walls, text in (
        (ROOM * 0.5, r"0 \(free\) and 1 \(wall\); this one has 0.5"),
        (ROOM.masked_fill(ROOM == 0, math.nan), "has nan"),
        (layout("#.###  #...#  #.#.#  #...#  ####."), "outer ring is wall; this one's has 2 free"),
        (torch.ones(5, 5), "at least two free cells"),
    ):
        with pytest.raises(InputError, match=rf"^Mazes: walls of task 2 must be a maze.*{text}"):
            refuse_faulty_layouts("Mazes", torch.stack((ROOM, ROOM, walls, walls, ROOM)))
    for walls, text in ((torch.ones(3, 6, 6), "odd side.*is 6"), (torch.ones(2, 5, 7), "square")):
        with pytest.raises(InputError, match=f"^Mazes: walls of task 0 must be a .*{text}"):
            refuse_faulty_layouts("Mazes", walls)
    refuse_faulty_layouts("Mazes", torch.stack((ROOM, ROOM)))


def test_all_layouts_at_once_are_judged_as_one_by_one() -> None:
    walls = torch.cat((carved(60, 7), ROOM.new_ones(20, 7, 7)))
    draws = STREAMS.uniform("spoiled", len(walls), (2, 3))
    cells = (7 * draws[:, 1, :2]).long()
    for one, place, (kind, *_) in zip(walls, cells, draws[:, 0].tolist(), strict=True):
        one[place[0], place[1]] = 0.0 if kind < 0.6 else 2.0 if kind < 0.7 else 1.0
    sound = [fault_in_layout(one) is None for one in walls]
    assert 10 < sum(sound) < 70
    for one, fine in zip(walls, sound, strict=True):
        if fine:
            refuse_faulty_layouts("Mazes", one[None])
        else:
            with pytest.raises(InputError, match="walls of task 0 must be a maze"):
                refuse_faulty_layouts("Mazes", one[None])
    with pytest.raises(InputError, match=f"walls of task {sound.index(False)} must be"):
        refuse_faulty_layouts("Mazes", walls)


@pytest.mark.parametrize(
    ("start", "goal", "message"),
    [
        ((1, 1), (5, 5), None),
        ((1, 2), (5, 5), r"start of task 1 must be a free cell of its maze, \(1, 2\) is a wall"),
        ((1, 1), (0, 5), r"goal of task 1 must be a free cell of its maze, \(0, 5\) is a wall"),
        ((1, 1), (1, 7), r"goal of task 1 must be a cell of its maze of side 7, got \(1, 7\)"),
        ((-1, 1), (1, 1), r"start of task 1 must be a cell of its maze of side 7, got \(-1, 1\)"),
        ((1.5, 1), (1, 1), r"start of task 1 must be a cell of its maze .*, got \(1.5, 1\)"),
        ((1, 1), (1, math.nan), r"goal of task 1 must be a cell of its maze .*, got \(1, nan\)"),
        ((1, 1), (1, 1), r"start and goal of task 1 must differ, both are \(1, 1\)"),
        (
            (1, 1),
            (1, 3),
            r"goal of task 1 must be reachable from its start \(1, 1\), got \(1, 3\)",
        ),
    ],
)
def test_faults_in_cells(start: Room, goal: Room, message: str | None) -> None:
    cells = {"start": torch.tensor([(1, 1), start]), "goal": torch.tensor([(5, 5), goal])}
    walls = torch.stack((APART, APART))
    if message is None:
        refuse_faulty_cells("Mazes", walls, cells)
        return
    with pytest.raises(InputError, match=f"^Mazes: {message}$"):
        refuse_faulty_cells("Mazes", walls, cells)


@pytest.mark.parametrize(("side", "share"), [(8, 0.0), (3, 0.0), (9, -0.1), (9, 1.1)])
def test_what_cannot_be_drawn_is_refused(side: int, share: float) -> None:
    with pytest.raises(InputError, match="must be"):
        draw_layouts(2, STREAMS, side, share, "train")


def test_sides_of_configs() -> None:
    assert all(SIDE.accepts(side) for side in (5, 9, 25))
    assert not any(SIDE.accepts(side) for side in (3, 8, 27, -5, 9.0, True, "9", None))
