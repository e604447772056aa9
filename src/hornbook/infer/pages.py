"""Which page of the cache belongs to whom: counted references, and an index of what finished pages hold.

Pages that some sequence has filled stay known by their tokens after it ends, until the memory is wanted:
another prompt that begins alike takes them over. Keys are compared whole, so a page is never taken for
another's.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from hornbook.infer.cache import PAGE

_LATEST = 32
"""Pages behind one node that are searched for a partly equal one, latest first."""


@dataclass(eq=False)
class _Known:
    """A page whose tokens are known: a node of the tree of prefixes."""

    page: int
    tokens: tuple[int, ...]
    parent: "_Known | None"
    children: dict[tuple[int, ...], "_Known"] = field(default_factory=dict)


class PagePool:
    """Numbers of pages, 0 to `pages` - 1; no page's numbers are touched here.

    keep: at most so many pages stay known without an owner.
    """

    def __init__(self, pages: int, *, keep: int) -> None:
        self.pages, self.keep = pages, keep
        self._free = list(range(pages - 1, -1, -1))
        self._owners = [0] * pages
        self._known: dict[int, _Known] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._roots: dict[bool, _Known] = {long: _Known(-1, (), None) for long in (False, True)}

    @property
    def free(self) -> int:
        """Pages that can be taken now."""
        return len(self._free) + len(self._idle)

    def take(self) -> int | None:
        """A page for one owner, whose old content is forgotten; None when all are owned."""
        if not self._free:
            if not self._idle:
                return None
            self._forget(next(iter(self._idle)))
        page = self._free.pop()
        self._owners[page] = 1
        return page

    def share(self, page: int) -> None:
        """One owner more."""
        self._owners[page] += 1
        self._idle.pop(page, None)

    def give_back(self, page: int) -> None:
        """One owner less; a known page without an owner waits to be found again."""
        self._owners[page] -= 1
        if self._owners[page] == 0:
            if page not in self._known:
                self._free.append(page)
                return
            self._idle[page] = None
            while len(self._idle) > self.keep:
                self._forget(next(iter(self._idle)))

    def _forget(self, page: int) -> None:
        """Frees an idle page and all that is known behind it (idle too, or it would still be owned)."""
        node = self._known.pop(page)
        if node.parent is not None:
            del node.parent.children[node.tokens]
        stack = [node]
        while stack:
            gone = stack.pop()
            stack += gone.children.values()
            self._known.pop(gone.page, None)
            if self._owners[gone.page] == 0:
                self._idle.pop(gone.page, None)
                self._free.append(gone.page)

    def find(self, tokens: Sequence[int], *, long: bool = False) -> tuple[list[int], int, int | None]:
        """What is known of the beginning of `tokens`.

        Returns pages that hold it whole (each now has one owner more), and how many tokens of a further page
        (the third) agree: that one is not owned, and must be copied before it is written.
        """
        node, pages = self._roots[long], list[int]()
        for begin in range(0, len(tokens), PAGE):
            rest = tuple(tokens[begin : begin + PAGE])
            child = node.children.get(rest) if len(rest) == PAGE else None
            if child is None:
                return pages, *_partly(node, rest)
            node = child
            self.share(node.page)
            pages.append(node.page)
        return pages, 0, None

    def name(self, pages: Sequence[int], tokens: Sequence[int], *, long: bool = False) -> None:
        """Makes known what a sequence's pages hold: `tokens` from their first slot on, the last page
        partly."""
        node = self._roots[long]
        for i, begin in enumerate(range(0, len(tokens), PAGE)):
            held = tuple(tokens[begin : begin + PAGE])
            child = node.children.get(held)
            if child is None:
                page = pages[i]
                old = self._known.get(page)
                if old is not None:  # known with fewer tokens, when it was last named
                    if old.parent is not node or old.children:
                        return
                    del node.children[old.tokens]
                child = self._known[page] = _Known(page, held, node)
                node.children[held] = child
            node = child


def _partly(node: _Known, rest: tuple[int, ...]) -> tuple[int, int | None]:
    best, page = 0, None
    for child, _ in zip(reversed(node.children.values()), range(_LATEST)):
        same = 0
        for one, other in zip(child.tokens, rest):
            if one != other:
                break
            same += 1
        if same > best:
            best, page = same, child.page
    return best, page
