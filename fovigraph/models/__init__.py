"""Whole networks on graph pyramids."""

from fovigraph._deprecated import module_getattr
from fovigraph._shipped import list_models
from fovigraph.models._registry import FAMILIES, BackboneConfig, Family, build_backbone, register
from fovigraph.models.aggregation import Aggregation, Attention, MeanLogits, Recurrent
from fovigraph.models.alexnet import KNNAlexNet, KNNAlexNetBlock
from fovigraph.models.backbone import Backbone, Block, Intermediate, PoolBlock
from fovigraph.models.calibration import (
    Calibration,
    JointCalibration,
    MultiLabelCalibration,
    MultiLabelJointCalibration,
    fit_calibration,
)
from fovigraph.models.convnext import KNNConvNeXtV2
from fovigraph.models.create import FeatureNet, create_model
from fovigraph.models.dense_resnet import load_dense_resnet
from fovigraph.models.dinov3 import DINOv3
from fovigraph.models.fovinet import FoviNet, FoviOutput, MultiLabelOutput
from fovigraph.models.heads import LinearProbe, NoHead, Projector
from fovigraph.models.inference import Optimized, optimize
from fovigraph.models.predict import Prediction
from fovigraph.models.pretrained import pretrained_names
from fovigraph.models.resnet import KNNResNet
from fovigraph.models.view import OneView
from fovigraph.models.vit import KNNViT

__all__ = [
    "FAMILIES",
    "Aggregation",
    "Attention",
    "Backbone",
    "BackboneConfig",
    "Block",
    "Calibration",
    "DINOv3",
    "Family",
    "FeatureNet",
    "FoviNet",
    "FoviOutput",
    "Intermediate",
    "JointCalibration",
    "KNNAlexNet",
    "KNNAlexNetBlock",
    "KNNConvNeXtV2",
    "KNNResNet",
    "KNNViT",
    "LinearProbe",
    "MeanLogits",
    "MultiLabelCalibration",
    "MultiLabelJointCalibration",
    "MultiLabelOutput",
    "NoHead",
    "OneView",
    "Optimized",
    "PoolBlock",
    "Prediction",
    "Projector",
    "Recurrent",
    "build_backbone",
    "create_model",
    "fit_calibration",
    "list_models",
    "load_dense_resnet",
    "optimize",
    "pretrained_names",
    "register",
]

__getattr__ = module_getattr(__name__, {"OneGlance": "OneView"})
