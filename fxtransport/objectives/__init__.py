"""Objectives: what a program, or each of its modules, is trained for. No loops."""

from fxtransport.objectives.transport import TransportCost

__all__ = ["TransportCost"]
