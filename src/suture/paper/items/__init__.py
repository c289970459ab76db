"""The items of ``suture paper``, in the papers' order: one file each, and the list of them."""

from suture.errors import UnknownName
from suture.paper.items.ablations import Ablations
from suture.paper.items.bias import RepresentationBias
from suture.paper.items.combinations import Combinations
from suture.paper.items.cost import Cost
from suture.paper.items.data import Data
from suture.paper.items.item import Item
from suture.paper.items.iterations import Iterations
from suture.paper.items.layers import Layers
from suture.paper.items.matched import Matched
from suture.paper.items.methods import Methods
from suture.paper.items.online import Online
from suture.paper.items.overhead import Overhead
from suture.paper.items.rank import Rank
from suture.paper.items.surgeries import Surgeries
from suture.paper.items.tsne import Tsne
from suture.paper.items.wild import Robustness, Wild

ITEMS: dict[str, Item] = {
    item.name: item
    for item in (
        Methods(),
        Data(),
        Online(),
        Rank(),
        Cost(),
        RepresentationBias(),
        Tsne(),
        Iterations(),
        Layers(),
        Matched(),
        Surgeries(),
        Wild(),
        Ablations(),
        Combinations(),
        Overhead(),
        Robustness(),
    )
}
ALL = "all"


def chosen(names: list[str]) -> list[Item]:
    """Return the items of some names, in the papers' order; all for ``all``, or none named.

    Raises :class:`UnknownName` for a name that is none.

    >>> [item.name for item in chosen(["rank", "data"])]
    ['data', 'rank']
    """
    for name in names:
        if name != ALL and name not in ITEMS:
            raise UnknownName("item", name, [ALL, *ITEMS])
    return [item for name, item in ITEMS.items() if not names or ALL in names or name in names]
