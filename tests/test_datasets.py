"""Data sets: puzzles are right by a solver of the test's own, parts share nothing, files that lie are refused."""

import io
import itertools
import pickle
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

import ctsa
from ctsa import datasets
from ctsa.datasets import canonical, puzzles
from ctsa.datasets.boards import Board

SIZES = [((2, 2), (6, 10), 60), ((2, 2), (4, 5), 60), ((2, 3), (12, 16), 20), ((3, 2), (14, 22), 20)]


def lines_of(boxes):
    """All rows, columns and boxes, written down cell by cell."""
    r, c = boxes
    size = r * c
    rows = [[(i, j) for j in range(size)] for i in range(size)]
    columns = [[(i, j) for i in range(size)] for j in range(size)]
    corners = itertools.product(range(0, size, r), range(0, size, c))
    inner = [[(i + a, j + b) for a in range(r) for b in range(c)] for i, j in corners]
    return [[i * size + j for i, j in line] for line in rows + columns + inner]


def brute(board, boxes):
    """All solutions (digits 1 ... N), cell by cell in order: no bits, no heuristics, no cleverness."""
    size = boxes[0] * boxes[1]
    near = [sorted({k for line in lines_of(boxes) if i in line for k in line} - {i}) for i in range(size**2)]

    def fill(board, i):
        if i == len(board):
            yield tuple(board)
        elif board[i]:
            yield from fill(board, i + 1)
        else:
            for digit in set(range(1, size + 1)) - {board[k] for k in near[i]}:
                yield from fill([*board[:i], digit, *board[i + 1 :]], i + 1)

    clash = any(board[i] and board[i] == board[k] for i in range(size**2) for k in near[i])
    return [] if clash else list(fill(list(board), 0))


def renamed(row):
    """A board with digits in the order of their appearance: the same for all its relabellings."""
    names = {0: 0}
    return tuple(names.setdefault(int(digit), len(names)) for digit in row)


# ------------------------------------------------------------------------------------------------------------- solutions
def test_there_are_288_boards_of_4_x_4():
    every = datasets.solutions(np.zeros(16, int), (2, 2), limit=1000)
    assert every.shape == (288, 16) and len({tuple(row) for row in every}) == 288
    assert {tuple(row + 1) for row in every} == set(brute([0] * 16, (2, 2)))
    assert len({renamed(row + 1) for row in every}) == 12


def test_all_boards_of_6_x_6_that_begin_alike():
    top = [1, 2, 3, 4, 5, 6, 4, 5, 6, 1, 2, 3, 2, 3, 1, 5, 6, 4, *[0] * 18]
    assert {tuple(row + 1) for row in datasets.solutions(top, (2, 3), limit=10**4)} == set(brute(top, (2, 3)))


@settings(max_examples=60)
@given(arrays(np.int64, 16, elements=st.integers(0, 4)), st.floats(0.4, 1.0), st.integers(0, 99))
def test_solutions_are_those_of_brute_force(board, share, seed):
    board = np.where(np.random.default_rng(seed).random(16) < share, 0, board)
    found = datasets.solutions(board.reshape(4, 4), (2, 2), limit=1000)
    assert {tuple(row + 1) for row in found} == set(brute(board.tolist(), (2, 2)))


def test_limits_and_contradictions(monkeypatch):
    assert len(datasets.solutions(np.zeros(81, int), limit=3)) == 3
    assert datasets.solutions([1, 1, *[0] * 14], (2, 2)).shape == (0, 16)
    monkeypatch.setattr(ctsa.datasets.boards, "_NODES", 80)
    with pytest.raises(ValueError, match="board is not decided after 80 steps"):
        datasets.solutions(np.zeros(81, int))


# --------------------------------------------------------------------------------------------------------------- sudoku
@pytest.mark.parametrize("boxes, clues, count", SIZES)
def test_puzzles_have_one_solution(boxes, clues, count):
    data = datasets.sudoku(boxes, count, clues, seed=3)
    size = boxes[0] * boxes[1]
    assert data.inputs.shape == data.targets.shape == (count, size**2)
    assert (data.vocabulary, data.classes, data.features, data.blank) == (size + 1, size, None, 0)
    assert data.name == f"sudoku-{size}x{size}"
    for puzzle, solution in zip(data.inputs, data.targets):
        assert brute(puzzle.tolist(), boxes) == [tuple(solution + 1)]
    given_count = (data.inputs > 0).sum(1)
    assert clues[0] <= given_count.min() and given_count.max() <= clues[1]
    assert len(set(given_count)) > 1
    assert len({renamed(row) for row in data.inputs}) == count
    assert np.array_equal(data.scored, data.inputs == 0) and np.array_equal(data.given, ~data.scored)


def test_puzzles_of_9_x_9_have_one_solution():
    data = datasets.sudoku((3, 3), 20, (28, 34))
    for puzzle, solution in zip(data.inputs, data.targets):
        assert np.array_equal(datasets.solutions(puzzle), solution[None])
        for line in lines_of((3, 3)):
            assert sorted(solution[line]) == list(range(9))
    assert (data.given.sum(1) >= 28).all() and (data.given.sum(1) <= 34).all()


@pytest.mark.parametrize(
    "boxes, clues", [((2, 4), (25, 35)), ((4, 2), (25, 35)), ((3, 4), (70, 90)), ((4, 4), (130, 160))]
)
def test_other_boards(boxes, clues):
    data = datasets.sudoku(boxes, 3, clues)
    assert Board(boxes).solves(data.targets, data.inputs).all()
    for puzzle in data.inputs:
        assert len(datasets.solutions(puzzle, boxes)) == 1


def test_masks_are_rows_columns_boxes():
    for boxes in ((2, 2), (2, 3), (3, 2), (3, 3)):
        size = boxes[0] * boxes[1]
        want = np.zeros((3, size**2, size**2), bool)
        for i, line in enumerate(lines_of(boxes)):
            want[i // size][np.ix_(line, line)] = True
        assert np.array_equal(Board(boxes).masks, want)
    field = ctsa.torch.SelfAttention(mask=datasets.sudoku(count=1).masks, value=np.stack([np.eye(3)] * 3))
    assert ctsa.iterate(ctsa.EulerLayer(field, 0.1), ctsa.random_tokens(16, 3), 2).xs.shape == (3, 16, 3)


def test_what_solves():
    board, data = Board((2, 2)), datasets.sudoku(count=2)
    wrong = data.targets.copy()
    wrong[1, [0, 1]] = wrong[1, [1, 0]]
    assert board.solves(wrong, 0 * data.inputs).tolist() == [True, False]
    other = np.roll(data.targets, 1, axis=0)  # solutions, but not of these puzzles
    assert not board.solves(other, data.inputs).all()


def test_the_same_seed_gives_the_same_puzzles():
    one, two = datasets.sudoku(count=40), datasets.sudoku(count=60)
    assert np.array_equal(one.inputs, two.inputs[:40]) and np.array_equal(one.groups, two.groups[:40])
    assert not np.array_equal(one.inputs, datasets.sudoku(count=40, seed=1).inputs)


def test_puzzles_do_not_change_from_release_to_release():
    """Written down once: what was trained on one machine is tested on another. Only seeds are random, so this is exact."""
    data = datasets.sudoku(count=1, clues=(4, 4))
    assert data.inputs[0].tolist() == [0, 0, 4, 0, 0, 0, 1, 0, 0, 3, 0, 0, 0, 4, 0, 0]
    assert int(canonical.hashed(np.array([[1, 2, 3]]))[0]) == hash_by_hand([1, 2, 3])


def hash_by_hand(row):
    """Integers of Python, modulo 2^64."""

    def mixed(x):
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    return mixed(sum(x * (mixed(i) | 1) for i, x in enumerate(row)) % 2**64)


IN_VAIN = [
    (dict(boxes=(3, 3), clues=(17, 17), count=1), "not found, only 0 from"),
    (dict(boxes=(4, 4), clues=(20, 20), count=1), "not found, only 0 from"),
    (dict(clues=(4, 4), count=1073), "only 1072 from"),
]


@pytest.mark.parametrize(
    "arguments, match",
    [
        (dict(clues=(3, 6)), r"clues must be within 4 \.\.\. 16, what boxes=\(2, 2\) allow, got \(3, 6\)"),
        (dict(boxes=(2, 3), clues=(7, 9)), "within 8 ... 36"),
        (dict(boxes=(3, 3), clues=(16, 20)), "within 17 ... 81"),
        (dict(clues=(6, 17)), "within 4 ... 16"),
        (dict(clues=(10, 6)), "exchange them"),
        (dict(clues=(16, 16), count=13), "there are not even 13"),
        (dict(boxes=(1, 4)), r"boxes\[0\] must be an integer of at least 2"),
        (dict(boxes=(5, 5)), "boxes must have at most 16 cells"),
        (dict(boxes=(3, 3), clues=(30, 40), symmetries=True), "3359232 of them"),
    ],
)
def test_what_cannot_be_made(arguments, match):
    with pytest.raises(ValueError, match=match):
        datasets.sudoku(**arguments)


@pytest.mark.parametrize("arguments, match", IN_VAIN[:2])
def test_what_is_not_found(arguments, match, monkeypatch):
    monkeypatch.setattr(puzzles, "_PATIENCE", tuple(count // 10 for count in puzzles._PATIENCE))
    with pytest.raises(ValueError, match=match):
        datasets.sudoku(**arguments)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("arguments, match", IN_VAIN)
def test_what_is_not_found_with_all_patience(arguments, match):
    with pytest.raises(ValueError, match=match):
        datasets.sudoku(**arguments)


def test_all_puzzles_of_four_clues():
    """1072 up to relabelling: counted apart, by brute force over 12 boards and all places of four clues."""
    unique = {renamed(row) for row in datasets.sudoku(count=1072, clues=(4, 4)).inputs}
    boards = {renamed(row) for row in brute([0] * 16, (2, 2))}
    every = np.array(brute([0] * 16, (2, 2)))
    want = set()
    for board in boards:
        for places in itertools.combinations(range(16), 4):
            if ((every[:, places] == np.array(board)[list(places)]).all(1)).sum() == 1:
                want.add(renamed([digit if i in places else 0 for i, digit in enumerate(board)]))
    assert unique == want and len(want) == 1072


# ----------------------------------------------------------------------------------------------------- relabelling, groups
@given(st.integers(0, 2**32))
def test_relabelling(seed):
    data = datasets.sudoku(count=8, clues=(5, 9))
    other = data.relabel(np.random.default_rng(seed))
    assert np.array_equal(other.groups, canonical.groups(other.inputs, (2, 2)))
    assert Board((2, 2)).solves(other.targets, other.inputs).all()
    assert np.array_equal(other.given, data.given)
    for a, b, c, d in zip(data.inputs, other.inputs, data.targets, other.targets):
        assert renamed(a) == renamed(b) and renamed(c + 1) == renamed(d + 1)
    again = data.relabel(seed)
    assert np.array_equal(again.inputs, other.inputs)


def test_relabelling_uses_every_name_alike():
    data = datasets.sudoku(count=1)[np.zeros(24_000, int)]
    rng = np.random.default_rng(0)
    names, counts = np.unique(data.relabel(rng).targets[:, :4], axis=0, return_counts=True)
    assert len(names) == 24 and abs(counts - 1000).max() < 150  # 4.7 standard deviations
    assert not np.array_equal(data.relabel(rng).inputs, data.relabel(rng).inputs)


def test_relabelling_others_is_nothing():
    for data in (
        datasets.addition(count=5),
        datasets.Dataset(name="x", inputs=[[[1.0]]], targets=[0], classes=1, features=1),
    ):
        assert data.relabel(0) is data


@pytest.mark.parametrize("boxes, order", [((2, 2), 128), ((2, 3), 3456), ((3, 2), 3456)])
def test_symmetries_keep_rows_columns_and_boxes(boxes, order):
    every = canonical.symmetries(boxes)
    assert every.shape == (order, (boxes[0] * boxes[1]) ** 2)
    assert len({tuple(g) for g in every}) == order
    lines = {frozenset(line) for line in lines_of(boxes)}
    for g in every[:: order // 64]:
        assert {frozenset(g[line].tolist()) for line in lines_of(boxes)} == lines


def test_symmetries_are_a_group():
    every = canonical.symmetries((2, 2))
    have = {tuple(g) for g in every}
    assert all(tuple(a[b]) in have for a in every[::5] for b in every)


@given(st.integers(0, 127), st.integers(0, 49), st.integers(0, 2**32))
def test_groups_by_symmetries(which, row, seed):
    data = datasets.sudoku(count=50, symmetries=True)
    image = data[row].relabel(seed).inputs[:, canonical.symmetries((2, 2))[which]]
    assert canonical.groups(image, (2, 2), True)[0] == data.groups[row]


def test_two_boards_of_4_x_4_up_to_everything():
    """Known: all 288 are images of two."""
    every = datasets.solutions(np.zeros(16, int), (2, 2), limit=1000) + 1
    assert len(set(canonical.groups(every, (2, 2), True))) == 2
    assert len(set(canonical.groups(every, (2, 2)))) == 12


# -------------------------------------------------------------------------------------------------------------- the parts
@pytest.mark.parametrize("symmetries", [False, True])
def test_no_puzzle_of_the_test_is_trained_on(symmetries):
    parts = datasets.sudoku_task(count=1500, ood_count=200, symmetries=symmetries)
    same = [{renamed(row) for row in part.inputs} for part in parts]
    assert all(not a & b for a, b in itertools.combinations(same, 2))
    assert sum(len(part) for part in parts[:3]) == 1500 and len(parts.ood) == 200
    assert all(abs(len(part) - 150) < 60 for part in parts[1:3])
    assert [p.groups.dtype for p in parts] == [np.uint64] * 4
    if symmetries:
        every = canonical.symmetries((2, 2))
        test = {renamed(row[g]) for row in parts.test.inputs for g in every}
        assert not test & same[0]


def test_no_seed_trains_on_the_test_of_another():
    test = {renamed(row) for row in datasets.sudoku_task(count=3000, seed=0).test.inputs}
    train = {renamed(row) for row in datasets.sudoku_task(count=3000, seed=1).train.inputs}
    assert not test & train
    every = {renamed(row) for row in datasets.sudoku(count=3000, seed=1).inputs}
    assert test & every  # it was not chance


def test_harder_puzzles_of_9_x_9_have_other_boards():
    parts = datasets.sudoku_task((3, 3), 100, (36, 50), (28, 34), 30)
    boards = [{renamed(row + 1) for row in part.targets} for part in parts]
    assert not boards[3] & (boards[0] | boards[1] | boards[2])


def test_shares_are_met():
    data = datasets.addition(count=20_000)
    parts = datasets.split(data, validation=0.25, test=0.05)
    assert abs(len(parts.validation) - 5000) < 250 and abs(len(parts.test) - 1000) < 130  # four standard deviations
    other = datasets.split(data, validation=0.25, test=0.05, seed=1)
    assert abs(len(set(other.test.groups) & set(parts.test.groups)) - 50) < 30
    only = datasets.split(data, 0, 0)
    assert len(only.train) == 20_000 and only.validation is only.test is only.ood is None


def test_larger_data_sets_keep_the_test():
    small, large = (datasets.split(datasets.sudoku(count=k)) for k in (300, 900))
    assert np.array_equal(small.test.inputs, large.test.inputs[: len(small.test)])


def test_equal_inputs_stay_together():
    x = np.random.default_rng(0).normal(size=(40, 2, 3))
    data = datasets.Dataset(name="x", inputs=np.repeat(x, 5, axis=0), targets=np.zeros(200, int), classes=1, features=3)
    parts = datasets.split(data, 0.2, 0.2)
    rows = [{row.tobytes() for row in part.inputs} for part in parts[:3]]
    assert all(not a & b for a, b in itertools.combinations(rows, 2)) and sum(map(len, rows)) == 40


def test_parts_that_would_be_empty_or_overlap():
    with pytest.raises(ValueError, match="none falls into"):
        datasets.split(datasets.sudoku(count=3), validation=0.01)
    with pytest.raises(ValueError, match="below 1 together"):
        datasets.split(datasets.sudoku(count=3), 0.5, 0.5)
    with pytest.raises(ValueError, match=r"ood_clues=\(4, 6\) and clues=\(6, 10\) must not meet"):
        datasets.sudoku_task(ood_clues=(4, 6))
    with pytest.raises(ValueError, match=r"ood_carries=\(2, 3\) and carries=\(0, 4\) must not meet"):
        datasets.addition_task(carries=None, ood_carries=(2, 3))


# ------------------------------------------------------------------------------------------------------------- one class
def test_indexing():
    data = datasets.sudoku(count=12)
    assert len(data) == 12 and data.n == 16 and len(data[-1]) == 1
    for index in (slice(2, 9, 3), [3, 0], np.array([5, 5]), data.given.sum(1) > 7, np.arange(12) < 1):
        some = data[index]
        for key in ("inputs", "targets", "scored", "groups"):
            assert np.array_equal(getattr(some, key), getattr(data, key)[index])
        assert some.masks is data.masks and some.name == data.name and some.interchangeable
    for index in (12, "a", 0.5, [[0, 1]], [], slice(3, 3), np.zeros(12, bool), np.zeros(3, bool), None):
        with pytest.raises(IndexError, match="index"):
            data[index]
    assert [len(one) for one in data] == [1] * 12
    with pytest.raises(AttributeError):
        data.name = "other"


@pytest.mark.parametrize(
    "change, match",
    [
        (dict(vocabulary=None), "vocabulary .* or features"),
        (dict(features=2), "one of the two"),
        (dict(inputs=[[1, 2], [5, 0]]), r"inputs must be in 0 \.\.\. 2 \(vocabulary=3\), got 0 \.\.\. 5"),
        (dict(targets=[0, 1, 1]), r"targets must have shape \(2,\) or \(2, 2\), got \(3,\)"),
        (dict(targets=[[0, 2], [0, 0]]), r"targets must be in 0 \.\.\. 1 \(classes=2\)"),
        (dict(targets=[0, 1]), "scored must be .* None for those of samples"),
        (dict(scored=None), "scored must be given for targets of tokens"),
        (dict(scored=[[1, 1], [1, 1]]), "scored must be of type bool"),
        (dict(masks=np.ones((2, 2), bool)), r"masks must have shape \(k, 2, 2\), got \(2, 2\)"),
        (dict(groups=np.arange(2)), "groups must be of type uint64"),
        (dict(interchangeable=True, vocabulary=4), "classes of vocabulary - 1"),
    ],
)
def test_what_does_not_fit(change, match):
    good = dict(name="echo", inputs=[[1, 2], [2, 0]], targets=[[0, 1], [1, 1]], classes=2, vocabulary=3)
    good["scored"] = np.ones((2, 2), bool)
    datasets.Dataset(**good)
    with pytest.raises((TypeError, ValueError), match=match):
        datasets.Dataset(**good | change)


def test_given_tokens_say_their_targets():
    for data in (
        datasets.sudoku(count=9),
        datasets.addition(count=9),
        datasets.task("sudoku-6x6", count=40, ood_count=2).ood,
    ):
        assert np.array_equal(data.inputs[data.given], data.targets[data.given] + 1)
        assert data.vocabulary == data.classes + 1


# -------------------------------------------------------------------------------------------------------------- addition
def numbers(data, k, reverse=False):
    """The three numbers of each sample, read back from the targets."""
    write = (lambda row: row[::-1]) if reverse else (lambda row: row)
    spans = (slice(0, k), slice(k + 1, 2 * k + 1), slice(2 * k + 2, None))
    return [[int("".join(map(str, write(row[s])))) for s in spans] for row in data.targets]


def carried(a, b):
    """The number of carries, as at school."""
    count = carry = 0
    while a or b or carry:
        carry = int(a % 10 + b % 10 + carry > 9)
        count, a, b = count + carry, a // 10, b // 10
    return count


@pytest.mark.parametrize("k, reverse", [(1, False), (4, False), (4, True), (9, True)])
def test_sums(k, reverse):
    data = datasets.addition(k, 50, reverse=reverse)
    assert data.inputs.shape == (50, 3 * k + 3) and (data.vocabulary, data.classes) == (13, 12)
    triples = numbers(data, k, reverse)
    assert all(a + b == c for a, b, c in triples)
    assert len({frozenset(t[:2]) for t in triples}) == 50
    assert (data.inputs[:, k] == 11).all() and (data.inputs[:, 2 * k + 1] == 12).all()
    assert (data.inputs[:, 2 * k + 2 :] == 0).all() and (data.inputs[:, : 2 * k + 2] > 0).all()
    assert np.array_equal(data.scored, data.inputs == 0)


def test_carries_are_those_of_school():
    for low, high in ((0, 0), (1, 2), (4, 4)):
        found = {carried(a, b) for a, b, _ in numbers(datasets.addition(4, 300, (low, high)), 4)}
        assert found == set(range(low, high + 1))
    every = np.array(numbers(datasets.addition(4, 20_000), 4))
    assert abs(every[:, :2].mean() - 4999.5) < 60  # uniform: four standard deviations
    assert abs(np.mean([carried(a, b) for a, b, _ in every]) - (0.45 + 0.495 + 0.4995 + 0.49995)) < 0.04


def test_sums_are_split_with_their_mirror_images():
    parts = datasets.addition_task(2, 1500, (0, 0), (1, 2), 300)
    pairs = [{frozenset(t[:2]) for t in numbers(part, 2)} for part in parts]
    assert all(not a & b for a, b in itertools.combinations(pairs, 2))
    one, two = (datasets.addition_task(2, 1500, (0, 0), None, seed=s) for s in (0, 1))
    assert one.ood is None
    test, train = ({frozenset(t[:2]) for t in numbers(part, 2)} for part in (one.test, two.train))
    assert not test & train
    assert np.array_equal(one.train.inputs, datasets.addition_task(2, 1500, (0, 0), None).train.inputs)


def test_all_sums_of_one_digit():
    assert len(datasets.addition(1, 55)) == 55
    with pytest.raises(ValueError, match=r"count=56 sums with carries=\(0, 1\) were not found, only 55"):
        datasets.addition(1, 56)
    with pytest.raises(ValueError, match="carries must be within 0 ... 4, the digits"):
        datasets.addition(carries=(5, 6))
    with pytest.raises(ValueError, match="digits must be at most 9"):
        datasets.addition(digits=10)


# ---------------------------------------------------------------------------------------------------------------- digits
def test_digits():
    sklearn = pytest.importorskip("sklearn.datasets")
    bunch, data = sklearn.load_digits(), datasets.digits()
    assert (
        data.inputs.shape == (1797, 16, 4)
        and data.features == 4
        and data.vocabulary is data.scored is data.given is None
    )
    assert data.inputs.min() == 0 and data.inputs.max() == 1 and np.array_equal(data.targets, bunch.target)
    assert np.array_equal(16 * data.inputs[7, 6], bunch.images[7, 2:4, 4:6].ravel())  # row 1, column 2 of the patches
    assert datasets.digits(4).inputs.shape == (1797, 4, 16) and datasets.digits(8).inputs.shape == (1797, 1, 64)
    assert np.array_equal(datasets.digits(1).inputs[..., 0], bunch.data / 16)


def test_digits_in_parts():
    pytest.importorskip("sklearn.datasets")
    parts = datasets.digits_task(validation=0.2, test=0.1)
    rows = [{row.tobytes() for row in part.inputs} for part in parts[:3]]
    assert all(not a & b for a, b in itertools.combinations(rows, 2)) and sum(map(len, rows)) == 1797
    every = np.bincount(datasets.digits().targets)
    for part, share in zip(parts, (0.7, 0.2, 0.1)):
        assert abs(np.bincount(part.targets) - share * every).max() <= 1
    assert np.array_equal(datasets.digits_task(seed=0).test.inputs, datasets.digits_task().test.inputs)
    assert not np.array_equal(datasets.digits_task(seed=1).test.inputs, datasets.digits_task().test.inputs)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"the digits need scikit-learn: pip install 'ctsa\[datasets\]'"):
        datasets.digits()


# ----------------------------------------------------------------------------------------------------------------- names
@pytest.mark.parametrize("name", ["sudoku-4x4", "sudoku-6x6", "sudoku-9x9", "addition-4", "digits"])
def test_tasks_by_name(name):
    pytest.importorskip("sklearn.datasets")
    changes = {} if name == "digits" else dict(count=60, ood_count=10)
    parts = datasets.task(name, seed=1, **changes)
    assert all(part.name == name for part in parts if part is not None)
    assert (parts.ood is None) == (name == "digits")
    if name.startswith("sudoku"):
        assert parts.train.given.sum(1).min() > parts.ood.given.sum(1).max()


def test_names_that_are_not():
    with pytest.raises(ValueError, match="name must be one of 'addition-4', 'digits', 'sudoku-4x4'"):
        datasets.task("sudoku")
    with pytest.raises(TypeError, match="clues is not an argument of the task 'addition-4', which has digits, count"):
        datasets.task("addition-4", clues=(1, 2))


@pytest.mark.slow
def test_the_whole_of_4_x_4():
    parts = datasets.task("sudoku-4x4")
    assert [abs(len(part) - k) < 120 for part, k in zip(parts, (4800, 600, 600, 1000))] == [True] * 4
    for part in (parts.train[::10], parts.ood[::10]):
        for puzzle, solution in zip(part.inputs, part.targets):
            assert brute(puzzle.tolist(), (2, 2)) == [tuple(solution + 1)]


# ----------------------------------------------------------------------------------------------------------------- files
@pytest.fixture(scope="module")
def nine():
    return datasets.sudoku((3, 3), 6, (30, 40), seed=2)


def tensors(data):
    """One-hot tensors as SATNet has them."""
    eye = torch.eye(10, device="cpu")[:, 1:]
    cubes = (eye[torch.as_tensor(a, device="cpu")].reshape(-1, 9, 9, 9) for a in (data.inputs, data.targets + 1))
    return tuple(cubes)


def rows(data):
    """Lines as RRN has them."""
    return ["".join(map(str, p)) + "," + "".join(map(str, s + 1)) for p, s in zip(data.inputs, data.targets)]


def same(a, b):
    keys = ("inputs", "targets", "scored", "groups", "masks")
    return all(np.array_equal(getattr(a, key), getattr(b, key)) for key in keys) and (a.name, a.classes) == (
        b.name,
        b.classes,
    )


def test_satnet(nine, tmp_path):
    features, labels = tmp_path / "features.pt", str(tmp_path / "labels.pt")
    for convert in (torch.Tensor.float, torch.Tensor.bool, torch.Tensor.to_sparse):
        for path, tensor in zip((features, labels), tensors(nine)):
            torch.save(convert(tensor), path)
        if convert is torch.Tensor.to_sparse:
            with pytest.raises(ValueError, match=r"features.pt must be a tensor \(count, 9, 9, 9\)"):
                datasets.read_satnet(features, labels)
        else:
            assert same(datasets.read_satnet(features, labels), nine)


class Bomb:
    """A pickle that would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_satnet_files_that_are_wrong(nine, tmp_path):
    features, labels, mark = (tmp_path / name for name in ("features.pt", "labels.pt", "mark"))
    x, y = tensors(nine)
    two = x.clone()
    two[3, 4, 4, :2] = 1
    nan = x.clone()
    nan[2, 0, 0, 0] = float("nan")
    swapped = y.clone()
    swapped[1, 0, [0, 1]] = swapped[1, 0, [1, 0]]
    other = y[[1, 0, 2, 3, 4, 5]]
    for a, b, match in [
        (two, y, "features.pt: board 3 must be one-hot"),
        (nan, y, "features.pt: board 2 must be one-hot"),
        (2 * x, y, "features.pt: board 0 must be one-hot"),
        (x[0], y, r"features.pt must be a tensor \(count, 9, 9, 9\), got shape \(9, 9, 9\)"),
        (x[:0], y, r"got shape \(0, 9, 9, 9\)"),
        (x[..., :8], y, r"got shape \(6, 9, 9, 8\)"),
        ({"x": x}, y, r"must be a tensor \(count, 9, 9, 9\), got dict"),
        (x.numpy().tolist(), y, "got list"),
        (x.to("meta"), y, "features.pt must be a tensor"),
        (x, y[:4], "labels.pt has 4 boards, but .*features.pt has 6"),
        (x, x, "labels.pt: board 0 has blank cells"),
        (x, other, "labels.pt: board 0: the solution does not solve the puzzle: cell .* is not as given"),
        (0 * x, swapped, "labels.pt: board 1: the solution does not solve .* has a digit twice"),
        (Bomb(mark), y, "features.pt: refused: it is damaged, or holds more than tensors"),
        (x, [Bomb(mark)], "labels.pt: refused"),
        (torch.zeros(1).expand(10**9, 9, 9, 9), y, "would need .* GiB"),
    ]:
        torch.save(a, features), torch.save(b, labels)
        with pytest.raises(ValueError, match=match):
            datasets.read_satnet(features, labels)
    features.write_bytes(pickle.dumps(Bomb(mark), protocol=2))
    with pytest.raises(ValueError, match="refused"):
        datasets.read_satnet(features, labels)
    assert not mark.exists()
    with pytest.raises(FileNotFoundError, match="features: no such file"):
        datasets.read_satnet(tmp_path / "none.pt", labels)
    with pytest.raises(FileNotFoundError, match="labels is a folder: name a file in it"):
        datasets.read_satnet(features, tmp_path)


@given(st.binary(max_size=300), st.integers(0, 2000), st.sampled_from(["bytes", "cut", "change"]))
def test_satnet_files_that_are_damaged(nine, tmp_path, junk, place, kind):
    x, y = tensors(nine[:1])
    stream = io.BytesIO()
    torch.save(x, stream)
    whole, features, labels = stream.getvalue(), tmp_path / "features.pt", tmp_path / "labels.pt"
    torch.save(y, labels)
    cut = whole[: place % len(whole)]
    features.write_bytes({"bytes": junk, "cut": cut, "change": cut + junk + whole[len(cut) + len(junk) :]}[kind])
    try:
        data = datasets.read_satnet(features, labels)
    except ValueError as error:
        assert "features.pt" in str(error) or "labels.pt" in str(error)
    else:  # what was changed did not matter, or took away clues
        assert kind == "change" and np.array_equal(data.targets, nine.targets[:1])


def test_rrn(nine, tmp_path):
    path = tmp_path / "test.csv"
    body = rows(nine)
    for text in ("\n".join(body), "\r\n".join(["quizzes,solutions", *body, ""]), "\ufeff" + "\n".join(body) + "\n\n"):
        path.write_text(text, encoding="utf-8", newline="")
        assert same(datasets.read_rrn(path), nine)
    path.write_text("\n".join(row[:81].replace("0", ".") + row[81:] for row in body))
    assert same(datasets.read_rrn(str(path)), nine)
    assert same(datasets.read_rrn(path, count=2), nine[:2])
    parts = datasets.split(nine, 0, 0)._replace(ood=datasets.read_rrn(path))
    assert len(parts.ood) == 6


def test_rrn_lines_that_are_wrong(nine, tmp_path):
    path, body = tmp_path / "test.csv", rows(nine)
    solution = body[1][82:]
    swapped = "0" * 81 + "," + solution[1] + solution[0] + solution[2:]
    for text, match in [
        ("", "test.csv has no puzzle: its lines must be 81 digits"),
        ("puzzle,solution\n", "has no puzzle"),
        (body[0][:-1], "test.csv, line 1: must be 81 digits, a comma, 81 digits other than 0, got '"),
        (f"{body[0]}\n{body[1]}7", "line 2: must be 81 digits"),
        (f"{body[0]}\n\n{body[1].replace(',', ';')}", "line 3: must be 81 digits"),
        (f"{body[0]}\npuzzle,solution", "line 2: must be 81 digits"),
        (f"{body[0]}\n{body[1][:90]}x{body[1][91:]}", "line 2: must be 81 digits"),
        (body[0][82:] + "," + body[0][:81], "line 1: must be 81 digits"),
        (f"{body[0]}\n{body[1][:82]}{body[2][82:]}", "line 2: the solution does not solve the puzzle: cell"),
        (f"{body[0]}\n\n{swapped}", "line 3: the solution does not solve the puzzle: a row, column or box"),
        ("1" * 10_000_000, "line 1: must be 81 digits"),
        ("١" * 81 + "," + solution, "line 1: must be 81 digits"),
    ]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=match) as caught:
            datasets.read_rrn(path)
        assert len(str(caught.value)) < 400
    with pytest.raises(FileNotFoundError, match="path: no such file"):
        datasets.read_rrn(tmp_path / "none.csv")


@given(st.binary(max_size=400), st.integers(0, 400))
def test_rrn_files_that_are_damaged(nine, tmp_path, junk, place):
    path, body = tmp_path / "test.csv", "\n".join(rows(nine)).encode()
    for content in (junk, body[:place] + junk + body[place + len(junk) :], body[: len(body) - 1 - place]):
        path.write_bytes(content)
        try:
            data = datasets.read_rrn(path)
        except ValueError as error:
            assert "test.csv" in str(error)
        else:
            assert Board((3, 3)).solves(data.targets, data.inputs).all()


def test_nothing_is_loaded_for_it():
    import subprocess

    code = "import sys, ctsa.datasets as d; d.sudoku(count=2); d.addition(count=2); "
    code += "print(sorted({'torch', 'jax', 'sklearn', 'matplotlib.pyplot'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
