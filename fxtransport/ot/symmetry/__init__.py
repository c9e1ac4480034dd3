"""Which parameters of a network belong to which of its neurons, and which can change places."""

from fxtransport.ot.symmetry.layers import Family, HiddenLayer, hidden_layers, permuted

__all__ = ["Family", "HiddenLayer", "hidden_layers", "permuted"]
