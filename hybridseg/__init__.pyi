from .errors import HybridsegError as HybridsegError
from .evaluation import evaluate as evaluate
from .finetuning.run import finetune as finetune
from .heatmap import Heatmap as Heatmap
from .nn.models import Models as Models
from .read.opening import open_scene as open_scene
from .read.scene import Scene as Scene
from .reviewing.verbs import review as review
from .reviewing.verbs import serve as serve
from .run.extract import extract as extract
from .run.models import models as models
from .run.result import Result as Result
from .run.survey import Survey as Survey
from .search import tune as tune
from .tables import Features as Features
from .tables import Prompts as Prompts
from .tables import Refined as Refined
from .theme import Theme as Theme
from .theme import load_theme as load_theme
from .tracking.run import track as track
from .training.run import train as train

__all__: list[str]
__version__: str
