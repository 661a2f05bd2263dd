from . import fit as fit
from . import learners as learners
from . import linear as linear
