from . import embedding as embedding
from . import lite as lite
from . import memory as memory
from . import official as official
from . import promptable as promptable
from . import shared_encoder as shared_encoder
