from fxtransport.compiler import transportify as transportify
from fxtransport.program import Part as Part
from fxtransport.program import PartOutput as PartOutput
from fxtransport.program import Program as Program
from fxtransport.program import TransportOutput as TransportOutput
from fxtransport.storage import load as load
from fxtransport.storage import save as save
