from . import fit as fit
from . import learners as learners
from . import linear as linear
from . import memory_learner as memory_learner
