"""The networks of the papers, and their initialization.

What a paper leaves open follows the programs that its authors released; the docstrings say
where. Every network has its ``num_classes`` and ``input_size``, so that it compiles without an
example. On the command line they are ``nets:resnet110`` and so on.
"""

from fxtransport.nets.blocks import BasicBlock, LinearBlock, Network, PreActBlock
from fxtransport.nets.decoder import Decoder
from fxtransport.nets.initialization import Method, initialize
from fxtransport.nets.networks import cifar_resnet, circles_resnet, km_resnet, resnet110, resnet_m

__all__ = [
    "BasicBlock",
    "Decoder",
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
