"""Compare networks as a library: open two by name, run them on the same samples, measure."""

from fxtransport.comparing.comparison import Comparison, LayerPair, compare, compare_along
from fxtransport.comparing.networks import Network, open_network
from fxtransport.comparing.representations import Representation, representations

__all__ = [
    "Comparison",
    "LayerPair",
    "Network",
    "Representation",
    "compare",
    "compare_along",
    "open_network",
    "representations",
]
