from insphere.serving.app import make_app as make_app
from insphere.serving.models import ModelPlace as ModelPlace
from insphere.serving.models import find_models as find_models
from insphere.serving.settings import Settings as Settings

__all__ = ["ModelPlace", "Settings", "find_models", "make_app"]
