"""Why a row scores as it does: heat-maps, contributions, and the nearest normal examples."""

from insphere.explain.explaining import explain
from insphere.explain.explanation import METHODS, ExplainOptions, Explanation
from insphere.explain.neighbours import Neighbours
from insphere.explain.overlays import overlay
from insphere.explain.pictures import write_panel

__all__ = ["METHODS", "ExplainOptions", "Explanation", "Neighbours", "explain", "overlay", "write_panel"]
