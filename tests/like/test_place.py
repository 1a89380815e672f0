"""Where free blocks are put."""

from emu.like.place import Space


def test_no_two_buddies_of_one_order() -> None:
    space = Space(set())
    space.add(0, 4096)
    taken = {(order, space.take(order)) for order in (9, 9, 5, 5, 5, 0, 0, 0, 0)}
    assert all(pfn % (1 << order) == 0 and pfn >= 0 for order, pfn in taken)
    assert not any((order, pfn ^ (1 << order)) in taken for order, pfn in taken)
    pages = [page for order, pfn in taken for page in range(pfn, pfn + (1 << order))]
    assert len(pages) == len(set(pages))


def test_the_last_fit_is_found() -> None:
    space = Space(set())
    space.add(256, 4096)
    assert sorted(space.take(order) for order in (10, 10, 10, 9, 8)) == [256, 512, 1024, 2048, 3072]
    assert space.take(0) == -1
