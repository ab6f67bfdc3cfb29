from fovigraph.geometry import SensorArray
from fovigraph.graph import knn_graph
__all__ = ["SensorArray", "knn_graph"]
