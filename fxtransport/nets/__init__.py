"""The papers' networks, and their initialisations.

Where a paper is silent, the programs that its authors released decide, and the docstring says
so. Every network knows its ``num_classes`` and ``input_size``, so that it compiles without an
example. On the command line it is ``nets:resnet110`` and so on.
"""

from fxtransport.nets.blocks import BasicBlock, LinearBlock, Network, PreActBlock
from fxtransport.nets.initialisation import Method, initialize
from fxtransport.nets.networks import cifar_resnet, circles_resnet, km_resnet, resnet110, resnet_m

__all__ = [
    "BasicBlock",
    "LinearBlock",
    "Method",
    "Network",
    "PreActBlock",
    "cifar_resnet",
    "circles_resnet",
    "initialize",
    "km_resnet",
    "resnet110",
    "resnet_m",
]
