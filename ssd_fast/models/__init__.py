"""SSD networks in plain torch, which turn a batch of preprocessed images into raw heads."""

from .network import SSDNetwork
from .preprocessing import Preprocessing
from .registry import list_networks, make_network, network_class, register_network
from .ssd300_resnet50 import SSD300ResNet50, ssd300_resnet50
from .ssd300_vgg16 import SSD300VGG16, ssd300_vgg16
from .ssd512_vgg16 import SSD512VGG16, ssd512_vgg16
from .ssd_tiny import SSDTiny, ssd_tiny
from .ssdlite300_mobilenet_v2 import SSDLite300MobileNetV2, ssdlite300_mobilenet_v2
from .ssdlite320_mobilenet_v3_large import SSDLite320MobileNetV3Large, ssdlite320_mobilenet_v3_large
from .weights import load_network, load_weights, save_weights

__all__ = [
    "SSD300VGG16",
    "SSD512VGG16",
    "Preprocessing",
    "SSD300ResNet50",
    "SSDLite300MobileNetV2",
    "SSDLite320MobileNetV3Large",
    "SSDNetwork",
    "SSDTiny",
    "list_networks",
    "load_network",
    "load_weights",
    "make_network",
    "network_class",
    "register_network",
    "save_weights",
    "ssd300_resnet50",
    "ssd300_vgg16",
    "ssd512_vgg16",
    "ssd_tiny",
    "ssdlite300_mobilenet_v2",
    "ssdlite320_mobilenet_v3_large",
]
