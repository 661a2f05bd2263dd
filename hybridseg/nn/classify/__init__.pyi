from . import classifier as classifier
from . import heads as heads
